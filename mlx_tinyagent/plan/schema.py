"""The plan as values: steps, references, templates and control steps.

References are values after parsing, never text. This module knows no text
form and no tool declarations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of an earlier step: ``$k`` or ``$k.field``."""

    step: int
    field: str | None = None

    def __str__(self) -> str:
        return f"${self.step}.{self.field}" if self.field else f"${self.step}"


@dataclass(frozen=True, slots=True)
class Template:
    """Text with references inside: ``"See ${2}."``."""

    parts: tuple[str | Ref, ...]

    def __str__(self) -> str:
        return "".join(
            part if isinstance(part, str) else "${" + str(part)[1:] + "}" for part in self.parts
        )


Scalar = str | int | float | bool | None | Ref | Template
Argument = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a tool.

    Attributes:
        id: Number in the plan, from 1.
        tool: Tool name.
        args: One value per argument of the tool, in its order.
        thought: Free text written before the step.
    """

    id: int
    tool: str
    args: tuple[Argument, ...]
    thought: str | None = None

    def refs(self) -> Iterator[Ref]:
        """Yield the references in the arguments, in order of appearance."""
        for argument in self.args:
            for item in argument if isinstance(argument, tuple) else (argument,):
                if isinstance(item, Ref):
                    yield item
                elif isinstance(item, Template):
                    yield from (part for part in item.parts if isinstance(part, Ref))

    @property
    def dependencies(self) -> tuple[int, ...]:
        """Numbers of the steps this one reads, ascending, each once."""
        return tuple(sorted({ref.step for ref in self.refs()}))


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole plan: either steps, or a question, or a wish for more tools.

    A plan without steps, question or wish is ``join()`` alone: no tool serves
    the request.

    Attributes:
        steps: Calls in order.
        ask: Question to the user, when something is missing or ambiguous.
        more_tools: Names of tools to offer as well.
    """

    steps: tuple[Step, ...] = ()
    ask: str | None = None
    more_tools: tuple[str, ...] = ()

    def step(self, number: int) -> Step:
        """Return the step of that number.

        Raises:
            KeyError: There is none.
        """
        for step in self.steps:
            if step.id == number:
                return step
        raise KeyError(number)


# A step's number and perhaps a field. Digits of ASCII only: \d takes those of every script.
_TARGET = r"([0-9]{1,4})(?:\.([a-z_][a-z0-9_]*))?"
_REF = re.compile(rf"\${_TARGET}|\$\{{{_TARGET}\}}")
_INNER = re.compile(rf"\$\{{{_TARGET}\}}")


def parse_ref(text: str) -> Ref | None:
    """Read a text that is a reference and nothing else: ``$2``, ``${2}``, ``$2.url``."""
    match = _REF.fullmatch(text)
    if match is None:
        return None
    number, field = (match[1], match[2]) if match[1] else (match[3], match[4])
    return Ref(int(number), field)


def parse_template(text: str) -> str | Template:
    """Read ``${k}`` and ``${k.field}`` inside a text; a text without them stays text."""
    parts: list[str | Ref] = []
    end = 0
    for match in _INNER.finditer(text):
        if match.start() > end:
            parts.append(text[end : match.start()])
        parts.append(Ref(int(match[1]), match[2]))
        end = match.end()
    if not parts:
        return text
    if end < len(text):
        parts.append(text[end:])
    return Template(tuple(parts))
