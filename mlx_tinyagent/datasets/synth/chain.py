"""New word sequences from old ones: a chain of word triples that copies no long span."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from random import Random

MAX_SPAN = 4  # words of a literal span that may be taken over


def is_slot(part: str) -> bool:
    """Whether a part of a pattern stands for words yet to come."""
    return part.startswith(("{", "<"))


def chain(
    patterns: Sequence[Sequence[str]], grams: frozenset[str], *, seed: str, count: int
) -> list[list[str]]:
    """Draw new sequences from the word triples of old ones.

    Args:
        patterns: Sequences of words and slots.
        grams: Runs of five words that must not come out again.
        seed: Makes the draw repeatable.
        count: How many to try for.

    Returns:
        Distinct sequences, in the order they were drawn; each word follows the
        two before it somewhere in the patterns, slots occur once.
    """
    follow: dict[tuple[str, str], list[str]] = defaultdict(list)
    for parts in patterns:
        padded = ["", "", *parts, ""]
        for first, second, third in zip(padded, padded[1:], padded[2:], strict=False):
            follow[first, second].append(third)
    rng = Random(f"chain|{seed}")
    drawn: list[list[str]] = []
    for _ in range(count if patterns else 0):
        parts = _draw(follow, rng)
        if parts and not _copies(parts, grams):
            drawn.append(parts)
    return drawn


def like(
    drawn: Sequence[Sequence[str]], patterns: Sequence[Sequence[str]], *, seed: str
) -> list[Sequence[str]]:
    """Choose sequences so that their lengths are spread like those of the patterns.

    Long sequences are drawn less often than they occur, since they copy more
    easily; this makes up for it.

    Args:
        drawn: What to choose from, repeats included.
        patterns: Whose lengths to follow.
        seed: Makes the choice repeatable.

    Returns:
        As many sequences as were drawn, or none if none were.
    """
    if not drawn or not patterns:
        return []
    groups: dict[int, list[Sequence[str]]] = defaultdict(list)
    for parts in drawn:
        groups[len(parts)].append(parts)
    rng = Random(f"like|{seed}")
    chosen: list[Sequence[str]] = []
    for _ in range(len(drawn)):
        wanted = len(rng.choice(patterns))
        nearest = min(groups, key=lambda length: (abs(length - wanted), length))
        chosen.append(rng.choice(groups[nearest]))
    return chosen


def _draw(follow: Mapping[tuple[str, str], Sequence[str]], rng: Random) -> list[str]:
    """Draw one sequence; empty if it grows too long or uses a slot twice."""
    parts: list[str] = []
    before, last = "", ""
    while len(parts) < 24:
        word = rng.choice(follow[before, last])
        if not word:
            return parts
        if is_slot(word) and word in parts:
            return []
        parts.append(word)
        before, last = last, word
    return []


def _copies(parts: Sequence[str], grams: frozenset[str]) -> bool:
    """Whether five literal words in a row stand so in a mined row."""
    runs = zip(*(parts[i:] for i in range(MAX_SPAN + 1)), strict=False)
    return any(" ".join(run) in grams for run in runs)


def long_spans(texts: Iterable[str]) -> frozenset[str]:
    """Return every run of five words of the mined rows."""
    found: set[str] = set()
    for text in texts:
        words = text.lower().rstrip("?.!").split()
        for start in range(len(words) - MAX_SPAN):
            found.add(" ".join(words[start : start + MAX_SPAN + 1]))
    return frozenset(found)
