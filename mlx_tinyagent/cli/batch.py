"""``plan`` and ``retrieve`` over JSON Lines: nothing is executed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlx_tinyagent.cli.common import (
    adapter_option,
    check_query,
    load_model,
    load_tool_set,
    make_planner,
    make_retriever,
    model_option,
    progress_bar,
    tools_option,
)
from mlx_tinyagent.errors import RecordError, TinyAgentError

if TYPE_CHECKING:
    from mlx_tinyagent.agent.planner import Planned, Planner
    from mlx_tinyagent.datasets.jsonl import Line
    from mlx_tinyagent.prompt.render import Request

input_option = click.option(
    "--input", "source", required=True, type=click.Path(path_type=Path), help="JSON Lines to read."
)
output_option = click.option(
    "--output", "target", required=True, type=click.Path(path_type=Path), help="File to write."
)


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
@click.option("--resume", is_flag=True, help="Keep the rows an interrupted run has written.")
def plan(
    source: Path,
    target: Path,
    model: str,
    adapter: str | None,
    tools_name: str,
    retrieval: str,
    resume: bool,
) -> None:
    """Plan every row of a file; nothing is executed."""
    rows = _read_rows(source)
    tools = load_tool_set(tools_name)
    if retrieval == "gold":
        _check_gold(source, rows, tools.names)
    planner = make_planner(load_model(model, adapter), tools, retrieval)
    gold = retrieval == "gold"
    _write_rows(target, rows, lambda row: plan_row(planner, row, gold=gold), resume, "Planning")


@click.command()
@input_option
@output_option
@tools_option
def retrieve(source: Path, target: Path, tools_name: str) -> None:
    """Choose tools for every row of a file."""
    rows = _read_rows(source)
    tools = load_tool_set(tools_name)
    retriever = make_retriever("on")

    def one(row: Row) -> dict[str, Any]:
        found = retriever.select(row.query, tools)
        scores = {name: round(value, 6) for name, value in found.scores.items()}
        return {
            "id": row.id,
            "tools": list(found.tools.names),
            "scores": scores,
            "abstain": found.abstain,
        }

    _write_rows(target, rows, one, False, "Retrieving")


def plan_row(planner: Planner, row: Row, *, gold: bool) -> dict[str, Any]:
    """Plan one row; an error of the row stands in its ``error``."""
    from mlx_tinyagent.prompt.render import Request, Turn

    history = tuple(Turn(query=t["query"], plan=t.get("plan", "")) for t in row.history)
    request = Request(query=row.query, now=row.now, history=history)
    try:
        check_query(row.query)
        planned = planner.plan(request, offered=row.tools if gold else None)
    except TinyAgentError as error:
        return _failed(row, str(error))
    return _planned(row, request, planned, planner)


def _planned(row: Row, request: Request, planned: Planned, planner: Planner) -> dict[str, Any]:
    from mlx_tinyagent.agent.joiner import NO_TOOL
    from mlx_tinyagent.plan.graph import as_calls

    calls = as_calls(planned.plan)
    if request.now is not None:
        from mlx_tinyagent.act.resolve import resolved_dates

        for call, step in zip(calls, planned.plan.steps, strict=True):
            dates = resolved_dates(step, planner.tools[step.tool], request.now)
            if dates:
                call["resolved"] = dates
    seconds = planned.trace.rounded()
    parts = {name: seconds.get(name, 0.0) for name in ("retrieve", "prefill", "decode")}
    nothing = not calls and planned.plan.ask is None
    return {
        "id": row.id,
        "calls": calls,
        "ask": planned.plan.ask,
        "reply": NO_TOOL if nothing else None,
        "text": planned.text,
        "tools": list(planned.retrieved.tools.names),
        "counts": dataclasses.asdict(planned.counts),
        "seconds": {**parts, "total": round(sum(parts.values()), 4)},
        "error": None,
    }


def _failed(row: Row, reason: str) -> dict[str, Any]:
    counts = ("prompt_tokens", "prompt_tokens_computed", "plan_tokens", "forward_passes")
    return {
        "id": row.id,
        "calls": [],
        "ask": None,
        "reply": None,
        "text": "",
        "tools": [],
        "counts": dict.fromkeys(counts, 0),
        "seconds": dict.fromkeys(("retrieve", "prefill", "decode", "total"), 0.0),
        "error": reason,
    }


def _read_rows(source: Path) -> list[Row]:
    """Read and check all rows before anything is loaded or written.

    Raises:
        RecordError: A row cannot be used; nothing has been written.
    """
    from mlx_tinyagent.datasets.jsonl import read_lines

    return list(read_lines(source, _parse_row))


def _parse_row(line: Line) -> Row:
    from mlx_tinyagent.datasets.jsonl import column_of

    value = line.value

    def fail(key: str, reason: str) -> RecordError:
        return RecordError(line.path, line.number, column_of(line.text, key), reason)

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


def _check_gold(source: Path, rows: list[Row], known: tuple[str, ...]) -> None:
    """Refuse rows without usable tool names before the model is loaded."""
    for number, row in enumerate(rows, start=1):
        missing = [name for name in row.tools or () if name not in known]
        if row.tools is None or missing:
            reason = f"unknown tools {missing}" if missing else "no tools, which gold needs"
            raise RecordError(source, number, 1, f"{reason}; known: {', '.join(known)}")


def _write_rows(
    target: Path,
    rows: list[Row],
    one: Callable[[Row], dict[str, Any]],
    resume: bool,
    title: str,
) -> None:
    """Write one result per row, in order; the file appears when all are there.

    Rows go to a file beside the target, so that an interrupted run can be
    resumed and the target is never half-written.
    """
    from mlx_tinyagent.files import readable_errors

    part = target.with_name(target.name + ".part")
    with readable_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        done = list(_finished(part, rows)) if resume else []
        with part.open("w", encoding="utf-8") as file, progress_bar(title) as report:
            for number, row in enumerate(rows):
                text = done[number] if number < len(done) else _dump(one(row))
                file.write(text + "\n")
                file.flush()
                report(number + 1, len(rows))
        part.replace(target)


def _finished(part: Path, rows: list[Row]) -> Iterator[str]:
    """Yield the complete rows of an interrupted run, as far as they fit the input."""
    if not part.exists():
        return
    for row, text in zip(rows, part.read_text(encoding="utf-8").split("\n"), strict=False):
        try:
            if json.loads(text)["id"] != row.id:
                return
        except (ValueError, KeyError, TypeError):
            return
        yield text


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
