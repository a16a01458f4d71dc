"""Follow-ups that code can read: "make it 4pm", "and invite Lena", "call it Budget".

They change the last plan, or what it made, without asking the model again. What
is not read here in full goes to the planner, which sees the last turns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from mlx_tinyagent.act.dates import find, resolve
from mlx_tinyagent.act.resolve import read_dates
from mlx_tinyagent.plan.schema import Argument, Plan, Ref, Scalar, Step, Template
from mlx_tinyagent.tools.base import Kind, Param, Tool, ToolSet

_LEAD = (
    r"(?:(?:no|ok|okay|actually|sorry|hm+|wait|oh)[,.!]?\s+)*"
    r"(?:(?:can|could|would)\s+(?:you|we)\s+)?(?:please\s+)?"
)
_CHANGE = (
    r"(?:make|move|change|put|push|shift|reschedule|set|do)\s+(?:it|that|this)"
    r"(?:\s+(?:to|for|at|on))?|(?:let's|lets)\s+(?:make|do|say)(?:\s+(?:it|that))?|(?:better|rather)"
)
_WHEN = re.compile(
    rf"{_LEAD}(?:(?P<verb>{_CHANGE})\s+)?(?P<phrase>.+?)(?P<tail>\s+instead|\s+please|\s*,?\s*rather)*"
    r"\s*[.!?]*",
    re.IGNORECASE | re.DOTALL,
)
_PEOPLE = re.compile(
    rf"{_LEAD}(?:(?:and|also|plus)\s+)*(?:invite|add|include|cc|text|tell|send\s+it\s+to|"
    r"send\s+that\s+to|email\s+it\s+to)\s+(?:also\s+)?(?P<names>[^.?!\n]{1,120}?)"
    r"(?:\s+(?:as\s+well|too|also|to\s+(?:it|that)))*\s*[.!?]*",
    re.IGNORECASE,
)
_TITLE = re.compile(
    rf"{_LEAD}(?:and\s+)?(?:call|name|title|rename)\s+(?:it|that)(?:\s+(?:to|as))?\s+"
    r"[\"'\u201c]?(?P<title>[^\"\u201c\u201d\n]{1,120}?)[\"'\u201d]?\s*[.!]*",
    re.IGNORECASE,
)
_CANCEL = re.compile(
    rf"{_LEAD}(?:cancel|delete|remove|scrap|drop)\s+(?:it|that|this)(?:\s+(?:again|please))*\s*[.!]*",
    re.IGNORECASE,
)
_OTHER = re.compile(
    rf"{_LEAD}(?:(?:and|also|what about|what's|what is|how about)\s+)*(?:his|her|their)\s+"
    r"(?P<what>e-?mail|mail|phone|number|cell|mobile)(?:\s+(?:address|number))?\s*[.?!]*",
    re.IGNORECASE,
)
# The look-up for what is asked of the person that was looked up before.
_LOOKUPS = {"email": "get_email_address", "phone": "get_phone_number"}
_SPLIT = re.compile(r"\s*,\s*(?:and\s+)?|\s+and\s+|\s*&\s*", re.IGNORECASE)
_NAME = re.compile(r"[^\W\d_][\w.'\u2019-]*(?:\s+[^\W\d_][\w.'\u2019-]*){0,3}|[^@\s]+@[^@\s]+")
# Words that no name begins with: with them the request says more than a name.
_NO_NAME = re.compile(
    r"(?:a|an|the|some|my|your|his|her|their|this|that|it|me|to|for|another|more|milk|\d+)\b",
    re.IGNORECASE,
)
# What changes a row that a tool made or changed, and the arguments that do it.
_CHANGERS = {
    "create_calendar_event": "change_event",
    "change_event": "change_event",
    "create_reminder": "change_reminder",
    "change_reminder": "change_reminder",
}
_CANCELERS = {
    "create_calendar_event": "cancel_event",
    "change_event": "cancel_event",
    "create_reminder": "cancel_reminder",
    "change_reminder": "cancel_reminder",
    "create_note": "delete_note",
}
_NEW = {
    "change_event": {"when": "new_start", "title": "new_title", "people": "add_invitees"},
    "change_reminder": {"when": "new_due", "title": "new_name"},
}
_TITLES = ("title", "name", "topic", "subject", "new_title", "new_name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What a follow-up leans on.

    Attributes:
        plan: The last plan.
        records: Keys of the rows its steps made, by step number; empty if it did not run.
        ran: Whether it changed something already.
        starts: When the rows its steps made begin or are due now, by step number.
    """

    plan: Plan
    records: Mapping[int, str] = field(default_factory=dict)
    ran: bool = False
    starts: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """A plan that a follow-up means.

    Attributes:
        plan: The plan.
        rows: Keys of the rows that names in it stand for.
    """

    plan: Plan
    rows: Mapping[str, str] = field(default_factory=dict)


