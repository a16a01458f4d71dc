"""Times of day: "3pm", "half past seven", "1140 a.m.", "at 6", "15h30", "nine thirty"."""

from __future__ import annotations

from dataclasses import replace

from mlx_tinyagent.act.dates.day_parts import NAMED, part_of_day
from mlx_tinyagent.act.dates.full_dates import full_date
from mlx_tinyagent.act.dates.lengths import UNITS
from mlx_tinyagent.act.dates.names import WEEKDAYS, stands_alone
from mlx_tinyagent.act.dates.numbers import cardinal, ordinal, small_number, spoken
from mlx_tinyagent.act.dates.parts import Clock
from mlx_tinyagent.act.dates.source import Found, Source

# Words that make the bare number after them a time of day.
_AT = frozenset(("at", "@", "around", "about", "circa", "approximately", "by", "til", "till"))
_PAST, _BEFORE = frozenset(("past", "after")), frozenset(("to", "before", "till", "til"))
_DAYS = frozenset(("today", "tomorrow", "tonight"))
_DAY_WORDS = _DAYS | {"next"}
_NOT_HALF = frozenset(("a", "and", "the", "first", "second", "last", "other"))
_NOT_A_CLOCK = frozenset(("%", "th", "st", "nd", "rd", "percent", "/", "$", "dollars", "people"))


def clock(source: Source, i: int) -> Found[Clock] | None:
    """A time of day at ``i`` that stands for itself, without "at"."""
    return source.once("clock", i, lambda: _clock(source, i))


def _clock(source: Source, i: int) -> Found[Clock] | None:
    return (
        _named(source, i)
        or _past(source, i)
        or _half(source, i)
        or digital(source, i)
        or _with_words(source, i)
        or _basic(source, i)
    )


def _basic(source: Source, i: int) -> Found[Clock] | None:
    """Reads "T160000" and "T1600" of the basic ISO format."""
    number, digits = source.number(i + 1), source.digits(i + 1)
    if source.word(i) != "t" or number is None or digits not in (4, 6) or not source.glued(i + 1):
        return None
    seconds = number if digits == 6 else number * 100
    hour, minute, second = seconds // 10000, seconds // 100 % 100, seconds % 100
    end = source.skip(i + 2, "z")
    return _valid(hour, minute, second, opened=False, end=end) if source.glued(i) else None


def clock_after_at(source: Source, i: int) -> Found[Clock] | None:
    """A time of day where one is expected: bare numbers count ("at 3", "at seven thirty")."""
    return clock(source, i) or _dotted(source, i) or _bare(source, i)


def led_clock(source: Source, i: int) -> Found[Clock] | None:
    """A time of day behind "at", "around", "by" and the like."""
    j = i
    while source.word(j) in _AT and j < i + 3:
        j += 1
    if j == i:
        return _from_clock(source, i)
    if source.word(j) == "the" and source.word(j + 1) in NAMED:
        j += 1
    if source.digits(j) == 4 and source.word(j - 1) not in ("at", "@") and not clock(source, j):
        return None  # "by 2018" is a year
    if full_date(source, j):
        return None
    found = clock_after_at(source, j)
    if found is None or counts_things(source, found[1]):
        return None
    after = source.word(found[1])
    loose = source.word(j - 1) in ("about", "around", "by") and source.number(j) is None
    if (
        found[0].bare
        and loose
        and not (stands_alone(source, found[1] - 1) or after in WEEKDAYS or after in _DAY_WORDS)
    ):
        return None  # "about three things"
    counted = found[0].bare and part_of_day(source, found[1])  # "at 2 morning sessions"
    return None if counted else found


def _from_clock(source: Source, i: int) -> Found[Clock] | None:
    """Reads "from 12 tomorrow", "from 9": a start without its end."""
    if source.word(i) != "from" or full_date(source, i + 1) or source.digits(i + 1) > 2:
        return None
    found = clock_after_at(source, i + 1)
    if found is None or counts_things(source, found[1]):
        return None
    after = source.word(found[1])
    lone = stands_alone(source, found[1] - 1) or after in WEEKDAYS or after in _DAY_WORDS
    return found if lone or not found[0].bare else None


def counts_things(source: Source, end: int) -> bool:
    """Whether what follows a bare number shows that it is no time ("at 3 percent")."""
    word = source.word(end)
    return word in _NOT_A_CLOCK or (word in UNITS and word not in ("night", "min", "minutes"))


