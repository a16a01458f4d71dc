"""Four rows with a scripted planner, small enough to work every figure out by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlx_tinyagent.cli.eval import PlanJob
from mlx_tinyagent.evaluate.harness_items import Item
from mlx_tinyagent.tools.catalog import TINYAGENT16

Call = dict[str, Any]


def call(number: int, tool: str, *args: Any) -> Call:
    """Write a call."""
    return {"id": number, "tool": tool, "args": list(args)}


def record(name: str, query: str, plan: Iterable[Call] = (), **more: Any) -> dict[str, Any]:
    """Write an example record."""
    plan = list(plan)
    return {
        "id": name,
        "query": query,
        "now": None,
        "history": [],
        "tools": list(TINYAGENT16.names),
        "plan": plan,
        "source": "test",
        "licence": "CC0-1.0",
        "kind": "tool" if plan else "none_far",
        **more,
    }


TEXT = [call(1, "get_phone_number", "Sophie"), call(2, "send_sms", ["$1"], "hi")]
ROWS = [
    record("text", "text Sophie hi", TEXT),
    record(
        "rent",
        "remind me to pay rent",
        [call(1, "create_reminder", "pay rent", "", "", "", 0, False)],
    ),
    record("love", "what is love"),
    record("who", "send it", kind="ask", ask="Send what, and to whom?"),
]
# The first is right; the second reminds of something else; the third calls a tool for nothing.
SCRIPT: Mapping[str, dict[str, Any]] = {
    "text": {"calls": TEXT, "ask": None, "seconds": {"total": 0.25}},
    "rent": {
        "calls": [call(1, "create_reminder", "call mom", "", "", "", 0, False)],
        "seconds": {"total": 0.75},
    },
    "love": {"calls": [call(1, "get_email_address", "x")], "seconds": {"total": 0.5}},
    "who": {"calls": [], "ask": "Which one?", "seconds": {"total": 0.5}},
}


def scripted(item: Item) -> dict[str, Any]:
    """Plan by the script."""
    return SCRIPT[item.id]


def write_lines(path: Path, rows: Iterable[Any]) -> Path:
    """Write rows as JSON lines; a text is written as it is."""
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


def job(data: Path, out: Path, **more: Any) -> PlanJob:
    """Return the options of ``eval plans`` with their defaults."""
    options: dict[str, Any] = {
        "model": "none",
        "adapter": None,
        "tools_name": "tinyagent16",
        "retrieval": "on",
        "kind": "model",
        "endpoint": None,
        "endpoint_model": None,
        "predictions": None,
        "execute": True,
        "form": None,
        "limit": None,
        "skip_bad": False,
        "seed": 0,
        "resume": False,
        **more,
    }
    return PlanJob(data=data, out=out, **options)
