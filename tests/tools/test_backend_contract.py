"""What every backend promises, whatever lies behind it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tinyagent.tools.backend import Action, Backend, Mail, Recoverable, Transactional
from mlx_tinyagent.tools.local import LocalBackend, Store
from mlx_tinyagent.tools.results import Failed, NotFound, Ok, Origin, Result, explain

EVENT: dict[str, Any] = {
    "title": "Review",
    "start": "2026-03-05T10:00:00",
    "end": "2026-03-05T11:00:00",
    "location": "",
    "invitees": [],
    "notes": "",
    "calendar": "",
}
REMINDER: dict[str, Any] = {
    "name": "Water",
    "due": "",
    "notes": "",
    "list_name": "",
    "priority": 0,
    "all_day": False,
}
MAIL: dict[str, Any] = {
    "kind": "new",
    "recipients": ["ann@mail.example"],
    "cc": [],
    "subject": "Hello",
    "body": "Text",
    "attachments": [],
}
MEETING: dict[str, Any] = {
    "topic": "Sync",
    "start": "2026-03-05T10:00:00",
    "minutes": 30,
    "invitees": [],
}
CHANGES: dict[str, Callable[[Backend], Result]] = {
    "event": lambda b: b.create_event(**EVENT),
    "reminder": lambda b: b.create_reminder(**REMINDER),
    "note": lambda b: b.create_note(name="A", body="B", folder=""),
    "append": lambda b: b.append_note(note_id=b.notes()[0].id, text="more"),
    "mail": lambda b: b.draft_mail(**MAIL),
    "message": lambda b: b.queue_message(recipients=["+1 212 555 0101"], text="Hi"),
    "meeting": lambda b: b.create_meeting(**MEETING),
}


def test_reads_are_well_formed(backend: Backend) -> None:
    """Ids are unique, addresses are addresses, paths are absolute and end in the name."""
    people = backend.contacts()
    assert len({person.id for person in people}) == len(people) >= 40
    assert all("@" in address for person in people for address in person.emails)
    assert all(any(map(str.isdigit, n)) for person in people for n in person.phones)
    for entry in backend.files():
        assert PurePosixPath(entry.path).is_absolute()
        assert PurePosixPath(entry.path).name == entry.name


def test_a_folder_narrows_notes(backend: Backend) -> None:
    """A folder's notes are those of all notes that lie in it; case does not count."""
    for folder in {note.folder for note in backend.notes()}:
        expected = [note for note in backend.notes() if note.folder == folder]
        assert list(backend.notes(folder.upper())) == expected
    assert list(backend.notes("No such folder")) == []


def test_selected_mail_is_stable(backend: Backend) -> None:
    """Asking twice gives the same message."""
    assert isinstance(backend.selected_mail(), Mail)
    assert backend.selected_mail() == backend.selected_mail()


def test_a_document_is_untrusted_text(backend: Backend) -> None:
    """A PDF's text comes with its pages and is labeled untrusted."""
    path = next(entry.path for entry in backend.files() if entry.name.endswith(".pdf"))
    result = backend.read_document(path)
    assert isinstance(result, Ok)
    assert result.value.origin is Origin.UNTRUSTED
    assert int(result.value.fields["pages"]) >= 1
    assert result.record is None


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x.pdf", "", "/demo-files/none.pdf", "a\0b.pdf"]
)
def test_unknown_paths_are_not_found(backend: Backend, path: str) -> None:
    """Nothing outside the index is read or opened."""
    assert isinstance(backend.read_document(path), NotFound)
    assert isinstance(backend.open_file(path), NotFound)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "javascript:alert(1)", "x", "", "https://a\nb"]
)
def test_only_web_and_map_links_are_opened(backend: Backend, url: str) -> None:
    """Links that could run something or read files are refused."""
    assert isinstance(backend.open_url(url, note="Link"), Failed)


