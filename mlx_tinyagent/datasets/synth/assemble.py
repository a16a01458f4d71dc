"""Turns the clauses of a request into calls: look-ups first, results by reference."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from mlx_tinyagent.datasets.canonical import default
from mlx_tinyagent.datasets.record import Call
from mlx_tinyagent.datasets.synth.clause import (
    Borrowed,
    Clause,
    CopyOf,
    Fixed,
    Key,
    ResultOf,
    Segment,
    Source,
)
from mlx_tinyagent.tools.base import ENTITY_TYPE, Kind, Param, Tool, ToolSet
from mlx_tinyagent.tools.match import fold


@dataclass(slots=True)
class Assembler:
    """Builds the gold plan of one request.

    Attributes:
        tools: The tool set; gives the producers that names need.
        texts: The words of every argument as they stand in the request.
        calls: The plan so far.
    """

    tools: ToolSet
    texts: dict[Key, str]
    calls: list[Call] = field(default_factory=list)
    _done: dict[int, int] = field(default_factory=dict)  # clause serial -> call number
    _found: dict[tuple[str, str], int] = field(default_factory=dict)  # (tool, name) -> call number

    def add(self, clause: Clause) -> int:
        """Emit a clause's calls, once, and return the number of its own call."""
        if clause.serial in self._done:
            return self._done[clause.serial]
        args = tuple(self._argument(clause, param) for param in clause.tool.params)
        known = self._known(clause.tool, args)
        number = known if known else self._call(clause.tool, args)
        self._done[clause.serial] = number
        for more in clause.extra:
            self.add(more)
        return number

    def _call(self, tool: Tool, args: tuple[Any, ...]) -> int:
        self.calls.append(Call(id=len(self.calls) + 1, tool=tool.name, args=args))
        if _is_lookup(tool):
            self._found.setdefault((tool.name, fold(str(args[0]))), len(self.calls))
        return len(self.calls)

    def _known(self, tool: Tool, args: tuple[Any, ...]) -> int | None:
        """Return the earlier call that looked up the same name."""
        if not _is_lookup(tool) or not isinstance(args[0], str):
            return None
        return self._found.get((tool.name, fold(args[0])))

    def _argument(self, clause: Clause, param: Param) -> Any:
        source = clause.sources.get(param.name)
        if source is None:
            return default(param)
        if isinstance(source, Borrowed):
            owner = source.clause
            return self._argument(owner, _param(owner.tool, source.param))
        if param.is_list:
            return self._list(clause, param, source)
        return self._scalar(clause, param, source, 0)

    def _list(self, clause: Clause, param: Param, source: Source) -> list[Any]:
        if isinstance(source, Fixed):
            return list(source.value)
        if isinstance(source, ResultOf):
            return [self._scalar(clause, param, source, 0)]
        count = 0
        while Key(clause.serial, param.name, count) in self.texts:
            count += 1
        return [self._scalar(clause, param, source, number) for number in range(count)]

    def _scalar(self, clause: Clause, param: Param, source: Source, item: int) -> Any:
        match source:
            case Fixed(value):
                return value
            case ResultOf(other):
                return f"${self.add(other)}"
            case CopyOf(name):
                return self._copied(clause, name)
            case _:
                return self._said(param, self.texts[Key(clause.serial, param.name, item)])

    def _copied(self, clause: Clause, name: str) -> str:
        """Return what another argument is about: its words, or what its step is about.

        A mail with a file, or with a file's summary, is about that file, so it
        takes the file's name without extension.
        """
        source = clause.sources.get(name)
        if isinstance(source, ResultOf):
            inner = source.clause
            said = [p.name for p in inner.tool.params if p.name in inner.sources]
            return self._copied(inner, said[0]) if said else ""
        text = self.texts.get(Key(clause.serial, name, 0), "")
        is_file = _param(clause.tool, name).entity == "file"
        text = re.sub(r"^(the|a|an|my) (?=\S)", "", text, flags=re.IGNORECASE)
        return re.sub(r"\.[A-Za-z0-9]{2,5}$", "", text) if is_file else text

    def _said(self, param: Param, text: str) -> str:
        """Return the words, or a reference to the look-up that the name needs."""
        if param.entity is None or is_literal(text, param.entity):
            return text
        producer = producer_for(param, self.tools)
        if producer is None:
            return text
        known = self._found.get((producer.name, fold(text)))
        args = tuple(
            text if number == 0 else default(p) for number, p in enumerate(producer.params)
        )
        return f"${known or self._call(producer, args)}"


def _param(tool: Tool, name: str) -> Param:
    return next(param for param in tool.params if param.name == name)


def producer_for(param: Param, tools: ToolSet) -> Tool | None:
    """Return the tool that turns a name into what an argument needs, if there is one."""
    if param.entity is None:
        return None
    wanted = ENTITY_TYPE[param.entity]
    for tool in tools:
        if tool.returns is wanted and _is_lookup(tool):
            return tool
    return None


def _is_lookup(tool: Tool) -> bool:
    """Whether a tool turns one name into a value that entity arguments read."""
    required = [param for param in tool.params if param.required]
    return (
        tool.returns in ENTITY_TYPE.values()
        and len(required) == 1
        and required[0] is tool.params[0]
        and required[0].kind is Kind.SPAN
        and not required[0].is_list
    )


def is_literal(text: str, entity: str) -> bool:
    """Whether a text is an address, a number or a path already, so no look-up is needed."""
    if entity == "file":
        return text.startswith(("/", "~"))
    return "@" in text or sum(char.isdigit() for char in text) >= 7


def texts_of(segments: list[Segment]) -> dict[Key, str]:
    """Return every argument's words: from its first to its last piece in the request."""
    whole = "".join(segment.text for segment in segments)
    spans: dict[Key, tuple[int, int]] = {}
    at = 0
    for segment in segments:
        end = at + len(segment.text)
        for key in (segment.key, segment.outer):
            if key is not None:
                spans[key] = (spans.get(key, (at, end))[0], end)
        at = end
    return {key: whole[start:end].strip() for key, (start, end) in spans.items()}
