"""Phrase books: how people ask for a tool; packaged ones, and ones derived from declarations."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any

from mlx_tinyagent.datasets.synth import grammar
from mlx_tinyagent.errors import ConfigError
from mlx_tinyagent.tools.base import Kind, Param, Tool, ToolSet, Type


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
        inline: Mentions of the tool's value that bring the call along: ``the summary of {x}``.
        later: Mentions of the value after the call was asked for: ``the summary``.
        entity: Mentions of the value as a person or file: ``her``.
        questions: Incomplete requests.
        follow_ups: Second requests.
        untimed: Boolean arguments that are true when a date argument says no time of day.
        companion: Another tool that written requests mean as well without a word of it.
        weight: How often requests ask for the tool itself, against 1 for most tools.
    """

    tool: str
    fillers: Mapping[str, str] = field(default_factory=dict)
    short: tuple[str, ...] = ()
    compound: tuple[str, ...] = ()
    inline: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    entity: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    follow_ups: tuple[FollowUp, ...] = ()
    untimed: Mapping[str, str] = field(default_factory=dict)
    companion: Companion | None = None
    weight: float = 1.0


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


def books_for(tools: ToolSet) -> dict[str, Book]:
    """Return one phrase book per tool: packaged where it fits, else derived.

    A packaged book is used when the tool has every argument that the book
    names, so another tool of the same name gets a book of its own.

    Args:
        tools: The tool set.
    """
    books = {}
    for tool in tools:
        book = _packaged().get(tool.name)
        if book is None or not fits(book, tool):
            book = derived(tool)
        books[tool.name] = book
    return books


def fits(book: Book, tool: Tool) -> bool:
    """Whether every slot of a book is an argument of the tool."""
    names = {param.name for param in tool.params}
    texts = [*book.short, *book.compound, *book.inline, *(q.text for q in book.questions)]
    return all(slot.param in names for text in texts for slot in grammar.parse(text).slots())


def check(book: Book, tool: Tool) -> None:
    """Check that every template parses and names arguments that exist.

    Raises:
        ConfigError: A template is malformed or names an unknown argument.
    """
    if not fits(book, tool):
        raise ConfigError(f"phrase book of {tool.name}: a slot is no argument of the tool")


_VERBS = {
    "get": ("get", "find", "look up", "show me", "fetch", "give me"),
    "find": ("find", "look for", "search for"),
    "search": ("search for", "look for", "find"),
    "list": ("list", "show me", "show"),
    "create": ("create", "make", "add", "set up"),
    "add": ("add", "create", "put in"),
    "make": ("make", "create"),
    "set": ("set", "change"),
    "update": ("update", "change", "edit"),
    "delete": ("delete", "remove"),
    "remove": ("remove", "delete"),
    "cancel": ("cancel", "call off"),
    "send": ("send", "write"),
    "open": ("open", "show", "bring up"),
    "play": ("play", "put on", "start"),
    "start": ("start", "begin", "run"),
    "stop": ("stop", "end"),
    "book": ("book", "reserve", "get me"),
    "order": ("order", "get me"),
    "turn": ("turn", "switch"),
    "check": ("check", "look up"),
    "plot": ("plot", "draw", "chart"),
    "calculate": ("calculate", "work out", "compute"),
    "convert": ("convert", "turn"),
    "translate": ("translate",),
    "lock": ("lock",),
    "dim": ("dim", "lower"),
}


def words_of(name: str) -> list[str]:
    """Split a tool or argument name into lower-case words; a dotted prefix stays out."""
    bare = name.rsplit(".", 1)[-1].rsplit("__", 1)[-1]
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", bare).replace("_", " ")
    return spaced.lower().split()


def verb_and_noun(tool: Tool) -> tuple[tuple[str, ...], str]:
    """Return the verbs and the noun phrase that a tool's name suggests."""
    words = words_of(tool.name)
    if words[0] in _VERBS and len(words) > 1:
        return _VERBS[words[0]], " ".join(words[1:])
    if words[0] in _VERBS:
        return _VERBS[words[0]], ""
    if len(words) > 1:
        return (words[0],), " ".join(words[1:])
    return ("use", "run"), words[0]


