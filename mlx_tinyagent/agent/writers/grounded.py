"""Whether a written text keeps to what it was written from.

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
_ALWAYS = frozenset("i i'm i'll i've i'd ok thanks pdf".split())


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
