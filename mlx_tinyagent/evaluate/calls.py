"""Calls as the metrics read them, and the references between them.

Reads plain data (``{"id", "tool", "args"}``) and is total: any list of such
calls, valid plan or not, has references and a graph.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlx_tinyagent.errors import InputError
from mlx_tinyagent.evaluate.graphs import LabeledGraph

# ``${k}``, ``${k.field}``, ``$k``, ``$k.field``; a bare one is no price: "$2.50", "$2,000".
_REFERENCE = re.compile(r"\$\{(\d{1,6})(?:\.\w+)?\}|\$(\d{1,6})(?!\d)(?![.,]\d)(?:\.[a-z_]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a plan.

    Attributes:
        id: Printed number.
        tool: Tool name.
        args: Positional values; references are strings (``"$1"``, ``"see ${2}"``).
        resolved: What the planner resolved arguments to, by argument name.
    """

    id: int
    tool: str
    args: tuple[object, ...]
    resolved: Mapping[str, object] = field(default_factory=dict)


def read_calls(rows: Sequence[Mapping[str, Any]]) -> tuple[Call, ...]:
    """Read calls from plain data.

    Raises:
        InputError: There is no list, a call lacks its number, tool or arguments, or one
            has the wrong type.
    """
    if not isinstance(rows, list | tuple):
        raise InputError(f"calls are {rows!r:.100}; a list of calls does")
    return tuple(_read_call(place, row) for place, row in enumerate(rows, start=1))


def _read_call(place: int, row: Mapping[str, Any]) -> Call:
    if not isinstance(row, Mapping):
        raise InputError(
            f"call {place} is {type(row).__name__}; a mapping with id, tool, args does"
        )
    missing = [key for key in ("id", "tool", "args") if key not in row]
    if missing:
        raise InputError(f"call {place} has no {', '.join(missing)}: {dict(row)!r:.200}")
    number, tool, args = row["id"], row["tool"], row["args"]
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise InputError(f"call {place} has id {number!r}; a whole number does")
    if not isinstance(tool, str):
        raise InputError(f"call {place} has tool {tool!r}; a name does")
    if not isinstance(args, list | tuple):
        raise InputError(f"call {place} has args {args!r:.200}; a list of values does")
    if not all(_is_finite(item) for value in args for item in items(value)):
        raise InputError(f"call {place} has args {args!r:.200}; infinite numbers are no values")
    resolved = row.get("resolved") or {}
    if not isinstance(resolved, Mapping):
        raise InputError(f"call {place} has resolved {resolved!r:.200}; values by argument name do")
    return Call(id=number, tool=tool, args=tuple(args), resolved=dict(resolved))


def _is_finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


class Numbering:
    """Finds the step that a printed number means for a reader: the last of it before the reader.

    Args:
        calls: A plan's calls; numbers may repeat, leave gaps or run backwards.
    """

    def __init__(self, calls: Sequence[Call]) -> None:
        self._places: dict[int, list[int]] = {}
        for place, call in enumerate(calls):
            self._places.setdefault(call.id, []).append(place)

    def find(self, number: int, reader: int) -> int | None:
        """Return the place (from 0) that ``$number`` means at place ``reader``, or None."""
        places = self._places.get(number, [])
        before = bisect_left(places, reader)
        return places[before - 1] if before else None


@dataclass(frozen=True, slots=True)
class Written:
    """An argument value or list item, taken apart.

    Attributes:
        text: The value without its references; None for values that are no text.
        reads: Places (from 0) of the steps it reads, in order, repeats kept.
    """

    text: str | None
    reads: tuple[int, ...] = ()


def take_apart(value: object, numbering: Numbering, reader: int) -> Written:
    """Split a value that is no list into text and references.

    Counts ``$k`` and ``$k.field`` alone or inside text, and ``${k}``: own and
    TinyAgent's plans are read alike. A number that names no earlier step is
    text, so "you owe me $20" stays a sentence.

    Args:
        value: The value.
        numbering: The plan's step numbers.
        reader: Place of the step that holds the value.
    """
    if not isinstance(value, str):
        return Written(None)
    if "$" not in value:
        return Written(value)
    reads: list[int] = []

    def keep(match: re.Match[str]) -> str:
        source = numbering.find(int(match[1] or match[2]), reader)
        if source is None:
            return match[0]
        reads.append(source)
        return " "

    text = _REFERENCE.sub(keep, value)
    return Written(text.strip() if reads else text, tuple(reads))


def items(value: object) -> tuple[object, ...]:
    """Return a list's items, or the value alone."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def dependencies(calls: Sequence[Call]) -> list[tuple[int, ...]]:
    """Return for each call the places (from 0) of the calls it reads, ascending, each once."""
    numbering = Numbering(calls)
    return [
        tuple(
            sorted(
                {
                    source
                    for value in call.args
                    for item in items(value)
                    for source in take_apart(item, numbering, place).reads
                }
            )
        )
        for place, call in enumerate(calls)
    ]


def call_graph(calls: Sequence[Call]) -> LabeledGraph:
    """Return the graph of tools with an edge from each call to those that read it."""
    edges = {(source, place) for place, read in enumerate(dependencies(calls)) for source in read}
    return LabeledGraph(labels=tuple(call.tool for call in calls), edges=frozenset(edges))
