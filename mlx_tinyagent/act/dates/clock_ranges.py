"""Ranges of clocks: "5 to 6pm", "from 2 to 4", "between 3 and 4", "9:00-10:30"."""

from __future__ import annotations

from mlx_tinyagent.act.dates.clocks import clock_after_at, counts_things
from mlx_tinyagent.act.dates.day_parts import part_of_day
from mlx_tinyagent.act.dates.full_dates import full_date
from mlx_tinyagent.act.dates.parts import Clock, ClockRange, PartOfDay, settle
from mlx_tinyagent.act.dates.source import Found, Source

_TO = frozenset(("to", "till", "til", "until", "thru", "through"))


def clock_range(source: Source, i: int) -> Found[ClockRange] | None:
    """Reads "5 to 6pm", "from 2 to 4", "between 3 and 4", "9:00-10:30", "4 - 6:30 pm"."""
    return source.once("clock_range", i, lambda: _clock_range(source, i))


def _clock_range(source: Source, i: int) -> Found[ClockRange] | None:
    j = source.skip(i, "at")
    if source.dash(i - 1) and source.glued(i):
        return None  # the inside of a longer number
    lead = source.word(j)
    led = lead in ("from", "between", "btw", "btwn")
    j = source.skip(j + 1, "at") if led else j
    start = clock_after_at(source, j)
    if start is None or full_date(source, j):
        return None
    opening = part_of_day(source, _skip_in_the(source, start[1]))
    k = opening[1] if opening else start[1]
    if not (
        source.word(k) in _TO or source.dash(k) or (lead[:1] == "b" and source.word(k) == "and")
    ):
        return None
    end = clock_after_at(source, source.skip(k + 1, "at"))
    if (
        end is None
        or counts_things(source, end[1])
        or (source.dash(end[1]) and source.digits(end[1] + 1))
    ):
        return None
    first = settle(start[0], opening[0]) if opening else start[0]
    bare = start[0].bare and end[0].bare and not led
    if bare and source.number(j) is None and not source.dash(k):
        return None if _is_count(source, end[1]) else (_range(first, end[0], bare=True), end[1])
    return _range(first, end[0], bare=bare), end[1]


def _is_count(source: Source, end: int) -> bool:
    return source.word(end).endswith("s")


def _skip_in_the(source: Source, i: int) -> int:
    return source.skip(source.skip(i, "in"), "the")


def _range(start: Clock, end: Clock, *, bare: bool) -> ClockRange:
    """A range whose open ends are settled by a settled one: "5 to 6pm", "11 - 1pm"."""
    if start.open and not end.open and end.hour:
        later = [h for h in (start.hour % 12, start.hour % 12 + 12) if _before(h, start, end)]
        start = start.fixed(later[-1] if later else start.hour % 12)
    elif end.open and not start.open:
        later = [
            h
            for h in (end.hour % 12, end.hour % 12 + 12)
            if h * 60 + end.minute > start.hour * 60 + start.minute
        ]
        end = end.fixed(later[0] if later else end.hour % 12)
    return ClockRange(start=start, end=end, bare=bare)


def _before(hour: int, start: Clock, end: Clock) -> bool:
    return hour * 60 + start.minute < end.hour * 60 + end.minute


def settle_range(span: ClockRange, part: PartOfDay) -> ClockRange:
    """Both ends of a range read inside a part of day."""
    return ClockRange(start=settle(span.start, part), end=settle(span.end, part))
