"""Events and tasks as iCalendar (RFC 5545).

The store knows no series: of an event that repeats the first time is kept,
and the rule stays in the component's text, which is written back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

from mlx_tinyagent.tools.interchange.lines import (
    Component,
    Property,
    components,
    decoded,
    edited,
    escape,
    fold,
    kept,
    made_uid,
    unescape,
)
from mlx_tinyagent.tools.interchange.records import (
    MAX_RECORDS,
    Content,
    Event,
    InterchangeError,
    Skipped,
    Todo,
)

PRODUCT = "-//mlx-tinyagent//interchange 1//EN"
_ZONE_NAME = re.compile(r"[A-Za-z][\w +\-()&,]*(\.[\w +\-]+)*(/[A-Za-z][\w+\-]*){0,2}\.?")
_MAILTO = re.compile(r"mailto:", re.IGNORECASE)


def read_calendar(content: bytes, zone: tzinfo | None = None) -> Content:
    """Read an ``.ics`` file.

    Args:
        content: Its bytes.
        zone: What local time is; None for the machine's zone.

    Raises:
        InterchangeError: It is no iCalendar file.
    """
    records: list[Event | Todo] = []
    skipped: list[Skipped] = []
    for calendar in components(decoded(content)):
        if calendar.name != "VCALENDAR":
            raise InterchangeError(f"line {calendar.line}: a {calendar.name}, not a VCALENDAR")
        title = unescape(calendar.value("X-WR-CALNAME") or calendar.value("NAME")).strip()
        zones = {part.value("TZID"): part.text for part in calendar.parts if _is_zone(part)}
        for entry, (part, more) in enumerate(_entries(calendar), start=1):
            if len(records) >= MAX_RECORDS:
                raise InterchangeError(f"more than {MAX_RECORDS:,} entries")
            text = "".join([*_used(zones, part, more), part.text, *(item.text for item in more)])
            try:
                if part.name == "VEVENT":
                    records.append(_event(part, text, title, zone))
                else:
                    records.append(_todo(part, text, title, zone))
            except ValueError as error:
                skipped.append(Skipped(entry=entry, reason=f"{part.name}: {error}"))
    return Content(records=tuple(records), skipped=tuple(skipped))


def write_calendar(name: str, entries: Iterable[Event | Todo], zone: tzinfo | None = None) -> str:
    """Write a calendar or list: entries as they were read where nothing changed.

    Args:
        name: Its name.
        entries: As they are now; ``text`` is what each was read from, if any.
        zone: What local time is; None for the machine's zone.
    """
    zones: dict[str, str] = {}
    bodies: list[str] = []
    for entry in entries:
        for part in components(_entry_text(entry, zone)):
            if _is_zone(part):
                zones.setdefault(part.value("TZID"), part.text)
            else:
                bodies.append(part.text)
    head = ["BEGIN:VCALENDAR", "VERSION:2.0", f"PRODID:{PRODUCT}"]
    head += [f"X-WR-CALNAME:{escape(name)}"] if name else []
    lines = "\r\n".join(fold(line) for line in head) + "\r\n"
    return "".join([lines, *zones.values(), *bodies, "END:VCALENDAR\r\n"])


def new_event(event: Event, zone: tzinfo | None = None) -> str:
    """Write an event that has no text yet; times are written in UTC."""
    lines = ["BEGIN:VEVENT", f"UID:{escape(event.uid)}", _stamp()]
    for name, made in _event_lines(event, zone).items():
        lines += made if name in _ALWAYS or any(made) else []
    return _joined([*lines, "END:VEVENT"])


def new_todo(todo: Todo, zone: tzinfo | None = None) -> str:
    """Write a task that has no text yet; one with a time of day rings then."""
    lines = ["BEGIN:VTODO", f"UID:{escape(todo.uid)}", _stamp()]
    for made in _todo_lines(todo, zone).values():
        lines += made
    if todo.due and not todo.all_day:
        lines += ["BEGIN:VALARM", "ACTION:DISPLAY", f"DESCRIPTION:{escape(todo.name)}"]
        lines += ["TRIGGER;RELATED=END:PT0S", "END:VALARM"]
    return _joined([*lines, "END:VTODO"])


_ALWAYS = frozenset({"SUMMARY", "DTSTART", "DTEND"})


def _entry_text(entry: Event | Todo, zone: tzinfo | None) -> str:
    """Return an entry's text with what has changed since it was read."""
    if not entry.text:
        return new_event(entry, zone) if isinstance(entry, Event) else new_todo(entry, zone)
    found = components(entry.text)
    own = next(part for part in found if part.name in ("VEVENT", "VTODO"))
    before: Event | Todo
    if isinstance(entry, Event):
        before = _event(own, entry.text, entry.calendar, zone)
        old, new = _event_lines(before, zone), _event_lines(entry, zone)
    else:
        before = _todo(own, entry.text, entry.list_name, zone)
        old, new = _todo_lines(before, zone), _todo_lines(entry, zone)
    if replace(before, uid=entry.uid) == entry:
        return entry.text
    changes = {name: lines for name, lines in new.items() if lines != old[name]}
    if "ATTENDEE" in changes and isinstance(entry, Event):
        lines = dict(zip(entry.invitees, changes["ATTENDEE"], strict=True))
        changes["ATTENDEE"] = kept(own.properties("ATTENDEE"), lines, _attendee)
    if changes.keys() & {"DTSTART", "DTEND"}:
        changes = {**changes, "DTSTART": new["DTSTART"], "DTEND": new["DTEND"], "DURATION": []}
    return "".join(edited(part, changes) if part is own else part.text for part in found)


