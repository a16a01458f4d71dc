"""``plan`` and the rows of ``retrieve`` over JSON Lines: nothing is executed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlx_tinyagent.cli.common import (
    adapter_option,
    check_query,
    classifier_option,
    load_model,
    load_tool_set,
    make_planner,
    model_option,
    tools_option,
)
from mlx_tinyagent.cli.rows import write_rows
from mlx_tinyagent.errors import TinyAgentError

if TYPE_CHECKING:
    from mlx_tinyagent.agent.planner import Planned, Planner
    from mlx_tinyagent.datasets.jsonl import Line
    from mlx_tinyagent.prompt.render import Request
    from mlx_tinyagent.retrieval.base import Retriever
    from mlx_tinyagent.tools.base import ToolSet

input_option = click.option(
    "--input", "source", required=True, type=click.Path(path_type=Path), help="JSON Lines to read."
)
output_option = click.option(
    "--output", "target", required=True, type=click.Path(path_type=Path), help="File to write."
)
resume_option = click.option(
    "--resume", is_flag=True, help="Keep the rows that an interrupted run has written."
)
MAX_ROWS = 64  # of one pass; more only wait for each other
rows_option = click.option(
    "--rows",
    default=1,
    show_default=True,
    type=click.IntRange(1, MAX_ROWS),
    help="Plans that share a forward pass: more a second, each later.",
)
SECONDS = ("retrieve", "prefill", "decode", "total")
COUNTS = ("prompt_tokens", "prompt_tokens_computed", "plan_tokens", "forward_passes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One input row.

    Attributes:
        id: As given; any JSON value.
        query: The request.
        now: The moment it refers to.
        tools: Names of the tools to offer, for ``--retrieval gold``.
        history: Earlier turns: objects with ``query`` and ``plan``.
    """

    id: Any
    query: str
    now: datetime | None
    tools: tuple[str, ...] | None
    history: tuple[dict[str, str], ...]


@click.command()
@input_option
@output_option
@model_option
@adapter_option
@tools_option
@click.option(
    "--retrieval",
    type=click.Choice(["on", "off", "gold"]),
    default="on",
    show_default=True,
    help="Offer retrieved tools, all, or the row's own.",
)
@classifier_option
@rows_option
@resume_option
def plan(
    source: Path,
    target: Path,
    model: str,
    adapter: str | None,
    tools_name: str,
    retrieval: str,
    classifier: Path | None,
    rows: int,
    resume: bool,
) -> None:
    """Plan every row of a file; nothing is executed.

    Each input line is an object with "id" and "query", and perhaps "now" (local
    ISO 8601), "tools" (names to offer with --retrieval gold) and "history"
    (objects with "query" and "plan"). Each output line is the plan of one row,
    in the same order; a row that cannot be planned says so in its "error".

    Rows are kept in a .part file beside the output until all are there.

    With --rows above 1 the seconds of a pass are divided among the plans that
    share it.
    """
    gold = retrieval == "gold"
    tools = load_tool_set(tools_name)
    requests = _read_rows(source, tools.names if gold else None)
    planner = make_planner(load_model(model, adapter), tools, retrieval, classifier)
    one = row_planner(planner, requests, gold=gold, rows=rows)
    write_rows(source, target, requests, one, resume=resume, title="Planning")


def retrieve_rows(source: Path, target: Path, tools: ToolSet, retriever: Retriever) -> None:
    """Choose tools for every row of a file; see ``cli.retrieve``."""
    rows = _read_rows(source, None)
    write_rows(
        source, target, rows, lambda row: _retrieved(retriever, row, tools), title="Retrieving"
    )


def row_planner(
    planner: Planner, requests: Sequence[Row], *, gold: bool, rows: int
) -> Callable[[Row], dict[str, Any]]:
    """Return what plans each of these rows, asked for in order from any one on.

    Args:
        planner: The planner.
        requests: All rows.
        gold: Whether to offer each row's own tools.
        rows: How many plans share a pass.
    """
    if rows > 1:
        return _Shared(planner, requests, gold=gold, rows=rows)
    return lambda row: plan_row(planner, row, gold=gold)


def plan_row(planner: Planner, row: Row, *, gold: bool) -> dict[str, Any]:
    """Plan one row; an error of the row stands in its ``error``."""
    request = _request(row)
    try:
        check_query(row.query)
        planned = planner.plan(request, offered=row.tools if gold else None)
    except TinyAgentError as error:
        return _failed(row, str(error))
    return _planned(row, request, planned, planner)


