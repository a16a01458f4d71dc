"""The gate: what needs approval, what was approved, and the one call of a tool.

``execute`` is the only function that runs a tool. A step that changes anything
runs only as it was shown: the approval carries the prepared steps themselves,
with the dates, addresses and paths that were on the screen, and the results of
other approved steps are all that may still be put in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from mlx_tinyagent.act.dates import describe
from mlx_tinyagent.act.resolve import Prepared, fill
from mlx_tinyagent.plan.schema import Argument, Plan, Ref, Scalar, Step, Template
from mlx_tinyagent.tools.base import Kind, Param, Tool, ToolSet
from mlx_tinyagent.tools.results import Failed, Ok, Result, Skipped


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewStep:
    """One step as shown for approval.

    Attributes:
        id: Number in the plan.
        tool: Tool name.
        effect: What it does to the world.
        changes: Whether it needs approval.
        args: Argument name and shown value; defaults are left out.
        result: What came of it, if it is a lookup that has run.
        prepared: What will run; None if it has run or will not.
        problem: Why it will not run; None if it will or has.
    """

    id: int
    tool: str
    effect: str
    changes: bool
    args: tuple[tuple[str, str], ...] = ()
    result: Result | None = None
    prepared: Prepared | None = None
    problem: Result | None = None

    @property
    def blocked(self) -> bool:
        """Whether it will not run."""
        return self.problem is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A whole plan as shown for approval.

    Attributes:
        steps: All steps in order.
    """

    steps: tuple[PreviewStep, ...]

    @property
    def changes(self) -> bool:
        """Whether anything that can run needs approval."""
        return any(step.changes and not step.blocked for step in self.steps)

    @property
    def complete(self) -> bool:
        """Whether every step has run or can."""
        return not any(
            step.blocked or not isinstance(step.result, Ok | None) for step in self.steps
        )

    @property
    def digest(self) -> str:
        """sha256 of what is shown and of the values that will be used."""
        shown = [
            [step.id, step.tool, step.effect, step.args, step.blocked, _values(step.prepared)]
            for step in self.steps
        ]
        return hashlib.sha256(json.dumps(shown).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A yes to what was shown.

    Attributes:
        digest: Of the preview that was shown.
        steps: The steps that may run, by number.
    """

    digest: str
    steps: Mapping[int, Prepared]

    def covers(self, step: Prepared) -> bool:
        """Whether exactly this step, with exactly these values, was approved."""
        return self.steps.get(step.step) == step


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """A call that was made, or why it was not.

    Attributes:
        args: What the tool received; empty if it was not called.
        result: The outcome.
    """

    args: Mapping[str, Any] = field(default_factory=dict)
    result: Result


def preview(
    plan: Plan,
    tools: ToolSet,
    results: Mapping[int, Result],
    prepared: Mapping[int, Prepared | Result],
    *,
    now: datetime,
) -> Preview:
    """Show a plan with everything that is known: dates, people, files, values already read.

    Args:
        plan: A checked plan.
        tools: Its tools.
        results: Results of the lookups that have run.
        prepared: Every other step, prepared, or why it cannot run.
        now: The moment that "today" and "tomorrow" count from.
    """
    steps: dict[int, PreviewStep] = {}
    for step in plan.steps:
        tool = tools[step.tool]
        ready = prepared.get(step.id)
        lost = next((k for k in step.dependencies if steps[k].blocked or _no_value(results, k)), 0)
        if step.id in results:
            shown = _shown(step, tool, result=results[step.id])
        elif lost:
            shown = _shown(step, tool, problem=Skipped(reason=f"it needs step {lost}"))
        elif isinstance(ready, Prepared):
            shown = _shown(step, tool, args=_arguments(ready, now), prepared=ready)
        else:
            shown = _shown(step, tool, problem=ready or Failed(reason="it was not prepared"))
        steps[step.id] = shown
    return Preview(steps=tuple(steps.values()))


def approve(shown: Preview) -> Approval:
    """Make the approval of a preview that was answered with yes."""
    steps = {step.id: step.prepared for step in shown.steps if step.prepared is not None}
    return Approval(digest=shown.digest, steps=MappingProxyType(steps))


def execute(
    step: Prepared, results: Mapping[int, Result], host: object, approval: Approval | None
) -> Executed:
    """Run one step; the only place where a tool runs.

    Args:
        step: The prepared step.
        results: Results of the steps it reads.
        host: What the tool can reach.
        approval: The user's yes; needed for tools that change something.
    """
    if step.tool.effect.changes and (approval is None or not approval.covers(step)):
        return Executed(result=Skipped(reason=f"step {step.step} was not approved"))
    call = fill(step, results)
    if isinstance(call, Result):
        return Executed(result=call)
    try:
        result = step.tool.invoke(host, call.args)
    except SystemExit:  # a foreign tool must not end the program
        result = Failed(reason=f"{step.tool.name} failed: it called exit()")
    return Executed(args=call.args, result=result)


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


def _arguments(step: Prepared, now: datetime) -> tuple[tuple[str, str], ...]:
    """Return names and shown values of the arguments that say something."""
    return tuple(
        (param.name, _show(param, step.args[param.name], step.labels, now))
        for param in step.tool.params
        if not _is_default(param, step.args[param.name])
    )


def _show(param: Param, argument: Argument, labels: Mapping[str, str], now: datetime) -> str:
    items = argument if isinstance(argument, tuple) else (argument,)
    if param.kind is Kind.WHEN:
        return ", ".join(
            _moment(item, now) if isinstance(item, str) else _show_scalar(item, labels)
            for item in items
        )
    return ", ".join(_show_scalar(item, labels) for item in items)


def _moment(iso: str, now: datetime) -> str:
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:  # the text of an earlier step
        return iso
    text = describe(moment, now)
    return text if "T" in iso else f"{text.rpartition(', ')[0] or text} (all day)"


def _show_scalar(value: Scalar, labels: Mapping[str, str]) -> str:
    if isinstance(value, Ref):
        return f"[result of step {value.step}]"
    if isinstance(value, Template):
        return "".join(
            part if isinstance(part, str) else _show_scalar(part, labels) for part in value.parts
        )
    return labels.get(value, value) if isinstance(value, str) else str(value)


def _is_default(param: Param, argument: Argument) -> bool:
    if argument in ("", None, ()):
        return True
    return not param.required and argument == param.default and param.kind is not Kind.CHOICE


def _values(step: Prepared | None) -> list[Any] | None:
    """Return the values of a step as plain data, references as what they are."""
    if step is None:
        return None
    return [[name, repr(argument)] for name, argument in step.args.items()]
