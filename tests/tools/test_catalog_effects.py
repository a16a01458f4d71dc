"""Each of the 16 tools against world v1, its effect proved by the rows that differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import Effect
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import Store, diff, snapshot
from mlx_tinyagent.tools.local.world import MEMORY_ROOT
from mlx_tinyagent.tools.results import Ambiguous, Failed, NotFound, Ok, Result

SARAH = "sarah.smith@harbor.example"
# The world's secret, the row's id, the topic and the start; twelve digits of their sha256.
MEETING_CODE = hashlib.sha256(b"world-v1|1|Sync|2026-03-05T10:00:00").hexdigest()[:12]
REPORT = f"{MEMORY_ROOT}/Work/Quarterly Report.pdf"


def run(host: Host, tool: str, **args: Any) -> Result:
    """Call a tool with its defaults filled in."""
    declared = TINYAGENT16[tool]
    defaults = {p.name: p.default for p in declared.params if not p.required}
    return declared.invoke(host, {**defaults, **args})


def effect(store: Store, host: Host, tool: str, **args: Any) -> tuple[Result, list[Any]]:
    """Call a tool and return its result and the canonical difference it made."""
    before = snapshot(store)
    result = run(host, tool, **args)
    return result, [json.loads(text) for text in diff(before, snapshot(store)).canonical()]


CASES: Mapping[str, tuple[dict[str, Any], list[Any]]] = {
    "create_calendar_event": (
        {
            "title": "Budget talk",
            "start_date": "2026-03-05T10:00:00",
            "location": "Room 5",
            "invitees": [SARAH],
        },
        [
            [
                "added",
                "events",
                {
                    "calendar_id": 1,
                    "title": "Budget talk",
                    "starts": "2026-03-05T10:00:00",
                    "ends": "2026-03-05T11:00:00",
                    "location": "Room 5",
                    "notes": "",
                    "event_invitees": [{"email": SARAH}],
                },
            ]
        ],
    ),
    "get_phone_number": ({"name": "Sarah"}, []),
    "get_email_address": ({"name": "Sarah"}, []),
    "open_and_get_file_path": (
        {"file_name": "Quarterly Report.pdf"},
        [["added", "opened", {"kind": "file", "target": REPORT}]],
    ),
    "summarize_pdf": ({"pdf_path": REPORT}, []),
    "compose_new_email": (
        {"recipients": [SARAH], "subject": "Report", "attachments": [REPORT]},
        [
            [
                "added",
                "drafts",
                {
                    "kind": "new",
                    "source_id": None,
                    "subject": "Report",
                    "body": "Hi Sarah,\n\nThe numbers are ready.\n\nBest regards",
                    "draft_recipients": [{"role": "to", "email": SARAH}],
                    "draft_attachments": [{"path": REPORT}],
                },
            ]
        ],
    ),
    "reply_to_email": (
        {"context": "Yes, I bring it."},
        [
            [
                "added",
                "drafts",
                {
                    "kind": "reply",
                    "source_id": 30,
                    "subject": "Re: Budget review on Thursday",
                    "body": "Hi Sarah,\n\nYes, I bring it.\n\nBest regards",
                    "draft_recipients": [{"role": "to", "email": SARAH}],
                },
            ]
        ],
    ),
    "forward_email": (
        {"recipients": ["john.doe@harbor.example"], "context": "FYI"},
        [
            [
                "added",
                "drafts",
                {
                    "kind": "forward",
                    "source_id": 30,
                    "subject": "Fwd: Budget review on Thursday",
                    "body": "FYI\n\n-------- Forwarded --------\n"
                    f"From: {SARAH}\n"
                    "Hi Robin,\n\nthe budget review is on Thursday at two in Conference Room A. "
                    "Can you bring the sales report and tell me whether we still need the second "
                    "contractor?\n\nThanks\nSarah",
                    "draft_recipients": [{"role": "to", "email": "john.doe@harbor.example"}],
                },
            ]
        ],
    ),
    "maps_open_location": (
        {"location": "River Park"},
        [
            [
                "added",
                "opened",
                {"kind": "url", "target": "https://maps.apple.com/?q=River+Park"},
            ]
        ],
    ),
    "maps_show_directions": (
        {"start_location": "", "end_location": "Oak & 5th", "transport": "w"},
        [
            [
                "added",
                "opened",
                {
                    "kind": "url",
                    "target": "https://maps.apple.com/?daddr=Oak+%26+5th&dirflg=w",
                },
            ]
        ],
    ),
    "create_note": (
        {"name": "Plan", "content": "One\nTwo", "folder": "Garden"},
        [
            ["added", "note_folders", {"name": "Garden"}],
            [
                "added",
                "notes",
                {"folder_id": {"name": "Garden"}, "name": "Plan", "body": "One\nTwo"},
            ],
        ],
    ),
    "open_note": ({"name": "Action Items"}, []),
    "append_note_content": (
        {"name": "Shopping List", "content": "Tea"},
        [
            [
                "changed",
                "notes",
                9,
                {"body": "Light bulbs, printer paper, running socks, a card for Grandma.\nTea"},
            ]
        ],
    ),
    "create_reminder": (
        {"name": "Call Mateo", "due_date": "2026-03-03T09:00:00", "all_day": True},
        [
            [
                "added",
                "reminders",
                {
                    "list_id": 1,
                    "name": "Call Mateo",
                    "due": "2026-03-03",
                    "all_day": 1,
                    "priority": 0,
                    "notes": "",
                    "done": 0,
                },
            ]
        ],
    ),
    "send_sms": (
        {"recipients": ["+1 212 555 0101", "+1 212 555 0102"], "message": "On my way"},
        [
            [
                "added",
                "outbox_messages",
                {
                    "state": "queued, no gateway",
                    "text": "On my way",
                    "outbox_recipients": [
                        {"phone": "+1 212 555 0101"},
                        {"phone": "+1 212 555 0102"},
                    ],
                },
            ]
        ],
    ),
    "get_zoom_meeting_link": (
        {"topic": "Sync", "start_time": "2026-03-05T10:00:00", "meeting_invitees": [SARAH]},
        [
            [
                "added",
                "meetings",
                {
                    "topic": "Sync",
                    "starts": "2026-03-05T10:00:00",
                    "minutes": 60,
                    "url": f"https://meet.example/sync-{MEETING_CODE}",
                    "meeting_invitees": [{"email": SARAH}],
                },
            ]
        ],
    ),
}


def test_every_tool_has_a_case() -> None:
    """No tool of the catalog is left out below."""
    assert set(CASES) == set(TINYAGENT16.names)


@pytest.mark.parametrize("tool", CASES)
def test_a_tool_changes_exactly_these_rows(store: Store, host: Host, tool: str) -> None:
    """The rows that differ after a call are the ones it is for, and its effect class is honest."""
    args, expected = CASES[tool]
    result, changes = effect(store, host, tool, **args)
    assert isinstance(result, Ok), result
    assert sorted(changes, key=str) == sorted(expected, key=str)
    declared = TINYAGENT16[tool]
    tables = {change[1] for change in changes}
    if declared.effect is Effect.READ:
        assert not tables
    elif declared.effect is Effect.OPEN:
        assert tables == {"opened"}
    else:
        assert tables
        assert result.record is not None


@pytest.mark.parametrize("tool", CASES)
def test_declared_fields_are_there(host: Host, tool: str) -> None:
    """Every ``$k.field`` that the declaration offers can be read."""
    result = run(host, tool, **CASES[tool][0])
    assert isinstance(result, Ok)
    assert set(TINYAGENT16[tool].fields) <= set(result.value.fields)


@pytest.mark.parametrize(
    ("name", "people"),
    [("Ahmed Hassan", 2), ("David", 2), ("Priya", 2), ("Jon Doe", 1), ("Emmma", 1), ("Dana", 1)],
)
def test_namesakes_and_near_spellings_are_asked_about(
    store: Store, host: Host, name: str, people: int
) -> None:
    """Several people of one name, or one that is only spelled alike, are never chosen silently."""
    result, changes = effect(store, host, "get_email_address", name=name)
    assert isinstance(result, Ambiguous)
    assert len({candidate.value for candidate in result.candidates}) == people
    assert len({candidate.label for candidate in result.candidates}) == people
    assert not changes


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("mom", "carmen@family.example"),
        ("my wife", "noor@atelier-noor.example"),
        ("lucia", "lucia@family.example"),
        ("bjorn ostergard", "bjorn@nordlys.example"),
        ("王芳", "fang.wang@lumen.example"),
        ("رقم", None),
        ("michael obrien", "michael.obrien@tidewater.example"),
        ("jane.smith@brightfield.example", "jane.smith@brightfield.example"),
        ("mail", None),
        ("example", None),
        ("Zebulon", None),
    ],
)
def test_people_are_found_by_any_of_their_names(host: Host, name: str, address: str | None) -> None:
    """Relations, other scripts and missing accents find a person; words of addresses do not."""
    result = run(host, "get_email_address", name=name)
    if address is None:
        assert isinstance(result, NotFound)
    else:
        assert isinstance(result, Ok)
        assert result.value.text == address


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("budget", "Budget.xlsx"),
        ("QuarterlyReport.pdf", "Quarterly Report.pdf"),
        ("quarterly_report", "Quarterly Report.pdf"),
        ("the proposal", None),
        ("demo", None),
        ("xylophone.pdf", None),
    ],
)
def test_files_are_found_by_name_alone(host: Host, written: str, name: str | None) -> None:
    """Blanks, case, underscores and the extension do not count; folders do not match words."""
    result = run(host, "open_and_get_file_path", file_name=written)
    if name is None:
        assert isinstance(result, NotFound)
    else:
        assert isinstance(result, Ok)
        assert result.value.fields["name"] == name


def test_several_files_of_one_name_are_asked_about(store: Store, host: Host) -> None:
    """An ambiguous file name opens nothing."""
    result, changes = effect(store, host, "open_and_get_file_path", file_name="Meeting")
    assert isinstance(result, Ambiguous)
    assert len(result.candidates) == 2
    assert not changes


def test_a_chosen_note_can_be_named(host: Host) -> None:
    """Two notes of one title are asked about, and each answer then means one of them."""
    result = run(host, "open_note", name="Meeting Notes")
    assert isinstance(result, Ambiguous)
    for candidate in result.candidates:
        chosen = run(host, "open_note", name=candidate.value)
        assert isinstance(chosen, Ok)
        assert candidate.value == f"{chosen.value.fields['folder']}/{chosen.value.fields['name']}"


def test_a_folder_must_hold_the_note(host: Host) -> None:
    """The folder of the request decides between two notes of one title, or finds none."""
    school = run(host, "open_note", name="Meeting Notes", folder="school")
    assert isinstance(school, Ok)
    assert "Study group" in school.value.text
    assert isinstance(run(host, "open_note", name="Meeting Notes", folder="Travel"), NotFound)


def test_without_a_provider_no_meeting_is_made(store: Store, host: Host) -> None:
    """A meeting link is never made up."""
    store.set_setting("meeting_url", "")
    args = CASES["get_zoom_meeting_link"][0]
    result, changes = effect(store, host, "get_zoom_meeting_link", **args)
    assert isinstance(result, Failed)
    assert "meeting_url" in result.reason
    assert not changes


def test_an_event_without_end_lasts_an_hour_and_never_ends_early(store: Store, host: Host) -> None:
    """An end before the start is refused and changes nothing."""
    result, changes = effect(
        store,
        host,
        "create_calendar_event",
        title="X",
        start_date="2026-03-05T10:00:00",
        end_date="2026-03-05T09:00:00",
    )
    assert isinstance(result, Failed)
    assert not changes


def test_a_reply_to_a_stranger_greets_by_the_whole_name(store: Store, host: Host) -> None:
    """A sender who is no contact keeps the name as it stands in the mail."""
    store.set_setting("selected_mail", "6")
    run(host, "reply_to_email", context="Thanks")
    (draft,) = store.rows("SELECT subject, body FROM drafts")
    assert draft["body"].startswith("Hi City Energy,")


def test_subjects_get_one_prefix(store: Store, host: Host) -> None:
    """A reply to a reply does not pile prefixes up."""
    store.rows("UPDATE mails SET subject = 'RE: Budget' WHERE id = 30")
    run(host, "reply_to_email")
    assert store.rows("SELECT subject FROM drafts") == [{"subject": "RE: Budget"}]


def test_a_read_only_host_request_writes_nothing_extra(store: Store, host: Host) -> None:
    """A draft without context or matching request says what its subject says and no more."""
    quiet = replace(host, request="Write to Sarah")
    run(quiet, "compose_new_email", recipients=[SARAH], subject="Budget")
    (draft,) = store.rows("SELECT body FROM drafts")
    assert draft["body"] == "Hi Sarah,\n\nBudget.\n\nBest regards"
