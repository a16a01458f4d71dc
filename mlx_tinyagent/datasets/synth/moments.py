"""Date and time phrases as people write them; the plan keeps the words, code resolves them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_WORDS = (
    "twelve one two three four five six seven eight nine ten eleven twelve"  # index 0 and 12
).split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A phrase for a point in time.

    Attributes:
        lead: Preposition that goes before it in running text; no part of the value.
        text: The phrase.
        timed: Whether it says a time of day.
    """

    lead: str = ""
    text: str
    timed: bool


def ordinal(day: int) -> str:
    """Write a day of the month: 1st, 2nd, 3rd, 4th."""
    if day % 100 in (11, 12, 13):
        return f"{day}th"
    return f"{day}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th') }"


def clock(rng: Random, *, written: bool, hour: int | None = None, minute: int | None = None) -> str:
    """Write a time of day, such as ``3:00 PM`` (written) or ``3pm``, ``half past nine``."""
    hour = (
        hour
        if hour is not None
        else rng.choice((8, 9, 9, 10, 10, 11, 12, 13, 14, 14, 15, 15, 16, 17, 18, 19, 20))
    )
    minute = minute if minute is not None else rng.choice((0, 0, 0, 0, 0, 30, 30, 15, 45))
    half = "AM" if hour < 12 else "PM"
    shown = hour % 12 or 12
    if written:
        return (
            f"{shown}:{minute:02d} {half}" if minute or rng.random() < 0.85 else f"{shown} {half}"
        )
    low = half.lower()
    digits = f"{shown}:{minute:02d}" if minute else str(shown)
    forms = [f"{digits} {low}", f"{digits}{low}", f"{digits} {low}", f"{shown}:{minute:02d}{low}"]
    if minute == 0:
        forms += [
            f"{_WORDS[shown]} {low}",
            f"{shown} o'clock" if 8 <= hour <= 19 else f"{digits}{low}",
        ]
        if hour == 12:
            forms += ["noon", "noon"]
    if minute == 30:
        forms += [f"half past {_WORDS[shown]}", f"{_WORDS[shown]} thirty {low}"]
    if rng.random() < 0.15 and hour >= 13:
        forms.append(f"{hour}:{minute:02d}")
    if rng.random() < 0.4 and 1 <= shown <= 8:
        forms.append(digits)
    return rng.choice(forms)


def day(rng: Random, *, written: bool) -> Moment:
    """Write a day: tomorrow, Friday, next Monday, March 3rd."""
    roll = rng.random()
    weekday = rng.choice(WEEKDAYS[:5] if rng.random() < 0.75 else WEEKDAYS)
    if roll < 0.30:
        return Moment(text="tomorrow", timed=False)
    if roll < 0.50:
        return Moment(text=f"next {weekday}", timed=False)
    if roll < (0.70 if written else 0.76):
        return Moment(lead="on ", text=weekday, timed=False)
    if roll < 0.76:
        return Moment(lead=rng.choice(("", "on ")), text=f"this {weekday}", timed=False)
    if roll < 0.92:
        return _dated(rng, written)
    options = (
        ["today", "the day after tomorrow"]
        if written
        else ["today", "today", "the day after tomorrow"]
    )
    return Moment(text=rng.choice(options), timed=False)


def _dated(rng: Random, written: bool) -> Moment:
    number = rng.randint(1, 28)
    month = rng.choice(MONTHS)
    if written:
        shown = rng.choice((f"{month} {ordinal(number)}", f"{month} {number}"))
        return Moment(lead="on ", text=shown, timed=False)
    forms = (
        f"{month} {ordinal(number)}",
        f"{month} {number}",
        f"the {ordinal(number)}",
        f"the {ordinal(number)} of {month}",
        f"{month[:3]} {number}",
    )
    return Moment(lead="on ", text=rng.choice(forms), timed=False)


def vague(rng: Random, *, written: bool) -> Moment:
    """Write a span of days that stands for a date: next week, this weekend, in three days."""
    forms = ["next week", "next weekend", "this weekend", "next month"]
    if not written:
        forms += ["in two days", "in 3 days", "in a week", "this week", "two weeks from now"]
    return Moment(text=rng.choice(forms), timed=False)


