"""Raw steps to a checked plan: names, order, arity, types, references, limits.

A plan that comes out of ``bind`` can run: every step calls an offered tool
with values of the right types and reads earlier steps only, so the graph has
no cycle. No call starts before the whole plan has passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from reprlib import Repr
from typing import Any

from mlx_tinyagent.errors import PlanError
from mlx_tinyagent.plan.schema import (
    Argument,
    Plan,
    Ref,
    Scalar,
    Step,
    Template,
    parse_ref,
    parse_template,
)
from mlx_tinyagent.plan.text import (
    MAX_ARGUMENT_CHARS,
    MAX_PLAN_CHARS,
    RawArgument,
    RawScalar,
    RawStep,
    in_range,
    parse_number,
    read,
    write,
)
from mlx_tinyagent.tools.base import Kind, Param, Tool, ToolSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on a plan; beyond them it is invalid, never cut."""

    steps: int = 16
    effects: int = 5  # steps that draft, write, send or delete
    list_items: int = 64
    question_chars: int = 400


DEFAULT_LIMITS = Limits()
SHOWN_CHARS = 60  # of a faulty value in an error message


def parse(text: str, tools: ToolSet, limits: Limits = DEFAULT_LIMITS) -> Plan:
    """Read and check a whole plan text.

    Args:
        text: The plan.
        tools: The tools it may call.
        limits: Bounds.

    Raises:
        PlanError: The text or the plan breaks a rule; the message names the line and the rule.
    """
    return bind(read(text), tools, limits)


def bind(raw: Sequence[RawStep], tools: ToolSet, limits: Limits = DEFAULT_LIMITS) -> Plan:
    """Check raw steps against tool declarations and turn references into values.

    Args:
        raw: Steps as read; the last is ``join``.
        tools: The tools that may be called.
        limits: Bounds.

    Raises:
        PlanError: A step breaks a rule.
    """
    if not raw or raw[-1].name != "join":
        raise PlanError("the plan ends without join()", rule="no-join")
    _check_numbers(raw)
    for step in raw:
        _check_values(step)
    if raw[-1].args or raw[-1].named:
        raise PlanError("join() takes no arguments", line=raw[-1].line, rule="arity")
    actions = raw[:-1]
    control = [step for step in actions if step.name in ("ask", "more_tools")]
    if control:
        return _bind_control(control[0], alone=len(actions) == 1, limits=limits)
    if len(actions) > limits.steps:
        raise PlanError(f"{len(actions)} steps, {limits.steps} at most", rule="steps")
    steps: list[Step] = []
    for action in actions:
        steps.append(_bind_step(action, steps, len(actions), tools, limits))
    effects = sum(tools[step.tool].effect.changes for step in steps)
    if effects > limits.effects:
        raise PlanError(
            f"{effects} steps change something, {limits.effects} at most", rule="effects"
        )
    plan = Plan(tuple(steps))
    size = len(write(plan, thoughts=True))
    if size > MAX_PLAN_CHARS:
        raise PlanError(
            f"the plan has {size} characters in canonical form, {MAX_PLAN_CHARS} at most",
            rule="plan-size",
        )
    return plan


def _check_numbers(raw: Sequence[RawStep]) -> None:
    for expected, step in enumerate(raw, start=1):
        if step.id != expected:
            raise PlanError(
                f"step is numbered {step.id}, expected {expected}", line=step.line, rule="order"
            )


def _check_values(step: RawStep) -> None:
    """Check what every argument must keep to, whatever the tool: sort of value and size."""
    for name, value in [*enumerate(step.args, start=1), *step.named.items()]:
        where = f"{_clip(step.name)}, argument {_clip(str(name))}"
        items = value if isinstance(value, list | tuple) else [value]
        for item in items:
            if item is not None and not isinstance(item, str | int | float):
                raise PlanError(
                    f"{where}: expected text, a number, True, False, None or a list of these, "
                    f"got {type(item).__name__}",
                    line=step.line,
                    rule="type",
                )
            if isinstance(item, str) and not _encodable(item):
                raise PlanError(
                    f"{where}: {_shown(item)} holds a lone surrogate, which is not Unicode text",
                    line=step.line,
                    rule="encoding",
                )
            if isinstance(item, int | float) and not in_range(item):
                raise PlanError(f"{where}: a number out of range", line=step.line, rule="type")
        size = sum(len(item) for item in items if isinstance(item, str))
        if size > MAX_ARGUMENT_CHARS:
            raise PlanError(
                f"{where}: {size} characters, {MAX_ARGUMENT_CHARS} at most",
                line=step.line,
                rule="argument-size",
            )


