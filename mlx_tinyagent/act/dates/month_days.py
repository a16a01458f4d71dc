"""Days counted inside a month: "the 18th", "first monday of next month", "last day of the year"."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from mlx_tinyagent.act.dates import numbers
from mlx_tinyagent.act.dates.calendar import add_days, add_months, make_date, nth_weekday
from mlx_tinyagent.act.dates.clocks import clock, clock_after_at
from mlx_tinyagent.act.dates.full_dates import month_at, year_after
from mlx_tinyagent.act.dates.names import SIDES, STOPS, WEEKDAYS, stands_alone
from mlx_tinyagent.act.dates.parts import Day, on_or_after
from mlx_tinyagent.act.dates.source import Found, Source


def marked_day_of_month(source: Source, i: int) -> Found[Day] | None:
    """Reads "the 18th", "on fourth": an ordinal that the words around show to be a day."""
    start = source.skip(i, "the")
    value = source.number(start)
    timed = source.digits(start) <= 2 and _time_follows(source, start + 1)
    if (
        start > i
        and value
        and ((source.word(i - 1) == "on" and stands_alone(source, start)) or timed)
    ):
        dates = month_days(source.today, value)
        return (Day(date=dates[0], others=dates[1:], open="month"), start + 1) if dates else None
    found = day_of_month(source, i)
    if found is None or (start == i and not _shown_as_day(source, i, found[1])):
        return None
    return None if _continues_ordinal(source, start, found[1]) else found


def _shown_as_day(source: Source, i: int, end: int) -> bool:
    """Whether the words around "3rd" make it a day: "on 3rd", "3rd at noon"."""
    if source.word(i - 1) in ("on", "for", "by"):
        return True
    return source.digits(i) > 0 and _time_follows(source, end)


def _time_follows(source: Source, i: int) -> bool:
    """Whether a time of day stands behind a number: "at 3", "from 2pm", "noon"."""
    led = source.word(i) in ("at", "@", "from", "between")
    return bool(clock_after_at(source, i + 1)) if led else bool(clock(source, i))


def day_of_month(source: Source, i: int) -> Found[Day] | None:
    """Reads "the 18th", "twenty-seventh": the next such day, today included."""
    found = numbers.ordinal(source, source.skip(i, "the"))
    if found is None or not 1 <= found[0] <= 31:
        return None
    dates = month_days(source.today, found[0])
    if not dates:
        return None
    return Day(date=dates[0], others=dates[1:], open="month"), found[1]


def _continues_ordinal(source: Source, start: int, end: int) -> bool:
    """Whether a word ordinal counts something: "the second meeting", "the 3rd floor"."""
    word = source.word(end)
    if not word.isalpha():
        return False
    if word in ("week", "month", "day", "quarter", "year", "time", "floor", "place", "hour"):
        return True
    return word not in STOPS and not source.digits(start)


def month_days(today: date, dom: int) -> tuple[date, ...]:
    """The next and the previous such day of a month."""
    first = today.replace(day=1)
    months = [m for k in range(3) if (m := add_months(first, k))]
    future = (d for m in months if (d := make_date(m.year, m.month, dom)) and d >= today)
    months = [m for k in range(3) if (m := add_months(first, -k))]
    past = (d for m in months if (d := make_date(m.year, m.month, dom)) and d < today)
    return tuple(d for d in (next(future, None), next(past, None)) if d)


def next_month_day(today: date, dom: int) -> date | None:
    """The next such day of a month, today included; None if the next months lack it."""
    found = month_days(today, dom)
    return found[0] if found and found[0] >= today else None


def nth_weekday_of(source: Source, i: int) -> Found[Day] | None:
    """Reads "first monday of next month", "last friday in may", "third thursday of november"."""
    start = source.skip(i, "the")
    n = (-1, start + 1) if source.word(start) == "last" else numbers.ordinal(source, start)
    if n is None or not -1 <= n[0] <= 5:
        return None
    target = WEEKDAYS.get(source.word(n[1]))
    if target is None or source.word(n[1] + 1) not in ("of", "in"):
        return None
    return weekday_in_month(source, n[1] + 2, target, n[0])


def weekday_in_month(source: Source, i: int, target: int, n: int) -> Found[Day] | None:
    """The n-th such weekday of the month named at ``i``."""
    return _in_month(source, i, lambda year, month: nth_weekday(year, month, target, n))


def nth_day_of(source: Source, i: int) -> Found[Day] | None:
    """Reads "the first day of next month", "the last day of the year", "15th of next month"."""
    start = source.skip(i, "the")
    n = (-1, start + 1) if source.word(start) == "last" else numbers.ordinal(source, start)
    if n is None:
        return None
    named_day = source.word(n[1]) == "day"
    j = n[1] + 1 if named_day else n[1]
    if n[0] < 0 and not named_day:
        return None
    if source.word(j) not in ("of", "in"):
        side_month = SIDES.get(source.word(j)) and source.word(j + 1) == "month"
        return _in_month(source, j, lambda y, m: _dom_date(y, m, n[0])) if side_month else None
    k = source.skip(j + 1, "the")
    if named_day and source.word(source.skip(k, "this", "next", "last")) == "year":
        year = source.today.year + {"next": 1, "last": -1}.get(source.word(k), 0)
        found = make_date(year, 12, 31) if n[0] < 0 else add_days(date(year, 1, 1), n[0] - 1)
        return (Day(date=found), source.skip(k, "this", "next", "last") + 1) if found else None
    return _in_month(source, j + 1, lambda y, m: _dom_date(y, m, n[0]))


def _dom_date(year: int, month: int, dom: int) -> date | None:
    if dom > 0:
        return make_date(year, month, dom)
    first = make_date(year, month, 1)
    after = first and add_months(first, 1)
    return after and add_days(after, -1)


def _in_month(source: Source, i: int, rule: Callable[[int, int], date | None]) -> Found[Day] | None:
    """A day that a rule picks in the month named at ``i``."""
    j = source.skip(i, "the")
    word = source.word(j)
    side = SIDES.get(word)
    if word == "month" or (side and source.word(j + 1) == "month"):
        step = {"next": 1, "coming": 1, "last": -1, "past": -1}.get(side or "", 0)
        first = add_months(source.today.replace(day=1), step)
        found = first and rule(first.year, first.month)
        return (Day(date=found), j + (1 if word == "month" else 2)) if found else None
    named = month_at(source, j)
    if named is None:
        return None
    late = year_after(source, named[1])
    if late:
        found = rule(late[0], named[0])
        return (Day(date=found), late[1]) if found else None
    dates = on_or_after(source.today, lambda year: rule(year, named[0]))
    return (Day(date=dates[0], others=dates[1:], open="year"), named[1]) if dates else None
