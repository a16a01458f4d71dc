"""A planner without a model: cue words choose tools, patterns copy spans from the request.

The line that a trained planner has to beat. It cuts a request where a new
command begins, gives each part the tool of its first cue, and fills arguments
with names, dates, quoted texts and file names found in the part. It knows the
16 tools of TinyAgent and nothing of what words mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from mlx_tinyagent.act import dates
from mlx_tinyagent.errors import PlanError, UsageError
from mlx_tinyagent.evaluate.harness_items import Item
from mlx_tinyagent.plan.graph import from_calls
from mlx_tinyagent.plan.text import write
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.trace import Trace

ANY_DAY = datetime(2000, 1, 3)  # where date phrases stand does not depend on the moment

_VERBS = (
    "add append ask attach block book call compose copy create draft e-?mail find forward get give "
    "invite let locate mail make message note open put read remind reply schedule send set share "
    "shoot show summari[sz]e tell text write"
).split()
# A new command: after a full stop, or after "and", "then" and a comma if a verb follows.
_CUT = re.compile(
    r"(?:(?<=[.;!?])\s+|,?\s+(?:and\s+then|and\s+also|and|then|also|finally),?\s+|,\s+)"
    rf"(?=(?:finally,?\s+|also,?\s+|then,?\s+|please\s+)?(?:{'|'.join(_VERBS)})\b)",
    re.IGNORECASE,
)
_QUOTED = re.compile(r"[\"\u201c]([^\"\u201c\u201d]+)[\"\u201d]|(?<!\w)'([^']{2,})'(?!\w)")
_FILE = re.compile(  # a verb before a name is not part of it
    rf"\b(?!(?i:{'|'.join(_VERBS)})\b)[\w-]{{1,60}}(?: [A-Z][\w-]{{0,60}}){{0,6}}"
    r"\.(?:pdf|docx?|xlsx?|csv|txt|png|jpe?g|pptx?|md)\b"
)
_ADDRESS = re.compile(r"[^@\s,;<>]+@[\w.-]+\w")
_NAME = r"[A-Z][\w'\u2019-]+(?: [A-Z][\w'\u2019-]+)*"
_PEOPLE = re.compile(
    r"\b(?i:to|with|for|invite|inviting|e-?mail|mail|text|message|sms|tell|ask|remind|notify|let|cc)"
    rf"\s+(?:(?i:the|my|an?)\s+)?((?:{_NAME})(?:(?:,\s*(?:and\s+)?|\s+and\s+)(?:{_NAME}))*)"
)
_ADDRESSEE = re.compile(  # lower case: "text robby hello", "mail liz that"
    r"\b(?:text|message|sms|e-?mail|mail|tell|ask)\s+(?:(?:an?|the|my)\s+)?([a-z][\w-]+)"
    r"(?:\s+and\s+([a-z][\w-]+))?",
    re.IGNORECASE,
)
_NOT_A_NAME = frozenset(
    """a about address all an and at email everyone for from her him in is it link mail me message
    my note number of on pdf saying sms text that the them this to up us with you your
    zoom""".split()
)
_SAID = re.compile(
    r"\b(?:that|saying|says?|asking|to say|know|:)\s+(?:that\s+)?(.+)$", re.IGNORECASE | re.DOTALL
)
_TITLED = re.compile(
    r"\b(?:titled|called|named|about|regarding|subject|topic)\s+(?:the\s+)?([^,.;]+?)"
    r"(?=\s+(?:on|at|for|with|and|in|to)\b|[,.;]|$)",
    re.IGNORECASE,
)
_PLACE = re.compile(rf"\b(?:at|in|to)\s+(?:the\s+)?({_NAME})")
_START = re.compile(r"\bfrom\s+(?:the\s+)?(.+?)\s+to\b", re.IGNORECASE)
_GOAL = re.compile(
    r"\bto\s+(?:the\s+)?(.+?)(?=\s+(?:on foot|by|from|via|and)\b|[,.;?]|$)", re.IGNORECASE
)
_NOTE = re.compile(
    r"\b(?:my|the|to|called|named|titled)\s+([\w' -]+?)\s+notes?\b"
    r"|\bnotes?\s+(?:called|named|titled)\s+([\w' -]+)",
    re.IGNORECASE,
)
_COMMAND = re.compile(
    r"^(?:please\s+)?(?:add|create|schedule|put|make|set up|book|block|plan)\s+(?:an?\s+|the\s+)?",
    re.IGNORECASE,
)
_REMINDER = re.compile(r"\b(?:to|about|for)\s+(.+)$", re.IGNORECASE | re.DOTALL)


class KeywordPlanner:
    """Plans by cue words.

    Args:
        tools: Enabled tools; among the 16 of TinyAgent.

    Raises:
        UsageError: There are other tools.
    """

    def __init__(self, tools: ToolSet) -> None:
        strangers = [name for name in tools.names if name not in TINYAGENT16]
        if strangers:
            raise UsageError(
                f"the keyword planner knows the tools of {TINYAGENT16.name} only, not "
                f"{strangers[0]!r}; use another planner"
            )
        self.tools = tools

    def plan(self, item: Item) -> dict[str, Any]:
        """Plan one row; the same request always gets the same plan."""
        trace = Trace()
        with trace.span("decode"):
            draft = _Draft()
            for clause in _CUT.split(item.query):
                write_clause(clause.strip(), draft)
        error = text = None
        calls = [] if draft.question else draft.calls
        try:
            text = write(from_calls(calls, self.tools))
        except PlanError as problem:
            error, calls = f"no usable plan: {problem}", []
        return {
            "id": item.id,
            "calls": calls,
            "ask": draft.question,
            "reply": None,
            "text": text or "",
            "tools": list(self.tools.names),
            "counts": {},
            "seconds": {"total": trace.rounded()["decode"]},
            "error": error,
        }


class _Draft:
    """The plan so far; looks a person or file up once."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.question: str | None = None
        self._known: dict[tuple[str, str], str] = {}
        self.value = ""  # reference to the last step that gave a text or link
        self.file = ""  # reference to the last opened file

    def add(self, tool: str, *args: Any) -> str:
        """Append a call and return the reference to its result."""
        self.calls.append({"id": len(self.calls) + 1, "tool": tool, "args": list(args)})
        return f"${len(self.calls)}"

    def look_up(self, tool: str, name: str) -> str:
        """Return the reference to a look-up, made once per name."""
        if _ADDRESS.fullmatch(name):
            return name
        if (tool, name.casefold()) not in self._known:
            self._known[tool, name.casefold()] = self.add(tool, name)
        return self._known[tool, name.casefold()]

    def people(self, clause: str, tool: str) -> list[str]:
        """Look up everybody a clause names."""
        return [self.look_up(tool, name) for name in people(clause)]

    def open_files(self, clause: str) -> list[str]:
        """Open every file a clause names."""
        found = [self.look_up("open_and_get_file_path", name) for name in file_names(clause)]
        self.file = found[-1] if found else self.file
        return found


