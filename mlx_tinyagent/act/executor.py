"""Runs a checked plan: reads first, then one approval, then the rest in parallel.

Before the approval everything that can be read is read: dates, names, file
names, and the lookups of the plan. So what cannot run is known and shown, and
questions are asked while nothing has changed yet. A step starts when everything
it reads is done; a step that reads from one without a value does not run.

Tools run in a few threads of their own; questions to the user are asked from
the calling thread.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any

from mlx_tinyagent.act.gate import Approval, Preview, approve, execute, preview
from mlx_tinyagent.act.resolve import Choices, Prepared, prepare
from mlx_tinyagent.errors import RefusedError
from mlx_tinyagent.plan.schema import Plan, Step
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import Effect, ToolSet
from mlx_tinyagent.tools.results import (
    Ambiguous,
    Candidate,
    Failed,
    Ok,
    Result,
    Skipped,
    Unknown,
)
from mlx_tinyagent.trace import now

WORKERS = 4
GRACE_S = 0.3  # how long a running tool may still finish after Ctrl-C


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
    args: Mapping[str, Any]
    result: Result
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Callbacks:
    """How the executor talks to its user.

    Attributes:
        approve: Shows a preview and returns the answer; None refuses everything
            that changes something.
        choose: Offers the candidates of an unclear name; None chooses nothing.
        partial: Whether a plan may change something although some of its steps
            cannot run: right where the preview is read by someone. Without it
            such a plan changes nothing, so that it can be given again.
        started: Called when a step starts.
        finished: Called when a step is done.
    """

    approve: Callable[[Preview], bool] | None = None
    choose: Callable[[Ambiguous], Candidate | None] | None = None
    partial: bool = True
    started: Callable[[Step], None] | None = None
    finished: Callable[[StepResult], None] | None = None


class Stopped(KeyboardInterrupt):
    """Ctrl-C while steps ran.

    Attributes:
        results: What became of each step; ``Unknown`` where a tool was still at work.
        effects: Those of the steps that change something.
    """

    def __init__(self, results: list[StepResult], effects: list[StepResult]) -> None:
        super().__init__("stopped")
        self.results = results
        self.effects = effects


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
        Stopped: Ctrl-C while steps ran.
    """
    state = _Run(plan, tools, host, callbacks, Choices(callbacks.choose))
    state.look_up(_leading_reads(plan, tools))
    shown = state.preview()
    if shown.changes and not shown.complete and not callbacks.partial:
        state.hold(shown)
    else:
        state.execute(shown, _ask(shown, callbacks))
    return [state.done[step.id] for step in plan.steps]


def _leading_reads(plan: Plan, tools: ToolSet) -> list[Step]:
    """Return the steps that only read and depend on such steps alone."""
    leading: dict[int, Step] = {}
    for step in plan.steps:
        reads = tools[step.tool].effect is Effect.READ
        if reads and all(number in leading for number in step.dependencies):
            leading[step.id] = step
    return list(leading.values())


def _ask(shown: Preview, callbacks: Callbacks) -> Approval | None:
    """Get one yes for the whole plan, if anything in it needs one."""
    if not shown.changes:
        return None
    if callbacks.approve is None or not callbacks.approve(shown):
        raise RefusedError("not approved: nothing was changed")
    return approve(shown)


