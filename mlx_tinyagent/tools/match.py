"""Name matching with a cut-off: one clear winner, several candidates, or nothing.

Used for contacts, files and notes alike. A match is never taken silently when
another is as good, and never when it is weak.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from typing import TypeVar

CUTOFF = 0.8  # scores below this are no match; 1.0 is the same words
MARGIN = 0.05  # a winner must lead the next by more than this

T = TypeVar("T")


def fold(text: str) -> str:
    """Lower-case, strip accents and punctuation, and squeeze blanks."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(char for char in decomposed if not unicodedata.combining(char))
    return " ".join(re.findall(r"[^\W_]+", plain))


def score(query: str, name: str) -> float:
    """Score how well a written name fits a known one, from 0 to 1.

    The same words score 1; all words of the query found in the name score
    0.95 ("Dana" for "Dana Lee"); near spellings score their similarity.
    """
    wanted, known = fold(query), fold(name)
    if not wanted or not known:
        return 0.0
    if wanted == known:
        return 1.0
    words, have = wanted.split(), known.split()
    if all(word in have for word in words):
        return 0.95
    nearest = [max(SequenceMatcher(None, word, other).ratio() for other in have) for word in words]
    return min(0.94, min(nearest))


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
    scored = [(max((score(query, n) for n in names(item)), default=0.0), item) for item in items]
    good = sorted((pair for pair in scored if pair[0] >= CUTOFF), key=lambda pair: -pair[0])
    return [pair for pair in good if pair[0] >= good[0][0] - MARGIN] if good else []