def people(clause: str) -> list[str]:
    """Return the people that a clause names: capitalized words after "to", "with", a verb."""
    found: list[str] = [match[0] for match in _ADDRESS.finditer(clause)]
    for match in _PEOPLE.finditer(_without_quotes(clause)):
        found += re.split(r",\s*(?:and\s+)?|\s+and\s+", match[1])
    if not found:
        addressed = _ADDRESSEE.search(clause)
        found = [name for name in (addressed.groups() if addressed else ()) if name]
    days = {part.casefold() for text in date_phrases(clause) for part in text.split()}
    kept = (name.removesuffix("'s").removesuffix("\u2019s") for name in found)
    return list(
        dict.fromkeys(
            n for n in kept if n.casefold() not in _NOT_A_NAME and n.casefold() not in days
        )
    )


def date_phrases(clause: str) -> list[str]:
    """Return the date phrases of a clause, in order."""
    return [found.text for found in dates.find(clause, ANY_DAY)]


def when(clause: str) -> str:
    """Return the words of a clause that say when, from the first to the last; empty without any."""
    return dates.covering_span(clause, ANY_DAY) or ""


def file_names(clause: str) -> list[str]:
    """Return the names of files with a known ending."""
    return [match[0] for match in _FILE.finditer(clause)]


def quoted(clause: str) -> str:
    """Return the first quoted text that is no file name; empty without any."""
    texts = (match[1] or match[2] for match in _QUOTED.finditer(clause))
    return next((text for text in texts if not _FILE.fullmatch(text)), "")


