"""Which examples say the same: normalized words, and overlap of word sets.

Leaks are found with an inverted index over rare words, so tens of thousands
of rows take seconds.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mlx_tinyagent.datasets.record import Example

THRESHOLD = 0.8  # token Jaccard at which two requests count as the same

_TOKEN = re.compile(r"[^\W_]+")


def normalized(text: str) -> str:
    """Fold case, accents, punctuation and blanks away: what is left tells requests apart."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return " ".join(_TOKEN.findall("".join(c for c in plain if not unicodedata.combining(c))))


def fingerprint(example: Example) -> bytes:
    """Return 16 bytes that are equal for examples that ask the same, history included."""
    turns = [normalized(turn.query) for turn in example.history]
    text = "\n".join([*turns, normalized(example.query)])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two requests that say the same.

    Attributes:
        first: Position in the first collection.
        second: Position in the second.
        score: Token Jaccard, from 0 to 1.
    """

    first: int
    second: int
    score: float


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Return the share of words that two sets have in common."""
    union = len(first | second)
    return len(first & second) / union if union else 1.0


def words(text: str) -> frozenset[str]:
    """Return the set of normalized words of a text."""
    return frozenset(normalized(text).split())


class Known:
    """Texts that others are compared with.

    Two sets of words with Jaccard t share at least one of the
    ``n - ceil(t n) + 1`` rarest words of each (prefix filtering: Bayardo, Ma,
    Srikant, WWW 2007), so only those are indexed and looked up.

    Args:
        texts: The texts.
        threshold: Token Jaccard from which two texts count as the same.
    """

    def __init__(self, texts: Sequence[str], *, threshold: float = THRESHOLD) -> None:
        self.threshold = threshold
        self._groups = [words(text) for text in texts]
        self._frequency = Counter(word for group in self._groups for word in group)
        self._index: dict[str, list[int]] = defaultdict(list)
        for number, group in enumerate(self._groups):
            for word in _prefix(group, self._frequency, threshold):
                self._index[word].append(number)

    def closest(self, text: str) -> tuple[int, float] | None:
        """Return position and score of the most similar text, the first of equals."""
        group = words(text)
        best: tuple[int, float] | None = None
        prefix = _prefix(group, self._frequency, self.threshold)
        size = len(group)
        for other in sorted({n for word in prefix for n in self._index.get(word, ())}):
            length = len(self._groups[other])
            if min(size, length) < self.threshold * max(size, length):
                continue  # sets of such different sizes cannot be that similar
            score = jaccard(self._groups[other], group)
            if score >= self.threshold and (best is None or score > best[1]):
                best = other, score
        return best


def overlaps(
    first: Sequence[str], second: Sequence[str], *, threshold: float = THRESHOLD
) -> Iterator[Pair]:
    """Yield, for each text of ``second``, the closest text of ``first`` at or above a threshold.

    Args:
        first: Texts to compare with.
        second: Texts to look up.
        threshold: Token Jaccard from which a pair counts.

    Yields:
        At most one pair per text of ``second``, in its order.
    """
    known = Known(first, threshold=threshold)
    for number, text in enumerate(second):
        found = known.closest(text)
        if found is not None:
            yield Pair(first=found[0], second=number, score=found[1])


def duplicates(texts: Sequence[str], *, threshold: float = THRESHOLD) -> Iterator[Pair]:
    """Yield, for each text, the closest earlier text of the same collection.

    Args:
        texts: The collection.
        threshold: Token Jaccard from which a pair counts.

    Yields:
        At most one pair per text; ``first`` is the earlier one.
    """
    groups = [words(text) for text in texts]
    frequency = Counter(word for group in groups for word in group)
    index: dict[str, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        prefix = _prefix(group, frequency, threshold)
        best: Pair | None = None
        size = len(group)
        for other in sorted({other for word in prefix for other in index[word]}):
            length = len(groups[other])
            if min(size, length) < threshold * max(size, length):
                continue
            score = jaccard(groups[other], group)
            if score >= threshold and (best is None or score > best.score):
                best = Pair(first=other, second=number, score=score)
        for word in prefix:
            index[word].append(number)
        if best is not None:
            yield best


def unique(examples: Iterable[Example]) -> Iterator[Example]:
    """Yield examples whose normalized request was not seen before."""
    seen: set[bytes] = set()
    for example in examples:
        key = fingerprint(example)
        if key not in seen:
            seen.add(key)
            yield example


def _prefix(group: frozenset[str], frequency: Counter[str], threshold: float) -> list[str]:
    """Return the rarest words of a set, enough that any similar set shares one of them."""
    ordered = sorted(group, key=lambda word: (frequency[word], word))
    needed = -int(-threshold * len(ordered) // 1)  # ceil
    return ordered[: len(ordered) - needed + 1] if ordered else []
