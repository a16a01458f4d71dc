"""Plans written by a model, scored by the harness: the slow and final measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.errors import TinyAgentError
from mlx_tinyagent.evaluate.harness import score_item
from mlx_tinyagent.plan.graph import as_calls
from mlx_tinyagent.prompt.render import Request
from mlx_tinyagent.retrieval.base import AllTools

if TYPE_CHECKING:
    from mlx_tinyagent.agent.planner import Planner
    from mlx_tinyagent.evaluate.harness_items import Item
    from mlx_tinyagent.quantize.pipeline import Say
    from mlx_tinyagent.tools.base import ToolSet


def written(
    folder: Path, adapter: Path | None, tools: ToolSet, items: Sequence[Item], say: Say
) -> list[dict[str, Any]]:
    """Let a model plan every item with the tools it names, and score the plans.

    Args:
        folder: Model folder.
        adapter: Its adapter.
        tools: Declarations.
        items: The rows.
        say: Told how far it is.

    Returns:
        One line of the harness per item.
    """
    from mlx_tinyagent.agent.planner import Planner
    from mlx_tinyagent.decode.engine import Engine
    from mlx_tinyagent.models.language import load

    planner = Planner(Engine(load(folder, adapter=adapter)), tools, AllTools())
    rows = []
    for number, item in enumerate(items, start=1):
        rows.append(score_item(item, _predict(planner, item, tools), tools, execute=False))
        say("planning", number, len(items))
    return rows


def _predict(planner: Planner, item: Item, tools: ToolSet) -> dict[str, Any]:
    request = Request(query=item.query, now=item.now, history=item.history)
    known = item.tools is not None and all(name in tools for name in item.tools)
    offered = tools.closure(item.tools).names if known and item.tools else None
    try:
        planned = planner.plan(request, offered=offered)
    except TinyAgentError as error:
        return {"calls": [], "ask": None, "error": str(error)}
    return {
        "calls": as_calls(planned.plan),
        "ask": planned.plan.ask,
        "text": planned.text,
        "tools": list(planned.retrieved.tools.names),
        "error": None,
    }
