"""The gate: what needs approval, what was approved, and the one call of a tool.

``execute`` is the only function that runs a tool. What it is given must be
covered by an approval if the tool changes anything; the approval is bound to a
hash of what was shown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mlx_tinyagent.act.dates import describe
from mlx_tinyagent.act.resolve import Call, read_dates, resolve_entity
from mlx_tinyagent.plan.schema import Argument, Plan, Ref, Scalar, Step, Template
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import Kind, Param, Tool, ToolSet
from mlx_tinyagent.tools.results import Ok, Result, Skipped


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewStep:
    """One step as shown for approval.

    Attributes:
        id: Number in the plan.
        tool: Tool name.
        effect: What it does to the world.
        args: Argument name and shown value; defaults are left out.
        changes: Whether it needs approval.
        blocked: Whether it cannot run, because a step it reads gave no value.
    """

    id: int
    tool: str
    effect: str
    args: tuple[tuple[str, str], ...]
    changes: bool
    blocked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A whole plan as shown for approval.

    Attributes:
        steps: All steps in order.
        digest: sha256 of plan and shown values; an approval carries it.
    """

    steps: tuple[PreviewStep, ...]
    digest: str

    @property
    def changes(self) -> bool:
        """Whether anything that can run needs approval."""
        return any(step.changes and not step.blocked for step in self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A yes to what was shown; ``covers`` says what it allows.

    Attributes:
        digest: Of the preview that was shown.
        steps: The steps as planned, by number.
    """

    digest: str
    steps: Mapping[int, Step]

    def covers(self, step: Step) -> bool:
        """Whether exactly this step, with exactly these planned arguments, was approved."""
        return self.steps.get(step.id) == step


def preview(plan: Plan, tools: ToolSet, host: Host, results: Mapping[int, Result]) -> Preview:
    """Show a plan with everything that is known: dates, people, files, values already read.

    Args:
        plan: A checked plan.
        tools: Its tools.
        host: Contacts, files, now.
        results: Results of reads that have run.
    """
    blocked = _blocked(plan, results)
    steps = tuple(
        _preview_step(step, tools[step.tool], host, results, blocked=step.id in blocked)
        for step in plan.steps
    )
    shown = [[step.id, step.tool, step.effect, step.args] for step in steps]
    planned = [[step.id, step.tool, [_plain(a) for a in step.args]] for step in plan.steps]
    digest = hashlib.sha256(json.dumps([shown, planned]).encode()).hexdigest()
    return Preview(steps=steps, digest=digest)


def approve(plan: Plan, shown: Preview) -> Approval:
    """Make the approval of a preview that was answered with yes."""
    return Approval(digest=shown.digest, steps={step.id: step for step in plan.steps})


def execute(call: Call, step: Step, host: Host, approval: Approval | None) -> Result:
    """Run one call; the only place where a tool runs.

    Args:
        call: The call with resolved arguments.
        step: The planned step it comes from.
        host: What the tool can reach.
        approval: The user's yes; needed for tools that change something.
    """
    if call.tool.effect.changes and (approval is None or not approval.covers(step)):
        return Skipped(reason=f"step {step.id} was not approved")
    return call.tool.invoke(host, call.args)


def _blocked(plan: Plan, results: Mapping[int, Result]) -> set[int]:
    """Return the steps that gave no value or read, directly or not, from one that did not."""
    blocked = {number for number, result in results.items() if not isinstance(result, Ok)}
    for step in plan.steps:
        if blocked.intersection(step.dependencies):
            blocked.add(step.id)
    return blocked


def _preview_step(
    step: Step, tool: Tool, host: Host, results: Mapping[int, Result], *, blocked: bool
) -> PreviewStep:
    dates = read_dates(step, tool, host.now)
    shown: list[tuple[str, str]] = []
    for param, argument in zip(tool.params, step.args, strict=True):
        if param.name in dates.values:
            shown.append((param.name, _moment(dates.values[param.name], host.now)))
        elif not _is_default(param, argument):
            shown.append((param.name, _show(param, argument, host, results)))
    return PreviewStep(
        id=step.id,
        tool=tool.name,
        effect=tool.effect.value,
        args=tuple(shown),
        changes=tool.effect.changes,
        blocked=blocked,
    )


def _moment(iso: str, now: datetime) -> str:
    moment = datetime.fromisoformat(iso)
    text = describe(moment, now)
    return text if "T" in iso else f"{text.rpartition(', ')[0] or text} (all day)"


def _show(param: Param, argument: Argument, host: Host, results: Mapping[int, Result]) -> str:
    items = argument if isinstance(argument, tuple) else (argument,)
    return ", ".join(_show_scalar(param, item, host, results) for item in items)


def _show_scalar(param: Param, value: Scalar, host: Host, results: Mapping[int, Result]) -> str:
    if isinstance(value, Ref):
        return _show_ref(value, results)
    if isinstance(value, Template):
        return "".join(
            _show_ref(part, results) if isinstance(part, Ref) else part for part in value.parts
        )
    if isinstance(value, str) and param.entity is not None:
        found = resolve_entity(param, value, host)
        return f"{value} <{found}>" if isinstance(found, str) and found != value else value
    return str(value)


def _show_ref(ref: Ref, results: Mapping[int, Result]) -> str:
    result = results.get(ref.step)
    if not isinstance(result, Ok):
        return f"[result of step {ref.step}]"
    name = result.value.fields.get("name")
    text = result.value.fields.get(ref.field, "") if ref.field else result.value.text
    return f"{name} <{text}>" if name and name != text else text


def _is_default(param: Param, argument: Argument) -> bool:
    if argument in ("", None, ()):
        return True
    return not param.required and argument == param.default and param.kind is not Kind.CHOICE


def _plain(argument: Argument) -> Any:
    items: Sequence[Scalar] = argument if isinstance(argument, tuple) else (argument,)
    return [item if isinstance(item, int | float | bool | None) else str(item) for item in items]
