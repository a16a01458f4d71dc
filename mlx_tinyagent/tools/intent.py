"""Which part of a request speaks of one mail or note: each step gets its own intent.

"Email Dana that the budget is approved and text Leo that I am late" is two
commands; what is written to Dana must not come from the part about Leo.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mlx_tinyagent.tools.match import fold

MAX_REQUEST = 4_000  # characters that are looked through
COMMANDS = (
    "add append attach book call compose create draft email e-mail find forward get give include "
    "invite make message open put remind reply respond save schedule send set show summarize "
    "summarise text write"
)
_START = re.compile(
    r"(?:^\s*|[.!?;:]\s+|\n\s*|,\s+"
    r"|,?\s+(?:and|then|also|plus|next|after that|afterwards|finally)\s+)"
    r"(?:(?:and|then|also|please|next|finally|can you|could you|i want you to)\s+)*"
    rf"(?=(?:{COMMANDS.replace(' ', '|')})\b)",
    re.IGNORECASE,
)
_NAME_WEIGHT = 3  # of a person's name against one word of a subject
_COMMON = frozenset(
    "a an the of to for and or in on at with about my your our is are this that it be from re fwd"
    .split()
)  # fmt: skip


def clauses(request: str) -> list[str]:
    """Split a request into its commands; what stands before the first belongs to it.

    Args:
        request: The user's words.

    Returns:
        At least one clause; the whole request where it holds no second command.
    """
    text = request[:MAX_REQUEST]
    found = list(_START.finditer(text))[1:]
    begins = [0, *(match.end() for match in found)]
    ends = [*(match.start() for match in found), len(text)]
    parts = [text[a:b].strip(" ,;\n") for a, b in zip(begins, ends, strict=True)]
    return [part for part in parts if part] or [text.strip()]


def intent(request: str, *, names: str = "", about: Sequence[str] = ()) -> str:
    """Return the part of a request that one text is written for.

    Args:
        request: The user's words, perhaps several commands.
        names: Whom the text is for, as in a greeting.
        about: What else is known of it: subject, title, what it must contain.

    Returns:
        The clause that names them best; the whole request if none does, or several as well.
    """
    parts = clauses(request)
    if len(parts) == 1:
        return parts[0]
    people, words = set(_words(names)), {word for text in about for word in _words(text)}
    scores = []
    for part in parts:
        said = set(_words(part))
        scores.append(_NAME_WEIGHT * len(said & people) + len(said & (words - people)))
    best = max(scores)
    if best == 0 or scores.count(best) > 1:
        return request[:MAX_REQUEST].strip()
    return parts[scores.index(best)]


def _words(text: str) -> Iterator[str]:
    return (word for word in fold(text).split() if word not in _COMMON)
