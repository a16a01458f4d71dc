"""A planner behind any OpenAI-compatible chat endpoint, as a baseline.

What is sent: the request, its history and the tools' texts, in TinyAgent's
prompt layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlx_tinyagent.agent.planner import retrieval_query
from mlx_tinyagent.datasets.endpoint import ChatEndpoint
from mlx_tinyagent.errors import PlanError
from mlx_tinyagent.evaluate.harness_items import Item
from mlx_tinyagent.plan.graph import as_calls, parse
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.prompt import tinyagent
from mlx_tinyagent.prompt.render import Request
from mlx_tinyagent.retrieval.base import Retriever
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.trace import Trace

MAX_TOKENS = 768  # of a plan; the longest public TinyAgent plan has fewer


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPlanner:
    """Plans by asking an endpoint.

    Attributes:
        endpoint: Who is asked.
        tools: Enabled tools.
        retriever: Chooses which are offered; None offers each row's own.
    """

    endpoint: ChatEndpoint
    tools: ToolSet
    retriever: Retriever | None

    def plan(self, item: Item) -> dict[str, Any]:
        """Plan one row; a plan that cannot be used stands in its ``error``.

        Raises:
            ModelError: The endpoint cannot be reached, refuses, or answers in
                another format.
        """
        trace = Trace()
        request = Request(query=item.query, now=item.now, history=item.history)
        with trace.span("retrieve"):
            offered = self._offered(item, request)
        prompt = tinyagent.render(request, offered)
        messages = [
            {"role": "system", "content": prompt.segments[0].text},
            {"role": "user", "content": prompt.tail.text},
        ]
        with trace.span("decode"):
            answer = self.endpoint.complete(messages, max_tokens=MAX_TOKENS, stop=(tinyagent.END,))
        plan, error = _read_plan(answer.text, offered)
        seconds = {"prefill": 0.0, **trace.rounded()}
        return {
            "id": item.id,
            "calls": as_calls(plan),
            "ask": plan.ask,
            "reply": None,
            "text": answer.text,
            "tools": list(offered.names),
            "counts": _usage(answer.usage),
            "seconds": {**seconds, "total": round(sum(seconds.values()), 4)},
            "error": error,
        }

    def _offered(self, item: Item, request: Request) -> ToolSet:
        if self.retriever is None:
            return self.tools.subset(item.tools or ())
        return self.retriever.select(retrieval_query(request), self.tools).tools


def _read_plan(text: str, tools: ToolSet) -> tuple[Plan, str | None]:
    """Read a plan from an answer, as far as its end mark; or say why it is none."""
    body = text.partition(tinyagent.END)[0].strip()
    for fence in ("```python", "```text", "```"):
        body = body.removeprefix(fence)
    try:
        return parse(body.removesuffix("```").strip(), tools), None
    except PlanError as error:
        return Plan(), f"no usable plan: {error}"


def _usage(usage: Any) -> dict[str, int]:
    """Return the token counts that the endpoint tells."""
    names = {"prompt_tokens": "prompt_tokens", "completion_tokens": "plan_tokens"}
    found = usage if isinstance(usage, dict) else {}
    return {
        ours: found[theirs] for theirs, ours in names.items() if isinstance(found.get(theirs), int)
    }
