"""A few plain words where no tool is called, by the model, and kept honest by code.

A small model likes to say that it has done things. It has not: no tool ran. Such
sentences, links and numbers that nobody said are left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

MAX_TOKENS = 64
MAX_SENTENCES = 2
PROMPT = "You are a helpful assistant. Answer in one or two short sentences."

_CLAIM = re.compile(
    r"\b(?:i|i've|i'll|i'm|we|we've|we'll|we're|your|the)\b[^.!?]{0,60}?\b(?:sent|send|sending|"
    r"scheduled|schedule|scheduling|created|added|booked|booking|ordered|called|calling|emailed|"
    r"texted|saved|deleted|canceled|cancelled|moved|set|remind|reminded|bought|paid|turned|opened|"
    r"played|playing|posted|updated|confirmed)\b",
    re.IGNORECASE,
)
# What a model says about itself or in place of an answer.
_IDLE = re.compile(
    r"\b(?:assistant|assist|assistance|ai|language model|sorry|apologi[sz]e|confusion|equipped|"
    r"designed to|help you today|unable|can't|cannot)\b",
    re.IGNORECASE,
)
_FACT = re.compile(r"https?://\S+|\S+@\S+|\d+")
_SENTENCE = re.compile(r"[^\n]+?[.!?]+(?=\s|$)")


class Engine(Protocol):
    """What a talker and the writers need of an engine."""

    model: Any

    def complete(self, ids: Sequence[int], *, max_tokens: int) -> str:
        """Continue a prompt in free text."""


class Talker:
    """Talks with a model.

    Args:
        engine: The engine of the resident model.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def reply(self, request: str, *, refusal: str) -> str:
        """Say that no tool serves a request, and what the model says to it.

        Args:
            request: The user's words.
            refusal: The honest sentence that comes first.
        """
        written = complete(self._engine, PROMPT, request, max_tokens=MAX_TOKENS)
        return f"{refusal} {honest(written, request)}".strip()


def honest(text: str, request: str) -> str:
    """Return the first sentences of a text that claim nothing: no deeds, numbers or addresses.

    What a model says of itself ("as an assistant, I'm sorry") is left out as well.

    Args:
        text: What a model said.
        request: What it was asked; what stands there may be repeated.
    """
    kept: list[str] = []
    for sentence in (match[0].strip() for match in _SENTENCE.finditer(text)):
        invented = any(fact not in request for fact in _FACT.findall(sentence))
        if not (invented or _CLAIM.search(sentence) or _IDLE.search(sentence)):
            kept.append(sentence)
        if len(kept) == MAX_SENTENCES:
            break
    return " ".join(kept)


def complete(engine: Engine, system: str, text: str, *, max_tokens: int) -> str:
    """Let a model answer a text under its chat template.

    Args:
        engine: The engine.
        system: What it is to do.
        text: The user's turn; names of special tokens in it stay words.
        max_tokens: Most tokens to write.
    """
    tokenizer = engine.model.tokenizer
    frame = tokenizer.chat_frame()
    ids = [
        *tokenizer.encode(f"{frame.system_open}{system}{frame.user_open}"),
        *tokenizer.encode(text, special=False),
        *tokenizer.encode(frame.assistant_open),
    ]
    return engine.complete(ids, max_tokens=max_tokens).strip()
