"""Requests about what is in the store that code can read: "what did I plan for friday?".

Questions about a day, and commands that name a row that is there ("tick off
milk", "cancel the standup"). What is not read here in full goes to the planner.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from mlx_tinyagent.act.dates import resolve
from mlx_tinyagent.act.resolve import read_dates
from mlx_tinyagent.plan.schema import Argument, Plan, Step
from mlx_tinyagent.tools.agenda import Agenda, Sort
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.store_tools import STORE

_LEAD = re.compile(
    r"(?:(?:so|hey|ok|okay|please|and)[,.!]?\s+)*(?:(?:can|could|would|will)\s+you\s+)?(?:please\s+)?"
    r"(?:(?:tell|let)\s+me\s+(?:know\s+)?|i\s+(?:want|need)\s+to\s+)?",
    re.IGNORECASE,
)
_TAIL = re.compile(r"(?:\s+please|\s+for\s+me|\s+then)*\s*[.!?]*$", re.IGNORECASE)
_BOOK = r"(?:calendar|schedule|agenda|diary)"
_IN_BOOK = rf"(?:\s+(?:on|in)\s+(?:my|the)\s+{_BOOK})"
_DAY = r"(?:\s+(?:(?:on|for|at|in)\s+)?(?P<day>.+?))"
_EVENTS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"what(?:\s+else)?\s+(?:do\s+(?:i|we)\s+have|did\s+(?:i|we)\s+plan|have\s+(?:i|we)\s+"
        rf"(?:got|planned)|am\s+i\s+doing|are\s+we\s+doing)(?:\s+(?:on|planned|scheduled|going\s+on|"
        rf"coming\s+up))?{_IN_BOOK}?{_DAY}",
        rf"what(?:'?s|\s+is)\s+(?:planned|scheduled|happening|going\s+on|coming\s+up|on)"
        rf"{_IN_BOOK}?{_DAY}",
        rf"what(?:'?s|\s+is){_IN_BOOK}{_DAY}?",
        rf"what(?:'?s|\s+is|\s+does)\s+my\s+(?:{_BOOK}|day|week)(?:\s+look)?(?:\s+like)?{_DAY}?",
        rf"(?:do\s+i\s+have|have\s+i\s+got|is\s+there)\s+(?:anything|something|any\s+\w+|an?\s+"
        rf"(?:event|meeting|appointment))(?:\s+(?:on|planned|scheduled))?{_IN_BOOK}?{_DAY}",
        rf"(?:am\s+i|are\s+we)\s+(?:free|busy|available){_DAY}",
        rf"(?:show|list|read|check)(?:\s+me)?(?:\s+all)?\s+(?:my|the)\s+(?:events?|meetings?|"
        rf"appointments?|plans?|{_BOOK}){_DAY}?",
    )
)
_REMINDERS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"what\s+(?:do|must)\s+i\s+(?:have|need)\s+to\s+do{_DAY}?",
        rf"what\s+(?:are\s+my|reminders\s+do\s+i\s+have)(?:\s+(?:open\s+)?(?:reminders|tasks|"
        rf"to-?\s?dos))?{_DAY}?",
        r"what(?:'?s|\s+is)\s+on\s+my\s+(?:to-?\s?do|reminders?)(?:\s+list)?",
        rf"(?:show|list|read)(?:\s+me)?(?:\s+all)?\s+(?:my|the)\s+(?:open\s+)?(?:reminders|"
        rf"tasks|to-?\s?dos){_DAY}?",
    )
)
_NOTES = re.compile(
    r"(?:show|list)(?:\s+me)?(?:\s+all)?\s+(?:my|the)\s+notes|what\s+notes\s+(?:do\s+i\s+have|"
    r"are\s+there)|which\s+notes\s+(?:do\s+i\s+have|are\s+there)",
    re.IGNORECASE,
)
_NAME = r"(?:(?:my|the|our)\s+)?(?P<name>.+?)"
# What is done to a row, by a tool: the words for it, and what the row is called.
_PATTERNS: tuple[tuple[str, Sort, str], ...] = (
    ("list_events", "event", rf"when(?:'?s|\s+is)\s+{_NAME}"),
    (
        "complete_reminder",
        "reminder",
        rf"(?:tick|check|cross)\s+(?:off\s+)?{_NAME}(?:\s+off)?|"
        rf"(?:mark|set)\s+{_NAME.replace('name', 'marked')}\s+(?:as\s+)?(?:done|complete[d]?)",
    ),
    (
        "cancel_reminder",
        "reminder",
        rf"(?:delete|remove|cancel)\s+(?:(?:my|the)\s+)?reminder\s+(?:to\s+|for\s+|about\s+)?"
        rf"{_NAME}|(?:delete|remove|cancel)\s+{_NAME.replace('name', 'marked')}\s+reminder",
    ),
    (
        "delete_note",
        "note",
        rf"(?:delete|remove)\s+(?:(?:my|the)\s+)?note\s+(?:called\s+|about\s+)?{_NAME}|"
        rf"(?:delete|remove)\s+{_NAME.replace('name', 'marked')}\s+note",
    ),
    (
        "cancel_event",
        "event",
        rf"(?:cancel|delete|remove|call\s+off)\s+{_NAME}(?:\s+(?:event|from\s+my\s+{_BOOK}))?",
    ),
)
_COMMANDS = tuple(
    (tool, sort, re.compile(pattern, re.IGNORECASE)) for tool, sort, pattern in _PATTERNS
)


def stored(text: str, agenda: Agenda, tools: ToolSet, now: datetime) -> Plan | None:
    """Read a request about the store; None if it is none that code understands in full.

    Args:
        text: What the user said.
        agenda: What is in the store.
        tools: Enabled tools; without those of the store nothing is read.
        now: The moment that relative dates refer to.
    """
    words = _TAIL.sub("", text.strip())
    lead = _LEAD.match(words)
    line = words[lead.end() :] if lead else words
    plans = (*_questions(line), *_commands(line, agenda, now))
    for tool, args in plans:
        if tool not in tools or tools[tool] is not STORE[tool]:
            continue
        step = Step(1, tool, args)
        if not read_dates(step, tools[tool], now).unread:
            return Plan((step,))
    return None


def _questions(line: str) -> Iterator[tuple[str, tuple[Argument, ...]]]:
    """Yield what a question about a day may mean."""
    for tool, patterns in (("list_reminders", _REMINDERS), ("list_events", _EVENTS)):
        for pattern in patterns:
            if found := pattern.fullmatch(line):
                yield tool, ((found.groupdict().get("day") or "").strip(), "")
    if _NOTES.fullmatch(line):
        yield "list_notes", ("",)


def _commands(
    line: str, agenda: Agenda, now: datetime
) -> Iterator[tuple[str, tuple[Argument, ...]]]:
    """Yield what may be done to a row that is there."""
    for tool, sort, pattern in _COMMANDS:
        found = pattern.fullmatch(line)
        if found is None:
            continue
        groups = found.groupdict()
        name = (groups["name"] or groups.get("marked") or "").strip(" \"'")
        name, day = _with_day(name, sort, agenda, now)
        if not name:
            continue
        rest: dict[str, tuple[Argument, ...]] = {
            "list_events": (day, name),
            "cancel_event": (name, day),
            "cancel_reminder": (name, day),
        }
        yield tool, rest.get(tool, (name,))


def _with_day(name: str, sort: Sort, agenda: Agenda, now: datetime) -> tuple[str, str]:
    """Return the name of a row that is there, and the day behind it: "standup", "friday".

    Empty if there is no such row.
    """
    if agenda.find(sort, name):
        return name, ""
    words = name.split()
    for at in range(len(words) - 1, 0, -1):
        day = " ".join(words[at:])
        title = re.sub(r"\s+(?:on|for|at|of)$", "", " ".join(words[:at]))
        moment = resolve(day, now)
        if moment is not None and not moment.unread and agenda.find(sort, title):
            return title, day
    return "", ""