class _Shared:
    """Plans rows some at a time and hands them out one by one, in order.

    Args:
        planner: The planner.
        requests: All rows.
        gold: Whether to offer each row's own tools.
        rows: How many plans share a pass.
    """

    def __init__(self, planner: Planner, requests: Sequence[Row], *, gold: bool, rows: int) -> None:
        self._planner = planner
        self._requests = list(requests)
        self._gold = gold
        self._rows = rows
        self._ready: dict[int, dict[str, Any]] = {}
        self._coming: Iterator[tuple[int, dict[str, Any]]] | None = None
        self._next = 0

    def __call__(self, row: Row) -> dict[str, Any]:
        """Return the result of a row; rows are asked for in order, from any one on."""
        if self._coming is None:
            self._next = next(n for n, other in enumerate(self._requests) if other is row)
            self._coming = self._plan(self._next)
        while self._next not in self._ready:
            done = next(self._coming, None)
            if done is None:  # the last rows were refused, and stand there already
                break
            self._ready[done[0]] = done[1]
        self._next += 1
        return self._ready.pop(self._next - 1)

    def _plan(self, first: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number and result of every row from ``first`` on, as they are done."""
        planned: list[int] = []

        def requests() -> Iterator[tuple[Request, tuple[str, ...] | None]]:
            for number in range(first, len(self._requests)):
                row = self._requests[number]
                try:
                    check_query(row.query)
                except TinyAgentError as error:
                    self._ready[number] = _failed(row, str(error))
                    continue
                planned.append(number)
                yield _request(row), row.tools if self._gold else None

        for place, done in self._planner.plan_many(requests(), rows=self._rows):
            row = self._requests[planned[place]]
            if isinstance(done, TinyAgentError):
                yield planned[place], _failed(row, str(done))
            else:
                yield planned[place], _planned(row, _request(row), done, self._planner)


def _retrieved(retriever: Retriever, row: Row, tools: ToolSet) -> dict[str, Any]:
    from mlx_tinyagent.agent.planner import retrieval_query

    found = retriever.select(retrieval_query(_request(row)), tools)
    return {
        "id": row.id,
        "tools": list(found.tools.names),
        "scores": {name: round(value, 6) for name, value in found.scores.items()},
        "abstain": found.abstain,
    }


def _request(row: Row) -> Request:
    from mlx_tinyagent.prompt.render import Request, Turn

    history = tuple(Turn(query=turn["query"], plan=turn.get("plan", "")) for turn in row.history)
    return Request(query=row.query, now=row.now, history=history)


def _planned(row: Row, request: Request, planned: Planned, planner: Planner) -> dict[str, Any]:
    from mlx_tinyagent.act.resolve import resolved_dates
    from mlx_tinyagent.agent.joiner import NO_TOOL
    from mlx_tinyagent.agent.planner import counts_json
    from mlx_tinyagent.plan.graph import as_calls

    calls = as_calls(planned.plan)
    for call, step in zip(calls, planned.plan.steps, strict=True):
        if request.now is not None:
            dates = resolved_dates(step, planner.tools[step.tool], request.now)
            call.update({"resolved": dates} if dates else {})
    seconds = planned.trace.rounded()
    parts = {name: seconds.get(name, 0.0) for name in SECONDS[:-1]}
    nothing = not calls and planned.plan.ask is None
    return {
        "id": row.id,
        "calls": calls,
        "ask": planned.plan.ask,
        "reply": NO_TOOL if nothing else None,
        "text": planned.text,
        "tools": list(planned.retrieved.tools.names),
        "counts": counts_json(planned.counts),
        "seconds": {**parts, "total": round(sum(parts.values()), 4)},
        "error": None,
    }


def _failed(row: Row, reason: str) -> dict[str, Any]:
    return {
        "id": row.id,
        "calls": [],
        "ask": None,
        "reply": None,
        "text": "",
        "tools": [],
        "counts": dict.fromkeys(COUNTS, 0),
        "seconds": dict.fromkeys(SECONDS, 0.0),
        "error": reason,
    }


def _read_rows(source: Path, gold: tuple[str, ...] | None) -> list[Row]:
    """Read and check all rows before anything is loaded or written.

    Args:
        source: The file.
        gold: Names that the rows' tools may have; None if they do not matter.

    Raises:
        RecordError: A row cannot be used; nothing has been written.
    """
    from mlx_tinyagent.datasets.jsonl import read_lines

    return list(read_lines(source, functools.partial(_parse_row, known=gold)))


def _parse_row(line: Line, known: tuple[str, ...] | None) -> Row:
    """Read one row; ``known`` are the names that gold tools may have, None without gold."""
    value = line.value

    def fail(key: str, reason: str) -> TinyAgentError:
        return line.error(reason, key=key)

    query = value.get("query")
    if not isinstance(query, str):
        raise fail("query", f"query is {query!r}, expected text")
    now = value.get("now")
    try:
        moment = datetime.fromisoformat(now).replace(tzinfo=None) if now is not None else None
    except (TypeError, ValueError):
        raise fail("now", f"now is {now!r}, expected ISO 8601 local time or null") from None
    tools = value.get("tools")
    if tools is not None and not _is_names(tools):
        raise fail("tools", "tools is not a list of names")
    if known is not None and (tools is None or not set(tools) <= set(known)):
        missing = sorted(set(tools or ()) - set(known))
        reason = f"unknown tools: {', '.join(missing)}" if missing else "no tools, which gold needs"
        raise fail("tools", f"{reason}; known: {', '.join(known)}")
    history = value.get("history") or []
    if not isinstance(history, list) or not all(_is_turn(turn) for turn in history):
        raise fail("history", "history is not a list of objects with a text 'query'")
    return Row(
        id=value.get("id", line.number),
        query=query,
        now=moment,
        tools=None if tools is None else tuple(tools),
        history=tuple(history),
    )


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_turn(turn: object) -> bool:
    return (
        isinstance(turn, dict)
        and isinstance(turn.get("query"), str)
        and isinstance(turn.get("plan", ""), str)
    )
