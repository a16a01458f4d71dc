"""Dates with their day and month: "22 April 2019", "5/12", "2024-05-17", "Dec. 31, 1994"."""

from __future__ import annotations

from mlx_tinyagent.act.dates import numbers
from mlx_tinyagent.act.dates.calendar import make_date
from mlx_tinyagent.act.dates.names import MONTHS, WEEKDAYS
from mlx_tinyagent.act.dates.parts import Day, on_or_after
from mlx_tinyagent.act.dates.source import Found, Source

_SEPARATORS = frozenset("-/.–−")  # noqa: RUF001


def full_date(source: Source, i: int) -> Found[Day] | None:
    """A date with its day and month, in digits or with the month's name."""
    return source.once(
        "full_date",
        i,
        lambda: (
            _year_first(source, i)
            or _compact(source, i)
            or _month_first(source, i)
            or _day_first(source, i)
            or _numeric(source, i)
        ),
    )


def _year_first(source: Source, i: int) -> Found[Day] | None:
    """ISO and its kin: "2024-05-17", "2024/5/17", "2016 10 16", "2019-aug-1"."""
    year = source.number(i)
    if year is None or source.digits(i) != 4 or not 1000 <= year <= 2999:
        return None
    mark = source.word(i + 1)
    spaced = source.digits(i + 1) > 0 or mark in MONTHS
    if mark not in _SEPARATORS and not spaced:
        return None
    j = i + 1 if spaced else i + 2
    month = source.number(j) if source.digits(j) <= 2 else None
    named = month_at(source, j)
    late = month_at(source, j + 2) if month and source.word(j + 1) in _SEPARATORS else None
    if late and month:  # "2020/23/Sep"
        found = make_date(year, late[0], month)
        return (Day(date=found, form="iso"), j + 3) if found else None
    if named:
        month, after = named[0], named[1]
    else:
        after = j + 1
    if month is None:
        return None
    k = after + 1 if source.word(after) in _SEPARATORS else after
    if not named and (source.word(after) != mark and not spaced):
        return None
    dom = source.number(k) if source.digits(k) <= 2 else None
    found = make_date(year, month, dom) if dom is not None else None
    return (Day(date=found, form="iso"), k + 1) if found else None


