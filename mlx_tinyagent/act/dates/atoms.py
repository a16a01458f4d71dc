"""The first pass: every stretch of text that names one thing about time, left to right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mlx_tinyagent.act.dates import clock_ranges, clocks, day_parts, lengths, numbers
from mlx_tinyagent.act.dates.calendar import add_days, make_date
from mlx_tinyagent.act.dates.days import day
from mlx_tinyagent.act.dates.holidays import NAMES
from mlx_tinyagent.act.dates.lengths import UNITS
from mlx_tinyagent.act.dates.month_days import weekday_in_month
from mlx_tinyagent.act.dates.names import MONTHS, SIDES, WEEKDAYS, stands_alone
from mlx_tinyagent.act.dates.parts import (
    Day,
    Expression,
    PartOfDay,
    Period,
    on_or_after,
    settle,
)
from mlx_tinyagent.act.dates.periods import EDGES, period
from mlx_tinyagent.act.dates.relative import relative
from mlx_tinyagent.act.dates.source import Found, Source

# Without one of these words among the first few, nothing temporal starts.
CORE = (
    frozenset(MONTHS)
    | frozenset(WEEKDAYS)
    | frozenset(UNITS)
    | frozenset(day_parts.NAMED)
    | frozenset(day_parts.MEALS)
    | day_parts.PARTS.openers
    | NAMES.openers
    | numbers.WORDS
    | frozenset(
        [
            "today",
            "tomorrow",
            "yesterday",
            "otd",
            "overmorrow",
            "date",
            "tonight",
            "weekend",
            "weekends",
            "workweek",
            "quarter",
            "half",
            "couple",
            "few",
            "several",
            "now",
            "asap",
            "immediately",
            "presently",
            "present",
            "moment",
            "possible",
            "away",
            "time",
            "eod",
            "cob",
            "eow",
            "eom",
            "eoq",
            "eoy",
            "ytd",
            "cy",
            "q",
            "h",
            "w",
            "t",
            "mid",
            "noonish",
            "middayish",
            "century",
            "wk",
            "qtr",
            "am",
            "pm",
            "all",
            "½",
            "¼",
            "¾",
        ]
    )
)
# Other words that an expression may start with.
_LEADS = (
    frozenset(SIDES)
    | frozenset(EDGES)
    | frozenset(
        [
            "the",
            "a",
            "an",
            "at",
            "in",
            "on",
            "from",
            "between",
            "btw",
            "btwn",
            "for",
            "by",
            "around",
            "about",
            "circa",
            "approximately",
            "@",
            "after",
            "within",
            "during",
            "over",
            "til",
            "till",
            "this",
            "just",
            "right",
            "straight",
            "as",
            "final",
            "working",
            "business",
            "work",
            "calendar",
        ]
    )
)
_WINDOW = 5  # words
# Places in a text where reading is tried. Far more than any request has; it bounds the
# time that a hostile text can take.
_STARTS_MAX = 2_000

_INTO = frozenset(("in", "at", "during", "on", "by", "for"))
_SPAN_WORDS = frozenset(("to", "till", "til", "until", "thru", "through", "and"))


def atoms(source: Source) -> list[Expression]:
    """Longest expressions in order, not overlapping; each word is looked at once per rule."""
    found: list[Expression] = []
    end = 0
    for i in _starts(source):
        best = _longest(source, i) if i >= end else None
        if best:
            found.append(best)
            end = best.last
    return found


def _starts(source: Source) -> list[int]:
    """Positions where an expression may start, judged by the words there and right behind."""
    starts: list[int] = []
    core_at = -1  # the nearest core word at or behind the position
    for i in range(len(source.words) - 1, -1, -1):
        word = source.word(i)
        core = source.digits(i) > 0 or word in CORE or word.endswith("ish")
        if core:
            core_at = i
        if core_at >= 0 and core_at - i < _WINDOW and (core or word in _LEADS):
            starts.append(i)
    return starts[::-1][:_STARTS_MAX]


def _longest(source: Source, i: int) -> Expression | None:
    candidates = (rule(source, i) for rule in _RULES)
    return max((c for c in candidates if c), key=lambda c: c.last, default=None)


def _relative(source: Source, i: int) -> Expression | None:
    found = relative(source, i)
    return found[0] if found else None


def _day(source: Source, i: int) -> Expression | None:
    found = day(source, i)
    return Expression(first=i, last=found[1], day=found[0]) if found else None


def _period(source: Source, i: int) -> Expression | None:
    found = period(source, i)
    if found is None:
        return None
    if isinstance(found[0], Day):
        return Expression(first=i, last=found[1], day=found[0])
    return Expression(first=i, last=found[1], period=found[0])


def _clock(source: Source, i: int) -> Expression | None:
    found = clocks.clock(source, i) or clocks.led_clock(source, i)
    if found is None:
        return None
    return Expression(first=i, last=found[1], clock=found[0])


def _number_clock(source: Source, i: int) -> Expression | None:
    """Reads "nine thirty", "3 30" or a lone "3", which count right behind a day only."""
    found = clocks.clock_after_at(source, i)
    if found is None or clocks.clock(source, i) or clocks.counts_things(source, found[1]):
        return None
    if found[0].bare and not (source.digits(i) and stands_alone(source, i)):
        return None
    return Expression(first=i, last=found[1], clock=found[0], weak=True)


def _clock_range(source: Source, i: int) -> Expression | None:
    found = clock_ranges.clock_range(source, i)
    if found is None:
        return None
    return Expression(first=i, last=found[1], clocks=found[0], weak=found[0].bare)


def _part(source: Source, i: int) -> Expression | None:
    """Reads "in the evening", "this morning", "tonight", "last night", "next evening"."""
    word = source.word(i)
    if word == "tonight":
        return Expression(first=i, last=i + 1, day=Day(date=source.today), part=day_parts.NIGHT)
    side = SIDES.get(word)
    if side:
        named = day_parts.part_of_day(source, i + 1)
        moved = add_days(source.today, {"next": 1, "last": -1, "past": -1}.get(side, 0))
        if named is None or moved is None:
            return None
        return Expression(first=i, last=named[1], day=Day(date=moved), part=named[0])
    meal = day_parts.MEALS.get(source.word(i + 1)) if word in ("at", "over", "during") else None
    if meal:
        return Expression(first=i, last=i + 2, part=meal)
    j = i + 1 if word in _INTO else i
    named = day_parts.part_of_day(source, source.skip(j, "the"))
    if named is None:
        return _half_day(source, i)
    return Expression(first=i, last=named[1], part=named[0])


def _half_day(source: Source, i: int) -> Expression | None:
    """Reads "am" or "pm" beside a day: "today pm"; it needs the day to count."""
    part = {"am": day_parts.MORNING, "pm": day_parts.AFTERNOON}.get(source.word(i))
    return Expression(first=i, last=i + 1, part=part, weak=True) if part else None


def _clock_in_part(source: Source, i: int) -> Expression | None:
    """A bare number beside a part of day: "10, tonight", "one in the morning"."""
    start = source.skip(i, "at", "around")
    span = clock_ranges.clock_range(source, i)
    if span:
        beside = _part_beside(source, span[1])
        if beside is None:
            return None
        fixed = clock_ranges.settle_range(span[0], beside[0])
        return Expression(first=i, last=beside[1], clocks=fixed, day=_today_of(source, span[1]))
    ahead = _part_then_number(source, i)
    if ahead:
        return ahead
    found = clocks.clock_after_at(source, start)
    beside = _part_beside(source, found[1]) if found else None
    if found is None or beside is None:
        return None
    return Expression(
        first=i,
        last=beside[1],
        clock=settle(found[0], beside[0]),
        part=beside[0],
        day=_today_of(source, found[1]),
    )


def _part_then_number(source: Source, i: int) -> Expression | None:
    """Reads "tonight 8", "in the morning 9", "morning at 7": the number is a clock of that part."""
    named = _part(source, i)
    if named is None or named.part is None or named.weak:
        return None
    found = clocks.clock_after_at(source, source.skip(named.last, ",", "at", "around", "@"))
    if found is None or clock_ranges.clock_range(source, named.last):
        return None
    plain = found[0].bare and source.word(found[1] - 1).isalpha() and found[1] == named.last + 1
    if plain or (found[0].bare and clocks.counts_things(source, found[1])):
        return None
    return Expression(
        first=i, last=found[1], clock=settle(found[0], named.part), part=named.part, day=named.day
    )


def _split_weekday(source: Source, i: int) -> Expression | None:
    """Reads "first monday 1pm to 3pm of next month": a time set into the name of its day."""
    start = source.skip(i, "the")
    ranked = (-1, start + 1) if source.word(start) == "last" else numbers.ordinal(source, start)
    target = WEEKDAYS.get(source.word(ranked[1])) if ranked else None
    if ranked is None or target is None:
        return None
    k = source.skip(ranked[1] + 1, "at")
    timed = _clock_range(source, k) or _clock(source, k) or _part(source, k)
    if timed is None or timed.day or source.word(timed.last) not in ("of", "in"):
        return None
    named = weekday_in_month(source, timed.last + 1, target, ranked[0])
    return replace(timed, first=i, last=named[1], day=named[0], weak=False) if named else None


def _part_beside(source: Source, i: int) -> Found[PartOfDay] | None:
    """The part of day right behind a number: "in the morning", ", tonight", "this evening"."""
    j = source.skip(i, ",")
    if source.word(j) == "tonight":
        return day_parts.NIGHT, j + 1
    if source.word(j) in ("in", "at") or source.word(j) == "this":
        return day_parts.part_of_day(source, source.skip(j + 1, "the"))
    return None


def _today_of(source: Source, i: int) -> Day | None:
    j = source.skip(i, ",")
    return Day(date=source.today) if source.word(j) in ("tonight", "this") else None


def _length(source: Source, i: int) -> Expression | None:
    """Reads "for an hour", "90 minutes", "all day"."""
    j = source.skip(i, "for")
    j = source.skip(j, "about", "around", "another", "only") if j > i else j
    found = lengths.length(source, j)
    if found is None:
        return None
    return Expression(first=i, last=found[1], length=found[0])


def _day_span(source: Source, i: int) -> Expression | None:
    """Reads "november 19-20", "april ninth through seventeenth", "9 to 12 of june 2020"."""
    lead = source.word(i)
    j = i + 1 if lead in ("from", "between", "on") else i
    found = _month_then_days(source, j) or _days_then_month(source, j)
    return Expression(first=i, last=found[1], period=found[0]) if found else None


def _dom(source: Source, i: int) -> Found[int] | None:
    j = source.skip(i, "the")
    found = numbers.ordinal(source, j)
    if found is None and source.digits(j) <= 2:
        found = numbers.cardinal(source, j)
    return found if found and 1 <= found[0] <= 31 else None


def _second(source: Source, i: int) -> Found[int] | None:
    """The second day of a span behind its dash or "to"."""
    return _dom(source, i + 1) if source.dash(i) or source.word(i) in _SPAN_WORDS else None


def _month_then_days(source: Source, i: int) -> Found[Period] | None:
    month = MONTHS.get(source.word(i))
    first = _dom(source, source.skip(i + 1, ".")) if month else None
    second = _second(source, first[1]) if first else None
    if month is None or first is None or second is None:
        return None
    k = second[1]
    if source.word(k) in ("am", "pm", ":", "/", "of") or source.word(k) in MONTHS:
        return None
    late = numbers.year(source, source.skip(k, ","))
    return _span(source, month, first[0], second[0], late, k)


def _days_then_month(source: Source, i: int) -> Found[Period] | None:
    first = _dom(source, i)
    second = _second(source, first[1]) if first else None
    of = source.skip(second[1], "of") if second else 0
    month = MONTHS.get(source.word(of))
    if first is None or second is None or month is None:
        return None
    late = numbers.year(source, source.skip(of + 1, ","))
    return _span(source, month, first[0], second[0], late, of + 1)


def _span(
    source: Source, month: int, first: int, second: int, year: Found[int] | None, end: int
) -> Found[Period] | None:
    if year:
        start = make_date(year[0], month, first)
    else:
        dates = on_or_after(source.today, lambda y: make_date(y, month, first))
        start = dates[0] if dates else None
    late = start and make_date(start.year, month, second)
    if start is None or late is None or late <= start:
        return None
    found = Period(start=start, end=late, open="nothing" if year else "year")
    return found, year[1] if year else end


_RULES: tuple[Callable[[Source, int], Expression | None], ...] = (
    _split_weekday,
    _clock_in_part,
    _clock_range,
    _day_span,
    _relative,
    _day,
    _period,
    _clock,
    _number_clock,
    _part,
    _length,
)
