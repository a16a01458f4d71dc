"""One clause of a request: words, which of them are arguments, and the call they mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mlx_tinyagent.tools.base import Tool


@dataclass(frozen=True, slots=True)
class Key:
    """Which argument a piece of text belongs to.

    Attributes:
        clause: Serial number of the clause.
        param: Argument name.
        item: Position in a list argument; 0 otherwise.
    """

    clause: int
    param: str
    item: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a request.

    Attributes:
        text: The words.
        key: Which argument they are; None for plain words.
        outer: Which argument they are a part of, where a mention holds arguments of its own.
    """

    text: str
    key: Key | None = None
    outer: Key | None = None

    def reworded(self, text: str) -> Segment:
        """Return the same piece with other words."""
        return Segment(text, self.key, self.outer)


@dataclass(frozen=True, slots=True)
class Said:
    """An argument whose value is the words that stand in the request."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """An argument whose value the wording decides, such as a priority."""

    value: Any


@dataclass(frozen=True, slots=True)
class CopyOf:
    """An argument that takes the words of another argument of the same clause."""

    param: str


@dataclass(frozen=True, slots=True)
class ResultOf:
    """An argument that reads what another clause's call gives."""

    clause: Clause


@dataclass(frozen=True, slots=True)
class Borrowed:
    """An argument that takes what an argument of another clause holds."""

    clause: Clause
    param: str


Source = Said | Fixed | CopyOf | ResultOf | Borrowed


@dataclass(slots=True, eq=False)
class Clause:
    """A clause and what it asks for.

    Attributes:
        serial: Number that tells it from the other clauses of the request.
        tool: The tool it calls.
        segments: Its words, in order.
        sources: Where each argument that is not at its default comes from.
        untimed: Date arguments whose words say no time of day.
        imperative: Whether "please" may stand before it.
        template: The template it was made from.
        extra: Further clauses without words of their own that it also means.
    """

    serial: int
    tool: Tool
    segments: list[Segment] = field(default_factory=list)
    sources: dict[str, Source] = field(default_factory=dict)
    untimed: set[str] = field(default_factory=set)
    imperative: bool = True
    template: str = ""
    extra: list[Clause] = field(default_factory=list)


def text_of(segments: list[Segment]) -> str:
    """Return the words that segments make."""
    return "".join(segment.text for segment in segments)
