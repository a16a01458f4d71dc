"""Plan arguments to what tools receive: dates, people, files, earlier results.

Everything here is code, not a model: a phrase is read against an explicit
now, a name against the contacts, a file name against the index. What cannot
be read, is not there, or could mean several things ends in a typed result
that asks, never in a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from mlx_tinyagent.act.dates import Resolved, resolve
from mlx_tinyagent.plan.schema import Argument, Ref, Scalar, Step, Template
from mlx_tinyagent.tools.backend import FileEntry, Host
from mlx_tinyagent.tools.base import Kind, Param, Tool
from mlx_tinyagent.tools.catalog import contact_value, find_file
from mlx_tinyagent.tools.results import (
    Failed,
    NotFound,
    Ok,
    Origin,
    Result,
    Skipped,
)

_ADDRESS = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+")
_NUMBER = re.compile(r"\+?[\d\s().\-/]{3,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call with resolved arguments: what the gate executes.

    Attributes:
        step: Number in the plan.
        tool: The tool.
        args: Values by argument name.
        origin: Lowest trust of the values that went in.
    """

    step: int
    tool: Tool
    args: Mapping[str, Any]
    origin: Origin = Origin.USER


@dataclass(frozen=True, slots=True, kw_only=True)
class Dates:
    """The dates of one step as read, by argument name.

    Attributes:
        values: ISO 8601: a date where no time of day is said, else date and time.
        unread: Phrases that name no moment.
    """

    values: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)


def read_dates(step: Step, tool: Tool, now: datetime) -> Dates:
    """Read the date arguments of a step.

    An argument that is the end of another is read relative to it; where it is
    empty and the other phrase is a range, the range's end is taken.
    """
    dates = Dates()
    found: dict[str, Resolved] = {}
    for param, value in zip(tool.params, step.args, strict=True):
        if param.kind is not Kind.WHEN or not isinstance(value, str):
            continue
        start = found.get(param.after) if param.after else None
        if value.strip():
            moment = resolve(value, start.start if start else now)
            if moment is None:
                dates.unread[param.name] = value
            else:
                found[param.name] = moment
                dates.values[param.name] = _iso(moment.start, moment.has_time)
        elif start is not None and start.end is not None and start.has_time:
            dates.values[param.name] = _iso(start.end, True)
    return dates


def resolved_dates(step: Step, tool: Tool, now: datetime) -> dict[str, str]:
    """Return a step's dates as full local ISO 8601, for reports; unread ones are left out."""
    values = read_dates(step, tool, now).values
    return {name: datetime.fromisoformat(value).isoformat() for name, value in values.items()}


def resolve_step(
    step: Step, tool: Tool, host: Host, results: Mapping[int, Result]
) -> Call | Result:
    """Return the call a step stands for, or why it cannot be made.

    Args:
        step: The step.
        tool: Its tool.
        host: Contacts, files, now.
        results: Results of earlier steps by number.
    """
    dates = read_dates(step, tool, host.now)
    if dates.unread:
        name, phrase = next(iter(dates.unread.items()))
        return NotFound(what=f"a date in '{phrase}' ({tool.name}.{name})")
    args: dict[str, Any] = {}
    origins = [Origin.USER]
    for param, argument in zip(tool.params, step.args, strict=True):
        if param.name in dates.values:
            args[param.name] = dates.values[param.name]
            continue
        value = _argument(param, argument, host, results, origins)
        if isinstance(value, Result):
            return value
        args[param.name] = value
    return Call(step=step.id, tool=tool, args=args, origin=_lowest(origins))


def resolve_entity(param: Param, text: str, host: Host) -> str | Result:
    """Turn a written name into an address, number or path, or say why not."""
    if not text or param.entity is None:
        return text
    if param.entity == "file":
        found_file = find_file(host, text)
        return found_file.path if isinstance(found_file, FileEntry) else found_file
    if _ADDRESS.fullmatch(text) or (param.entity == "contact-phone" and _NUMBER.fullmatch(text)):
        return text
    what: Literal["email", "phone"] = "phone" if param.entity == "contact-phone" else "email"
    found = contact_value(host, text, what)
    return found.value.text if isinstance(found, Ok) else found


def _argument(
    param: Param,
    argument: Argument,
    host: Host,
    results: Mapping[int, Result],
    origins: list[Origin],
) -> Any:
    if not isinstance(argument, tuple):
        return _scalar(param, argument, host, results, origins)
    values = []
    for item in argument:
        value = _scalar(param, item, host, results, origins)
        if isinstance(value, Result):
            return value
        values.append(value)
    return list(dict.fromkeys(values))


def _scalar(
    param: Param,
    value: Scalar,
    host: Host,
    results: Mapping[int, Result],
    origins: list[Origin],
) -> Any:
    if isinstance(value, Ref):
        return _read(value, results, origins)
    if isinstance(value, Template):
        parts = []
        for part in value.parts:
            text = _read(part, results, origins) if isinstance(part, Ref) else part
            if isinstance(text, Result):
                return text
            parts.append(text)
        return "".join(parts)
    return resolve_entity(param, value, host) if isinstance(value, str) else value


def _read(ref: Ref, results: Mapping[int, Result], origins: list[Origin]) -> str | Result:
    """Return what a reference stands for; a step without a value stops its dependants."""
    result = results.get(ref.step)
    if not isinstance(result, Ok):
        return Skipped(reason=f"step {ref.step} gave no value")
    origins.append(result.value.origin)
    if ref.field is None:
        return result.value.text
    if ref.field not in result.value.fields:
        return Failed(reason=f"step {ref.step} gave no {ref.field}")
    return result.value.fields[ref.field]


def _iso(moment: datetime, has_time: bool) -> str:
    return moment.isoformat() if has_time else moment.date().isoformat()


def _lowest(origins: list[Origin]) -> Origin:
    order = list(Origin)
    return max(origins, key=order.index)
