"""Calendar units: "next week", "october", "2019 q1", "the 1990s", "halloween weekend"."""

from __future__ import annotations

from datetime import date

from mlx_tinyagent.act.dates import numbers
from mlx_tinyagent.act.dates.calendar import add_days, add_months, make_date, week_start
from mlx_tinyagent.act.dates.days import day
from mlx_tinyagent.act.dates.full_dates import year_after
from mlx_tinyagent.act.dates.holidays import holiday
from mlx_tinyagent.act.dates.names import MONTHS, SIDES, Side
from mlx_tinyagent.act.dates.parts import Period, days_from, month_period
from mlx_tinyagent.act.dates.source import Found, Source

_STEP: dict[Side, int] = {"this": 0, "next": 1, "coming": 1, "last": -1, "past": -1, "": 0}
_WEEKEND = frozenset(("weekend", "weekends"))
_WORKWEEK = frozenset(("workweek",))
_MODAL = frozenset(("be", "i", "we", "you", "have", "not", "also", "result", "need", "want"))

_BEFORE_YEARS = frozenset(
    ("in", "of", "from", "to", "between", "and", "since", "during", "through", "till", "until",
     "than", "before", "after")
)  # fmt: skip


def whole(source: Source, i: int) -> Found[Period] | None:
    """A calendar unit: a week, month, quarter, year, decade or weekend."""
    return source.once(
        "whole",
        i,
        lambda: (
            _sided(source, i)
            or _quarter(source, i)
            or _month(source, i)
            or _year(source, i)
            or _century(source, i)
            or _weekend(source, i)
            or _week_number(source, i)
        ),
    )


