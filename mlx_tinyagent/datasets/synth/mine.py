"""Takes phrasing patterns from people's commands: words between arguments, never the sentence.

A row gives a pattern only if its arguments can be told from its wording: by
its entity labels, by the date grammar, by names, or by a cue such as "saying".
Patterns are not taken over whole: short ones are kept, and new ones are drawn
from a chain of word triples over all patterns of a tool, and none has five
literal words in a row that stand so in a row of the file. Of every file only
half of the rows are mined, chosen by a hash, so that the other half can judge.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from mlx_tinyagent.act.dates import find
from mlx_tinyagent.datasets.importers.base import rows
from mlx_tinyagent.datasets.synth.chain import MAX_SPAN, chain, is_slot, like, long_spans
from mlx_tinyagent.datasets.synth.generate import Mined
from mlx_tinyagent.datasets.synth.lexicon import packaged

MIN_SEEN = 3  # rows in which a literal word must occur
FEW_ROWS = 150  # with fewer rows of a tool, two occurrences are enough
MOST = 40  # how often one value may stand in a list, so that common ones stay common
CLOSED_SOURCES = frozenset({"smcalflow"})  # CC BY-SA: neither mined nor trained on
NOW = datetime(2024, 5, 15, 9, 0)  # phrases are only found, so any moment will do

_ROLES = {
    **dict.fromkeys(
        ("person", "relation", "contact", "ContactName", "RelationshipName"), "person"
    ),
    "SenderName": "sender",
    **dict.fromkeys(("event_name", "Subject", "subject"), "event"),
    **dict.fromkeys(
        ("place_name", "business_name", "Address", "Location", "location", "MeetingRoom",
         "Building", "business_type", "Keyword", "food_type", "drink_type"),
        "place",
    ),
    **dict.fromkeys(("list_name", "ListType"), "list"),
    "TaskContent": "task",
    "EmailSubject": "topic",
    "Message": "message",
    "email_address": "email",
    "Attachment": "file",
}  # fmt: skip

# Which argument of a tool a role fills, and with which word list.
_PARAMS: Mapping[str, Mapping[str, str]] = {
    "create_calendar_event": {
        "event": "{title=mined_event}", "occasion": "{title=meet_word}",
        "person": "{invitees}", "place": "{location=mined_site}",
    },
    "compose_new_email": {
        "person": "{recipients}", "email": "{recipients=email}", "topic": "{subject=mined_topic}",
        "event": "{subject=mined_event}", "message": "{subject=mined_said_compose_new_email}",
        "file": "{attachments}",
    },
    "send_sms": {"person": "{recipients}", "message": "{message=mined_said_send_sms}"},
    "reply_to_email": {"person": "<mined_person>", "sender": "<mined_person>",
                       "message": "{context=mined_said_reply_to_email}", "file": "{attachments}"},
    "forward_email": {"person": "{recipients}", "sender": "<mined_person>",
                      "email": "{recipients=email}", "message": "{context}",
                      "file": "{attachments}"},
    "get_phone_number": {"person": "{name}"},
    "get_email_address": {"person": "{name}"},
    "maps_open_location": {"place": "{location=mined_said_maps}"},
    "maps_show_directions": {"place": "{end_location=mined_said_maps}"},
    "create_note": {"list": "{name=mined_list}", "any_list": "{name=bare_list}",
                    "message": "{content}"},
    "append_note_content": {"list": "{name=mined_list}", "any_list": "{name=bare_list}",
                            "task": "{content=mined_task}",
                            "message": "{content=mined_said_append_note_content}"},
    "open_note": {"list": "{name=mined_list}", "any_list": "{name=bare_list}"},
    "create_reminder": {"event": "{name=mined_event}", "task": "{name=mined_task}",
                        "message": "{name=mined_said_create_reminder}"},
}  # fmt: skip
_DATES = {"create_calendar_event": "start_date", "create_reminder": "due_date"}
_NEEDED = {
    "create_calendar_event": ("title", "start_date"),
    "compose_new_email": ("recipients",),
    "send_sms": ("recipients", "message"),
    "forward_email": ("recipients",),
    "get_phone_number": ("name",),
    "get_email_address": ("name",),
    "maps_open_location": ("location",),
    "maps_show_directions": ("end_location",),
    "create_note": ("name",),
    "append_note_content": ("name", "content"),
    "open_note": ("name",),
    "create_reminder": ("name",),
}
_CUES = {
    "send_sms": r"\b(?:saying|says|say|that|tell (?:him|her|them)|know|message)\s+(?P<m>.+)$",
    "compose_new_email": r"\b(?:saying|says|say|tell (?:him|her|them)|know that)\s+(?P<m>.+)$",
    "reply_to_email": r"\b(?:saying|say|with|reply|respond)\s+(?P<m>(?!to\b|back\b).+)$",
    "forward_email": r"\b(?:saying|typing)\s+(?P<m>.+)$",
    "create_reminder": r"\b(?:remind me|reminder)\s+(?:to|about|of|for)\s+(?P<m>.+)$",
    "append_note_content": r"\b(?:add|put|include|place|get)\s+(?P<m>.+?)\s+(?:to|on|in)\s+"
    r"(?:my|the|our)\b",
}
_LIST = re.compile(r"\b(?P<m>\w+(?: \w+)?) (?:list|lists)\b")
_OCCASION = re.compile(
    r"\b(?:an?|my|the|new|schedule|set|set up|make) "
    r"(?P<m>meeting|appointment|event|call|lunch|dinner)\b"
)
_BARE_LIST = re.compile(r"\b(?:my|the|a|new|this) (?P<m>list)\b")
_LEADING = re.compile(
    r"^(?:(?:hey|hi|hello|ok|okay|siri|olly|alexa|pda|google|please|plz|kindly|can you|could you|"
    r"would you|will you|i need you to|i want you to|i would like you to|i'd like you to|"
    r"i need to|i want to|i would like to|i'd like to|help me|i have to)[,.]?\s+)+",
    re.IGNORECASE,
)
_TRAILING = re.compile(r"(?:\s+(?:please|for me|thanks|thank you|plz|pls))+$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    end: int
    role: str


@dataclass(slots=True)
class _Harvest:
    """What one pass over the rows gives."""

    patterns: dict[str, list[list[str]]] = field(default_factory=lambda: defaultdict(list))
    values: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    messages: dict[str, list[list[str]]] = field(default_factory=lambda: defaultdict(list))
    openings: Counter[str] = field(default_factory=Counter)
    closings: Counter[str] = field(default_factory=Counter)


def is_mined(identity: object, text: str) -> bool:
    """Whether a row belongs to the half that is mined; decided by its text alone."""
    del identity
    return hashlib.sha256(text.strip().lower().encode()).digest()[0] < 128


def mine(path: Path) -> Mined:
    """Mine a file of silver tool rows for phrasing.

    Args:
        path: JSONL rows ``{text, source, kind, any_of, intent, entities}``.

    Returns:
        Templates per tool, refusals under ``near`` and ``far``, and word lists.

    Raises:
        InputError: The file cannot be read, or a row is broken.
    """
    everything = list(_rows(path))
    wanted = [row for row in everything if row["source"] not in CLOSED_SOURCES]
    wanted = [row for row in wanted if is_mined(row.get("id"), row["text"])]
    people, lists = _people(wanted), _list_names(wanted)
    harvest = _Harvest()
    for row in wanted:
        _harvest(row, people, lists, harvest)
    grams = long_spans(row["text"] for row in everything)
    templates = {}
    for tool, found in sorted(harvest.patterns.items()):
        kept = _kept(tool, found)
        drawn = chain(kept, grams, seed=tool, count=_DRAWN.get(tool, 1500))
        good = [parts for parts in drawn if _complete(tool, parts) and _sensible(tool, parts)]
        spread = like(good, [parts for parts in kept if _complete(tool, parts)], seed=tool)
        counts = Counter(_written(parts) for parts in spread)
        templates[tool] = tuple(t for t in sorted(counts) for _ in range(_weight(counts[t])))
    return Mined(
        templates={tool: texts for tool, texts in templates.items() if texts},
        lexicons=_lists(harvest, grams),
    )


_DRAWN = {"near": 3000, "far": 4000}


def _relation(slot: str) -> str:
    """Let only a relation stand behind "my"."""
    if slot.startswith("<"):
        return "<relation>"
    return "{" + slot.strip("{}").split("=")[0] + "=relation}"


def _written(parts: Sequence[str]) -> str:
    return " ".join(parts).replace(" 's", "'s")


def _weight(count: int) -> int:
    """Say how often a template stands in its list: common ones often, but less than they are."""
    return max(1, round(math.pow(count, 0.75)))


def _complete(tool: str, parts: Sequence[str]) -> bool:
    """Whether a sequence has what its tool needs, each argument once."""
    params = [part.strip("{}").split("=")[0] for part in parts if part.startswith("{")]
    return len(set(params)) == len(params) and all(n in params for n in _NEEDED.get(tool, ()))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    needed = {"text": str, "source": str, "kind": str, "any_of": list, "entities": list}
    for line in rows(path, needed):
        yield line.value


def _people(found: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Return names that can be told as such where a row has no labels."""
    names = {name.lower() for name in (*packaged().entries("first"), *packaged().entries("common"))}
    names |= {"mom", "dad", "mum"}
    for row in found:
        for entity in row["entities"]:
            if _ROLES.get(entity["type"]) == "person" and " " not in entity["text"]:
                names.add(entity["text"].lower())
    return frozenset(name for name in names if len(name) > 2)


