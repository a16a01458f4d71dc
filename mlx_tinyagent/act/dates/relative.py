"""Moments counted from others: "now", "in 5 minutes", "two weeks from monday", "next hour"."""

from __future__ import annotations

from datetime import datetime, time

from mlx_tinyagent.act.dates import lengths
from mlx_tinyagent.act.dates.calendar import Length, add_days, add_workdays, shift
from mlx_tinyagent.act.dates.clocks import clock, clock_after_at
from mlx_tinyagent.act.dates.days import day
from mlx_tinyagent.act.dates.names import SIDES, WEEKDAYS
from mlx_tinyagent.act.dates.numbers import cardinal
from mlx_tinyagent.act.dates.parts import Clock, ClockRange, Day, Expression, Period
from mlx_tinyagent.act.dates.source import Found, Phrases, Source
from mlx_tinyagent.act.dates.units import whole
from mlx_tinyagent.act.dates.weekdays import weeks_after

_NOW = Phrases(
    (
        ("now|right now|just now|right away|straight away|right this minute|presently", None),
        ("asap|as soon as possible|immediately|at the minute|at this minute", None),
        ("at the moment|at this moment|at present|at the present|at the present time", None),
        ("at this time", None),
    )
)
_END_OF_DAY = time(23, 59, 59)
_AGO = frozenset(("ago", "earlier", "back", "before"))
_LATER = frozenset(("later", "hence"))
_FORWARD = frozenset(("from", "after", "since", "following", "starting", "beginning", "past"))
_NEAR_DAYS, _SPANS = frozenset(("today", "tomorrow")), frozenset(("to", "through", "until"))
_BACKWARD = frozenset(("before", "prior", "preceding"))


def relative(source: Source, i: int) -> Found[Expression] | None:
    """The counted moment or day that starts at ``i``."""
    return source.once(
        "relative",
        i,
        lambda: (
            _end_of_day(source, i)
            or _present(source, i)
            or _within(source, i)
            or _rest_of_day(source, i)
            or _hours_ahead(source, i)
            or _counted(source, i)
            or _weekday_counted(source, i)
            or _next_workday(source, i)
        ),
    )


def _expression(first: int, last: int, value: Day | Period | Clock | datetime) -> Found[Expression]:
    if isinstance(value, datetime):
        return Expression(first=first, last=last, moment=value), last
    if isinstance(value, Day):
        return Expression(first=first, last=last, day=value), last
    if isinstance(value, Period):
        return Expression(first=first, last=last, period=value), last
    return Expression(first=first, last=last, clock=value), last


def _present(source: Source, i: int) -> Found[Expression] | None:
    found = source.phrase(i, _NOW)
    return _expression(i, found[1], source.now) if found else None


def _end_of_day(source: Source, i: int) -> Found[Expression] | None:
    """Reads "eod", "end of day", "end of tomorrow", "the end of this sunday": its last second."""
    j = source.skip(i, "the")
    if source.word(j) in ("eod", "cob"):
        named: Found[Day] | None = (Day(date=source.today), j + 1)
        named = (day(source, j + 1) and (day(source, j + 1) or named)) or named
    elif source.word(j) == "end" and source.word(j + 1) == "of":
        k = source.skip(j + 2, "the")
        named = day(source, j + 2)
        if named is None and source.word(k) == "day":
            named = day(source, k + 1) or (Day(date=source.today), k + 1)
        if named is None and source.word(k) == "work" and source.word(k + 1) == "day":
            named = Day(date=source.today), k + 2
    else:
        return None
    if named is None:
        return None
    return _expression(i, named[1], datetime.combine(named[0].date, _END_OF_DAY))


def _rest_of_day(source: Source, i: int) -> Found[Expression] | None:
    """Reads "the rest of the day", "remainder of today": from now to its last second."""
    j = source.skip(i, "the")
    if source.word(j) not in ("rest", "remainder") or source.word(j + 1) != "of":
        return None
    k = source.skip(j + 2, "the", "my", "this")
    if source.word(k) not in ("day", "today"):
        return None
    end = datetime.combine(source.today, _END_OF_DAY)
    return Expression(first=i, last=k + 1, moment=source.now, until=end), k + 1


def _within(source: Source, i: int) -> Found[Expression] | None:
    """Reads "within 5 minutes", "within the next day and 5 hours": a range from now."""
    if source.word(i) != "within":
        return None
    j = source.skip(source.skip(i + 1, "the"), "next", "coming")
    length = lengths.length(source, j) or _one_unit(source, j)
    if length is None:
        return None
    return _ahead(source, i, length, 1)


