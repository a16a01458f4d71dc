"""Refusals and lost answers: typed, never taken for success, and never done twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlx_tinyagent.tools.backend import Action
from mlx_tinyagent.tools.external import BackendError
from mlx_tinyagent.tools.macos.faults import AUTOMATION
from mlx_tinyagent.tools.results import Failed, NotFound, Ok, PermissionNeeded, Result, Unknown

MAIL: dict[str, Any] = {
    "kind": "new",
    "recipients": ["ann@mail.example"],
    "cc": [],
    "subject": "A subject of its own",
    "body": "Text",
    "attachments": [],
}
# Each change that goes through a script: the call, the application's call that does it.
CHANGES: dict[str, tuple[Callable[[Any], Result], str]] = {
    "mail": (lambda b: b.draft_mail(**MAIL), "push OutgoingMessage"),
    "note": (lambda b: b.create_note(name="Alone", body="one\n\ntwo", folder=""), "push Note"),
    "append": (lambda b: b.append_note(note_id=1, text="added at last"), "set Note.body"),
    "url": (lambda b: b.open_url("https://a.example/", note="x"), "openLocation"),
    "text": (lambda b: b.queue_message(recipients=["+12125550101"], text="Hi"), "openLocation"),
    "send": (
        lambda b: b.deliver("message", {"recipients": ["+12125550101"], "text": "Hi"}, key="k"),
        "send",
    ),
}
READ_BACK = ("mail", "note", "append")  # what can be seen afterwards


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("number", [-1743, -1744])
def test_a_refusal_names_the_pane(mac: Any, name: str, number: int) -> None:
    """Without permission nothing is done, and the result says where to give it."""
    change, call = CHANGES[name]
    mac.runner.fail = {"call": call, "number": number, "acted": False}
    result = change(mac.backend)
    assert isinstance(result, PermissionNeeded)
    assert result.pane == AUTOMATION
    assert call not in [made for made, _ in mac.runner.calls]


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("number", [-1712, -600, -609, -128, -2700, 0])
def test_a_lost_answer_is_read_back(mac: Any, name: str, number: int) -> None:
    """The effect took place and its answer was lost: found, or unknown, and done once."""
    change, call = CHANGES[name]
    mac.runner.fail = {"call": call, "number": number, "acted": True}
    result = change(mac.backend)
    assert [made for made, _ in mac.runner.calls].count(call) == 1
    assert isinstance(result, Ok if name in READ_BACK else Unknown)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("number", [-1712, -600, -128])
def test_an_effect_that_did_not_happen_is_never_called_done(
    mac: Any, name: str, number: int
) -> None:
    """The answer was lost before the effect: nobody can tell, and that is what is said."""
    change, call = CHANGES[name]
    mac.runner.fail = {"call": call, "number": number, "acted": False}
    assert isinstance(change(mac.backend), Unknown)
    assert call not in [made for made, _ in mac.runner.calls]


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("ending", ["deadline", "cancelled", "flood"])
def test_a_program_cut_off_leaves_its_change_open(mac: Any, name: str, ending: str) -> None:
    """After its effect the program is ended: read back where that is possible, else unknown."""
    change, call = CHANGES[name]
    mac.runner.ending = ending
    result = change(mac.backend)
    assert [made for made, _ in mac.runner.calls].count(call) == 1
    assert isinstance(result, Ok if name in READ_BACK else Unknown)


def test_an_equal_draft_of_before_is_not_taken_for_this_one(mac: Any) -> None:
    """One equal draft there already, and the new one failed: still unknown."""
    assert isinstance(mac.backend.draft_mail(**MAIL), Ok)
    mac.runner.fail = {"call": "push OutgoingMessage", "number": -1712, "acted": False}
    assert isinstance(mac.backend.draft_mail(**MAIL), Unknown)


@pytest.mark.parametrize(
    ("read", "call"),
    [
        (lambda b: b.notes(), "list NotesApp.folders"),
        (lambda b: b.selected_mail(), "get Message.sender"),
    ],
)
@pytest.mark.parametrize(
    ("number", "kind"), [(-1743, PermissionNeeded), (-1712, Failed), (-600, Failed)]
)
def test_reads_that_are_refused_say_so(
    mac: Any, read: Callable[[Any], object], call: str, number: int, kind: type
) -> None:
    """No empty list and no missing mail in place of a refusal."""
    mac.runner.fail = {"call": call, "number": number, "acted": False}
    with pytest.raises(BackendError) as refused:
        read(mac.backend)
    assert type(refused.value.result) is kind


def test_a_reply_keeps_its_thread_and_a_missing_mail_is_not_found(mac: Any) -> None:
    """A reply is made by Mail from the mail itself, and adds copies and text."""
    mail = mac.backend.selected_mail()
    reply = {**MAIL, "kind": "reply", "recipients": [mail.sender], "cc": ["b@mail.example"]}
    mac.runner.calls.clear()
    assert isinstance(mac.backend.draft_mail(**reply, source=mail.id), Ok)
    names = [name for name, _ in mac.runner.calls]
    assert names == ["reply", "set OutgoingMessage.content", "push CcRecipient"]
    assert isinstance(mac.backend.draft_mail(**reply, source=10_000), NotFound)


def test_a_text_is_only_made_ready(mac: Any) -> None:
    """Messages is opened with the text in it; a line break is part of the link."""
    numbers = ["+1 (212) 555-0101", "+1 212 555 0102"]
    result = mac.backend.queue_message(recipients=numbers, text="Hi &\nbye #1?")
    assert isinstance(result, Ok)
    ((_, (url,)),) = [call for call in mac.runner.calls if call[0] == "openLocation"]
    assert url == ("sms:/open?addresses=+12125550101,+12125550102&body=Hi%20%26%0Abye%20%231%3F")


def test_sending_to_several_says_who_got_it(mac: Any) -> None:
    """The second person is unknown to Messages: the first is named as sent to."""
    payload = {"recipients": ["+12125550101", "+19995550000"], "text": "Hi"}
    result = mac.backend.deliver("message", payload, key="k")
    assert isinstance(result, Unknown)
    assert "+12125550101, not to +19995550000" in result.reason
    payload = {"recipients": ["+19995550000"], "text": "Hi"}
    assert isinstance(mac.backend.deliver("message", payload, key="k"), NotFound)


def test_programs_end_with_their_action(mac: Any) -> None:
    """A view for one step cancels its programs as soon as the action is closed."""
    action = Action(key="k")
    runner = mac.backend.with_action(action)._runner
    assert not runner.cancelled()
    action.close(wait_s=0)
    assert runner.cancelled()
    begun = runner.run("/bin/sh", "-c", "sleep 60")
    assert begun.ending == "cancelled"


def test_what_carries_no_key_cannot_be_told(mac: Any) -> None:
    """Nothing found in Calendar and Reminders is no proof: drafts and notes carry no key."""
    assert isinstance(mac.backend.find("k"), Unknown)


@pytest.mark.parametrize("record", ["draft:1", "message:x", "text:x", "odd"])
def test_what_cannot_be_taken_back_says_where(mac: Any, record: str) -> None:
    """Undo names the application in which the user can do it."""
    assert isinstance(mac.backend.undo(record), Failed)


def test_a_note_can_be_taken_back(mac: Any) -> None:
    """Undo of a note deletes exactly that one."""
    before = list(mac.backend.notes())
    made = mac.backend.create_note(name="Alone", body="x", folder="")
    assert len(mac.backend.notes()) == len(before) + 1
    assert isinstance(mac.backend.undo(made.record), Ok)
    assert list(mac.backend.notes()) == before
    assert isinstance(mac.backend.undo(made.record), NotFound)