def _without_quotes(clause: str) -> str:
    return _QUOTED.sub(" ", clause)


def _said(clause: str) -> str:
    match = _SAID.search(clause)
    return quoted(clause) or (match[1].strip(" .!") if match else "")


def _title(clause: str, fallback: str) -> str:
    match = _TITLED.search(clause)
    return quoted(clause) or (match[1].strip() if match else fallback)


def _place(clause: str) -> str:
    """Return a capitalized place after "at", "in" or "to" that is no part of a date."""
    days = " ".join(date_phrases(clause))
    places = (match[1] for match in _PLACE.finditer(clause))
    return next((place for place in places if place not in days), "")


def _zoom(clause: str, draft: _Draft) -> None:
    invitees = draft.people(clause, "get_email_address")
    start = when(clause)
    if not start:
        draft.question = "When should the meeting start?"
        return
    topic = _title(clause, "meeting")
    draft.value = draft.add("get_zoom_meeting_link", topic, start, 60, invitees)


def _event(clause: str, draft: _Draft) -> None:
    invited = re.search(r"\b(?:invite|meeting|call|with)\b", clause, re.IGNORECASE)
    invitees = draft.people(clause, "get_email_address") if invited else []
    start = when(clause)
    if not start:
        draft.question = "When is it?"
        return
    head = re.split(r"\b(?:on|at|with|for|from|in|tomorrow|today|next)\b", clause, maxsplit=1)[0]
    bare = _COMMAND.sub("", head.strip(" ,."))
    title = _title(clause, bare.strip() or "meeting")
    draft.add(
        "create_calendar_event", title, start, "", _place(clause), invitees, draft.value, None
    )


def _reminder(clause: str, draft: _Draft) -> None:
    due = when(clause)
    rest = clause.replace(due, " ") if due else clause
    match = _REMINDER.search(rest)
    name = quoted(clause) or (" ".join(match[1].split()).strip(" .,") if match else "")
    if not name:
        draft.question = "What should I remind you of?"
        return
    found = dates.resolve(due, ANY_DAY) if due else None
    urgent = re.search(r"\b(?:high|urgent|important)\b", clause, re.IGNORECASE)
    all_day = bool(found and not found.has_time)
    draft.add("create_reminder", name, due, "", "", 1 if urgent else 0, all_day)


def _sms(clause: str, draft: _Draft) -> None:
    recipients = draft.people(clause, "get_phone_number")
    message = _said(clause) or draft.value or _after_addressee(clause)
    if not recipients or not message:
        draft.question = "Who should get which message?"
        return
    draft.add("send_sms", recipients, message)


def _after_addressee(clause: str) -> str:
    """Return what follows the name: "text robby hello" gives "hello"."""
    match = _ADDRESSEE.search(clause)
    return clause[match.end() :].strip(" ,.:") if match else ""


def _mail(clause: str, draft: _Draft) -> None:
    files = draft.open_files(clause)
    recipients = draft.people(clause, "get_email_address")
    if not recipients:
        draft.question = "Who should get the e-mail?"
        return
    subject = _title(clause, _said(clause)[:60])
    draft.add("compose_new_email", recipients, [], subject, draft.value, files)


def _reply(clause: str, draft: _Draft) -> None:
    draft.add("reply_to_email", [], _said(clause) or draft.value, draft.open_files(clause))


def _forward(clause: str, draft: _Draft) -> None:
    files = draft.open_files(clause)
    recipients = draft.people(clause, "get_email_address")
    if not recipients:
        draft.question = "Who should it be forwarded to?"
        return
    draft.add("forward_email", recipients, [], draft.value, files)


def _summary(clause: str, draft: _Draft) -> None:
    files = draft.open_files(clause)
    if files or draft.file:
        draft.value = draft.add("summarize_pdf", (files or [draft.file])[-1])


