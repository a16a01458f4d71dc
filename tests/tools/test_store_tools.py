"""The tool set ``store``: listing, changing and deleting what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from mlx_tinyagent.tools.agenda import Agenda, AgendaBackend, line, moved, period, spoken
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import Effect
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.loading import load_tools
from mlx_tinyagent.tools.local import LocalBackend, Store
from mlx_tinyagent.tools.results import Ambiguous, Failed, NotFound, Ok
from mlx_tinyagent.tools.store_tools import CHAT, ROW_ARGUMENTS, STORE
from mlx_tinyagent.tools.writer import PlainWriter

NOW = datetime(2026, 3, 2, 9, 0)  # a Monday
ROWS = (
    ("Standup", "2026-03-02T09:30:00", "2026-03-02T09:45:00", "Room 1"),
    ("Budget review", "2026-03-03T15:00:00", "2026-03-03T16:00:00", ""),
    ("Offsite", "2026-03-05T00:00:00", "2026-03-07T00:00:00", "Lake"),
    ("Standup", "2026-03-09T09:30:00", "2026-03-09T09:45:00", "Room 1"),
)

Run = Callable[..., Any]


@pytest.fixture
def store() -> Iterator[Store]:
    """A store with four events, three reminders, two notes and one contact."""
    with Store.memory() as opened:
        for title, starts, ends, place in ROWS:
            values = {"title": title, "starts": starts, "ends": ends, "location": place}
            opened.insert("events", {"calendar_id": 1, **values})
        for name, due, done in (("milk", "2026-03-02", 0), ("tax", "2026-03-31T12:00:00", 0)):
            opened.insert("reminders", {"list_id": 1, "name": name, "due": due, "done": done})
        opened.insert("reminders", {"list_id": 1, "name": "old", "due": "", "done": 1})
        opened.insert("notes", {"folder_id": 1, "name": "Trip", "body": "pack the tent"})
        opened.insert("notes", {"folder_id": 1, "name": "Wines", "body": "a red one"})
        yield opened


@pytest.fixture
def run(store: Store) -> Run:
    """A function that calls a tool on the store."""

    def call(name: str, request: str = "", **args: Any) -> Any:
        host = Host(backend=AgendaBackend(store), writer=PlainWriter(), request=request, now=NOW)
        tool = STORE[name]
        full = {
            param.name: args.get(param.name, [] if param.is_list else param.default)
            for param in tool.params
        }
        return tool.invoke(host, full)

    return call


def test_the_sets_are_loaded_by_name_and_the_16_stay_the_16() -> None:
    """``chat`` is both; labels and order of the 16 are as they were."""
    assert load_tools("store") is STORE
    assert CHAT.names == (*TINYAGENT16.names, *STORE.names)
    assert all(tool.label is None for tool in STORE)


def test_what_deletes_and_what_changes_says_so() -> None:
    """So that the gate asks, and never lets a deletion pass unseen."""
    effects = {tool.name: tool.effect for tool in STORE}
    assert {name for name, effect in effects.items() if effect is Effect.READ} == {
        "list_events",
        "list_reminders",
        "list_notes",
    }
    assert {name for name, effect in effects.items() if effect is Effect.DELETE} == {
        "cancel_event",
        "cancel_reminder",
        "delete_note",
    }
    assert set(ROW_ARGUMENTS) == {name for name, effect in effects.items() if effect.changes}


@pytest.mark.parametrize(
    ("request_", "day", "titles"),
    [
        ("what is on today", "2026-03-02", ["Standup"]),
        ("what did I plan for tomorrow", "2026-03-03", ["Budget review"]),
        ("anything on friday?", "2026-03-06", ["Offsite"]),
        ("and on saturday?", "2026-03-07", []),
        ("what is on this week", "2026-03-02", ["Standup", "Budget review", "Offsite"]),
        ("next week?", "2026-03-09", ["Standup"]),
        ("what is in march this month", "2026-03-02", ["Standup", "Budget review", "Offsite"] * 1),
        ("what is coming up", "", ["Standup", "Budget review", "Offsite", "Standup"]),
    ],
)
def test_events_of_a_time(run: Run, request_: str, day: str, titles: list[str]) -> None:
    """A day, what is left of it, or the week or month that the request names."""
    result = run("list_events", request_, day=day)
    listed = [text.split("  ")[-1].split(" (")[0] for text in result.value.text.splitlines()]
    expected = [*titles, "Standup"] if "month" in request_ else titles
    assert [text.strip() for text in listed] == expected


def test_events_by_a_word_of_their_title(run: Run) -> None:
    """Others are left out; none is said as none."""
    assert "Budget review" in run("list_events", about="budget").value.text
    assert run("list_events", about="dentist").note == "There is no event about 'dentist'."


def test_reminders_are_the_open_ones(run: Run) -> None:
    """All of them, or those of a day."""
    assert run("list_reminders").value.text.splitlines() == [
        "  Mon 2 Mar  milk",
        "  Tue 31 Mar 12:00  tax",
    ]
    assert run("list_reminders", "today", day="2026-03-02").value.text == "  Mon 2 Mar  milk"


def test_notes_by_title_or_text(run: Run) -> None:
    """Either finds them."""
    assert run("list_notes", about="tent").value.text == "  Trip (Notes)"
    assert run("list_notes", about="wines").value.text == "  Wines (Notes)"
    assert run("list_notes").note == "2 notes:"


def test_an_event_is_moved_and_keeps_its_length(run: Run, store: Store) -> None:
    """A date alone keeps the time of day; the note says what it was."""
    result = run("change_event", event="Budget review", new_start="2026-03-06")
    assert result.note == "'Budget review': moved to Fri 6 Mar 15:00 (was Tue 3 Mar 15:00)."
    assert result.record == "event:2"
    assert store.rows("SELECT starts, ends FROM events WHERE id = 2") == [
        {"starts": "2026-03-06T15:00:00", "ends": "2026-03-06T16:00:00"}
    ]


def test_title_place_and_guests_change_together(run: Run, store: Store) -> None:
    """Guests come behind those who are there, once each."""
    store.insert("event_invitees", {"event_id": 2, "position": 0, "email": "a@x.example"})
    run(
        "change_event",
        event="event:2",
        new_title="Budget",
        new_location="Room 9",
        add_invitees=["a@x.example", "b@x.example"],
    )
    assert store.rows("SELECT title, location FROM events WHERE id = 2") == [
        {"title": "Budget", "location": "Room 9"}
    ]
    assert Agenda(store).invitees("event:2") == ["a@x.example", "b@x.example"]


def test_nothing_to_change_is_said(run: Run) -> None:
    """It is no success."""
    assert isinstance(run("change_event", event="Budget review"), Failed)
    assert isinstance(run("change_reminder", reminder="milk"), Failed)
    assert isinstance(run("rename_note", note="Trip", new_name=" "), Failed)


def test_namesakes_are_told_apart(run: Run, store: Store) -> None:
    """By their day; a day in the request decides."""
    result = run("cancel_event", event="Standup")
    assert isinstance(result, Ambiguous)
    assert [c.label for c in result.candidates] == [
        "Standup (Mon 2 Mar 09:30)",
        "Standup (Mon 9 Mar 09:30)",
    ]
    assert run("cancel_event", event="Standup", day="2026-03-09").record == "event:4"
    assert len(store.rows("SELECT 1 FROM events")) == 3


@pytest.mark.parametrize("name", sorted(ROW_ARGUMENTS))
def test_what_is_not_there_is_not_found(run: Run, name: str) -> None:
    """Whatever is to be done with it."""
    argument, _ = ROW_ARGUMENTS[name]
    assert isinstance(run(name, **{argument: "Zzyzx"}), NotFound)


def test_a_reminder_is_moved_ticked_off_and_deleted(run: Run, store: Store) -> None:
    """A date alone keeps a time that was there."""
    run("change_reminder", reminder="tax", new_due="2026-04-01")
    assert store.rows("SELECT due FROM reminders WHERE name = 'tax'") == [
        {"due": "2026-04-01T12:00:00"}
    ]
    assert run("complete_reminder", reminder="milk").note == "Ticked off the reminder 'milk'."
    assert isinstance(run("complete_reminder", reminder="milk"), NotFound)
    assert run("cancel_reminder", reminder="tax").record == "reminder:2"
    assert store.rows("SELECT name FROM reminders WHERE done = 0") == []


def test_a_note_is_renamed_and_deleted(run: Run, store: Store) -> None:
    """The search forgets it too."""
    run("rename_note", note="Trip", new_name="Lake trip")
    assert store.search("lake trip")
    run("delete_note", note="Lake trip")
    assert not store.search("tent")


def test_a_backend_without_these_effects_says_so(store: Store) -> None:
    """Nothing is changed behind its back."""
    host = Host(backend=LocalBackend(store), writer=PlainWriter(), request="", now=NOW)
    result = STORE["delete_note"].invoke(host, {"note": "Trip"})
    assert isinstance(result, Failed)
    assert len(store.rows("SELECT 1 FROM notes")) == 2


def test_how_rows_are_written() -> None:
    """The same in every locale."""
    assert spoken("2026-03-03T15:00:00") == "Tue 3 Mar 15:00"
    assert spoken("2026-03-03") == "Tue 3 Mar"
    assert period("", "", NOW)[0] == NOW
    assert period("2026-03-07", "this weekend", NOW) == (
        datetime(2026, 3, 7),
        datetime(2026, 3, 9),
    )


def test_lines_of_events(store: Store) -> None:
    """Times, whole days, several days."""
    assert [line(item) for item in Agenda(store).items("event")] == [
        "Mon 2 Mar 09:30-09:45  Standup (Room 1)",
        "Tue 3 Mar 15:00-16:00  Budget review",
        "Thu 5 Mar to Fri 6 Mar  Offsite (Lake)",
        "Mon 9 Mar 09:30-09:45  Standup (Room 1)",
    ]
    [budget] = Agenda(store).find("event", "budget review")
    assert moved(budget, "2026-03-04T08:00:00") == {
        "starts": "2026-03-04T08:00:00",
        "ends": "2026-03-04T09:00:00",
    }
    assert isinstance(Agenda(store).item("event:99"), type(None))
    assert not isinstance(budget, Ok)
