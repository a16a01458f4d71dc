"""OpenAI-style rows: ``{messages: [user, assistant with tool_calls], tools: [functions]}``.

The last user message is the request, earlier ones are history. An assistant
turn without calls is a question if it ends in one, else a refusal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlx_tinyagent.datasets.canonical import Report
from mlx_tinyagent.datasets.importers.base import Imported, NamedCall, Options, positional, rows
from mlx_tinyagent.datasets.jsonl import Line
from mlx_tinyagent.datasets.record import Call, Example, ExampleKind
from mlx_tinyagent.errors import PlanError
from mlx_tinyagent.prompt.render import Turn
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.loading import from_schemas

SOURCE = "openai"
LICENCE = "unknown"


def read(path: Path, options: Options) -> Imported:
    """Open a file of ``tools``/``messages`` rows; see ``importers.import_file``."""
    declared: dict[str, dict[str, Any]] = {}
    for line in rows(path, {"messages": list, "tools": list}):
        for schema in _schemas(line):
            declared.setdefault(schema["name"], schema)
    tools = from_schemas(path.stem, list(declared.values()))
    report = Report()
    found = _examples(path, tools, options.source or SOURCE, options.licence or LICENCE, report)
    return Imported(examples=found, tools=tools, report=report)


def _examples(
    path: Path, tools: ToolSet, source: str, licence: str, report: Report
) -> Iterator[Example]:
    for line in rows(path, {"messages": list, "tools": list}):
        users, answer = _turns(line)
        if not users or answer is None:
            report.skip("no request with an answer")
            continue
        calls = tuple(_calls(line, answer, tools))
        said = answer.get("content") if isinstance(answer.get("content"), str) else ""
        asks = not calls and bool(said) and str(said).rstrip().endswith("?")
        kind: ExampleKind = "tool" if calls else "ask" if asks else "none_near"
        example = Example(
            id=str(line.value.get("id", f"{source}-{line.number}")),
            query=users[-1],
            now=None,
            history=tuple(Turn(query=text) for text in users[:-1]),
            tools=tuple(dict.fromkeys(schema["name"] for schema in _schemas(line))),
            plan=calls,
            ask=str(said).strip()[-400:] if asks else None,
            source=str(line.value.get("source", source)),
            licence=str(line.value.get("licence", licence)),
            kind=kind,
        )
        try:
            example.bound(tools)
        except PlanError as error:
            report.skip(f"plan: {error.rule}")
            continue
        yield example


def _schemas(line: Line) -> Iterator[dict[str, Any]]:
    """Yield a row's function schemas, with names that plans can hold."""
    for item in line.value["tools"]:
        function = item.get("function", item) if isinstance(item, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise line.error("tools: expected OpenAI function schemas", key="tools")
        found = function.get("parameters")
        schema = dict(found) if isinstance(found, dict) else {}
        properties = schema.get("properties")
        if isinstance(properties, dict):
            schema["properties"] = {_name(key): spec for key, spec in properties.items()}
            schema["required"] = [_name(str(key)) for key in schema.get("required") or ()]
        yield {
            **function,
            "name": _name(function["name"]),
            "description": function.get("description") or f"{function['name']}.",
            "parameters": schema,
        }


def _name(text: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", text)[:64]


def _turns(line: Line) -> tuple[list[str], Mapping[str, Any] | None]:
    """Return the user's texts up to the first answer that ends the row, and that answer."""
    users: list[str] = []
    answer: Mapping[str, Any] | None = None
    for message in line.value["messages"]:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise line.error("messages: expected {'role', 'content'}", key="messages")
        if message["role"] == "user" and isinstance(message.get("content"), str):
            users.append(message["content"])
            answer = None
        elif message["role"] == "assistant" and answer is None:
            answer = message
    return [text for text in users if text.strip()], answer


def _calls(line: Line, answer: Mapping[str, Any], tools: ToolSet) -> Iterator[Call]:
    for number, item in enumerate(answer.get("tool_calls") or (), start=1):
        function = item.get("function", item) if isinstance(item, dict) else {}
        name = _name(str(function.get("name", "")))
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments or "{}")
            except (ValueError, RecursionError):
                arguments = None
        if name not in tools or not isinstance(arguments, dict):
            raise line.error(
                f"call {number}: expected a declared tool with JSON arguments", key="messages"
            )
        args = {_name(key): value for key, value in arguments.items()}
        yield Call(id=number, tool=name, args=positional(NamedCall(name, args), tools[name]))
