"""Ranges of days: "week of the 18th", "last week of july", "next 3 days", "end of the month"."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from mlx_tinyagent.act.dates import numbers
from mlx_tinyagent.act.dates.calendar import Length, add_days, add_months, add_workdays
from mlx_tinyagent.act.dates.days import day
from mlx_tinyagent.act.dates.lengths import UNITS, length, unit
from mlx_tinyagent.act.dates.names import SIDES, Side
from mlx_tinyagent.act.dates.parts import Day, Period, days_from
from mlx_tinyagent.act.dates.source import Found, Source
from mlx_tinyagent.act.dates.units import unit_period, whole

EDGES = {
    "end": "end", "ending": "end", "close": "end", "late": "end", "later": "late",
    "beginning": "start", "start": "start", "early": "early", "earlier": "earlier",
    "middle": "mid", "mid": "mid", "rest": "rest", "remainder": "rest", "remaining": "rest",
}  # fmt: skip


def period(source: Source, i: int) -> Found[Period | Day] | None:
    """The longest range of days at ``i``; an edge of one ("end of the month") is a day."""
    return source.once("period", i, lambda: _period(source, i))


def _period(source: Source, i: int) -> Found[Period | Day] | None:
    return (
        _edge(source, i)
        or _week_of(source, i)
        or _nth_of(source, i)
        or _counted_range(source, i)
        or whole(source, i)
    )


def _week_of(source: Source, i: int) -> Found[Period] | None:
    """Reads "the week of the 18th", "week beginning february 4", "w/c feb 4"."""
    j = source.skip(i, "the")
    if source.word(j) == "w" and source.word(j + 1) == "/" and source.word(j + 2) in ("c", "o"):
        k = j + 3
    elif source.word(j) == "week" and source.word(j + 1) in (
        "of", "beginning", "commencing", "starting",
    ):  # fmt: skip
        k = source.skip(j + 2, "on")
    else:
        return None
    named = day(source, k)
    if named is None:
        return None
    found = unit_period(named[0].date, "week", 0)
    return (replace(found, open=named[0].open), named[1]) if found else None


def _nth_of(source: Source, i: int) -> Found[Period] | None:
    """Reads "the last week of july", "3rd week of Jan", "the first 2 weeks of 2021"."""
    j = source.skip(i, "the")
    n = (-1, j + 1) if source.word(j) in ("last", "final") else numbers.ordinal(source, j)
    if n is None:
        return None
    count, k = 1, n[1]
    many = numbers.cardinal(source, k)
    if many and unit(source, many[1]):
        count, k = many
    name = source.word(k).rstrip("s")
    if name not in ("week", "day", "weekend", "month") or source.word(k + 1) not in ("of", "in"):
        return None
    outer = whole(source, k + 2)
    if outer is None or not 1 <= count <= 366:
        return None
    found = _slice(outer[0], name, n[0], count)
    return (found, outer[1]) if found else None


def _slice(outer: Period, name: str, nth: int, count: int) -> Period | None:
    """Some weeks, days or months counted inside a period; weeks belong where Thursday lies."""
    if name == "month":
        first = add_months(outer.end, -count) if nth < 0 else add_months(outer.start, nth - 1)
        end = first and add_months(first, count)
        return Period(start=first, end=end) if first and end else None
    if name == "day":
        first = add_days(outer.end, -count) if nth < 0 else add_days(outer.start, nth - 1)
        return days_from(first, count) if first else None
    if nth < 0:
        last_thursday = add_days(outer.end, -1 - (outer.end.weekday() - 4) % 7)
        monday = last_thursday and add_days(last_thursday, -3 - 7 * (count - 1))
    else:
        first_thursday = add_days(outer.start, (3 - outer.start.weekday()) % 7)
        monday = first_thursday and add_days(first_thursday, -3 + 7 * (nth - 1))
    start = monday and (add_days(monday, 5) if name == "weekend" else monday)
    return days_from(start, 2 if name == "weekend" else 7 * count, name) if start else None


def _counted_range(source: Source, i: int) -> Found[Period] | None:
    """Reads "the next two days", "past 3 weeks", "3 next weeks", "2 upcoming months"."""
    j = source.skip(i, "the")
    side = SIDES.get(source.word(j))
    if side is not None:
        found = length(source, j + 1)
        if found is None or found[0].timed or source.word(j + 1) in ("a", "an", "half"):
            return None
        return _days_ahead(source.today, side, found, quarters=_quarters(source, found[1] - 1))
    many = numbers.cardinal(source, j)
    inner = SIDES.get(source.word(many[1])) if many else None
    base = UNITS.get(source.word(many[1] + 1)) if many and inner else None
    if many is None or inner is None or base is None or base.timed:
        return None
    if many[0] > 1 and not source.word(many[1] + 1).endswith("s"):
        return None  # "only 3 next week"
    n = many[0]
    total = Length(months=base.months * n, days=base.days * n, workdays=base.workdays * n)
    end = many[1] + 2
    return _days_ahead(source.today, inner, (total, end), quarters=_quarters(source, end - 1))


def _quarters(source: Source, i: int) -> bool:
    return source.word(i) in ("quarter", "quarters")


def _days_ahead(
    today: date, side: Side, found: Found[Length], *, quarters: bool
) -> Found[Period] | None:
    """A number of units from tomorrow on, or up to yesterday; quarters count whole."""
    total, end = found
    if side in ("last", "past"):
        anchor, sign = today, -1
    else:
        anchor, sign = add_days(today, 1) or today, 1
    if quarters:
        this = unit_period(today, "quarter", 0)
        if this is None:
            return None
        anchor = this.start if sign < 0 else this.end
    far: date | None = add_months(anchor, sign * total.months)
    far = far and add_days(far, sign * total.days)
    if total.workdays:  # counted from today, so that the last one is included
        last = add_workdays(today, sign * total.workdays)
        far = last and (add_days(last, 1) if sign > 0 else last)
    if far is None:
        return None
    return Period(start=min(anchor, far), end=max(anchor, far)), end


def _edge(source: Source, i: int) -> Found[Period | Day] | None:
    """Reads "end of the month", "early next week", "later this year", "rest of the week", "eom"."""
    short = {"eow": "week", "eom": "month", "eoq": "quarter", "eoy": "year"}.get(source.word(i))
    if short:
        this = unit_period(source.today, short, 0)
        return (_last_day(this), i + 1) if this else None
    j = source.skip(i, "the")
    if source.word(j) in ("year", "month") and source.word(j + 1) == "end":
        this = unit_period(source.today, source.word(j), 0)
        return (_last_day(this), j + 2) if this else None
    edge = EDGES.get(source.word(j))
    if edge is None:
        return _to_date(source, j)
    of = ("of",) if edge in ("end", "start") else ("of", "in")
    k = j + 2 if source.dash(j + 1) else source.skip(j + 1, *of)
    outer = whole(source, k)
    if outer is None and source.word(k) in ("week", "month", "year", "quarter"):
        this = unit_period(source.today, source.word(k), 0)
        outer = (this, k + 1) if this else None
    if outer is None:
        return None
    found = _cut(outer[0], edge, source.today)
    return (found, outer[1]) if found else None


def _to_date(source: Source, i: int) -> Found[Period] | None:
    """Reads "year to date", "ytd"."""
    if source.word(i) == "ytd":
        end = i + 1
    elif source.word(i) == "year" and [source.word(i + 1), source.word(i + 2)] == ["to", "date"]:
        end = i + 3
    else:
        return None
    return Period(start=source.today.replace(month=1, day=1), end=source.today), end


def _last_day(outer: Period) -> Day:
    """The last day of a period; of a week, the last working day."""
    last = add_days(outer.end, -3 if outer.unit == "week" else -1) or outer.start
    return Day(date=last, open="year" if outer.open == "year" else "nothing", bound=outer.end)


def _cut(outer: Period, edge: str, today: date) -> Period | Day | None:
    """The edge or the share of a period that a word names."""
    if edge == "end":
        return _last_day(outer)
    if edge == "start":
        return Day(date=outer.start)
    if edge == "rest":
        return replace(outer, start=max(outer.start, today))
    if edge == "earlier":
        end = _middle(outer) if outer.unit == "month" else min(today, outer.end)
        return replace(outer, end=max(end, outer.start))
    if edge == "late":
        middle = _middle(outer)
        return replace(outer, start=max(middle, today) if today < outer.end else middle)
    if edge == "early":
        return replace(outer, end=_middle(outer))
    third = (outer.end - outer.start).days // 3
    first = add_days(outer.start, 9 if outer.unit == "month" else third)
    last = add_days(outer.start, 20) if outer.unit == "month" else add_days(outer.end, -third)
    return Period(start=first, end=last) if first and last else None


def _middle(outer: Period) -> date:
    """Where the second half of a period begins: Thursday, the 16th, 1 July."""
    if outer.unit == "year":
        return outer.start.replace(month=7)
    days = {"week": 3, "month": 15}.get(outer.unit, (outer.end - outer.start).days // 2)
    return add_days(outer.start, days) or outer.end
