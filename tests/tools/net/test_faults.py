"""Broken connections: an honest outcome, and one effect after any number of tries."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from mlx_tinyagent.tools.external import BackendError
from mlx_tinyagent.tools.local import LocalBackend, Store
from mlx_tinyagent.tools.net import Account, NetBackend
from mlx_tinyagent.tools.results import Failed, NotFound, Ok, Unknown

EVENT: dict[str, Any] = {
    "title": "Review",
    "start": "2026-03-05T10:00:00",
    "end": "2026-03-05T11:00:00",
    "location": "",
    "invitees": ["ann@mail.example"],
    "notes": "",
    "calendar": "",
}
MAIL: dict[str, Any] = {
    "kind": "new",
    "recipients": ["ann@mail.example"],
    "cc": [],
    "subject": "Hello",
    "body": "Text",
    "attachments": [],
}
LETTER = {**MAIL, "recipients": ["ann@mail.example", "bob@mail.example"]}
PATIENCE = {"silence": 4.0}  # seconds, where a fault is waited out
DRAFTS = "Entw&APw-rfe"  # the folder's name on the server's disk


@pytest.fixture
def make(servers: ModuleType) -> Callable[..., NetBackend]:
    """Make a backend with an empty store; patient, for busy machines."""

    def made(**values: Any) -> NetBackend:
        password = servers.IMAP_PASSWORD if "imap" in values else servers.PASSWORD
        known = {"timeout_s": 30.0, "address": "me@mail.example", "password": password}
        return NetBackend(Account(**{**known, **values}), LocalBackend(Store.memory()))

    return made


# (fault, status) and what a write ends in: the server did it, did not, or nobody can tell
DAV_FAULTS = [
    ("refuse", 0, Failed),
    ("swallow", 0, Ok),  # done, its answer lost: read back
    ("garbage", 0, Ok),
    ("half", 0, Ok),
    pytest.param("silence", 0, Ok, marks=pytest.mark.slow),
    ("status", 401, Failed),
    ("status", 403, Failed),
    ("status", 412, Unknown),  # "it is there", and it is not
    ("status", 413, Failed),
    ("status", 423, Failed),
    ("status", 500, Failed),
    ("status", 503, Failed),
    ("status", 507, Failed),
]


@pytest.mark.parametrize(("fault", "status", "kind"), DAV_FAULTS)
def test_an_event_is_written_once(
    fault: str,
    status: int,
    kind: type,
    dav_server: Any,
    dav_proxy: Any,
    make: Callable[..., NetBackend],
) -> None:
    """Whatever happens to the first try, its result is true, and the second leaves one event."""
    user = dav_server.new_user(filled=False)
    url = f"http://127.0.0.1:{dav_proxy.port}/"
    backend = make(user=user, caldav=url, timeout_s=PATIENCE.get(fault, 30.0))
    assert backend._calendars is not None
    backend._calendars.home()  # found before the fault
    dav_proxy.arm(fault, b"PROPFIND" if fault == "refuse" else b"PUT ", status=status)
    first = backend.with_key("k").create_event(**EVENT)
    assert dav_proxy.fired == 1
    assert isinstance(first, kind), first
    assert len(dav_server.stored(user)) == (kind is Ok)

    second = backend.with_key("k").create_event(**EVENT)
    assert isinstance(second, Ok)
    (stored,) = dav_server.stored(user)
    assert "SUMMARY:Review" in stored
    assert "SCHEDULE-AGENT=CLIENT" in stored  # the server writes to nobody
    assert isinstance(backend.find("k"), Ok)


def test_an_answer_cut_off_twice_is_unknown_and_then_found(
    dav_server: Any, dav_proxy: Any, make: Callable[..., NetBackend]
) -> None:
    """Neither the answer nor the reading back came through: unknown, though it is there."""
    user = dav_server.new_user(filled=False)
    backend = make(user=user, caldav=f"http://127.0.0.1:{dav_proxy.port}/")
    assert backend._calendars is not None
    backend._calendars.home()
    dav_proxy.arm("swallow", b".ics", times=2)  # the PUT and the GET
    result = backend.with_key("k").create_event(**EVENT)
    assert isinstance(result, Unknown)
    assert len(dav_server.stored(user)) == 1
    found = backend.find("k")
    assert isinstance(found, Ok)
    assert isinstance(backend.undo(found.record or ""), Ok)
    assert dav_server.stored(user) == []


@pytest.mark.parametrize("fault", ["refuse", "garbage", "half", "swallow"])
def test_reads_that_break_are_no_empty_lists(
    fault: str, dav_server: Any, dav_proxy: Any, make: Callable[..., NetBackend]
) -> None:
    """No contacts and no answer are two things."""
    user = dav_server.new_user(filled=False)
    backend = make(user=user, carddav=f"http://127.0.0.1:{dav_proxy.port}/")
    dav_proxy.arm(fault, b"PROPFIND", times=100)
    with pytest.raises(BackendError):
        backend.contacts()


def test_a_wrong_password_is_said(dav_server: Any, make: Callable[..., NetBackend]) -> None:
    """401 in plain words, for reads and effects."""
    backend = make(user=dav_server.new_user(filled=False), password="wrong", caldav=dav_server.url)
    result = backend.create_event(**EVENT)
    assert isinstance(result, Failed)
    assert "user name and password" in result.reason


def test_another_event_under_the_key_is_not_taken_for_this_one(
    dav_server: Any, make: Callable[..., NetBackend]
) -> None:
    """The key is there with another time: unknown, and the stored one stays."""
    user = dav_server.new_user(filled=False)
    backend = make(user=user, caldav=dav_server.url).with_key("k")
    assert isinstance(backend.create_event(**EVENT), Ok)
    other = {**EVENT, "end": "2026-03-05T12:00:00"}
    assert isinstance(backend.create_event(**other), Unknown)
    assert len(dav_server.stored(user)) == 1


def test_a_new_list_is_made_once(dav_server: Any, make: Callable[..., NetBackend]) -> None:
    """Two reminders for a list that is not there: one list, two tasks, each in it."""
    user = dav_server.new_user(filled=False)
    backend = make(user=user, caldav=dav_server.url)
    reminder = {"due": "", "notes": "", "list_name": "Plänts & more", "priority": 0}
    notes = [
        backend.create_reminder(name=name, all_day=False, **reminder).note for name in ("a", "b")
    ]
    assert notes[0].endswith("to the new list Plänts & more.")
    assert notes[1].endswith("to the list Plänts & more.")


# Mail


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("refuse", Failed),
        ("swallow", Ok),
        ("garbage", Ok),
        ("half", Ok),
        pytest.param("silence", Ok, marks=pytest.mark.slow),
    ],
)
def test_a_draft_is_stored_once(
    fault: str, kind: type, mail_server: Any, mail_proxy: Any, make: Callable[..., NetBackend]
) -> None:
    """The connection breaks after the mail: it is looked for by its Message-ID."""
    user = mail_server.new_user(filled=False)
    url = f"imap://127.0.0.1:{mail_proxy.port}"
    backend = make(user=user, imap=url, timeout_s=PATIENCE.get(fault, 30.0))
    mail_proxy.arm(fault, b"\r\n\r\nText\r\n")
    if fault == "refuse":
        mail_proxy.arm(fault, b"")
    first = backend.with_key("k").draft_mail(**MAIL)
    assert mail_proxy.fired == 1
    assert isinstance(first, kind), first
    assert len(mail_server.messages(user, DRAFTS)) == (kind is Ok)
    assert isinstance(backend.with_key("k").draft_mail(**MAIL), Ok)
    assert len(mail_server.messages(user, DRAFTS)) == 1


def test_a_wrong_imap_password_is_said(mail_server: Any, make: Callable[..., NetBackend]) -> None:
    """A refused login is a failure, not an empty inbox."""
    imap = f"imap://127.0.0.1:{mail_server.port}"
    backend = make(user=mail_server.new_user(filled=False), imap=imap, password="wrong")
    assert isinstance(backend.draft_mail(**MAIL), Failed)
    with pytest.raises(BackendError, match="does not let"):
        backend.selected_mail()


@pytest.mark.parametrize(
    ("fault", "trigger", "kind", "sent"),
    [
        ("refuse", b"", Failed, 0),
        ("swallow", b"mail FROM", Failed, 0),
        ("swallow", b"\r\n.\r\n", Unknown, 1),  # drop after DATA
        ("garbage", b"\r\n.\r\n", Unknown, 1),
        pytest.param("silence", b"\r\n.\r\n", Unknown, 1, marks=pytest.mark.slow),
    ],
)
def test_a_mail_is_sent_at_most_once(
    fault: str,
    trigger: bytes,
    kind: type,
    sent: int,
    mail_server: Any,
    smtp_server: Any,
    smtp_proxy: Any,
    make: Callable[..., NetBackend],
) -> None:
    """After an open outcome nothing is sent again; after a clear failure it can be."""
    user = mail_server.new_user(filled=False)
    backend = make(
        user=user,
        imap=f"imap://127.0.0.1:{mail_server.port}",
        smtp=f"smtp://127.0.0.1:{smtp_proxy.port}",
        timeout_s=PATIENCE.get(fault, 30.0),
    )
    smtp_proxy.arm(fault, trigger)
    first = backend.deliver("mail", LETTER, key="k")
    assert smtp_proxy.fired == 1
    assert isinstance(first, kind), first
    assert len(smtp_server.received) == sent
    assert isinstance(backend.find("k"), Unknown if kind is Unknown else NotFound)

    second = backend.deliver("mail", LETTER, key="k")
    assert isinstance(second, Unknown if kind is Unknown else Ok)
    assert len(smtp_server.received) == 1
    sender, people, content = smtp_server.received[0]
    assert (sender, people) == ("me@mail.example", LETTER["recipients"])
    assert b"Subject: Hello" in content


def test_a_sent_mail_is_kept_found_and_not_sent_again(
    mail_server: Any, smtp_server: Any, smtp_proxy: Any, make: Callable[..., NetBackend]
) -> None:
    """A copy is among the sent ones and nothing among the drafts; it cannot be taken back."""
    user = mail_server.new_user(filled=False)
    backend = make(
        user=user,
        imap=f"imap://127.0.0.1:{mail_server.port}",
        smtp=f"smtp://127.0.0.1:{smtp_proxy.port}",
    )
    first = backend.deliver("mail", LETTER, key="k")
    assert isinstance(first, Ok)
    assert isinstance(backend.deliver("mail", LETTER, key="k"), Ok)
    assert len(smtp_server.received) == 1
    assert len(mail_server.messages(user, "Sent")) == 1
    assert mail_server.messages(user, DRAFTS) == []
    found = backend.find("k")
    assert isinstance(found, Ok)
    assert found.record == first.record
    assert isinstance(backend.undo(first.record or ""), Failed)


def test_one_refused_recipient_stops_the_mail(
    smtp_server: Any, smtp_proxy: Any, make: Callable[..., NetBackend]
) -> None:
    """All or nobody, and the refused address is named."""
    backend = make(user="user0", smtp=f"smtp://127.0.0.1:{smtp_proxy.port}")
    smtp_server.refuse = "bob@mail.example"
    result = backend.deliver("mail", LETTER, key="k")
    assert isinstance(result, Failed)
    assert "bob@mail.example" in result.reason
    assert smtp_server.received == []
    smtp_server.refuse = ""
    assert isinstance(backend.find("k"), Unknown)  # without IMAP nobody can tell


@pytest.mark.parametrize(
    "payload",
    [
        {**LETTER, "recipients": []},
        {**LETTER, "recipients": ["Ann"]},
        {**LETTER, "recipients": ["a@b\r\nDATA"]},
        {**LETTER, "subject": "\ud800"},
    ],
)
def test_what_cannot_be_sent_is_refused(
    payload: dict[str, Any], smtp_server: Any, smtp_proxy: Any, make: Callable[..., NetBackend]
) -> None:
    """No recipient, no address, half a character: nothing reaches the server."""
    backend = make(user="user0", smtp=f"smtp://127.0.0.1:{smtp_proxy.port}")
    assert isinstance(backend.deliver("mail", payload, key="k"), Failed)
    assert smtp_server.received == []


def test_headers_stay_headers(
    smtp_server: Any, smtp_proxy: Any, make: Callable[..., NetBackend]
) -> None:
    """A line break in a subject begins no header, and dots in the body end no mail."""
    backend = make(user="user0", smtp=f"smtp://127.0.0.1:{smtp_proxy.port}")
    odd = {
        **LETTER,
        "subject": "a\r\nBcc: eve@mail.example\r\n\r\nx",
        "body": "one\r\n.\r\ntwo\n..\n",
    }
    assert isinstance(backend.deliver("mail", odd, key="k"), Ok)
    ((_, people, content),) = smtp_server.received
    assert people == LETTER["recipients"]
    assert b"\nBcc:" not in content
    assert content.count(b"\r\n\r\n") == 1
