"""Runs a checked plan: reads first, then one approval, then the rest in parallel.

A step starts when everything it reads is done. A step that reads from one
without a value does not run. Tools run in a small thread pool; questions to
the user are asked from the calling thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from mlx_tinyagent.act.gate import Approval, Preview, approve, execute, preview
from mlx_tinyagent.act.resolve import Call, resolve_step
from mlx_tinyagent.errors import RefusedError
from mlx_tinyagent.plan.schema import Plan, Step
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import Effect, ToolSet
from mlx_tinyagent.tools.results import Ambiguous, Candidate, Ok, Result, Value
from mlx_tinyagent.trace import now

WORKERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What became of one step.

    Attributes:
        id: Number in the plan.
        tool: Tool name.
        args: Resolved arguments; empty if the step never got so far.
        result: The outcome.
        seconds: Time it ran.
    """

    id: int
    tool: str
    args: dict[str, Any]
    result: Result
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Callbacks:
    """How the executor talks to its user.

    Attributes:
        approve: Shows a preview and returns the answer; None refuses everything
            that changes something.
        choose: Offers the candidates of an ambiguous name; None chooses nothing.
        started: Called when a step starts.
        finished: Called when a step is done.
    """

    approve: Callable[[Preview], bool] | None = None
    choose: Callable[[Ambiguous], Candidate | None] | None = None
    started: Callable[[Step], None] | None = None
    finished: Callable[[StepResult], None] | None = None


def run(plan: Plan, tools: ToolSet, host: Host, callbacks: Callbacks) -> list[StepResult]:
    """Run a plan that has passed ``plan.graph.bind``.

    Args:
        plan: The checked plan.
        tools: Its tools.
        host: What tools can reach.
        callbacks: How to ask and report.

    Returns:
        One result per step, in plan order.

    Raises:
        RefusedError: The plan changes something and the answer was not yes;
            only reads have run.
    """
    state = _Run(plan, tools, host, callbacks)
    reads = _leading_reads(plan, tools)
    state.execute(reads, None)
    approval = _ask(plan, tools, host, callbacks, state.results)
    state.execute([step for step in plan.steps if step.id not in state.results], approval)
    return [state.done[step.id] for step in plan.steps]


def _leading_reads(plan: Plan, tools: ToolSet) -> list[Step]:
    """Return the steps that only read and depend on such steps alone."""
    leading: dict[int, Step] = {}
    for step in plan.steps:
        reads = tools[step.tool].effect is Effect.READ
        if reads and all(number in leading for number in step.dependencies):
            leading[step.id] = step
    return list(leading.values())


def _ask(
    plan: Plan, tools: ToolSet, host: Host, callbacks: Callbacks, results: dict[int, Result]
) -> Approval | None:
    """Get one yes for the whole plan, if anything in it needs one."""
    shown = preview(plan, tools, host, results)
    if not shown.changes:
        return None
    if callbacks.approve is None or not callbacks.approve(shown):
        raise RefusedError("not approved: nothing was changed")
    return approve(plan, shown)


@dataclass(slots=True)
class _Run:
    plan: Plan
    tools: ToolSet
    host: Host
    callbacks: Callbacks
    results: dict[int, Result] = field(default_factory=dict)
    done: dict[int, StepResult] = field(default_factory=dict)

    def execute(self, steps: Iterable[Step], approval: Approval | None) -> None:
        """Run steps as soon as what they read is done."""
        waiting = {step.id: step for step in steps}
        running: dict[Future[StepResult], Step] = {}
        with ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="tool") as pool:
            try:
                while waiting or running:
                    for step in self._ready(waiting):
                        del waiting[step.id]
                        self._start(step, approval, pool, running)
                    if running:
                        finished, _ = wait(running, return_when=FIRST_COMPLETED)
                        for future in finished:
                            self._finish(running.pop(future), future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _ready(self, waiting: dict[int, Step]) -> list[Step]:
        return [
            step
            for step in waiting.values()
            if all(number in self.results for number in step.dependencies)
        ]

    def _start(
        self,
        step: Step,
        approval: Approval | None,
        pool: ThreadPoolExecutor,
        running: dict[Future[StepResult], Step],
    ) -> None:
        tool = self.tools[step.tool]
        call = resolve_step(step, tool, self.host, self.results)
        if isinstance(call, Result):
            self._finish(
                step, StepResult(id=step.id, tool=tool.name, args={}, result=call, seconds=0)
            )
            return
        if self.callbacks.started is not None:
            self.callbacks.started(step)
        running[pool.submit(_timed, call, step, self.host, approval)] = step

    def _finish(self, step: Step, outcome: StepResult) -> None:
        lookup = self.tools[step.tool].effect is Effect.READ
        if lookup and isinstance(outcome.result, Ambiguous) and self.callbacks.choose is not None:
            outcome = self._chosen(outcome, outcome.result)
        self.results[step.id] = outcome.result
        self.done[step.id] = outcome
        if self.callbacks.finished is not None:
            self.callbacks.finished(outcome)

    def _chosen(self, outcome: StepResult, ambiguous: Ambiguous) -> StepResult:
        """Let the user settle an ambiguous lookup; the choice becomes the step's value."""
        choose = self.callbacks.choose
        candidate = choose(ambiguous) if choose is not None else None
        if candidate is None or not candidate.value:
            return outcome
        value = Value(text=candidate.value, fields={"name": candidate.label})
        result = Ok(value=value, note=f"{candidate.label}: {candidate.value}")
        return StepResult(
            id=outcome.id,
            tool=outcome.tool,
            args=outcome.args,
            result=result,
            seconds=outcome.seconds,
        )


def _timed(call: Call, step: Step, host: Host, approval: Approval | None) -> StepResult:
    start = now()
    result = execute(call, step, host, approval)
    return StepResult(
        id=step.id, tool=step.tool, args=dict(call.args), result=result, seconds=now() - start
    )
