"""The gate: what needs approval, what was approved, and the one call of a tool.

``execute`` is the only function that runs a tool for good, and ``stage`` the
only one that goes through a tool before the approval, with a backend that
performs nothing. A step that changes anything runs only as it was shown: the
approval carries the prepared steps themselves, with the dates, addresses and
paths that were on the screen, and the exact effects where they are known; the
results of other approved steps are all that may still be put in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, cast

from mlx_tinyagent.act.guard import (
    EffectCall,
    Guard,
    Marks,
    Staged,
    StepWriter,
    filled,
)
from mlx_tinyagent.act.policy import Decision
from mlx_tinyagent.act.resolve import Prepared, fill, lowest
from mlx_tinyagent.act.show import arguments, clock_changes, effects
from mlx_tinyagent.plan.schema import Plan, Step
from mlx_tinyagent.tools.backend import Action, Backend, Host, Recoverable, Sender, Transactional
from mlx_tinyagent.tools.base import Effect, Kind, Tool, ToolSet
from mlx_tinyagent.tools.results import Failed, Ok, Origin, Result, Skipped, Unknown, Value

ASKING = Decision(verdict="ask")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewStep:
    """One step as shown for approval.

    Attributes:
        id: Number in the plan.
        tool: Tool name.
        effect: What it does to the world.
        changes: Whether it changes something.
        args: Argument name and shown value; defaults are left out. What its exact
            effects say besides follows: whole texts, looked-up recipients.
        result: What came of it, if it is a lookup that has run.
        prepared: What will run; None if it has run or will not.
        problem: Why it will not run; None if it will or has.
        asks: Whether it needs a yes.
        warnings: One line each for what only a person can agree to.
        staged: Its exact effects, as far as they are known before it runs.
    """

    id: int
    tool: str
    effect: str
    changes: bool
    args: tuple[tuple[str, str], ...] = ()
    result: Result | None = None
    prepared: Prepared | None = None
    problem: Result | None = None
    asks: bool = False
    warnings: tuple[str, ...] = ()
    staged: Staged | None = None

    @property
    def blocked(self) -> bool:
        """Whether it will not run."""
        return self.problem is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A whole plan as shown for approval.

    Attributes:
        steps: All steps in order.
        marks: What stands for values that are still to come.
        denied: Why policy lets nothing of it run; empty if it does.
    """

    steps: tuple[PreviewStep, ...]
    marks: Marks = field(default_factory=Marks, compare=False)
    denied: str = ""

    @property
    def changes(self) -> bool:
        """Whether anything that can run changes something."""
        return any(step.changes and not step.blocked for step in self.steps)

    @property
    def asks(self) -> bool:
        """Whether anything that can run needs a yes."""
        return any(step.asks and not step.blocked for step in self.steps)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What only a person who has seen it can agree to; ``--yes`` does not cover it."""
        return tuple(
            f"step {step.id}: {line}"
            for step in self.steps
            if not step.blocked
            for line in step.warnings
        )

    @property
    def complete(self) -> bool:
        """Whether every step has run or can."""
        return not any(
            step.blocked or not isinstance(step.result, Ok | None) for step in self.steps
        )

    @property
    def digest(self) -> str:
        """sha256 of what is shown and of the values and effects that will be used."""
        shown = [
            [
                *(step.id, step.tool, step.effect, step.args, step.blocked, step.warnings),
                *(_values(step.prepared), _calls(step.staged, self.marks)),
            ]
            for step in self.steps
        ]
        return hashlib.sha256(json.dumps(shown).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A yes to what was shown.

    Attributes:
        digest: Of the preview that was shown.
        steps: The steps that may run, by number.
        staged: Their effects as shown, by number.
        marks: What stands in them for values that were still to come.
    """

    digest: str
    steps: Mapping[int, Prepared]
    staged: Mapping[int, Staged] = field(default_factory=dict)
    marks: Marks = field(default_factory=Marks, compare=False)

    def covers(self, step: Prepared) -> bool:
        """Whether exactly this step, with exactly these values, was approved."""
        return self.steps.get(step.step) == step


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """A call that was made, or why it was not.

    Attributes:
        args: What the tool received; empty if it was not called.
        result: The outcome.
        calls: Effects that a backend was asked for.
    """

    args: Mapping[str, Any] = field(default_factory=dict)
    result: Result
    calls: tuple[EffectCall, ...] = ()


