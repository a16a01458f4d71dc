"""What a planner tells the grammar about a request, and what it does with what was written."""

from __future__ import annotations

from datetime import datetime

import pytest

from mlx_tinyagent.agent.planner import date_phrases
from mlx_tinyagent.prompt.render import Request, Turn


@pytest.mark.parametrize(
    ("query", "phrases"),
    [
        ("lunch with Ana", ()),
        ("lunch with Ana on friday at noon", ("friday at noon",)),
        (
            "lunch friday with Ana at 3pm",
            ("friday", "at 3pm", "friday with Ana at 3pm"),
        ),
    ],
)
def test_the_phrases_that_say_when(query: str, phrases: tuple[str, ...]) -> None:
    """Each of them, and what lies between neighbors, whatever moment it is."""
    assert date_phrases(Request(query=query)) == phrases
    assert date_phrases(Request(query=query, now=datetime(2026, 3, 2, 9))) == phrases


def test_earlier_turns_and_instructions_say_when_too() -> None:
    """A follow-up may keep the date of the request before."""
    before = Turn(query="dinner tomorrow", plan="1. join()")
    request = Request(query="make it lunch", history=(before,), instructions="I eat at noon.")
    assert date_phrases(request) == ("tomorrow", "at noon")
