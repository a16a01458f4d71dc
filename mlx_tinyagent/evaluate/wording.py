"""Comparing words: normalization, token F1, and whether a text holds another as a span."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from mlx_tinyagent.tools.match import fold

TEXT_F1 = 0.6  # free texts at or above this token F1 count as the same

_TYPED = str.maketrans(  # what keyboards and text fields make of plain quotes and dashes
    {0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2013: "-", 0x2014: "-"}
)
_EDGES = " \t\"'`.,;:!?()[]"
_TOKEN = re.compile(r"[^\W_]+")
_UNSPACED = 0x2E80  # scripts from here on (Chinese, Japanese, ...) set no blanks between words


def normalize(text: str) -> str:
    """Fold compatibility forms, case, typographic quotes and blanks; drop punctuation at the ends.

    Unicode NFKC and ``str.casefold``; accents stay.
    """
    plain = unicodedata.normalize("NFKC", text.translate(_TYPED)).casefold()
    return " ".join(plain.split()).strip(_EDGES)


def fold_name(text: str) -> str:
    """Fold the name of a person or file: as ``normalize``, and accents and punctuation go."""
    return fold(text) or normalize(text)


def tokens(text: str) -> list[str]:
    """Split a text into lower-case words and numbers."""
    return _TOKEN.findall(normalize(text))


def token_f1(first: str, second: str) -> float:
    """Return the F1 of two texts' token multisets, from 0 to 1; two empty texts score 1.

    Source: Rajpurkar et al. 2016, SQuAD (arXiv:1606.05250), section 6.1,
    without dropping articles.
    """
    left, right = Counter(tokens(first)), Counter(tokens(second))
    total = left.total() + right.total()
    if total == 0:
        return float(normalize(first) == normalize(second))
    return 2 * (left & right).total() / total


def contains_span(text: str, span: str) -> bool:
    """Say whether whole words of ``text`` read ``span``; both are already normalized.

    In scripts that set no blanks between words any substring will do.
    """
    start = text.find(span)
    while start >= 0:
        end = start + len(span)
        if not _inside_word(text, start) and not _inside_word(text, end):
            return True
        start = text.find(span, start + 1)
    return False


def _inside_word(text: str, cut: int) -> bool:
    """Say whether a cut between two characters splits a word."""
    if not 0 < cut < len(text):
        return False
    pair = text[cut - 1 : cut + 1]
    return all(char.isalnum() and ord(char) < _UNSPACED for char in pair)
