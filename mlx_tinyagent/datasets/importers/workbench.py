"""WorkBench tasks: ``{query, answer: ['calendar.create_event.func(name="…", …)', …], domains}``.

Office tasks on a tool set that is not the Mac's. The file declares no tools,
so they are declared from its calls. Source: olly-styles/WorkBench.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from mlx_tinyagent.datasets.canonical import Report
from mlx_tinyagent.datasets.importers.base import (
    Imported,
    NamedCall,
    Options,
    declare,
    positional,
    rows,
)
from mlx_tinyagent.datasets.jsonl import Line
from mlx_tinyagent.datasets.record import Call, Example
from mlx_tinyagent.errors import PlanError
from mlx_tinyagent.tools.base import ToolSet

SOURCE = "workbench"
LICENCE = "MIT"
NOW = datetime(2023, 11, 30, 0, 0)  # the day that WorkBench's tasks are set on


def read(path: Path, options: Options) -> Imported:
    """Open a file of WorkBench tasks; see ``importers.import_file``."""
    made: list[NamedCall] = []
    queries: list[str] = []
    for line in rows(path, {"query": str, "answer": list}):
        for call in _calls(line):
            made.append(call)
            queries.append(line.value["query"])
    tools = declare("workbench", made, query_of=queries.__getitem__)
    report = Report()
    found = _examples(path, tools, options.source or SOURCE, options.licence or LICENCE, report)
    return Imported(examples=found, tools=tools, report=report)


def _examples(
    path: Path, tools: ToolSet, source: str, licence: str, report: Report
) -> Iterator[Example]:
    for line in rows(path, {"query": str, "answer": list}):
        calls = [
            Call(id=number, tool=call.tool, args=positional(call, tools[call.tool]))
            for number, call in enumerate(_calls(line), start=1)
        ]
        example = Example(
            id=f"{source}-{line.number}",
            query=line.value["query"],
            now=NOW.isoformat(),
            tools=tools.names,
            plan=tuple(calls),
            source=source,
            licence=licence,
            # An empty answer means that the task's condition does not hold.
            kind="tool" if calls else "none_near",
        )
        try:
            example.bound(tools)
        except PlanError as error:
            report.skip(f"plan: {error.rule}")
            continue
        yield example


def _calls(line: Line) -> list[NamedCall]:
    """Parse the calls of one task; they are Python expressions of literals."""
    calls = []
    for text in line.value["answer"]:
        try:
            node = ast.parse(str(text), mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            node = None
        if not isinstance(node, ast.Call) or node.args:
            raise line.error(
                f"answer: expected tool.func(name=value, …), got {text!r}", key="answer"
            )
        name = ast.unparse(node.func).removesuffix(".func").replace(".", "__")
        try:
            args = {keyword.arg or "": ast.literal_eval(keyword.value) for keyword in node.keywords}
        except (ValueError, MemoryError, RecursionError):
            raise line.error(f"answer: an argument of {name} is no literal", key="answer") from None
        calls.append(NamedCall(name, args))
    return calls
