"""The example record of every data set: one JSON object per line.

Reading is strict: each defect is reported with file, line and column before
anything is used. Writing leaves the old file or the new one, never half.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from mlx_tinyagent.datasets.jsonl import Line, Skipped, column_of, read_lines, write_lines
from mlx_tinyagent.errors import PlanError, RecordError
from mlx_tinyagent.plan.graph import bind
from mlx_tinyagent.plan.schema import Plan, parse_ref, parse_template
from mlx_tinyagent.plan.text import RawStep
from mlx_tinyagent.prompt.render import Turn
from mlx_tinyagent.tools.base import ToolSet

ExampleKind = Literal["tool", "ask", "none_near", "none_far"]
KINDS: tuple[ExampleKind, ...] = get_args(ExampleKind)
FIELDS = (
    "id",
    "query",
    "now",
    "history",
    "tools",
    "plan",
    "ask",
    "source",
    "licence",
    "kind",
    "marks",
)
MAX_QUERY_CHARS = 8_192
MAX_STEPS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One step of a gold plan, as plain data.

    Attributes:
        id: Number in the plan, from 1.
        tool: Tool name.
        args: Positional arguments; references are texts such as ``"$1"``.
    """

    id: int
    tool: str
    args: tuple[Any, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return ``{"id", "tool", "args"}``."""
        return {"id": self.id, "tool": self.tool, "args": list(self.args)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One request with the plan that is right for it.

    Attributes:
        id: Unique in its file.
        query: The request, in the user's words.
        now: Local time the request is made, ISO 8601 without zone; None if unknown.
        history: Earlier requests with the plans they got, oldest first.
        tools: Names of the tools on offer.
        plan: Calls in order; empty unless ``kind`` is ``tool``.
        ask: The question that is right when ``kind`` is ``ask``; None otherwise.
        source: Where the example comes from.
        licence: SPDX name of its licence.
        kind: ``tool``; ``ask`` (something needed is missing); ``none_near``
            (sounds like the tools, is not); ``none_far`` (has nothing to do with them).
        marks: What a reader must know, such as ``date-unknown``; usually empty.
    """

    id: str
    query: str
    tools: tuple[str, ...]
    plan: tuple[Call, ...] = ()
    now: str | None = None
    history: tuple[Turn, ...] = ()
    ask: str | None = None
    source: str
    licence: str
    kind: ExampleKind = "tool"
    marks: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the record as it stands in a file; empty ``ask`` and ``marks`` are left out."""
        record: dict[str, Any] = {
            "id": self.id,
            "query": self.query,
            "now": self.now,
            "history": [{"query": turn.query, "plan": turn.plan} for turn in self.history],
            "tools": list(self.tools),
            "plan": [call.as_dict() for call in self.plan],
            "source": self.source,
            "licence": self.licence,
            "kind": self.kind,
        }
        if self.ask is not None:
            record["ask"] = self.ask
        if self.marks:
            record["marks"] = list(self.marks)
        return record

    def to_line(self) -> str:
        """Return the record as one line of JSON, without line end."""
        return json.dumps(self.as_dict(), ensure_ascii=False, separators=(", ", ": "))

    def bound(self, tools: ToolSet) -> Plan:
        """Check the plan against declarations and return it.

        Args:
            tools: Declarations of at least the tools on offer.

        Raises:
            PlanError: The plan breaks a rule.
            UsageError: A tool on offer is not declared.
        """
        if self.ask is not None:
            steps = [RawStep(1, "ask", (self.ask,)), RawStep(2, "join", (), line=2)]
            return bind(steps, tools)
        steps = [
            RawStep(call.id, call.tool, call.args, line=number)
            for number, call in enumerate(self.plan, start=1)
        ]
        last = len(steps) + 1
        return bind([*steps, RawStep(last, "join", (), line=last)], tools.subset(self.tools))


@dataclass(slots=True)
class ReadReport:
    """What a reading found; filled while iterating.

    Attributes:
        rows: Examples that were read.
        skipped: Broken rows that ``skip_bad`` passed over.
    """

    rows: int = 0
    skipped: list[Skipped] = field(default_factory=list)


def read_examples(
    path: Path,
    *,
    tools: ToolSet | None = None,
    skip_bad: bool = False,
    report: ReadReport | None = None,
) -> Iterator[Example]:
    """Read a file of examples, one at a time, in bounded memory.

    Args:
        path: The JSONL file.
        tools: Declarations; when given, every plan is checked against them.
        skip_bad: Pass over broken rows and count them; more than 1 % of all
            rows is still an error, raised at the end of the file.
        report: Filled with the counts.

    Yields:
        The examples in file order.

    Raises:
        InputError: The file cannot be read, is empty or is no JSONL text.
        RecordError: A row is broken; the message gives file, line and column.
    """
    seen: set[str] = set()

    def parse(line: Line) -> Example:
        example = parse_example(line, tools=tools)
        if example.id in seen:
            raise line.error(f"the id {example.id!r} stands twice", key="id")
        seen.add(example.id)
        return example

    found = report if report is not None else ReadReport()
    for example in read_lines(path, parse, skip_bad=skip_bad, skipped=found.skipped):
        found.rows += 1
        yield example


def load_examples(path: Path, *, tools: ToolSet | None = None) -> list[Example]:
    """Read a whole file of examples; see ``read_examples`` for errors."""
    return list(read_examples(path, tools=tools))


def write_examples(path: Path, examples: Iterable[Example]) -> int:
    """Write examples to a file, atomically.

    Args:
        path: Target; replaced only when everything is written.
        examples: May be a generator; nothing is kept in memory.

    Returns:
        Number of rows.

    Raises:
        StoreError: The file system refuses.
    """
    return write_lines(path, (example.to_line() for example in examples))


def parse_example(line: Line, *, tools: ToolSet | None = None) -> Example:
    """Turn one line of a file into an example.

    Args:
        line: The line with its parsed JSON object.
        tools: Declarations; when given, the plan is checked against them.

    Raises:
        RecordError: The row breaks the schema or a plan rule.
    """
    row = _Row(line)
    row.only(FIELDS)
    kind = row.choice("kind", KINDS)
    example = Example(
        id=row.text("id", limit=200),
        query=row.text("query", limit=MAX_QUERY_CHARS),
        now=row.moment("now"),
        history=row.history(),
        tools=row.names("tools"),
        plan=row.calls(),
        ask=row.question(kind),
        source=row.text("source", limit=200),
        licence=row.text("licence", limit=200),
        kind=kind,
        marks=row.names("marks") if "marks" in line.value else (),
    )
    _check_kind(example, line)
    _check_plan(example, line, tools)
    return example


class _Row:
    """Typed access to one parsed object; every refusal says where and what."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.value: Mapping[str, Any] = line.value

    def only(self, fields: Sequence[str]) -> None:
        for key in self.value:
            if key not in fields:
                raise self.line.error(
                    f"unknown field {key!r}; a record has {', '.join(fields)}", key=key
                )

    def get(self, key: str) -> Any:
        if key not in self.value:
            raise self.line.error(f"the field {key!r} is missing")
        return self.value[key]

    def fail(self, key: str, expected: str) -> RecordError:
        return self.line.error(f"{key}: expected {expected}, got {show(self.value[key])}", key=key)

    def text(self, key: str, *, limit: int) -> str:
        value = self.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.fail(key, "a text that is not empty")
        if len(value) > limit:
            raise self.line.error(f"{key}: {len(value)} characters, {limit} at most", key=key)
        return value

    def choice(self, key: str, allowed: Sequence[ExampleKind]) -> ExampleKind:
        value = self.get(key)
        for option in allowed:
            if value == option:
                return option
        raise self.fail(key, f"one of {', '.join(allowed)}")

    def moment(self, key: str) -> str | None:
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.fail(key, "ISO 8601 text or null")
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise self.fail(key, "local ISO 8601 such as 2025-03-14T09:30:00") from None
        if moment.tzinfo is not None:
            raise self.fail(key, "local time without a zone")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        value = self.get(key)
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            raise self.fail(key, "a list of names")
        if len(set(value)) != len(value):
            raise self.fail(key, "names that differ")
        return tuple(value)

    def question(self, kind: ExampleKind) -> str | None:
        if self.value.get("ask") is None:
            if kind == "ask":
                raise self.line.error("kind is ask, but the field 'ask' (the question) is missing")
            return None
        if kind != "ask":
            raise self.line.error(f"a question is given, but kind is {kind}", key="ask")
        return self.text("ask", limit=400)

    def history(self) -> tuple[Turn, ...]:
        value = self.get("history")
        if not isinstance(value, list) or len(value) > 64:
            raise self.fail("history", "a list of at most 64 turns")
        turns = []
        for item in value:
            good = (
                isinstance(item, dict)
                and set(item) == {"query", "plan"}
                and all(isinstance(text, str) for text in item.values())
            )
            if not good:
                raise self.line.error(
                    f"history: expected {{'query': text, 'plan': text}}, got {show(item)}",
                    key="history",
                )
            turns.append(Turn(query=item["query"], plan=item["plan"]))
        return tuple(turns)

    def calls(self) -> tuple[Call, ...]:
        value = self.get("plan")
        if not isinstance(value, list) or len(value) > MAX_STEPS:
            raise self.fail("plan", f"a list of at most {MAX_STEPS} calls")
        return tuple(self.call(item, number) for number, item in enumerate(value, start=1))

    def call(self, item: Any, number: int) -> Call:
        if not isinstance(item, dict) or set(item) != {"id", "tool", "args"}:
            raise self.line.error(
                f"plan call {number}: expected {{'id', 'tool', 'args'}}, got {show(item)}",
                key="plan",
            )
        if isinstance(item["id"], bool) or item["id"] != number:
            raise self.line.error(
                f"plan call {number}: expected id {number}, got {show(item['id'])}", key="plan"
            )
        if not isinstance(item["tool"], str) or not item["tool"]:
            raise self.line.error(
                f"plan call {number}: tool is {show(item['tool'])}, not a name", key="plan"
            )
        args = item["args"]
        if not isinstance(args, list) or not all(_is_argument(arg) for arg in args):
            raise self.line.error(
                f"plan call {number}: args is a list of texts, numbers, true, false, null or "
                f"lists of these, got {show(args)}",
                key="plan",
            )
        return Call(id=number, tool=item["tool"], args=tuple(args))


def _is_argument(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= 64 and all(not isinstance(v, list) and _is_argument(v) for v in value)
    return value is None or isinstance(value, str | int | float)


def _check_kind(example: Example, line: Line) -> None:
    if example.kind == "tool" and not example.plan:
        raise line.error("kind is tool, but the plan is empty", key="plan")
    if example.kind != "tool" and example.plan:
        raise line.error(f"kind is {example.kind}, but the plan has calls", key="plan")


def _check_plan(example: Example, line: Line, tools: ToolSet | None) -> None:
    """Check names and references, and everything else where declarations are known."""
    for name in example.tools:
        if tools is not None and name not in tools:
            raise line.error(
                f"unknown tool {name!r}; {tools.name} has {', '.join(tools.names)}", key="tools"
            )
    for call in example.plan:
        if call.tool not in example.tools:
            raise line.error(
                f"plan call {call.id}: tool {call.tool!r} is not on offer "
                f"({', '.join(example.tools) or 'none is'})",
                key="plan",
            )
        for number in references(call.args):
            if not 1 <= number < call.id:
                raise line.error(
                    f"plan call {call.id} reads ${number}, which is no earlier call", key="plan"
                )
    if tools is None:
        return
    try:
        example.bound(tools)
    except PlanError as error:
        raise line.error(f"plan: {error}", key="plan") from error


def references(args: Iterable[Any]) -> list[int]:
    """Return the step numbers that arguments read: ``$k``, ``${k}`` and ``${k}`` in texts."""
    numbers: list[int] = []
    for arg in args:
        for item in arg if isinstance(arg, list | tuple) else (arg,):
            if not isinstance(item, str):
                continue
            ref = parse_ref(item)
            if ref is not None:
                numbers.append(ref.step)
                continue
            template = parse_template(item)
            if not isinstance(template, str):
                numbers.extend(part.step for part in template.parts if not isinstance(part, str))
    return numbers


def show(value: Any) -> str:
    """Show a value in an error message, shortened."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


__all__ = [
    "KINDS",
    "Call",
    "Example",
    "ExampleKind",
    "ReadReport",
    "Turn",
    "column_of",
    "load_examples",
    "parse_example",
    "read_examples",
    "references",
    "write_examples",
]