def _compact(source: Source, i: int) -> Found[Day] | None:
    """Reads "20170302"."""
    number = source.number(i)
    if number is None or source.digits(i) != 8 or not 1900 <= number // 10000 <= 2199:
        return None
    found = make_date(number // 10000, number // 100 % 100, number % 100)
    return (Day(date=found, form="iso"), i + 1) if found else None


def _numeric(source: Source, i: int) -> Found[Day] | None:
    """Reads "5/12", "22/04", "23.04.2022", "02-02-2020": month first unless impossible."""
    first, mark, second = source.number(i), source.word(i + 1), source.number(i + 2)
    if first is None or second is None or mark not in _SEPARATORS:
        return None
    if source.digits(i) > 2 or source.digits(i + 2) > 2 or not source.glued(i + 1):
        return None
    if source.word(i + 3) == "." and source.digits(i + 4) and source.glued(i + 4) and mark == "/":
        return None  # "30/4.85"
    if source.word(i - 1) in (mark, ".") and source.glued(i) and source.digits(i - 2):
        return None  # the tail of a longer number
    after = source.word(i + 3)
    if after in ("hour", "hours", "of", "cup", "cups", "an", "a", "mile", "miles", "price", "off"):
        return None  # a fraction
    year = source.number(i + 4) if source.word(i + 3) == mark else None
    if year is not None and source.digits(i + 4) in (2, 4) and source.glued(i + 4):
        return _with_year(first, second, year, source.digits(i + 4), i + 5)
    comma = source.skip(i + 3, ",")
    if source.digits(comma) == 4 and mark == "/" and (late := numbers.year(source, comma)):
        return _with_year(first, second, late[0], 4, late[1])
    if mark != "/" and not _dotted_date(source, i):
        return None
    return _open_year(source, *_month_and_day(first, second), i + 3)


def _dotted_date(source: Source, i: int) -> bool:
    """Whether "5.12" is a date: behind "on", or "7.6" too behind a weekday."""
    if source.word(i + 1) != "." or not source.glued(i + 2) or _half_named(source, i + 3):
        return False
    before, weekday = source.word(i - 1), WEEKDAYS.get(source.word(i - 1))
    if weekday is None:
        return before in ("on", "dated") and source.digits(i + 2) == 2
    return source.digits(i + 2) == 1 or not _may_be_clock(source, i, weekday)


def _may_be_clock(source: Source, i: int, weekday: int) -> bool:
    """Whether "7.15" behind a weekday is a time: after noon only if no such day has that date."""
    hour, minute = source.number(i) or 0, source.number(i + 2) or 0
    if hour > 23 or minute > 59:
        return False
    if hour <= 12:
        return True
    dated = _open_year(source, *_month_and_day(hour, minute), i + 3)
    return dated is None or dated[0].date.weekday() != weekday


def _half_named(source: Source, i: int) -> bool:
    """Whether "am" or "pm" follows digits: what stands before is a time."""
    return source.word(i) in ("am", "pm") or (
        source.word(i) in ("a", "p") and source.word(i + 1) in (".", "m")
    )


def _month_and_day(first: int, second: int) -> tuple[int, int]:
    """US order, unless the first number cannot be a month."""
    return (second, first) if first > 12 else (first, second)


def _with_year(first: int, second: int, year: int, digits: int, end: int) -> Found[Day] | None:
    years = (year,) if digits == 4 else numbers.short_year(year)
    month, dom = _month_and_day(first, second)
    dates = [d for y in years if (d := make_date(y, month, dom))]
    return (Day(date=dates[0], others=tuple(dates[1:]), form="year"), end) if dates else None


def _open_year(source: Source, month: int, dom: int, end: int) -> Found[Day] | None:
    """A date without a year: the next such day, today included."""
    dates = on_or_after(source.today, lambda year: make_date(year, month, dom))
    return (Day(date=dates[0], others=dates[1:], open="year"), end) if dates else None


def _month_first(source: Source, i: int) -> Found[Day] | None:
    """Reads "May twenty nine", "Oct/2", "Dec. 31, 1994", "june the 28th 2020", "Sep-23-2020"."""
    named = month_at(source, i)
    if named is None:
        return None
    month, j = named
    j = source.skip(_separator(source, j), "the")
    middle = numbers.year(source, j) if source.digits(j) == 4 else None
    if middle:  # "September-2020-23"
        k = middle[1]
        dom = source.number(k + 1) if source.word(k) in _SEPARATORS else None
        found = make_date(middle[0], month, dom) if dom and source.digits(k + 1) <= 2 else None
        return (Day(date=found, form="year"), k + 2) if found else None
    dom_found = _dom(source, j)
    if dom_found is None:
        return None
    dom, k = dom_found
    if (source.word(k) == ":" and source.glued(k)) or _opens_range(source, i, k):
        return None
    late = year_after(source, k)
    if late is None:
        return _open_year(source, month, dom, k)
    found = make_date(late[0], month, dom)
    return (Day(date=found, form="year"), late[1]) if found else None


def _opens_range(source: Source, i: int, k: int) -> bool:
    """Whether the day is an hour before "am" or "pm": "in may 3pm" is no date."""
    return k == i + 2 and source.word(k) in ("am", "pm")


def _day_first(source: Source, i: int) -> Found[Day] | None:
    """Reads "04th Jan 2019", "second of Aug", "the third of april", "23-2020-September"."""
    start = source.skip(i, "the")
    if source.word(start - 1) in ("$", "€", "£", ".") and source.digits(start):
        return None
    dom_found = _dom(source, start)
    if dom_found is None:
        return None
    dom, j = dom_found
    j = _separator(source, j)
    middle = numbers.year(source, j) if source.digits(j) == 4 else None
    if middle:
        named = month_at(source, _separator(source, middle[1]))
        found = make_date(middle[0], named[0], dom) if named and j > dom_found[1] else None
        return (Day(date=found, form="year"), named[1]) if found and named else None
    of = source.skip(j, "of")
    named = month_at(source, of)
    if named is None:
        return None
    month, k = named
    if source.word(of) in ("may", "march") and of == j and numbers.plain_word(source, start):
        return None  # "one may ask"
    if source.word(of) == "may" and of == j and source.word(k) in ("be", "i", "you", "we"):
        return None
    late = year_after(source, k)
    if late is None:
        return _open_year(source, month, dom, k)
    found = make_date(late[0], month, dom)
    return (Day(date=found, form="year"), late[1]) if found else None


def _separator(source: Source, i: int) -> int:
    """Position after an optional separator between the parts of a named date."""
    return i + 1 if source.word(i) in _SEPARATORS or source.word(i) in (",", "_") else i


def month_at(source: Source, i: int) -> Found[int] | None:
    """A month's name at ``i``, its abbreviation dot included."""
    number = MONTHS.get(source.word(i))
    if number is None:
        return None
    short = len(source.word(i)) <= 4 and source.word(i) not in ("may", "june", "july")
    dotted = short and source.word(i + 1) == "." and source.word(i + 2) != ""
    return number, i + 2 if dotted else i + 1


def _dom(source: Source, i: int) -> Found[int] | None:
    """A day of the month, in digits or words, ordinal or not."""
    found = numbers.ordinal(source, i)
    if found is None and source.digits(i) <= 2:
        found = numbers.cardinal(source, i)
    if found is None or not 1 <= found[0] <= 31:
        return None
    if source.word(found[1]) == "day" and source.word(found[1] + 1) == "of":
        return found[0], found[1] + 1
    return found


def year_after(source: Source, i: int) -> Found[int] | None:
    """A year behind day and month: "2019", ", 2019", "in 2019", "of 87", "'87", "/2020"."""
    j = _separator(source, i)
    marked = j > i and source.word(i) != ","
    word = source.word(j)
    if word in ("in", "of", "year"):
        j = source.skip(j + 1, "the")
        j = source.skip(j, "year")
        short = word == "of"
    else:
        short = False
    if source.word(j) in ("'", "’"):  # noqa: RUF001
        j, short = j + 1, True
    found = numbers.year(source, j)
    if found:
        clashes = marked and source.word(found[1]) in _SEPARATORS and source.digits(found[1] + 1)
        hour = source.word(found[1]) in ("hours", "hrs", "am", "pm")
        return None if clashes or hour else found
    if (short or (marked and source.word(i) in "/-")) and source.digits(j) == 2:
        value = source.number(j) or 0
        return (numbers.short_year(value)[0], j + 1) if short or value > 31 else None
    return None
