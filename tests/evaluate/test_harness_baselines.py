"""The keyword planner: what it can do, and that it never fails."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mlx_tinyagent.errors import UsageError
from mlx_tinyagent.evaluate.baselines import KeywordPlanner, people, when
from mlx_tinyagent.evaluate.harness_items import Item
from mlx_tinyagent.plan.graph import from_calls
from mlx_tinyagent.tools.base import ToolSet, tool
from mlx_tinyagent.tools.catalog import TINYAGENT16

PLANNER = KeywordPlanner(TINYAGENT16)


def plan(query: str) -> list[tuple[Any, ...]]:
    """Return the planned calls of a request."""
    row = PLANNER.plan(Item(id="a", raw_id="a", query=query))
    assert row["error"] is None
    return [(call["tool"], *call["args"]) for call in row["calls"]]


@pytest.mark.parametrize(
    ("query", "calls"),
    [
        (
            "text robby hello",
            [("get_phone_number", "robby"), ("send_sms", ["$1"], "hello")],
        ),
        (
            "remind me to call the bank tomorrow at 9am",
            [("create_reminder", "call the bank", "tomorrow at 9am", "", "", 0, False)],
        ),
        (
            "Summarize Report.pdf and email Dana Lee about the report",
            [
                ("open_and_get_file_path", "Report.pdf"),
                ("summarize_pdf", "$1"),
                ("get_email_address", "Dana Lee"),
                ("compose_new_email", ["$3"], [], "report", "$2", []),
            ],
        ),
        (
            "directions from Old Mill to River Park on foot",
            [("maps_show_directions", "Old Mill", "River Park", "w")],
        ),
        ("what rhymes with orange", []),
    ],
)
def test_plain_requests_are_planned(query: str, calls: list[tuple[Any, ...]]) -> None:
    """Cues choose the tools, spans fill them, results are read by reference."""
    assert plan(query) == calls


def test_what_is_missing_is_asked_for() -> None:
    """A message without an addressee."""
    row = PLANNER.plan(Item(id="a", raw_id="a", query="send a text message"))
    assert (row["calls"], row["ask"]) == ([], "Who should get which message?")


def test_days_are_no_people() -> None:
    """Capitalized words of a date phrase are not looked up."""
    assert people("meet with Ana and Bob on Friday") == ["Ana", "Bob"]
    assert when("lunch with Ana on Friday at noon") == "Friday at noon"


def test_any_text_gets_a_plan_that_can_run() -> None:
    """Five hundred shuffles of cue words, quotes and signs: valid, or told as an error."""
    words = """text email zoom remind note calendar open summarize forward reply map to with Ana and
    Bob "x" friday at 3pm report.pdf , . ' $1 ${2} that from in \u202e \x00""".split()
    chance = random.Random(4)
    for _ in range(500):
        query = " ".join(chance.choices(words, k=chance.randint(1, 25)))
        row = PLANNER.plan(Item(id="a", raw_id="a", query=query))
        assert row["error"] is None or row["calls"] == []
        from_calls(row["calls"], TINYAGENT16)
        assert not (row["calls"] and row["ask"])


def test_a_long_text_takes_no_longer_than_its_length() -> None:
    """No pattern backtracks over sixteen thousand characters."""
    for piece in ("to A and ", "note ", '"', "text a and b ", "open x x."):
        PLANNER.plan(Item(id="a", raw_id="a", query=piece * (16_000 // len(piece))))


def test_other_tools_are_refused() -> None:
    """It would have nothing to say about them."""

    @tool
    def water(plant: str) -> str:
        """Water a plant."""
        return plant

    with pytest.raises(UsageError, match="knows the tools of tinyagent16 only, not 'water'"):
        KeywordPlanner(ToolSet("garden", [water]))
