"""Seal-Tools rows: ``{id, query, calling: [{api, parameters: {…}, responses: ["API_call_0"]}]}``.

Unseen tools with parallel and nested calls; a value ``API_call_k`` reads an
earlier response. Tools are declared from the calls. Source: fairyshine/Seal-Tools.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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

SOURCE = "seal-tools"
LICENCE = "Apache-2.0"

_RESPONSE = re.compile(r"API_call_(\d+)")


def read(path: Path, options: Options) -> Imported:
    """Open a file of Seal-Tools rows; see ``importers.import_file``."""
    made: list[NamedCall] = []
    queries: list[str] = []
    for line in rows(path, {"id": str, "query": str, "calling": list}):
        for call in _calls(line):
            made.append(call)
            queries.append(line.value["query"])
    tools = declare("seal-tools", made, query_of=queries.__getitem__)
    report = Report()
    found = _examples(path, tools, options.source or SOURCE, options.licence or LICENCE, report)
    return Imported(examples=found, tools=tools, report=report)


def _examples(
    path: Path, tools: ToolSet, source: str, licence: str, report: Report
) -> Iterator[Example]:
    for line in rows(path, {"id": str, "query": str, "calling": list}):
        made = _calls(line)
        calls = tuple(
            Call(id=number, tool=call.tool, args=positional(call, tools[call.tool]))
            for number, call in enumerate(made, start=1)
        )
        example = Example(
            id=f"{source}-{line.value['id']}",
            query=line.value["query"],
            tools=tools.subset({call.tool for call in calls}).names,
            plan=calls,
            source=source,
            licence=licence,
            kind="tool" if calls else "none_near",
        )
        try:
            example.bound(tools)
        except PlanError as error:
            report.skip(f"plan: {error.rule}")
            continue
        yield example


def _calls(line: Line) -> list[NamedCall]:
    """Return a row's calls; responses that later calls read become references."""
    numbers: dict[str, int] = {}
    calls: list[NamedCall] = []
    for number, item in enumerate(line.value["calling"], start=1):
        good = (
            isinstance(item, dict)
            and isinstance(item.get("api"), str)
            and item["api"] != ""
            and isinstance(item.get("parameters"), dict)
        )
        if not good:
            raise line.error(f"call {number}: expected {{'api', 'parameters'}}", key="calling")
        args = {_argument(key): _value(value, numbers) for key, value in item["parameters"].items()}
        calls.append(NamedCall(_name(item["api"]), args))
        for response in item.get("responses", ()):
            numbers.setdefault(str(response), number)
    return calls


def _name(api: str) -> str:
    """Write an API's name as a tool's: letters, digits and underscores."""
    plain = re.sub(r"[^a-zA-Z0-9_]", "_", api)[:64]
    return plain if not plain[0].isdigit() else f"_{plain[:63]}"


def _argument(name: str) -> str:
    return re.sub(r"\W", "_", name) or "value"


def _value(value: Any, numbers: dict[str, int]) -> Any:
    if isinstance(value, list):
        return [_value(item, numbers) for item in value]
    if isinstance(value, str) and _RESPONSE.fullmatch(value) and value in numbers:
        return f"${numbers[value]}"
    return value
