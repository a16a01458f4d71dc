"""Name matching with a cut-off: one clear winner, several candidates, or nothing.

Used for contacts, files and notes alike. A match is never taken silently when
another is as good, and never when it is weak.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from typing import TypeVar

CUTOFF = 0.8  # scores below this are no match; 1.0 is the same words
WHOLE = 0.94  # all words of the query are words of the name; below, spellings differ
MARGIN = 0.05  # a winner must lead the next by more than this; the same words beat more words
_UNDECOMPOSED = str.maketrans("øłđðıħ", "olddih")  # Unicode gives these letters no base letter
_LETTER_MARKS = 9  # up to this combining class, marks make another letter of the same script

T = TypeVar("T")


@lru_cache(maxsize=8192)
def fold(text: str) -> str:
    """Lower-case, strip accents, apostrophes and punctuation, and squeeze blanks.

    Marks that make another letter of the same script (voicing of kana, nukta,
    virama, vowel signs) stay; accents and optional vowel points go.
    """
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return " ".join("".join(_folded(char) for char in plain.translate(_UNDECOMPOSED)).split())


def _folded(char: str) -> str:
    """Keep a letter, digit or distinctive mark, drop an accent, blank anything else."""
    category = unicodedata.category(char)
    if category == "Cf" or unicodedata.combining(char) > _LETTER_MARKS or char in "'\u2019":
        return ""
    return char if category[0] in "LNM" else " "


def score(query: str, name: str) -> float:
    """Score how well a written name fits a known one, from 0 to 1.

    The same letters score 1, however they are split ("ProjectPlan.pdf" for
    "Project Plan.pdf"); all words of the query found in the name score
    ``WHOLE`` ("Dana" for "Dana Lee"); near spellings score the similarity of
    their worst word, of which only the first below ``CUTOFF`` is looked for.
    """
    return _score(fold(query), fold(name))


def _score(wanted: str, known: str) -> float:
    """Score two folded names."""
    if not wanted or not known:
        return 0.0
    if wanted.replace(" ", "") == known.replace(" ", ""):
        return 1.0
    words, have = wanted.split(), known.split()
    if all(word in have for word in words):
        return WHOLE
    worst = WHOLE - 0.01
    for word in words:
        worst = min(worst, max(SequenceMatcher(None, word, other).ratio() for other in have))
        if worst < CUTOFF:
            break
    return worst


def candidates(
    query: str, items: Iterable[T], names: Callable[[T], Sequence[str]]
) -> list[tuple[float, T]]:
    """Return the items that fit a query, best first.

    Args:
        query: The written name.
        items: What it may mean.
        names: All names of an item.

    Returns:
        Pairs of score and item within ``MARGIN`` of the best, at least
        ``CUTOFF``; empty if nothing fits. One pair means a clear winner.
    """
    wanted = fold(query)
    scored = [
        (max((_score(wanted, fold(name)) for name in names(item)), default=0.0), item)
        for item in items
    ]
    good = sorted((pair for pair in scored if pair[0] >= CUTOFF), key=lambda pair: -pair[0])
    return [pair for pair in good if pair[0] >= good[0][0] - MARGIN] if good else []
