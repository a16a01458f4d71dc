"""Events and reminders through EventKit.

Dates go in as seconds since 1970 and as numbers of a calendar, never as text.
The key of an effect stands in the URL field of its event or reminder.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from mlx_tinyagent.tools.checks import EventRequest, ReminderRequest
from mlx_tinyagent.tools.macos.frameworks import (
    EVENT,
    REMINDER,
    event_store,
    framework,
)
from mlx_tinyagent.tools.match import fold
from mlx_tinyagent.tools.results import Failed, NotFound, Ok, Result, Unknown, Value

FETCH_S = 30.0
SPAN_THIS_EVENT = 0  # EKSpanThisEvent
YEAR_S = 366 * 86_400.0
_SCHEME = "mlx-tinyagent:"


def add_event(wanted: EventRequest, name: str) -> Result | str:
    """Add an event and read it back.

    Args:
        wanted: What it says.
        name: What its URL field carries.

    Returns:
        The name of its calendar, else why there is no event.

    Raises:
        BackendError: There is no access.
    """
    store = event_store("Calendar")
    kit = framework("EventKit")
    start, end = (_date(moment) for moment in (wanted.starts, wanted.ends))
    known = _events(store, name, wanted.starts, wanted.ends)
    if known:
        return str(known[0].calendar().title())
    place = _place(
        store.calendarsForEntityType_(EVENT), wanted.calendar, store.defaultCalendarForNewEvents()
    )
    if place is None:
        return NotFound(what=f"calendar '{wanted.calendar}'" if wanted.calendar else "calendar")
    event = kit.EKEvent.eventWithEventStore_(store)
    event.setTitle_(wanted.title)
    event.setStartDate_(start)
    event.setEndDate_(_date_before(wanted.ends) if wanted.all_day else end)
    event.setAllDay_(wanted.all_day)
    event.setLocation_(wanted.location)
    event.setNotes_(_with_invitees(wanted))
    event.setCalendar_(place)
    event.setURL_(_url(name))
    saved, error = store.saveEvent_span_commit_error_(event, SPAN_THIS_EVENT, True, None)
    if not saved:
        return Failed(reason=f"Calendar did not take the event: {_words(error)}")
    if not _events(store, name, wanted.starts, wanted.ends):
        return Unknown(reason="Calendar took the event and does not show it; look there")
    return str(place.title())


def add_reminder(wanted: ReminderRequest, name: str) -> Result | tuple[str, bool]:
    """Add a reminder and read it back; a list that is not there is made.

    Args:
        wanted: What it says.
        name: What its URL field carries.

    Returns:
        The name of its list and whether that is new, else why there is no reminder.

    Raises:
        BackendError: There is no access.
    """
    store = event_store("Reminders")
    kit = framework("EventKit")
    known = _reminders(store, name)
    if isinstance(known, Result):
        return known
    if known:
        return str(known[0].calendar().title()), False
    default = store.defaultCalendarForNewReminders()
    place = _place(store.calendarsForEntityType_(REMINDER), wanted.list_name, default)
    new = place is None and bool(wanted.list_name) and default is not None
    if new:
        place = kit.EKCalendar.calendarForEntityType_eventStore_(REMINDER, store)
        place.setTitle_(wanted.list_name)
        place.setSource_(default.source())
        saved, error = store.saveCalendar_commit_error_(place, True, None)
        if not saved:
            return Failed(reason=f"Reminders did not make the list: {_words(error)}")
    if place is None:
        return NotFound(what="list for reminders")
    reminder = kit.EKReminder.reminderWithEventStore_(store)
    reminder.setTitle_(wanted.name)
    reminder.setNotes_(wanted.notes)
    reminder.setPriority_(wanted.priority)
    reminder.setCalendar_(place)
    reminder.setURL_(_url(name))
    if wanted.due is not None:
        reminder.setDueDateComponents_(_components(wanted.due, all_day=wanted.all_day))
        if not wanted.all_day:  # without an alarm Reminders stays silent
            reminder.addAlarm_(kit.EKAlarm.alarmWithAbsoluteDate_(_date(wanted.due)))
    saved, error = store.saveReminder_commit_error_(reminder, True, None)
    if not saved:
        return Failed(reason=f"Reminders did not take it: {_words(error)}")
    if not _reminders(store, name):
        return Unknown(reason="Reminders took it and does not show it; look there")
    return str(place.title()), new


def find(name: str, now: datetime) -> Result:
    """Look for an event or reminder by what its URL field carries.

    Events are looked for four years around ``now``, which is what EventKit does
    in one question.

    Raises:
        BackendError: There is no access.
    """
    store = event_store("Calendar")
    start = datetime.fromtimestamp(now.timestamp() - YEAR_S)
    end = datetime.fromtimestamp(now.timestamp() + 3 * YEAR_S)
    if _events(store, name, start, end):
        return Ok(value=Value(text="It is in Calendar."), record=f"event:{name}")
    store = event_store("Reminders")
    found = _reminders(store, name)
    if isinstance(found, Result):
        return found
    if found:
        return Ok(value=Value(text="It is in Reminders."), record=f"reminder:{name}")
    return NotFound(what="what was to be done")


def remove(kind: str, name: str, now: datetime) -> Result:
    """Delete an event or reminder by what its URL field carries.

    Args:
        kind: ``event`` or ``reminder``.
        name: What its URL field carries.
        now: Events are looked for around it.

    Raises:
        BackendError: There is no access.
    """
    store = event_store("Calendar" if kind == "event" else "Reminders")
    if kind == "event":
        start = datetime.fromtimestamp(now.timestamp() - YEAR_S)
        end = datetime.fromtimestamp(now.timestamp() + 3 * YEAR_S)
        found: Any = _events(store, name, start, end)
    else:
        found = _reminders(store, name)
    if isinstance(found, Result):
        return found
    if not found:
        return NotFound(what=f"the {kind}")
    if kind == "event":
        done, error = store.removeEvent_span_commit_error_(found[0], SPAN_THIS_EVENT, True, None)
    else:
        done, error = store.removeReminder_commit_error_(found[0], True, None)
    if not done:
        return Failed(reason=f"the {kind} could not be deleted: {_words(error)}")
    note = f"Deleted the {kind}."
    return Ok(value=Value(text=note), note=note, record=f"{kind}:{name}")


def _events(store: Any, name: str, starts: datetime, ends: datetime) -> list[Any]:
    """Return the events of a span that carry a name."""
    predicate = store.predicateForEventsWithStartDate_endDate_calendars_(
        _date(starts), _date(ends), None
    )
    return _carrying(name, store.eventsMatchingPredicate_(predicate) or ())


def _reminders(store: Any, name: str) -> list[Any] | Unknown:
    """Return the reminders that carry a name; they are fetched on another thread."""
    predicate = store.predicateForRemindersInCalendars_(None)
    fetched = threading.Event()
    found: list[Any] = []

    def done(reminders: Any) -> None:
        found.extend(reminders or ())
        fetched.set()

    store.fetchRemindersMatchingPredicate_completion_(predicate, done)
    if not fetched.wait(FETCH_S):
        return Unknown(reason="Reminders did not answer in time")
    return _carrying(name, found)


def _carrying(name: str, items: Iterable[Any]) -> list[Any]:
    wanted = f"{_SCHEME}{name}"
    return [item for item in items if item.URL() and item.URL().absoluteString() == wanted]


def _place(every: Iterable[Any], name: str, default: Any) -> Any | None:
    """Return the calendar or list of a name that can be written to; the default one for none."""
    if not name:
        return default
    matching = (place for place in every if fold(str(place.title())) == fold(name))
    return next((place for place in matching if place.allowsContentModifications()), None)


def _with_invitees(wanted: EventRequest) -> str:
    """Write invitees into the notes: EventKit lets nobody invite people."""
    if not wanted.invitees:
        return wanted.notes
    listed = "Invitees: " + ", ".join(wanted.invitees)
    return f"{wanted.notes}\n\n{listed}" if wanted.notes else listed


def _date(moment: datetime) -> Any:
    """Return a local moment as ``NSDate``, from seconds since 1970."""
    return framework("Foundation").NSDate.dateWithTimeIntervalSince1970_(moment.timestamp())


def _date_before(ends: datetime) -> Any:
    """Return the last second before a midnight: where an event of whole days ends."""
    seconds = ends.timestamp() - 1
    return framework("Foundation").NSDate.dateWithTimeIntervalSince1970_(seconds)


def _components(moment: datetime, *, all_day: bool) -> Any:
    """Return a local moment as ``NSDateComponents``, number by number."""
    parts = framework("Foundation").NSDateComponents.alloc().init()
    parts.setYear_(moment.year)
    parts.setMonth_(moment.month)
    parts.setDay_(moment.day)
    if not all_day:
        parts.setHour_(moment.hour)
        parts.setMinute_(moment.minute)
        parts.setSecond_(moment.second)
    return parts


def _url(name: str) -> Any:
    return framework("Foundation").NSURL.URLWithString_(f"{_SCHEME}{name}")


def _words(error: Any) -> str:
    """Return an error's domain and number: its text is localized."""
    if error is None:
        return "no reason given"
    return f"{error.domain()} {error.code()}"
