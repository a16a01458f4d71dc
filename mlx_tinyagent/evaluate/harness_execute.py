"""Runs predicted and gold plans on copies of the demonstration world and compares what is left.

Only the 16 tools run, on a world in memory; nothing of the user's is read or
changed, and code of other tool sets is never called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mlx_tinyagent.act.executor import Callbacks, StepResult, run
from mlx_tinyagent.errors import PlanError
from mlx_tinyagent.evaluate.execution import diff_match
from mlx_tinyagent.evaluate.harness_items import Item
from mlx_tinyagent.plan.graph import from_calls
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import Effect
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import Diff, LocalBackend, diff, memory_world, snapshot
from mlx_tinyagent.tools.local.rows import Snapshot
from mlx_tinyagent.tools.results import Ok
from mlx_tinyagent.tools.writer import PlainWriter

Calls = Sequence[Mapping[str, Any]]
SHOWN = 5  # differences kept for the report


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What running a prediction showed.

    Attributes:
        match: Whether it did what the gold plan does; None where no plan is right.
        changes: Whether it would change anything in the store.
        differences: Where it did not do the same, the first few.
    """

    match: bool | None
    changes: bool
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ran:
    """One plan run on a fresh world."""

    change: Diff
    results: tuple[StepResult, ...]
    plan: Plan

    def endings(self) -> Counter[tuple[str, str]]:
        """Count how the steps of each tool ended."""
        return Counter((outcome.tool, outcome.result.status) for outcome in self.results)

    def found(self) -> set[tuple[str, str]]:
        """Return tool and value of every look-up that gave one."""
        return {
            (outcome.tool, outcome.result.value.text)
            for outcome in self.results
            if isinstance(outcome.result, Ok) and _looks_up(outcome.tool)
        }

    def told(self) -> set[tuple[str, str]]:
        """Return those of the look-ups that no step reads: they are the answer itself."""
        read = {number for step in self.plan.steps for number in step.dependencies}
        return {
            (outcome.tool, outcome.result.value.text)
            for outcome in self.results
            if isinstance(outcome.result, Ok) and _looks_up(outcome.tool) and outcome.id not in read
        }


def execution(calls: Calls, item: Item) -> Execution | None:
    """Run a predicted plan and the gold plan, each on a world of its own, and compare.

    They match if they leave the same row-level difference
    (``evaluate.execution``), and if the prediction also found what the gold
    plan only looks up to tell. Where the gold plan stops at an ambiguous or
    unknown name and so leaves no difference, the prediction's steps must be of
    the same tools and end the same way. A plan that cannot run does nothing
    and matches nothing.

    Args:
        calls: The predicted calls.
        item: The row; its plan is run as of its own moment.

    Returns:
        None for rows that are not meant for the demonstration world.
    """
    if not item.runs:
        return None
    mine = _run(calls, item)
    changes = bool(mine is not None and mine.change)
    if item.kind != "tool":
        return Execution(match=None, changes=changes)
    theirs = _run(item.gold, item)
    if theirs is None:
        return Execution(match=None, changes=changes)
    if mine is None:
        return Execution(match=False, changes=False, differences=("the plan cannot run",))
    differences = [
        *diff_match(mine.change, theirs.change).differences,
        *(f"not looked up: {tool} = {text}" for tool, text in sorted(theirs.told() - mine.found())),
    ]
    if item.outcome is not None and mine.endings() != theirs.endings():
        differences.append(f"its steps do not end as the gold plan's, which is {item.outcome}")
    return Execution(
        match=not differences,
        changes=changes,
        differences=tuple(d[:300] for d in differences[:SHOWN]),
    )


def _run(calls: Calls, item: Item) -> _Ran | None:
    """Run calls on a fresh world with a yes to everything; None if they are no valid plan."""
    try:
        plan = from_calls([dict(call) for call in calls], TINYAGENT16)
    except PlanError:
        return None
    if item.now is None:
        raise ValueError(f"row {item.id} has no moment to run at")
    with memory_world() as store:
        host = Host(
            backend=LocalBackend(store), writer=PlainWriter(), request=item.query, now=item.now
        )
        results = run(plan, TINYAGENT16, host, Callbacks(approve=lambda shown: True))
        after = snapshot(store)
    return _Ran(change=diff(_fresh(), after), results=tuple(results), plan=plan)


@lru_cache(maxsize=1)
def _fresh() -> Snapshot:
    with memory_world() as store:
        return snapshot(store)


def _looks_up(tool: str) -> bool:
    return TINYAGENT16[tool].effect is Effect.READ
