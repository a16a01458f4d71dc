"""Weekdays: "friday", "next friday", "tuesday the eleventh", "monday of next week"."""

from __future__ import annotations

from datetime import date

from mlx_tinyagent.act.dates import numbers
from mlx_tinyagent.act.dates.calendar import add_days, make_date, week_start
from mlx_tinyagent.act.dates.clocks import clock
from mlx_tinyagent.act.dates.day_parts import part_of_day
from mlx_tinyagent.act.dates.full_dates import full_date
from mlx_tinyagent.act.dates.month_days import next_month_day
from mlx_tinyagent.act.dates.names import SIDES, STOPS, WEEKDAYS, Side, stands_alone
from mlx_tinyagent.act.dates.parts import Day
from mlx_tinyagent.act.dates.source import Found, Source

_AFTER_WEEKDAY = frozenset(
    ("", ".", "?", "!", ",", "at", "@", "from", "morning", "afternoon", "evening", "night",
     "noon", "the", "-", "or", "through", "to", "week", "wk", "fortnight", "half")
)  # fmt: skip


def weekday(source: Source, i: int) -> Found[Day] | None:
    """A weekday: "friday", "next friday", "this week monday", "tuesday of next week".

    Rules (week = Monday to Sunday): a bare weekday is the next such day after today;
    today's own name means a week later, with today as the other reading. "next"
    is that day of next week and "last" that day of last week; "this" is that day of
    this week if it is not past, otherwise the next one; "coming" and "past" are the
    nearest ones. "next friday" keeps the nearest one as its other reading. "friday
    week" is a week after "friday".
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
    if target is None or (side is None and start > i and source.word(j) in ("sun", "sat", "wed")):
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
    weeks = weeks_on(source, end) if side is None else None
    if weeks:
        later = weeks_after(source.today, _sided_weekday(source.today, "", target), weeks[0])
        return (later, weeks[1]) if later else None
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
    followed = after in _AFTER_WEEKDAY
    return not (led or followed or source.digits(j + 1)) or before in ("the", "a", "in", "i", "we")


def _week_side(source: Source, i: int) -> Found[int] | None:
    """Reads "next week", "the following week", "this week", "the week after next"."""
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


def weeks_on(source: Source, i: int) -> Found[int] | None:
    """Reads "week" or "fortnight" behind a day, which is then so many weeks later."""
    weeks = {"week": 1, "wk": 1, "fortnight": 2}.get(source.word(i))
    after = source.word(i + 1)
    if weeks is None or after == "of":
        return None
    timed = clock(source, i + 1) or part_of_day(source, i + 1)
    if not timed and (source.digits(i + 1) or (after.isalpha() and after not in STOPS)):
        return None  # "sunday, week 7", "the monday week review"
    return weeks, i + 1


def weeks_after(today: date, named: Day, weeks: int) -> Day | None:
    """A day so many weeks after another; its other readings likewise, unless they are past."""
    days = (named.date, *(d for d in named.others if d >= today))
    moved, *others = (add_days(d, 7 * weeks) for d in days)
    return Day(date=moved, others=tuple(d for d in others if d)) if moved else None


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


def weekday_and_date(source: Source, i: int) -> Found[Day] | None:
    """Reads "Friday 5/12", "tuesday the eleventh", "Sunday 31", "next friday 5/12"."""
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


def _weekday_of_month_day(source: Source, target: int, k: int) -> Found[Day] | None:
    """Reads "tuesday the eleventh": the next month in which the 11th is a Tuesday."""
    the = source.skip(k, "the")
    number = numbers.ordinal(source, the)
    if number is None:
        value = source.number(the)
        if value is None or value <= 12 or source.digits(the) != 2 or not stands_alone(source, the):
            return None
        number = value, the + 1
    if not 1 <= number[0] <= 31:
        return None
    plain = next_month_day(source.today, number[0])
    year, month = source.today.year, source.today.month
    for ahead in range(60):
        years, index = divmod(month - 1 + ahead, 12)
        candidate = make_date(year + years, index + 1, number[0])
        if candidate and candidate >= source.today and candidate.weekday() == target:
            others = (plain,) if plain and plain != candidate else ()
            return Day(date=candidate, others=others), number[1]
    return None