def derived(tool: Tool) -> Book:
    """Write a phrase book from a tool's declaration alone."""
    verbs, noun = verb_and_noun(tool)
    verb = f"({'|'.join(verbs)})" if len(verbs) > 1 else verbs[0]
    article = "" if not noun else " the " if verbs[0] in ("get", "open", "update") else " (a|the|) "
    head = f"{verb}{article}{noun}".replace("  ", " ")
    required = [param for param in tool.params if param.required and _speakable(param)]
    optional = [param for param in tool.params if not param.required and _speakable(param)]
    phrases = ["".join(_phrase(param, tool) for param in required)]
    for param in optional:
        phrases.append(phrases[0] + _phrase(param, tool))
    if len(optional) > 1:
        phrases.append(phrases[0] + "".join(_phrase(param, tool) for param in optional[:3]))
    short = tuple(f"{head}{phrase}" for phrase in phrases)
    lean = "".join(f" {{{p.name}}}" for p in required)
    results = tuple(
        f"{head}{''.join(_result_phrase(p) if p is param else _phrase(p, tool) for p in required)}"
        + ("" if param.required else _result_phrase(param))
        for param in tool.params
        if param.accepts and param.entity is None
    )
    name = noun or " ".join(words_of(tool.name))
    values = tool.returns is not Type.STATUS
    questions = tuple(
        Question(
            text=f"{head}{''.join(_phrase(p, tool) for p in required if p is not param)}",
            ask=question_for(param, name),
            missing=param.name,
        )
        for param in required
        if not param.is_list or param.entity
    )
    return Book(
        tool=tool.name,
        short=(
            *short,
            f"{noun or verbs[0]}{lean}",
            f"!i need {noun and 'the ' + noun}{phrases[0]}",
        ),
        compound=(*short, *results),
        inline=tuple(f"the {name}{phrase}" for phrase in phrases[:1]) if values else (),
        later=(f"the {name}", "the result", f"that {name}") if values else (),
        questions=questions,
    )


def question_for(param: Param, noun: str) -> str:
    """Word the question for a missing argument."""
    words = " ".join(words_of(param.name))
    if param.entity in ("contact-email", "contact-phone"):
        return f"Who is the {noun} for?"
    if param.entity == "file":
        return "Which file?"
    if param.kind is Kind.WHEN:
        return f"When is the {noun}?"
    if param.kind is Kind.CHOICE:
        return f"Which {words}: {', '.join(c for c in param.choices if c)}?"
    return f"What is the {words}?"


def _speakable(param: Param) -> bool:
    return param.kind is not Kind.BOOL or param.required


def _phrase(param: Param, tool: Tool) -> str:
    """Return the words and slot for one argument, with the blank before them."""
    slot, words = f"{{{param.name}}}", " ".join(words_of(param.name))
    if param.entity in ("contact-email", "contact-phone"):
        return f" (for|with|to) {slot}"
    if param.entity == "file":
        return f" (from|with) {slot}"
    if param.kind is Kind.WHEN:
        return f" {slot}"
    if param.kind is Kind.BOOL:
        return f" with {words} {slot}"
    if param.kind in (Kind.INT, Kind.FLOAT):
        return f"( with {words} {slot}| with a {words} of {slot}|, {words} {slot})"
    if param.kind is Kind.CHOICE:
        return f"( as {slot}| with {words} {slot}|, {words} {slot})"
    last = words.split()[-1]
    if tool.returns in (Type.EMAIL, Type.PHONE):
        return f" (for|of|named|) {slot}"
    if last in ("name", "title", "subject", "topic"):
        return f" (called|named|titled|) {slot}"
    if last in ("city", "location", "place", "address", "room", "country"):
        return f" (in|at|for) {slot}"
    return f"( with {words} {slot}|, {words} {slot}| for {slot})"


def _result_phrase(param: Param) -> str:
    """Return the words around a mention of another step's value."""
    words = " ".join(words_of(param.name))
    return f" (using|with|based on) {{*{param.name}}} (as the {words}|for the {words}|)"