def unit_period(today: date, name: str, step: int) -> Period | None:
    """The week, month, quarter, year or decade so many units from today's."""
    if name in ("week", "weekend", "workweek"):
        monday = add_days(week_start(today), 7 * step)
        start = monday and add_days(monday, 5 if name == "weekend" else 0)
        count = {"week": 7, "weekend": 2, "workweek": 5}[name]
        return days_from(start, count, name) if start else None
    months = {"month": 1, "quarter": 3, "half": 6, "year": 12, "decade": 120}[name]
    index = today.year * 12 + today.month - 1
    base = index - index % months + step * months
    start = make_date(base // 12, base % 12 + 1, 1)
    end = start and add_months(start, months)
    return Period(start=start, end=end, unit=name) if start and end else None


def _unit_name(source: Source, i: int) -> Found[str] | None:
    """A calendar unit's name, such as "week", "working week" or "calendar year"."""
    word = source.word(i)
    if word in ("working", "work") and source.word(i + 1) == "week":
        return "workweek", i + 2
    if word in _WORKWEEK:
        return "workweek", i + 1
    if word == "calendar" and source.word(i + 1) in ("year", "month", "week"):
        return source.word(i + 1), i + 2
    if word in ("week", "month", "quarter", "year", "decade", "weekend"):
        return word, i + 1
    if word in ("weeks", "months", "weekends"):  # "next weeks meeting", the apostrophe forgotten
        return word[:-1], i + 1
    if word in ("wk", "qtr", "yr"):
        return {"wk": "week", "qtr": "quarter", "yr": "year"}[word], i + 1
    return None


def _sided(source: Source, i: int) -> Found[Period] | None:
    """Reads "this week", "the next month", "the week after next", "the month"."""
    j = source.skip(i, "the")
    side = SIDES.get(source.word(j))
    if side is not None:
        k = source.skip(j + 1, "entire", "whole", "full")
        month = MONTHS.get(source.word(k))
        if month:
            if source.word(k) in ("may", "march") and not _closes(source, k + 1):
                return None  # "this may take longer"
            return _sided_month(source, side, month, k + 1)
        name = _unit_name(source, k)
        if name is None:
            return None
        found = unit_period(source.today, name[0], _sided_step(source, side, name[0]))
        return (found, name[1]) if found else None
    named = _unit_name(source, j)
    if named is None:
        return None
    if source.word(named[1]) == "after" and source.word(named[1] + 1) == "next":
        found = unit_period(source.today, named[0], 2)
        return (found, named[1] + 2) if found else None
    if j == i or source.word(named[1]) in ("of", "after", "before") or source.digits(named[1]):
        return None
    found = unit_period(source.today, named[0], 0)
    return (found, named[1]) if found else None


def _sided_step(source: Source, side: Side, name: str) -> int:
    """Units from now; the coming weekend is this week's until it begins."""
    if name == "weekend" and side == "coming" and source.today.weekday() < 5:
        return 0
    return _STEP[side]


def _sided_month(source: Source, side: Side, month: int, end: int) -> Found[Period] | None:
    """Reads "this may", "next october", "last june": next year's unless it is still to come."""
    this_year = source.today.year
    if side == "next":
        step = 1 if month <= source.today.month else 0
    elif side in ("last", "past"):
        step = -1 if month >= source.today.month else 0
    else:
        step = 0
    found = month_period(this_year + step, month)
    return (found, end) if found else None


def _month(source: Source, i: int) -> Found[Period] | None:
    """Reads "October", "june of 1992", "Dec-2018"; bare "may" and "march" need a sign."""
    month = MONTHS.get(source.word(i))
    if month is None:
        return _numeric_month(source, i)
    word, before = source.word(i), source.word(i - 1)
    if source.digits(i - 1) in (1, 2) and source.word(i - 2) not in (".", ",", "$"):
        return None  # "30 february 2024" is no date, and not the month either
    j = i + 2 if source.word(i + 1) == "." and len(word) <= 4 else i + 1
    k = j + 1 if source.word(j) in ("-", "/", ",", ".") else source.skip(j, "of", "in")
    late = numbers.year(source, source.skip(k, "the", "year"))
    if late is None and k > j and source.word(j) == "of" and source.digits(k) == 2:
        late = numbers.short_year(source.number(k) or 0)[0], k + 1
    if late:
        found = month_period(late[0], month)
        return (found, late[1]) if found else None
    if source.digits(j) in (1, 2) and not _is_clock(source, j):
        return None  # "Feb 30" is no date, and not February either
    spans = source.word(j) in ("to", "through", "-") and source.word(j + 1) in MONTHS
    if word in ("may", "march") and not spans and not _closes(source, j):
        return None
    if not spans and word in ("may", "march", "mar", "sep", "dec", "jan", "jun") and (
        before not in ("in", "of", "by", "until", "till", "from", "for", "to", "and", "between",
                       "during", "since", "through", "mid", "late", "early", "-", "or")
        or source.word(i + 1) in _MODAL
    ):  # fmt: skip
        return None
    step = 0 if month >= source.today.month else 1
    found = month_period(source.today.year + step, month, open_year=True)
    return (found, j) if found else None


def _closes(source: Source, i: int) -> bool:
    """Whether what stands at ``i`` ends a phrase, so that "may" before it is no verb."""
    word = source.word(i)
    return not word.isalpha() or word in ("at", "for", "with", "from", "to", "until", "i", "please")


def _is_clock(source: Source, i: int) -> bool:
    return source.word(i + 1) in (":", "am", "pm", "a", "p")


def _numeric_month(source: Source, i: int) -> Found[Period] | None:
    """Reads "12-2015", "2015/12"."""
    if source.word(i + 1) not in ("-", "/") or not (source.glued(i + 1) and source.glued(i + 2)):
        return None
    first, second = source.number(i), source.number(i + 2)
    if first is None or second is None or source.word(i + 3) in ("-", "/"):
        return None
    if source.word(i - 1) in ("-", "/") and source.glued(i):
        return None
    year, month = (second, first) if source.digits(i) <= 2 else (first, second)
    if not (1000 <= year <= 2999 and 1 <= month <= 12) or 4 not in (
        source.digits(i),
        source.digits(i + 2),
    ):
        return None
    found = month_period(year, month)
    return (found, i + 3) if found else None


def _year(source: Source, i: int) -> Found[Period] | None:
    """Reads "2014", "in 1992", "year 2008", "cy18", "1990s", "nineties"."""
    named = source.skip(i, "the")
    if source.word(i - 1) in ("fiscal", "school", "financial", "academic"):
        return None  # their first day differs from place to place
    if source.word(named) in ("year", "cy"):
        k = source.skip(named + 1, "of")
        late = numbers.year(source, k)
        if late is None and source.word(named) == "cy" and source.digits(k) == 2:
            late = 2000 + (source.number(k) or 0), k + 1
        return _years(late[0], late[1]) if late else None
    if source.digits(named) != 4:
        return None
    found = numbers.year(source, named)
    month = MONTHS.get(source.word(found[1])) if found else None
    if found and month and not source.digits(found[1] + 1):  # "2017 april"
        named_month = month_period(found[0], month)
        return (named_month, found[1] + 1) if named_month else None
    if found is None or not 1500 <= found[0] <= 2199:
        return None
    if source.word(found[1]) in ("s",):
        start, end = make_date(found[0] // 10 * 10, 1, 1), make_date(found[0] // 10 * 10 + 10, 1, 1)
        return (Period(start=start, end=end), found[1] + 1) if start and end else None
    span = _year_span(source, named, found[0])
    if span:
        return span
    glued = (source.glued(named) and source.word(named - 1) != "(") or (
        source.glued(found[1]) and source.word(found[1]).isalnum()
    )
    plain = source.word(named - 1) in _BEFORE_YEARS
    if glued or not plain or _is_quantity(source, found[1]):
        return None
    return _years(found[0], found[1])


def _year_span(source: Source, i: int, first: int) -> Found[Period] | None:
    """Reads "2014-2018", "2014~2018"; not the inside of a longer number such as a telephone's."""
    last = numbers.year(source, i + 2) if source.dash(i + 1) and source.digits(i + 2) else None
    if last is None or last[0] <= first or last[0] > 2199:
        return None
    inside = (
        source.dash(i - 1)
        or source.digits(i - 1)
        or (source.glued(last[1]) and source.word(last[1]) in ("-", "/"))
    )
    start, end = make_date(first, 1, 1), make_date(last[0], 1, 1)
    return (Period(start=start, end=end), last[1]) if start and end and not inside else None


def _is_quantity(source: Source, i: int) -> bool:
    """Whether a plural noun follows, as in "of 2000 pieces"."""
    word = source.word(i)
    return word.isalpha() and word.endswith("s") and word not in ("is", "was", "as", "has")


def _years(year: int, end: int) -> Found[Period] | None:
    start, after = make_date(year, 1, 1), make_date(year + 1, 1, 1)
    return (Period(start=start, end=after, unit="year"), end) if start and after else None


def _century(source: Source, i: int) -> Found[Period] | None:
    """Reads "the 21st century"."""
    found = numbers.ordinal(source, source.skip(i, "the"))
    if found is None or source.word(found[1]) != "century" or not 1 <= found[0] <= 30:
        return None
    start = make_date((found[0] - 1) * 100 or 1, 1, 1)
    end = make_date(found[0] * 100, 1, 1)
    return (Period(start=start, end=end), found[1] + 1) if start and end else None


def _quarter(source: Source, i: int) -> Found[Period] | None:
    """Reads "2017 q1", "q3 2019", "2019 H2", "the first quarter of 2019"."""
    lead = numbers.year(source, i) if source.digits(i) == 4 else None
    j = lead[1] if lead else source.skip(i, "the")
    j = j + 1 if lead and source.dash(j) else j
    letter, number = source.word(j), source.number(j + 1)
    if letter in ("q", "h") and number is not None and source.glued(j + 1):
        name, nth, end = ("quarter" if letter == "q" else "half"), number, j + 2
    elif (
        not lead and (ranked := numbers.ordinal(source, j)) and source.word(ranked[1]) == "quarter"
    ):
        name, nth, end = "quarter", ranked[0], source.skip(ranked[1] + 1, "of", "in")
        end = ranked[1] + 1 if end == ranked[1] + 1 else end
    else:
        return None
    if not 1 <= nth <= (4 if name == "quarter" else 2):
        return None
    year, end = _quarter_year(source, lead[0] if lead else None, end)
    months = 3 if name == "quarter" else 6
    start = make_date(year, (nth - 1) * months + 1, 1)
    after = start and add_months(start, months)
    return (Period(start=start, end=after, unit=name), end) if start and after else None


def _quarter_year(source: Source, year: int | None, end: int) -> tuple[int, int]:
    """The year of a quarter: given before it, behind it, or this one."""
    if year is not None:
        return year, end
    j = end + 1 if source.dash(end) or source.word(end) == "/" else source.skip(end, "of")
    late = numbers.year(source, j) if source.digits(j) == 4 else None
    if late:
        return late
    if source.word(end - 1) in ("of", "in"):
        return _sided_year(source, end) or (source.today.year, end - 1)
    return source.today.year, end


def _weekend(source: Source, i: int) -> Found[Period] | None:
    """Reads "weekend": the coming one; "halloween weekend"; "the weekend of halloween"."""
    j = source.skip(i, "the")
    if source.word(j) in _WEEKEND:
        if source.word(j + 1) == "of" and (named := day(source, j + 2)):
            found = _long_weekend(named[0].date)
            return (found, named[1]) if found else None
        found = unit_period(source.today, "weekend", 0)
        return (found, j + 1) if found else None
    feast, celebrated = holiday(source, j), day(source, j)
    if feast is None or celebrated is None or source.word(celebrated[1]) not in _WEEKEND:
        return None
    # The weekend beside a Monday or Friday holiday runs through it.
    late = year_after(source, celebrated[1] + 1)
    date_of = feast[0](late[0]) if late else celebrated[0].date
    found = _long_weekend(date_of) if date_of else None
    return (found, late[1] if late else celebrated[1] + 1) if found else None


def _sided_year(source: Source, i: int) -> Found[int] | None:
    """Reads "this year", "next year", "the year"."""
    j = source.skip(i, "the")
    side = SIDES.get(source.word(j), "")
    j = j + 1 if side else j
    return (source.today.year + _STEP[side], j + 1) if source.word(j) == "year" else None


def _long_weekend(feast: date) -> Period | None:
    saturday = add_days(feast, {0: -2, 1: -3, 6: -1}.get(feast.weekday(), 5 - feast.weekday()))
    end = saturday and add_days(saturday, 3 if feast.weekday() == 0 else 2)
    return Period(start=saturday, end=end, unit="weekend") if saturday and end else None


def _week_number(source: Source, i: int) -> Found[Period] | None:
    """Reads "week 31", "week 3 of 2027", "week 27 of last year": ISO weeks."""
    j = source.skip(i, "the")
    number = source.number(j + 1)
    if source.word(j) != "week" or number is None or not 1 <= number <= 53:
        return None
    year, end = source.today.year, j + 2
    if source.word(j + 2) == "of":
        year, end = numbers.year(source, j + 3) or _sided_year(source, j + 3) or (year, end)
    fourth = make_date(year, 1, 4)
    monday = fourth and add_days(week_start(fourth), 7 * (number - 1))
    found = days_from(monday, 7, "week") if monday else None
    return (found, end) if found else None
