"""Calendar, Reminders and Contacts: access first, dates as numbers, what is saved is read back."""

from __future__ import annotations

import sys
from datetime import datetime
from types import ModuleType
from typing import Any

import pytest

from mlx_tinyagent.tools.external import BackendError
from mlx_tinyagent.tools.local.world import world
from mlx_tinyagent.tools.results import Failed, NotFound, Ok, PermissionNeeded, Unknown

EVENT: dict[str, Any] = {
    "title": "Review",
    "start": "2026-03-05T10:00:00",
    "end": "2026-03-05T11:00:00",
    "location": "Room 2",
    "invitees": ["ann@mail.example"],
    "notes": "Bring numbers",
    "calendar": "",
}
REMINDER: dict[str, Any] = {
    "name": "Water",
    "due": "2026-03-05T09:30:00",
    "notes": "",
    "list_name": "",
    "priority": 1,
    "all_day": False,
}
FULL, DENIED, NOT_ASKED, WRITE_ONLY, RESTRICTED = 3, 2, 0, 4, 1


@pytest.mark.parametrize("status", [DENIED, WRITE_ONLY, RESTRICTED])
def test_without_access_the_pane_is_named(mac: Any, status: int) -> None:
    """EventKit would answer with nothing; the backend says what to grant, and writes nothing."""
    mac.data.status = {0: status, 1: status}
    event, reminder = mac.backend.create_event(**EVENT), mac.backend.create_reminder(**REMINDER)
    assert isinstance(event, PermissionNeeded)
    assert isinstance(reminder, PermissionNeeded)
    assert (event.app, event.pane.rpartition(" > ")[2]) == ("Calendar", "Calendars")
    assert (reminder.app, reminder.pane.rpartition(" > ")[2]) == ("Reminders", "Reminders")
    assert mac.data.events == mac.data.reminders == []


@pytest.mark.parametrize("grant", [True, False])
def test_the_first_use_asks_once(mac: Any, grant: bool) -> None:
    """Where macOS has not asked yet it does, and the answer decides."""
    mac.data.status, mac.data.grant = {0: NOT_ASKED, 1: NOT_ASKED}, grant
    result = mac.backend.create_event(**EVENT)
    assert mac.data.asked == ["events"]
    assert isinstance(result, Ok if grant else PermissionNeeded)


def test_dates_are_numbers(mac: Any) -> None:
    """An event's times are seconds; a reminder's are a calendar's numbers; neither is text."""
    assert isinstance(mac.backend.create_event(**EVENT), Ok)
    assert isinstance(mac.backend.create_reminder(**REMINDER), Ok)
    (event,), (reminder,) = mac.data.events, mac.data.reminders
    assert event.startDate().seconds() == datetime(2026, 3, 5, 10).timestamp()
    assert event.endDate().seconds() == datetime(2026, 3, 5, 11).timestamp()
    due = reminder.dueDateComponents().values
    assert due == {"year": 2026, "month": 3, "day": 5, "hour": 9, "minute": 30, "second": 0}
    assert reminder.alarms[0].date().seconds() == datetime(2026, 3, 5, 9, 30).timestamp()


def test_a_day_has_no_time(mac: Any) -> None:
    """Whole days: flagged, ending on their last day; a reminder's day has no hour and no alarm."""
    days = {**EVENT, "start": "2026-03-05", "end": "2026-03-07"}
    assert isinstance(mac.backend.create_event(**days), Ok)
    assert isinstance(mac.backend.create_reminder(**{**REMINDER, "all_day": True}), Ok)
    (event,), (reminder,) = mac.data.events, mac.data.reminders
    assert event.allDay() is True
    assert event.endDate().seconds() == datetime(2026, 3, 6, 23, 59, 59).timestamp()
    assert reminder.dueDateComponents().values == {"year": 2026, "month": 3, "day": 5}
    assert reminder.alarms == []


