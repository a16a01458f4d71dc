"""The second pass: neighbors that speak of one moment become one expression."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime

from mlx_tinyagent.act.dates.atoms import atoms
from mlx_tinyagent.act.dates.calendar import add_days, add_months, make_date, week_start
from mlx_tinyagent.act.dates.clock_ranges import settle_range
from mlx_tinyagent.act.dates.parts import (
    ClockRange,
    Day,
    Expression,
    Period,
    settle,
    with_year,
)
from mlx_tinyagent.act.dates.source import Source

_CONNECTORS = frozenset(
    ("at", "on", "in", "the", ",", "for", "of", "(", ")", "from", "starting", "beginning", "@",
     "around", "about", "s", "t", "during", "and", ".")
)  # fmt: skip
_TO = frozenset(("to", "till", "til", "until", "thru", "through"))
_GAP_MAX = 3  # words


def expressions(source: Source) -> list[Expression]:
    """All expressions of a text in order, neighbors joined, those that count for nothing gone."""
    joined: list[Expression] = []
    for atom in atoms(source):
        previous = joined[-1] if joined else None
        merged = _beside(source, previous, atom) if previous else None
        if merged:
            joined[-1] = merged
        else:
            joined.append(atom)
    return _spans(source, [e for e in joined if not e.weak])


def _beside(source: Source, a: Expression, b: Expression) -> Expression | None:
    """The union of two neighbors with nothing but connecting words between."""
    gap = range(a.last, b.first)
    if len(gap) > _GAP_MAX:
        return None
    words = [source.word(k) for k in gap]
    dashed = len(words) == 1 and source.dash(a.last) and (a.dated and not b.dated)
    if not dashed and not all(word in _CONNECTORS for word in words):
        return None
    if "and" in words and not (b.length and not a.length):
        return None
    if "." in words and (len(words) > 1 or source.words[a.last].end != source.words[b.first].start):
        return None  # a full stop ends the sentence
    whole_phrase = a.first == 0 and b.last == len(source.words) and words == ["on"]
    if a.weak and a.clock and (a.clock.bare or words) and not whole_phrase:
        return None  # "3 on friday" may count anything; "friday 3", "9.30 tomorrow" are times
    if b.weak and b.clock and not a.day:
        return None
    if (a.length and not (b.timed or b.length)) or (b.length and not a.timed):
        return None  # "9 May for 2 nights" names a day and, apart, a duration
    return combine(a, b)


def combine(a: Expression, b: Expression) -> Expression | None:
    """Everything two expressions say, or None where they contradict or repeat each other."""
    if a.moment or b.moment:
        return None
    if (a.length and b.length) or (a.clock and b.clock) or (a.clocks and b.clocks):
        return None
    if (a.clock and b.clocks) or (a.clocks and b.clock):
        return None
    if a.part and b.part and a.part.name != b.part.name:
        return None
    days = _numbered_days(a, b)
    if days:
        return Expression(first=min(a.first, b.first), last=max(a.last, b.last), period=days)
    when = _when(a, b)
    if when is None:
        return None
    day, period = when
    clock, clocks, part = a.clock or b.clock, a.clocks or b.clocks, a.part or b.part
    if clock and day and day.form == "iso":
        clock = clock.fixed(clock.hour)
    if part and clock:
        clock = settle(clock, part)
    if part and clocks:
        clocks = settle_range(clocks, part)
    return Expression(
        first=min(a.first, b.first),
        last=max(a.last, b.last),
        day=day,
        period=period,
        clock=clock and replace(clock, bare=False),
        clocks=clocks,
        part=part,
        length=a.length or b.length,
        weak=a.weak and b.weak,
    )


def _numbered_days(a: Expression, b: Expression) -> Period | None:
    """Reads "from 4-23 in next month": two bare numbers beside a month are its days."""
    clocks, month = a.clocks or b.clocks, a.period or b.period
    if not (clocks and month and month.unit == "month" and clocks.start.bare and clocks.end.bare):
        return None
    start, end = (
        make_date(month.start.year, month.start.month, hour)
        for hour in (clocks.start.hour, clocks.end.hour)
    )
    return Period(start=start, end=end) if start and end and start < end else None


def _when(a: Expression, b: Expression) -> tuple[Day | None, Period | None] | None:
    """The day or period that two expressions name together; None if they disagree."""
    if a.day and b.day:
        same = _same_day(a.day, b.day)
        return (same, None) if same else None
    if a.period and b.period:
        return None
    day, period = a.day or b.day, a.period or b.period
    if day is None or period is None:
        return day, period
    inside = day_in(day, period)
    return (inside, None) if inside else None


def _same_day(a: Day, b: Day) -> Day | None:
    """Two names of one day: "friday ... the 26th" where the 26th is a Friday."""
    if a.date == b.date:
        return b if a.open == "weekday" else a
    if a.open == "weekday" and a.date.weekday() == b.date.weekday() and b.open != "weekday":
        return b
    if b.open == "weekday" and a.date.weekday() == b.date.weekday() and a.open != "weekday":
        return a
    return None


def day_in(day: Day, period: Period) -> Day | None:
    """A day settled by the period around it: "monday ... next week", "the 5th ... next month"."""
    if day.open == "weekday" and period.unit in ("week", "weekend", "workweek"):
        found = add_days(week_start(period.start), day.date.weekday())
        return Day(date=found) if found else None
    if day.open == "month" and period.unit == "month":
        found = make_date(period.start.year, period.start.month, day.date.day)
        return Day(date=found) if found else None
    if day.open == "year" and period.unit == "year":
        return with_year(day, period.start.year)
    return day if period.start <= day.date < period.end else None


def _spans(source: Source, found: list[Expression]) -> list[Expression]:
    """Joins "X to Y" and "between X and Y" where both ends are expressions."""
    result: list[Expression] = []
    for expression in found:
        previous = result[-1] if result else None
        span = _span(source, previous, expression) if previous else None
        if span:
            result[-1] = span
        else:
            result.append(expression)
    return result


def _span(source: Source, a: Expression, b: Expression) -> Expression | None:
    if b.first - a.last != 1 or a.until or a.length or b.length:
        return None
    lead = source.word(a.first - 1)
    mark = source.word(a.last)
    if not (mark in _TO or source.dash(a.last) or (mark == "and" and lead == "between")):
        return None
    first = a.first - 1 if lead in ("from", "between") else a.first
    if a.clock or b.clock or (a.moment and b.moment):
        return _timed_span(source, a, b, first)
    if a.moment == source.now and b.day and b.day.date > source.today and not b.timed:
        ahead = Period(start=source.today, end=b.day.date)
        return Expression(first=first, last=b.last, period=ahead)
    if a.timed or b.timed:
        return _up_to_now(source, a, first, b.last) if b.moment == source.now else None
    return _dated_span(a, b, first)


def _dated_span(a: Expression, b: Expression, first: int) -> Expression | None:
    """A range of days between two days or periods; the second one's first day ends it."""
    start, end = _edge(a), _edge(b)
    if start is None or end is None:
        return None
    opened, late = _openness(a), _openness(b)
    if late == "month" and opened == "year" and b.day:
        months = (add_months(start.replace(day=1), k) for k in range(2))
        later = (make_date(m.year, m.month, end.day) for m in months if m)
        end = next((d for d in later if d and d > start), end)
    elif late == "weekday" and b.day:
        ahead = (end.weekday() - start.weekday()) % 7 or 7
        end = add_days(start, ahead) or end
    elif opened == "year" and late != "year" and not (a.period and a.period.open != "year"):
        start = _year_back(start, end)
    elif opened == "year" and end < start:
        start = make_date(start.year - 1, start.month, start.day) or start
    elif opened == "month" and end < start:
        start = add_days(start, -28) or start
    if late == "year" and end < start:
        end = (
            make_date(
                start.year + (end.month, end.day).__lt__((start.month, start.day)),
                end.month,
                end.day,
            )
            or end
        )
    if end < start:
        return None
    opening = "year" if opened == "year" and late == "year" else "nothing"
    period = Period(start=start, end=end, open="year" if opening == "year" else "nothing")
    return Expression(first=first, last=b.last, period=period)


