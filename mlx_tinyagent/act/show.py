"""How a prepared step is written for people: resolved names, days with weekday and zone, sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo

from mlx_tinyagent.act.dates import describe
from mlx_tinyagent.act.guard import EffectCall, Marks
from mlx_tinyagent.act.resolve import Prepared
from mlx_tinyagent.plan.schema import Argument, Ref, Scalar, Template
from mlx_tinyagent.tools.base import Kind, Param

# Arguments of effects that say nothing beside the step's own, or are said otherwise.
_SILENT = frozenset(
    {"kind", "source", "all_day", "note", "note_id", "key", "values", "minutes", "start", "due"}
)
_MIDNIGHT = "T00:00:00"


def arguments(step: Prepared, now: datetime) -> tuple[tuple[str, str], ...]:
    """Return names and shown values of the arguments that say something."""
    return tuple(
        (param.name, _argument(param, step.args[param.name], step.labels, now))
        for param in step.tool.params
        if not _is_default(param, step.args[param.name])
    )


def effects(
    calls: Sequence[EffectCall] | None,
    shown: Sequence[tuple[str, str]],
    marks: Marks,
    *,
    now: datetime,
    sizes: Mapping[str, int],
) -> tuple[tuple[str, str], ...]:
    """Return what the exact effects say beside the arguments: whole texts, looked-up recipients.

    Args:
        calls: The effects; None where they are not known.
        shown: The arguments as shown.
        marks: What stands for values that are still to come.
        now: The moment that "today" and "tomorrow" count from.
        sizes: Bytes of the known files, by path.
    """
    said = [value for _, value in shown]
    lines: list[tuple[str, str]] = []
    for call in calls or ():
        for name, value in call.args:
            texts = [_effect_value(name, item, call, now, sizes) for item in _items(value)]
            told = ", ".join(marks.show(text) for text in texts if text)
            if told and not all(any(text in known for known in said) for text in texts):
                lines.append((name, told))
    return tuple(lines)


def _effect_value(
    name: str, value: object, call: EffectCall, now: datetime, sizes: Mapping[str, int]
) -> str:
    """Write one value of an effect; empty where it says nothing of its own."""
    if name in _SILENT or value in (None, False, 0, ""):
        return ""
    if name == "end":
        whole_days = str(value).endswith(_MIDNIGHT) and str(call.value("start")).endswith(_MIDNIGHT)
        return "" if whole_days else moment(str(value), now)
    if value in sizes:
        return f"{value} ({sizes[str(value)]:,} bytes)"
    return str(value)


def _items(value: object) -> Sequence[object]:
    return value if isinstance(value, tuple | list) else (value,)


def moment(iso: str, now: datetime) -> str:
    """Write a date, or a date and time with weekday and zone; other text stays as it is."""
    try:
        found = datetime.fromisoformat(iso)
    except ValueError:  # the text of an earlier step
        return iso
    text = describe(found, now)
    if "T" not in iso:
        return f"{text.rpartition(', ')[0] or text} (all day)"
    return f"{text} {zone_name(found, now.tzinfo)}".rstrip()


def zone_name(local: datetime, zone: tzinfo | None = None) -> str:
    """Return the short name of the zone that holds at a local time, such as ``CET``.

    Args:
        local: Local time without a zone.
        zone: Its zone; None for that of this machine.
    """
    try:
        return _at(local, zone).tzname() or ""
    except (OverflowError, OSError, ValueError):  # beyond what the system can reckon with
        return ""


def clock_change(local: datetime, zone: tzinfo | None = None) -> str:
    """Say whether a local time falls into a change of clocks; empty if not.

    Args:
        local: Local time without a zone.
        zone: Its zone; None for that of this machine.
    """
    try:
        first, second = (_at(local.replace(fold=fold), zone) for fold in (0, 1))
        back = _back(first, zone)
    except (OverflowError, OSError, ValueError):
        return ""
    if back != local.replace(fold=0):
        return f"{local:%H:%M} does not exist on that day: clocks are put forward"
    if first.utcoffset() != second.utcoffset():
        return f"{local:%H:%M} comes twice on that day: clocks are put back"
    return ""


def clock_changes(step: Prepared, now: datetime) -> tuple[str, ...]:
    """Say which times of a step fall into a change of clocks."""
    found: list[str] = []
    for param in step.tool.params:
        value = step.args[param.name]
        for text in value if isinstance(value, tuple) else (value,):
            if param.kind is Kind.WHEN and isinstance(text, str) and "T" in text:
                try:
                    found.append(clock_change(datetime.fromisoformat(text), now.tzinfo))
                except ValueError:
                    continue
    return tuple(filter(None, found))


def _at(local: datetime, zone: tzinfo | None) -> datetime:
    return local.replace(tzinfo=zone) if zone is not None else local.astimezone()


def _back(aware: datetime, zone: tzinfo | None) -> datetime:
    """Return the local time that a clock shows at a moment."""
    return aware.astimezone(UTC).astimezone(zone).replace(tzinfo=None, fold=0)


def _argument(param: Param, argument: Argument, labels: Mapping[str, str], now: datetime) -> str:
    items = argument if isinstance(argument, tuple) else (argument,)
    if param.kind is Kind.WHEN:
        return ", ".join(
            moment(item, now) if isinstance(item, str) else _scalar(item, labels) for item in items
        )
    return ", ".join(_scalar(item, labels) for item in items)


def _scalar(value: Scalar, labels: Mapping[str, str]) -> str:
    if isinstance(value, Ref):
        return f"[result of step {value.step}]"
    if isinstance(value, Template):
        return "".join(
            part if isinstance(part, str) else _scalar(part, labels) for part in value.parts
        )
    return labels.get(value, value) if isinstance(value, str) else str(value)


def _is_default(param: Param, argument: Argument) -> bool:
    if argument in ("", None, ()):
        return True
    return not param.required and argument == param.default and param.kind is not Kind.CHOICE
