"""SMCalFlow-style rows: ``{id, text, reference_time, calls: [{id, tool, args: {…}, deps}], …}``.

People's one-turn calendar requests with named arguments and a fixed reference
time. The rows are CC BY-SA: nothing that is published is trained on them.
Source: microsoft/task_oriented_dialogue_as_dataflow_synthesis.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from mlx_tinyagent.act.dates import covering_span
from mlx_tinyagent.datasets.canonical import DATE_UNKNOWN, Report, canonical
from mlx_tinyagent.datasets.importers.base import Imported, Options, rows
from mlx_tinyagent.datasets.jsonl import Line
from mlx_tinyagent.datasets.record import Call, Example
from mlx_tinyagent.errors import PlanError
from mlx_tinyagent.tools.catalog import TINYAGENT16

SOURCE = "smcalflow"
LICENCE = "CC-BY-SA-4.0"

_KIND_OF_EVENT = re.compile(
    r"\b(meeting|appointment|lunch|dinner|breakfast|call|event|party|trip|interview|session)\b",
    re.IGNORECASE,
)


def read(path: Path, options: Options) -> Imported:
    """Open a file of SMCalFlow-style rows; see ``importers.import_file``."""
    report = Report()
    found = _examples(path, options.source or SOURCE, options.licence or LICENCE, report)
    return Imported(examples=found, tools=TINYAGENT16, report=report)


def _examples(path: Path, source: str, licence: str, report: Report) -> Iterator[Example]:
    needed = {"id": str, "text": str, "reference_time": str, "calls": list}
    for line in rows(path, needed):
        now = _now(line)
        marks: set[str] = set()
        try:
            calls = [
                _call(line, item, number, now, marks)
                for number, item in enumerate(line.value["calls"], 1)
            ]
            done = canonical(calls, line.value["text"], TINYAGENT16, report, now=now)
            names = TINYAGENT16.closure({call.tool for call in done.calls}).names
            example = Example(
                id=f"{source}-{line.value['id']}",
                query=line.value["text"],
                now=now.isoformat(),
                tools=names,
                plan=done.calls,
                source=source,
                licence=licence,
                kind="tool",
                marks=tuple(sorted(marks | set(done.marks))),
            )
            example.bound(TINYAGENT16)
        except PlanError as error:
            report.skip(f"plan: {error.rule}")
            continue
        yield example


def _now(line: Line) -> datetime:
    try:
        return datetime.fromisoformat(line.value["reference_time"].split(" (")[0])
    except ValueError:
        raise line.error(
            f"reference_time: expected 'YYYY-MM-DD HH:MM:SS', got {line.value['reference_time']!r}",
            key="reference_time",
        ) from None


def _call(line: Line, item: Any, number: int, now: datetime, marks: set[str]) -> Call:
    """Turn a call with named arguments into a positional one; dates become phrases."""
    if not isinstance(item, dict) or not isinstance(item.get("args"), dict):
        raise line.error(f"call {number}: expected {{'id', 'tool', 'args': {{…}}}}", key="calls")
    tool, args = item.get("tool"), dict(item["args"])
    if tool not in TINYAGENT16:
        raise line.error(f"call {number}: unknown tool {tool!r}", key="calls")
    if tool == "create_calendar_event":
        phrase = covering_span(line.value["text"], now)
        if phrase is None:
            marks.add(DATE_UNKNOWN)
        args["start_date"], args["end_date"] = phrase or "", ""
        if not args.get("title"):
            kind = _KIND_OF_EVENT.search(line.value["text"])
            args["title"] = kind[0] if kind else ""
            marks.add("title-implied")
    declared = TINYAGENT16[str(tool)]
    values = [args.get(param.name) for param in declared.params]
    filled = [
        ([] if param.is_list else None if param.optional else "") if value is None else value
        for param, value in zip(declared.params, values, strict=True)
    ]
    return Call(id=number, tool=str(tool), args=tuple(filled))
