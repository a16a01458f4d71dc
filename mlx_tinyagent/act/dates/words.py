"""Text to words: the lexer of the date grammar, with the typos people make.

One pass, one regular expression without nested repetition, so the cost is
linear in the text. Every word keeps its place in the original text; matching is
done on a lower-case, apostrophe-free, spelling-corrected form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

# Numerals that stand for a sound come first: "2morrow" is one word, "2pm" is two.
_WORD = re.compile(
    r"2(?:morrow|moro|mrw|day|nite|night)(?![^\W\d_])"
    r"|\d+"
    r"|[^\W\d_]+(?:['’`´][^\W\d_]+)*"  # noqa: RUF001 - people type every apostrophe
    r"|[^\w\s]|_"
)
_APOSTROPHES = str.maketrans("", "", "'’`´")  # noqa: RUF001
_MAX_DIGITS = 8  # longer digit strings are identifiers, never dates

# Short forms and misspellings too far from the word for the one-edit rule below.
_SPELLINGS = {
    "2day": "today", "2moro": "tomorrow", "2morrow": "tomorrow", "2mrw": "tomorrow",
    "todays": "today", "tomorrows": "tomorrow", "twelveth": "twelfth",
    "2night": "tonight", "2nite": "tonight", "tmr": "tomorrow", "tmrw": "tomorrow",
    "tmrrw": "tomorrow", "tmw": "tomorrow", "tomo": "tomorrow",
    "tomoz": "tomorrow", "tomm": "tomorrow", "tommorw": "tomorrow", "tmorrow": "tomorrow",
    "tonite": "tonight", "tonigh": "tonight", "tdy": "today", "todat": "today", "todya": "today",
    "tody": "today", "yday": "yesterday",
    "munday": "monday", "mondy": "monday", "mondya": "monday", "mnday": "monday",
    "firday": "friday", "fridy": "friday", "firiday": "friday", "friay": "friday",
    "sundy": "sunday", "sudnay": "sunday", "satuday": "saturday", "satday": "saturday",
    "wensday": "wednesday", "wenesday": "wednesday", "wendsday": "wednesday",
    "weds": "wednesday", "wedsnday": "wednesday", "thrusday": "thursday", "thusday": "thursday",
    "tuseday": "tuesday", "teusday": "tuesday", "febuary": "february", "feburary": "february",
    "janurary": "january", "minuet": "minute", "minuets": "minutes", "hrs": "hours",
    "moring": "morning", "mornin": "morning", "morn": "morning", "mornning": "morning",
    "aftenoon": "afternoon", "arvo": "afternoon", "noontime": "noon",
    "xmas": "christmas", "nite": "night", "oclock": "oclock", "wknd": "weekend",
    "nxt": "next", "ninteen": "nineteen", "fourty": "forty", "qtr": "quarter",
}  # fmt: skip

# Words long and odd enough that one slip of a finger cannot make another English word.
_FORGIVING = (
    "tomorrow", "yesterday", "wednesday", "thursday", "tuesday", "saturday", "january",
    "february", "september", "october", "november", "december", "afternoon", "tonight",
    "midnight", "weekend", "thanksgiving", "christmas", "halloween",
)  # fmt: skip
_REAL_WORDS = frozenset(("thursdays", "tuesdays", "wednesdays", "saturdays", "weekends"))

# Names one edit away from which there are few words, all of them listed below.
_CAREFUL = ("monday", "friday", "sunday", "april", "august")
_OTHER_WORDS = frozenset(
    ("mondays", "fridays", "sundays", "manday", "mondal", "frida", "sundae", "sundar", "sundry",
     "sunray", "sunway", "sunda", "avril", "aprils", "augusta", "auguste", "augusto", "augusts",
     "august")
)  # fmt: skip
# Names with too many neighbors ("marsh", "match", "Jane", "jury"): two letters changed places,
# or one came twice.
_SHORT = ("march", "june", "july")


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word, number or mark of a text.

    Attributes:
        text: Normal form: lower case, no apostrophes, spelling corrected, no possessive.
        start: First character in the original text.
        end: One past the last character.
        glued: Whether no white space stands before it ("pm" in "3pm").
        number: Value of a digit string of at most eight digits, else None.
        digits: Length of the digit string, 0 for other words ("0730" has 4).
    """

    text: str
    start: int
    end: int
    glued: bool
    number: int | None
    digits: int


