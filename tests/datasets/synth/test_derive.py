"""Phrases from a declaration alone: verbs, nouns, references, fields, two of something."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Literal

import pytest

from mlx_tinyagent.datasets.record import Example
from mlx_tinyagent.datasets.synth import grammar
from mlx_tinyagent.datasets.synth.derive import books_for, derived, voice_of
from mlx_tinyagent.datasets.synth.generate import SynthConfig, make
from mlx_tinyagent.datasets.synth.strata import OWN_SHARES, SHARES, Studio
from mlx_tinyagent.tools.base import Email, MaybeWhen, Span, Text, ToolSet, When, tool
from mlx_tinyagent.tools.catalog import TINYAGENT16


@tool
def crm__update_ticket(
    ticket: Span, field: Literal["ticket_title", "due_date", "assigned_to"], value: Text
) -> None:
    """Rename, move or change a ticket in the tracker.

    Args:
        ticket: which one, in the request's words
        field: what is changed
        value: what it becomes
    """


@tool(effect="delete")
def crm__delete_ticket(ticket: Span) -> None:
    """Close and remove a ticket.

    Args:
        ticket: which one
    """


@tool(effect="send")
def crm__forward_ticket(ticket: Span, recipient: Email) -> None:
    """Forward a ticket to someone.

    Args:
        ticket: which one
        recipient: who gets it
    """


@tool
def crm__create_chart(
    since: When, until: MaybeWhen, metric: Literal["visits_direct", "total_visits"]
) -> None:
    """Plot a figure over time.

    Args:
        since: first day
        until: last day
        metric: what is plotted
    """


TRACKER = ToolSet(
    "tracker", [crm__update_ticket, crm__delete_ticket, crm__forward_ticket, crm__create_chart]
)


@pytest.fixture(scope="module")
def rows() -> list[Example]:
    """The first 600 rows for a tool set without phrases."""
    studio, config = Studio(TRACKER), SynthConfig(seed=5, count=600)
    return [make(studio, config, "train", number) for number in range(600)]


def test_verbs_nouns_and_place_are_read_off_name_and_first_sentence() -> None:
    """Names give one verb, the text gives others, and what people call the thing."""
    update = voice_of(TRACKER["crm__update_ticket"])
    assert {"update", "change", "rename", "move"} <= set(update.verbs)
    assert (update.nouns, update.where, update.kind) == (("ticket",), "in the tracker", "use")
    assert voice_of(TRACKER["crm__delete_ticket"]).kind == "remove"
    chart = voice_of(TRACKER["crm__create_chart"])
    assert {"create", "plot"} <= set(chart.verbs)
    assert (chart.nouns, chart.kind) == (("chart", "figure"), "make")


def test_every_phrase_says_every_argument_that_is_needed() -> None:
    """By a slot, or by a fixed value of the wording; an argument that may be empty is free."""
    for item in TRACKER:
        needed = {param.name for param in item.params if param.required and not param.empty}
        for text in derived(item).short:
            template = grammar.parse(text)
            said = {slot.param for slot in template.slots()}
            assert needed <= said | {name for name, _ in template.fixed}, text


def test_each_field_is_changed_in_its_own_words() -> None:
    """A date is moved to a moment, a person takes over, a name is changed by renaming."""
    texts = derived(TRACKER["crm__update_ticket"]).short
    for choice, verb, filler in (
        ("due_date", "postpone", "bare"),
        ("assigned_to", "taking over", "person"),
        ("ticket_title", "rename", "event_title"),
    ):
        own = [text for text in texts if text.endswith(f";; field={choice}")]
        assert any(verb in text and f"{{value={filler}}}" in text for text in own)


def test_a_thing_that_is_there_is_referred_to_as_people_do(rows: list[Example]) -> None:
    """By order, person or subject, with the word for what it is."""
    said = [call.args[0] for row in rows for call in row.plan if call.tool == "crm__delete_ticket"]
    assert len(set(said)) > 30
    assert all("ticket" in text.lower() for text in said)
    assert sum(text.lower().startswith(("last", "next", "first", "latest")) for text in said) > 10


def test_two_people_or_kinds_are_two_calls_that_share_the_rest(rows: list[Example]) -> None:
    """Both values stand in the request, joined by "and"."""
    seen = 0
    for row in rows:
        if row.source != "synth/short" or len(row.plan) < 2:
            continue
        first, second = row.plan
        assert first.tool == second.tool
        assert sum(a != b for a, b in zip(first.args, second.args, strict=True)) == 1
        assert " and " in row.query
        seen += 1
    assert seen > 10


def test_no_refusal_asks_for_what_a_derived_tool_does(rows: list[Example]) -> None:
    """What "delete the ticket" lacks is which one; it is not beyond the tools."""
    near = [row.query.lower() for row in rows if row.source == "synth/near"]
    assert near
    for query in near:
        assert not any(f"{verb} the ticket" in query for verb in ("delete", "remove", "rename"))


def test_what_may_be_empty_is_not_asked_for(rows: list[Example]) -> None:
    """A chart without a last day is a plan, and both ways are among the rows."""
    ends = Counter(
        bool(call.args[1]) for row in rows for call in row.plan if call.tool == "crm__create_chart"
    )
    assert ends[True] > 10
    assert ends[False] > 10


def test_a_choice_is_said_as_people_say_it(rows: list[Example]) -> None:
    """As "direct visits" for ``visits_direct``; the plan holds the choice."""
    queries = [
        row.query.lower()
        for row in rows
        if len(row.plan) == 1 and row.plan[0].args[-1] == "visits_direct"
    ]
    assert any("direct visits" in query for query in queries)
    assert any("visits direct" in query for query in queries)


def test_shares_follow_whether_there_are_phrases() -> None:
    """The 16 tools keep theirs; tools without phrases get fewer refusals."""
    assert Studio(TINYAGENT16).shares == SHARES
    assert Studio(TRACKER).shares == OWN_SHARES
    assert sum(SHARES.values()) == pytest.approx(1)
    assert sum(OWN_SHARES.values()) == pytest.approx(1)


def test_a_set_of_both_kinds_fills_every_phrase() -> None:
    """Derived books bring their word lists along."""
    tools = ToolSet("both", [*TINYAGENT16, *TRACKER])
    studio = Studio(tools)
    assert sum(book.derived for book in books_for(tools).values()) == len(TRACKER)
    drafts = [studio.short(Random(number)) for number in range(400)]
    assert any(d and d.calls[-1].tool == "crm__update_ticket" for d in drafts)