@pytest.mark.parametrize("name", CHANGES)
def test_changes_name_their_row_and_claim_no_more(backend: Backend, name: str) -> None:
    """A change gives the key of its row and a sentence that never claims to have sent."""
    result = CHANGES[name](backend)
    assert isinstance(result, Ok)
    assert re.fullmatch(r"[a-z]+:\S+", result.record or "")
    assert result.note
    assert not re.search(r"(?<!not )\bsent\b", explain(result))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda b: b.create_event(**{**EVENT, "title": " "}), "title"),
        (lambda b: b.create_event(**{**EVENT, "start": "tomorrow"}), "tomorrow"),
        (lambda b: b.create_event(**{**EVENT, "end": EVENT["start"]}), "before"),
        (lambda b: b.create_event(**{**EVENT, "end": "2026-03-05T11:00:00+02:00"}), "local"),
        (lambda b: b.create_event(**{**EVENT, "invitees": ["no match for Ann"]}), "address"),
        (lambda b: b.create_reminder(**{**REMINDER, "name": ""}), "name"),
        (lambda b: b.create_reminder(**{**REMINDER, "due": "soon"}), "soon"),
        (lambda b: b.create_reminder(**{**REMINDER, "priority": 10}), "10"),
        (lambda b: b.create_note(name="", body="", folder=""), "title"),
        (lambda b: b.append_note(note_id=1, text=" \n"), "nothing"),
        (lambda b: b.draft_mail(**{**MAIL, "recipients": ["Ann"]}), "address"),
        (lambda b: b.draft_mail(**{**MAIL, "cc": ["a@b, c@d"]}), "address"),
        (lambda b: b.queue_message(recipients=[], text="Hi"), "recipient"),
        (lambda b: b.queue_message(recipients=["+1 212 555 0101"], text=""), "empty"),
        (lambda b: b.queue_message(recipients=["Ann"], text="Hi"), "number"),
        (lambda b: b.queue_message(recipients=["--"], text="Hi"), "number"),
        (lambda b: b.create_meeting(**{**MEETING, "minutes": 0}), "minute"),
        (lambda b: b.create_meeting(**{**MEETING, "start": ""}), "date"),
    ],
)
def test_unusable_values_fail_with_a_reason(
    backend: Backend, call: Callable[[Backend], Result], word: str
) -> None:
    """What is no date, address or number is refused by name, never guessed."""
    result = call(backend)
    assert isinstance(result, Failed)
    assert word in result.reason


@pytest.mark.parametrize(
    "call",
    [
        lambda b: b.append_note(note_id=10_000, text="x"),
        lambda b: b.draft_mail(**{**MAIL, "attachments": ["/etc/passwd"]}),
        lambda b: b.draft_mail(**{**MAIL, "kind": "reply", "source": 10_000}),
        lambda b: b.create_event(**{**EVENT, "calendar": "Nowhere"}),
    ],
)
def test_missing_things_are_not_found(backend: Backend, call: Callable[[Backend], Result]) -> None:
    """A note, file, mail or calendar that does not exist is a typed outcome."""
    assert isinstance(call(backend), NotFound)


def test_notes_are_made_and_extended(backend: Backend) -> None:
    """A new note can be read back; added text stands on a line of its own."""
    made = backend.create_note(name="Log", body="one", folder="work")
    assert isinstance(made, Ok)
    note = next(note for note in backend.notes("Work") if note.name == "Log")
    assert isinstance(backend.append_note(note_id=note.id, text="two"), Ok)
    (note,) = [known for known in backend.notes("Work") if known.id == note.id]
    assert (note.name, note.folder, note.body) == ("Log", "Work", "one\ntwo")


