"""The checks and words that backends share: what an effect needs, and how its dates are said.

Arguments arrive resolved. Whatever is no date, address or number by then is
refused by name; nothing here guesses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from mlx_tinyagent.tools.results import Failed, Ok, Value

EMAIL = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+")
PHONE = re.compile(r"\+?[\d\s().\-/\u2010-\u2015\u00a0]+")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRequest:
    """An event that can be made.

    Attributes:
        title: Not empty.
        starts: Local time without a zone.
        ends: Later than ``starts``.
        location: Free text.
        invitees: E-mail addresses, each once.
        notes: Free text.
        calendar: Its name; empty for the default one.
    """

    title: str
    starts: datetime
    ends: datetime
    location: str
    invitees: tuple[str, ...]
    notes: str
    calendar: str

    @property
    def all_day(self) -> bool:
        """Whether it spans whole days."""
        return self.starts.time() == self.ends.time() == time()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReminderRequest:
    """A reminder that can be made.

    Attributes:
        name: Not empty.
        due: Local time without a zone; None if open.
        all_day: Whether only the day of ``due`` counts.
        notes: Free text.
        list_name: Its name; empty for the default one.
        priority: 0 none, 1 high to 9 low.
    """

    name: str
    due: datetime | None
    all_day: bool
    notes: str
    list_name: str
    priority: int

    @property
    def due_text(self) -> str:
        """``due`` as ISO 8601: a date alone when all day, empty when open."""
        if self.due is None:
            return ""
        return self.due.date().isoformat() if self.all_day else self.due.isoformat()


@dataclass(frozen=True, slots=True, kw_only=True)
class MailRequest:
    """A mail whose addresses are addresses.

    Attributes:
        to: Each once.
        cc: Each once, none of them in ``to``.
    """

    to: tuple[str, ...]
    cc: tuple[str, ...]


def event_request(
    *,
    title: str,
    start: str,
    end: str,
    location: str,
    invitees: Sequence[str],
    notes: str,
    calendar: str,
) -> EventRequest | Failed:
    """Check what ``Backend.create_event`` was given."""
    starts, ends = moment(start), moment(end)
    if not title.strip():
        return Failed(reason="the event has no title")
    if starts is None or ends is None:
        return Failed(reason=f"not a local date and time: {(end if starts else start)!a}")
    if ends <= starts:
        return Failed(reason=f"the event would end ({ends}) before it starts ({starts})")
    wrong = first_unlike(EMAIL, invitees)
    if wrong is not None:
        return no_address(wrong)
    return half_character(title, location, notes, calendar) or EventRequest(
        title=title.strip(),
        starts=starts,
        ends=ends,
        location=location,
        invitees=tuple(dict.fromkeys(invitees)),
        notes=notes,
        calendar=calendar.strip(),
    )


def reminder_request(
    *, name: str, due: str, notes: str, list_name: str, priority: int, all_day: bool
) -> ReminderRequest | Failed:
    """Check what ``Backend.create_reminder`` was given."""
    when = moment(due) if due else None
    if not name.strip():
        return Failed(reason="the reminder has no name")
    if due and when is None:
        return Failed(reason=f"not a local date and time: {due!a}")
    if not 0 <= priority <= 9:
        return Failed(reason=f"a reminder's priority is 0 to 9, not {priority}")
    return half_character(name, notes, list_name) or ReminderRequest(
        name=name.strip(),
        due=when,
        all_day=when is not None and (all_day or is_date(due)),
        notes=notes,
        list_name=list_name.strip(),
        priority=priority,
    )


def mail_request(recipients: Sequence[str], cc: Sequence[str], *texts: str) -> MailRequest | Failed:
    """Check the addresses and texts of a mail."""
    to = tuple(dict.fromkeys(recipients))
    copies = tuple(address for address in dict.fromkeys(cc) if address not in to)
    wrong = first_unlike(EMAIL, (*to, *copies))
    if wrong is not None:
        return no_address(wrong)
    return half_character(*texts, *to, *copies) or MailRequest(to=to, cc=copies)


def phone_numbers(recipients: Sequence[str], text: str) -> tuple[str, ...] | Failed:
    """Check the numbers and the text of a text message; returns each number once."""
    numbers = tuple(dict.fromkeys(recipients))
    if not numbers:
        return Failed(reason="the text message has no recipient")
    if not text.strip():
        return Failed(reason="the text message is empty")
    wrong = first_unlike(PHONE, numbers)
    if wrong is not None:
        return Failed(reason=f"not a phone number: {wrong!a}; look the person up first")
    return half_character(text) or numbers


def half_character(*texts: str) -> Failed | None:
    """Refuse text with a lone surrogate, which no other program can hold."""
    for text in texts:
        half = next((char for char in text if "\ud800" <= char <= "\udfff"), None)
        if half is not None:
            return Failed(reason=f"the text holds half a character ({half!a}) and was not saved")
    return None


def first_unlike(pattern: re.Pattern[str], values: Iterable[str]) -> str | None:
    """Return the first value that is no address or number, as one is never guessed."""
    for value in values:
        digits = sum(char.isdigit() for char in value)
        if not pattern.fullmatch(value) or (pattern is PHONE and digits < 3):
            return value or "''"
    return None


def no_address(found: str) -> Failed:
    """Say that something is no e-mail address."""
    return Failed(reason=f"not an e-mail address: {found!a}; look the person up first")


def moment(text: str) -> datetime | None:
    """Read local ISO 8601 text; None if it is something else or names a zone."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if found.tzinfo else found


