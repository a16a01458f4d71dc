"""What importers give, and what several of them need."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_tinyagent.datasets.canonical import Report
from mlx_tinyagent.datasets.jsonl import Line, read_lines
from mlx_tinyagent.datasets.record import Example
from mlx_tinyagent.tools.base import ANY_TEXT, Effect, Kind, Param, Tool, ToolSet, Type


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to import.

    Attributes:
        source: What rows give as their source; the importer's own name if empty.
        licence: What rows give as their licence; the source's own if empty.
        keep_invalid: Keep TinyAgent plans that break a rule of ours, marked
            ``plan-invalid``; for scoring against them, not for training.
    """

    source: str = ""
    licence: str = ""
    keep_invalid: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A file opened as examples.

    Attributes:
        examples: Read while iterating.
        tools: Declarations of all tools the rows name.
        report: What was changed or left out; complete after the last example.
    """

    examples: Iterator[Example]
    tools: ToolSet
    report: Report = field(default_factory=Report)


def rows(path: Path, needed: Mapping[str, type | tuple[type, ...]]) -> Iterator[Line]:
    """Read a JSONL file whose rows must have certain fields of certain types.

    Raises:
        RecordError: A field is missing or of another type; more as in ``read_lines``.
    """

    def check(line: Line) -> Line:
        for key, kind in needed.items():
            if key not in line.value:
                raise line.error(f"the field {key!r} is missing")
            if not isinstance(line.value[key], kind):
                found = type(line.value[key]).__name__
                raise line.error(f"{key}: expected {_named(kind)}, got {found}", key=key)
        return line

    return read_lines(path, check)


def _named(kind: type | tuple[type, ...]) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join("null" if k is type(None) else k.__name__ for k in kinds)


@dataclass(frozen=True, slots=True)
class NamedCall:
    """A call with named arguments, as foreign data has them."""

    tool: str
    args: Mapping[str, Any]


def declare(name: str, calls: Sequence[NamedCall], *, query_of: Callable[[int], str]) -> ToolSet:
    """Write declarations of tools from the calls made of them.

    An argument is whatever type its values have; a text that mostly stands in
    its request is a span, one of few repeated values a choice. Arguments that
    not every call gives get a default.

    Args:
        name: Name of the tool set.
        calls: All calls of a file.
        query_of: Gives the request of the n-th call.
    """
    grouped: dict[str, list[tuple[int, NamedCall]]] = {}
    for number, call in enumerate(calls):
        grouped.setdefault(call.tool, []).append((number, call))
    return ToolSet(
        name,
        [
            Tool(
                name=tool,
                summary=f"{_sentence(tool)}.",
                params=_params([(query_of(n), call.args) for n, call in made]),
                effect=Effect.READ if _reads(tool) else Effect.WRITE,
                returns=Type.TEXT,
            )
            for tool, made in sorted(grouped.items())
        ],
    )


_BLANK: Mapping[Kind, Any] = {Kind.INT: 0, Kind.FLOAT: 0.0, Kind.BOOL: False}


def _params(made: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[Param, ...]:
    """Declare the arguments that calls of one tool give; those every call gives come first."""
    names: dict[str, int] = {}
    for _, args in made:
        for arg in args:
            names[arg] = names.get(arg, 0) + 1
    params = []
    for arg in sorted(names, key=lambda n: (names[n] < len(made), list(names).index(n))):
        values = [(query, args[arg]) for query, args in made if arg in args]
        kind, is_list = _kind(values)
        required = names[arg] == len(made)
        blank: Any = (
            [] if is_list else {Kind.INT: 0, Kind.FLOAT: 0.0, Kind.BOOL: False}.get(kind, "")
        )
        extra: dict[str, Any] = {} if required else {"default": blank}
        params.append(
            Param(
                name=arg,
                kind=kind,
                is_list=is_list,
                accepts=ANY_TEXT if kind in (Kind.SPAN, Kind.TEXT) else frozenset(),
                **extra,
            )
        )
    return tuple(params)


def _kind(values: Sequence[tuple[str, Any]]) -> tuple[Kind, bool]:
    """Guess how an argument is written from the values it was given."""
    is_list = all(isinstance(value, list) for _, value in values)
    flat = [
        (query, item)
        for query, value in values
        for item in (value if isinstance(value, list) else [value])
    ]
    items = [item for _, item in flat]
    if items and all(isinstance(item, bool) for item in items):
        return Kind.BOOL, is_list
    if items and all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        return Kind.INT, is_list
    if items and all(isinstance(i, int | float) and not isinstance(i, bool) for i in items):
        return Kind.FLOAT, is_list
    said = sum(str(item).casefold() in query.casefold() for query, item in flat)
    return (Kind.SPAN if 2 * said >= len(flat) else Kind.TEXT), is_list


def positional(call: NamedCall, tool: Tool) -> tuple[Any, ...]:
    """Put named arguments in the declaration's order; texts for text arguments."""
    from mlx_tinyagent.datasets.canonical import default

    return tuple(
        _plain(param, call.args[param.name]) if param.name in call.args else default(param)
        for param in tool.params
    )


def _plain(param: Param, value: Any) -> Any:
    if isinstance(value, list):
        items = [_plain(param, item) for item in value]
        return items if param.is_list else json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if param.kind in (Kind.SPAN, Kind.TEXT, Kind.TEMPLATE) and not isinstance(value, str):
        return "" if value is None else str(value)
    return value


def _sentence(name: str) -> str:
    """Turn a tool's name into words: ``calendar__create_event`` into "Create event"."""
    from mlx_tinyagent.datasets.synth.wording import words_of

    return " ".join(words_of(name)).capitalize()


def _reads(name: str) -> bool:
    """Whether a tool's name says that it only looks something up."""
    from mlx_tinyagent.datasets.synth.wording import words_of

    first = words_of(name)[0]
    return first in ("get", "find", "search", "list", "read", "check", "show", "total", "count")
