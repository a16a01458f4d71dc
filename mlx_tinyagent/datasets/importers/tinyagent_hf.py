"""TinyAgent's Hugging Face data set: one JSON object of hundreds of megabytes, read in pieces.

``{uuid: {"input", "output": [{"type", "raw_input", "raw_output", "parsed_output", …}]}}``.
``raw_input`` is the Python repr of a message list, not JSON; the request is
read from ``input``. Schema: huggingface.co/datasets/squeeze-ai-lab/TinyAgent-dataset.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlx_tinyagent.datasets.canonical import Report
from mlx_tinyagent.datasets.importers.base import Imported, Options
from mlx_tinyagent.datasets.importers.tinyagent_items import LICENCE, build
from mlx_tinyagent.datasets.jsonobject import Member, read_members
from mlx_tinyagent.datasets.record import Call, Example
from mlx_tinyagent.errors import PlanError, RecordError
from mlx_tinyagent.plan.text import END_OF_PLAN
from mlx_tinyagent.plan.text import read as read_plan
from mlx_tinyagent.tools.catalog import TINYAGENT16

SOURCE = "tinyagent-dataset"

_TOOL_LINE = re.compile(r"^\s*\d+\. (\w+)\(", re.MULTILINE)


def read(path: Path, options: Options) -> Imported:
    """Open ``training_data.json`` or ``testing_data.json``; see ``importers.import_file``.

    Memory stays below a few megabytes whatever the size of the file.
    """
    report = Report()
    found = _examples(path, options, report)
    return Imported(examples=found, tools=TINYAGENT16, report=report)


def _examples(path: Path, options: Options, report: Report) -> Iterator[Example]:
    source = options.source or SOURCE
    for member in read_members(path):
        datum = _plan_datum(path, member)
        if datum is None:
            report.skip("no plan")
            continue
        calls = _calls(datum, report)
        if calls is None:
            continue
        example = build(
            identity=f"{source}-{member.key}",
            query=_request(path, member),
            calls=calls,
            source=source,
            licence=options.licence or LICENCE,
            report=report,
            offered=_offered(datum),
            keep_invalid=options.keep_invalid,
        )
        if example is not None:
            yield example


def _request(path: Path, member: Member) -> str:
    query = member.value.get("input") if isinstance(member.value, dict) else None
    if not isinstance(query, str):
        raise RecordError(path, member.line, member.column, f"{member.key}: 'input' is no text")
    return query


def _plan_datum(path: Path, member: Member) -> Mapping[str, Any] | None:
    """Return the first output of type ``plan``."""
    outputs = member.value.get("output") if isinstance(member.value, dict) else None
    if not isinstance(outputs, list):
        raise RecordError(path, member.line, member.column, f"{member.key}: 'output' is no list")
    for datum in outputs:
        if isinstance(datum, dict) and datum.get("type") == "plan":
            return datum
    return None


def _calls(datum: Mapping[str, Any], report: Report) -> list[Call] | None:
    """Return the plan's calls, from the parsed form or, failing that, from the text."""
    parsed = datum.get("parsed_output")
    if isinstance(parsed, list):
        calls = _parsed_calls(parsed)
        if calls is not None:
            return calls
    raw = datum.get("raw_output")
    if isinstance(raw, str):
        try:
            steps = read_plan(raw.removesuffix(END_OF_PLAN))
        except PlanError as error:
            report.skip(f"plan: {error.rule}")
            return None
        return [Call(id=s.id, tool=s.name, args=s.args) for s in steps if s.name != "join"]
    report.skip("no plan")
    return None


def _parsed_calls(parsed: list[Any]) -> list[Call] | None:
    calls: list[Call] = []
    for item in parsed:
        good = (
            isinstance(item, dict)
            and isinstance(item.get("tool_name"), str)
            and isinstance(item.get("tool_args"), list)
        )
        if not good:
            return None
        if item["tool_name"] == "join":
            break
        calls.append(Call(id=len(calls) + 1, tool=item["tool_name"], args=tuple(item["tool_args"])))
    return calls


def _offered(datum: Mapping[str, Any]) -> list[str]:
    """Return the tools that the stored system prompt offers."""
    raw = datum.get("raw_input")
    if not isinstance(raw, str):
        return []
    try:
        messages = ast.literal_eval(raw)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    texts = (
        [
            message["content"]
            for message in messages
            if isinstance(message, dict) and isinstance(message.get("content"), str)
        ]
        if isinstance(messages, list)
        else []
    )
    system = texts[0] if texts else ""
    return [name for name in _TOOL_LINE.findall(system.split("###")[0]) if name in TINYAGENT16]
