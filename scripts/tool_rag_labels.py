"""Which tools serve people's commands, where the rules that labeled them are wrong.

The labels of ``human_tool_silver`` are made from each row's intent in its source. Reading a
sample of them showed what the rules get wrong as a whole: Maps shows travel times and traffic, a
message can say where one is, and what a shopping list holds can be read in a note. Some intents
people would label either way; their rows are left out where a label is needed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

Sets = tuple[tuple[str, ...], ...]

NO_TOOL: Sets = ((),)
EITHER: Sets = ()  # no label: the row is left out
OPEN_NOTE: Sets = (("open_note",),)
DIRECTIONS: Sets = (("maps_show_directions",),)
ON_A_MAP: Sets = (("maps_show_directions",), ("maps_open_location",))
TEXT: Sets = (("get_phone_number", "send_sms"),)  # a mail would do; of two sets one is learned

NAMES_OF_LISTS = r"\blists\b|\blist names?\b|\bavailables?\b"
ROOM_FREE = r"\brooms? .*\b(open|free|available|to use)\b|\bopen meeting room|\brooms are free"

# Source, intent, what the text matches, acceptable sets. The first that fits a row counts.
CORRECTIONS: tuple[tuple[str, str, str, Sets], ...] = (
    ("clinc150", "distance", "", DIRECTIONS),
    ("clinc150", "traffic", "", ON_A_MAP),
    ("clinc150", "share_location", r"\bhow to\b", EITHER),
    ("clinc150", "share_location", "", TEXT),
    ("clinc150", "current_location", "", EITHER),
    ("clinc150", "make_call", "", EITHER),
    ("clinc150", "shopping_list", "", OPEN_NOTE),
    ("clinc150", "todo_list", "", OPEN_NOTE),
    ("clinc150", "schedule_meeting", ROOM_FREE, NO_TOOL),
    ("clinc150", "schedule_meeting", r"\bhow\b|\bprocess\b|\bwhat do i do\b", EITHER),
    ("hwu", "lists_query", r"\b(read|check|see|show|find|have)\b.*\blists\b", EITHER),
    ("hwu", "lists_query", NAMES_OF_LISTS, NO_TOOL),
    ("slurp", "lists_query", r"\b(read|check|see|show|find)\b.*\blists\b", EITHER),
    ("slurp", "lists_query", NAMES_OF_LISTS, NO_TOOL),
    ("msbot", "todo/ShowToDo", r"\btasks?\b|\btodos\b|going to do|\breminder", EITHER),
    ("msbot", "todo/ShowToDo", r"\bany lists\b", NO_TOOL),
    ("msbot", "todo/ShowToDo", "", OPEN_NOTE),
    ("msbot", "todo/MarkToDo", r"^mark (?!.*\b(done|finished|completed?|task|item)\b)", EITHER),
    ("msbot", "calendar/CheckAvailability", r"\breserve\b", EITHER),
)
A_PLACE = re.compile(r"\bnear(est|by| me)\b|\bclosest\b|^where is (?!my\b)", re.IGNORECASE)


def corrected(source: str, intent: str, kind: str, text: str, any_of: Sets) -> Sets:
    """Return the acceptable sets of tools of a command; empty where it could go either way.

    Args:
        source: Where the command comes from.
        intent: Its intent there.
        kind: ``tool``, ``none_near`` or ``none_far``, by the rules.
        text: The command.
        any_of: Acceptable sets by the rules.
    """
    for one_source, one_intent, pattern, sets in CORRECTIONS:
        if (source, intent) == (one_source, one_intent) and re.search(pattern, text, re.IGNORECASE):
            return sets
    if kind == "none_far" and A_PLACE.search(text):
        return EITHER
    return any_of


def read_audit(path: Path) -> dict[str, Sets]:
    """Return the acceptable sets that a reader gave, by what ``key`` makes of the texts."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {row["row"]: tuple(map(tuple, row["any_of"])) for row in rows}


def key(text: str) -> str:
    """Return what stands for a text in an audit: a hash of it, case and blanks aside."""
    return hashlib.sha256(" ".join(text.lower().split()).encode()).hexdigest()[:16]


def verdict(any_of: Sequence[Sequence[str]]) -> str:
    """Return ``tool`` if one is needed, ``none`` if none serves, else ``either``."""
    if any_of and all(any_of):
        return "tool"
    return "either" if any(any_of) or not any_of else "none"