def is_date(text: str) -> bool:
    """Whether ISO text names a day without a time."""
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def spoken(when: datetime, *, all_day: bool = False) -> str:
    """Write a moment for people, the same in every locale."""
    day = f"{_DAYS[when.weekday()]} {when.date().isoformat()}"
    return day if all_day else f"{day} {when:%H:%M}"


def span(starts: datetime, ends: datetime) -> str:
    """Write a span for people; from midnight to midnight is a day."""
    if starts.time() == ends.time() == time():
        last = ends - timedelta(days=1)
        days = spoken(starts, all_day=True)
        return f"{days}, all day" if last == starts else f"{days} to {spoken(last, all_day=True)}"
    return f"{spoken(starts)} to " + (
        f"{ends:%H:%M}" if ends.date() == starts.date() else spoken(ends)
    )


def noted(invitees: Sequence[str]) -> str:
    """Say that invitees were written down, and no more."""
    if not invitees:
        return ""
    return f" {len(invitees)} invitee{'s' * (len(invitees) > 1)} noted; nobody was notified."


def event_added(wanted: EventRequest, place: str, record: str) -> Ok:
    """Make the result of an event that was added to the calendar of this name."""
    note = f"Added '{wanted.title}' to the calendar {place}: {span(wanted.starts, wanted.ends)}."
    starts, ends = wanted.starts.isoformat(), wanted.ends.isoformat()
    fields = {"title": wanted.title, "start": starts, "end": ends}
    return done(record, note + noted(wanted.invitees), fields)


def reminder_added(wanted: ReminderRequest, place: str, record: str, *, new: bool) -> Ok:
    """Make the result of a reminder that was added to the list of this name, perhaps a new one."""
    when = f", due {spoken(wanted.due, all_day=wanted.all_day)}" if wanted.due else ""
    note = f"Added the reminder '{wanted.name}' to the {'new ' * new}list {place}{when}."
    return done(record, note, {"name": wanted.name, "due": wanted.due_text})


def done(record: str, note: str, fields: Mapping[str, str]) -> Ok:
    """Make the result of an effect that took place."""
    return Ok(value=Value(text=note, fields=fields), note=note, record=record)


def drafted(kind: str, mail: MailRequest, subject: str, attachments: Sequence[str]) -> str:
    """Say that a draft was saved, to whom and with what."""
    what = {"new": "mail", "reply": "reply", "forward": "forward"}[kind]
    parts = [f"to {', '.join(mail.to)}" if mail.to else "without recipients yet"]
    parts += [f"copy to {', '.join(mail.cc)}"] if mail.cc else []
    names = [path.rsplit("/", 1)[-1] for path in attachments]
    parts += [f"with {', '.join(names)}"] if names else []
    return f"Saved a draft {what} '{subject}' {', '.join(parts)}; it was not sent."
