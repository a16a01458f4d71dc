"""Calendar days of every form: the one rule that tries them all, and the relative ones."""

from __future__ import annotations

from mlx_tinyagent.act.dates.calendar import add_days, make_date
from mlx_tinyagent.act.dates.full_dates import full_date, year_after
from mlx_tinyagent.act.dates.holidays import holiday
from mlx_tinyagent.act.dates.month_days import marked_day_of_month, nth_day_of, nth_weekday_of
from mlx_tinyagent.act.dates.names import SIDES, WEEKDAYS
from mlx_tinyagent.act.dates.parts import Day, on_or_after
from mlx_tinyagent.act.dates.source import Found, Phrases, Source
from mlx_tinyagent.act.dates.weekdays import weekday, weekday_and_date, weeks_on

_RELATIVE = Phrases(
    (
        ("today|otd|current date|this day", 0),
        ("tomorrow|the next day|next day|the following day|following day|the day after", 1),
        ("the day after tomorrow|day after tomorrow|overmorrow", 2),
        ("yesterday|the day before|the previous day|previous day|the last day", -1),
        ("the day before yesterday|day before yesterday", -2),
    )
)


def day(source: Source, i: int) -> Found[Day] | None:
    """The longest calendar day that starts at ``i``."""
    return source.once("day", i, lambda: _day(source, i))


def _day(source: Source, i: int) -> Found[Day] | None:
    found = (
        weekday_and_date(source, i)
        or full_date(source, i)
        or _sided_date(source, i)
        or nth_weekday_of(source, i)
        or weekday(source, i)
        or nth_day_of(source, i)
        or _relative(source, i)
        or named_day(source, i)
        or marked_day_of_month(source, i)
    )
    if found is None:
        return None
    return found[0], _trailing_weekday(source, found[1])


def _trailing_weekday(source: Source, i: int) -> int:
    """Position after "(Tue)" behind a date."""
    if source.word(i) == "(" and source.word(i + 1) in WEEKDAYS and source.word(i + 2) == ")":
        return i + 3
    return i


def _sided_date(source: Source, i: int) -> Found[Day] | None:
    """Reads "next 5/12", "this 5/12", "next 6th of April", "last christmas"."""
    side = SIDES.get(source.word(i))
    if side is None:
        return None
    found = full_date(source, i + 1) or named_day(source, i + 1)
    if found is None or found[0].open != "year":
        return None
    target, end = found
    rule = holiday(source, i + 1)
    offset = {"this": 0, "next": 1, "coming": 0, "last": -1, "past": 0}[side]
    at = rule[0] if rule else lambda year: make_date(year, target.date.month, target.date.day)
    if side in ("coming", "next") and rule:
        return Day(date=target.date), end
    if side in ("past", "last"):
        past = [d for d in target.others if d < source.today]
        return (Day(date=past[0]), end) if past else None
    moved = at(source.today.year + offset)
    return (Day(date=moved), end) if moved else None


def _relative(source: Source, i: int) -> Found[Day] | None:
    """Reads "today", "tomorrow", "the day after tomorrow", "tomorrow week"."""
    found = source.phrase(i, _RELATIVE)
    if found is None:
        return None
    offset, end = found
    if source.word(end - 1) in ("after", "before") and _continues(source, end):
        return None
    later = weeks_on(source, end) if source.word(end - 1) in ("today", "tomorrow") else None
    weeks, end = later or (0, end)
    moved = add_days(source.today, offset + 7 * weeks)
    return (Day(date=moved), end) if moved else None


def _continues(source: Source, i: int) -> bool:
    """Whether a noun follows, which "the day after" would then be counted from."""
    word = source.word(i)
    return word.isalnum() and word not in ("at", "in", "for", "from", "with", "and", "by", "i")


def named_day(source: Source, i: int) -> Found[Day] | None:
    """A named day, with the year that may follow."""
    found = holiday(source, i)
    if found is None:
        return None
    rule, end = found
    late = year_after(source, end)
    if late:
        day_found = rule(late[0])
        return (Day(date=day_found), late[1]) if day_found else None
    dates = on_or_after(source.today, rule)
    return (Day(date=dates[0], others=dates[1:], open="year"), end) if dates else None
