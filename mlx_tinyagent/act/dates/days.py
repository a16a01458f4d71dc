"""Calendar days: "22 April 2019", "5/12", "next friday", "the 18th", "christmas eve"."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Literal

from mlx_tinyagent.act.dates import numbers
from mlx_tinyagent.act.dates.calendar import (
    add_days,
    add_months,
    make_date,
    nth_weekday,
    week_start,
)
from mlx_tinyagent.act.dates.holidays import holiday
from mlx_tinyagent.act.dates.parts import Day, on_or_after
from mlx_tinyagent.act.dates.source import Found, Phrases, Source

_MONTH_NAMES = (
    "january jan|february feb|march mar|april apr|may|june jun|july jul|august aug"
    "|september sept sep|october oct|november nov|december dec"
)
MONTHS = {
    name: k for k, names in enumerate(_MONTH_NAMES.split("|"), start=1) for name in names.split()
}
_DAY_NAMES = (
    "monday mon mondays|tuesday tue tues tuesdays|wednesday wed wednesdays"
    "|thursday thu thur thurs thursdays|friday fri fridays|saturday sat saturdays"
    "|sunday sun sundays"
)
WEEKDAYS = {name: k for k, names in enumerate(_DAY_NAMES.split("|")) for name in names.split()}
# Short names that are also English words count only beside another date word.
_DOUBTFUL = frozenset(("sun", "sat", "wed", "mon", "may", "mar", "march", "dec", "jan"))

# Words that may follow a day of the month and show that it counts nothing.
_STOPS = frozenset(
    ("at", "from", "in", "for", "with", "and", "to", "through", "between", "i", "of", "by", "til",
     "till", "until", "please", "around", "morning", "evening", "afternoon", "night", "noon",
     "this", "is", "on", "about", "we", "so", "if", "because")
)  # fmt: skip

Side = Literal["this", "next", "last", "past", "coming", ""]
SIDES: dict[str, Side] = {
    "this": "this", "current": "this", "next": "next", "following": "next", "last": "last",
    "previous": "last", "past": "past", "coming": "coming", "upcoming": "coming",
}  # fmt: skip

_RELATIVE = Phrases(
    (
        ("today|otd|current date|this day", 0),
        ("tomorrow|the next day|next day|the following day|following day|the day after", 1),
        ("the day after tomorrow|day after tomorrow|overmorrow", 2),
        ("yesterday|the day before|the previous day|previous day|the last day", -1),
        ("the day before yesterday|day before yesterday", -2),
    )
)
_SEPARATORS = frozenset("-/.–−")  # noqa: RUF001


def day(source: Source, i: int) -> Found[Day] | None:
    """The longest calendar day that starts at ``i``."""
    return source.once("day", i, lambda: _day(source, i))


def _day(source: Source, i: int) -> Found[Day] | None:
    found = (
        _weekday_and_date(source, i)
        or full_date(source, i)
        or _sided_date(source, i)
        or _nth_weekday_of(source, i)
        or weekday(source, i)
        or _nth_day_of(source, i)
        or _relative(source, i)
        or _holiday(source, i)
        or _marked_day_of_month(source, i)
    )
    if found is None:
        return None
    return found[0], _trailing_weekday(source, found[1])


def _trailing_weekday(source: Source, i: int) -> int:
    """Position after "(Tue)" behind a date."""
    if source.word(i) == "(" and source.word(i + 1) in WEEKDAYS and source.word(i + 2) == ")":
        return i + 3
    return i


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


def _separator(source: Source, i: int) -> int:
    """Position after an optional separator between the parts of a named date."""
    return i + 1 if source.word(i) in _SEPARATORS or source.word(i) in (",", "_") else i


def _month(source: Source, i: int) -> Found[int] | None:
    """A month's name at ``i``, its abbreviation dot included."""
    number = MONTHS.get(source.word(i))
    if number is None:
        return None
    short = len(source.word(i)) <= 4 and source.word(i) not in ("may", "june", "july")
    dotted = short and source.word(i + 1) == "." and source.word(i + 2) != ""
    return number, i + 2 if dotted else i + 1


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
    named = _month(source, j)
    late = _month(source, j + 2) if month and source.word(j + 1) in _SEPARATORS else None
    if late and month:  # "2020/23/Sep"
        found = make_date(year, late[0], month)
        return (Day(date=found), j + 3) if found else None
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
    return (Day(date=found), k + 1) if found else None