def _named(source: Source, i: int) -> Found[Clock] | None:
    """Reads "noon", "12 noon", "midnight"."""
    at = i + 1 if source.number(i) == 12 or source.word(i) == "twelve" else i
    if source.word(i) == "mid":
        mid = i + 2 if source.dash(i + 1) else i + 1
        return (Clock(hour=0, midnight=True), mid + 1) if source.word(mid) == "night" else None
    ish = {"noonish": "noon", "middayish": "midday"}
    named = NAMED.get(ish.get(source.word(at), source.word(at)))
    if named is None or (at > i and named.hour not in (0, 12)):
        return None
    if source.dash(at - 1) and source.word(at - 2) in ("mid", "after"):
        return None
    return Clock(hour=named.hour, midnight=named.hour == 0), at + 1


def _past(source: Source, i: int) -> Found[Clock] | None:
    """Reads "half past seven", "quarter to 8", "20 min past eight", "ten to five"."""
    j = source.skip(i, "a")
    word = source.word(j)
    if word in ("half", "quarter"):
        minutes, j = (30 if word == "half" else 15), j + 1
        j = j + 1 if source.dash(j) else j
    else:
        count = cardinal(source, j)
        if count is None or not 1 <= count[0] <= 59:
            return None
        minutes, j = count
        counted = source.skip(j, "min", "mins", "minute", "minutes")
        if source.word(j) in _BEFORE and counted == j and source.word(i - 1) not in _AT:
            return None  # "five to seven" is a range unless "at" stands before it
        j = counted
    sign = 1 if source.word(j) in _PAST else -1 if source.word(j) in _BEFORE else 0
    spelled = word in ("half", "quarter") or minutes in (5, 10, 15, 20, 25)
    if (
        not sign
        or (sign < 0 and not spelled)
        or (sign < 0 and source.word(i).isdigit() and source.word(j - 1).isdigit())
    ):
        return None
    k = j + 1  # never _past again: "5 to 5 to 5 ..." must not nest
    hour = _named(source, k) or digital(source, k) or _with_words(source, k) or _bare(source, k)
    if hour is None or hour[0].minute:
        return None
    return _moved(hour[0], sign * minutes), hour[1]


def _half(source: Source, i: int) -> Found[Clock] | None:
    """Reads "half six", "half 6": British for half past six."""
    before = source.word(i - 1)
    if source.word(i) != "half" or before in _NOT_HALF or source.digits(i - 1):
        return None
    j = i + 2 if source.dash(i + 1) else i + 1
    hour = source.number(j) if source.digits(j) in (1, 2) else small_number(source.word(j))
    if hour is None or not 1 <= hour <= 12 or counts_things(source, j + 1):
        return None
    after, settled = source.word(j + 1), meridiem(source, j + 1) or _oclock(source, j + 1) > j + 1
    spans = source.dash(j + 1) or after in WEEKDAYS or after in _DAY_WORDS
    if not (settled or spans or stands_alone(source, j)):
        return None  # "half 6 packs"
    return _finish(source, j + 1, hour, 30, 0, digits=1)


def _moved(hour: Clock, minutes: int) -> Clock:
    """A full hour moved by less than an hour; "quarter to 1" keeps 12 open."""
    if minutes > 0:
        return replace(hour, minute=minutes)
    if hour.open:
        return replace(hour, hour=(hour.hour - 2) % 12 + 1, minute=60 + minutes)
    return replace(hour, hour=(hour.hour - 1) % 24, minute=60 + minutes)


def digital(source: Source, i: int) -> Found[Clock] | None:
    """Digits with a colon, an "am"/"pm" or an "h": "3:30", "15:00:05", "9p", "15h30"."""
    hour = source.number(i)
    if hour is None or source.word(i - 1) in ("$", "€", "£"):
        return None
    return (
        _colons(source, i, hour)
        or _spaced(source, i, hour)
        or _h_form(source, i, hour)
        or _military(source, i, hour)
        or _with_meridiem(source, i, hour)
    )


def _colons(source: Source, i: int, hour: int) -> Found[Clock] | None:
    """Reads "h:mm", "h:mm:ss", then perhaps "am" or "pm"."""
    separated = source.word(i + 1) == ":" and source.digits(i + 2) == 2
    # The keys beside the colon's: "7;30 pm", "7|30 pm".
    slipped = source.word(i + 1) in (";", "|") and source.glued(i + 1) and source.glued(i + 2)
    if slipped and source.digits(i + 2) == 2 and meridiem(source, i + 3):
        separated = True
    if not separated or source.digits(i) > 2 or (source.word(i - 1) == ":" and source.glued(i)):
        return None
    minute, second, j = source.number(i + 2) or 0, 0, i + 3
    if source.word(j) == ":" and source.digits(j + 1) == 2:
        second, j = source.number(j + 1) or 0, j + 2
        if source.word(j) == "." and source.digits(j + 1) and source.glued(j + 1):
            j += 2  # fractions of a second are dropped
    if source.word(j) == "z" and source.glued(j):
        j += 1
    return _finish(source, j, hour, minute, second, digits=source.digits(i))