def _event_lines(event: Event, zone: tzinfo | None) -> dict[str, list[str]]:
    """Return an event's property lines by name."""
    starts, ends = datetime.fromisoformat(event.starts), datetime.fromisoformat(event.ends)
    whole = starts.time() == ends.time() == time()
    return {
        "SUMMARY": [f"SUMMARY:{escape(event.title)}"],
        "DTSTART": [_when("DTSTART", starts, zone, day=whole)],
        "DTEND": [_when("DTEND", ends, zone, day=whole)],
        "LOCATION": [f"LOCATION:{escape(event.location)}"] if event.location else [],
        "DESCRIPTION": [f"DESCRIPTION:{escape(event.notes)}"] if event.notes else [],
        # The server must not write to anybody: RFC 6638, section 7.1.
        "ATTENDEE": [f"ATTENDEE;SCHEDULE-AGENT=CLIENT:mailto:{a}" for a in event.invitees],
    }


def _todo_lines(todo: Todo, zone: tzinfo | None) -> dict[str, list[str]]:
    due = datetime.fromisoformat(todo.due) if todo.due else None
    return {
        "SUMMARY": [f"SUMMARY:{escape(todo.name)}"],
        "DUE": [_when("DUE", due, zone, day=todo.all_day)] if due else [],
        "PRIORITY": [f"PRIORITY:{todo.priority}"] if todo.priority else [],
        "DESCRIPTION": [f"DESCRIPTION:{escape(todo.notes)}"] if todo.notes else [],
        "STATUS": ["STATUS:COMPLETED"] if todo.done else [],
    }


def _event(part: Component, text: str, calendar: str, zone: tzinfo | None) -> Event:
    """Read one event.

    Raises:
        ValueError: It has no start, or one that cannot be read.
    """
    start = next(part.properties("DTSTART"), None)
    if start is None:
        raise ValueError("no start")
    starts = _moment(start, zone)
    ends = _end(part, starts, zone)
    return Event(
        uid=unescape(part.value("UID")).strip() or made_uid(part.text),
        text=text,
        title=unescape(part.value("SUMMARY")).strip() or "(no title)",
        starts=starts.isoformat(),
        ends=(ends if ends > starts else starts + timedelta(minutes=1)).isoformat(),
        location=unescape(part.value("LOCATION")),
        notes=unescape(part.value("DESCRIPTION")),
        invitees=tuple(
            dict.fromkeys(
                _attendee(found.value)
                for found in part.properties("ATTENDEE")
                if "@" in found.value
            )
        ),
        calendar=calendar,
    )


