"""The user's own approved requests, from the journal, as examples to train on.

The journal has every plan that changed something as it was approved, so with
the corrections made to it. A run counts if all of it was done and none of it
was taken back. It does not have earlier turns: a request that leaned on them
would teach to invent, so every word that a plan should point at must stand in
the request itself.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mlx_tinyagent.act.journal import LoggedRun
from mlx_tinyagent.datasets.record import MAX_QUERY_CHARS, Call, Example
from mlx_tinyagent.errors import PlanError
from mlx_tinyagent.plan.schema import Plan, Ref
from mlx_tinyagent.tools.base import Kind, Param, ToolSet
from mlx_tinyagent.tools.match import fold

SOURCE = "log"
LICENCE = "LicenseRef-private"
_POINTING = (Kind.SPAN, Kind.WHEN)


@dataclass(slots=True)
class LogReport:
    """What became of the runs; filled while iterating.

    Attributes:
        kept: Runs that became examples.
        left_out: Runs that did not, by reason.
    """

    kept: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def examples(runs: Iterable[LoggedRun], tools: ToolSet, report: LogReport) -> Iterator[Example]:
    """Yield an example for each run that shows what is right; of equal ones the first.

    Args:
        runs: The journal's runs.
        tools: The tools that a model is to be trained for.
        report: Filled while iterating.
    """
    seen: set[str] = set()
    for run in runs:
        made = _example(run, tools)
        if isinstance(made, str):
            report.left_out[made] += 1
        elif made.id in seen:
            report.left_out["repeated"] += 1
        else:
            seen.add(made.id)
            report.kept += 1
            yield made


def _example(run: LoggedRun, tools: ToolSet) -> Example | str:
    """Return a run's example, or why there is none."""
    query, calls = str(run.details.get("request", "")), run.details.get("calls", [])
    if run.status != "done":
        return run.status
    if any(step.undone for step in run.steps.values()):
        return "undone"
    if not query.strip() or len(query) > MAX_QUERY_CHARS:
        return "no request"  # a plan that was given as text
    if any(call["tool"] not in tools for call in calls):
        return "other tools"
    example = Example(
        id=f"{SOURCE}-{_digest(query, calls)}",
        query=query,
        now=str(run.details["now"])[:19] if run.details.get("now") else None,
        tools=tools.names,
        plan=tuple(Call(id=c["id"], tool=c["tool"], args=tuple(c["args"])) for c in calls),
        source=SOURCE,
        licence=LICENCE,
    )
    try:
        plan = example.bound(tools)
    except PlanError as error:
        return f"plan: {error.rule}"
    return example if grounded(plan, query, tools) else "says what the request does not"


def grounded(plan: Plan, query: str, tools: ToolSet) -> bool:
    """Whether everything that a plan should copy from the request stands in it."""
    words = fold(query)
    return all(
        fold(item) in words
        for step in plan.steps
        for param, arg in zip(tools[step.tool].params, step.args, strict=True)
        if _points(param) and arg != param.default
        for item in (arg if isinstance(arg, tuple) else (arg,))
        if not isinstance(item, Ref) and isinstance(item, str)
    )


def _points(param: Param) -> bool:
    return param.kind in _POINTING or param.entity is not None


def _digest(query: str, calls: object) -> str:
    text = json.dumps([fold(query), calls], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