def _spaced(source: Source, i: int, hour: int) -> Found[Clock] | None:
    """Reads "8 30 am", "7 thirty p m": dictated times, which need their "am" or "pm"."""
    found = _two_digits(source, i)
    if found is None or source.digits(i) > 2 or not meridiem(source, found[1]):
        return None
    return _finish(source, found[1], hour, found[0], 0, digits=source.digits(i))


def _two_digits(source: Source, i: int) -> Found[int] | None:
    """Minutes that stand apart behind the hour at ``i``."""
    minute = source.number(i + 1)
    if minute is not None:
        return (minute, i + 2) if source.digits(i + 1) == 2 and minute < 60 else None
    return _spoken_minute(source, i + 1)


def _dotted(source: Source, i: int) -> Found[Clock] | None:
    """Reads "8.30pm" anywhere, "2.30" where a time is expected; "2.3" never."""
    hour, minute = source.number(i), source.number(i + 2)
    if hour is None or minute is None or source.word(i + 1) != "." or source.digits(i + 2) != 2:
        return None
    if not (source.glued(i + 1) and source.glued(i + 2)):
        return None
    if source.word(i + 3) in (".", "/") and source.digits(i + 4):
        return None  # "1.23.4" is a version, "12.05/3" a fraction
    return _finish(source, i + 3, hour, minute, 0, digits=source.digits(i))


