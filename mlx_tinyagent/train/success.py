"""Planning validation rows with the adapter as it is now: does it serve, not only predict?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from mlx_tinyagent.agent.planner import Planner
from mlx_tinyagent.errors import ContextError, ModelError
from mlx_tinyagent.evaluate.metrics import PlanScore, score_plan
from mlx_tinyagent.plan.graph import as_calls
from mlx_tinyagent.prompt.render import Request
from mlx_tinyagent.retrieval.base import AllTools
from mlx_tinyagent.tools.base import ToolSet

if TYPE_CHECKING:
    from mlx_tinyagent.decode.engine import Engine
    from mlx_tinyagent.train.rows import Row


def solved(engine: Engine, tools: ToolSet, rows: Sequence[Row]) -> list[bool]:
    """Plan rows greedily under the grammar and say which plans are right.

    A plan is right if it is the gold plan's graph of tools; for a row that wants
    a question, if it asks one; for a row that no tool serves, if it calls none and
    asks nothing. A row that cannot be planned is wrong.

    Args:
        engine: The engine with the adapter.
        tools: Declarations. A row is offered its own tools and what its plan needs.
        rows: Validation rows.
    """
    planner = Planner(engine, tools, AllTools())
    return [_right(_score(planner, row)) for row in rows]


def _score(planner: Planner, row: Row) -> PlanScore:
    example = row.example
    now = datetime.fromisoformat(example.now) if example.now else None
    request = Request(query=example.query, now=now, history=example.history)
    offered = planner.tools.closure((*example.tools, *row.needed)).names
    try:
        plan = planner.plan(request, offered=offered).plan
        written = {"calls": as_calls(plan), "ask": plan.ask, "tools": offered}
    except (ContextError, ModelError) as error:
        written = {"calls": [], "error": str(error)}
    return score_plan(written, example.as_dict(), planner.tools)


def _right(score: PlanScore) -> bool:
    if score.kind == "tool":
        return bool(score.graph)
    return bool(score.clarified if score.kind == "ask" else score.abstained)
