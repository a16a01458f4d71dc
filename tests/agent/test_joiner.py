"""Answers say what was done and what was not, in words for people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from mlx_tinyagent.act.executor import Callbacks, StepResult
from mlx_tinyagent.agent.agent import Agent, Reply
from mlx_tinyagent.agent.joiner import MAX_TEXT_CHARS, NO_TOOL, answer, problem
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.plan.schema import Plan, Step
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import LocalBackend, Store, memory_world
from mlx_tinyagent.tools.results import (
    Ambiguous,
    Candidate,
    Failed,
    NotFound,
    Ok,
    PermissionNeeded,
    Result,
    Skipped,
    Unknown,
    Value,
)
from mlx_tinyagent.tools.writer import PlainWriter

SARAH = "sarah.smith@harbor.example"


@pytest.fixture
def store() -> Iterator[Store]:
    """World v1 in memory."""
    with memory_world() as opened:
        yield opened


def reply(store: Store, *lines: str) -> Reply:
    """Run a plan, approved, on the world's reference day."""
    numbered = [f"{number}. {line}" for number, line in enumerate((*lines, "join()"), start=1)]
    text = "\n".join(numbered)
    agent = Agent(
        tools=TINYAGENT16,
        backend=LocalBackend(store),
        writer=PlainWriter(),
        clock=lambda: datetime(2026, 3, 2, 9, 0),
    )
    return agent.run_plan(
        parse(text, TINYAGENT16), text, "do it", Callbacks(approve=lambda shown: True)
    )


@pytest.mark.parametrize(
    ("lines", "expected", "code"),
    [
        # a lookup that was asked for is the answer
        (['get_email_address("Sarah")'], [f"Sarah Smith: {SARAH}"], 0),
        (
            ['get_phone_number("mom")', 'get_email_address("boss")'],
            [
                "Carmen Castellanos: +1 212 555 0101",
                "Ingrid Solberg: ingrid.solberg@harbor.example",
            ],
            0,
        ),
        # one that fed another step is not told
        (
            ['get_email_address("Sarah")',
             'create_calendar_event("Review", "tomorrow at 3", "", "", ["$1"])'],
            [
                "Added 'Review' to the calendar Personal: Tuesday 2026-03-03 15:00 to 16:00. "
                "1 invitee noted; nobody was notified."
            ],
            0,
        ),
        (
            ['get_phone_number("Sarah")', 'send_sms(["$1"], "I am late")'],
            ["Queued the text to +1 415 555 0117; no gateway is configured to send it."],
            0,
        ),
        # nor is a file that was found for another step
        (
            ['open_and_get_file_path("Annual Report")', 'get_email_address("boss")',
             'compose_new_email(["$2"], [], "Annual report", "", ["$1"])'],
            [
                "Saved a draft mail 'Annual report' to ingrid.solberg@harbor.example, "
                "with Annual Report.pdf; it was not sent."
            ],
            0,
        ),
        # the text of a note is part of the answer
        (
            ['open_note("Shopping List")'],
            [
                "Opened the note 'Shopping List'.",
                "Light bulbs, printer paper, running socks, a card for Grandma.",
            ],
            0,
        ),
        # what is not there, and what did not happen because of it
        (
            ['get_phone_number("Zaphod")', 'send_sms(["$1"], "I am late")'],
            ["I found no contact 'Zaphod'.", "Not done: send sms.", "Nothing was changed."],
            6,
        ),
        (
            ['open_and_get_file_path("Tax Return")', 'get_email_address("boss")',
             'compose_new_email(["$2"], [], "Tax", "", ["$1"])'],
            ["I found no file 'Tax Return'.", "Not done: compose new email.",
             "Nothing was changed."],
            6,
        ),
        # what is not clear is a question with its candidates
        (
            ['get_phone_number("David")', 'send_sms(["$1"], "I am late")'],
            [
                "Contact 'David' could be David Levy (Harbor Design) or David Mensah "
                "(Savanna Foods). Which one?",
                "Not done: send sms.",
                "Nothing was changed.",
            ],
            6,
        ),
        (
            ['create_reminder("buy milk", "when pigs fly")'],
            ["I found no date in 'when pigs fly'.", "Nothing was changed."],
            6,
        ),
        # a failure says what failed and why, once
        (
            ['create_reminder("x", "tomorrow", "", "", 12)'],
            [
                "Could not create reminder: a reminder's priority is 0 to 9, not 12.",
                "Nothing was changed.",
            ],
            5,
        ),
        # problems come before what was done
        (
            ['create_note("a", "b")', 'send_sms([], "hi")'],
            [
                "Could not send sms: the text message has no recipient.",
                "Saved the note 'a' in the folder Notes.",
            ],
            5,
        ),
        # the same problem is told once
        (
            ['get_phone_number("Zaphod")', 'get_email_address("Zaphod")'],
            ["I found no contact 'Zaphod'."],
            6,
        ),
    ],
)  # fmt: skip
def test_answers(store: Store, lines: list[str], expected: list[str], code: int) -> None:
    """Each line of an answer says one thing; the exit code fits."""
    said = reply(store, *lines)

    assert said.text.split("\n") == expected
    assert said.exit_code == code


def outcome(result: Result, tool: str = "send_sms") -> StepResult:
    """Make the outcome of a step."""
    return StepResult(id=1, tool=tool, args={}, result=result, seconds=0)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (NotFound(what="file 'x'"), "I found no file 'x'."),
        (
            Ambiguous(what="file 'x'", candidates=(Candidate(label="y.pdf", value="/y.pdf"),)),
            "I found no file 'x'. Did you mean y.pdf?",
        ),
        (
            Ambiguous(
                what="file 'x'",
                candidates=tuple(Candidate(label=f"{n}", value="") for n in range(9)),
            ),
            "File 'x' could be 0, 1, 2, 3, 4, 5, 6, 7 or 1 more. Which one?",
        ),
        (
            PermissionNeeded(app="Contacts", pane="Privacy"),
            "Contacts does not allow access yet: grant it in Privacy.",
        ),
        (Failed(reason="send_sms failed: disk is full"), "Could not send sms: disk is full."),
        (
            Unknown(reason="the connection ended"),
            "It is not known whether this was done: send sms (the connection ended).",
        ),
        (Skipped(reason="it needs step 1"), "Not done: send sms (it needs step 1)."),
    ],
    ids=lambda value: getattr(value, "status", ""),
)
def test_every_kind_of_problem_has_a_sentence(result: Result, said: str) -> None:
    """Which ends like one."""
    assert problem(outcome(result)) == said


def test_an_unknown_outcome_is_not_called_unchanged() -> None:
    """Where it is not known whether something happened, nothing is promised."""
    plan = Plan((Step(1, "send_sms", (("+1555",), "hi")),))

    assert "Nothing was changed" not in answer(
        plan, [outcome(Unknown(reason="no answer"))], TINYAGENT16
    )


def test_a_long_text_is_cut_and_says_so() -> None:
    """An answer is no place for a book."""
    plan = Plan((Step(1, "open_note", ("Book", "")),))
    book = Ok(value=Value(text="x" * (MAX_TEXT_CHARS + 1500)), note="Opened the note 'Book'.")

    said = answer(plan, [outcome(book, "open_note")], TINYAGENT16)

    assert said.endswith("... (1,500 more characters)")
    assert len(said) < MAX_TEXT_CHARS + 100


def test_control_plans() -> None:
    """A question is asked as it is; no tool is said plainly."""
    assert answer(Plan(ask="Which Dana?"), (), TINYAGENT16) == "Which Dana?"
    assert answer(Plan(), (), TINYAGENT16) == NO_TOOL
