"""Phrase books: how people ask for a tool. Those of the 16 tools come with the package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any

from mlx_tinyagent.datasets.synth import grammar
from mlx_tinyagent.errors import ConfigError
from mlx_tinyagent.tools.base import Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request that lacks something, and the question that is right for it.

    Attributes:
        text: Template of the incomplete request.
        ask: The question.
        missing: The argument that the answer gives.
    """

    text: str
    ask: str
    missing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """A second request that leans on the first.

    Attributes:
        first: Template of the first request.
        then: Template of the second.
        keep: Arguments that the second takes over from the first.
    """

    first: str
    then: str
    keep: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """A second call that a written request means without a word of it.

    TinyAgent's plans add a calendar event to a Zoom meeting that is created
    for its own sake; they do not where only the link is wanted.

    Attributes:
        tool: The other tool.
        unless: Words in the request that rule it out.
        args: Its arguments, each from one of the first tool's.
        result: Its argument that reads the first call's value.
    """

    tool: str
    args: Mapping[str, str]
    result: str
    unless: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """How one tool is asked for.

    Attributes:
        tool: Tool name.
        fillers: What fills each argument, where the declaration does not say enough.
        short: Templates of people's short commands.
        compound: Templates of clauses in longer, written requests.
        quick: Templates of clauses that read another step's value, as people type them.
        inline: Mentions of the tool's value that bring the call along: ``the summary of {x}``.
        later: Mentions of the value after the call was asked for: ``the summary``.
        entity: Mentions of the value as a person or file: ``her``.
        questions: Incomplete requests.
        follow_ups: Second requests.
        untimed: Boolean arguments that are true when a date argument says no time of day.
        companion: Another tool that written requests mean as well without a word of it.
        weight: How often requests ask for the tool itself, against 1 for most tools.
        lexicons: Word lists of its own.
        derived: Whether it was worded from the declaration alone.
    """

    tool: str
    fillers: Mapping[str, str] = field(default_factory=dict)
    short: tuple[str, ...] = ()
    compound: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    inline: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    entity: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    follow_ups: tuple[FollowUp, ...] = ()
    untimed: Mapping[str, str] = field(default_factory=dict)
    companion: Companion | None = None
    weight: float = 1.0
    lexicons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    derived: bool = False


@lru_cache(maxsize=1)
def _packaged() -> dict[str, Book]:
    folder = resources.files("mlx_tinyagent.datasets.synth") / "phrases"
    found: dict[str, Book] = {}
    for file in sorted(folder.iterdir(), key=lambda item: item.name):
        if file.name.endswith(".json") and not file.name.startswith("_"):
            book = read_book(json.loads(file.read_text(encoding="utf-8")))
            found[book.tool] = book
    return found


@lru_cache(maxsize=4)
def packaged_extra(name: str) -> dict[str, Any]:
    """Return a packaged phrase file that belongs to no tool, such as the refusals."""
    folder = resources.files("mlx_tinyagent.datasets.synth") / "phrases"
    data: dict[str, Any] = json.loads((folder / f"_{name}.json").read_text(encoding="utf-8"))
    return data


def read_book(data: Mapping[str, Any]) -> Book:
    """Read a phrase book from plain data."""
    mention = data.get("mention", {})
    return Book(
        tool=data["tool"],
        fillers=data.get("slots", {}),
        short=tuple(data.get("short", ())),
        compound=tuple(data.get("compound", ())),
        quick=tuple(data.get("quick", ())),
        inline=tuple(mention.get("inline", ())),
        later=tuple(mention.get("later", ())),
        entity=tuple(mention.get("entity", ())),
        questions=tuple(Question(**item) for item in data.get("ask", ())),
        follow_ups=tuple(
            FollowUp(first=item["first"], then=item["then"], keep=tuple(item.get("keep", ())))
            for item in data.get("follow", ())
        ),
        untimed=data.get("untimed", {}),
        companion=Companion(**data["companion"]) if "companion" in data else None,
        weight=data.get("weight", 1.0),
    )


def packaged_book(name: str) -> Book | None:
    """Return the packaged phrase book of a tool; None if there is none."""
    return _packaged().get(name)


def fits(book: Book, tool: Tool) -> bool:
    """Whether every slot of a book is an argument of the tool."""
    names = {param.name for param in tool.params}
    texts = [
        *book.short,
        *book.compound,
        *book.quick,
        *book.inline,
        *(question.text for question in book.questions),
    ]
    return all(slot.param in names for text in texts for slot in grammar.parse(text).slots())


def check(book: Book, tool: Tool) -> None:
    """Check that every template parses and names arguments that exist.

    Raises:
        ConfigError: A template is malformed or names an unknown argument.
    """
    if not fits(book, tool):
        raise ConfigError(f"phrase book of {tool.name}: a slot is no argument of the tool")