def split_words(text: str) -> tuple[Word, ...]:
    """Split a text into words in order; characters that are white space are dropped."""
    words: list[Word] = []
    end = -1
    for match in _WORD.finditer(text):
        raw = match.group()
        numeric = raw.isdecimal()
        words.append(
            Word(
                text=_normal(raw) if len(raw) > 1 and not numeric else raw.lower(),
                start=match.start(),
                end=match.end(),
                glued=match.start() == end,
                number=int(raw) if numeric and len(raw) <= _MAX_DIGITS else None,
                digits=len(raw) if numeric else 0,
            )
        )
        end = match.end()
    return tuple(words)


def _normal(raw: str) -> str:
    """Lower case without apostrophes, possessive 's or a known slip."""
    word = raw.lower()
    if len(word) > 24:  # longer than anything the grammar knows
        return word[:25]
    if len(word) > 2 and word[-1] == "s" and word[-2] in "'’`´":  # noqa: RUF001
        word = word[:-2]
    return correct(word.translate(_APOSTROPHES))


@lru_cache(maxsize=4096)
def correct(word: str) -> str:
    """The word meant by a lower-case word: itself, or the one it misspells.

    Doubled letters are ignored and one edit is forgiven in a closed list of long
    words; everything shorter goes through tables. The first letter is always right.
    """
    known = _SPELLINGS.get(word) or _SLIPS.get(word)
    if known is not None:
        return known
    if not 5 <= len(word) <= 13 or word in _REAL_WORDS:
        return word
    squeezed = _squeeze(word)
    for variant in (squeezed, *_deletions(squeezed)):
        meant = _NEIGHBORS.get(variant)
        if meant is not None and meant[0] == word[0] and abs(len(meant) - len(word)) <= 2:
            return meant
    return word


def _squeeze(word: str) -> str:
    return "".join(a for a, b in zip(word, "\0" + word, strict=False) if a != b)


def _deletions(word: str) -> tuple[str, ...]:
    return tuple(word[:k] + word[k + 1 :] for k in range(len(word)))


def _neighborhood() -> Mapping[str, str]:
    table: dict[str, str] = {}
    for word in _FORGIVING:
        squeezed = _squeeze(word)
        for variant in (squeezed, *_deletions(squeezed)):
            table.setdefault(variant, word)
    return table


_NEIGHBORS = _neighborhood()


def _edits(word: str) -> Iterator[str]:
    """Every text one edit away: a letter left out, put in or replaced, and ``_swaps``."""
    for k in range(1, len(word) + 1):
        yield word[:k] + word[k + 1 :]
        for letter in "abcdefghijklmnopqrstuvwxyz":
            yield word[:k] + letter + word[k:]
            yield word[:k] + letter + word[k + 1 :]
    yield from _swaps(word)


def _swaps(word: str) -> Iterator[str]:
    """A word with two neighboring letters swapped, or one of them twice."""
    for k in range(len(word)):
        yield word[:k] + word[k] + word[k:]
        if 1 <= k < len(word) - 1:
            yield word[:k] + word[k + 1] + word[k] + word[k + 2 :]


def _slips() -> Mapping[str, str]:
    table = {slip: word for word in _CAREFUL for slip in _edits(word) if slip not in _OTHER_WORDS}
    return table | {slip: word for word in _SHORT for slip in _swaps(word)}


_SLIPS = _slips()