def soon(rng: Random, *, written: bool) -> Moment:
    """Write a moment near now: in 20 minutes, tonight, this evening, tomorrow morning."""
    minutes = rng.choice((5, 10, 15, 20, 30, 45))
    forms = [
        f"in {minutes} minutes",
        "in an hour",
        "in two hours",
        "tonight",
        "this evening",
        "this afternoon",
        "tomorrow morning",
        "tomorrow afternoon",
        "tomorrow evening",
        "tomorrow night",
        f"{rng.choice(WEEKDAYS)} {rng.choice(('morning', 'afternoon', 'evening', 'night'))}",
    ]
    return Moment(text=rng.choice(forms if not written else forms[3:]), timed=True)


def day_and_clock(rng: Random, *, written: bool) -> Moment:
    """Write a day with a time of day."""
    on = day(rng, written=written)
    at = clock(rng, written=written)
    if written:
        return Moment(lead=on.lead, text=f"{on.text} at {at}", timed=True)
    if rng.random() < 0.25:
        bare = at.replace(":", "").isdigit()
        lead = "at " if bare or rng.random() < 0.7 else ""
        return Moment(
            lead=lead, text=f"{at} {on.lead if rng.random() < 0.6 else ''}{on.text}", timed=True
        )
    joiner = " at " if rng.random() < 0.75 or at.replace(":", "").isdigit() else " "
    return Moment(lead=on.lead, text=f"{on.text}{joiner}{at}", timed=True)


def moment(rng: Random, *, written: bool, timed: bool | None = None) -> Moment:
    """Write any date phrase; ``timed`` asks for one with or without a time of day."""
    if timed is None:
        timed = rng.random() < (0.62 if written else 0.6)
    if timed:
        if not written and rng.random() < 0.22:
            return soon(rng, written=written)
        if not written and rng.random() < 0.18:
            return Moment(lead="at ", text=clock(rng, written=False), timed=True)
        return day_and_clock(rng, written=written)
    if rng.random() < (0.12 if written else 0.15):
        return vague(rng, written=written)
    return day(rng, written=written)


def minutes(rng: Random, *, written: bool) -> tuple[str, int]:
    """Write a duration with its minutes: ("half an hour", 30)."""
    table = [
        ("30 minutes", 30),
        ("45 minutes", 45),
        ("15 minutes", 15),
        ("90 minutes", 90),
        ("20 minutes", 20),
    ]
    table += [
        ("1 hour", 60),
        ("an hour", 60),
        ("2 hours", 120),
        ("two hours", 120),
        ("60 minutes", 60),
    ]
    if not written:
        table += [("half an hour", 30), ("30 min", 30), ("45 mins", 45), ("an hour and a half", 90)]
    return rng.choice(table)


def stretch(rng: Random, *, written: bool, lasting: bool = False) -> Moment:
    """Write a start with an end: "Friday from 2 to 4 pm"; ``lasting``: "Friday at 2 for 1 hour"."""
    if lasting:
        start = day_and_clock(rng, written=written)
        return Moment(
            lead=start.lead, text=f"{start.text} for {minutes(rng, written=written)[0]}", timed=True
        )
    on = day(rng, written=written)
    hour = rng.choice((8, 9, 10, 12, 13, 14, 15, 17, 18))
    length = rng.choice((1, 1, 1, 2, 2, 3))
    first = clock(rng, written=True, hour=hour, minute=rng.choice((0, 0, 30)))
    last = clock(rng, written=True, hour=hour + length, minute=rng.choice((0, 0, 30)))
    if not written:
        first, last = (_squeezed(text) for text in (first, last))
        if rng.random() < 0.5 and (hour < 12) == (hour + length < 12):
            first = first.removesuffix("am").removesuffix("pm")
        to = rng.choice((" to ", "-", " until ", " till "))
        return Moment(
            lead=on.lead, text=f"{on.text} {rng.choice(('', 'from '))}{first}{to}{last}", timed=True
        )
    return Moment(lead=on.lead, text=f"{on.text} from {first} to {last}", timed=True)


def _squeezed(text: str) -> str:
    return text.replace(":00", "").replace(" ", "").lower()
