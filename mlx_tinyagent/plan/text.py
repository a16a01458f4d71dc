"""Plan text to raw steps and back: a total parser that does not depend on chunking.

    Thought: optional free text
    1. get_email_address("Dana")
    2. create_calendar_event("Budget review", "tomorrow at 3pm", "", "", ["$1"], "", None)
    3. join()

The reader knows the syntax only. Names, arity, types and references are
checked by ``graph.bind``, which turns raw steps into a ``Plan``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mlx_tinyagent.errors import PlanError
from mlx_tinyagent.plan.schema import Argument, Plan, Ref, Scalar, Template
from mlx_tinyagent.tools.base import literal

END_OF_PLAN = "<END_OF_PLAN>"
MAX_PLAN_CHARS = 65_536
MAX_ARGUMENT_CHARS = 8_192
MAX_NUMBER_CHARS = 40  # more than any float's repr() has
INT_LIMIT = 10**18  # whole numbers lie below it in magnitude

RawScalar = str | int | float | bool | None
RawArgument = RawScalar | list[RawScalar]

_DIGITS = "0123456789"  # of ASCII only: str.isdigit() and \d take those of every script
_HEAD = re.compile(r"([0-9]{1,6})\s*\.\s*([A-Za-z_]\w*)\s*\(")
_NAMED = re.compile(r"([A-Za-z_]\w*)\s*=(?!=)\s*")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_BARE_REF = re.compile(
    r"\$[0-9]{1,4}(?:\.[a-z_][a-z0-9_]*)?|\$\{[0-9]{1,4}(?:\.[a-z_][a-z0-9_]*)?\}"
)
_WORD = re.compile(r"[A-Za-z_]\w*")
_WORDS = {"None": None, "null": None, "True": True, "true": True, "False": False, "false": False}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\", "\n": ""}
_HEX = {"x": 2, "u": 4, "U": 8}


@dataclass(frozen=True, slots=True)
class RawStep:
    """One action as written, nothing checked but its syntax.

    Attributes:
        id: The printed number.
        name: Tool or control step.
        args: Positional arguments; references are still strings.
        named: Named arguments.
        line: Number of the text line it starts on, from 1.
        thought: Free text before it.
    """

    id: int
    name: str
    args: tuple[RawArgument, ...]
    named: dict[str, RawArgument] = field(default_factory=dict)
    line: int = 1
    thought: str | None = None


class PlanReader:
    """Reads a plan piece by piece; the steps do not depend on how it is cut.

    A step is complete when its line ends; quotes and brackets may span lines.
    """

    def __init__(self) -> None:
        self._piece: list[str] = []  # characters of the current statement
        self._first = ""  # the first visible one of them
        self._quote = ""
        self._escaped = False
        self._depth = 0
        self._comment = False
        self._line = 1
        self._start_line = 1
        self._size = 0
        self._thought: list[str] = []
        self._ended = False  # END_OF_PLAN was read
        self.joined = False

    def feed(self, piece: str) -> Iterator[RawStep]:
        """Take the next characters and yield the steps they complete.

        Raises:
            PlanError: The text breaks the syntax or a limit.
        """
        for char in piece:
            self._size += 1
            if self._size > MAX_PLAN_CHARS:
                raise PlanError(
                    f"the text is longer than {MAX_PLAN_CHARS} characters", rule="plan-size"
                )
            if "\ud800" <= char <= "\udfff":
                raise PlanError(
                    f"lone surrogate U+{ord(char):04X}: not Unicode text",
                    line=self._line,
                    rule="encoding",
                )
            self._piece.append(char)
            self._first = self._first or char.strip()
            if char == "\n":
                self._line += 1
            if self._ends_statement(char):
                yield from self._statement()

    def close(self) -> Iterator[RawStep]:
        """Say that the text is over; yields a last step without line end.

        Raises:
            PlanError: The text stops inside a step, or without ``join()``.
        """
        if self._quote or self._depth:
            inside = "a quoted text" if self._quote else "an unclosed bracket"
            raise PlanError(f"the text stops inside {inside}", line=self._start_line, rule="cut")
        yield from self._statement()
        if not self.joined:
            raise PlanError("the text stops without join()", rule="no-join")

    def _ends_statement(self, char: str) -> bool:
        """Advance the lexical state by one character; true where a statement ends."""
        if self._quote:
            if self._escaped:
                self._escaped = False
            elif char == "\\":
                self._escaped = True
            elif char == self._quote:
                self._quote = ""
            return False
        if char == "\n" and (self._comment or self._depth == 0):
            self._comment = False
            return self._depth == 0
        if self._comment:
            return False
        if char in "\"'" and not self._in_thought():
            self._quote = char
        elif char in "([":
            self._depth += 0 if self._in_thought() else 1
        elif char in ")]":
            self._depth -= 0 if self._in_thought() else 1
            if self._depth < 0:
                raise PlanError(f"'{char}' closes nothing", line=self._line, rule="syntax")
        elif char == "#":
            self._comment = True
        return False

    def _in_thought(self) -> bool:
        """Whether the current statement is free text rather than an action.

        An action begins with a digit, so the first visible character decides.
        """
        return self._first not in _DIGITS

    def _statement(self) -> Iterator[RawStep]:
        text = "".join(self._piece)
        line, self._start_line = self._start_line, self._line
        self._piece.clear()
        self._first = ""
        visible = text.strip()
        body = visible.removesuffix(END_OF_PLAN).rstrip()
        if body and (self.joined or self._ended):
            end = "join()" if self.joined else END_OF_PLAN
            raise PlanError(f"text after {end}: {body[:40]!r}", line=line, rule="after-join")
        self._ended = self._ended or visible.endswith(END_OF_PLAN)
        if not body:
            return
        if body.startswith("Thought:"):
            self._thought += body.removeprefix("Thought:").split()
            return
        thought = " ".join(self._thought) or None
        self._thought.clear()
        step = _parse_action(body, line, thought)
        self.joined = step.name == "join"
        yield step


def read(text: str) -> list[RawStep]:
    """Read a whole plan text into raw steps; the last is ``join``.

    Raises:
        PlanError: The text breaks the syntax or a limit.
    """
    reader = PlanReader()
    return [*reader.feed(text), *reader.close()]


def _parse_action(text: str, line: int, thought: str | None) -> RawStep:
    head = _HEAD.match(text)
    if head is None:
        raise PlanError(
            f"expected 'N. tool(arguments)', found {text[:60]!r}", line=line, rule="syntax"
        )
    scanner = _Scanner(text, head.end(), line)
    args, named = scanner.arguments()
    scanner.end()
    return RawStep(int(head[1]), head[2], args, named, line, thought)


class _Scanner:
    """Recursive descent over one action, from after its opening bracket."""

    def __init__(self, text: str, position: int, line: int) -> None:
        self.text, self.position, self.line = text, position, line

    def fail(self, expected: str) -> PlanError:
        found = self.text[self.position : self.position + 20] or "the end"
        return PlanError(
            f"expected {expected} at column {self.position + 1}, found {found!r}", line=self.line
        )

    def skip(self) -> str:
        """Skip blanks and return the next character, or an empty string."""
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1
        return self.text[self.position : self.position + 1]

    def arguments(self) -> tuple[tuple[RawArgument, ...], dict[str, RawArgument]]:
        args: list[RawArgument] = []
        named: dict[str, RawArgument] = {}
        while self.skip() != ")":
            name = _NAMED.match(self.text, self.position)
            if name is not None:
                self.position = name.end()
                if name[1] in named:
                    raise PlanError(f"argument {name[1]} is given twice", line=self.line)
                named[name[1]] = self.value()
            elif named:
                raise self.fail("a named argument after named ones")
            else:
                args.append(self.value())
            if self.skip() == ",":
                self.position += 1
            elif self.skip() != ")":
                raise self.fail("',' or ')'")
        self.position += 1
        return tuple(args), named

    def end(self) -> None:
        if self.skip() not in ("", "#"):
            raise self.fail("the end of the line after ')'")

    def value(self) -> RawArgument:
        if self.skip() != "[":
            return self.scalar()
        self.position += 1
        items: list[RawScalar] = []
        while self.skip() != "]":
            items.append(self.scalar())
            if self.skip() == ",":
                self.position += 1
            elif self.skip() != "]":
                raise self.fail("',' or ']'")
        self.position += 1
        return items

    def scalar(self) -> RawScalar:
        char = self.skip()
        if char and char in "\"'":
            return self.string(char)
        ref = _BARE_REF.match(self.text, self.position)
        number = _NUMBER.match(self.text, self.position)
        word = _WORD.match(self.text, self.position)
        match = ref or number or word
        if match is None or (match is word and match[0] not in _WORDS):
            raise self.fail("a quoted text, number, True, False, None, list or $k")
        self.position = match.end()
        if match is word:
            return _WORDS[match[0]]
        return match[0] if match is ref else _number_or_text(match[0])

    def string(self, quote: str) -> str:
        self.position += 1
        parts: list[str] = []
        while True:
            end = self.position
            while end < len(self.text) and self.text[end] not in (quote, "\\"):
                end += 1
            parts.append(self.text[self.position : end])
            self.position = end
            if end >= len(self.text):
                raise self.fail(f"a closing {quote}")
            if self.text[end] == quote:
                self.position += 1
                return "".join(parts)
            parts.append(self.escape())

    def escape(self) -> str:
        """Read a backslash escape of Python's common ones; others keep the backslash."""
        letter = self.text[self.position + 1 : self.position + 2]
        if letter in _HEX:
            digits = self.text[self.position + 2 : self.position + 2 + _HEX[letter]]
            if re.fullmatch(r"[0-9a-fA-F]+", digits) and len(digits) == _HEX[letter]:
                code = int(digits, 16)
                if code < 0x110000 and not 0xD800 <= code < 0xE000:
                    self.position += 2 + len(digits)
                    return chr(code)
        self.position += 2
        return _ESCAPES.get(letter, "\\" + letter)