@dataclass(slots=True)
class _Run:
    """The state of one run; everything but the tools themselves happens in one thread."""

    plan: Plan
    tools: ToolSet
    host: Host
    callbacks: Callbacks
    choices: Choices
    results: dict[int, Result] = field(default_factory=dict)
    done: dict[int, StepResult] = field(default_factory=dict)
    running: dict[int, Step] = field(default_factory=dict)
    ended: dict[int, StepResult] = field(default_factory=dict)  # written by the tools' threads
    arrived: SimpleQueue[int] = field(default_factory=SimpleQueue)  # numbers of ended steps

    def look_up(self, reads: Iterable[Step]) -> None:
        """Run the steps that need nobody's approval; each is prepared when it can be."""
        self._work({step.id: step for step in reads}, self._prepare, None)

    def preview(self) -> Preview:
        """Prepare everything that is left and show the whole plan."""
        prepared = {
            step.id: self._prepare(step)
            for step in self.plan.steps
            if step.id not in self.results and not self._lost(step)
        }
        return preview(self.plan, self.tools, self.results, prepared, now=self.host.now)

    def hold(self, shown: Preview) -> None:
        """Run nothing more: a part cannot run, and nobody has agreed to the rest alone."""
        for item in shown.steps:
            if item.result is None:
                reason = item.problem or Skipped(reason="another step cannot run")
                self._finish(self.plan.step(item.id), reason)

    def execute(self, shown: Preview, approval: Approval | None) -> None:
        """Run what was shown, as it was shown."""
        ready: dict[int, Prepared] = {}
        for item in shown.steps:
            if item.prepared is not None:
                ready[item.id] = item.prepared
            elif item.problem is not None:
                self._finish(self.plan.step(item.id), item.problem)
        waiting = {number: self.plan.step(number) for number in ready}
        self._work(waiting, lambda step: ready[step.id], approval)

    def _work(
        self,
        waiting: dict[int, Step],
        prepared: Callable[[Step], Prepared | Result],
        approval: Approval | None,
    ) -> None:
        """Start steps as soon as what they read is done, until all are."""
        try:
            while waiting or self.running:
                for step in self._ready(waiting):
                    del waiting[step.id]
                    self._begin(step, prepared, approval)
                if self.running:
                    self._arrive(self.arrived.get())
        except KeyboardInterrupt:
            raise self._stopped() from None

    def _ready(self, waiting: dict[int, Step]) -> list[Step]:
        """Return the steps that can begin now, as many as there are threads left."""
        free = WORKERS - len(self.running)
        can = (step for step in waiting.values() if self.results.keys() >= {*step.dependencies})
        return list(can)[:free]

    def _begin(
        self,
        step: Step,
        prepared: Callable[[Step], Prepared | Result],
        approval: Approval | None,
    ) -> None:
        lost = self._lost(step)
        item = Skipped(reason=f"it needs step {lost}") if lost else prepared(step)
        if isinstance(item, Result):
            self._finish(step, item)
            return
        if self.callbacks.started is not None:
            self.callbacks.started(step)
        self.running[step.id] = step
        arguments = (item, dict(self.results), self.host, approval, self.ended, self.arrived)
        # A daemon: a tool that hangs must not keep the program from leaving after Ctrl-C.
        threading.Thread(target=_timed, args=arguments, name=f"tool-{step.id}", daemon=True).start()

    def _arrive(self, number: int) -> None:
        """Take the outcome of a running step; an unclear lookup may be settled by the user."""
        del self.running[number]
        outcome = self.ended[number]
        tool = self.tools[outcome.tool]
        if tool.effect is Effect.READ and isinstance(outcome.result, Ambiguous):
            settled = self.choices.settle(outcome.result, tool.returns.value)
            outcome = replace(outcome, result=settled)
        self._record(outcome)

    def _prepare(self, step: Step) -> Prepared | Result:
        return prepare(step, self.tools[step.tool], self.host, self.results, self.choices)

    def _lost(self, step: Step) -> int:
        """Return the number of a step that this one reads and that gave no value; 0 if none."""
        lost = (
            number
            for number in step.dependencies
            if number in self.results and not isinstance(self.results[number], Ok)
        )
        return next(lost, 0)

    def _finish(self, step: Step, result: Result) -> None:
        """Record a step that was never called."""
        self._record(StepResult(id=step.id, tool=step.tool, args={}, result=result, seconds=0))

    def _record(self, outcome: StepResult) -> None:
        self.results[outcome.id] = outcome.result
        self.done[outcome.id] = outcome
        if self.callbacks.finished is not None:
            self.callbacks.finished(outcome)

    def _stopped(self) -> Stopped:
        """Say what became of each step; what still runs may finish for a moment."""
        deadline = now() + GRACE_S
        while self.running.keys() - self.ended.keys() and (left := deadline - now()) > 0:
            with contextlib.suppress(Empty):
                self.arrived.get(timeout=left)
        for step in self.plan.steps:
            if step.id in self.running:
                result: Result = Unknown(reason="it was still running when it was stopped")
            else:
                result = Skipped(reason="it was stopped before it began")
            unstarted = StepResult(id=step.id, tool=step.tool, args={}, result=result, seconds=0)
            self.done.setdefault(step.id, self.ended.get(step.id, unstarted))
        results = [self.done[step.id] for step in self.plan.steps]
        return Stopped(results, [o for o in results if self.tools[o.tool].effect.changes])


def _timed(
    step: Prepared,
    results: Mapping[int, Result],
    host: Host,
    approval: Approval | None,
    ended: dict[int, StepResult],
    arrived: SimpleQueue[int],
) -> None:
    """Run one step and report it, whatever happens: a lost report would wait for ever.

    The outcome is kept before its number is sent: Ctrl-C can strike just when
    the number is taken, and what was done must not be forgotten.
    """
    start = now()
    args: Mapping[str, Any] = {}
    result: Result = Failed(reason=f"{step.tool.name} failed")
    try:
        done = execute(step, results, host, approval)
        args, result = done.args, done.result
    except Exception as error:
        result = Failed(reason=f"{step.tool.name} failed: {error}")
    finally:
        seconds = now() - start
        ended[step.step] = StepResult(
            id=step.step, tool=step.tool.name, args=args, result=result, seconds=seconds
        )
        arrived.put(step.step)