def follow_up(
    text: str,
    earlier: Earlier,
    tools: ToolSet,
    now: datetime,
    *,
    is_person: Callable[[str], bool] = lambda name: True,
) -> FollowUp | None:
    """Read a follow-up; None if it is none that code understands in full.

    Args:
        text: What the user said.
        earlier: The last plan and what it made.
        tools: Enabled tools; what ran is changed by ``change_event`` and its like.
        now: The moment that relative dates refer to.
        is_person: Whether a name is someone's: "add eggs" invites nobody.
    """
    line = text.strip()
    if _CANCEL.fullmatch(line):
        return _canceled(earlier, tools)
    if match := _TITLE.fullmatch(line):
        return _renamed(match["title"].strip(), earlier, tools)
    if match := _PEOPLE.fullmatch(line):
        names = _names(match["names"])
        known = bool(names) and all(map(is_person, names))
        return _invited(names, earlier, tools) if known else None
    if match := _OTHER.fullmatch(line):
        return _looked_up("email" if "mail" in match["what"].lower() else "phone", earlier, tools)
    match = _WHEN.fullmatch(line)
    if match and (match["verb"] or match["tail"]):
        return _moved(match["phrase"].strip(" ,"), earlier, tools, now)
    return None


def edited(plan: Plan, number: int, position: int, value: Argument) -> Plan:
    """Return a plan with one argument of one step replaced."""
    steps = tuple(
        replace(step, args=_with(step.args, position, value)) if step.id == number else step
        for step in plan.steps
    )
    return replace(plan, steps=steps)


def without(plan: Plan, numbers: Sequence[int]) -> Plan:
    """Return a plan without some steps and all that need them, numbered anew."""
    gone = set(numbers)
    for step in plan.steps:
        if gone & set(step.dependencies):
            gone.add(step.id)
    kept = [step for step in plan.steps if step.id not in gone]
    places = {step.id: place for place, step in enumerate(kept, start=1)}
    return replace(plan, steps=tuple(_renumbered(step, places) for step in kept))


def _moved(phrase: str, earlier: Earlier, tools: ToolSet, now: datetime) -> FollowUp | None:
    said = resolve(phrase, now)
    if said is None or not _is_all(phrase, now):
        return None
    for step in reversed(earlier.plan.steps):
        tool = tools[step.tool]
        place = next((i for i, p in enumerate(tool.params) if p.kind is Kind.WHEN), None)
        if place is None or not isinstance(step.args[place], str):
            continue
        known = read_dates(step, tool, now).values
        before = earlier.starts.get(step.id) or known.get(tool.params[place].name, "")
        value = _moment(said.start, before, has_date=said.has_date, has_time=said.has_time)
        if earlier.ran:
            return _change(step, earlier, tools, "when", value)
        plan = edited(earlier.plan, step.id, place, value)
        if said.has_time and any(p.name == "all_day" for p in tool.params):
            at = next(i for i, p in enumerate(tool.params) if p.name == "all_day")
            plan = edited(plan, step.id, at, False)
        return FollowUp(plan=_with_end(plan, step, tool, place, before, value, known))
    return None


def _with_end(
    plan: Plan,
    step: Step,
    tool: Tool,
    place: int,
    before: str,
    value: str,
    known: Mapping[str, str],
) -> Plan:
    """Move an end along with its start."""
    start = tool.params[place].name
    for index, param in enumerate(tool.params):
        end = known.get(param.name)
        if param.after == start and end and before:
            length = datetime.fromisoformat(end) - datetime.fromisoformat(before)
            moved = datetime.fromisoformat(value) + max(length, timedelta(0))
            return edited(plan, step.id, index, moved.isoformat())
    return plan


def _moment(start: datetime, before: str, *, has_date: bool, has_time: bool) -> str:
    """Put together what is said now and what was said before: a new time, or a new day."""
    if not before or (has_date and has_time):
        return start.isoformat() if has_time else start.date().isoformat()
    old = datetime.fromisoformat(before)
    if has_time:
        return datetime.combine(old.date(), start.time()).isoformat()
    if len(before) == len("YYYY-MM-DD"):
        return start.date().isoformat()
    return datetime.combine(start.date(), old.time()).isoformat()


