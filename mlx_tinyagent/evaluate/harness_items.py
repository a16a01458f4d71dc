"""The rows a planner or retriever is evaluated on, read from any of three formats.

``record`` is the example record, perhaps with the ``effect`` and ``outcome`` of
the hand-written set; ``tinyagent`` are TinyAgent items; ``silver`` are commands
with acceptable tool sets and no plan. A row that cannot be used is an error with
file, line and column, or is counted where that was asked for; none is lost.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from mlx_tinyagent.datasets.canonical import Report
from mlx_tinyagent.datasets.importers.tinyagent_items import build
from mlx_tinyagent.datasets.jsonl import MAX_BAD_SHARE, Line, Skipped, read_lines
from mlx_tinyagent.datasets.record import Call, ExampleKind, parse_example
from mlx_tinyagent.errors import InputError, UsageError
from mlx_tinyagent.prompt.render import Turn

Format = Literal["record", "tinyagent", "silver"]
FORMATS: tuple[Format, ...] = ("record", "tinyagent", "silver")
EXTRA = ("effect", "outcome")  # what the hand-written set has beside the record
OUTCOMES = ("ambiguous", "not_found")

GoldCall = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One request with what is right for it.

    Attributes:
        id: Unique in its file.
        raw_id: The id as the file has it; predictions may use either.
        query: The request.
        now: Local time it is made; None if unknown, and then dates are not graded.
        history: Earlier turns, oldest first.
        tools: Names on offer; None where the row does not say.
        kind: tool, ask, none_near or none_far.
        gold: The right plan's calls.
        published: The right plan as published, for TinyAgent's own measure; None
            if it is ``gold``.
        any_of: Acceptable sets of tools where there is no plan, else None.
        ask: The right question, where one is right.
        source: Where the row comes from.
        runs: Whether the plan is meant for the demonstration world, so that it
            can be run there.
        outcome: What a look-up of the right plan ends in: ``ambiguous`` or ``not_found``.
    """

    id: str
    raw_id: str
    query: str
    now: datetime | None = None
    history: tuple[Turn, ...] = ()
    tools: tuple[str, ...] | None = None
    kind: ExampleKind = "tool"
    gold: tuple[GoldCall, ...] = ()
    published: tuple[GoldCall, ...] | None = None
    any_of: tuple[tuple[str, ...], ...] | None = None
    ask: str | None = None
    source: str = ""
    runs: bool = False
    outcome: str | None = None

    def acceptable(self) -> tuple[tuple[str, ...], ...] | None:
        """Return the acceptable sets of tools; None where a question is right."""
        if self.any_of is not None:
            return self.any_of
        if self.kind == "ask":
            return None
        return (tuple(dict.fromkeys(call["tool"] for call in self.gold)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A file of rows.

    Attributes:
        path: The file.
        format: What its rows look like.
        sha256: Of its bytes.
        items: The rows, in file order, as many as were asked for.
        skipped: Broken rows that were passed over.
    """

    path: Path
    format: Format
    sha256: str
    items: tuple[Item, ...]
    skipped: tuple[Skipped, ...] = field(default=())


def read_items(
    path: Path,
    *,
    form: str | None = None,
    limit: int | None = None,
    skip_bad: bool = False,
) -> Items:
    """Read a file of rows to evaluate on.

    Args:
        path: The JSONL file.
        form: One of ``FORMATS``; None finds out from the first row.
        limit: Most rows read; the rest of the file is not looked at.
        skip_bad: Pass over broken rows and count them; more than 1 % is an error.

    Raises:
        InputError: The file cannot be read, is empty, or too much of it is broken.
        RecordError: A row is broken; the message gives file, line and column.
        UsageError: There is no such format.
    """
    known = sniff(path) if form is None else _format(form)
    skipped: list[Skipped] = []
    seen: set[str] = set()

    def parse(line: Line) -> Item:
        item = _PARSERS[known](line)
        if item.id in seen:
            raise line.error(f"the id {item.id!r} stands twice", key="id")
        seen.add(item.id)
        return item

    found = read_lines(path, parse, skip_bad=skip_bad, skipped=skipped)
    items = tuple(itertools.islice(found, limit))
    rows = len(items) + len(skipped)
    if len(skipped) > MAX_BAD_SHARE * rows:  # a limit ends the reading before its own check
        raise InputError(
            f"{path}: {len(skipped)} of the first {rows} rows are broken, more than "
            f"{MAX_BAD_SHARE:.0%}; the first: {skipped[0].error}"
        )
    if not items:
        raise InputError(f"{path}: no row was read; the limit is at least 1")
    return Items(
        path=path,
        format=known,
        sha256=file_sha256(path),
        items=items,
        skipped=tuple(skipped),
    )


def sniff(path: Path) -> Format:
    """Tell a file's format from the fields of its first row.

    Raises:
        InputError: The file cannot be read, or its rows are of no known format.
    """
    keys = _first_keys(path)
    if {"question", "calls"} <= keys:
        return "tinyagent"
    if {"text", "any_of"} <= keys:
        return "silver"
    if "query" in keys:
        return "record"
    found = ", ".join(sorted(keys)) or "nothing"
    raise InputError(
        f"{path}: the first row has {found}; expected an example record (query, plan), a TinyAgent "
        "item (question, calls) or a silver row (text, any_of)"
    )


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def _first_keys(path: Path) -> set[str]:
    """Return the fields of the first row that is a JSON object."""
    objects: Iterator[Line] = read_lines(path, lambda line: line, skip_bad=True)
    return set(next(objects).value)


def _format(name: str) -> Format:
    for known in FORMATS:
        if name == known:
            return known
    raise UsageError(f"no format is called {name!r}; there are {', '.join(FORMATS)}")


def _record(line: Line) -> Item:
    """Read an example record; ``effect`` and ``outcome`` may stand beside its fields."""
    value = {key: found for key, found in line.value.items() if key not in EXTRA}
    example = parse_example(replace(line, value=value))
    outcome = line.value.get("outcome")
    if outcome is not None and outcome not in OUTCOMES:
        raise line.error(
            f"outcome is {outcome!r:.80}; expected {' or '.join(OUTCOMES)}", key="outcome"
        )
    return Item(
        id=example.id,
        raw_id=example.id,
        query=example.query,
        now=datetime.fromisoformat(example.now) if example.now else None,
        history=example.history,
        tools=example.tools,
        kind=example.kind,
        gold=tuple(call.as_dict() for call in example.plan),
        ask=example.ask,
        source=example.source,
        runs="effect" in line.value and bool(example.now),
        outcome=outcome,
    )


def _tinyagent(line: Line) -> Item:
    """Read a TinyAgent item; its plan is put into our form, and kept as published besides."""
    _need(line, {"idx": int, "question": str, "tools": list, "calls": list})
    row = line.value
    if not all(isinstance(name, str) for name in row["tools"]):
        raise line.error("tools: expected a list of names", key="tools")
    calls = [_published_call(line, call, number) for number, call in enumerate(row["calls"], 1)]
    report = Report()
    example = build(
        identity=f"tinyagent-{row['idx']}",
        query=row["question"],
        calls=calls,
        source="tinyagent",
        licence="MIT",
        report=report,
        offered=row["tools"],
        keep_invalid=True,
    )
    if example is None:
        raise line.error(f"the item cannot be used: {', '.join(report.skipped)}", key="calls")
    return Item(
        id=example.id,
        raw_id=str(row["idx"]),
        query=example.query,
        tools=example.tools,
        kind=example.kind,
        gold=tuple(call.as_dict() for call in example.plan),
        published=tuple(
            {"id": call["id"], "tool": call["tool"], "args": call["args"]} for call in row["calls"]
        ),
        source=example.source,
    )


def _published_call(line: Line, value: Any, number: int) -> Call:
    good = (
        isinstance(value, dict)
        and isinstance(value.get("id"), int)
        and isinstance(value.get("tool"), str)
        and isinstance(value.get("args"), list)
    )
    if not good:
        raise line.error(
            f"call {number}: expected {{'id', 'tool', 'args'}}, got {value!r:.80}", key="calls"
        )
    return Call(id=number, tool=value["tool"], args=tuple(value["args"]))


def _silver(line: Line) -> Item:
    """Read a command with its acceptable sets of tools."""
    _need(line, {"id": (int, str), "text": str, "kind": str, "any_of": list})
    row = line.value
    kinds: dict[str, ExampleKind] = {
        "tool": "tool",
        "none_near": "none_near",
        "none_far": "none_far",
    }
    if row["kind"] not in kinds:
        raise line.error(f"kind is {row['kind']!r:.80}; expected {', '.join(kinds)}", key="kind")
    groups = row["any_of"]
    if not groups or not all(_is_names(group) for group in groups):
        raise line.error("any_of: expected a list of lists of tools; [[]] is none", key="any_of")
    if (row["kind"] == "tool") is not any(groups):
        raise line.error(f"any_of is {groups!r:.80}, but kind is {row['kind']}", key="any_of")
    source = str(row.get("source") or "silver")
    return Item(
        id=f"{source}-{row['id']}",
        raw_id=str(row["id"]),
        query=row["text"],
        kind=kinds[row["kind"]],
        any_of=tuple(tuple(group) for group in groups),
        source=source,
    )


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value)


def _need(line: Line, needed: Mapping[str, type | tuple[type, ...]]) -> None:
    for key, kind in needed.items():
        if key not in line.value:
            raise line.error(f"the field {key!r} is missing")
        if not isinstance(line.value[key], kind) or isinstance(line.value[key], bool):
            names = kind if isinstance(kind, tuple) else (kind,)
            expected = " or ".join(name.__name__ for name in names)
            found = type(line.value[key]).__name__
            raise line.error(f"{key}: expected {expected}, got {found}", key=key)


_PARSERS: Mapping[Format, Callable[[Line], Item]] = {
    "record": _record,
    "tinyagent": _tinyagent,
    "silver": _silver,
}


def read_predictions(
    path: Path, items: Sequence[Item], *, partial: bool = False, skip_bad: bool = False
) -> dict[str, Mapping[str, Any] | None]:
    """Read the output of ``plan``, or the ``items.jsonl`` of an earlier run, by item.

    Args:
        path: The JSONL file.
        items: The rows that were planned.
        partial: Whether the file may hold rows of other items, as with a limit.
        skip_bad: Pass over broken rows, at most 1 %; their items then have None.

    Raises:
        InputError: Rows are missing, or belong to no item.
        RecordError: A row is broken, or an id stands twice.
    """
    known = {item.raw_id: item.id for item in items} | {item.id: item.id for item in items}
    found: dict[str, Mapping[str, Any] | None] = {}
    strangers: list[str] = []
    skipped: list[Skipped] = []

    def parse(line: Line) -> None:
        identity = _text_id(line)
        name = known.get(identity)
        if name is None:
            strangers.append(identity)
            return
        if name in found:
            raise line.error(f"the id {identity!r} stands twice", key="id")
        found[name] = _prediction(line)

    for _ in read_lines(path, parse, skip_bad=skip_bad, skipped=skipped):
        pass
    if strangers and not partial:
        raise InputError(
            f"{path}: {len(strangers)} rows belong to no row of the data; the first has id "
            f"{strangers[0]!r}"
        )
    missing = [item.id for item in items if item.id not in found]
    if len(missing) > len(skipped):
        raise InputError(
            f"{path}: {len(missing)} of {len(items)} rows have no prediction; the first is "
            f"{missing[0]!r}"
        )
    return found | dict.fromkeys(missing)


def _text_id(line: Line) -> str:
    identity = line.value.get("id")
    if isinstance(identity, bool) or not isinstance(identity, str | int):
        raise line.error(f"id is {identity!r:.80}; expected a text or a whole number", key="id")
    return str(identity)


def _prediction(line: Line) -> Mapping[str, Any]:
    """Check the types of a prediction's fields; what the calls hold is for the scorer to judge."""
    value = line.value.get("prediction", line.value)
    if not isinstance(value, dict):
        raise line.error(f"prediction: expected an object, got {value!r:.80}", key="prediction")
    expected: Mapping[str, tuple[type, ...]] = {
        "calls": (list,),
        "ask": (str,),
        "reply": (str,),
        "error": (str,),
        "text": (str,),
        "tools": (list,),
        "counts": (dict,),
        "seconds": (dict,),
    }
    for key, kinds in expected.items():
        if value.get(key) is not None and not isinstance(value[key], kinds):
            raise line.error(
                f"{key}: expected {kinds[0].__name__}, got {value[key]!r:.80}", key=key
            )
    if "calls" not in value:
        raise line.error("the field 'calls' is missing")
    if not all(isinstance(name, str) for name in value.get("tools") or ()):
        raise line.error("tools: expected a list of names", key="tools")
    for key in ("counts", "seconds"):
        if not all(_is_number(number) for number in (value.get(key) or {}).values()):
            raise line.error(f"{key}: expected numbers", key=key)
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
