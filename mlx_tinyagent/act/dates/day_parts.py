"""Parts of the day and named hours: "morning", "late at night", "noon", "at lunch"."""

from __future__ import annotations

from datetime import time

from mlx_tinyagent.act.dates.parts import PartOfDay
from mlx_tinyagent.act.dates.source import Found, Phrases, Source

_LAST = time(23, 59, 59)


def _part(name: str, start: int, end: int) -> PartOfDay:
    return PartOfDay(name=name, start=time(start), end=time(end) if end < 24 else _LAST)


MORNING, AFTERNOON = _part("morning", 8, 12), _part("afternoon", 12, 16)
EVENING, NIGHT = _part("evening", 16, 20), _part("night", 20, 24)

# Hours of the parts of day follow Recognizers-Text (MIT): morning 8-12, afternoon
# 12-16, evening 16-20, night 20-24, daytime 8-18, lunchtime 11-13.
PARTS = Phrases(
    (
        ("morning|mornings|forenoon", MORNING),
        ("early morning|early in the morning", _part("morning", 8, 10)),
        ("late morning|later in the morning|mid morning|midmorning", _part("morning", 10, 12)),
        ("afternoon|afternoons", AFTERNOON),
        ("early afternoon|early in the afternoon", _part("afternoon", 12, 14)),
        (
            "late afternoon|later in the afternoon|mid afternoon|midafternoon",
            _part("afternoon", 14, 16),
        ),
        ("evening|evenings", EVENING),
        ("early evening|early in the evening", _part("evening", 16, 18)),
        ("late evening|later in the evening", _part("evening", 18, 20)),
        ("night|nights", NIGHT),
        ("nighttime|night time", _part("night", 0, 8)),
        ("early night", _part("night", 20, 22)),
        ("late night|late at night", _part("night", 22, 24)),
        ("daytime|day time", _part("daytime", 8, 18)),
        ("lunchtime|lunch time", _part("lunchtime", 11, 13)),
        ("breakfast time|breakfasttime", _part("breakfast", 8, 12)),
        ("dinnertime|dinner time|suppertime|supper time", _part("dinner", 16, 20)),
        ("business hours|business hour|office hours|working hours", _part("business hours", 8, 18)),
    )
)
# A meal is a time where the words say so: "at lunch".
MEALS = {
    "lunch": _part("lunchtime", 11, 13),
    "breakfast": _part("breakfast", 8, 12),
    "dinner": _part("dinner", 16, 20),
}
NAMED = {
    "noon": time(12),
    "midday": time(12),
    "noonday": time(12),
    "midnight": time(0),
    "dawn": time(6),
    "sunrise": time(6),
    "sunset": time(18),
    "dusk": time(18),
}


def part_of_day(source: Source, i: int) -> Found[PartOfDay] | None:
    """A part of day at ``i`` with the words before it: "in the", "at", "this" belong elsewhere."""
    found = source.phrase(i, PARTS)
    if found and source.word(i - 1) == "good":  # a greeting
        return None
    return found
