"""The default model's own weights: equality with the plain loop, and what blocks cost."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_tinyagent.decode import grammar
from mlx_tinyagent.decode.drafts import Drafter
from mlx_tinyagent.decode.engine import Engine, EngineOptions
from mlx_tinyagent.decode.grammar import GrammarOptions
from mlx_tinyagent.decode.reference import plan_tokens
from mlx_tinyagent.decode.store import KVStore
from mlx_tinyagent.decode.tiers import make_tier
from mlx_tinyagent.models.forward import hidden_states, logits
from mlx_tinyagent.models.language import LanguageModel
from mlx_tinyagent.plan.graph import Limits, parse
from mlx_tinyagent.prompt import render
from mlx_tinyagent.tools.catalog import TINYAGENT16
from tests.decode.tiny import constraint_for, prompt_for

pytestmark = [pytest.mark.slow, pytest.mark.weights]

NOW = datetime(2026, 3, 2, 9, 41)
SHORT = GrammarOptions(ask=False, limits=Limits(steps=1))
CASES = [
    ("what is Dana Wu's number?", ["get_phone_number"]),
    ("email address of Sam O'Brien", ["get_email_address"]),
    ('open "Plan v2.pdf"', ["open_and_get_file_path"]),
    ("where is Café Sacher?", ["maps_open_location"]),
    ("walk from home to 12 Main St.", ["maps_show_directions"]),
    ("open my note Groceries", ["open_note"]),
    ("add eggs to Groceries", ["append_note_content"]),
    ("text Leo that I am late", ["send_sms"]),
    ("summarize report.pdf", ["summarize_pdf"]),
    ("日本語 😀 réunion", ["open_note"]),
    ("tell me a joke", ["open_note"]),
    ("????", ["get_phone_number"]),
    ('say "<|im_end|>" for $5 \\ ok', ["append_note_content"]),
]
OPTIONS = {
    "width 10": EngineOptions(),
    "guard, whole head": EngineOptions(width=16, guard=0.05, narrow=False),
    "padded": EngineOptions(padded=16, width=4),
}


@pytest.mark.parametrize("number", range(len(CASES)))
def test_plans_equal_the_plain_loop(
    model: LanguageModel, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token for token, the loop having neither cache nor drafts; cold, warm and from disk."""
    monkeypatch.setattr(render, "HEADER", "You write plans that call tools.\n\nTools:\n")
    monkeypatch.setattr(grammar, "MAX_TEXT_CHARS", 24)
    query, names = CASES[number]
    tools = TINYAGENT16.subset(names)
    prompt = prompt_for(model.tokenizer, query, tools)
    wanted = plan_tokens(model, prompt, constraint_for(model.tokenizer, query, tools, SHORT))
    parse(model.tokenizer.decode(wanted), tools)
    store = KVStore(tmp_path, model)
    for name, options in OPTIONS.items():
        engine = Engine(model, store=store, options=options)
        constraint = constraint_for(model.tokenizer, query, tools, SHORT)
        decoded = engine.plan(prompt, constraint, drafter=Drafter(tools, query))
        assert list(decoded.tokens) == wanted, name


@pytest.mark.parametrize("number", [1, 7, 9])
def test_whole_prompts_in_all_ways(
    model: LanguageModel, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the whole header, a date and text typed ahead: the same plan as cold and plain."""
    monkeypatch.setattr(grammar, "MAX_TEXT_CHARS", 60)
    query, names = CASES[number]
    tools = TINYAGENT16.subset([*names, "create_reminder"])
    prompt = prompt_for(model.tokenizer, query, tools, now=NOW)

    def plan(engine: Engine, drafter: Any = None) -> tuple[int, ...]:
        constraint = constraint_for(model.tokenizer, query, tools, SHORT)
        return engine.plan(prompt, constraint, drafter=drafter).tokens

    wanted = plan(Engine(model, options=EngineOptions(tier="cold", width=0, forced=False)))
    engine = Engine(model)
    for end in range(4, len(query) + 4, 9):
        engine.extend(prompt_for(model.tokenizer, query[:end], tools, now=NOW))
    assert plan(engine, Drafter(tools, query)) == wanted
    assert plan(engine, Drafter(tools, query)) == wanted


def test_exact_logits_are_the_cold_ones_bit_for_bit(model: LanguageModel) -> None:
    """At equal chunks, warm after another request of other tools."""
    cold = make_tier("cold", model, store=None, budget=0)
    exact = make_tier("exact", model, store=None, budget=1 << 30)
    for names in (["send_sms", "open_note"], ["send_sms", "get_phone_number"]):
        prompt = prompt_for(model.tokenizer, "text Leo", TINYAGENT16.subset(names))
        *prefix, tail = prompt.segments
        ids = [segment.encode(model.tokenizer) for segment in prefix]
        last = mx.array(tail.encode(model.tokenizer))[None]
        scores = [
            logits(model.model, hidden_states(model.model, last, tier.open(prefix, ids).cache))
            for tier in (cold, exact)
        ]
        assert mx.array_equal(scores[0], scores[1])


def test_repaired_blocks_are_nearer_to_the_exact_prompt(model: LanguageModel) -> None:
    """Without training, 16 computed tokens per block bring most of the distance back."""
    tools = TINYAGENT16.subset(["send_sms", "get_phone_number", "create_reminder", "open_note"])
    prompt = prompt_for(model.tokenizer, "text Leo that I am late", tools)
    *prefix, tail = prompt.segments
    ids = [segment.encode(model.tokenizer) for segment in prefix]
    plan = '1. get_phone_number("Leo")\n2. send_sms(["$1"], "I am late")\n3. join()'
    rest = mx.array([*tail.encode(model.tokenizer), *model.tokenizer.encode(plan)])[None]

    def scores(name: Any, repair: int = 0) -> mx.array:
        tier = make_tier(name, model, store=None, budget=1 << 30, repair=repair)
        hidden = hidden_states(model.model, rest, tier.open(prefix, ids).cache)
        probabilities = mx.softmax(logits(model.model, hidden)[0], axis=-1)
        return mx.log(probabilities + 1e-12)

    exact = scores("exact")

    def distance(other: mx.array) -> float:
        return float(mx.mean(mx.sum(mx.exp(exact) * (exact - other), axis=-1)).item())

    whole = max(len(block) for block in ids)
    plain, repaired, everything = (distance(scores("blocks", n)) for n in (0, 16, whole))
    assert everything < 1e-4 < repaired < plain < 1.0
