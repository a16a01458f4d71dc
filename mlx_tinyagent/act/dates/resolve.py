"""Phrases to local dates: the public face of the package."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Literal

from mlx_tinyagent.act.dates.calendar import add_days, shift
from mlx_tinyagent.act.dates.clocks import clock_after_at
from mlx_tinyagent.act.dates.joins import combine, expressions
from mlx_tinyagent.act.dates.leftover import EARLY, LATE, unread
from mlx_tinyagent.act.dates.month_days import day_of_month
from mlx_tinyagent.act.dates.names import MONTH_NAMES, MONTHS
from mlx_tinyagent.act.dates.parts import Clock, ClockRange, Expression, month_period
from mlx_tinyagent.act.dates.source import Source

Kind = Literal["date", "time", "datetime", "daterange", "timerange", "datetimerange", "duration"]

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = tuple(name.split()[0].capitalize() for name in MONTH_NAMES.split("|"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One more meaning an expression may have.

    Attributes:
        start: Local start.
        end: Local end, where the expression has one.
    """

    start: datetime
    end: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a phrase means at a given moment. Times are naive and local.

    Attributes:
        kind: What was said: a day, a clock, both, a range of either, or a mere duration.
        start: The meaning, or its first moment; midnight for days without a clock. For
            a duration alone it is ``now``, which is then no meaning.
        end: End of a range or of start plus duration; exclusive for ranges of days
            (a week ends on the following Monday), 23:59:59 for stretches up to midnight.
        has_date: Whether the text says the day. Without it the next such time counts.
        has_time: Whether the text says the time.
        duration: Length that the text states ("for an hour"); a month counts 30 days.
        text: The text it was read from, first to last word.
        span: Where that text stands.
        alternatives: Other readings, such as the other half of the day for "at 3".
        unread: Words of the phrase that were left out and may change its meaning, the first
            stretch of them: see :func:`mlx_tinyagent.act.dates.leftover.unread`. Empty in
            what :func:`find` gives, which leaves out the rest of the text.
    """

    kind: Kind
    start: datetime
    end: datetime | None
    has_date: bool
    has_time: bool
    duration: timedelta | None
    text: str
    span: tuple[int, int]
    alternatives: tuple[Reading, ...] = ()
    unread: str = ""


def find(text: str, now: datetime) -> list[Resolved]:
    """All temporal expressions of a text in order; only neighbors are joined.

    Args:
        text: Any text.
        now: Local time that relative words count from.

    Returns:
        One result per expression, with its place in the text.
    """
    source = Source(text, now)
    found = (_resolved(source, e) for e in expressions(source))
    return [r for r in found if r]


def resolve(phrase: str, now: datetime) -> Resolved | None:
    """The one moment or range a phrase speaks of.

    Parts that stand apart are put together ("3pm meeting with Bob tomorrow"). Text in
    double quotes is a title and counts only where nothing else does. Where several
    moments are named, the most complete one counts, and of equals the first.

    Hours without "am" or "pm" follow office hours: 8 to 11 are in the morning, 12 is
    noon, 1 to 7 are after noon, unless a part of day or a word such as "dinner" says
    otherwise; the other half of the day is an alternative. A time without a day is
    the next such time. Numeric dates are month first. For weekdays see
    :func:`mlx_tinyagent.act.dates.weekdays.weekday`.

    Args:
        phrase: A phrase, a whole request, or an ISO 8601 date or date and time.
        now: Local time that relative words count from; a zone is dropped.

    Returns:
        The meaning, or None where the phrase names no moment. A duration alone is
        not a moment; :func:`find` gives it.
    """
    source = Source(phrase, now)
    group = _group(source)
    if group:
        return _resolved(source, _hinted(source, group[0]), group[1])
    whole = _whole_phrase(source)
    return _resolved(source, _hinted(source, whole), (whole,)) if whole else None


def covering_span(text: str, now: datetime) -> str | None:
    """The smallest piece of a text with all the words that :func:`resolve` reads.

    Args:
        text: A request.
        now: Local time that relative words count from.

    Returns:
        The substring, or None where the text names no moment.
    """
    found = resolve(text, now)
    return found.text if found else None


def describe(dt: datetime, now: datetime) -> str:
    """A date and time for people: "Friday 17 May 2024, 15:00" or "today, 15:00".

    Args:
        dt: The moment.
        now: Local time that "today" and "tomorrow" count from.

    Returns:
        English text without regard to the locale; seconds only where there are some.
    """
    days = (dt.date() - now.date()).days
    near = {0: "today, ", 1: "tomorrow, ", -1: "yesterday, "}.get(days, "")
    weekday = _WEEKDAYS[dt.weekday()]
    clock = f"{dt:%H:%M:%S}" if dt.second else f"{dt:%H:%M}"
    return f"{near}{weekday} {dt.day} {_MONTHS[dt.month - 1]} {dt.year}, {clock}"


def _group(source: Source) -> tuple[Expression, tuple[Expression, ...]] | None:
    """The expressions that speak of one moment, together and each: the best run of them."""
    found = expressions(source)
    quoted = _quoted(source)
    outside = [e for e in found if not _inside(quoted, source.words[e.first].start)]
    usable = outside if any(e.dated or e.timed for e in outside) else found
    groups: list[tuple[Expression, tuple[Expression, ...]]] = []
    for expression in usable:
        merged = combine(groups[-1][0], expression) if groups else None
        if merged:
            groups[-1] = merged, (*groups[-1][1], expression)
        else:
            groups.append((expression, (expression,)))
    groups = [g for g in groups if g[0].dated or g[0].timed]
    return max(groups, key=lambda g: _completeness(g[0]), default=None)


def _whole_phrase(source: Source) -> Expression | None:
    """A phrase that is nothing but a number: "3", "twelve thirty", "the 15th"."""
    end = len(source.words)
    clock = clock_after_at(source, 0)
    if clock and clock[1] == end:
        return Expression(first=0, last=end, clock=clock[0])
    dated = day_of_month(source, 0)
    if dated and dated[1] == end:
        return Expression(first=0, last=end, day=dated[0])
    month = MONTHS.get(source.word(0)) if end == 1 else None  # "may" alone can only be the month
    step = 0 if month and month >= source.today.month else 1
    period = month_period(source.today.year + step, month) if month else None
    return Expression(first=0, last=end, period=period) if period else None


def _completeness(e: Expression) -> int:
    """How much an expression says; a whole moment before parts, a day before a period."""
    if e.moment:
        return 2 if e.until is None else 5
    return 2 * bool(e.day) + bool(e.period) + 2 * bool(e.clock or e.clocks) + bool(e.part)


def _quoted(source: Source) -> list[int]:
    """Edges of the stretches in double quotes, alternately opening and closing."""
    marks = [w.start for w in source.words if w.text in ('"', "“", "”", "«", "»")]
    return marks if len(marks) % 2 == 0 else marks[:-1]


def _inside(edges: list[int], at: int) -> bool:
    return bisect_right(edges, at) % 2 == 1


def _hinted(source: Source, e: Expression) -> Expression:
    """An expression whose open hours are settled by the words around it."""
    if e.part or not (e.clock or e.clocks):
        return e
    words = {word.text for word in source.words}
    late, early = bool(words & LATE), bool(words & EARLY)
    if late == early:
        return e
    clock = e.clock and _swapped(e.clock, late=late)
    clocks = e.clocks and ClockRange(
        start=_swapped(e.clocks.start, late=late), end=e.clocks.end, bare=e.clocks.bare
    )
    return replace(e, clock=clock, clocks=clocks)


def _swapped(clock: Clock, *, late: bool) -> Clock:
    """An open clock read in the evening (5 to 11) or the morning (4 to 11)."""
    if not clock.open or not (5 if late else 4) <= clock.hour <= 11:
        return clock
    return replace(clock, lean="evening" if late else "morning")


def _resolved(source: Source, e: Expression, parts: Sequence[Expression] = ()) -> Resolved | None:
    """The result for an expression; None where it falls outside the calendar.

    The parts are what a phrase consists of: what they leave of it counts as unread.
    """
    readings = list(dict.fromkeys(_readings(source, e)))
    if not readings:
        return None
    first, last = _place(source, e)
    kind = _kind(e)
    best = _best(source, e, readings)
    others = tuple(Reading(start=s, end=t) for s, t in readings if (s, t) != best)
    return Resolved(
        kind=kind,
        start=best[0],
        end=best[1],
        has_date=e.dated,
        has_time=e.timed,
        duration=e.length.delta if e.length else None,
        text=source.text[first:last],
        span=(first, last),
        alternatives=others,
        unread=unread(source.text, [_place(source, p) for p in parts]) if parts else "",
    )


def _place(source: Source, e: Expression) -> tuple[int, int]:
    """First and one past the last character of an expression."""
    return source.words[e.first].start, source.words[e.last - 1].end


def _kind(e: Expression) -> Kind:
    if e.moment:
        return "datetimerange" if e.until else "datetime"
    ranged = bool(e.clocks or (e.part and not e.clock) or (e.length and e.clock))
    ranged = ranged or bool(e.period and e.period.unit == "span")
    if e.timed:
        if e.dated:
            return "datetimerange" if ranged else "datetime"
        return "timerange" if ranged else "time"
    if e.dated:
        return "daterange" if e.period or (e.length and not e.length.timed) else "date"
    return "duration"


Pair = tuple[datetime, datetime | None]


def _readings(source: Source, e: Expression) -> Iterator[Pair]:
    """All meanings of an expression: each day with each clock, the likeliest first."""
    if e.moment:
        end = e.until or (shift(e.moment, e.length) if e.length else None)
        yield e.moment, end
    elif not e.timed and e.period:
        yield datetime.combine(e.period.start, time()), datetime.combine(e.period.end, time())
    elif not e.timed and not e.dated and e.length:
        yield source.now, shift(source.now, e.length)
    else:
        for day in _days(source, e):
            for first, last in _times(e) if e.timed else ((time(), None),):
                pair = _placed(source, e, day, first, last)
                if pair:
                    yield pair


def _days(source: Source, e: Expression) -> list[date]:
    """Days an expression may mean; the past ones of an open date do not count."""
    if e.day is None:
        return [e.period.start if e.period else source.today]
    if e.day.open == "nothing":
        return [e.day.date, *e.day.others]
    return [e.day.date, *(d for d in e.day.others if d >= source.today)]


def _times(e: Expression) -> Iterator[tuple[time, time | None]]:
    """Clock readings of an expression with the end of its range."""
    if e.clocks:
        yield from _clock_pairs(e.clocks)
    elif e.clock:
        for reading in e.clock.readings:
            yield reading, None
    elif e.part:
        yield e.part.start, e.part.end


def _clock_pairs(span: ClockRange) -> Iterator[tuple[time, time]]:
    """Starts with the first end after each: "10:30 to 3" is 10:30 to 15:00."""
    for start in span.start.readings:
        ends = sorted(span.end.readings)
        yield start, next((end for end in ends if end > start), ends[0])


def _placed(source: Source, e: Expression, day: date, start: time, end: time | None) -> Pair | None:
    """Times put on a day: the next day where the words mean the coming night."""
    begin = datetime.combine(day, start)
    passed = begin < source.now and (not e.dated or (day == source.today and _nightly(e, start)))
    moved = add_days(day, 1) if passed else day
    if moved is None:
        return None
    begin = datetime.combine(moved, start)
    if end is not None:
        last = moved if end > start else add_days(moved, 1)  # past midnight
        return (begin, datetime.combine(last, end)) if last else None
    if e.period and e.period.unit == "span":  # "for a day starting friday at 5pm"
        return begin, datetime.combine(e.period.end, start)
    return begin, shift(begin, e.length) if e.length else None


def _nightly(e: Expression, start: time) -> bool:
    """Whether a time belongs to the night that follows the day: "tonight at 1am", midnight."""
    night = bool(e.part and e.part.name == "night")
    return (night and start.hour < 5) or bool(e.clock and e.clock.midnight)


def _best(source: Source, e: Expression, readings: list[Pair]) -> Pair:
    """The reading that counts: the first, unless only another is still to come today."""
    first = readings[0]
    open_clock = bool((e.clock and e.clock.open) or (e.clocks and e.clocks.start.open))
    about_today = not e.dated or bool(e.day and e.day.date == source.today and not e.day.form)
    if not (open_clock and about_today):
        return first
    today = [r for r in readings if r[0].date() == source.today and r[0] >= source.now]
    if first in today or not today:
        return first
    evening = [r for r in today if 12 <= r[0].hour < 22]
    return evening[0] if evening else first
