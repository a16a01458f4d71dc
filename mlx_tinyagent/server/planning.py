"""``/plan``: one request in, its plan out; nothing is executed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.act.resolve import resolved_dates
from mlx_tinyagent.agent.joiner import NO_TOOL
from mlx_tinyagent.agent.planner import counts_json
from mlx_tinyagent.errors import ContextError, InputError
from mlx_tinyagent.plan.graph import as_calls
from mlx_tinyagent.prompt.render import Request, Turn
from mlx_tinyagent.server.chat import MAX_CHARS
from mlx_tinyagent.tools.base import ToolSet

if TYPE_CHECKING:
    from mlx_tinyagent.agent.planner import Planned


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What a plan is wanted for.

    Attributes:
        id: The client's own name for it.
        request: The request.
        tools: Names of the tools to offer; None lets the retriever choose.
    """

    id: Any
    request: Request
    tools: tuple[str, ...] | None


def read_plan_request(data: Mapping[str, Any], now: datetime) -> PlanRequest:
    """Read ``{"query", "id"?, "now"?, "tools"?, "history"?}``.

    Args:
        data: The parsed body.
        now: The moment that holds where the body says none.

    Raises:
        InputError: A field cannot be used.
        ContextError: The request is far too long.
    """
    query = data.get("query")
    if not isinstance(query, str) or not query.strip():
        raise InputError("query is missing or empty")
    if any("\ud800" <= char <= "\udfff" for char in query):
        raise InputError("the request is not UTF-8 text")
    if len(query) > MAX_CHARS:
        raise ContextError(f"the request has {len(query):,} characters, {MAX_CHARS:,} at most")
    moment = data.get("now")
    try:
        now = datetime.fromisoformat(moment).replace(tzinfo=None) if moment is not None else now
    except (TypeError, ValueError):
        raise InputError(f"now is {moment!r}, expected ISO 8601 local time or null") from None
    tools = data.get("tools")
    if tools is not None and not (
        isinstance(tools, list) and all(isinstance(name, str) for name in tools)
    ):
        raise InputError("tools is a list of names, or null")
    history = data.get("history") or []
    if not isinstance(history, list):
        raise InputError("history is a list of objects with query and plan")
    return PlanRequest(
        id=data.get("id"),
        request=Request(query=query, now=now, history=tuple(map(_turn, history))),
        tools=None if tools is None else tuple(tools),
    )


def plan_row(planned: Planned, request: Request, tools: ToolSet) -> dict[str, Any]:
    """Return a plan as ``mlx-tinyagent plan`` writes it, without the row's id."""
    calls = as_calls(planned.plan)
    for call, step in zip(calls, planned.plan.steps, strict=True):
        dates = resolved_dates(step, tools[step.tool], request.now) if request.now else None
        call.update({"resolved": dates} if dates else {})
    seconds = {name: planned.trace.rounded().get(name, 0.0) for name in _SECONDS}
    return {
        "calls": calls,
        "ask": planned.plan.ask,
        "reply": NO_TOOL if not calls and planned.plan.ask is None else None,
        "text": planned.text,
        "tools": list(planned.retrieved.tools.names),
        "counts": counts_json(planned.counts),
        "seconds": {**seconds, "total": round(sum(seconds.values()), 4)},
        "error": None,
    }


_SECONDS = ("retrieve", "prefill", "decode")


def _turn(value: object) -> Turn:
    match value:
        case {"query": str(query), "plan": str(plan)}:
            return Turn(query=query, plan=plan)
        case {"query": str(query)}:
            return Turn(query=query)
    raise InputError("history is a list of objects with query and plan")
