"""The 16 tools: what TinyAgent's data and classifier rely on, written out by hand.

Names, argument order and labels follow SqueezeAILab/TinyAgent at 0074615
(``src/tiny_agent/models.py``, ``tiny_agent_tools.py``).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlx_tinyagent.tools.base import Effect, Kind, Type
from mlx_tinyagent.tools.catalog import TINYAGENT16

DATA = Path(__file__).resolve().parents[2] / "../shared/data/tinyagent"

# label, effect, type of the value, app, fields, signature as it stands in the prompt
TABLE = [
    (
        *(0, "write", "status", "calendar", ("title", "start", "end")),
        'create_calendar_event(title: span, start_date: when, end_date: when = "", '
        'location: span = "", invitees: list[span] = [], notes: template = "", '
        "calendar: span = None) -> status",
    ),
    (
        *(1, "read", "phone", "contacts", ("name", "phone")),
        "get_phone_number(name: span) -> phone",
    ),
    (
        *(2, "read", "email", "contacts", ("name", "email")),
        "get_email_address(name: span) -> email",
    ),
    (
        *(3, "open", "path", "files", ("path", "name")),
        "open_and_get_file_path(file_name: span) -> path",
    ),
    (
        *(4, "read", "text", "files", ()),
        "summarize_pdf(pdf_path: span) -> text",
    ),
    (
        *(5, "draft", "status", "mail", ()),
        'compose_new_email(recipients: list[span], cc: list[span] = [], subject: text = "", '
        'context: template = "", attachments: list[span] = []) -> status',
    ),
    (
        *(6, "draft", "status", "mail", ()),
        'reply_to_email(cc: list[span] = [], context: template = "", '
        "attachments: list[span] = []) -> status",
    ),
    (
        *(7, "draft", "status", "mail", ()),
        'forward_email(recipients: list[span], cc: list[span] = [], context: template = "", '
        "attachments: list[span] = []) -> status",
    ),
    (
        *(8, "open", "url", "maps", ("url", "location")),
        "maps_open_location(location: span) -> url",
    ),
    (
        *(9, "open", "url", "maps", ("url",)),
        "maps_show_directions(start_location: span, end_location: span, "
        'transport: d|w|r = "d") -> url',
    ),
    (
        *(10, "write", "status", "notes", ("name", "folder")),
        'create_note(name: text, content: template = "", folder: span = "") -> status',
    ),
    (
        *(11, "read", "text", "notes", ("name", "folder", "body")),
        'open_note(name: span, folder: span = "") -> text',
    ),
    (
        *(12, "write", "status", "notes", ("name", "folder")),
        'append_note_content(name: span, content: template, folder: span = "") -> status',
    ),
    (
        *(13, "write", "status", "reminders", ("name", "due")),
        'create_reminder(name: text, due_date: when, notes: template = "", list_name: span = "", '
        "priority: int = 0, all_day: bool = False) -> status",
    ),
    (
        *(14, "draft", "status", "sms", ()),
        "send_sms(recipients: list[span], message: template) -> status",
    ),
    (
        *(15, "write", "url", "zoom", ("url", "topic", "start")),
        "get_zoom_meeting_link(topic: span, start_time: when, duration: int = 60, "
        "meeting_invitees: list[span] = []) -> url",
    ),
]

# What TinyAgent itself declares: name and arguments in order.
UPSTREAM = {
    "create_calendar_event": "title start_date end_date location invitees notes calendar",
    "get_phone_number": "name",
    "get_email_address": "name",
    "open_and_get_file_path": "file_name",
    "summarize_pdf": "pdf_path",
    "compose_new_email": "recipients cc subject context attachments",
    "reply_to_email": "cc context attachments",
    "forward_email": "recipients cc context attachments",
    "maps_open_location": "location",
    "maps_show_directions": "start_location end_location transport",
    "create_note": "name content folder",
    "open_note": "name folder",
    "append_note_content": "name content folder",
    "create_reminder": "name due_date notes list_name priority all_day",
    "send_sms": "recipients message",
    "get_zoom_meeting_link": "topic start_time duration meeting_invitees",
}

# What a value may be read into, by argument: the edges that a plan can have.
READS = {
    "email": {
        "create_calendar_event": "invitees notes",
        "compose_new_email": "recipients cc subject context",
        "reply_to_email": "cc context",
        "forward_email": "recipients cc context",
        "send_sms": "message",
        "get_zoom_meeting_link": "meeting_invitees",
    },
    "phone": {
        "create_calendar_event": "notes",
        "compose_new_email": "subject context",
        "reply_to_email": "context",
        "forward_email": "context",
        "send_sms": "recipients message",
    },
    "path": {
        "create_calendar_event": "notes",
        "summarize_pdf": "pdf_path",
        "compose_new_email": "subject context attachments",
        "reply_to_email": "context attachments",
        "forward_email": "context attachments",
        "send_sms": "message",
    },
}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[-1].split("(")[0])
def test_each_tool_is_declared_as_the_table_says(
    row: tuple[int, str, str, str, tuple[str, ...], str],
) -> None:
    """Label, effect, value, app, fields and the signature's bytes."""
    label, effect, returns, app, fields, signature = row
    found = list(TINYAGENT16)[label]
    assert found.signature() == signature
    assert (found.label, found.effect, found.returns) == (label, Effect(effect), Type(returns))
    assert (found.app, found.fields) == (app, fields)