def parse_number(text: str) -> int | float | None:
    """Read a number as plans write it; None for anything else and beyond the limits."""
    if len(text) > MAX_NUMBER_CHARS or _NUMBER.fullmatch(text) is None:
        return None
    value = int(text) if text.lstrip("+-").isdecimal() else float(text)
    return value if in_range(value) else None


def in_range(value: int | float) -> bool:
    """Whether a number can be written in a plan: no infinity, NaN or huge integer."""
    return abs(value) < INT_LIMIT if isinstance(value, int) else math.isfinite(value)


def _number_or_text(text: str) -> int | float | str:
    """Read an unquoted number; as text where a number would not keep what is written.

    So ``+430664`` and ``1.50`` reach a text argument unchanged, and a number
    argument reads them all the same.
    """
    value = parse_number(text)
    return value if value is not None and repr(value) == text else text


def quote(text: str) -> str:
    """Write a text as a plan literal; reading it gives the same text."""
    return literal(text)


def write_scalar(value: Scalar) -> str:
    """Write one value as it stands in plans."""
    return literal(str(value) if isinstance(value, Ref | Template) else value)


def write_argument(argument: Argument) -> str:
    """Write one argument as it stands in plans."""
    if isinstance(argument, tuple):
        return "[" + ", ".join(write_scalar(item) for item in argument) + "]"
    return write_scalar(argument)


def write(plan: Plan, *, thoughts: bool = False) -> str:
    """Write a plan's canonical text, ending with ``join()``.

    Args:
        plan: The plan.
        thoughts: Whether to write the steps' thoughts, each on one line.
    """
    return "\n".join(_lines(plan, thoughts))


def _lines(plan: Plan, thoughts: bool) -> Iterable[str]:
    number = 0
    if plan.ask is not None:
        number = 1
        yield f"1. ask({quote(plan.ask)})"
    elif plan.more_tools:
        number = 1
        yield f"1. more_tools([{', '.join(quote(name) for name in plan.more_tools)}])"
    for step in plan.steps:
        number = step.id
        if thoughts and step.thought:
            yield f"Thought: {' '.join(step.thought.split())}"  # one line, whatever it holds
        yield f"{step.id}. {step.tool}({', '.join(write_argument(a) for a in step.args)})"
    yield f"{number + 1}. join()"