def _todo(part: Component, text: str, list_name: str, zone: tzinfo | None) -> Todo:
    """Read one task.

    Raises:
        ValueError: It has no name, or a date that cannot be read.
    """
    name = unescape(part.value("SUMMARY")).strip()
    if not name:
        raise ValueError("no summary")
    due = next(part.properties("DUE"), None)
    all_day = due is not None and _is_day(due)
    moment = "" if due is None else _moment(due, zone).isoformat()
    priority = part.value("PRIORITY").strip()
    return Todo(
        uid=unescape(part.value("UID")).strip() or made_uid(part.text),
        text=text,
        name=name,
        due=moment[:10] if all_day else moment,
        all_day=all_day,
        priority=int(priority) if re.fullmatch("[0-9]", priority) else 0,
        notes=unescape(part.value("DESCRIPTION")),
        done=part.value("STATUS").strip().upper() == "COMPLETED",
        list_name=list_name,
    )


def _end(part: Component, starts: datetime, zone: tzinfo | None) -> datetime:
    """Return when an event ends: its end, its length, else what the standard says."""
    end = next(part.properties("DTEND"), None)
    if end is not None:
        return _moment(end, zone)
    if length := part.value("DURATION"):
        found = _decoded("DURATION", length, "")
        if isinstance(found, timedelta):
            return starts + found
    start = next(part.properties("DTSTART"))
    return starts + timedelta(days=1) if _is_day(start) else starts


def _moment(found: Property, zone: tzinfo | None) -> datetime:
    """Read a date or time as local time without a zone.

    Raises:
        ValueError: It cannot be read.
    """
    zone_name = found.parameters.get("TZID", "").removeprefix("/")
    if zone_name and not _ZONE_NAME.fullmatch(zone_name):
        raise ValueError(f"{found.name} names an odd time zone: {zone_name[:40]!a}")
    value = _decoded(found.name, found.value.strip(), zone_name)
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            value = value.astimezone(zone).replace(tzinfo=None)
        elif zone_name:  # never read as local time: that would be hours off
            raise ValueError(f"{found.name} names an unknown time zone: {zone_name[:40]!a}")
        return value.replace(microsecond=0)
    if isinstance(value, date):
        return datetime.combine(value, time())
    raise ValueError(f"{found.name} is not a date: {found.value[:40]!a}")


def _decoded(name: str, value: str, zone_name: str) -> Any:
    """Read one value with the icalendar library.

    Raises:
        ValueError: Whatever the library stumbles over.
    """
    from icalendar.prop import vDDDTypes

    try:
        return vDDDTypes.from_ical(value, zone_name or None)  # type: ignore[no-untyped-call]
    except Exception as error:  # it opens zone files by name and lets their errors through
        raise ValueError(f"{name} cannot be read: {value[:40]!a}") from error


def _when(name: str, moment: datetime, zone: tzinfo | None, *, day: bool) -> str:
    """Write a local moment; a day has no zone."""
    if day:
        return f"{name};VALUE=DATE:{moment:%Y%m%d}"
    aware = moment.replace(tzinfo=zone) if zone else moment
    return f"{name}:{aware.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _is_day(found: Property) -> bool:
    return re.fullmatch(r"\d{8}", found.value.strip()) is not None


def _attendee(value: str) -> str:
    return _MAILTO.sub("", unescape(value), count=1).strip()


def _is_zone(part: Component) -> bool:
    return part.name == "VTIMEZONE"


def _entries(calendar: Component) -> Iterator[tuple[Component, Sequence[Component]]]:
    """Yield each event or task with the exceptions of its series."""
    exceptions: dict[str, list[Component]] = {}
    masters: list[Component] = []
    for part in calendar.parts:
        if part.name in ("VEVENT", "VTODO"):
            if part.value("RECURRENCE-ID"):
                exceptions.setdefault(part.value("UID"), []).append(part)
            else:
                masters.append(part)
    for master in masters:
        yield master, exceptions.pop(master.value("UID"), ())
    for first, *more in exceptions.values():  # the series itself is in another file
        yield first, more


def _used(zones: Mapping[str, str], part: Component, more: Sequence[Component]) -> list[str]:
    """Return the zones that components name."""
    texts = "".join([part.text, *(item.text for item in more)])
    return [text for name, text in zones.items() if name and f"TZID={name}" in texts]


def _stamp() -> str:
    return f"DTSTAMP:{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def _joined(lines: Iterable[str]) -> str:
    return "\r\n".join(fold(line) for line in lines) + "\r\n"