def _compact(source: Source, i: int) -> Found[Day] | None:
    """ "20170302"."""
    number = source.number(i)
    if number is None or source.digits(i) != 8 or not 1900 <= number // 10000 <= 2199:
        return None
    found = make_date(number // 10000, number // 100 % 100, number % 100)
    return (Day(date=found), i + 1) if found else None


def _numeric(source: Source, i: int) -> Found[Day] | None:
    """ "5/12", "22/04", "12/12/30", "23.04.2022", "02-02-2020": month first unless impossible."""
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
    if source.word(i + 1) != "." or not source.glued(i + 2):
        return False
    before = source.word(i - 1)
    return before in WEEKDAYS or (before in ("on", "dated") and source.digits(i + 2) == 2)


def _month_and_day(first: int, second: int) -> tuple[int, int]:
    """US order, unless the first number cannot be a month."""
    return (second, first) if first > 12 else (first, second)


def _with_year(first: int, second: int, year: int, digits: int, end: int) -> Found[Day] | None:
    years = (year,) if digits == 4 else numbers.short_year(year)
    month, dom = _month_and_day(first, second)
    dates = [d for y in years if (d := make_date(y, month, dom))]
    return (Day(date=dates[0], others=tuple(dates[1:])), end) if dates else None


def _open_year(source: Source, month: int, dom: int, end: int) -> Found[Day] | None:
    """A date without a year: the next such day, today included."""
    dates = on_or_after(source.today, lambda year: make_date(year, month, dom))
    return (Day(date=dates[0], others=dates[1:], open="year"), end) if dates else None


def _month_first(source: Source, i: int) -> Found[Day] | None:
    """ "May twenty nine", "Oct/2", "Dec. 31, 1994", "june the 28th 2020", "Sep-23-2020"."""
    named = _month(source, i)
    if named is None:
        return None
    month, j = named
    j = source.skip(_separator(source, j), "the")
    middle = numbers.year(source, j) if source.digits(j) == 4 else None
    if middle:  # "September-2020-23"
        k = middle[1]
        dom = source.number(k + 1) if source.word(k) in _SEPARATORS else None
        found = make_date(middle[0], month, dom) if dom and source.digits(k + 1) <= 2 else None
        return (Day(date=found), k + 2) if found else None
    dom_found = _dom(source, j)
    if dom_found is None:
        return None
    dom, k = dom_found
    if source.word(k) == ":" and source.glued(k) or _opens_range(source, i, k):
        return None
    late = _year_after(source, k)
    if late is None:
        return _open_year(source, month, dom, k)
    found = make_date(late[0], month, dom)
    return (Day(date=found), late[1]) if found else None


def _opens_range(source: Source, i: int, k: int) -> bool:
    """Whether the day is an hour before "am" or "pm": "in may 3pm" is no date."""
    return k == i + 2 and source.word(k) in ("am", "pm")


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


def _year_after(source: Source, i: int) -> Found[int] | None:
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
    if (short or marked and source.word(i) in "/-") and source.digits(j) == 2:
        value = source.number(j) or 0
        return (numbers.short_year(value)[0], j + 1) if short or value > 31 else None
    return None


def _day_first(source: Source, i: int) -> Found[Day] | None:
    """ "04th Jan 2019", "second of Aug", "the third of april", "23-2020-September"."""
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
        named = _month(source, _separator(source, middle[1]))
        found = make_date(middle[0], named[0], dom) if named and j > dom_found[1] else None
        return (Day(date=found), named[1]) if found and named else None
    of = source.skip(j, "of")
    named = _month(source, of)
    if named is None:
        return None
    month, k = named
    if source.word(of) in ("may", "march") and of == j and numbers.plain_word(source, start):
        return None  # "one may ask"
    if source.word(of) == "may" and of == j and source.word(k) in ("be", "i", "you", "we"):
        return None
    late = _year_after(source, k)
    if late is None:
        return _open_year(source, month, dom, k)
    found = make_date(late[0], month, dom)
    return (Day(date=found), late[1]) if found else None


def _weekday_and_date(source: Source, i: int) -> Found[Day] | None:
    """ "Friday 5/12", "tuesday the eleventh", "Sunday 31", "next friday 5/12"."""
    j = i
    side = SIDES.get(source.word(j), "")
    j = j + 1 if side else j
    target = WEEKDAYS.get(source.word(j))
    if target is None:
        return None
    k = j + 2 if source.word(j + 1) in (",", ".", "-", "(") else j + 1
    if source.word(k) == "on":
        k += 1
    found = full_date(source, k)
    if found:
        named, end = found
        stated = make_date(source.today.year, named.date.month, named.date.day)
        if side and named.open == "year" and stated:
            return Day(date=stated), end  # "this friday 5/12" is of this year, past or not
        return found
    return _weekday_of_month_day(source, target, k)


def stands_alone(source: Source, i: int) -> bool:
    """Whether the number at ``i`` is the last word of its phrase and no price, hour or count."""
    after = source.word(i + 1)
    if source.digits(i + 2) and source.glued(i + 2):
        return False
    return not after or after in _STOPS or after in (".", "!", "?", ",", ";", "@")


def _weekday_of_month_day(source: Source, target: int, k: int) -> Found[Day] | None:
    """ "tuesday the eleventh": the next month in which the 11th is a Tuesday."""
    the = source.skip(k, "the")
    number = numbers.ordinal(source, the)
    if number is None:
        value = source.number(the)
        if value is None or value <= 12 or source.digits(the) != 2 or not stands_alone(source, the):
            return None
        number = value, the + 1
    if not 1 <= number[0] <= 31:
        return None
    plain = _next_month_day(source.today, number[0])
    year, month = source.today.year, source.today.month
    for ahead in range(60):
        years, index = divmod(month - 1 + ahead, 12)
        candidate = make_date(year + years, index + 1, number[0])
        if candidate and candidate >= source.today and candidate.weekday() == target:
            others = (plain,) if plain and plain != candidate else ()
            return Day(date=candidate, others=others), number[1]
    return None


def _sided_date(source: Source, i: int) -> Found[Day] | None:
    """ "next 5/12", "this 5/12", "next 6th of April", "next new year day", "last christmas"."""
    side = SIDES.get(source.word(i))
    if side is None:
        return None
    found = full_date(source, i + 1) or _holiday(source, i + 1)
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


def weekday(source: Source, i: int) -> Found[Day] | None:
    """A weekday: "friday", "next friday", "this week monday", "tuesday of next week".

    Rules (week = Monday to Sunday): a bare weekday is the next such day after today;
    today's own name means a week later, with today as the other reading. "next"
    is that day of next week and "last" that day of last week; "this" is that day of
    this week if it is not past, otherwise the next one; "coming" and "past" are the
    nearest ones. "next friday" keeps the nearest one as its other reading.
    """
    week = _week_side(source, i)
    if week:
        j = source.skip(source.skip(week[1], ",", "on"), "on")
        target = WEEKDAYS.get(source.word(j))
        if target is not None:
            return _in_week(source.today, week[0], target, j + 1)
    start = source.skip(i, "the")
    side = SIDES.get(source.word(start))
    j = start if side is None else start + 1
    target = WEEKDAYS.get(source.word(j))
    if target is None or (side is None and start > i and source.word(j) in _DOUBTFUL):
        return None
    end = j + 2 if source.word(j + 1) == "." and source.word(j) != _full(j, source) else j + 1
    after = _week_after(source, j + 1) if side is None else None
    if after:
        return _in_week(source.today, after[0], target, after[1])
    if side is None and _is_doubtful_weekday(source, j):
        return None
    if [source.word(j + 1), source.word(j + 2)] == ["after", "next"]:
        found = add_days(_sided_weekday(source.today, "next", target).date, 7)
        return (Day(date=found), j + 3) if found else None
    if side is None and source.word(j + 1) in ("next", "coming") and not _names_more(source, j + 2):
        side, end = ("next" if source.word(j + 1) == "next" else "coming"), j + 2
    return _sided_weekday(source.today, side or "", target), end


def _full(j: int, source: Source) -> str:
    return source.word(j) if len(source.word(j)) > 5 else ""


def _names_more(source: Source, i: int) -> bool:
    """Whether what follows "next" makes it belong there and not to the weekday before it."""
    return source.word(i).isalnum() and source.word(i) not in ("at", "from", "in", "for", "by")


def _is_doubtful_weekday(source: Source, j: int) -> bool:
    """Whether "sun", "sat" or "wed" here is more likely the English word."""
    word = source.word(j)
    if word not in ("sun", "sat", "wed"):
        return False
    before, after = source.word(j - 1), source.word(j + 1)
    led = before in ("on", "by", "until", "till", "to", "through", "from", "for", ",", "or", "-")
    followed = after in ("", ".", "?", "!", ",", "at", "@", "from", "morning", "afternoon", "evening",
                         "night", "noon", "the", "-", "or", "through", "to")  # fmt: skip
    return not (led or followed or source.digits(j + 1)) or before in ("the", "a", "in", "i", "we")


def _week_side(source: Source, i: int) -> Found[int] | None:
    """ "next week", "the following week", "this week", "the week after next", as weeks from now."""
    j = source.skip(i, "the")
    if source.word(j) == "week" and source.word(j + 1) == "after":
        if source.word(j + 2) == "next":
            return 2, j + 3
        return None
    side = SIDES.get(source.word(j))
    if side is None or source.word(j + 1) not in ("week", "wk"):
        return None
    return {"this": 0, "next": 1, "coming": 1, "last": -1, "past": -1}[side], j + 2


def _week_after(source: Source, i: int) -> Found[int] | None:
    """The week named behind a weekday: "of next week", "next week", "week"."""
    j = source.skip(i, "of", "in")
    found = _week_side(source, j)
    if found:
        return found
    return None


def _in_week(today: date, weeks: int, target: int, end: int) -> Found[Day] | None:
    found = add_days(week_start(today), 7 * weeks + target)
    return (Day(date=found), end) if found else None


def _sided_weekday(today: date, side: Side, target: int) -> Day:
    """The weekday a side word points to; see :func:`weekday` for the rules."""
    monday = week_start(today)
    ahead = (target - today.weekday()) % 7
    nearest = add_days(today, ahead or 7) or today
    if side == "next":
        found = add_days(monday, 7 + target) or today
        return Day(date=found, others=(nearest,) if nearest != found else ())
    if side == "last":
        return Day(date=add_days(monday, target - 7) or today)
    if side == "past":
        return Day(date=add_days(today, -((today.weekday() - target) % 7 or 7)) or today)
    if side == "this":
        found = add_days(monday, target) or today
        if found >= today:
            return Day(date=found)
        return Day(date=nearest, others=(found,))
    if side == "coming":
        return Day(date=nearest)
    previous = add_days(nearest, -7) or today
    return Day(date=nearest, others=(previous,), open="weekday")


def _nth_weekday_of(source: Source, i: int) -> Found[Day] | None:
    """ "the first monday of next month", "last friday in may", "third thursday of november"."""
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


def _nth_day_of(source: Source, i: int) -> Found[Day] | None:
    """ "the first day of next month", "the last day of the year", "15th of next month"."""
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


def _in_month(
    source: Source, i: int, rule: Callable[[int, int], date | None]
) -> Found[Day] | None:
    """A day that a rule picks in the month named at ``i``."""
    j = source.skip(i, "the")
    word = source.word(j)
    side = SIDES.get(word)
    if word == "month" or (side and source.word(j + 1) == "month"):
        step = {"next": 1, "coming": 1, "last": -1, "past": -1}.get(side or "", 0)
        first = add_months(source.today.replace(day=1), step)
        found = first and rule(first.year, first.month)
        return (Day(date=found), j + (1 if word == "month" else 2)) if found else None
    named = _month(source, j)
    if named is None:
        return None
    late = _year_after(source, named[1])
    if late:
        found = rule(late[0], named[0])
        return (Day(date=found), late[1]) if found else None
    dates = on_or_after(source.today, lambda year: rule(year, named[0]))
    return (Day(date=dates[0], others=dates[1:], open="year"), named[1]) if dates else None


def _relative(source: Source, i: int) -> Found[Day] | None:
    """ "today", "tomorrow", "the day after tomorrow"."""
    found = source.phrase(i, _RELATIVE)
    if found is None:
        return None
    offset, end = found
    if source.word(end - 1) in ("after", "before") and _continues(source, end):
        return None
    moved = add_days(source.today, offset)
    return (Day(date=moved), end) if moved else None


def _continues(source: Source, i: int) -> bool:
    """Whether a noun follows, which "the day after" would then be counted from."""
    word = source.word(i)
    return word.isalnum() and word not in ("at", "in", "for", "from", "with", "and", "by", "i")


def _holiday(source: Source, i: int) -> Found[Day] | None:
    """A named day, with the year that may follow."""
    found = holiday(source, i)
    if found is None:
        return None
    rule, end = found
    late = _year_after(source, end)
    if late:
        day_found = rule(late[0])
        return (Day(date=day_found), late[1]) if day_found else None
    dates = on_or_after(source.today, rule)
    return (Day(date=dates[0], others=dates[1:], open="year"), end) if dates else None


def _marked_day_of_month(source: Source, i: int) -> Found[Day] | None:
    """ "the 18th", "on fourth": an ordinal that the words around show to be a day."""
    start = source.skip(i, "the")
    value = source.number(start)
    if source.word(i - 1) == "on" and start > i and value and stands_alone(source, start):
        dates = _month_days(source.today, value)
        return (Day(date=dates[0], others=dates[1:], open="month"), start + 1) if dates else None
    found = day_of_month(source, i)
    if found is None or (start == i and source.word(i - 1) not in ("on", "for", "by")):
        return None
    return None if _continues_ordinal(source, start, found[1]) else found


def day_of_month(source: Source, i: int) -> Found[Day] | None:
    """ "the 18th", "twenty-seventh": the next such day, today included."""
    found = numbers.ordinal(source, source.skip(i, "the"))
    if found is None or not 1 <= found[0] <= 31:
        return None
    dates = _month_days(source.today, found[0])
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
    return word not in _STOPS and not source.digits(start)


def _month_days(today: date, dom: int) -> tuple[date, ...]:
    """The next and the previous such day of a month."""
    first = today.replace(day=1)
    months = [m for k in range(3) if (m := add_months(first, k))]
    future = (d for m in months if (d := make_date(m.year, m.month, dom)) and d >= today)
    months = [m for k in range(3) if (m := add_months(first, -k))]
    past = (d for m in months if (d := make_date(m.year, m.month, dom)) and d < today)
    return tuple(d for d in (next(future, None), next(past, None)) if d)


def _next_month_day(today: date, dom: int) -> date | None:
    found = _month_days(today, dom)
    return found[0] if found and found[0] >= today else None
