"""TinyAgent items as JSONL: ``{idx, question, tools, calls: [{id, tool, args, deps}], plan}``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlx_tinyagent.datasets.canonical import Report, canonical
from mlx_tinyagent.datasets.importers.base import Imported, Options, rows
from mlx_tinyagent.datasets.jsonl import Line
from mlx_tinyagent.datasets.record import Call, Example
from mlx_tinyagent.errors import PlanError, UsageError
from mlx_tinyagent.tools.catalog import TINYAGENT16

SOURCE = "tinyagent"
PLAN_INVALID = "plan-invalid"
LICENCE = "MIT"  # SqueezeAILab/TinyAgent


def read(path: Path, options: Options) -> Imported:
    """Open a file of TinyAgent items; see ``importers.import_file``."""
    report = Report()
    found = _examples(path, options, report)
    return Imported(examples=found, tools=TINYAGENT16, report=report)


def _examples(path: Path, options: Options, report: Report) -> Iterator[Example]:
    source = options.source or SOURCE
    needed = {"idx": int, "question": str, "tools": list, "calls": list}
    for line in rows(path, needed):
        calls = [_call(line, item, number) for number, item in enumerate(line.value["calls"], 1)]
        example = build(
            identity=f"{source}-{line.value['idx']}",
            query=line.value["question"],
            calls=calls,
            source=source,
            licence=options.licence or LICENCE,
            report=report,
            offered=line.value["tools"],
            keep_invalid=options.keep_invalid,
        )
        if example is not None:
            yield example


def _call(line: Line, item: Any, number: int) -> Call:
    good = (
        isinstance(item, dict)
        and isinstance(item.get("tool"), str)
        and isinstance(item.get("args"), list)
    )
    if not good:
        raise line.error(f"call {number}: expected {{'id', 'tool', 'args'}}", key="calls")
    return Call(id=number, tool=item["tool"], args=tuple(item["args"]))


def build(
    *,
    identity: str,
    query: str,
    calls: list[Call],
    source: str,
    licence: str,
    report: Report,
    offered: list[str],
    keep_invalid: bool = False,
) -> Example | None:
    """Make an example of one TinyAgent plan; None if its plan breaks our rules.

    Args:
        identity: Its id.
        query: The request.
        calls: The calls without ``join``, numbered from 1.
        source: Where it comes from.
        licence: Its licence.
        report: Counts changes and rows left out, by the rule they break.
        offered: Names of tools that were on offer; what the plan needs is added.
        keep_invalid: Keep a plan that breaks a rule of ours, such as an address
            where a number belongs, and mark the row ``plan-invalid``.
    """
    if not query.strip():
        report.skip("empty request")
        return None
    try:
        done = canonical(calls, query, TINYAGENT16, report)
        names = {call.tool for call in done.calls} | {n for n in offered if n in TINYAGENT16}
        example = Example(
            id=identity,
            query=query,
            tools=TINYAGENT16.subset(names).names,
            plan=done.calls,
            source=source,
            licence=licence,
            kind="tool" if done.calls else "none_near",
            marks=done.marks,
        )
    except UsageError:
        report.skip("plan: unknown-tool")
        return None
    try:
        example.bound(TINYAGENT16)
    except PlanError as error:
        if keep_invalid:
            return replace(example, marks=(*example.marks, PLAN_INVALID))
        report.skip(f"plan: {error.rule}")
        return None
    return example
