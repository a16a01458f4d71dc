"""Requests said in other words by a model, kept only where the plan stays right.

The plan of an example points at words of its request. So a new wording counts
only if every value that was copied still stands in it, its numbers are the old
ones, and the plan still runs on an in-memory store. What fails keeps its old
words: the number of rows and their plans never change.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Protocol

from mlx_tinyagent.datasets.dedupe import normalized
from mlx_tinyagent.datasets.endpoint import ChatEndpoint
from mlx_tinyagent.datasets.jsonl import read_objects
from mlx_tinyagent.datasets.record import MAX_QUERY_CHARS, Example
from mlx_tinyagent.datasets.synth.scene import execute, failures
from mlx_tinyagent.errors import InputError, PlanError
from mlx_tinyagent.plan.schema import Template, parse_ref, parse_template
from mlx_tinyagent.tools.base import ToolSet

if TYPE_CHECKING:
    from mlx_tinyagent.decode.engine import Engine

MARK = "paraphrase"  # put on a row whose words are a model's
MAX_TOKENS = 256
TEMPERATURE = 0.7
INSTRUCTION = (
    "Say the request in other words, as another person would type it. Keep every name, title, "
    "file, place, address, number, date, time and quoted text exactly as it is. "
    "Write only the new request."
)

_NUMBER = re.compile(r"\d+")
_LABEL = re.compile(r"^(?:new request|request|rewritten|paraphrase)\s*:\s*", re.IGNORECASE)
_QUOTES = {'"': '"', "“": "”", "'": "'", "`": "`"}


class Rewriter(Protocol):
    """Says a request in other words."""

    def rewrite(self, query: str) -> str:
        """Return another wording; whatever comes back is checked."""


@dataclass(frozen=True, slots=True)
class EndpointRewriter:
    """Rewrites by a chat model behind an address."""

    endpoint: ChatEndpoint

    def rewrite(self, query: str) -> str:
        """Ask for another wording; see ``ChatEndpoint.complete`` for errors."""
        messages = [
            {"role": "system", "content": INSTRUCTION},
            {"role": "user", "content": query},
        ]
        answer = self.endpoint.complete(messages, max_tokens=MAX_TOKENS, temperature=TEMPERATURE)
        return answer.text


@dataclass(frozen=True, slots=True)
class LocalRewriter:
    """Rewrites by a model on this machine, greedily."""

    engine: Engine

    def rewrite(self, query: str) -> str:
        """Return the model's wording."""
        tokenizer = self.engine.model.tokenizer
        frame = tokenizer.chat_frame()
        ids = [
            *tokenizer.encode(f"{frame.system_open}{INSTRUCTION}{frame.user_open}"),
            *tokenizer.encode(query, special=False),
            *tokenizer.encode(frame.assistant_open),
        ]
        return self.engine.complete(ids, max_tokens=MAX_TOKENS)


@dataclass(slots=True)
class ParaphraseReport:
    """What became of the rows.

    Attributes:
        rewritten: Rows with new words.
        kept: Rows that were tried and kept their words, by reason.
        untried: Rows outside the share, or without a plan of calls.
    """

    rewritten: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    untried: int = 0


def paraphrase(
    examples: Iterable[Example],
    rewriter: Rewriter,
    tools: ToolSet,
    *,
    share: float,
    seed: int,
    answers: Path,
    report: ParaphraseReport,
) -> Iterator[Example]:
    """Rewrite a share of the examples.

    Only examples with calls are rewritten: whether a question or a refusal is
    still right after a change of words, no check here could tell.

    Args:
        examples: Rows; order and number are kept.
        rewriter: Says requests anew.
        tools: Declarations of the plans.
        share: Of the rows with calls, from 0 to 1.
        seed: Chooses which.
        answers: File that keeps what the model said, so that a run that stopped
            asks nothing twice.
        report: Filled while iterating.
    """
    known = _read(answers)
    with answers.open("a", encoding="utf-8") as out:
        for example in examples:
            dice = Random(f"paraphrase|{seed}|{example.id}")
            if example.kind != "tool" or dice.random() >= share:
                report.untried += 1
                yield example
                continue
            if example.query not in known:
                known[example.query] = rewriter.rewrite(example.query)
                line = {"query": example.query, "said": known[example.query]}
                out.write(json.dumps(line, ensure_ascii=False) + "\n")
                out.flush()
            words = tidy(known[example.query])
            if reason := refusal(example, words, tools):
                report.kept[reason] += 1
                yield example
                continue
            report.rewritten += 1
            marks = (*example.marks, *(() if MARK in example.marks else (MARK,)))
            yield dataclasses.replace(example, query=words, marks=marks)


def tidy(said: str) -> str:
    """Return the request in an answer: its first paragraph, without label and quotes around it."""
    text = " ".join(said.strip().partition("\n\n")[0].split())
    text = _LABEL.sub("", text)
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def refusal(example: Example, words: str, tools: ToolSet) -> str:
    """Say why a wording cannot take the place of an example's request; empty if it can."""
    if not words or len(words) > min(MAX_QUERY_CHARS, 3 * len(example.query) + 40):
        return "empty or too long"
    if normalized(words) == normalized(example.query):
        return "the same words"
    if sorted(_NUMBER.findall(words)) != sorted(_NUMBER.findall(example.query)):
        return "other numbers"
    folded = words.casefold()
    if any(value.casefold() not in folded for value in copied(example)):
        return "a copied value is gone"
    if any(mark in words for mark in ("$", "http")) and not any(
        mark in example.query for mark in ("$", "http")
    ):
        return "something was added"
    now = datetime.fromisoformat(example.now) if example.now else datetime(2025, 1, 1, 9)
    try:
        failed = failures(execute(example.plan, tools, query=words, now=now))
    except PlanError:
        return "the plan no longer holds"
    return "the plan no longer runs" if failed else ""


def copied(example: Example) -> tuple[str, ...]:
    """Return the plan's texts that were copied from the request, each once."""
    found = (
        text
        for call in example.plan
        for arg in call.args
        for item in (arg if isinstance(arg, list) else [arg])
        if isinstance(item, str)
        for text in _texts(item)
    )
    request = example.query.casefold()
    return tuple(dict.fromkeys(text for text in found if text and text.casefold() in request))


def _texts(value: str) -> Iterator[str]:
    """Yield the words of an argument, references left out."""
    if parse_ref(value) is not None:
        return
    template = parse_template(value)
    if isinstance(template, Template):
        yield from (part.strip() for part in template.parts if isinstance(part, str))
    else:
        yield value


def _read(answers: Path) -> dict[str, str]:
    """Return what was said in an earlier run; a line cut by its end is left out."""
    if not answers.exists():
        return {}
    data = answers.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:  # the run was stopped while writing
        answers.write_bytes(whole)
    if not whole:
        return {}
    known = {}
    for line in read_objects(answers):
        match line.value:
            case {"query": str(query), "said": str(said)}:
                known[query] = said
            case _:
                raise InputError(f"{answers}:{line.number}: no answer of a paraphrase run")
    return known
