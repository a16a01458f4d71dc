"""Two kinds of requests: commands, and compound requests that ask for several things."""

from __future__ import annotations

from mlx_tinyagent.retrieval.words import words

SHORT_WORDS = 15  # most words of a short request
GROUPS = ("short", "long")


def group_of(query: str) -> str:
    """Return the group of a request, by its number of words."""
    return "short" if len(words(query)) <= SHORT_WORDS else "long"