def _directions(clause: str, draft: _Draft) -> None:
    start, goal = _START.search(clause), _GOAL.search(clause)
    on_foot = re.search(r"\b(?:walk\w*|on foot)\b", clause, re.IGNORECASE)
    transit = re.search(r"\b(?:bus|train|transit|subway)\b", clause, re.IGNORECASE)
    place = goal[1].strip() if goal else _place(clause)
    if place:
        mode = "w" if on_foot else "r" if transit else "d"
        begin = start[1].strip() if start else ""
        draft.value = draft.add("maps_show_directions", begin, place, mode)


def _location(clause: str, draft: _Draft) -> None:
    spans = re.findall(_NAME, clause[1:])
    place = quoted(clause) or _place(clause) or (max(spans, key=len) if spans else "")
    if place:
        draft.value = draft.add("maps_open_location", place)


def _note_name(clause: str) -> str:
    match = _NOTE.search(clause)
    return quoted(clause) or (next(filter(None, match.groups()), "").strip() if match else "")


def _append(clause: str, draft: _Draft) -> None:
    match = re.search(r"\b(?:add|append|put|write)\s+(.+?)\s+(?:on)?to\b", clause, re.IGNORECASE)
    name = _note_name(clause)
    if name:
        content = draft.value or (match[1].strip() if match else "")
        draft.add("append_note_content", name, content, "")


def _open_note(clause: str, draft: _Draft) -> None:
    if name := _note_name(clause):
        draft.value = draft.add("open_note", name, "")


def _create_note(clause: str, draft: _Draft) -> None:
    name = _note_name(clause) or _title(clause, "")
    if name:
        content = _said(clause)
        draft.add("create_note", name, draft.value or ("" if content == name else content), "")


def _phone(clause: str, draft: _Draft) -> None:
    _contact(clause, draft, "get_phone_number")


def _address(clause: str, draft: _Draft) -> None:
    _contact(clause, draft, "get_email_address")


def _contact(clause: str, draft: _Draft, tool: str) -> None:
    owner = re.search(r"\b(?:of|for)\s+(?:my\s+)?([\w-]+)|([\w-]+)['\u2019]s\b", clause)
    if owner:
        draft.look_up(tool, owner[1] or owner[2])


def _file(clause: str, draft: _Draft) -> None:
    draft.open_files(clause)


# The first cue that a clause holds decides.
_CUES: tuple[tuple[re.Pattern[str], Callable[[str, _Draft], None]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), writer)
    for pattern, writer in (
        (r"\bzoom\b", _zoom),
        (r"\bremind(?:er)?\b", _reminder),
        (r"\b(?:phone )?number (?:of|for)\b|['\u2019]s (?:phone )?number\b", _phone),
        (r"\baddress (?:of|for)\b|['\u2019]s e-?mail address\b", _address),
        (r"\bforward\b", _forward),
        (r"\brepl(?:y|ies)\b|\banswer this\b", _reply),
        (r"\bdirections?\b|\broute\b|\bhow do i get\b|\bnavigate\b|\bwalk from\b", _directions),
        (r"\bsummar\w+.{0,99}\.pdf\b|\bsummari[sz]e\b", _summary),
        (r"\b(?:append|add|put)\b.{0,99}\bto\b.{0,99}\bnotes?\b", _append),
        (r"\b(?:open|read|show|find)\b.{0,99}\bnotes?\b", _open_note),
        (r"\b(?:create|make|write|new|take)\b.{0,99}\bnotes?\b", _create_note),
        (r"^(?:\W*\w+\W+){0,3}?(?:text|sms|message)\b|\b(?:text message|sms)\b", _sms),
        (r"\be-?mail\b|\bmail\b", _mail),
        (r"\bcalendar\b|\b(?:event|meeting|appointment)\b|^\W*schedule\b", _event),
        (r"\bmaps?\b|^\W*(?:where is|locate)\b", _location),
        (rf"\b(?:open|find|show)\b.{{0,99}}{_FILE.pattern}", _file),
    )
)


def write_clause(clause: str, draft: _Draft) -> None:
    """Add what a clause asks for to a plan; nothing where it holds no cue."""
    for writer in _writers(clause):
        writer(clause, draft)
        return


def _writers(clause: str) -> Iterator[Callable[[str, _Draft], None]]:
    return (writer for cue, writer in _CUES if cue.search(clause))