def _list_names(found: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Return names of lists, labelled in some row or packaged."""
    names = {
        entity["text"].lower()
        for row in found
        for entity in row["entities"]
        if _ROLES.get(entity["type"]) == "list"
    }
    return frozenset(
        {name.removesuffix(" list") for name in names} | {*packaged().entries("list_thing")}
    )


def _harvest(
    row: Mapping[str, Any], people: frozenset[str], lists: frozenset[str], harvest: _Harvest
) -> None:
    """Turn one row into a pattern and collect its labelled values."""
    tool = tool_of(row)
    whole = row["text"].strip().rstrip("?.!")
    opening, closing = _LEADING.match(whole), _TRAILING.search(whole)
    text = _TRAILING.sub("", _LEADING.sub("", whole))
    for found, counts in ((opening, harvest.openings), (closing, harvest.closings)):
        words = found[0].strip(" ,.").lower() if found is not None else ""
        if len(words.split()) <= MAX_SPAN:
            counts[words] += 1
    if not text or not text.isascii() or any(c in text for c in "(){}<>|;"):
        return
    spans = _spans(row, text, tool, people, lists)
    if spans is None:
        return
    for span in spans:
        value = text[span.start : span.end].strip().lower()
        if 0 < len(value.split()) <= MAX_SPAN:
            harvest.values[span.role][value] += 1
        if span.role == "place" and tool.startswith("maps"):
            harvest.messages["maps"].append(value.split())
        if span.role == "message" and tool in _CUES:
            harvest.messages[tool].append(value.split())
    parts = _parts(text.lower(), spans, tool)
    if parts is not None:
        harvest.patterns[tool].append(parts)


def tool_of(row: Mapping[str, Any]) -> str:
    """Choose the tool that a row's wording means among the acceptable ones."""
    if row["kind"] != "tool":
        return {"none_near": "near", "none_far": "far"}.get(row["kind"], "far")
    options = [name for group in row["any_of"] for name in group]
    text = row["text"].lower()
    if "create_reminder" in options and re.search(r"\bremind|\breminder|\bto ?do\b|\btask\b", text):
        return "create_reminder" if "list" not in text else "append_note_content"
    if "append_note_content" in options:
        return (
            "create_note"
            if re.match(r".*\b(create|make|start|new|begin)\b", text)
            else ("append_note_content")
        )
    for name in ("create_calendar_event", "send_sms", "compose_new_email", "reply_to_email",
                 "forward_email", "open_note"):  # fmt: skip
        if name in options:
            return name
    if "maps_open_location" in options and "maps_show_directions" in options:
        going = re.search(r"direction|how do i get|take me|route|direct me", text)
        return "maps_show_directions" if going else "maps_open_location"
    return options[-1] if options else "far"


def _spans(
    row: Mapping[str, Any], text: str, tool: str, people: frozenset[str], lists: frozenset[str]
) -> list[_Span] | None:
    """Find a row's arguments; None if they contradict each other."""
    lower = text.lower()
    found: list[_Span] = []
    for entity in row["entities"]:
        role = _ROLES.get(entity["type"])
        if role is None and tool in ("near", "far"):
            role = entity["type"]
        at = lower.find(entity["text"].lower())
        if role is not None and at >= 0 and entity["text"]:
            found.append(_Span(at, at + len(entity["text"]), role))
    cue = re.search(_CUES[tool], lower) if tool in _CUES else None
    if cue is not None:
        found = [span for span in found if span.end <= cue.start("m")]
        end = cue.end("m")
        for moment in find(lower, NOW):
            if (
                tool == "create_reminder"
                and moment.span[1] == end
                and moment.span[0] > cue.start("m")
            ):
                end = moment.span[0]
        found.append(_Span(cue.start("m"), len(lower[:end].rstrip()), "message"))
    if tool in ("append_note_content", "open_note", "create_note") and not _has(found, "list"):
        match = _LIST.search(lower)
        if match is not None:
            words = match["m"].split()
            name = next((n for n in (match["m"], words[-1]) if n in lists), "")
            if name:
                at = lower.rindex(name, match.start("m"), match.end("m"))
                found.append(_Span(at, at + len(name), "list"))
        bare = _BARE_LIST.search(lower)
        if bare is not None and not _has(found, "list"):
            found.append(_Span(bare.start("m"), bare.end("m"), "any_list"))
    if tool == "create_calendar_event" and not _has(found, "event"):
        match = _OCCASION.search(lower)
        if match is not None:
            found.append(_Span(match.start("m"), match.end("m"), "occasion"))
    for moment in find(lower, NOW):
        found.append(_Span(*moment.span, "when"))
    for match in re.finditer(r"[a-z']+", lower):
        name = match[0].removesuffix("'s")
        if name in people:
            found.append(_Span(match.start(), match.start() + len(name), "person"))
    return _disjoint(found, tool)


def _has(spans: Sequence[_Span], role: str) -> bool:
    return any(span.role == role for span in spans)


def _disjoint(spans: list[_Span], tool: str) -> list[_Span] | None:
    """Drop spans inside others; join places that stand together; refuse the rest that overlap."""
    kept: list[_Span] = []
    for span in sorted(spans, key=lambda s: (s.start, s.start - s.end)):
        if kept and span.start < kept[-1].end:
            continue
        kept.append(span)
    if tool.startswith("maps"):
        places = [span for span in kept if span.role in ("place", "person", "when")]
        if not any(span.role == "place" for span in places):
            return None
        return [_Span(places[0].start, places[-1].end, "place")]
    return kept


def _parts(text: str, spans: Sequence[_Span], tool: str) -> list[str] | None:
    """Write a pattern as literal words and slots; None if something essential is missing."""
    table = _PARAMS.get(tool, {})
    parts: list[str] = []
    used: set[str] = set()
    at = 0
    for span in spans:
        parts += text[at : span.start].split()
        at = span.end
        if text[at : at + 2] == "'s":
            at += 2
            tail = ["'s"]
        else:
            tail = []
        slot = _slot(tool, table, span, text[span.start : span.end])
        if slot is not None and span.role == "person" and parts and parts[-1] == "my":
            slot = _relation(slot)
        if slot is None or slot in used:
            return None
        used.add(slot)
        parts += [slot, *tail]
    parts += text[at:].split()
    params = {slot.strip("{}").split("=")[0].split(".")[0] for slot in used if slot.startswith("{")}
    if any(name not in params for name in _NEEDED.get(tool, ())):
        return None
    return parts


def _slot(tool: str, table: Mapping[str, str], span: _Span, value: str) -> str | None:
    """Return the slot that takes a span's place; None if the tool has none for its role."""
    if tool in ("near", "far"):
        return f"<mined_{span.role}>"
    if span.role == "when":
        param = _DATES.get(tool)
        if param is None:
            return None
        timed = any(m.has_time for m in find(value, NOW))
        return f"{{{param}={'mined_timed' if timed else 'mined_untimed'}}}"
    return table.get(span.role)


_MUST_SAY = {
    "compose_new_email": r"mail",
    "send_sms": r"text|message|sms|msg",
    "get_phone_number": r"number|phone|cell|mobile",
    "get_email_address": r"mail",
}


def _sensible(tool: str, parts: Sequence[str]) -> bool:
    """Whether a pattern says what it wants, names no stranger and repeats no event."""
    words = [part for part in parts if not is_slot(part)]
    text = " ".join(words)
    if tool in _PARAMS:
        after = [b for a, b in pairwise(parts) if a == "with"]
        strangers = [w for w in after if not is_slot(w) and w not in ("a", "the", "my", "me")]
        if strangers or re.search(r"\b(every|all|each)\b", text) or (not words and len(parts) < 2):
            return False
    if "to {content" in " ".join(parts):  # "add a list item to {…}" says it the wrong way round
        return False
    return re.search(_MUST_SAY.get(tool, ""), text) is not None


def _kept(tool: str, patterns: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Keep patterns whose literal words are seen often enough to be no one's own content."""
    good = [parts for parts in patterns if _sensible(tool, parts)]
    if tool not in _PARAMS:
        return good
    seen = Counter(word for parts in good for word in set(parts) if not is_slot(word))
    least = MIN_SEEN if len(good) >= FEW_ROWS else MIN_SEEN - 1
    return [parts for parts in good if all(is_slot(w) or seen[w] >= least for w in parts)]


def _lists(harvest: _Harvest, grams: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """Return the labelled values as word lists, mixed with the packaged ones."""
    mixed = {"event": "event", "place": "place", "site": "site", "topic": "subject",
             "list": "list_thing", "task": "task", "person": "person"}  # fmt: skip
    lists: dict[str, tuple[str, ...]] = {}
    for role, values in sorted(harvest.values.items()):
        words = [
            v
            for v in sorted(values)
            if _is_clean(v) and _fits_role(v, role)
            for _ in range(min(values[v], MOST))
        ]
        if role in ("when", "message", "occasion", "any_list"):
            continue
        if role in mixed:
            words += [f"<{mixed[role]}>"] * (len(words) // 4 + 1)
        if words:
            lists[f"mined_{role}"] = tuple(words)
    if "mined_place" in lists:
        lists["mined_site"] = (*lists["mined_place"][:200], *["<site>"] * 100)
    timed: list[str] = []
    untimed: list[str] = []
    for value in sorted(harvest.values.get("when", ())):
        found = find(value, NOW)
        plain = _is_clean(value) and not value.isdigit()
        if plain and len(found) == 1 and (found[0].has_date or found[0].has_time):
            (timed if found[0].has_time else untimed).append(value)
    lists["mined_when"] = tuple(timed + untimed) or ("tomorrow",)
    lists["mined_timed_list"] = tuple(timed) or ("at noon",)
    lists["mined_untimed_list"] = tuple(untimed) or ("tomorrow",)
    for tool, texts in sorted(harvest.messages.items()):
        pieces = chain(texts, grams, seed=f"said|{tool}", count=1200)
        drawn = [" ".join(parts) for parts in like(pieces, texts, seed=tool)]
        short = [" ".join(parts) for parts in texts if len(parts) <= MAX_SPAN]
        words = [text for text in (*drawn, *short) if _is_clean(text)]
        if tool in _DATES:  # a date in the words would be the call's own
            words = [text for text in words if not find(text, NOW)]
        lists[f"mined_said_{tool}"] = tuple(words)
    for name, counts in (("opening", harvest.openings), ("closing", harvest.closings)):
        shares = {w: n for w, n in sorted(counts.items()) if n >= MIN_SEEN}
        lists[f"mined_{name}"] = tuple(w for w, n in shares.items() for _ in range(n))
    return {name: words for name, words in lists.items() if words}


def _fits_role(value: str, role: str) -> bool:
    """Whether a labelled value names only what its role says."""
    if role == "person":
        return not value.endswith("'s") and value not in ("all", "everyone", "friend", "family")
    return role not in ("event", "task", "place", "list", "topic") or not find(value, NOW)


def _is_clean(value: str) -> bool:
    return bool(value) and value.isascii() and not any(c in value for c in '(){}<>|;"')
