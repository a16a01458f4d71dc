"""Durations in words: "an hour and a half", "3 hours 30 minutes", "2h", "two weeks"."""

from __future__ import annotations

from fractions import Fraction

from mlx_tinyagent.act.dates.calendar import Length
from mlx_tinyagent.act.dates.numbers import cardinal
from mlx_tinyagent.act.dates.source import Found, Source

_SECOND, _MINUTE, _HOUR = Length(seconds=1), Length(seconds=60), Length(seconds=3600)
_DAY, _WEEK = Length(days=1), Length(days=7)
_MONTH, _YEAR = Length(months=1), Length(months=12)

UNITS: dict[str, Length] = {
    **dict.fromkeys(("second", "seconds", "sec", "secs"), _SECOND),
    **dict.fromkeys(("minute", "minutes", "min", "mins"), _MINUTE),
    **dict.fromkeys(("hour", "hours", "hr", "hrs"), _HOUR),
    **dict.fromkeys(("day", "days", "night", "nights"), _DAY),
    **dict.fromkeys(("week", "weeks", "wk", "wks"), _WEEK),
    **dict.fromkeys(("fortnight", "fortnights"), Length(days=14)),
    **dict.fromkeys(("month", "months", "mo", "mos", "mth", "mths"), _MONTH),
    **dict.fromkeys(("quarter", "quarters"), Length(months=3)),
    **dict.fromkeys(("year", "years", "yr", "yrs"), _YEAR),
    **dict.fromkeys(("decade", "decades"), Length(months=120)),
    **dict.fromkeys(("weekday", "weekdays", "workday", "workdays"), Length(workdays=1)),
}
# One letter is a unit only right behind its number: "2h", "90m", "3d".
_LETTERS = {"h": _HOUR, "m": _MINUTE, "s": _SECOND, "d": _DAY, "w": _WEEK, "y": _YEAR}
_FRACTIONS = {"half": Fraction(1, 2), "quarter": Fraction(1, 4)}
_SIGNS = {"½": Fraction(1, 2), "¼": Fraction(1, 4), "¾": Fraction(3, 4)}
_PARTS_MAX = 6  # "2 years 1 month 3 days 4 hours 5 minutes 6 seconds"


def length(source: Source, i: int) -> Found[Length] | None:
    """A duration at ``i``: one or more counted units, joined by "and" or a comma."""
    return source.once("length", i, lambda: _length(source, i))


def _length(source: Source, i: int) -> Found[Length] | None:
    found = counted(source, i)
    if found is None:
        return None
    total, end = found
    for _ in range(_PARTS_MAX):
        j = source.skip(source.skip(end, ","), "and")
        more = counted(source, j)
        if more is None or (j == end and source.word(j) in ("a", "an", "half")):
            break
        total, end = total + more[0], more[1]
    return total, end


def counted(source: Source, i: int) -> Found[Length] | None:
    """One count with its unit and the half that may follow: "an hour and a half"."""
    count = amount(source, i)
    if count is None:
        return None
    value, j = count
    j = source.skip(j, "of") if source.word(j - 1) in ("couple", "half") else j
    j = j + 1 if source.dash(j) else j  # "3-hour"
    named = unit(source, j)
    if named is None:
        return None
    base, end = named
    extra, end = _and_a_half(source, end)
    scaled = _times(base, value + extra)
    return (scaled, end) if scaled else None


def unit(source: Source, i: int) -> Found[Length] | None:
    """A unit of time at ``i``."""
    word = source.word(i)
    if word in ("business", "working", "work") and source.word(i + 1) in ("day", "days"):
        return Length(workdays=1), i + 2
    if word == "second" and source.word(i - 1) == "a" and source.word(i + 1).isalpha():
        return None  # "a second round"
    if word in UNITS:
        return UNITS[word], i + 1
    if word in _LETTERS and source.glued(i) and source.digits(i - 1):
        return _LETTERS[word], i + 1
    return None


def amount(source: Source, i: int) -> Found[Fraction] | None:
    """A count before a unit: "3", "3.5", "a", "half an", "one and a half", "a couple"."""
    start = i
    i = source.skip(i, "a", "an")
    word = source.word(i)
    if word in ("couple", "few", "several"):
        return Fraction(2 if word == "couple" else 3), i + 1
    if word in _FRACTIONS and (start < i or source.word(i + 1) in ("a", "an", "hour", "day", "of")):
        k = source.skip(source.skip(i + 1, "of"), "a", "an")
        if k > i + 1 or source.word(k) in ("hour", "day", "minute", "year"):
            return _FRACTIONS[word], k
    if word in _SIGNS:
        return _SIGNS[word], source.skip(source.skip(i + 1, "of"), "a", "an")
    if start < i:
        return Fraction(1), i
    whole = cardinal(source, i)
    return _with_fraction(source, whole) if whole else None


def _with_fraction(source: Source, whole: Found[int]) -> Found[Fraction]:
    """A whole number with its decimals or "and a half" before the unit."""
    value, j = Fraction(whole[0]), whole[1]
    if source.word(j) == "." and source.digits(j + 1) and source.glued(j) and source.glued(j + 1):
        decimals = source.number(j + 1)
        if decimals is not None:
            return value + Fraction(decimals, 10 ** source.digits(j + 1)), j + 2
    if source.word(j) in _SIGNS:
        return value + _SIGNS[source.word(j)], j + 1
    extra, end = _and_a_half(source, j)
    return (value + extra, end) if unit(source, end) else (value, j)


def _and_a_half(source: Source, i: int) -> Found[Fraction]:
    """Reads "and a half", "and a quarter", or nothing."""
    if source.word(i) == "and":
        j = source.skip(i + 1, "a", "an")
        fraction = _FRACTIONS.get(source.word(j))
        if fraction is not None and source.word(j + 1) not in ("past", "to", "an"):
            return fraction, j + 1
    return Fraction(0), i


def _times(base: Length, count: Fraction) -> Length | None:
    """A unit so many times; fractions of months become days, of days become hours."""
    if base.workdays:
        return Length(workdays=int(count)) if count.denominator == 1 else None
    months = base.months * count
    days = base.days * count + (months - int(months)) * 30
    seconds = base.seconds * count
    if base.days or base.months:
        seconds += (days - int(days)) * 86400
    return Length(months=int(months), days=int(days), seconds=int(seconds))
