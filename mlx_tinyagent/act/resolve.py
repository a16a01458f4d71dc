"""Plan arguments to what tools receive: dates, people, files, earlier results.

Everything here is code, not a model: a phrase is read against an explicit
now, a name against the contacts, a file name against the index. What cannot
be read, is not there, or could mean several things ends in a typed result
that asks, never in a guess.

Reading has two parts. ``prepare`` reads all that is known before a step runs,
so that it can be shown and approved; ``fill`` puts in the results of earlier
steps, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal

from mlx_tinyagent.act.dates import Resolved, find, resolve, unread
from mlx_tinyagent.plan.schema import Argument, Ref, Scalar, Step, Template
from mlx_tinyagent.tools.backend import FileEntry, Host, Note
from mlx_tinyagent.tools.base import Kind, Param, Tool
from mlx_tinyagent.tools.catalog import contact_value, find_file, find_note
from mlx_tinyagent.tools.match import fold
from mlx_tinyagent.tools.results import (
    Ambiguous,
    Candidate,
    Failed,
    NotFound,
    Ok,
    Origin,
    Result,
    Skipped,
    Value,
)

_ADDRESS = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+")
_NUMBER = re.compile(r"\+?[\d\s().\-/]{3,}")
_LATER = re.compile(r"\b(later|after)\b", re.IGNORECASE)
_DETAIL = re.compile(r" \([^()]*\)$")  # what tells namesakes apart in a candidate's label


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One step with everything read that can be read before it runs.

    Attributes:
        step: Number in the plan.
        tool: The tool.
        args: Values by argument name; cannot be changed. Dates are ISO 8601, names are addresses,
            numbers or paths; a reference is left only to a step without a result.
        labels: What a value is to be shown as, where its own text says too
            little: ``"Dana Lee <dana@x.example>"``.
        origin: Lowest trust of the values that are in already.
        sources: Names of arguments that hold text of others, and the steps it is from.
    """

    step: int
    tool: Tool
    args: Mapping[str, Argument]
    labels: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = Origin.USER
    sources: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def pending(self) -> tuple[int, ...]:
        """Numbers of the steps whose results are still to be put in."""
        return Step(self.step, self.tool.name, tuple(self.args.values())).dependencies


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call with resolved arguments.

    Attributes:
        args: Values by argument name.
        origin: Lowest trust of the values that went in.
    """

    args: Mapping[str, Any]
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Dates:
    """The dates of one step as read, by argument name.

    Attributes:
        values: ISO 8601: a date where no time of day is said, else date and time.
        unread: Phrases that name no moment, or of which only a part can be read; empty text
            where one is needed.
        left: What is left over of those that can be read in part.
    """

    values: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


class Choices:
    """What the user meant by names that fit several things; asks once per name.

    Args:
        ask: Offers candidates and returns the one meant, or None; None asks nobody.
    """

    def __init__(self, ask: Callable[[Ambiguous], Candidate | None] | None = None) -> None:
        self._ask = ask
        self._settled: dict[str, tuple[tuple[str, ...], int | None]] = {}

    def settle(self, unclear: Ambiguous, what: str) -> Ok | NotFound | Ambiguous:
        """Return the value of the candidate that is meant; still ``Ambiguous`` if none is.

        Args:
            unclear: What fits several things.
            what: What is wanted of it, for the message if the one meant has none.
        """
        candidate = self._chosen(unclear)
        if candidate is None:
            return unclear
        name = _DETAIL.sub("", candidate.label)
        if not candidate.value:
            return NotFound(what=f"{what} of {name}")
        fields = {"name": name, what: candidate.value}
        value = Value(text=candidate.value, fields=fields)
        return Ok(value=value, note=f"{name}: {candidate.value}")

    def _chosen(self, unclear: Ambiguous) -> Candidate | None:
        """Ask, unless the same people or things were offered under this name before."""
        if self._ask is None:
            return None
        labels = tuple(candidate.label for candidate in unclear.candidates)
        known, place = self._settled.get(unclear.what, ((), None))
        if known != labels:
            chosen = self._ask(unclear)
            place = next((i for i, c in enumerate(unclear.candidates) if c is chosen), None)
            self._settled[unclear.what] = labels, place
        return None if place is None else unclear.candidates[place]


def read_dates(step: Step, tool: Tool, now: datetime) -> Dates:
    """Read the date arguments of a step.

    An argument that is the end of another may be a duration ("90 minutes"), or
    a time alone, which is then on or after the start; where it is empty and
    the other phrase is a range of times, the range's end is taken. A phrase is read as a
    whole or not at all.
    """
    dates = Dates()
    found: dict[str, Resolved] = {}
    for param, value in zip(tool.params, step.args, strict=True):
        if param.kind is not Kind.WHEN or not isinstance(value, str):
            continue
        start = found.get(param.after) if param.after else None
        if value.strip():
            moment = _end(value, start, now) if start else resolve(value, now)
            if moment is None or moment.unread:
                dates.unread[param.name] = value
                dates.left[param.name] = moment.unread if moment else ""
            else:
                found[param.name] = moment
                dates.values[param.name] = _iso(moment.start, moment.has_time)
        elif start is not None and start.end is not None and start.has_time:
            dates.values[param.name] = _iso(start.end, True)
        elif param.required and not param.empty:
            dates.unread[param.name] = ""
    return dates


def resolved_dates(step: Step, tool: Tool, now: datetime) -> dict[str, str]:
    """Return a step's dates as full local ISO 8601, for reports; unread ones are left out."""
    values = read_dates(step, tool, now).values
    return {name: datetime.fromisoformat(value).isoformat() for name, value in values.items()}