@pytest.mark.parametrize(
    ("due", "all_day", "field", "said"),
    [
        ("", True, "", "."),
        ("2026-03-05", False, "2026-03-05", "due Thursday 2026-03-05."),
        ("2026-03-05T09:30:00", False, "2026-03-05T09:30:00", "due Thursday 2026-03-05 09:30."),
        ("2026-03-05T09:30:00", True, "2026-03-05", "due Thursday 2026-03-05."),
    ],
)
def test_a_day_without_a_time_is_all_day(
    backend: Backend, due: str, all_day: bool, field: str, said: str
) -> None:
    """A reminder for a day has no made-up time of day."""
    result = backend.create_reminder(**{**REMINDER, "due": due, "all_day": all_day})
    assert isinstance(result, Ok)
    assert result.value.fields["due"] == field
    assert result.note.endswith(said)
    assert ("due" in result.note) == bool(due)


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("2026-03-05T10:00:00", "2026-03-05T11:30:00", "Thursday 2026-03-05 10:00 to 11:30."),
        ("2026-03-05T00:00:00", "2026-03-06T00:00:00", "Thursday 2026-03-05, all day."),
        ("2026-03-05", "2026-03-08", "Thursday 2026-03-05 to Saturday 2026-03-07."),
        (
            "2026-03-05T22:00:00",
            "2026-03-06T01:00:00",
            "Thursday 2026-03-05 22:00 to Friday 2026-03-06 01:00.",
        ),
    ],
)
def test_the_answer_says_weekday_and_span(
    backend: Backend, start: str, end: str, said: str
) -> None:
    """An event's note names the weekday, so that a wrong date is seen."""
    result = backend.create_event(**{**EVENT, "start": start, "end": end})
    assert isinstance(result, Ok)
    assert result.note.endswith(said)


KEYED: dict[str, Callable[[Backend], Result]] = {
    name: CHANGES[name] for name in ("event", "reminder", "mail")
}


@pytest.mark.parametrize("name", KEYED)
def test_a_key_is_one_effect_that_can_be_found_and_taken_back(backend: Backend, name: str) -> None:
    """Where effects carry keys, the same key twice is one effect, and undo leaves none."""
    if not isinstance(backend, Recoverable):
        assert isinstance(backend, Transactional)
        return
    first = KEYED[name](backend.with_key("a key"))
    assert isinstance(first, Ok)
    if not isinstance(backend.find("a key"), Ok):  # drafts of Mail, and what stays in the store
        assert isinstance(backend, Transactional)
        return
    assert KEYED[name](backend.with_key("a key")) == first
    found = backend.find("a key")
    assert isinstance(found, Ok)
    assert found.record == first.record
    assert not isinstance(backend.find("another key"), Ok)
    assert first.record is not None
    assert isinstance(backend.undo(first.record), Ok)
    assert not isinstance(backend.find("a key"), Ok)
    assert isinstance(backend.undo(first.record), NotFound)


def test_views_leave_the_backend_as_it_was(backend: Backend) -> None:
    """A view for one step carries its key; the backend itself stays without one."""
    if isinstance(backend, Transactional):
        view = backend.with_action(Action(key="step"))
        assert view is not backend
        assert view.name == backend.name


def test_an_action_whose_time_is_over_changes_nothing(backend: Backend) -> None:
    """What is kept in the store is not written any more once the action is closed."""
    if isinstance(backend, Transactional) and backend.name != "macos":
        action = Action(key="step")
        action.close(wait_s=0)
        before = backend.notes()
        result = backend.with_action(action).create_note(name="Late", body="", folder="")
        assert isinstance(result, Failed)
        assert backend.notes() == before


ODD_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(name=ODD_TEXT, body=ODD_TEXT, folder=ODD_TEXT)
def test_odd_text_is_stored_exactly_or_refused(name: str, body: str, folder: str) -> None:
    """Any text comes back unchanged or gives a typed failure; nothing raises."""
    with Store.memory() as store:
        local = LocalBackend(store)
        results: list[Result] = [
            local.create_note(name=name, body=body, folder=folder),
            local.create_reminder(**{**REMINDER, "name": name, "notes": body, "list_name": folder}),
            local.create_event(**{**EVENT, "title": name, "location": body, "calendar": folder}),
            local.draft_mail(**{**MAIL, "subject": name, "body": body, "recipients": [folder]}),
            local.queue_message(recipients=[folder], text=body),
            local.open_url(body, note=name),
            local.open_file(folder),
            local.read_document(name),
            local.create_meeting(topic=name, start=body, minutes=5, invitees=[folder]),
        ]
        assert all(isinstance(result, Ok | Failed | NotFound) for result in results)
        if isinstance(results[0], Ok):
            (note,) = local.notes()
            assert (note.name, note.body) == (name.strip(), body)
        store.search(f"{name} {body}")
