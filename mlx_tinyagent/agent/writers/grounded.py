"""Whether a written text keeps to what it was written from, and says it.

A small model fills gaps with what sounds likely. Names, numbers, addresses and
days that stand in none of its sources are such gaps, and deeds that nobody did.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mlx_tinyagent.tools.match import fold

_FACT = re.compile(
    r"https?://\S+|www\.\S+|\S+@\S+\.\w+|\d[\d:.,/]*"
    r"|\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b|\b(?:today|tomorrow|tonight|yesterday)\b"
    r"|\b(?:january|february|march|april|june|july|august|september|october|november|december)\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<=[\w,;] )[A-Z][\w'\u2019-]+")  # a capital inside a sentence
_PLACEHOLDER = re.compile(r"\[[^\]\n]{1,40}\]|<[^>\n]{1,40}>|\{[^}\n]{1,40}\}|_{3,}|\bXX+\b")
SAID = 0.6  # share of the words that matter which a text must hold
_SMALL = frozenset(
    "a about an and are as at be but by for from had has have he her him his i if in is it its me "
    "my not of on or our she so that the their them they this to was we were will with you your"
    .split()
)  # fmt: skip
_ALWAYS = frozenset("i i'm i'll i've i'd ok thanks pdf".split())


def says(text: str, wanted: str) -> bool:
    """Whether a text holds most of the words that matter of another; once each.

    Args:
        text: What was written.
        wanted: What it must say; pronouns and small words do not count.
    """
    words = {word[:5] for word in fold(wanted).split() if word not in _SMALL}
    held = {word[:5] for word in fold(text).split()}
    return not words or len(words & held) >= SAID * len(words)


def repeats(text: str) -> bool:
    """Whether a text says a sentence twice, as small models do when they are lost."""
    lines = [fold(part) for part in re.split(r"[.!?\n]+", text)]
    long = [line for line in lines if len(line.split()) > 2]
    return len(set(long)) < len(long)


def ungrounded(text: str, sources: Sequence[str]) -> list[str]:
    """Return what a text says that stands in none of its sources; empty if it keeps to them.

    Args:
        text: What was written.
        sources: What it was written from.
    """
    known = f" {fold(' '.join(sources))} "
    raw = " ".join(sources).casefold()
    found = [match[0].rstrip(".,;:!?)") for match in _FACT.finditer(text)]
    loose = [fact for fact in found if fact.casefold() not in raw]
    names = [match[0] for match in _NAME.finditer(text)]
    loose += [
        name for name in names if name.casefold() not in _ALWAYS and f" {fold(name)} " not in known
    ]
    return loose + [match[0] for match in _PLACEHOLDER.finditer(text) if match[0] not in raw]