def test_everything_else_arrives_too(mac: Any) -> None:
    """Texts are set as they are; invitees stand in the notes, for EventKit invites nobody."""
    result = mac.backend.create_event(**{**EVENT, "calendar": "work"})
    assert isinstance(result, Ok)
    assert "nobody was notified" in result.note
    (event,) = mac.data.events
    assert (event.title(), event.location(), event.calendar().title()) == (
        "Review",
        "Room 2",
        "Work",
    )
    assert event.notes() == "Bring numbers\n\nInvitees: ann@mail.example"
    assert event.URL().absoluteString().startswith("mlx-tinyagent:")


def test_a_calendar_that_cannot_be_written_is_not_found(mac: Any) -> None:
    """A holiday calendar of that name is no place for an event, and no other one is taken."""
    for place in mac.data.calendars[0]:
        place.values["writable"] = place.title() != "Work"
    assert isinstance(mac.backend.create_event(**{**EVENT, "calendar": "Work"}), NotFound)
    mac.data.calendars[0].clear()
    assert isinstance(mac.backend.create_event(**EVENT), NotFound)


def test_what_is_refused_or_not_shown_is_no_success(
    mac: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal is a failure; a yes without the event to be seen is unknown."""
    mac.data.refuse = True
    assert isinstance(mac.backend.create_event(**EVENT), Failed)
    assert isinstance(mac.backend.create_reminder(**REMINDER), Failed)
    mac.data.refuse = False
    kit = sys.modules["EventKit"]
    yes = lambda *_: (True, None)  # noqa: E731
    monkeypatch.setattr(kit.EKEventStore, "saveEvent_span_commit_error_", yes)
    monkeypatch.setattr(kit.EKEventStore, "saveReminder_commit_error_", yes)
    assert isinstance(mac.backend.create_event(**EVENT), Unknown)
    assert isinstance(mac.backend.create_reminder(**REMINDER), Unknown)


@pytest.mark.parametrize("name", ["event", "reminder"])
def test_undo_removes_what_carries_the_key(mac: Any, name: str) -> None:
    """Exactly one of two equal ones goes: the one whose URL field has the key."""
    make = {
        "event": lambda b: b.create_event(**EVENT),
        "reminder": lambda b: b.create_reminder(**REMINDER),
    }[name]
    results = [make(mac.backend.with_key(key)) for key in ("one", "two")]
    held = mac.data.events if name == "event" else mac.data.reminders
    assert len(held) == 2
    assert isinstance(mac.backend.undo(results[0].record), Ok)
    assert [item.URL().absoluteString() for item in held] == [
        f"mlx-tinyagent:{results[1].record.partition(':')[2]}"
    ]


def test_contacts_are_read_with_relations(mac: Any) -> None:
    """Names, addresses and numbers are those of the world; the mother is found as "Mother"."""
    people = list(mac.backend.contacts())
    read = [(person.name, [*person.emails], [*person.phones]) for person in people]
    given = [(one["name"], one["emails"], one["phones"]) for one in world()["contacts"]]
    assert read == given
    assert "Mother" in people[0].nicknames


@pytest.mark.parametrize(("status", "grant"), [(2, True), (1, True), (0, False)])
def test_contacts_without_access(
    mac: Any, mac_fakes: ModuleType, monkeypatch: pytest.MonkeyPatch, status: int, grant: bool
) -> None:
    """No access is no empty address book."""
    kit = mac_fakes.contacts_kit(world(), status=status, grant=grant)
    mac_fakes.install(monkeypatch, {"Contacts": kit})
    with pytest.raises(BackendError) as refused:
        mac.backend.contacts()
    assert isinstance(refused.value.result, PermissionNeeded)
    assert "Contacts" in str(refused.value)


@pytest.mark.skipif(sys.platform == "darwin", reason="a Mac may have the frameworks")
def test_without_the_extra_it_is_named(mac: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing framework ends in what to install, for effects and reads alike."""
    for name in ("EventKit", "Contacts", "Foundation"):
        monkeypatch.delitem(sys.modules, name)
    result = mac.backend.create_event(**EVENT)
    assert isinstance(result, Failed)
    assert "mlx-tinyagent[macos]" in result.reason
    with pytest.raises(BackendError, match="macos"):
        mac.backend.contacts()
