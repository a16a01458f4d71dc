"""Rows of the latency benchmark: served as the planner serves, and written by every contestant."""

from __future__ import annotations

import dataclasses
import json

import pytest

from mlx_tinyagent.decode.engine import Engine, EngineOptions
from mlx_tinyagent.evaluate import latency
from mlx_tinyagent.evaluate.latency_cases import (
    Case,
    admitted,
    constraint_of,
    job_of,
    prompt_of,
    read_cases,
    retrieved,
    script_of,
)
from mlx_tinyagent.models.language import LanguageModel, load
from mlx_tinyagent.retrieval.base import Retrieved
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16
from tests.decode.tiny import write_model
from tests.evaluate.harness_rows import TEXT, call, record

MEETING = ["Standup", "tomorrow at 9am", "tomorrow at 10am", "", [], "", None]
ROWS = [
    record("text", "text Sophie hi", TEXT),
    record(
        "meeting",
        "add Standup to my calendar tomorrow at 9am",
        [call(1, "create_calendar_event", *MEETING)],
    ),
    record("talk", "what is love"),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A tiny random llama."""
    return load(write_model(tmp_path_factory.mktemp("latency") / "tiny"))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """The rows that have a plan."""
    data = tmp_path_factory.mktemp("latency") / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return read_cases(data)


class Offers:
    """Offers the same tools to everyone."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def select(self, query: str, tools: ToolSet) -> Retrieved:
        """Return these tools."""
        return Retrieved(tools=tools.subset(self._names), scores={}, abstain=False, reasons={})


def may_write(case: Case, model: LanguageModel, text: str) -> bool:
    """Whether the grammar of a case admits a beginning of a plan."""
    constraint = constraint_of(case, model)
    for token in model.tokenizer.encode(text):
        if not constraint.allows(token):
            return False
        constraint.accept(token)
    return True


def test_rows_are_offered_what_their_plans_read(cases: list[Case], tiny: LanguageModel) -> None:
    """The tools of the plan and no others; rows without a plan are left out."""
    assert [case.id for case in cases] == ["text", "meeting"]
    assert set(cases[0].tools.names) == {"get_phone_number", "send_sms"}
    assert set(cases[0].hidden) == set(TINYAGENT16.names) - {"get_phone_number", "send_sms"}
    assert [case.id for case in admitted(cases, tiny)] == ["text", "meeting"]


def test_the_grammar_is_the_one_that_serves(cases: list[Case], tiny: LanguageModel) -> None:
    """Dates are copied from what says when, and tools that are not on offer can be asked for."""
    begin = '1. create_calendar_event("Standup", "'
    assert may_write(cases[1], tiny, begin + 'tomorrow at 9am", ')
    assert not may_write(cases[1], tiny, begin + 'to my calendar", ')
    assert may_write(cases[0], tiny, '1. more_tools(["open_note"])')
    assert not may_write(cases[0], tiny, '1. more_tools(["send_sms"])')


def test_what_a_plan_copies_from_elsewhere_counts_as_said(
    cases: list[Case], tiny: LanguageModel
) -> None:
    """An end that the request does not name, as the row's plan has one."""
    begin = '1. create_calendar_event("Standup", "tomorrow at 9am", "'
    assert may_write(cases[1], tiny, begin + 'tomorrow at 10am", ')
    assert not may_write(cases[1], tiny, begin + 'tomorrow at 11am", ')


def test_retrieved_tools_take_the_place_of_the_plans_own(cases: list[Case]) -> None:
    """Where they suffice; a row whose tool was not found cannot be written."""
    offers = Offers("send_sms", "get_phone_number", "open_note")

    (found,) = retrieved(cases, offers)

    assert found.id == "text"
    assert set(found.tools.names) == {"send_sms", "get_phone_number", "open_note"}
    assert not set(found.hidden) & set(found.tools.names)
    assert len(found.hidden) + len(found.tools) == len(TINYAGENT16)


def test_typing_ahead_leaves_the_frame_to_compute(cases: list[Case], tiny: LanguageModel) -> None:
    """The same plan, with fewer tokens to compute after enter than the tail has."""
    report = latency.run(
        tiny,
        cases,
        contestants=["blocks", "blocks-typed"],
        store=None,
        progress=lambda done, total: None,
    )
    by_name = {(t.contestant, t.case): t for t in report.trials}
    for case in cases:
        blocks, typed = by_name["blocks", case.id], by_name["blocks-typed", case.id]
        frame = prompt_of(case, tiny).segments[-1].pieces[-1].encode(tiny.tokenizer)
        assert typed.prompt_tokens == blocks.prompt_tokens
        assert (typed.passes, typed.plan_tokens) == (blocks.passes, blocks.plan_tokens)
        # the last token typed may still change, and is computed after enter
        assert typed.computed == len(frame) + 1 < blocks.computed


def test_a_job_writes_the_rows_own_plan(cases: list[Case], tiny: LanguageModel) -> None:
    """Whatever the model would have written."""
    engine = Engine(tiny, options=EngineOptions(tier="blocks"))
    for case in (*cases, dataclasses.replace(cases[0], id="again")):
        job = job_of(case, tiny)
        decoded = engine.plan(job.prompt, job.constraint, drafter=job.drafter, script=job.script)
        assert list(decoded.tokens) == script_of(case, tiny)