def test_names_and_argument_order_are_tinyagents() -> None:
    """Its plans are positional and its classifier numbers the tools."""
    declared = {item.name: " ".join(p.name for p in item.params) for item in TINYAGENT16}
    assert list(declared.items()) == list(UPSTREAM.items())
    assert len(TABLE) == len(TINYAGENT16) == 16


@pytest.mark.parametrize("value", READS)
def test_addresses_numbers_and_paths_go_only_where_they_belong(value: str) -> None:
    """A phone number is never a recipient of mail, an address never of an SMS; text takes any."""
    wanted = READS[value]
    for item in TINYAGENT16:
        found = " ".join(p.name for p in item.params if Type(value) in p.accepts)
        if item.name in wanted:
            assert found == wanted[item.name]
        elif item.app in ("mail", "sms", "zoom", "calendar", "contacts"):
            assert found == ""


def test_only_what_reads_or_opens_goes_without_approval() -> None:
    """Nothing that drafts, writes or sends is counted as harmless."""
    harmless = [item.name for item in TINYAGENT16 if not item.effect.changes]
    assert harmless == [
        "get_phone_number",
        "get_email_address",
        "open_and_get_file_path",
        "summarize_pdf",
        "maps_open_location",
        "maps_show_directions",
        "open_note",
    ]


def test_nothing_reads_a_status() -> None:
    """A sentence that says what was done never becomes an argument."""
    assert not [p for item in TINYAGENT16 for p in item.params if Type.STATUS in p.accepts]


def test_every_tool_runs_on_the_host_and_says_what_it_does() -> None:
    """Implementations take the host; prompt texts are short lines of printable text."""
    for item in TINYAGENT16:
        assert item.function is not None
        assert item.needs_host
        assert item.text().isascii()
        assert len(item.text()) < 600
        assert item.text().endswith(".\n")


def test_prompt_order_is_longest_first_and_the_same_in_every_subset() -> None:
    """Subsets share long prefixes; label order stays the order of the set."""
    order = [item.name for item in TINYAGENT16.in_prompt_order()]
    lengths = [len(item.text()) for item in TINYAGENT16.in_prompt_order()]
    assert lengths == sorted(lengths, reverse=True)
    some = TINYAGENT16.subset(order[::3])
    assert [item.name for item in some.in_prompt_order()] == order[::3]
    assert list(some.names) == [name for name in TINYAGENT16.names if name in order[::3]]


@pytest.mark.parametrize(
    ("names", "closed"),
    [
        (["send_sms"], ["get_phone_number", "send_sms"]),
        (["get_zoom_meeting_link"], ["get_email_address", "get_zoom_meeting_link"]),
        (["summarize_pdf"], ["open_and_get_file_path", "summarize_pdf"]),
        (
            ["compose_new_email"],
            ["get_email_address", "open_and_get_file_path", "compose_new_email"],
        ),
        (["create_note"], ["create_note"]),
        ([], []),
    ],
)
def test_closure_adds_the_tools_that_make_needed_values(
    names: list[str], closed: list[str]
) -> None:
    """Addresses, numbers and paths bring their look-ups."""
    assert list(TINYAGENT16.closure(names).names) == closed


def test_times_are_written_as_phrases_and_people_are_resolved() -> None:
    """Kinds and entities of the arguments that code resolves after planning."""
    kinds = {(i.name, p.name): p.kind for i in TINYAGENT16 for p in i.params}
    assert [key for key, kind in kinds.items() if kind is Kind.WHEN] == [
        ("create_calendar_event", "start_date"),
        ("create_calendar_event", "end_date"),
        ("create_reminder", "due_date"),
        ("get_zoom_meeting_link", "start_time"),
    ]
    entities = {(i.name, p.name): p.entity for i in TINYAGENT16 for p in i.params if p.entity}
    assert entities == {
        ("create_calendar_event", "invitees"): "contact-email",
        ("summarize_pdf", "pdf_path"): "file",
        ("compose_new_email", "recipients"): "contact-email",
        ("compose_new_email", "cc"): "contact-email",
        ("compose_new_email", "attachments"): "file",
        ("reply_to_email", "cc"): "contact-email",
        ("reply_to_email", "attachments"): "file",
        ("forward_email", "recipients"): "contact-email",
        ("forward_email", "cc"): "contact-email",
        ("forward_email", "attachments"): "file",
        ("send_sms", "recipients"): "contact-phone",
        ("get_zoom_meeting_link", "meeting_invitees"): "contact-email",
    }


@pytest.mark.shared
def test_real_calls_have_the_declared_number_of_arguments() -> None:
    """5 of the 6,072 public calls have another number, tools and join() counted apart."""
    if not DATA.exists():
        pytest.skip("the TinyAgent rows are not beside the checkout")
    wrong = total = 0
    for name in ("train", "test_public"):
        for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            for call in json.loads(line)["calls"]:
                total += 1
                wrong += len(call["args"]) != len(UPSTREAM[call["tool"]].split())
    assert wrong == 5
    assert total > 4_000
