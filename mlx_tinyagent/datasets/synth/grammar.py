"""The small template language of phrase books and lexicons.

    (create|add|) a note (called|titled) {name} (in the {folder} folder|) ;; priority=1

``(a|b|)`` picks one; ``<lexicon>`` picks an entry of a lexicon; ``{param}`` is a
slot; ``{param=filler}`` names the filler; ``{param.part}`` fills one part of a
value that stands in two places; ``{*param}`` is a mention of another step's
value; ``[param=words]`` makes a whole phrase, slots included, a value. After
``;;`` stand fixed arguments: ``name=value``, or ``name=@param`` for what another
argument is about. A template that starts with ``!`` is no imperative, so
nothing like "please" is put before it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from mlx_tinyagent.errors import ConfigError

_SLOT = re.compile(r"(\*?)(\w+)(?:\.(\w+))?(?:=(\w+))?")
_GROUP = re.compile(r"\[(\w+)=")
_SPECIAL = re.compile(r"[()|{}<>\[\]]")


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for an argument.

    Attributes:
        param: Name of the tool's argument.
        filler: Name of what fills it; empty for the argument's own.
        part: ``day`` or ``clock`` where a value stands in two places.
        result: Whether a mention of another step's value stands here.
    """

    param: str
    filler: str = ""
    part: str = ""
    result: bool = False


@dataclass(frozen=True, slots=True)
class Pick:
    """An entry of a lexicon."""

    lexicon: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several sequences."""

    options: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True, slots=True)
class Group:
    """A phrase that is an argument as a whole."""

    param: str
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Edge:
    """Where the phrase of an argument begins or ends, after expansion."""

    param: str
    opens: bool


Node = str | Slot | Pick | Choice | Group
Part = str | Slot | Pick | Edge


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template.

    Attributes:
        nodes: What it is made of.
        fixed: Arguments that the wording decides.
        copies: Arguments that take the words of another slot.
        imperative: Whether "please" may stand before it.
        source: The text it was parsed from.
    """

    nodes: tuple[Node, ...]
    fixed: tuple[tuple[str, Any], ...]
    copies: tuple[tuple[str, str], ...]
    imperative: bool
    source: str

    def slots(self) -> list[Slot]:
        """Return every slot that can occur."""
        return list(_slots(self.nodes))


@cache
def parse(text: str) -> Template:
    """Parse a template.

    Raises:
        ConfigError: The brackets do not match or a slot is malformed.
    """
    body, _, settings = text.partition(";;")
    imperative = not body.startswith("!")
    body = body.removeprefix("!").strip() if settings else body.removeprefix("!")
    parser = _Parser(body, text)
    nodes = parser.sequence(until="")
    fixed, copies = _settings(settings, text)
    return Template(nodes, fixed, copies, imperative, text)


def _settings(
    text: str, source: str
) -> tuple[tuple[tuple[str, Any], ...], tuple[tuple[str, str], ...]]:
    fixed: list[tuple[str, Any]] = []
    copies: list[tuple[str, str]] = []
    for item in text.split():
        name, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"template {source!r}: expected name=value after ;;, found {item!r}")
        if value.startswith("@"):
            copies.append((name, value[1:]))
            continue
        try:
            fixed.append((name, json.loads(value)))
        except json.JSONDecodeError:
            fixed.append((name, value))
    return tuple(fixed), tuple(copies)


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self.text, self.source, self.at = text, source, 0

    def fail(self, reason: str) -> ConfigError:
        return ConfigError(f"template {self.source!r}: {reason} at column {self.at + 1}")

    def sequence(self, until: str) -> tuple[Node, ...]:
        nodes: list[Node] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if char in until:
                return tuple(nodes)
            if char == "(":
                nodes.append(self.choice())
            elif char == "{":
                nodes.append(self.slot())
            elif char == "<":
                nodes.append(Pick(self.upto(">")))
            elif char == "[":
                nodes.append(self.group())
            elif char in ")}>|]":
                raise self.fail(f"{char!r} opens nothing")
            else:
                match = _SPECIAL.search(self.text, self.at)
                end = match.start() if match else len(self.text)
                nodes.append(self.text[self.at : end])
                self.at = end
        if until:
            raise self.fail("a bracket is not closed")
        return tuple(nodes)

    def choice(self) -> Choice:
        self.at += 1
        options = [self.sequence(until="|)")]
        while self.text[self.at] == "|":
            self.at += 1
            options.append(self.sequence(until="|)"))
        self.at += 1
        return Choice(tuple(options))

    def group(self) -> Group:
        match = _GROUP.match(self.text, self.at)
        if match is None:
            raise self.fail("expected [param=words]")
        self.at = match.end()
        nodes = self.sequence(until="]")
        self.at += 1
        return Group(match[1], nodes)

    def upto(self, end: str) -> str:
        stop = self.text.find(end, self.at)
        if stop < 0:
            raise self.fail("a bracket is not closed")
        inner = self.text[self.at + 1 : stop]
        self.at = stop + 1
        return inner

    def slot(self) -> Slot:
        inner = self.upto("}")
        match = _SLOT.fullmatch(inner)
        if match is None:
            raise self.fail(f"a malformed slot {inner!r}")
        return Slot(match[2], filler=match[4] or "", part=match[3] or "", result=bool(match[1]))


def _slots(nodes: tuple[Node, ...]) -> list[Slot]:
    found: list[Slot] = []
    for node in nodes:
        if isinstance(node, Slot):
            found.append(node)
        elif isinstance(node, Choice):
            for option in node.options:
                found.extend(_slots(option))
        elif isinstance(node, Group):
            found.extend([Slot(node.param), *_slots(node.nodes)])
    return found


def expand(nodes: tuple[Node, ...], rng: Random) -> list[Part]:
    """Make every choice and return what is left: texts, slots, lexicon picks, edges of groups."""
    parts: list[Part] = []
    for node in nodes:
        if isinstance(node, Choice):
            parts.extend(expand(rng.choice(node.options), rng))
        elif isinstance(node, Group):
            parts.append(Edge(node.param, opens=True))
            parts.extend(expand(node.nodes, rng))
            parts.append(Edge(node.param, opens=False))
        else:
            parts.append(node)
    return parts
