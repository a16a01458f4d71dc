"""Words for lexical retrieval: folded, split, and stripped of the commonest English endings."""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"[^\W_]+")
_ENDINGS = ("ations", "ation", "ings", "ing", "ies", "ed", "es", "s", "e", "y")
_SHORTEST_STEM = 3

# Articles, pronouns, prepositions, auxiliaries and politeness: they fit every tool.
_STOP_WORDS = """
    a an and any are as at be by can could do for from has have hey hi i if in is it its just
    let may me my need no not now of on one only or our please s so some t than that the their
    them then there these they this to up us want was we what when where which will with would
    you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


def words(text: str) -> list[str]:
    """Split a text into lower-case words and numbers without accents."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(char for char in decomposed if not unicodedata.combining(char))
    return _WORD.findall(plain)


def stem(word: str) -> str:
    """Strip one common English ending: ``invites`` and ``inviting`` meet in ``invit``."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word[: -len(ending)]
    return word


def stems(text: str) -> list[str]:
    """Return the stems of a text's words, stop words left out."""
    return [stem(word) for word in words(text) if word not in STOP_WORDS]
