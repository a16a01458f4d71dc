"""TinyAgent's layout: in which order things stand, and what depends on the tools."""

from __future__ import annotations

from datetime import datetime

from mlx_tinyagent.prompt.render import Request, Turn
from mlx_tinyagent.prompt.tinyagent import END, FORMAT, RULES, render
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16

NOW = datetime(2026, 3, 2, 9, 41)


def test_the_number_of_tools_stands_in_the_first_sentence() -> None:
    """``join`` counts as one; it is the last in the list."""
    for count in (0, 1, 5, 16):
        tools = ToolSet("some", list(TINYAGENT16)[:count])
        text = render(Request(query="x"), tools).text
        assert f"one of these {count + 1} actions" in text.splitlines()[0]
        assert f"\n{count + 1}. join() -> str:" in text


def test_tools_are_numbered_in_label_order() -> None:
    """As the classifier has them, not by length."""
    text = render(Request(query="x"), TINYAGENT16).text
    places = [text.index(f"\n{i}. {tool.name}(") for i, tool in enumerate(TINYAGENT16, start=1)]
    assert places == sorted(places)


def test_rules_stand_only_with_their_tools() -> None:
    """Each rule comes and goes with the tool it is about."""
    everything = render(Request(query="x"), TINYAGENT16).text
    for name, rule in RULES.items():
        others = TINYAGENT16.subset(n for n in TINYAGENT16.names if n != name)
        assert rule in everything
        assert rule not in render(Request(query="x"), others).text


def test_order_of_the_parts() -> None:
    """Tools, join, guidelines, date, instructions, examples, earlier turns, question."""
    request = Request(
        query="the question",
        now=NOW,
        history=(Turn(query="earlier", plan="1. join()"),),
        instructions="my own words",
    )
    prompt = render(request, TINYAGENT16)
    parts = [
        "1. create_calendar_event",
        "17. join()",
        "Guidelines:",
        "Today is Monday 2026-03-02 09:41",
        "my own words",
        "Here are some examples",
        "Question: earlier\n1. join()\n###\n",
        "Question: the question\n",
    ]
    places = [prompt.text.index(part) for part in parts]
    assert places == sorted(places)
    assert prompt.text.endswith("Question: the question\n")
    assert [segment.kind for segment in prompt.segments] == ["header", "tail"]
    assert FORMAT == "tinyagent"
    assert f"join(){END}" in prompt.text