def _encodable(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _clip(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."


def _shown(value: object) -> str:
    """Write a faulty value for an error message, cut to a line's length and a few levels."""
    writer = Repr()
    writer.maxstring = SHOWN_CHARS
    return _clip(writer.repr(value))


def _bind_control(step: RawStep, *, alone: bool, limits: Limits) -> Plan:
    """Check ``ask("...")`` or ``more_tools([...])``, which stand alone before join()."""
    if not alone:
        raise PlanError(
            f"{step.name}() must be the only step before join()", line=step.line, rule="control"
        )
    if step.named or len(step.args) != 1:
        raise PlanError(f"{step.name}() takes one argument", line=step.line, rule="arity")
    (value,) = step.args
    if step.name == "ask":
        if not isinstance(value, str) or not value.strip() or len(value) > limits.question_chars:
            raise PlanError(
                f"ask() takes a question of 1 to {limits.question_chars} characters",
                line=step.line,
                rule="type",
            )
        return Plan(ask=value)
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names:
        raise PlanError("more_tools() takes a list of tool names", line=step.line, rule="type")
    if len(names) > limits.list_items:
        raise PlanError(
            f"more_tools() names {len(names)} tools, {limits.list_items} at most",
            line=step.line,
            rule="argument-size",
        )
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise PlanError(
                f"more_tools() takes tool names, got {_shown(name)}", line=step.line, rule="type"
            )
    return Plan(more_tools=tuple(str(name) for name in names))


def _bind_step(
    action: RawStep, earlier: Sequence[Step], total: int, tools: ToolSet, limits: Limits
) -> Step:
    if action.name not in tools:
        near = get_close_matches(action.name, tools.names, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; offered: {', '.join(tools.names)}"
        raise PlanError(
            f"no tool is called {_clip(action.name)}{hint}",
            line=action.line,
            rule="unknown-tool",
        )
    declared = tools[action.name]
    values = _arrange(action, declared)
    checker = _Checker(action, declared, earlier, total, tools, limits)
    args = tuple(checker.argument(p, v) for p, v in zip(declared.params, values, strict=True))
    return Step(action.id, action.name, args, action.thought)


def _arrange(action: RawStep, declared: Tool) -> list[Any]:
    """Put positional and named arguments in order and fill trailing defaults."""
    params = declared.params
    if len(action.args) > len(params):
        raise PlanError(
            f"{declared.name} takes {len(params)} arguments, got {len(action.args)}",
            line=action.line,
            rule="arity",
        )
    values: dict[str, Any] = dict(zip((p.name for p in params), action.args, strict=False))
    for name, value in action.named.items():
        if name in values or all(p.name != name for p in params):
            problem = "is given twice" if name in values else "does not exist"
            raise PlanError(
                f"{declared.name}: argument {_clip(name)} {problem}",
                line=action.line,
                rule="arity",
            )
        values[name] = value
    missing = [p.name for p in params if p.name not in values and p.required]
    if missing:
        raise PlanError(
            f"{declared.name} takes {len(params)} arguments, got {len(values)}: "
            f"{', '.join(missing)} missing",
            line=action.line,
            rule="arity",
        )
    return [values.get(p.name, p.default) for p in params]


_TEXTS = (Kind.SPAN, Kind.WHEN, Kind.TEXT, Kind.TEMPLATE)


class _Checker:
    """Checks the arguments of one step."""

    def __init__(
        self,
        action: RawStep,
        declared: Tool,
        earlier: Sequence[Step],
        total: int,
        tools: ToolSet,
        limits: Limits,
    ) -> None:
        self.action, self.declared, self.limits = action, declared, limits
        self.total = total  # steps of the whole plan
        self.types = {step.id: tools[step.tool] for step in earlier}

    def fail(self, param: Param, reason: str, rule: str) -> PlanError:
        where = f"{self.declared.name}.{param.name}"
        return PlanError(f"{where}: {reason}", line=self.action.line, rule=rule)

    def argument(self, param: Param, value: RawArgument) -> Argument:
        if value is None and not (param.required or param.optional):
            value = param.default
        if param.is_list:
            return self.items(param, value)
        if isinstance(value, list | tuple):
            raise self.fail(param, f"expected one {param.kind}, got a list", "type")
        if value is None and param.optional:
            return None
        if value is None and param.kind in _TEXTS:
            value = ""
        return self.scalar(param, value)

    def items(self, param: Param, value: RawArgument) -> tuple[Scalar, ...]:
        if value is None or value == "":
            value = []
        items = value if isinstance(value, list | tuple) else [value]
        if len(items) > self.limits.list_items:
            raise self.fail(
                param, f"{len(items)} items, {self.limits.list_items} at most", "argument-size"
            )
        return tuple(self.scalar(param, item) for item in items)

    def scalar(self, param: Param, value: RawScalar) -> Scalar:
        ref = parse_ref(value) if isinstance(value, str) else None
        # Where no reference can stand, "$15" is a price unless the plan has such a step.
        if ref is not None and (param.accepts or 1 <= ref.step <= self.total):
            return self.reference(param, ref)
        match param.kind:
            case Kind.INT | Kind.FLOAT:
                return self.number(param, value)
            case Kind.BOOL:
                if not isinstance(value, bool):
                    raise self.fail(param, f"expected True or False, got {_shown(value)}", "type")
                return value
            case Kind.CHOICE:
                if value not in param.choices:
                    allowed = ", ".join(repr(choice) for choice in param.choices)
                    raise self.fail(
                        param, f"expected one of {allowed}, got {_shown(value)}", "type"
                    )
                return value
            case _:
                return self.text(param, value)

    def text(self, param: Param, value: RawScalar) -> Scalar:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.fail(param, f"expected text, got {_shown(value)}", "type")
        text = str(value)
        if param.kind is not Kind.TEMPLATE:
            return text
        template = parse_template(text)
        if isinstance(template, Template):
            for part in template.parts:
                if isinstance(part, Ref):
                    self.reference(param, part)
        return template

    def number(self, param: Param, value: RawScalar) -> Scalar:
        number = parse_number(value.strip()) if isinstance(value, str) else value
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise self.fail(param, f"expected a number, got {_shown(value)}", "type")
        if param.kind is Kind.FLOAT:
            return float(number)
        if number != int(number) or not in_range(int(number)):
            raise self.fail(param, f"expected a whole number, got {_shown(value)}", "type")
        return int(number)

    def reference(self, param: Param, ref: Ref) -> Ref:
        source = self.types.get(ref.step)
        if source is None:
            last = len(self.types)
            can = f"only $1..${last}" if last else "nothing, being the first"
            raise self.fail(
                param,
                f"reads ${ref.step}, but step {self.action.id} can read {can}",
                "forward-reference",
            )
        if ref.field is not None and ref.field not in source.fields:
            fields = ", ".join(source.fields) or "none"
            raise self.fail(
                param, f"{ref}: {source.name} has no such field (fields: {fields})", "field"
            )
        if ref.field is None and source.returns not in param.accepts:
            takes = ", ".join(sorted(param.accepts)) or "no reference"
            raise self.fail(
                param,
                f"{ref} is a {source.returns} of {source.name}, but takes {takes}",
                "reference-type",
            )
        return ref


def levels(steps: Iterable[Step]) -> list[tuple[int, ...]]:
    """Group step numbers by depth: each level reads earlier levels only."""
    depth: dict[int, int] = {}
    for step in steps:
        depth[step.id] = 1 + max((depth[k] for k in step.dependencies), default=-1)
    grouped: dict[int, list[int]] = {}
    for number, level in depth.items():
        grouped.setdefault(level, []).append(number)
    return [tuple(grouped[level]) for level in sorted(grouped)]


def without_repeats(plan: Plan) -> Plan:
    """Drop each step that says word for word what an earlier one says; its readers read that one.

    A small model may look somebody up twice, or write a reminder a second
    time. Calls without words ("next track", twice) are left alone: there,
    again may be meant.
    """
    kept: dict[tuple[str, tuple[Argument, ...]], int] = {}
    renamed: dict[int, int] = {}
    steps: list[Step] = []
    for step in plan.steps:
        args = tuple(_renumber(argument, renamed) for argument in step.args)
        call = (step.tool, args)
        if call in kept and any(not isinstance(arg, int | float | None) and arg for arg in args):
            renamed[step.id] = kept[call]
            continue
        renamed[step.id] = kept[call] = len(steps) + 1
        steps.append(Step(renamed[step.id], step.tool, args, step.thought))
    return plan if len(steps) == len(plan.steps) else replace(plan, steps=tuple(steps))


def _renumber(argument: Argument, renamed: Mapping[int, int]) -> Argument:
    """Replace the step numbers of references."""
    if isinstance(argument, tuple):
        return tuple(_renumber_one(item, renamed) for item in argument)
    return _renumber_one(argument, renamed)


def _renumber_one(value: Scalar, renamed: Mapping[int, int]) -> Scalar:
    match value:
        case Ref():
            return replace(value, step=renamed[value.step])
        case Template():
            return Template(
                tuple(
                    part if isinstance(part, str) else replace(part, step=renamed[part.step])
                    for part in value.parts
                )
            )
        case _:
            return value


def as_calls(plan: Plan) -> list[dict[str, Any]]:
    """Return the steps as plain data: ``{"id", "tool", "args"}``, references as written."""
    return [
        {"id": step.id, "tool": step.tool, "args": [_plain(a) for a in step.args]}
        for step in plan.steps
    ]


def from_calls(calls: Sequence[dict[str, Any]], tools: ToolSet) -> Plan:
    """Check plain call data and return the plan.

    Raises:
        PlanError: A call breaks a rule.
    """
    raw = [_raw_step(call, number) for number, call in enumerate(calls, start=1)]
    end = raw[-1].id + 1 if raw else 1
    return bind([*raw, RawStep(end, "join", ())], tools)


def _raw_step(call: object, line: int) -> RawStep:
    """Read one call of plain data."""
    match call:
        case {"id": int(number), "tool": str(name), "args": list() | tuple() as args} if (
            not isinstance(number, bool) and in_range(number)
        ):
            return RawStep(number, name, tuple(args), line=line)
    raise PlanError(
        f'expected {{"id": number, "tool": name, "args": list}}, found {_shown(call)}', line=line
    )


def _plain(argument: Argument) -> Any:
    if isinstance(argument, tuple):
        return [_plain(item) for item in argument]
    return str(argument) if isinstance(argument, Ref | Template) else argument
