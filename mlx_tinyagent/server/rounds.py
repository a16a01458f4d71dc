"""One plan over several rounds of tool calls.

An OpenAI-style call cannot say "the result of call 1". So only calls whose
arguments are complete are handed out; what waits for them is kept, and handed
out when the results have come back. The model plans once; results are put in
as values and never reach its prompt.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlx_tinyagent.act.executor import StepResult
from mlx_tinyagent.agent.joiner import answer
from mlx_tinyagent.plan.schema import Argument, Plan, Ref, Scalar, Step, Template
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.results import Failed, Ok, Origin, Result, Skipped, Value

KEPT = 256  # plans that wait for results; a forgotten one is planned anew
_PREFIX = "call_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A plan whose calls are being made by a client.

    Attributes:
        query: The request it answers.
        plan: The plan.
        text: As written.
    """

    query: str
    plan: Plan
    text: str


class Ledger:
    """Remembers the plans whose calls are under way; the oldest are forgotten first."""

    def __init__(self) -> None:
        self._plans: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, kept: Kept) -> str:
        """Remember a plan; returns its key, which nobody can guess."""
        key = secrets.token_hex(8)
        with self._lock:
            self._plans[key] = kept
            while len(self._plans) > KEPT:
                self._plans.popitem(last=False)
        return key

    def find(self, key: str, query: str) -> Kept | None:
        """Return a plan, if it is remembered and answers this very request."""
        with self._lock:
            kept = self._plans.get(key)
        return kept if kept is not None and kept.query == query else None


def call_id(key: str, step: int) -> str:
    """Return the identifier of a call: it names the plan and the step."""
    return f"{_PREFIX}{key}_{step}"


def read_call_id(text: str) -> tuple[str, int] | None:
    """Return the key of the plan and the step that an identifier names; None for a foreign one."""
    key, _, number = text.removeprefix(_PREFIX).partition("_")
    if not text.startswith(_PREFIX) or not number.isascii() or not number.isdigit():
        return None
    return (key, int(number)) if len(number) <= 4 else None


def ready(plan: Plan, results: Mapping[int, Result]) -> list[Step]:
    """Return the steps that can be called now, results put in for references.

    Args:
        plan: The plan.
        results: Of the calls that were made.
    """
    values = {number: result.value for number, result in results.items() if isinstance(result, Ok)}
    return [
        replace(step, args=tuple(_filled(argument, values) for argument in step.args))
        for step in plan.steps
        if step.id not in results and values.keys() >= {*step.dependencies}
    ]


def read_result(content: str) -> Result:
    """Return what a client says of a call; an object with ``error`` alone says it failed."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, dict) and data.keys() == {"error"} and data["error"]:
        return Failed(reason=str(data["error"]))
    return Ok(value=Value(text=content, origin=Origin.UNTRUSTED), note=content)


def conclusion(plan: Plan, results: Mapping[int, Result], tools: ToolSet) -> str:
    """Say what came of a plan when no more calls can be made.

    A result that another call has read is part of what is said about that one.
    """
    used = {number for step in plan.steps for number in step.dependencies}
    outcomes = []
    for step in plan.steps:
        lost = next((k for k in step.dependencies if not isinstance(results.get(k), Ok)), 0)
        result = results.get(step.id) or Skipped(reason=f"it needs step {lost}")
        if step.id in used and isinstance(result, Ok):
            continue
        outcomes.append(StepResult(id=step.id, tool=step.tool, args={}, result=result, seconds=0))
    return answer(plan, outcomes, tools)


def _filled(argument: Argument, values: Mapping[int, Value]) -> Argument:
    if isinstance(argument, tuple):
        return tuple(_scalar(item, values) for item in argument)
    return _scalar(argument, values)


def _scalar(value: Scalar, values: Mapping[int, Value]) -> Scalar:
    if isinstance(value, Ref):
        found = values[value.step]
        return found.fields.get(value.field, "") if value.field else found.text
    if isinstance(value, Template):
        return "".join(
            part if isinstance(part, str) else str(_scalar(part, values)) for part in value.parts
        )
    return value
