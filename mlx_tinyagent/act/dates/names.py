"""Names of months and weekdays, and the words that place a date before or after today."""

from __future__ import annotations

from typing import Literal

from mlx_tinyagent.act.dates.source import Source

MONTH_NAMES = (
    "january jan|february feb|march mar|april apr|may|june jun|july jul|august aug"
    "|september sept sep|october oct|november nov|december dec"
)
MONTHS = {
    name: k for k, names in enumerate(MONTH_NAMES.split("|"), start=1) for name in names.split()
}
_DAY_NAMES = (
    "monday mon mondays|tuesday tue tues tuesdays|wednesday wed wednesdays"
    "|thursday thu thur thurs thursdays|friday fri fridays|saturday sat saturdays"
    "|sunday sun sundays"
)
WEEKDAYS = {name: k for k, names in enumerate(_DAY_NAMES.split("|")) for name in names.split()}
# Words that may follow a day of the month and show that it counts nothing.
STOPS = frozenset(
    ("at", "from", "in", "for", "with", "and", "to", "through", "between", "i", "of", "by", "til",
     "till", "until", "please", "around", "morning", "evening", "afternoon", "night", "noon",
     "this", "is", "on", "about", "we", "so", "if", "because")
)  # fmt: skip

Side = Literal["this", "next", "last", "past", "coming", ""]
SIDES: dict[str, Side] = {
    "this": "this", "current": "this", "next": "next", "following": "next", "last": "last",
    "previous": "last", "past": "past", "coming": "coming", "upcoming": "coming",
}  # fmt: skip


def stands_alone(source: Source, i: int) -> bool:
    """Whether the number at ``i`` is the last word of its phrase and no price, hour or count."""
    after = source.word(i + 1)
    if source.digits(i + 2) and source.glued(i + 2):
        return False
    return not after or after in STOPS or after in (".", "!", "?", ",", ";", "@")