def preview(
    plan: Plan,
    tools: ToolSet,
    results: Mapping[int, Result],
    prepared: Mapping[int, Prepared | Result],
    *,
    now: datetime,
    staged: Mapping[int, Staged] | None = None,
    decisions: Mapping[int, Decision] | None = None,
    marks: Marks | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Preview:
    """Show a plan with everything that is known: dates, people, files, values already read.

    Args:
        plan: A checked plan.
        tools: Its tools.
        results: Results of the lookups that have run.
        prepared: Every other step, prepared, or why it cannot run.
        now: The moment that "today" and "tomorrow" count from.
        staged: What the steps would do, by number.
        decisions: What policy says about them; without one, changes are asked about.
        marks: What stands for values that are still to come.
        sizes: Bytes of the known files, by path.
    """
    steps: dict[int, PreviewStep] = {}
    marks, known, decided = marks or Marks(), staged or {}, decisions or {}
    for step in plan.steps:
        tool = tools[step.tool]
        ready = prepared.get(step.id)
        lost = next((k for k in step.dependencies if steps[k].blocked or _no_value(results, k)), 0)
        foreseen = known.get(step.id)
        if step.id in results:
            shown = _shown(step, tool, result=results[step.id])
        elif lost:
            shown = _shown(step, tool, problem=Skipped(reason=f"it needs step {lost}"))
        elif not isinstance(ready, Prepared):
            shown = _shown(step, tool, problem=ready or Failed(reason="it was not prepared"))
        elif foreseen is not None and not isinstance(foreseen.result, Ok):
            shown = _shown(step, tool, problem=foreseen.result)
        else:
            args = arguments(ready, now)
            calls = foreseen.calls if foreseen else None
            more = effects(calls, args, marks, now=now, sizes=sizes or {})
            shown = _shown(step, tool, args=(*args, *more), prepared=ready)
            shown = _decided(shown, ready, foreseen, decided.get(step.id, ASKING), now)
        steps[step.id] = shown
    denied = next((d.reason for d in decided.values() if d.verdict == "deny"), "")
    return Preview(steps=tuple(steps.values()), marks=marks, denied=denied)


def approve(shown: Preview) -> Approval:
    """Make the approval of a preview that was answered with yes."""
    steps = {step.id: step.prepared for step in shown.steps if step.prepared is not None}
    staged = {step.id: step.staged for step in shown.steps if step.staged is not None}
    return Approval(
        digest=shown.digest,
        steps=MappingProxyType(steps),
        staged=MappingProxyType(staged),
        marks=shown.marks,
    )


def stage(step: Prepared, foreseen: Mapping[int, Result], host: Host, marks: Marks) -> Staged:
    """Go through a step as far as that is possible without changing anything.

    Args:
        step: The prepared step.
        foreseen: What the steps it reads gave, or seem to give.
        host: What a tool can reach; effects are noted, not performed.
        marks: What stands for values that are still to come.
    """
    tool = step.tool
    unknown = Staged(calls=None, result=marks.value(step.step, tool))
    call = fill(step, foreseen)
    if isinstance(call, Result):
        return Staged(calls=None, result=call)
    if not (tool.staged or tool.effect is Effect.READ) or not _can_stage(tool, call.args, marks):
        return unknown
    guard = Guard(
        host.backend,
        tool.effect,
        perform=False,
        foresee=lambda method, args: _foreseen(method, args, marks.value(step.step, tool)),
    )
    writer = StepWriter(host.writer)
    seen = replace(host, backend=cast(Backend, guard), writer=writer)
    result = guard.refusal or _invoke(tool, seen, call.args)
    if isinstance(result, Ok):
        result = _trusted_as(result, call.origin, guard.origin)
    return Staged(
        calls=tuple(guard.calls), result=result, reads=guard.reads, written=writer.written
    )


def execute(
    step: Prepared,
    results: Mapping[int, Result],
    host: object,
    approval: Approval | None,
    action: Action | None = None,
) -> Executed:
    """Run one step; the only place where a tool runs for good.

    Args:
        step: The prepared step.
        results: Results of the steps it reads.
        host: What the tool can reach.
        approval: The user's yes; needed for tools that change something.
        action: What the journal knows the step by; None where nothing is journaled.
    """
    if step.tool.effect.changes and (approval is None or not approval.covers(step)):
        return Executed(result=Skipped(reason=f"step {step.step} was not approved"))
    call = fill(step, results)
    if isinstance(call, Result):
        return Executed(result=call)
    if not isinstance(host, Host):
        return Executed(args=call.args, result=_invoke(step.tool, host, call.args))
    staged = approval.staged.get(step.step) if approval else None
    if staged is not None and approval is not None:
        staged = filled(staged, approval.marks, results)
    guard = Guard(
        _acting(host.backend, action),
        step.tool.effect,
        perform=True,
        expected=staged.calls if staged else None,
        action=action,
        reads=staged.reads if staged else None,
    )
    writer = StepWriter(host.writer, staged.written if staged else None)
    seen = replace(host, backend=cast(Backend, guard), writer=writer)
    result = _invoke(step.tool, seen, call.args)
    if isinstance(result, Ok):
        result = _trusted_as(result, call.origin, guard.origin)
    return Executed(args=call.args, result=guard.refusal or result, calls=tuple(guard.calls))


def find_effect(backend: Backend, key: str) -> Result:
    """Look whether the effect that carries a key took place.

    Args:
        backend: Where it was to happen.
        key: The step's idempotency key.

    Returns:
        ``Ok`` if it did, ``NotFound`` if it surely did not, anything else if nobody can tell.
    """
    if not isinstance(backend, Recoverable):
        return Unknown(reason=f"the backend {backend.name} cannot look for what it did")
    return backend.find(key)


def take_back(backend: Backend, record: str) -> Result:
    """Undo an effect outside the store.

    Args:
        backend: Where it happened.
        record: Of the result that it ended in.

    Returns:
        ``Ok`` or ``NotFound`` if it is as before, else why it cannot be taken back.
    """
    if not isinstance(backend, Recoverable):
        return Failed(reason=f"the backend {backend.name} cannot take it back")
    return backend.undo(record)


def send(backend: Backend, kind: str, payload: Mapping[str, Any], *, key: str) -> Result:
    """Send one message of the outbox for good.

    Args:
        backend: What can send.
        kind: ``mail`` or ``message``.
        payload: Recipients, subject, text, files.
        key: What the message carries.

    Returns:
        ``Ok`` if it went, ``Unknown`` if nobody can tell, anything else if it surely did not.
    """
    if not isinstance(backend, Sender):
        return Failed(reason=f"the backend {backend.name} cannot send")
    try:
        return backend.deliver(kind, payload, key=key)
    except Exception as error:  # it may have gone before the error came
        return Unknown(reason=str(error) or type(error).__name__)


def _acting(backend: Backend, action: Action | None) -> Backend:
    """Return the view of a backend whose effects carry a step's key, or tell its journal."""
    if action is None:
        return backend
    if isinstance(backend, Transactional):
        return backend.with_action(action)
    return backend.with_key(action.key) if isinstance(backend, Recoverable) else backend


def _invoke(tool: Tool, host: object, args: Mapping[str, Any]) -> Result:
    try:
        return tool.invoke(host, args)
    except SystemExit:  # a foreign tool must not end the program
        return Failed(reason=f"{tool.name} failed: it called exit()")


def _trusted_as(result: Ok, *origins: Origin) -> Ok:
    """Trust a result no more than what went in."""
    value = replace(result.value, origin=lowest([result.value.origin, *origins]))
    return replace(result, value=value)


def _can_stage(tool: Tool, args: Mapping[str, Any], marks: Marks) -> bool:
    """Whether values that are still to come stand only where they are text to be written."""
    held = [param for param in tool.params if marks.within(args[param.name])]
    return all(param.kind is Kind.TEMPLATE for param in held) and not (
        held and tool.effect is Effect.READ
    )


def _foreseen(method: str, args: Mapping[str, Any], marked: Ok) -> Ok:
    """Return what an effect that was only noted seems to give."""
    if method == "open_file":
        path = str(args["path"])
        fields = {"path": path, "name": path.rpartition("/")[2]}
        return Ok(value=Value(text=path, fields=fields))
    if method == "open_url":
        url = str(args["url"])
        return Ok(value=Value(text=url, fields={"url": url}))
    return marked


def _decided(
    shown: PreviewStep, ready: Prepared, foreseen: Staged | None, decision: Decision, now: datetime
) -> PreviewStep:
    """Say of a step that can run whether it needs a yes, and what only a person can agree to."""
    asks = ready.tool.effect.changes if decision is ASKING else decision.verdict == "ask"
    odd = clock_changes(ready, now)
    return replace(shown, asks=asks, warnings=(*decision.warnings, *odd), staged=foreseen)


def _no_value(results: Mapping[int, Result], number: int) -> bool:
    return number in results and not isinstance(results[number], Ok)


def _shown(
    step: Step,
    tool: Tool,
    *,
    args: tuple[tuple[str, str], ...] = (),
    result: Result | None = None,
    prepared: Prepared | None = None,
    problem: Result | None = None,
) -> PreviewStep:
    return PreviewStep(
        id=step.id,
        tool=tool.name,
        effect=tool.effect.value,
        changes=tool.effect.changes,
        args=args,
        result=result,
        prepared=prepared,
        problem=problem,
    )


def _values(step: Prepared | None) -> list[Any] | None:
    """Return the values of a step as plain data, references as what they are."""
    if step is None:
        return None
    return [[name, repr(argument)] for name, argument in step.args.items()]


def _calls(staged: Staged | None, marks: Marks) -> list[Any] | None:
    """Return the effects of a step as plain data that does not depend on the run's marks."""
    if staged is None or staged.calls is None:
        return None
    return [marks.show(json.dumps(call.plain())) for call in staged.calls]