def _is_all(phrase: str, now: datetime) -> bool:
    """Whether a text is temporal expressions and nothing else."""
    rest = phrase
    for found in find(phrase, now):
        rest = rest.replace(found.text, " ", 1)
    return not re.sub(r"\b(?:at|on|to|for|the|by|from|in)\b|[\s,.]", "", rest, flags=re.IGNORECASE)


def _invited(names: list[str], earlier: Earlier, tools: ToolSet) -> FollowUp | None:
    for step in reversed(earlier.plan.steps):
        params = tools[step.tool].params
        place = next((i for i, p in enumerate(params) if p.is_list and _takes_people(p)), None)
        if place is None:
            continue
        if earlier.ran:
            return _change(step, earlier, tools, "people", tuple(names))
        before = step.args[place]
        people = (*before, *names) if isinstance(before, tuple) else tuple(names)
        return FollowUp(plan=edited(earlier.plan, step.id, place, people))
    return None


def _looked_up(what: str, earlier: Earlier, tools: ToolSet) -> FollowUp | None:
    """Plan to look up something else about the person of the last look-up."""
    name = _LOOKUPS[what]
    for step in reversed(earlier.plan.steps):
        if step.tool in _LOOKUPS.values() and name in tools and isinstance(step.args[0], str):
            return FollowUp(plan=Plan((Step(1, name, (step.args[0],)),)))
    return None


def _renamed(title: str, earlier: Earlier, tools: ToolSet) -> FollowUp | None:
    for step in reversed(earlier.plan.steps):
        params = tools[step.tool].params
        place = next((i for i, p in enumerate(params) if p.name in _TITLES), None)
        if place is None or not tools[step.tool].effect.changes:
            continue
        if earlier.ran:
            return _change(step, earlier, tools, "title", title)
        return FollowUp(plan=edited(earlier.plan, step.id, place, title))
    return None


def _canceled(earlier: Earlier, tools: ToolSet) -> FollowUp | None:
    """Plan to delete what the last step made that can be deleted."""
    for step in reversed(earlier.plan.steps):
        name, key = _CANCELERS.get(step.tool, ""), earlier.records.get(step.id, "")
        title = step.args[0] if step.args else None
        if name in tools and key and isinstance(title, str):
            args = [title, *(_default(param) for param in tools[name].params[1:])]
            return FollowUp(plan=Plan((Step(1, name, tuple(args)),)), rows={title: key})
    return None


def _change(
    step: Step, earlier: Earlier, tools: ToolSet, what: str, value: Argument
) -> FollowUp | None:
    """Plan a change of what a step made; None where no tool can."""
    name, key = _CHANGERS.get(step.tool, ""), earlier.records.get(step.id, "")
    title, wanted = step.args[0], _NEW.get(name, {}).get(what)
    if name not in tools or not key or wanted is None or not isinstance(title, str):
        return None
    params = tools[name].params
    args = [title, *(value if p.name == wanted else _default(p) for p in params[1:])]
    return FollowUp(plan=Plan((Step(1, name, tuple(args)),)), rows={title: key})


def _default(param: Param) -> Argument:
    default: Argument = () if param.is_list else param.default
    return default


def _takes_people(param: Param) -> bool:
    return param.entity in ("contact-email", "contact-phone")


def _names(text: str) -> list[str]:
    """Split "Lena and Sam Ortiz" into names; nothing if a part is no name."""
    names = [part.strip() for part in _SPLIT.split(text) if part.strip()]
    good = all(_NAME.fullmatch(name) and not _NO_NAME.match(name) for name in names)
    return names if good else []


def _with(args: tuple[Argument, ...], position: int, value: Argument) -> tuple[Argument, ...]:
    return (*args[:position], value, *args[position + 1 :])


def _renumbered(step: Step, places: Mapping[int, int]) -> Step:
    """Return a step under its new number, with its references following."""

    def moved(value: Scalar) -> Scalar:
        if isinstance(value, Ref):
            return Ref(places[value.step], value.field)
        if isinstance(value, Template):
            parts = [
                part if isinstance(part, str) else Ref(places[part.step], part.field)
                for part in value.parts
            ]
            return Template(tuple(parts))
        return value

    args = tuple(
        tuple(map(moved, argument)) if isinstance(argument, tuple) else moved(argument)
        for argument in step.args
    )
    return Step(places[step.id], step.tool, args, step.thought)
