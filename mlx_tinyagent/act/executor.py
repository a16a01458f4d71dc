"""Runs a checked plan: reads first, then one approval, then the rest in parallel.

Before the approval everything that can be read is read: dates, names, file
names, and the lookups of the plan; the other steps are gone through with a
backend that performs nothing. So what cannot run is known and shown, policy
sees exact effects, and questions are asked while nothing has changed yet. After
the approval the journal says what is about to happen before it does. A step
starts when everything it reads is done; a step that reads from one without a
value does not run.

Tools run in a few threads of their own; questions to the user are asked from
the calling thread.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any

from mlx_tinyagent.act.gate import Approval, Executed, Preview, approve, execute, preview, stage
from mlx_tinyagent.act.guard import Marks, Staged
from mlx_tinyagent.act.journal import OPEN_STATES, Journal, LoggedRun, RunLog
from mlx_tinyagent.act.policy import Decision, Policy, Trusted, trusted
from mlx_tinyagent.act.resolve import Choices, Prepared, prepare
from mlx_tinyagent.errors import RefusedError, StoreError, ToolError
from mlx_tinyagent.plan.graph import as_calls
from mlx_tinyagent.plan.schema import Plan, Step
from mlx_tinyagent.tools.backend import Action, Contact, Host
from mlx_tinyagent.tools.base import Effect, ToolSet
from mlx_tinyagent.tools.external import BackendError
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
GRACE_S = 0.3  # how long a running tool may still finish after Ctrl-C or its deadline


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


def run(
    plan: Plan,
    tools: ToolSet,
    host: Host,
    callbacks: Callbacks,
    *,
    policy: Policy | None = None,
    journal: Journal | None = None,
    resumed: LoggedRun | None = None,
) -> list[StepResult]:
    """Run a plan that has passed ``plan.graph.bind``.

    Args:
        plan: The checked plan.
        tools: Its tools.
        host: What tools can reach.
        callbacks: How to ask and report.
        policy: What may run without a question; the defaults if None.
        journal: Where it is written down; None keeps nothing.
        resumed: An earlier run of the same plan that was cut off: what it did is not done again.

    Returns:
        One result per step, in plan order.

    Raises:
        RefusedError: Policy denies it, or it needs a yes and the answer was not
            yes; only reads have run.
        StoreError: The journal cannot be written; nothing was changed.
        Stopped: Ctrl-C while steps ran.
    """
    policy = policy or Policy()
    if reason := policy.forbidden(plan, tools):
        raise RefusedError(f"{reason}; nothing was changed")
    choices = Choices(callbacks.choose)
    state = _Run(plan, tools, host, callbacks, choices, policy, journal, resumed)
    state.take_over()
    state.look_up(_leading_reads(plan, tools))
    shown = state.preview()
    if shown.denied:
        raise RefusedError(f"{shown.denied}; nothing was changed")
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


def _ask(shown: Preview, callbacks: Callbacks) -> Approval:
    """Get one yes for the whole plan, if anything in it needs one."""
    if shown.asks and (callbacks.approve is None or not callbacks.approve(shown)):
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
    policy: Policy
    journal: Journal | None
    resumed: LoggedRun | None
    results: dict[int, Result] = field(default_factory=dict)
    done: dict[int, StepResult] = field(default_factory=dict)
    running: dict[int, _Running] = field(default_factory=dict)
    ended: dict[int, StepResult] = field(default_factory=dict)  # written by the tools' threads
    arrived: SimpleQueue[int] = field(default_factory=SimpleQueue)  # numbers of ended steps
    log: RunLog | None = None

    def take_over(self) -> None:
        """Take over what a run that was cut off has done, or may have done."""
        for logged in self.resumed.steps.values() if self.resumed else ():
            if logged.status == "ok" and not logged.undone:
                result: Result = logged.result or Unknown(reason="what it gave is not known")
            elif logged.status in OPEN_STATES:
                result = Unknown(reason="it was cut off, and nobody can tell whether it was done")
            else:
                continue
            self._finish(self.plan.step(logged.step), result)

    def look_up(self, reads: Iterable[Step]) -> None:
        """Run the steps that need nobody's approval; each is prepared when it can be."""
        waiting = {step.id: step for step in reads if step.id not in self.results}
        self._work(waiting, self._prepare, None)

    def preview(self) -> Preview:
        """Prepare everything that is left, let policy decide, and show the whole plan."""
        prepared = {
            step.id: self._prepare(step)
            for step in self.plan.steps
            if step.id not in self.results and not self._lost(step)
        }
        ready = [step for step in prepared.values() if isinstance(step, Prepared)]
        marks = Marks()
        staged, decisions = self._decide(ready, marks)
        files = any(call.files for item in staged.values() for call in item.calls or ())
        return preview(
            self.plan,
            self.tools,
            self.results,
            prepared,
            now=self.host.now,
            staged=staged,
            decisions=decisions,
            marks=marks,
            sizes={f.path: f.size for f in self.host.backend.files()} if files else {},
        )

    def _decide(
        self, ready: Iterable[Prepared], marks: Marks
    ) -> tuple[dict[int, Staged], dict[int, Decision]]:
        """Go through the steps without performing anything, and decide about each."""
        staged: dict[int, Staged] = {}
        decisions: dict[int, Decision] = {}
        foreseen = dict(self.results)
        known = self._known(ready)
        for step in ready:
            staged[step.step] = stage(step, foreseen, self.host, marks)
            foreseen[step.step] = staged[step.step].result
            decisions[step.step] = self.policy.decide(
                step, staged[step.step], foreseen=foreseen, known=known, names=self._name
            )
        return staged, decisions

    def _known(self, ready: Iterable[Prepared]) -> Trusted:
        """Collect whom the user is known to write to, if anything in the plan changes something."""
        contacts: Iterable[Contact] = ()
        if any(step.tool.effect.changes for step in ready):
            with contextlib.suppress(ToolError):  # without an address book nobody is known
                contacts = self.host.backend.contacts()
        return trusted(contacts, f"{self.policy.words}\n{self.host.request}")

    def _name(self, number: int) -> str:
        """Name a step for people: its number, what it does, and to what."""
        step = self.plan.step(number)
        about = next((f" '{arg}'" for arg in step.args if isinstance(arg, str) and arg), "")
        return f"step {number} ({step.tool.replace('_', ' ')}{about})"

    def hold(self, shown: Preview) -> None:
        """Run nothing more: a part cannot run, and nobody has agreed to the rest alone."""
        for item in shown.steps:
            if item.result is None:
                reason = item.problem or Skipped(reason="another step cannot run")
                self._finish(self.plan.step(item.id), reason)

    def execute(self, shown: Preview, approval: Approval) -> None:
        """Run what was shown, as it was shown."""
        ready: dict[int, Prepared] = {}
        for item in shown.steps:
            if item.prepared is not None:
                ready[item.id] = item.prepared
            elif item.problem is not None:
                self._finish(self.plan.step(item.id), item.problem)
        self._begin_log(ready.values(), approval)
        waiting = {number: self.plan.step(number) for number in ready}
        self._work(waiting, lambda step: ready[step.id], approval)
        self._end_log()

    def _begin_log(self, ready: Iterable[Prepared], approval: Approval) -> None:
        """Write down what is about to happen; without that nothing happens."""
        acting = [step for step in ready if step.tool.effect is not Effect.READ]
        if self.journal is None or not acting:
            return
        if self.resumed is not None:
            self.log = self.journal.reopen(self.resumed, acting)
            return
        self.log = self.journal.begin(
            acting,
            summary=self.host.request or ", ".join(step.tool.name for step in acting),
            details={
                "request": self.host.request,
                "now": self.host.now.isoformat(),
                "calls": as_calls(self.plan),
                "tools": self.tools.name,
                "backend": self.host.backend.name,
                "shown": approval.digest,
            },
        )

    def _end_log(self) -> None:
        if self.log is not None:
            with contextlib.suppress(StoreError):  # the work is done; ``resume`` will say so
                self.log.end()

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
                    self._await()
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
        action = self.log.action(step.id) if self.log is not None else None
        deadline = now() + self.policy.settings.tool_seconds
        self.running[step.id] = _Running(step=step, action=action, deadline=deadline)
        call = functools.partial(execute, item, dict(self.results), self.host, approval, action)
        arguments = (item, call, self.log, self.ended, self.arrived)
        # A daemon: a tool that hangs must not keep the program from leaving after Ctrl-C.
        threading.Thread(target=_timed, args=arguments, name=f"tool-{step.id}", daemon=True).start()

    def _await(self) -> None:
        """Wait for the next outcome, and no longer than the running steps may take."""
        left = min(item.deadline for item in self.running.values()) - now()
        try:
            number = self.arrived.get(timeout=max(left, 0))
        except Empty:
            self._expire()
        else:
            self._arrive(number)

    def _expire(self) -> None:
        """Give up on the steps that took too long; what they do from now on has no effect."""
        for number, item in list(self.running.items()):
            if item.deadline > now():
                continue
            if item.action is not None:
                item.action.close(wait_s=GRACE_S)
            if number in self.ended:  # it ended just now; its number is in the queue
                continue
            del self.running[number]
            seconds = self.policy.settings.tool_seconds
            reason = f"it took more than {seconds:g} s and was given up"
            reads = self.tools[item.step.tool].effect is Effect.READ
            self._finish(item.step, Failed(reason=reason) if reads else Unknown(reason=reason))

    def _arrive(self, number: int) -> None:
        """Take the outcome of a running step; an unclear lookup may be settled by the user."""
        if self.running.pop(number, None) is None:
            return  # it was given up before
        outcome = self.ended[number]
        tool = self.tools[outcome.tool]
        if tool.effect is Effect.READ and isinstance(outcome.result, Ambiguous):
            settled = self.choices.settle(outcome.result, tool.returns.value)
            outcome = replace(outcome, result=settled)
        self._record(outcome)

    def _prepare(self, step: Step) -> Prepared | Result:
        try:
            return prepare(step, self.tools[step.tool], self.host, self.results, self.choices)
        except BackendError as refused:  # contacts or files could not be read
            return refused.result

    def _lost(self, step: Step) -> int:
        """Return the number of a step that this one reads and that gave no value; 0 if none."""
        lost = (
            number
            for number in step.dependencies
            if number in self.results and not isinstance(self.results[number], Ok)
        )
        return next(lost, 0)

    def _finish(self, step: Step, result: Result) -> None:
        """Record a step that was not called, or that nobody waits for any more."""
        _log_outcome(self.log, step.id, result)
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
        for item in self.running.values():
            if item.action is not None:
                item.action.close(wait_s=0)
        for step in self.plan.steps:
            if step.id in self.running:
                result: Result = Unknown(reason="it was still running when it was stopped")
            else:
                result = Skipped(reason="it was stopped before it began")
            if step.id not in self.done and step.id not in self.ended:
                _log_outcome(self.log, step.id, result)
            unstarted = StepResult(id=step.id, tool=step.tool, args={}, result=result, seconds=0)
            self.done.setdefault(step.id, self.ended.get(step.id, unstarted))
        self._end_log()
        results = [self.done[step.id] for step in self.plan.steps]
        return Stopped(results, [o for o in results if self.tools[o.tool].effect.changes])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """A step at work, and until when it may be."""

    step: Step
    action: Action | None
    deadline: float


def _log_outcome(log: RunLog | None, step: int, result: Result) -> None:
    """Write down how a step ended; without that line the run counts as cut off."""
    if log is not None:
        with contextlib.suppress(StoreError):
            log.outcome(step, result)


def _timed(
    step: Prepared,
    call: Callable[[], Executed],
    log: RunLog | None,
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
        done = call()
        args, result = done.args, done.result
        _log_outcome(log, step.step, result)
    except Exception as error:
        result = Failed(reason=f"{step.tool.name} failed: {error}")
    finally:
        seconds = now() - start
        ended[step.step] = StepResult(
            id=step.step, tool=step.tool.name, args=args, result=result, seconds=seconds
        )
        arrived.put(step.step)
