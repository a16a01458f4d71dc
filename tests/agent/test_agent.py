"""The main path: a request becomes a plan, the plan runs, an answer comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from mlx_tinyagent.act.executor import Callbacks
from mlx_tinyagent.agent.agent import HISTORY_TURNS, Agent
from mlx_tinyagent.agent.planner import Planner
from mlx_tinyagent.errors import ModelError, PlanError, RefusedError
from mlx_tinyagent.prompt.render import Request
from mlx_tinyagent.retrieval.bm25 import BM25Retriever
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import Store, snapshot

Make = Callable[..., tuple[Agent, Any]]
YES = Callbacks(approve=lambda shown: True)
NOTE = '1. create_note("n", "text", "")\n2. join()'
LOOKUP = '1. get_email_address("David")\n2. join()'


def test_a_request_is_planned_run_and_answered(scripted: Make, store: Store) -> None:
    """The reply has the plan, the results, the answer and what it cost."""
    agent, planner = scripted(NOTE)

    reply = agent.ask("write it down", YES)

    assert reply.text == "Saved the note 'n' in the folder Notes."
    assert reply.exit_code == 0
    assert reply.offered == TINYAGENT16.names
    assert len(store.rows("SELECT 1 FROM notes WHERE name = 'n'")) == 1
    assert planner.requests[0].now == datetime(2026, 3, 2, 9, 0)


def test_the_json_object_is_the_documented_one(scripted: Make) -> None:
    """Its keys, and those of its parts, are exactly these."""
    lines = '1. get_email_address("David")\n2. create_note("n", "to ${1}", "")\n3. join()'
    agent, _ = scripted(lines)

    found = json.loads(json.dumps(agent.ask("do", YES).as_json()))

    assert list(found) == ["query", "plan", "results", "reply", "timings", "counts"]
    assert list(found["plan"]) == ["calls", "text"]
    assert found["plan"]["calls"][1] == {
        "id": 2,
        "tool": "create_note",
        "args": ["n", "to ${1}", ""],
    }
    assert [list(result) for result in found["results"]] == [["id", "status", "value", "error"]] * 2
    assert [result["status"] for result in found["results"]] == ["ambiguous", "skipped"]
    assert "David Levy" in found["results"][0]["error"]
    assert found["counts"] == {
        "prompt_tokens": 10,
        "prompt_tokens_computed": 4,
        "plan_tokens": 3,
        "forward_passes": 2,
    }


def test_a_dry_run_runs_nothing(scripted: Make, store: Store) -> None:
    """Not even lookups; there is no answer."""
    agent, _ = scripted('1. get_email_address("Sarah")\n2. create_note("n", "${1}", "")\n3. join()')
    before = snapshot(store)

    reply = agent.ask("do", dry_run=True)

    assert reply.results == ()
    assert reply.text == ""
    assert snapshot(store) == before


def test_a_question_of_the_planner_needs_an_answer(scripted: Make) -> None:
    """The reply is the question, and nothing ran."""
    agent, _ = scripted('1. ask("Which Dana?")\n2. join()')

    reply = agent.ask("tell Dana", YES)

    assert (reply.text, reply.exit_code, reply.results) == ("Which Dana?", 6, ())


def test_a_request_that_is_refused_is_not_remembered(scripted: Make, store: Store) -> None:
    """What did not happen is no context for the next request."""
    agent, planner = scripted(NOTE, LOOKUP)
    before = snapshot(store)

    with pytest.raises(RefusedError):
        agent.ask("write it down", Callbacks(approve=lambda shown: False))
    agent.ask("David's address")

    assert snapshot(store) == before
    assert planner.requests[1].history == ()


def test_the_last_turns_are_planned_with(scripted: Make) -> None:
    """Requests and plans, never results; the oldest drop out."""
    count = HISTORY_TURNS + 2
    agent, planner = scripted(*[LOOKUP] * count)

    for number in range(count):
        agent.ask(f"request {number}")

    last = planner.requests[-1].history
    assert [turn.query for turn in last] == [
        f"request {n}" for n in range(count - 1 - HISTORY_TURNS, count - 1)
    ]
    assert all(turn.plan == LOOKUP for turn in last)


def test_the_plan_is_shown_before_anything_runs(scripted: Make, store: Store) -> None:
    """``on_plan`` comes first, then the question."""
    agent, _ = scripted(NOTE)
    order: list[str] = []

    agent.ask(
        "write it down",
        Callbacks(approve=lambda shown: not order.append("approve")),
        on_plan=lambda planned: order.append(planned.text),
        on_text=lambda text: order.append("text"),
    )

    assert order == ["text", NOTE, "approve"]


def test_an_agent_without_a_planner_runs_given_plans_only(scripted: Make) -> None:
    """Asking it is a mistake of the program."""
    agent, _ = scripted()
    agent.planner = None

    with pytest.raises(ValueError, match="no planner"):
        agent.ask("hello")


class TestPlanner:
    """Request to plan, with the decoding replaced by given texts."""

    @pytest.fixture
    def planner(self, monkeypatch: pytest.MonkeyPatch) -> tuple[Planner, list[Any], list[str]]:
        """A planner that writes given texts, what was offered each time, and the texts."""
        from mlx_tinyagent.decode.engine import Counts, Decoded
        from mlx_tinyagent.plan.graph import parse
        from mlx_tinyagent.trace import Trace

        offered: list[Any] = []
        texts: list[str] = []
        planner = Planner(None, TINYAGENT16, BM25Retriever())  # type: ignore[arg-type]

        def write(
            request: Request, retrieved: Any, on_text: Any, trace: Trace, *, more_tools: bool = True
        ) -> Any:
            offered.append((retrieved.tools.names, more_tools))
            text = texts.pop(0)
            counts = Counts(
                prompt_tokens=100,
                prompt_tokens_computed=10,
                plan_tokens=5,
                forward_passes=3,
                prefix_passes=1,
            )
            decoded = Decoded(text=text, tokens=(), counts=counts, trace=Trace())
            known = retrieved.tools if "more_tools" not in text else TINYAGENT16
            return parse(text, known), decoded

        monkeypatch.setattr(planner, "_write", write, raising=False)
        return planner, offered, texts

    def test_more_tools_are_offered_once(self, planner: Any) -> None:
        """With what they need; both plans count."""
        made, offered, texts = planner
        texts += ['1. more_tools(["send_sms"])\n2. join()', "1. join()"]

        planned = made.plan(Request(query="note it"), offered=("create_note",))

        assert offered[0] == (("create_note",), True)
        assert set(offered[1][0]) == {"create_note", "send_sms", "get_phone_number"}
        assert offered[1][1] is False
        assert planned.retrieved.reasons["send_sms"] == "asked for"
        assert planned.counts.prompt_tokens == 200
        assert planned.counts.forward_passes == 6

    def test_the_last_turn_is_retrieved_for_as_well(self, planner: Any) -> None:
        """A short "and Leo too" needs the tools of what came before."""
        from mlx_tinyagent.prompt.render import Turn

        made, offered, texts = planner
        texts += ["1. join()"]
        history = (Turn(query="older: open the map"), Turn(query="text mom that I am late"))

        made.plan(Request(query="and Leo too", history=history))

        assert "send_sms" in offered[0][0]


def test_a_plan_that_is_cut_is_the_models_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 4, with the model's name and what would do."""
    from types import SimpleNamespace

    from mlx_tinyagent.agent import planner as module
    from mlx_tinyagent.decode import constraint, drafts

    class Cut:
        model = SimpleNamespace(name="tiny", tokenizer=SimpleNamespace(
            llguidance_tokenizer=lambda: None, chat_frame=lambda: None))  # fmt: skip

        def plan(self, *args: Any, **kwargs: Any) -> Any:
            raise PlanError("not over after 1024 tokens", rule="cut")

    monkeypatch.setattr(constraint, "PlanConstraint", lambda *args: None)
    monkeypatch.setattr(drafts, "Drafter", lambda *args: None)
    monkeypatch.setattr(module, "render", lambda *args: None)
    planner = Planner(Cut(), TINYAGENT16, BM25Retriever())  # type: ignore[arg-type]

    with pytest.raises(ModelError, match=r"tiny wrote no usable plan .* 1024 tokens") as raised:
        planner.plan(Request(query="text mom"))
    assert raised.value.exit_code == 4
