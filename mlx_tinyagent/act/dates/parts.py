"""What grammar rules find: days, periods, clocks, parts of day and their union.

A part carries the reading that counts and, where English leaves it open, the
other readings. ``open`` flags say what a later word may still settle (the year of
"5/1" in "5/1 - 5/7, 2020"; morning or afternoon in "at 3 ... tomorrow evening").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from typing import Literal

from mlx_tinyagent.act.dates.calendar import Length, add_days, add_months, make_date

Date = date  # the type, where a field is called "date"
Open = Literal["nothing", "year", "month", "weekday"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """A calendar day.

    Attributes:
        date: The reading that counts.
        others: Other readings.
        open: What the words left out: the year of "5 May", month and year of "the
            5th", everything but the weekday of "Friday".
        form: "iso" for dates in digits with the year first, whose clocks count 24 hours;
            "year" for other dates that state their year.
        bound: Where a range that runs to "the end of" something ends, not included.
    """

    date: Date
    others: tuple[Date, ...] = ()
    open: Open = "nothing"
    form: Literal["iso", "year", ""] = ""
    bound: Date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A range of days, the end not included.

    Attributes:
        start: First day.
        end: Day after the last.
        open: "year" for a month named without its year.
        unit: What it is one of, such as "week" or "month"; "" for other ranges.
    """

    start: date
    end: date
    open: Open = "nothing"
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """A time of day.

    Attributes:
        hour: 0 to 23, as written; 24:00 is written 0.
        minute: 0 to 59.
        second: 0 to 59.
        open: Whether the hour may be meant for the morning or the afternoon.
        bare: Whether only a number was written, which needs a date beside it to count.
        lean: Which half of the day counts first while it is open.
        midnight: Whether it was called "midnight", which ends the day it is said of.
    """

    hour: int
    minute: int = 0
    second: int = 0
    open: bool = False
    bare: bool = False
    lean: Literal["office", "morning", "evening"] = "office"
    midnight: bool = False

    @property
    def readings(self) -> tuple[time, ...]:
        """Times it may mean, the one that counts first: see :func:`office_hour`."""
        if not self.open:
            return (time(self.hour, self.minute, self.second),)
        first = office_hour(self.hour)
        if self.lean != "office" and self.hour != 12:
            first = self.hour + 12 * (self.lean == "evening")
        return tuple(time(h, self.minute, self.second) for h in (first, (first + 12) % 24))

    def fixed(self, hour: int) -> Clock:
        """The same clock with its hour settled."""
        return replace(self, hour=hour % 24, open=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartOfDay:
    """A named stretch of the day.

    Attributes:
        name: "morning", "afternoon", ...
        start: Its first moment.
        end: Its last moment; 23:59:59 for those that reach midnight.
    """

    name: str
    start: time
    end: time


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockRange:
    """From one clock to another, perhaps past midnight.

    Attributes:
        start: First clock.
        end: Last clock.
        bare: Whether both were mere numbers ("2-4"), which needs a date beside them.
    """

    start: Clock
    end: Clock
    bare: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """Everything one stretch of text says about one moment.

    Attributes:
        first: Position of its first word.
        last: Position after its last word.
        day: A calendar day.
        period: A range of days.
        clock: A time of day.
        part: A part of the day.
        clocks: A range of clocks.
        length: A duration.
        moment: An exact moment, such as "now" or "in 5 minutes".
        until: End of an exact range that starts at ``moment``, or at ``day`` and
            ``clock`` for a range between two full moments.
        weak: Whether it counts only beside something else ("2-4", "the day").
    """

    first: int
    last: int
    day: Day | None = None
    period: Period | None = None
    clock: Clock | None = None
    part: PartOfDay | None = None
    clocks: ClockRange | None = None
    length: Length | None = None
    moment: datetime | None = None
    until: datetime | None = None
    weak: bool = False

    @property
    def dated(self) -> bool:
        """Whether it says which day or days."""
        return bool(self.day or self.period or self.moment)

    @property
    def timed(self) -> bool:
        """Whether it says when in the day."""
        return bool(self.clock or self.part or self.clocks or self.moment)


def office_hour(hour: int) -> int:
    """The hour of a 12-hour clock that people mean in the office: 8 to 11 are before noon.

    12 is noon and 1 to 7 are afternoon and evening: "at 3" is 15:00, "at 10" is 10:00.
    """
    return hour if 8 <= hour <= 12 else (hour % 12) + 12


def hour_in(part: PartOfDay, hour: int) -> int:
    """The hour that a 12-hour clock shows in a part of day.

    The small hours belong to the night ("2 at night" is 02:00, "10 at night" is 22:00).
    """
    hour %= 12
    if part.name == "morning":
        return hour
    if part.name == "night":
        return hour if hour < 5 else hour + 12
    if part.name in ("daytime", "business hours"):
        return office_hour(hour or 12)
    if part.name == "lunchtime":
        return hour if hour in (10, 11) else hour + 12
    if part.name == "breakfast":
        return hour
    return hour + 12


def settle(clock: Clock, part: PartOfDay) -> Clock:
    """A clock read inside a part of day; a settled clock stays as it is."""
    return clock.fixed(hour_in(part, clock.hour)) if clock.open else clock


def with_year(day: Day, year: int) -> Day | None:
    """A day whose year was open, put in a year; None if it does not exist there."""
    found = make_date(year, day.date.month, day.date.day)
    return Day(date=found) if found else None


def on_or_after(today: date, at: Callable[[int], date | None]) -> tuple[date, ...]:
    """First date from today on that a rule gives for some year, then the last before it.

    The rule may skip years (29 February) but not more than eight in a row.
    """
    future = next((d for y in range(9) if (d := at(today.year + y)) and d >= today), None)
    past = next((d for y in range(9) if (d := at(today.year - y)) and d < today), None)
    return tuple(d for d in (future, past) if d)


def month_period(year: int, month: int, *, open_year: bool = False) -> Period | None:
    """A calendar month as a period."""
    start = make_date(year, month, 1)
    end = start and add_months(start, 1)
    if start is None or end is None:
        return None
    return Period(start=start, end=end, open="year" if open_year else "nothing", unit="month")


def days_from(start: date, count: int, unit: str = "") -> Period | None:
    """So many days from a date on, as a period."""
    end = add_days(start, count)
    return Period(start=start, end=end, unit=unit) if end else None
