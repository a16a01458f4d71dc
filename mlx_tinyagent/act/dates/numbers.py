"""Numbers in digits and in English words, as dates and times use them."""

from __future__ import annotations

from mlx_tinyagent.act.dates.source import Found, Source

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_UNITS = {word: value for value, word in enumerate(_ONES)}
_DECADES = {word: 20 + 10 * k for k, word in enumerate(_TENS)}

_ORDINALS = {
    word: value
    for value, word in enumerate(
        [
            "first",
            "second",
            "third",
            "fourth",
            "fifth",
            "sixth",
            "seventh",
            "eighth",
            "ninth",
            "tenth",
            "eleventh",
            "twelfth",
            "thirteenth",
            "fourteenth",
            "fifteenth",
            "sixteenth",
            "seventeenth",
            "eighteenth",
            "nineteenth",
            "twentieth",
        ],
        start=1,
    )
} | {"thirtieth": 30}
# Every word that may start a number in words.
WORDS = frozenset((*_UNITS, *_DECADES, *_ORDINALS))
_SUFFIXES = frozenset(("st", "nd", "rd", "th"))


def cardinal(source: Source, i: int) -> Found[int] | None:
    """A whole number below 10,000 in digits, or below 100 in words ("twenty-three")."""
    value = source.number(i)
    if value is not None:
        return (value, i + 1) if source.digits(i) <= 4 else None
    return spoken(source, i)


def spoken(source: Source, i: int) -> Found[int] | None:
    """A whole number below 100 in words; "twenty and four" counts too."""
    word = source.word(i)
    if word in _UNITS:
        return _UNITS[word], i + 1
    if word not in _DECADES:
        return None
    j = i + 2 if source.dash(i + 1) or source.word(i + 1) == "and" else i + 1
    ones = _UNITS.get(source.word(j), 0)
    if 1 <= ones <= 9:
        return _DECADES[word] + ones, j + 1
    return _DECADES[word], i + 1


def small_number(word: str) -> int | None:
    """Value of a single number word from "one" to "twelve"."""
    value = _UNITS.get(word)
    return value if value is not None and 1 <= value <= 12 else None


def plain_word(source: Source, i: int) -> bool:
    """Whether a number stands at ``i`` in words and is no ordinal: "one", "twenty"."""
    return spoken(source, i) is not None and ordinal(source, i) is None


def ordinal(source: Source, i: int) -> Found[int] | None:
    """An ordinal below 100: "3rd", "third", "twenty-third"."""
    value = source.number(i)
    if value is not None:
        if source.word(i + 1) in _SUFFIXES and source.glued(i + 1) and source.digits(i) <= 2:
            return value, i + 2
        return None
    word = source.word(i)
    if word in _ORDINALS:
        return _ORDINALS[word], i + 1
    if word in _DECADES:
        j = i + 2 if source.dash(i + 1) else i + 1
        ones = _ORDINALS.get(source.word(j), 0)
        if 1 <= ones <= 9:
            return _DECADES[word] + ones, j + 1
    return None


def year(source: Source, i: int) -> Found[int] | None:
    """A year with all its digits, 1000 to 2999, or spoken ("nineteen eighty six").

    A two-digit year counts only behind an apostrophe or "of" and belongs to
    :func:`short_year`.
    """
    value = source.number(i)
    if value is not None:
        if source.digits(i) == 4 and 1000 <= value <= 2999:
            return value, i + 1
        return None
    return _spoken_thousand(source, i) or _spoken_pair(source, i)


def _spoken_thousand(source: Source, i: int) -> Found[int] | None:
    """Reads "two thousand", "two thousand and thirty two"."""
    if source.word(i) != "two" or source.word(i + 1) != "thousand":
        return None
    j = source.skip(i + 2, "and")
    rest = spoken(source, j)
    return (2000 + rest[0], rest[1]) if rest else (2000, i + 2)


def _spoken_pair(source: Source, i: int) -> Found[int] | None:
    """Reads "nineteen eighty six", "nineteen hundred ninety three", "twenty twenty four"."""
    word = source.word(i)
    century = _UNITS.get(word, 0) if word in _UNITS else 20 if word == "twenty" else 0
    if not 13 <= century <= 20:
        return None
    j = i + 1
    hundred = source.word(j) == "hundred"
    if hundred:
        j = source.skip(j + 1, "and")
    elif source.word(j) in ("oh", "o"):
        ones = _UNITS.get(source.word(j + 1), 0)
        return (century * 100 + ones, j + 2) if 1 <= ones <= 9 else None
    rest = spoken(source, j)
    if rest and (hundred or rest[0] >= 10):
        return century * 100 + rest[0], rest[1]
    return (century * 100, i + 2) if hundred else None


def short_year(value: int) -> tuple[int, ...]:
    """Full years a two-digit year may stand for, the one that counts first.

    Years up to 39 are of this century with the last century's as the other
    reading; later ones are of the last century.
    """
    return (2000 + value, 1900 + value) if value < 40 else (1900 + value,)