def _h_form(source: Source, i: int, hour: int) -> Found[Clock] | None:
    """Reads "15h", "15h30", "1500 hours", "0730 hrs"."""
    if source.digits(i) == 4 and source.word(i + 1) in ("hours", "hrs", "h"):
        return _valid(hour // 100, hour % 100, 0, opened=False, end=i + 2)
    if source.word(i + 1) != "h" or not source.glued(i + 1) or not 0 <= hour <= 24:
        return None
    if source.digits(i + 2) == 2 and source.glued(i + 2):
        return _valid(hour, source.number(i + 2) or 0, 0, opened=False, end=i + 3)
    # "3h" is a duration; hours beyond 12 are a time of day.
    if hour > 12 or (source.digits(i) == 2 and source.word(i).startswith("0")):
        return _valid(hour, 0, 0, opened=False, end=i + 2)
    return None


def _military(source: Source, i: int, number: int) -> Found[Clock] | None:
    """Reads "1140 a.m.", "330pm"."""
    if source.digits(i) not in (3, 4):
        return None
    half = meridiem(source, i + 1)
    if half is None or not 1 <= number // 100 <= 12:
        return None
    return _finish(source, i + 1, number // 100, number % 100, 0, digits=source.digits(i))


def _with_meridiem(source: Source, i: int, hour: int) -> Found[Clock] | None:
    """Reads "3pm", "3 p.m.", "3 o'clock", "3ish", "8.30 pm"."""
    if source.digits(i) > 2 or (source.word(i - 1) in (".", ",") and source.glued(i)):
        return None
    dotted = _dotted(source, i)
    if dotted and meridiem(source, i + 3):
        return dotted
    if (
        source.word(i + 1) in (":", ".")
        and source.glued(i + 1)
        and (source.word(i + 2) in ("am", "pm") and source.glued(i + 2))
    ):  # "5:PM", "9.am"
        return _finish(source, i + 2, hour, 0, 0, digits=source.digits(i))
    if meridiem(source, i + 1) or _oclock(source, i + 1) > i + 1:
        return _finish(source, i + 1, hour, 0, 0, digits=source.digits(i))
    return None


def _with_words(source: Source, i: int) -> Found[Clock] | None:
    """Reads "nine a m", "one thirty p m", "seven o'clock", "threeish"."""
    hour = spoken(source, i)
    if hour is None and source.word(i).endswith("ish"):
        about = small_number(source.word(i)[:-3])
        return _finish(source, i + 1, about, 0, 0, digits=1) if about else None
    if hour is None or not 0 <= hour[0] <= 24:
        return None
    value, j = hour
    minute = _spoken_minute(source, j) or _hundred(source, j)
    if minute and (meridiem(source, minute[1]) or source.word(minute[1]) == "hours"):
        end = source.skip(minute[1], "hours")
        if end > minute[1]:
            return _valid(value, minute[0], 0, opened=False, end=end)
        return _finish(source, minute[1], value, minute[0], 0, digits=1)
    if meridiem(source, j) or _oclock(source, j) > j:
        return _finish(source, j, value, 0, 0, digits=1)
    return None


def _hundred(source: Source, i: int) -> Found[int] | None:
    """Reads "hundred", "hundred and thirty" behind an hour: dictated or military time."""
    if source.word(i) != "hundred":
        return None
    j = source.skip(i + 1, "and")
    rest = spoken(source, j)
    return rest if rest and rest[0] < 60 else (0, i + 1)


def _spoken_minute(source: Source, i: int) -> Found[int] | None:
    """Minutes in words behind an hour: "thirty", "oh five", "forty-three minutes"."""
    if source.word(i) in ("oh", "o"):
        ones = spoken(source, i + 1)
        return ones if ones and 1 <= ones[0] <= 9 else None
    j = i + 1 if source.dash(i) else i
    found = spoken(source, j)
    if found is None or not 10 <= found[0] <= 59 or ordinal(source, j):
        return None
    return found[0], source.skip(found[1], "minutes", "minute", "mins")


def _bare(source: Source, i: int) -> Found[Clock] | None:
    """A number alone, or two in words ("seven twenty-seven"), as a clock."""
    found = cardinal(source, i)
    if found is None or ordinal(source, i) or source.word(i - 1) in ("$", "€", "£"):
        return None
    if source.word(i - 1) in (".", ",", ":") and source.glued(i) and source.digits(i - 2):
        return None  # the tail of "37.1"
    hour, j = found
    if source.number(i) is not None and source.digits(i) > 2:
        return _four_digits(source, i, hour)
    if not 0 <= hour <= 24 or (
        source.word(j) in (":", ".") and source.digits(j + 1) and source.glued(j + 1)
    ):
        return None
    minute = _two_digits(source, i) if source.number(i) is not None else _spoken_minute(source, j)
    if minute and not counts_things(source, minute[1]):
        return _finish(source, minute[1], hour, minute[0], 0, digits=1)
    done = _finish(source, j, hour, 0, 0, digits=source.digits(i) or 1)
    return (replace(done[0], bare=done[1] == j), done[1]) if done else None


def _four_digits(source: Source, i: int, number: int) -> Found[Clock] | None:
    """Reads "0730" where a time is expected; what may be a year, only where no year can be."""
    if source.digits(i) != 4 or number >= 2400 or number % 100 > 59:
        return None
    before, after = source.word(i - 1), source.word(source.skip(i + 1, "on"))
    beside = before in WEEKDAYS or before in _DAYS or before in ("at", "@")
    opening = before == "" and (after in WEEKDAYS or after in _DAYS)
    if 1900 <= number <= 2100 and not (beside or opening):
        return None
    return _valid(number // 100, number % 100, 0, opened=1 <= number // 100 <= 12, end=i + 1)


def meridiem(source: Source, i: int) -> Found[int] | None:
    """Reads "am", "a.m.", "a m", "p" right behind digits; 0 for am, 12 for pm."""
    word = source.word(i)
    if source.glued(i + 1) and source.word(i + 1).isalnum():
        return None  # "3am3io" is no time
    if word in ("am", "pm"):
        return (0 if word == "am" else 12), i + 1
    if word not in ("a", "p"):
        return None
    j = source.skip(i + 1, ".")
    if source.word(j) == "m":
        end = source.skip(j + 1, ".") if j > i + 1 and source.glued(j + 1) else j + 1
        return (0 if word == "a" else 12), end
    if source.glued(i) and source.digits(i - 1) and not source.word(i + 1).isdigit():
        return (0 if word == "a" else 12), i + 1
    return None


def _oclock(source: Source, i: int) -> int:
    """Position after "o'clock" or "ish"; ``i`` where neither stands."""
    if source.word(i) == "o":
        j = source.skip(i + 1, "'", "`")
        if source.word(j) == "clock":
            return j + 1
    if source.word(i) == "ish" and (source.glued(i) or source.dash(i - 1)):
        return i + 1
    if source.dash(i) and source.word(i + 1) == "ish":
        return i + 2
    return source.skip(i, "oclock")


def _finish(
    source: Source, j: int, hour: int, minute: int, second: int, *, digits: int
) -> Found[Clock] | None:
    """Reads what may follow the digits of a clock, and checks the whole."""
    j = _oclock(source, j)
    half = meridiem(source, j)
    if half is None:
        opened = 1 <= hour <= 12 and not (digits == 2 and hour < 10)
        return _valid(hour, minute, second, opened=opened, end=j)
    if hour > 12:  # "15:00 pm"
        return _valid(hour, minute, second, opened=False, end=half[1])
    if hour == 0 and half[0]:
        return None
    return _valid(hour % 12 + half[0], minute, second, opened=False, end=half[1])


def _valid(hour: int, minute: int, second: int, *, opened: bool, end: int) -> Found[Clock] | None:
    if not (0 <= hour <= 24 and 0 <= minute <= 59 and 0 <= second <= 59):
        return None
    if hour == 24 and (minute or second):
        return None
    return Clock(hour=hour % 24, minute=minute, second=second, open=opened), end
