"""Named days: a phrase and the date it falls on in a year.

United States rules where countries differ (Mother's Day, Labor Day), as the
numeric order of dates is. Lunar and Islamic days are computed or tabulated.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from mlx_tinyagent.act.dates.calendar import add_days, easter, islamic, make_date, nth_weekday
from mlx_tinyagent.act.dates.source import Found, Phrases, Source

Rule = Callable[[int], date | None]

# Chinese lunar new year, tabulated: its rule is astronomical.
# https://en.wikipedia.org/wiki/Chinese_New_Year
_LUNAR_NEW_YEAR = {
    2015: (2, 19), 2016: (2, 8), 2017: (1, 28), 2018: (2, 16), 2019: (2, 5), 2020: (1, 25),
    2021: (2, 12), 2022: (2, 1), 2023: (1, 22), 2024: (2, 10), 2025: (1, 29), 2026: (2, 17),
    2027: (2, 6), 2028: (1, 26), 2029: (2, 13), 2030: (2, 3), 2031: (1, 23), 2032: (2, 11),
    2033: (1, 31), 2034: (2, 19), 2035: (2, 8),
}  # fmt: skip


def _fixed(month: int, day: int) -> Rule:
    return lambda year: make_date(year, month, day)


def _nth(month: int, weekday: int, n: int, offset: int = 0) -> Rule:
    def rule(year: int) -> date | None:
        day = nth_weekday(year, month, weekday, n)
        return day and add_days(day, offset)

    return rule


def _easter(offset: int) -> Rule:
    return lambda year: add_days(easter(year), offset)


def _islamic(month: int, day: int) -> Rule:
    def rule(year: int) -> date | None:
        guess = (year - 622) * 33 // 32
        for hijri in range(guess - 1, guess + 3):
            found = islamic(hijri, month, day)
            if found and found.year == year:
                return found
        return None

    return rule


def _lunar_new_year(offset: int) -> Rule:
    def rule(year: int) -> date | None:
        day = make_date(year, *_LUNAR_NEW_YEAR.get(year, (0, 0)))
        return day and add_days(day, offset)

    return rule


_NAMES: tuple[tuple[str, Rule], ...] = (
    ("new year day|new years day|new years|new year|newyear", _fixed(1, 1)),
    ("new year eve|new years eve|nye", _fixed(12, 31)),
    ("martin luther king day|mlk day|martin luther king jr day", _nth(1, 0, 3)),
    ("groundhog day|ground hog day", _fixed(2, 2)),
    ("valentine day|valentines day|valentine|valentines|st valentine day", _fixed(2, 14)),
    ("president day|presidents day|washington birthday|washingtons birthday", _nth(2, 0, 3)),
    ("women day|international women day|womens day|international womens day", _fixed(3, 8)),
    ("pi day", _fixed(3, 14)),
    (
        "saint patrick|saint patrick day|st patrick day|st patricks day|saint patricks day"
        "|st patrick|st patricks|st paddys day|paddys day",
        _fixed(3, 17),
    ),
    ("april fool day|april fools day|april fools|april fool|all fools day", _fixed(4, 1)),
    ("earth day", _fixed(4, 22)),
    ("may day|international workers day|international worker day|workers day", _fixed(5, 1)),
    ("labour day", _fixed(5, 1)),
    ("star wars day", _fixed(5, 4)),
    ("cinco de mayo", _fixed(5, 5)),
    ("mother day|mothers day", _nth(5, 6, 2)),
    ("memorial day", _nth(5, 0, -1)),
    ("children day|childrens day", _fixed(6, 1)),
    ("juneteenth", _fixed(6, 19)),
    ("father day|fathers day", _nth(6, 6, 3)),
    ("canada day", _fixed(7, 1)),
    ("independence day|us independence day|fourth of july|july fourth", _fixed(7, 4)),
    ("bastille day", _fixed(7, 14)),
    ("labor day", _nth(9, 0, 1)),
    ("teacher day|teachers day", _fixed(9, 10)),
    ("columbus day|indigenous peoples day", _nth(10, 0, 2)),
    ("halloween|all hallows eve|halloween day", _fixed(10, 31)),
    ("all saints day|all hallows day|halloweenday", _fixed(11, 1)),
    ("all souls day", _fixed(11, 2)),
    ("guy fawkes|guy fawkes day|guy fawkes night|bonfire night", _fixed(11, 5)),
    ("veterans day|veteran day|remembrance day|armistice day", _fixed(11, 11)),
    ("singles day|single day", _fixed(11, 11)),
    ("thanksgiving|thanksgiving day|turkey day", _nth(11, 3, 4)),
    ("black friday", _nth(11, 3, 4, 1)),
    ("cyber monday", _nth(11, 3, 4, 4)),
    ("christmas eve", _fixed(12, 24)),
    ("christmas|christmas day", _fixed(12, 25)),
    ("boxing day", _fixed(12, 26)),
    ("mardi gras|fat tuesday", _easter(-47)),
    ("ash wednesday", _easter(-46)),
    ("palm sunday", _easter(-7)),
    ("maundy thursday", _easter(-3)),
    ("good friday", _easter(-2)),
    ("easter|easter sunday|easter day", _easter(0)),
    ("easter monday", _easter(1)),
    ("ascension day", _easter(39)),
    ("pentecost|whit sunday", _easter(49)),
    ("corpus christi", _easter(60)),
    ("chinese new year|lunar new year|spring festival", _lunar_new_year(0)),
    ("chinese new year eve|lunar new year eve", _lunar_new_year(-1)),
    ("ramadan|start of ramadan", _islamic(9, 1)),
    ("eid al fitr|eid ul fitr|eid", _islamic(10, 1)),
    ("eid al adha|eid ul adha|sacrifice feast", _islamic(12, 10)),
    ("islamic new year", _islamic(1, 1)),
)

NAMES = Phrases(_NAMES)


def holiday(source: Source, i: int) -> Found[Rule] | None:
    """A named day at ``i``, as the rule that gives its date in a year."""
    if source.word(i) not in NAMES.openers:
        return None
    found = source.phrase(i, NAMES) or _without_apostrophe(source, i)
    if found is None:
        return None
    rule, end = found
    return rule, source.skip(end, "day") if source.word(end - 1) != "day" else end


def _without_apostrophe(source: Source, i: int) -> Found[Rule] | None:
    """Reads "workers' day", where the apostrophe stands outside the word."""
    words = [source.word(k) for k in range(i, i + 6)]
    marks = [k for k, word in enumerate(words) if word and word in "'’`"]  # noqa: RUF001
    if not marks:
        return None
    at = marks[0]
    for length in range(5, at, -1):
        key = tuple(words[:at] + words[at + 1 : length])
        if key in NAMES.entries:
            return NAMES.entries[key], i + length
    return None
