"""Calendar arithmetic on plain dates: months, weeks, n-th weekdays.

Everything returns None instead of raising where a date does not exist or falls
outside the years 1 to 9999, so that a hostile number in a text is "not a date".
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, date, datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """A span of time as people say it: months and days keep the clock, seconds move it.

    Attributes:
        months: Calendar months; a year is 12.
        days: Calendar days; a week is 7.
        workdays: Days that are neither Saturday nor Sunday.
        seconds: Hours, minutes and seconds, in seconds.
    """

    months: int = 0
    days: int = 0
    workdays: int = 0
    seconds: int = 0

    def __add__(self, other: Length) -> Length:
        """Sum, field by field."""
        return Length(
            months=self.months + other.months,
            days=self.days + other.days,
            workdays=self.workdays + other.workdays,
            seconds=self.seconds + other.seconds,
        )

    def __neg__(self) -> Length:
        """The same span backwards."""
        return Length(
            months=-self.months, days=-self.days, workdays=-self.workdays, seconds=-self.seconds
        )

    @property
    def timed(self) -> bool:
        """Whether the span moves the clock, not just the day."""
        return self.seconds != 0

    @property
    def delta(self) -> timedelta:
        """Fixed length: a month counts 30 days, a year 365, a work day one day."""
        years, months = divmod(abs(self.months), 12)
        days = (years * 365 + months * 30) * (1 if self.months >= 0 else -1)
        return timedelta(days=days + self.days + self.workdays, seconds=self.seconds)


def make_date(year: int, month: int, day: int) -> date | None:
    """The date, or None if there is none such ("30 February")."""
    if not (MINYEAR <= year <= MAXYEAR and 1 <= month <= 12):
        return None
    return date(year, month, day) if 1 <= day <= monthrange(year, month)[1] else None


def add_days(day: date, days: int) -> date | None:
    """The date so many days later, or None outside the calendar."""
    number = day.toordinal() + days
    return date.fromordinal(number) if 1 <= number <= date.max.toordinal() else None


def add_months(day: date, months: int) -> date | None:
    """The same day so many months later; the month's last day where it is shorter."""
    index = day.year * 12 + day.month - 1 + months
    year, month = divmod(index, 12)
    if not MINYEAR <= year <= MAXYEAR:
        return None
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def shift(moment: datetime, length: Length) -> datetime | None:
    """The moment after a span: months first, then days, work days and seconds."""
    day = add_months(moment.date(), length.months)
    day = day and add_days(day, length.days)
    day = day and add_workdays(day, length.workdays)
    if day is None:
        return None
    try:
        return datetime.combine(day, moment.time()) + timedelta(seconds=length.seconds)
    except OverflowError:
        return None


def add_workdays(day: date, count: int) -> date | None:
    """The date so many Mondays to Fridays later (earlier if negative)."""
    weeks, rest = divmod(abs(count), 5)
    step = 1 if count >= 0 else -1
    moved = add_days(day, 7 * weeks * step)
    while moved is not None and rest:
        moved = add_days(moved, step)
        rest -= moved is not None and moved.weekday() < 5
    return moved


def week_start(day: date) -> date:
    """Monday of the day's week."""
    return add_days(day, -day.weekday()) or day


def nth_weekday(year: int, month: int, weekday: int, n: int) -> date | None:
    """The n-th such weekday of a month, from 1; -1 is the last. Monday is 0."""
    if not (MINYEAR <= year <= MAXYEAR and 1 <= month <= 12):
        return None
    length = monthrange(year, month)[1]
    if n < 0:
        last = date(year, month, length)
        return make_date(year, month, length - (last.weekday() - weekday) % 7 + 7 * (n + 1))
    first = (weekday - date(year, month, 1).weekday()) % 7 + 1
    return make_date(year, month, first + 7 * (n - 1))


def easter(year: int) -> date:
    """Easter Sunday of the Gregorian calendar (the anonymous algorithm of 1876)."""
    a, (b, c) = year % 19, divmod(year, 100)
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    n = (32 + 2 * e + 2 * i - h - k) % 7
    m = (a + 11 * h + 22 * n) // 451
    month, day = divmod(h + n - 7 * m + 114, 31)
    return date(year, month, day + 1)


def islamic(year: int, month: int, day: int) -> date | None:
    """Gregorian date of a day of the tabular Islamic calendar (epoch 15 July 622)."""
    number = day + (59 * (month - 1) + 1) // 2 + (year - 1) * 354 + (3 + 11 * year) // 30 + 227013
    return date.fromordinal(number) if 1 <= number <= date.max.toordinal() else None
