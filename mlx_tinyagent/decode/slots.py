"""Where in a plan line the next character goes: which tool, argument, list, text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mlx_tinyagent.tools.base import Param, Tool, ToolSet

Where = Literal["name", "value", "text", "item", "after-item", "after-value"]
_HEAD = re.compile(r"\d+\. (\w*)(\(?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A place in a plan line.

    Attributes:
        where: ``name``: in the tool's name. ``value``: an argument begins.
            ``text``: inside quotes. ``item``: a list item begins.
            ``after-item``: a list item has ended. ``after-value``: an argument has ended.
        prefix: What is already written of the name or quoted text.
        tool: The tool, once named.
        param: The argument.
        items: Items of the list that are finished, as written.
        in_list: Whether the place is inside a list.
    """

    where: Where
    prefix: str = ""
    tool: Tool | None = None
    param: Param | None = None
    items: tuple[str, ...] = ()
    in_list: bool = False


def slot(line: str, tools: ToolSet) -> Slot | None:
    """Return the place at the end of a partial plan line; None before ``N. `` or after ``)``.

    Args:
        line: The line so far, as the plan grammar writes it.
        tools: Offered tools.
    """
    head = _HEAD.match(line)
    if head is None:
        return None
    if not head[2]:
        return Slot(where="name", prefix=head[1])
    if head[1] not in tools:
        return None
    tool = tools[head[1]]
    return _Scan(tool).run(line[head.end() :])


class _Scan:
    """Walks over the arguments written so far."""

    def __init__(self, tool: Tool) -> None:
        self.tool = tool
        self.index = 0
        self.items: list[str] = []
        self.in_list = False
        self.text: list[str] | None = None  # characters of the open quoted text
        self.escaped = False
        self.begun = False  # whether the current value or item has begun
        self.closed = False

    def run(self, rest: str) -> Slot | None:
        for char in rest:
            self._step(char)
        if self.closed or self.index >= len(self.tool.params):
            return None
        return self._slot()

    def _step(self, char: str) -> None:
        if self.text is not None:
            self._inside(char)
        elif char == '"':
            self.text, self.begun = [], True
        elif char == "[":
            self.in_list, self.items, self.begun = True, [], False
        elif char == "]":
            self.in_list, self.begun = False, True
        elif char == ",":
            if not self.in_list:
                self.index += 1
                self.items = []
            self.begun = False
        elif char == ")":
            self.closed = True
        elif char != " ":
            self.begun = True

    def _inside(self, char: str) -> None:
        assert self.text is not None
        if self.escaped:
            self.escaped = False
        elif char == "\\":
            self.escaped = True
        elif char == '"':
            if self.in_list:
                self.items.append("".join(self.text))
            self.text = None
            return
        self.text.append(char)

    def _slot(self) -> Slot:
        where: Where
        if self.text is not None:
            where = "text"
        elif self.in_list:
            where = "after-item" if self.begun else "item"
        else:
            where = "after-value" if self.begun else "value"
        return Slot(
            where=where,
            prefix="".join(self.text or ()),
            tool=self.tool,
            param=self.tool.params[self.index],
            items=tuple(self.items),
            in_list=self.in_list,
        )
