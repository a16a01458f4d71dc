"""Many requests planned together get the plans they get one by one."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_tinyagent.agent.planner import MORE_TOOLS, Planned, Planner
from mlx_tinyagent.decode import grammar
from mlx_tinyagent.decode.engine import Decoded, Engine
from mlx_tinyagent.errors import ModelError, TinyAgentError, UsageError
from mlx_tinyagent.models.language import LanguageModel, load
from mlx_tinyagent.prompt import render
from mlx_tinyagent.prompt.render import Request
from mlx_tinyagent.retrieval.base import Retrieved
from mlx_tinyagent.retrieval.bm25 import BM25Retriever
from mlx_tinyagent.tools.base import Effect, Tool, ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16
from tests.decode.tiny import write_model

REQUESTS: list[tuple[Request, tuple[str, ...] | None]] = [
    (Request(query="text Leo"), ("send_sms", "get_phone_number")),
    (Request(query="open my note"), ("open_note",)),
    (Request(query="nothing"), ("no_such_tool",)),
    (Request(query="where is the café?"), ("maps_open_location",)),
    (Request(query="nothing"), ("nor_this",)),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A tiny random llama."""
    return load(write_model(tmp_path_factory.mktemp("many") / "tiny"))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short header and short texts, as random weights seldom close a quote."""
    monkeypatch.setattr(render, "HEADER", "Write a plan.\n\nTools:\n")
    monkeypatch.setattr(grammar, "MAX_TEXT_CHARS", 8)


def outcome(planner: Planner, request: Request, offered: Any) -> Planned | TinyAgentError:
    """Return a plan, or why there is none."""
    try:
        return planner.plan(request, offered=offered)
    except TinyAgentError as error:
        return error


def test_plans_and_errors_are_those_of_one_by_one(model: LanguageModel) -> None:
    """Every request has one outcome under its number: text, counts of tokens, or the line."""
    planner = Planner(Engine(model), TINYAGENT16, BM25Retriever())
    alone = [outcome(planner, request, offered) for request, offered in REQUESTS]
    together = dict(
        Planner(Engine(model), TINYAGENT16, BM25Retriever()).plan_many(REQUESTS, rows=3)
    )
    assert sorted(together) == list(range(len(REQUESTS)))
    assert isinstance(together[2], UsageError)
    for number, wanted in enumerate(alone):
        found = together[number]
        if isinstance(wanted, TinyAgentError):
            assert (type(found), str(found)) == (type(wanted), str(wanted))
            continue
        assert isinstance(found, Planned)
        assert found.text == wanted.text
        assert found.plan == wanted.plan
        assert found.retrieved.tools.names == wanted.retrieved.tools.names
        assert found.counts.plan_tokens == wanted.counts.plan_tokens
        assert {"retrieve", "prefill", "decode"} <= set(found.trace.seconds)


class Told:
    """An engine whose plans are told beforehand."""

    def __init__(self, model: Any, texts: list[str]) -> None:
        self.model = model
        self.texts = texts
        self.jobs: list[Any] = []

    def plan(self, prompt: Any, constraint: Any, **_: Any) -> Decoded:
        """Write the next text."""
        from mlx_tinyagent.decode.engine import Counts
        from mlx_tinyagent.trace import Trace

        self.jobs.append(prompt)
        counts = Counts(
            prompt_tokens=100,
            prompt_tokens_computed=10,
            plan_tokens=5,
            forward_passes=3,
            prefix_passes=1,
        )
        return Decoded(text=self.texts.pop(0), tokens=(), counts=counts, trace=Trace())

    def plan_many(self, jobs: Any, *, rows: int) -> Any:
        """Write one text per job, the last first."""
        taken = list(jobs)
        for number in reversed(range(len(taken))):
            yield number, self.plan(taken[number].prompt, None)


def test_a_plan_that_asks_for_tools_is_written_again(model: LanguageModel) -> None:
    """Once, with both plans counted; a text that is no plan is that request's error alone."""
    texts = ['1. more_tools(["send_sms"])\n2. join()', "1. join()", "nonsense", "1. join()"]
    engine = Told(model, texts)
    planner = Planner(engine, TINYAGENT16, BM25Retriever())  # type: ignore[arg-type]
    requests = [(Request(query="x"), ("open_note",))] * 3
    found = dict(planner.plan_many(requests, rows=2))
    again = found[2]
    assert isinstance(again, Planned)
    assert again.counts.forward_passes == 6
    assert "send_sms" in again.retrieved.tools
    assert isinstance(found[1], ModelError)
    assert isinstance(found[0], Planned)
    assert found[0].counts.forward_passes == 3


def test_a_thousand_hidden_tools_do_not_stand_in_the_grammar(model: LanguageModel) -> None:
    """Only the best of them by score may be asked for."""
    tools = ToolSet(
        "many", [Tool(name=f"t{n}", summary="x", params=(), effect=Effect.READ) for n in range(200)]
    )
    planner = Planner(Engine(model), tools, BM25Retriever())
    scores = {f"t{n}": float(n) for n in range(200)}
    found = Retrieved(tools=tools.subset(["t199"]), scores=scores, abstain=False, reasons={})
    job = planner.job(Request(query="x"), found)

    def may_ask_for(name: str) -> bool:
        state = job.constraint.copy()
        for token in model.tokenizer.encode(f'1. more_tools(["{name}"])\n'):
            if not state.allows(token):
                return False
            state.accept(token)
        return True

    best = [f"t{n}" for n in range(198, 198 - MORE_TOOLS, -1)]
    assert all(may_ask_for(name) for name in best)
    assert not may_ask_for(f"t{198 - MORE_TOOLS}")
    assert not may_ask_for("t199")
