"""Does a request lean on what was said before? If not, it is planned alone.

A small model that is shown earlier plans likes to write them again, so it is
shown them where words point back, or where it asked and this may be the answer.
"""

from __future__ import annotations

import re

ANSWER_WORDS = 8  # a longer text is a request of its own, not an answer

_STARTS = re.compile(
    r"(?:and|also|but|or|no|nope|not|ok|okay|actually|instead|then|rather|sorry|wait|yes|yeah|same|"
    r"too|what about|how about|make it|i meant)\b",
    re.IGNORECASE,
)
_POINTS = re.compile(
    r"\b(?:it|them|him|he|she|they|those|these|her|again|instead|another one|the same)\b"
    r"|\b(?:that|this)\b(?=\s*(?:$|[.,?!]|one\b|to\b|at\b|for\b|on\b|again\b|too\b))"
    r"|\b(?:the|my) (?:last|previous) (?:one|request)\b",
    re.IGNORECASE,
)
_NEW = re.compile(
    r"(?:what|where|when|who|how|which|is|are|do|does|did|can|could|would|please|show|remind|"
    r"schedule|text|message|email|mail|send|create|make|add|set|note|take|write|find|get|give|look|"
    r"summarize|open|forward|reply|cancel|delete|invite|book|directions|navigate)\b",
    re.IGNORECASE,
)
_NEAR = 4  # words; a pronoun further on mostly means somebody named before it


def leans(text: str, *, answers: bool) -> bool:
    """Whether a request needs the turns before it.

    Args:
        text: The request.
        answers: Whether the last turn ended in a question.
    """
    words = text.split()
    if answers and len(words) <= ANSWER_WORDS and not _NEW.match(text.strip()):
        return True
    if _STARTS.match(text.strip()):
        return True
    found = _POINTS.search(text)
    if found is None:
        return False
    before = text[: found.start()].split()
    named = any(word[:1].isupper() or "@" in word for word in before[1:])
    return not named and len(before) < _NEAR
