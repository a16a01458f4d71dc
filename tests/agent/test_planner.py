"""What a planner tells the grammar about a request, and what it does with what was written."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any, cast

import pytest

from mlx_tinyagent.agent.planner import Planner, date_phrases
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.prompt.render import Request, Turn
from mlx_tinyagent.retrieval.base import Retrieved, keep
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16


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


class NeedsNone:
    """A retriever that is sure that no tool is needed."""

    def select(self, query: str, tools: ToolSet) -> Retrieved:
        """Offer one tool all the same."""
        kept = keep(tools, {}, chosen=("send_sms",), abstain=True)
        return dataclasses.replace(kept, none=True)


def test_a_request_that_needs_no_tool_costs_no_token() -> None:
    """Without an engine there is nobody to ask, alone and among many."""
    planner = Planner(cast(Any, None), TINYAGENT16, NeedsNone())
    planned = planner.plan(Request(query="why is the sky blue"))
    assert (planned.plan, planned.text) == (Plan(), "1. join()")
    assert (planned.counts.prompt_tokens, planned.counts.plan_tokens) == (0, 0)


def test_a_follow_up_is_planned_whatever_it_seems_to_need() -> None:
    """A "no, the second one" needs what came before."""
    before = Turn(query="text Ana", plan="1. join()")
    request = Request(query="no, the second one", history=(before,))
    planner = Planner(cast(Any, None), TINYAGENT16, NeedsNone())
    with pytest.raises(AttributeError):  # it goes on to the engine, which there is none of
        planner.plan(request)
