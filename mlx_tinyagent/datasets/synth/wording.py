"""Common words for tools that nobody has written phrases for; used by ``synth.derive``."""

from __future__ import annotations

import re


def words_of(name: str) -> list[str]:
    """Split a tool or argument name into lower-case words; a dotted prefix stays out."""
    bare = name.rsplit(".", 1)[-1].rsplit("__", 1)[-1]
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", bare).replace("_", " ")
    return spaced.lower().split()


# What people say for the verbs that tools are named after.
VERBS = {
    "get": ("get", "find", "look up", "show me", "fetch", "give me"),
    "find": ("find", "look for", "search for"),
    "search": ("search for", "look for", "find"),
    "list": ("list", "show me", "show"),
    "create": ("create", "make", "add", "set up"),
    "add": ("add", "create", "put in"),
    "make": ("make", "create"),
    "schedule": ("schedule", "book", "set up", "arrange"),
    "set": ("set", "change"),
    "update": ("update", "change", "edit"),
    "change": ("change", "update"),
    "edit": ("edit", "change"),
    "move": ("move",),
    "rename": ("rename",),
    "reassign": ("reassign",),
    "reschedule": ("reschedule", "move"),
    "delete": ("delete", "remove", "get rid of"),
    "remove": ("remove", "delete", "take out"),
    "cancel": ("cancel", "call off"),
    "send": ("send", "write"),
    "write": ("write",),
    "post": ("post", "publish"),
    "forward": ("forward", "pass on"),
    "reply": ("reply to", "answer", "respond to", "get back to"),
    "answer": ("answer", "reply to"),
    "open": ("open", "show", "bring up"),
    "close": ("close", "shut"),
    "play": ("play", "put on", "start"),
    "start": ("start", "begin", "run"),
    "stop": ("stop", "end"),
    "book": ("book", "reserve", "get me"),
    "order": ("order", "get me"),
    "turn": ("turn", "switch"),
    "check": ("check", "look up"),
    "tell": ("tell me",),
    "plot": ("plot", "draw", "chart", "graph"),
    "calculate": ("calculate", "work out", "compute"),
    "convert": ("convert", "turn"),
    "translate": ("translate",),
    "lock": ("lock",),
    "dim": ("dim", "lower"),
    "heat": ("heat", "warm"),
}
REMOVING = frozenset("delete remove cancel drop erase clear discard".split())
EXISTING = frozenset(
    "update change edit move rename reassign reschedule forward reply answer open close "
    "start stop lock unlock archive share print".split()
)
MAKING = frozenset("create add make schedule book order send write post new plot draw".split())

# How people refer to one of several things that are there; NOUN is what they are called.
REFERENCES = (
    "(my|the) (next|first|last|latest) NOUN",
    "(my|the) (next|first|last|latest) NOUN with <first>",
    "(my|the) (first|last|next) NOUN on <_day>",
    "(my|the) (first|last|only) NOUN on <_month> <_day_number>",
    "(my|the) (last|latest|newest|most recent|oldest) NOUN from <first>",
    "(my|the|the last|the latest) NOUN about '<topic>'",
    "(my|the|the last|the latest) NOUN about <topic>",
    "<first>'s (last|latest|next|most important|oldest|newest|) NOUN",
    "<first>'s NOUN about <topic>",
    "(my|the|the next) <event> NOUN",
    "(the|my|the next) <project_word> <gathering> NOUN",
    "(the|my) NOUN <event>",
    "(the|my) NOUN <task>",
    "the NOUN (called|named|titled) <event_title>",
)

# Fields that a tool changes: words in their names, what fills them, how people change them.
FIELDS: tuple[tuple[frozenset[str], str, tuple[str, ...]], ...] = (
    (
        frozenset("start date due when deadline day by until".split()),
        "bare",
        (
            "(move|push|reschedule|postpone|shift|bring forward) {thing} to {value}",
            "push( back|) {thing} to {value}",
            "(move|push|push back|push forward|postpone) {thing} by {by}",
            "!{thing} is (now|due) {value}",
        ),
    ),
    (
        frozenset("email assigned assignee owner participant person".split()),
        "person",
        (
            "(reassign|give|hand over|hand) {thing} to {value}",
            "move {thing} to {value}",
            "!{value} is taking over {thing}. can you (reassign|change|update) (it|them)",
            "take {thing} and (give|reassign) it to {value}",
        ),
    ),
    (
        frozenset("name title subject".split()),
        "event_title",
        (
            "rename {thing} to {value}",
            "call {thing} {value}( instead|)",
            "change the name of {thing} to {value}",
        ),
    ),
    (
        frozenset("duration length".split()),
        "_how_long",
        (
            "make {thing} {value}( long|)",
            "(shorten|extend|lengthen) {thing} to {value}",
        ),
    ),
    (
        frozenset("status state stage list column".split()),
        "_state",
        (
            "(move|mark|set) {thing} (to|as) {value}",
            "update the status of {thing} to {value}",
            "!{thing} has moved to {value}( status|). can you update (it|that)",
            "move {thing} to {value} status",
        ),
    ),
    (
        frozenset("note notes comment description".split()),
        "jotting",
        ("(note|write|add) {value} (to|on|for) {thing}",),
    ),
)

# Word lists that belong to the above.
LEXICONS: dict[str, tuple[str, ...]] = {
    "_month": tuple(
        "January February March April May June July August September October November "
        "December".split()
    ),
    "_day": tuple(
        "today tomorrow monday tuesday wednesday thursday friday saturday sunday".split()
    ),
    "_day_number": tuple(str(day) for day in range(1, 29)),
    "_how_long": (
        "(an|one) hour",
        "half an hour",
        "(two|three|1.5|2|2.5|3|4) hours",
        "(15|20|30|45|60|90) minutes",
        "an hour and a half",
    ),
    "_state": (
        "open",
        "closed",
        "done",
        "(on hold|waiting)",
        "in progress",
        "completed",
        "(won|lost|a lead|qualified|proposal)",
        "approved",
        "rejected",
        "(high|low) priority",
        "in review",
        "cancelled",
    ),
}