def _up_to_now(source: Source, a: Expression, first: int, last: int) -> Expression | None:
    """Reads "between Jan 22 and now": from the last such day to today."""
    start = _edge(a)
    if start and start > source.today and _openness(a) == "year":
        start = _year_back(start, source.today)
    if a.timed or start is None or start > source.today:
        return None
    return Expression(first=first, last=last, period=Period(start=start, end=source.today))


def _edge(e: Expression) -> date | None:
    return (e.day.bound or e.day.date) if e.day else e.period.start if e.period else None


def _openness(e: Expression) -> str:
    return e.day.open if e.day else e.period.open if e.period else "nothing"


def _year_back(start: date, end: date) -> date:
    """The open date put in the year of the end, or the year before if that is too late."""
    same = make_date(end.year, start.month, start.day)
    if same and same <= end:
        return same
    return make_date(end.year - 1, start.month, start.day) or start


def _timed_span(source: Source, a: Expression, b: Expression, first: int) -> Expression | None:
    """A range between two moments: "tomorrow 3pm to friday 5pm", "now to eight o'clock"."""
    if a.clocks or b.clocks or a.part or b.part or not (a.timed and b.timed):
        return None
    if a.day and a.clock and b.clock and not b.day:
        span = ClockRange(start=a.clock, end=b.clock)
        return Expression(first=first, last=b.last, day=a.day, clocks=span)
    start = _moment(source, a, b)
    if start is None:
        return None
    end = _end(b, start)
    if end is None or end < start:
        return None
    return Expression(first=first, last=b.last, moment=start, until=end)


def _moment(source: Source, a: Expression, b: Expression) -> datetime | None:
    if a.moment:
        return a.moment
    if a.clock is None:
        return None
    if a.day:
        return datetime.combine(a.day.date, a.clock.readings[0])
    if b.moment:  # "between eight o'clock and now": the last eight o'clock
        readings = [datetime.combine(source.today, t) for t in a.clock.readings]
        return next((r for r in sorted(readings, reverse=True) if r <= b.moment), None)
    if b.day:
        return datetime.combine(source.today, a.clock.readings[0])
    return None


def _end(b: Expression, start: datetime) -> datetime | None:
    if b.moment:
        return b.moment
    if b.clock is None:
        return None
    if b.day:
        return datetime.combine(b.day.date, b.clock.readings[0])
    readings = sorted(datetime.combine(start.date(), t) for t in b.clock.readings)
    later = [r for r in readings if r > start]
    if later:
        return later[0]
    following = add_days(start.date(), 1)
    return datetime.combine(following, readings[0].time()) if following else None