def prepare(
    step: Step,
    tool: Tool,
    host: Host,
    results: Mapping[int, Result],
    choices: Choices | None = None,
) -> Prepared | Result:
    """Read the arguments of a step, or say why it cannot run.

    Args:
        step: The step.
        tool: Its tool.
        host: Contacts, files, now.
        results: Results so far by step number; references to others stay.
        choices: What the user meant by unclear names; None asks nobody.
    """
    dates = read_dates(step, tool, host.now)
    if dates.unread:
        name, phrase = next(iter(dates.unread.items()))
        if phrase:
            return _no_date(phrase, dates.left[name])
        return NotFound(what=f"{_words(name)} in the request")
    reader = _Reader(host, results, choices or Choices())
    args: dict[str, Argument] = {}
    sources: dict[str, tuple[int, ...]] = {}
    for param, argument in zip(tool.params, step.args, strict=True):
        value = dates.values.get(param.name) or reader.argument(param, argument)
        if param.finds and isinstance(value, str) and value:
            value = reader.found(param, value, dict(zip(tool.params, step.args, strict=True)))
        if isinstance(value, Result):
            return value
        args[param.name] = value
        if others := reader.of_others():
            sources[param.name] = others
    return Prepared(
        step=step.id,
        tool=tool,
        args=MappingProxyType(args),
        labels=MappingProxyType(reader.labels),
        origin=lowest(reader.origins),
        sources=MappingProxyType(sources),
    )


def fill(prepared: Prepared, results: Mapping[int, Result]) -> Call | Result:
    """Put the results of earlier steps in place of the references that are left.

    Each reference is replaced once and as a value: a result that looks like a
    reference stays what it is.
    """
    args: dict[str, Any] = {}
    origins = [prepared.origin]
    for param in prepared.tool.params:
        argument = prepared.args[param.name]
        items = argument if isinstance(argument, tuple) else (argument,)
        values = [_filled(item, results, origins) for item in items]
        if missing := next((value for value in values if isinstance(value, Result)), None):
            return missing
        args[param.name] = _each_once(param, values) if param.is_list else values[0]
    return Call(args=args, origin=lowest(origins))