def _one_unit(source: Source, i: int) -> Found[Length] | None:
    """A unit without its count, and what "and" adds: "next day and 5 hours"."""
    base = lengths.unit(source, i)
    if base is None or source.word(base[1]) != "and":
        return base
    more = lengths.length(source, base[1] + 1)
    return (base[0] + more[0], more[1]) if more else base


def _hours_ahead(source: Source, i: int) -> Found[Expression] | None:
    """Reads "next hour", "the next 2 hours", "past 30 minutes", "13 last minutes"."""
    j = source.skip(i, "the")
    many = cardinal(source, j)
    side = SIDES.get(source.word(many[1] if many else j))
    if side is None or side == "this":
        return None
    if many:
        base = lengths.unit(source, many[1] + 1)
        if many[0] > 1 and not source.word(many[1] + 1).endswith("s"):
            return None  # "13 last minute" counts something else
        found = (Length(seconds=base[0].seconds * many[0]), base[1]) if base else None
    else:
        found = lengths.length(source, j + 1) or _one_unit(source, j + 1)
    if found is None or not found[0].timed or source.word(j + 1) in ("a", "an"):
        return None
    return _ahead(source, i, found, -1 if side in ("last", "past") else 1)


def _ahead(source: Source, i: int, length: Found[Length], sign: int) -> Found[Expression] | None:
    far = shift(source.now, length[0] if sign > 0 else -length[0])
    if far is None:
        return None
    start, end = min(far, source.now), max(far, source.now)
    if not length[0].timed:
        days = Period(start=start.date(), end=end.date())
        return Expression(first=i, last=length[1], period=days), length[1]
    return Expression(first=i, last=length[1], moment=start, until=end), length[1]


def _counted(source: Source, i: int) -> Found[Expression] | None:
    """Reads "in 3 days", "5 minutes ago", "two weeks from monday", "for 3 days from today"."""
    lead = source.word(i)
    j = i + 1 if lead in ("in", "for", "after") else i
    found = lengths.length(source, j)
    if found is None:
        weeks = _week(source, i)
        if weeks and source.word(weeks[1]) == "on":
            return _week_on(source, i, *weeks)
        single = _single(source, j)
        return _from_anchor(source, i, *single) if single and lead != "for" else None
    length, end = found
    mark = source.word(end)
    if lead != "for":
        anchored = _from_anchor(source, i, length, end)
        if anchored:
            return anchored
        later = _week_on(source, i, length, end)
        if later:
            return later
        if mark in _AGO:
            return _shifted(source, i, -length, end + 1)
        if mark in _LATER:
            return _shifted(source, i, length, end + 1)
    if mark in ("from", "starting", "beginning", ","):
        spread = _spread(source, i, length, end)
        if spread and (lead == "for" or mark in ("starting", "beginning")):
            return spread
    if lead in ("in", "after"):
        return _shifted(source, i, length, source.skip(end, "time"))
    return None


def _week(source: Source, i: int) -> Found[Length] | None:
    """Reads "week", "fortnight" where one is meant: no "the", "next" or weekday before it."""
    before = source.word(i - 1)
    if source.word(i) not in ("week", "fortnight") or before == "the":
        return None
    return None if before in SIDES or before in WEEKDAYS else lengths.unit(source, i)


