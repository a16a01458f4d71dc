"""What of a phrase was not read: words that may change what it means."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from mlx_tinyagent.act.dates.atoms import CORE
from mlx_tinyagent.act.dates.words import Word, split_words

# What an open hour means beside these words: "dinner at 8", "breakfast at 7".
EARLY = frozenset(("breakfast", "sunrise", "commute"))
LATE = frozenset(
    ("dinner", "supper", "drinks", "party", "movie", "movies", "concert", "theater", "theatre",
     "cocktail", "cocktails", "opera", "club", "bar")
)  # fmt: skip

# Words that leave a date as it is: what leads to it, how sure it is, and the hints above.
_HARMLESS = EARLY | LATE | frozenset(
    ("a", "an", "and", "approximately", "around", "about", "at", "beginning", "between", "by",
     "calendar", "circa", "coming", "date", "day", "due", "ending", "ends", "exactly", "for",
     "from", "in", "is", "ish", "it", "its", "local", "of", "on", "please", "precisely", "roughly",
     "s", "sharp", "starting", "starts", "that", "the", "then", "this", "through", "thru", "til",
     "till", "time", "to", "until", "up")
)  # fmt: skip

# Words that move a moment or choose between several, besides those that name one.
_TURNING = (CORE | frozenset(
    ("before", "after", "since", "not", "no", "except", "but", "or", "either", "neither",
     "instead", "than", "every", "each", "other", "minus", "plus", "earlier", "later", "without",
     "within", "unless", "if", "utc", "gmt", "est", "edt", "cst", "cdt", "mst", "mdt", "pst",
     "pdt", "et", "ct", "mt", "pt", "cet", "cest", "bst", "ist", "jst", "eastern", "pacific")
)) - _HARMLESS  # fmt: skip


def unread(text: str, read: Sequence[tuple[int, int]]) -> str:
    """The first words of a phrase that a reading of it leaves out and that may matter.

    Between two places that were read there may be words of another kind ("friday with
    Ana at 3"): there only numbers and words about time count. Before the first and
    after the last, all do that are not known to be harmless. A zone ("15:00Z") is
    never read.

    Args:
        text: The phrase.
        read: First and one past the last character of each place that was read, in order.

    Returns:
        A stretch of the phrase; empty if nothing is left out.
    """
    words = split_words(text)
    first, last = read[0][0], read[-1][1]
    starts = [start for start, _ in read]
    left = [
        _is_zone(words, i)
        if _inside(read, starts, word.start)
        else _matters(word, outside=not first <= word.start < last)
        for i, word in enumerate(words)
    ]
    if True not in left:
        return ""
    begin = left.index(True)
    end = begin + 1
    while any(left[end : end + 2]) and (left[end] or words[end + 1].glued):  # "02:00" is one
        end += 1
    return text[words[begin].start : words[end - 1].end]


def _inside(read: Sequence[tuple[int, int]], starts: Sequence[int], at: int) -> bool:
    place = bisect_right(starts, at) - 1
    return place >= 0 and at < read[place][1]


def _matters(word: Word, *, outside: bool) -> bool:
    if word.digits or word.text in _TURNING:
        return True
    return outside and word.text.isalpha() and word.text not in _HARMLESS


def _is_zone(words: Sequence[Word], i: int) -> bool:
    """Whether this is the "Z" of "15:00Z"."""
    return words[i].text == "z" and words[i].glued and i > 0 and words[i - 1].digits > 0