class _Reader:
    """Reads the arguments of one step; collects how to show them and how far to trust them."""

    def __init__(self, host: Host, results: Mapping[int, Result], choices: Choices) -> None:
        self.labels: dict[str, str] = {}
        self.origins = [Origin.USER]
        self._host = host
        self._results = results
        self._choices = choices
        self._others: set[int] = set()

    def of_others(self) -> tuple[int, ...]:
        """Return, once, the steps whose text of others the last argument holds."""
        found, self._others = tuple(sorted(self._others)), set()
        return found

    def found(self, param: Param, text: str, args: Mapping[Param, Argument]) -> str | Result:
        """Make a name definite that the tool itself would look up."""
        if param.finds == "file":
            return self._file(text)
        folder = next((value for other, value in args.items() if other.name == "folder"), "")
        return self._note(text, folder if isinstance(folder, str) else "")

    def argument(self, param: Param, argument: Argument) -> Argument | Result:
        if not isinstance(argument, tuple):
            return self._scalar(param, argument)
        values: list[Scalar] = []
        for item in argument:
            value = self._scalar(param, item)
            if isinstance(value, Result):
                return value
            values.append(value)
        return tuple(_each_once(param, values))

    def _scalar(self, param: Param, value: Scalar) -> Scalar | Result:
        if isinstance(value, Ref | Template):
            return self._read(value)
        if not isinstance(value, str) or not value:
            return value
        if param.kind is Kind.WHEN:  # an item of a list: a single date is read before
            moment = resolve(value, self._host.now)
            if moment is None or moment.unread:
                return _no_date(value, moment.unread if moment else "")
            return _iso(moment.start, moment.has_time)
        return self._entity(param, value) if param.entity else value

    def _read(self, value: Ref | Template) -> Scalar | Result:
        """Put in what is known; a template stays one while a part of it is not."""
        if isinstance(value, Ref):
            if value.step not in self._results:
                return value
            text = _value(value, self._results, self.origins)
            if self.origins[-1] is Origin.UNTRUSTED:
                self._others.add(value.step)
            self._label(value)
            return text
        parts: list[str | Ref] = []
        for part in value.parts:
            known = self._read(part) if isinstance(part, Ref) else part
            if isinstance(known, Result):
                return known
            parts.append(known if isinstance(known, Ref) else str(known))
        done = all(isinstance(part, str) for part in parts)
        return "".join(map(str, parts)) if done else Template(tuple(parts))

    def _entity(self, param: Param, text: str) -> str | Result:
        """Turn a written name into an address, number or path, or say why not."""
        if param.entity == "file":
            return self._file(text)
        phone = param.entity == "contact-phone"
        if _ADDRESS.fullmatch(text) or (phone and _NUMBER.fullmatch(text)):
            return text
        what: Literal["email", "phone"] = "phone" if phone else "email"
        found = contact_value(self._host, text, what)
        if isinstance(found, Ambiguous):
            found = self._choices.settle(found, what)
        if not isinstance(found, Ok):
            return found
        self.origins.append(found.value.origin)
        self._name(found)
        return found.value.text

    def _file(self, text: str) -> str | Result:
        found: FileEntry | Result = find_file(self._host, text)
        if isinstance(found, Ambiguous):
            found = self._choices.settle(found, "path")
        if isinstance(found, FileEntry):
            self.origins.append(Origin.STORE)
            self.labels[found.path] = f"{found.path} ({found.size:,} bytes)"
            return found.path
        return found.value.text if isinstance(found, Ok) else found

    def _note(self, text: str, folder: str) -> str | Result:
        found: Note | Result = find_note(self._host, text, folder)
        if isinstance(found, Ambiguous):
            found = self._choices.settle(found, "name")
            if isinstance(found, Ok):  # told by its folder, as the candidate is
                found = find_note(self._host, found.value.text, folder)
        if not isinstance(found, Note):
            return found
        self.origins.append(Origin.STORE)
        same_name = [
            n for n in self._host.backend.notes(folder) if fold(n.name) == fold(found.name)
        ]
        name = found.name if len(same_name) == 1 else f"{found.folder}/{found.name}"
        self.labels[name] = f"{found.name} ({found.folder})"
        return name

    def _label(self, ref: Ref) -> None:
        result = self._results.get(ref.step)
        if isinstance(result, Ok) and ref.field in (None, "email", "phone"):
            self._name(result)

    def _name(self, found: Ok) -> None:
        """Remember whose address or number a value is."""
        name, text = found.value.fields.get("name"), found.value.text
        if name and name != text and {"email", "phone"} & found.value.fields.keys():
            self.labels[text] = f"{name} <{text}>"


def _filled(value: Scalar, results: Mapping[int, Result], origins: list[Origin]) -> Any:
    if isinstance(value, Ref):
        return _value(value, results, origins)
    if not isinstance(value, Template):
        return value
    parts = []
    for part in value.parts:
        text = _value(part, results, origins) if isinstance(part, Ref) else part
        if isinstance(text, Result):
            return text
        parts.append(text)
    return "".join(parts)


def _value(ref: Ref, results: Mapping[int, Result], origins: list[Origin]) -> str | Result:
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


def _end(phrase: str, start: Resolved, now: datetime) -> Resolved | None:
    """Read the end of something that begins at a known moment.

    A day that is said counts from now, as the start's does ("tomorrow at 5"). A
    time alone, "later", and a day before the start's count from the start; a
    time before the start's on the same day is what was said, and is refused
    where the event is made.
    """
    said = resolve(phrase, now)
    dated = said is not None and said.has_date and not _LATER.search(phrase)
    if said is not None and dated and said.start.date() >= start.start.date():
        return said
    later = resolve(phrase, start.start)
    if later is not None:
        return later
    length = next((part for part in find(phrase, start.start) if part.kind == "duration"), None)
    if length is None or length.end is None:
        return None
    whole_days = length.duration is not None and not length.duration.seconds
    left = unread(phrase, (length.span,))
    timed = start.has_time or not whole_days
    return replace(length, start=length.end, has_time=timed, unread=left)


def _no_date(phrase: str, left: str) -> Result:
    """Say that a phrase names no moment, or that it says more than can be read."""
    if not left:
        return NotFound(what=f"date in '{phrase}'")
    return Failed(
        reason=f"'{phrase}' can be read only in part as a date: '{left}' is left over; "
        "say it in other words"
    )


def _each_once(param: Param, values: list[Any]) -> list[Any]:
    """Drop repeated people and files; other lists stay as they are."""
    return list(dict.fromkeys(values)) if param.entity else values


def _iso(moment: datetime, has_time: bool) -> str:
    return moment.isoformat() if has_time else moment.date().isoformat()


def _words(name: str) -> str:
    return name.replace("_", " ")


def lowest(origins: Sequence[Origin]) -> Origin:
    """Return the least trusted of some origins."""
    order = list(Origin)
    return max(origins, key=order.index)
