"""Requests about the store that code reads, and requests that lean on what was said before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from mlx_tinyagent.agent.leaning import leans
from mlx_tinyagent.agent.stored import stored
from mlx_tinyagent.agent.talker import honest
from mlx_tinyagent.plan.text import write
from mlx_tinyagent.tools.agenda import Agenda
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import memory_world
from mlx_tinyagent.tools.store_tools import CHAT

NOW = datetime(2026, 3, 2, 9, 0)  # a Monday


@pytest.fixture
def agenda() -> Iterator[Agenda]:
    """Two events, a reminder and a note in memory."""
    with memory_world() as store:
        for table in ("event_invitees", "events", "reminders", "notes"):
            store.rows(f"DELETE FROM {table}")
        for title in ("Standup", "Lunch with Kate"):
            times = {"starts": "2026-03-06T12:00:00", "ends": "2026-03-06T13:00:00"}
            store.insert("events", {"calendar_id": 1, "title": title, **times})
        store.insert("reminders", {"list_id": 1, "name": "buy milk", "due": "", "done": 0})
        store.insert("notes", {"folder_id": 1, "name": "Gate code", "body": "4471"})
        yield Agenda(store)


def read(text: str, agenda: Agenda) -> str:
    """Return the plan's one call; empty if the text is not read."""
    plan = stored(text, agenda, CHAT, NOW)
    return write(plan).splitlines()[0] if plan else ""


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("what did I plan for friday?", 'list_events("friday", "")'),
        ("What's on my calendar tomorrow", 'list_events("tomorrow", "")'),
        ("whats on my calendar", 'list_events("", "")'),
        ("what do I have on friday afternoon", 'list_events("friday afternoon", "")'),
        ("do i have anything on friday?", 'list_events("friday", "")'),
        ("am I free next tuesday?", 'list_events("next tuesday", "")'),
        ("show me my meetings for tomorrow please", 'list_events("tomorrow", "")'),
        ("what does my day look like tomorrow", 'list_events("tomorrow", "")'),
        ("when is the standup?", 'list_events("", "standup")'),
        ("what do i have to do tomorrow?", 'list_reminders("tomorrow", "")'),
        ("show my reminders", 'list_reminders("", "")'),
        ("what's on my to-do list", 'list_reminders("", "")'),
        ("list my notes", 'list_notes("")'),
        ("tick off milk", 'complete_reminder("milk")'),
        ("mark buy milk as done", 'complete_reminder("buy milk")'),
        ("cancel the standup", 'cancel_event("standup", "")'),
        ("cancel lunch with Kate on friday", 'cancel_event("lunch with Kate", "friday")'),
        ("delete the reminder to buy milk", 'cancel_reminder("buy milk", "")'),
        ("delete the note gate code", 'delete_note("gate code")'),
    ],
)
def test_what_is_there_is_asked_for_and_changed_without_a_model(
    agenda: Agenda, text: str, call: str
) -> None:
    """Questions about a day, and commands about rows that are there."""
    assert read(text, agenda) == f"1. {call}"


@pytest.mark.parametrize(
    "text",
    [
        "what is tomorrow's weather",
        "what did I plan for the garden?",
        "what's on tv tonight",
        "am I free to go",
        "tick off the windows",
        "cancel my netflix subscription",
        "when is easter",
        "show my photos",
        "schedule lunch with Kate on friday",
        "cancel the standup and text Kate",
        "what do i have to do to win",
    ],
)
def test_what_is_not_read_in_full_is_left_to_the_planner(agenda: Agenda, text: str) -> None:
    """No row of that name, no day, or more than one thing."""
    assert read(text, agenda) == ""


def test_without_the_store_tools_nothing_is_read(agenda: Agenda) -> None:
    """The 16 tools alone plan as they are measured."""
    assert stored("what did I plan for friday?", agenda, TINYAGENT16, NOW) is None


@pytest.mark.parametrize(
    ("text", "answers", "needed"),
    [
        ("make it longer", False, True),
        ("and her phone number?", False, True),
        ("text them that too", False, True),
        ("do that again", False, True),
        ("tomorrow at 5", True, True),
        ("the train is late", True, True),
        ("tomorrow at 5", False, False),
        ("where is the post office", True, False),
        ("remind me to buy milk tomorrow at 9am", False, False),
        ("text mom that i'll be late", False, False),
        ("email Sarah Smith about the budget and tell her i can't come", False, False),
        ("schedule lunch this friday", False, False),
        ("what is Kate Murphy's email?", False, False),
    ],
)
def test_earlier_turns_are_shown_where_words_point_back(
    text: str, answers: bool, needed: bool
) -> None:
    """A pronoun near the beginning, a word that goes on, or what may be an answer."""
    assert leans(text, answers=answers) is needed


def test_what_a_model_says_of_itself_is_left_out() -> None:
    """Such a sentence answers nothing."""
    said = "I'm sorry for any confusion. As a helpful assistant, I can plan. Bees make honey."
    assert honest(said, "tell me about bees") == "Bees make honey."