def _week_on(source: Source, i: int, length: Length, end: int) -> Found[Expression] | None:
    """Reads "a week on friday", "two weeks today": so many weeks after the next such day."""
    weeks = length.days and length.days % 7 == 0 and length == Length(days=length.days)
    j = source.skip(end, "on")
    named_day = source.word(j) in WEEKDAYS or (j == end and source.word(j) in _NEAR_DAYS)
    if not weeks or not named_day or source.word(i) in ("in", "after"):
        return None
    named = day(source, j)
    if named is None or (j == end and (source.dash(named[1]) or source.word(named[1]) in _SPANS)):
        return None  # "two weeks monday to friday"
    moved = weeks_after(source.today, named[0], length.days // 7)
    return _expression(i, named[1], moved) if moved else None


def _next_workday(source: Source, i: int) -> Found[Expression] | None:
    """Reads "next business day", "the next working day"."""
    j = source.skip(i, "the")
    base = lengths.unit(source, j + 1) if source.word(j) in ("next", "following") else None
    moved = add_workdays(source.today, 1) if base and base[0] == Length(workdays=1) else None
    return _expression(i, base[1], Day(date=moved)) if base and moved else None


def _weekday_counted(source: Source, i: int) -> Found[Expression] | None:
    """Reads "Monday two weeks from now": the one of the week counted to, Sunday to Saturday."""
    target = WEEKDAYS.get(source.word(i))
    if target is None:
        return None
    j = source.skip(i + 1, ",", "in")
    j = j - 1 if source.word(j - 1) == "in" else j
    found = _counted(source, j)
    if found is None or found[0].day is None:
        return None
    counted = found[0].day.date
    moved = add_days(counted, (target + 1) % 7 - (counted.weekday() + 1) % 7)
    return _expression(i, found[1], Day(date=moved)) if moved else None


def _single(source: Source, i: int) -> Found[Length] | None:
    """A unit counted once without saying so: "the day after X", "week from monday"."""
    j = source.skip(i, "the")
    base = lengths.unit(source, j)
    if base is None or source.digits(j - 1) or base[0].timed:
        return None
    # "the week before independence" would need a noun's date; only real anchors count.
    return base if source.word(base[1]) in ("after", "before", "from") else None


def _shifted(source: Source, i: int, length: Length, end: int) -> Found[Expression] | None:
    """Now moved by a length: a day for whole days, else a moment; "on friday" adjusts a day."""
    moved = shift(source.now, length)
    if moved is None:
        return None
    if length.timed:
        return _expression(i, end, moved)
    return _on_weekday(source, i, Day(date=moved.date()), end)


def _on_weekday(source: Source, i: int, found: Day, end: int) -> Found[Expression]:
    """Reads "in 3 days on Friday": that weekday from the day before on."""
    target = WEEKDAYS.get(source.word(end + 1))
    if source.word(end) != "on" or target is None:
        return _expression(i, end, found)
    ahead = (target - found.date.weekday()) % 7
    moved = add_days(found.date, ahead - 7 if ahead == 6 else ahead)
    return _expression(i, end + 2, Day(date=moved) if moved else found)


def _from_anchor(source: Source, i: int, length: Length, end: int) -> Found[Expression] | None:
    """A length counted from something named: a day, the start of a period, a clock, now."""
    mark = source.word(end)
    sign = 1 if mark in _FORWARD else -1 if mark in _BACKWARD else 0
    if not sign or mark in ("starting", "beginning"):
        return None
    j = source.skip(end + 1, "to") if mark == "prior" else end + 1
    signed = length if sign > 0 else -length
    present = source.phrase(j, _NOW) if mark in ("from", "after", "before") else None
    if present:
        return _shifted(source, i, signed, present[1])
    named = day(source, j)
    if named and not length.timed:
        moved = shift(datetime.combine(named[0].date, time()), signed)
        return _on_weekday(source, i, Day(date=moved.date()), named[1]) if moved else None
    at = clock(source, j)
    if at and length.timed and source.word(i) != "for":
        return _moved_clock(i, at, signed)
    outer = whole(source, j)
    if outer and not length.timed:
        edge = outer[0].start
        moved = shift(datetime.combine(edge, time()), signed)
        return _expression(i, outer[1], Day(date=moved.date())) if moved else None
    return None


def _moved_clock(i: int, at: Found[Clock], length: Length) -> Found[Expression] | None:
    """Reads "an hour before noon", "30 minutes after 3pm"."""
    base = at[0].readings[0]
    seconds = base.hour * 3600 + base.minute * 60 + base.second + length.seconds
    if length.days or length.months or abs(length.seconds) >= 86400:
        return None
    minutes, second = divmod(seconds % 86400, 60)
    return _expression(i, at[1], Clock(hour=minutes // 60, minute=minutes % 60, second=second))


def _spread(source: Source, i: int, length: Length, end: int) -> Found[Expression] | None:
    """Reads "for 3 days from today", "2 weeks starting May 20th", "for 7 hours from 9:30am"."""
    j = source.skip(source.skip(end, ","), "starting", "beginning")
    j = source.skip(source.skip(j, "from"), "on", "at")
    if length.timed:
        at = clock_after_at(source, j)
        if at is None or length.days or length.months:
            return None
        moved = _moved_clock(i, at, length)
        late = moved[0].clock if moved else None
        if late is None:
            return None
        start = at[0].fixed(at[0].readings[0].hour)
        spread = ClockRange(start=start, end=late)
        return Expression(first=i, last=at[1], clocks=spread), at[1]
    named = day(source, j)
    if named is None:
        return None
    far = shift(datetime.combine(named[0].date, time()), length)
    if far is None or far.date() <= named[0].date:
        return None
    found = Period(start=named[0].date, end=far.date(), open=named[0].open, unit="span")
    return _expression(i, named[1], found)
