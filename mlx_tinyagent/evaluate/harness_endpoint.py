"""A planner behind any OpenAI-compatible chat endpoint, as a baseline.

The only part of the harness that sends anything anywhere, and only to the
address it is given: the request, its history and the tools' texts, in
TinyAgent's prompt layout.
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mlx_tinyagent.agent.planner import retrieval_query
from mlx_tinyagent.errors import ModelError, PlanError, UsageError
from mlx_tinyagent.evaluate.harness_items import Item
from mlx_tinyagent.plan.graph import as_calls, parse
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.prompt import tinyagent
from mlx_tinyagent.prompt.render import Request
from mlx_tinyagent.retrieval.base import Retriever
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.trace import Trace

KEY_VARIABLE = "MLX_TINYAGENT_ENDPOINT_KEY"  # sent as bearer token where it is set
MAX_TOKENS = 768  # of a plan; the longest public TinyAgent plan has fewer
TIMEOUT_S = 120
MAX_ANSWER_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPlanner:
    """Plans by asking an endpoint.

    Attributes:
        url: Base address, such as ``http://localhost:8080/v1``.
        model: The model's name there.
        tools: Enabled tools.
        retriever: Chooses which are offered; None offers each row's own.
        timeout_s: Longest wait for one answer.
    """

    url: str
    model: str
    tools: ToolSet
    retriever: Retriever | None
    timeout_s: float = TIMEOUT_S

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UsageError(
                f"the endpoint is {self.url!r}; expected an address such as http://localhost:8080/v1"
            )
        if parts.username or parts.password:  # it would stand in the run's configuration
            raise UsageError(f"the endpoint holds a password; put the key into {KEY_VARIABLE}")

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
            text, usage = self._complete(messages)
        plan, error = _read_plan(text, offered)
        seconds = {"prefill": 0.0, **trace.rounded()}
        return {
            "id": item.id,
            "calls": as_calls(plan),
            "ask": plan.ask,
            "reply": None,
            "text": text,
            "tools": list(offered.names),
            "counts": usage,
            "seconds": {**seconds, "total": round(sum(seconds.values()), 4)},
            "error": error,
        }

    def _offered(self, item: Item, request: Request) -> ToolSet:
        if self.retriever is None:
            return self.tools.subset(item.tools or ())
        return self.retriever.select(retrieval_query(request), self.tools).tools

    def _complete(self, messages: list[dict[str, str]]) -> tuple[str, dict[str, int]]:
        """Return the endpoint's text and its token counts."""
        answer = self._post(
            {
                "model": self.model,
                "messages": messages,
                "temperature": 0,
                "max_tokens": MAX_TOKENS,
                "stop": [tinyagent.END],
            }
        )
        match answer:
            case {"choices": [{"message": {"content": str(text)}}, *_]}:
                return text, _usage(answer.get("usage"))
        raise ModelError(f"{self.url} answered without a message: {json.dumps(answer)[:200]}")

    def _post(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions",
            data=json.dumps(body).encode(),
            headers=headers,
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as answer:
                data = answer.read(MAX_ANSWER_BYTES + 1)
        except urllib.error.HTTPError as error:
            detail = error.read(300).decode("utf-8", "replace")
            raise ModelError(
                f"{self.url} refused with status {error.code}: {' '.join(detail.split())}"
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise ModelError(f"{self.url} cannot be used: {reason}") from error
        if len(data) > MAX_ANSWER_BYTES:
            raise ModelError(f"{self.url} answered with more than {MAX_ANSWER_BYTES} bytes")
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{self.url} answered with something that is no JSON") from error


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
