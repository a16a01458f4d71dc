"""The engine writes what the plain loop writes, whatever it reuses, drafts or pads."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.decode import grammar, run
from mlx_tinyagent.decode.drafts import Drafter, Hints
from mlx_tinyagent.decode.engine import Engine, EngineOptions
from mlx_tinyagent.decode.grammar import Written
from mlx_tinyagent.decode.reference import plan_tokens
from mlx_tinyagent.decode.store import KVStore
from mlx_tinyagent.errors import ContextError, PlanError
from mlx_tinyagent.models.language import LanguageModel, load
from mlx_tinyagent.prompt import render
from mlx_tinyagent.tools.base import ToolSet
from tests.decode.tiny import QUERIES, TOOLSETS, constraint_for, prompt_for, write_model

CASES = [(query, name) for query in QUERIES for name in ("few", "linked", "schemas", "none")]
QUICK = [(QUERIES[8], "few"), (QUERIES[0], "linked"), (QUERIES[8], "schemas")]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short header, and short texts, as a model of random weights seldom closes a quote."""
    monkeypatch.setattr(render, "HEADER", "Write a plan. End with join().\n\nTools:\n")
    monkeypatch.setattr(grammar, "MAX_TEXT_CHARS", 16)


Oracle = Callable[..., tuple[int, ...]]


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    """The plain loop's tokens, computed once per request."""
    known: dict[tuple[Path, str, str], tuple[int, ...]] = {}

    def tokens(model: LanguageModel, query: str, name: str) -> tuple[int, ...]:
        key = (model.folder, query, name)
        if key not in known:
            prompt = prompt_for(model.tokenizer, query, TOOLSETS[name])
            constraint = constraint_for(model.tokenizer, query, TOOLSETS[name])
            known[key] = tuple(plan_tokens(model, prompt, constraint))
        return known[key]

    return tokens


def written(engine: Engine, query: str, name: str, drafter: Any = None) -> tuple[int, ...]:
    """Return the tokens an engine writes for a request."""
    tokenizer, tools = engine.model.tokenizer, TOOLSETS[name]
    constraint = constraint_for(tokenizer, query, tools)
    return engine.plan(prompt_for(tokenizer, query, tools), constraint, drafter=drafter).tokens


# Drafters of every quality; the engine only knows that they have ``complete``


@dataclass
class Wrong:
    """Guesses that have nothing to do with the plan."""

    texts: Sequence[str]
    asked: int = 0

    def complete(self, line: str, written: Sequence[Written], earlier: str, most: int) -> str:
        """Return the next of the texts."""
        self.asked += 1
        return self.texts[self.asked % len(self.texts)]


@dataclass
class Clairvoyant:
    """Knows the plan, and tells it up to a point, or with a fault in it."""

    plan: str
    most: int = 10_000
    fault: int = 0

    def complete(self, line: str, written: Sequence[Written], earlier: str, most: int) -> str:
        """Return the rest of the plan, if the beginning is still the plan's."""
        done = earlier + line
        if not self.plan.startswith(done):
            return ""
        rest = self.plan[len(done) :][: self.most]
        return rest[: self.fault] + "#" + rest[self.fault + 1 :] if self.fault else rest


def drafters(query: str, tools: ToolSet, plan: str, seed: int) -> dict[str, Any]:
    """Return one drafter of every sort."""
    chance = random.Random(seed)
    noise = [
        "".join(chance.choices('abc"$1,)[]{}\n\\ é😀', k=chance.randrange(30))) for _ in range(50)
    ]
    return {
        "real": Drafter(tools, query, Hints(dates=("tomorrow",))),
        "empty": Wrong([""]),
        "noise": Wrong(noise),
        "surrogates": Wrong(["\ud800", 'a"\udfff, ', '"\ud83d\ude00")\n']),
        "special": Wrong(["<|im_end|>", "<|im_start|>", "\x00", "\ufffd"]),
        "very long": Wrong(["x" * 100_000, "1. join()\n" * 10_000]),
        "perfect": Clairvoyant(plan),
        "one at a time": Clairvoyant(plan, most=1),
        "nearly right": Clairvoyant(plan, fault=3),
        "beyond the end": Clairvoyant(plan + "\n9. join()"),
        "wrong sort": Wrong(['"$1"', '["$2"]', "None", ")\n", "join()", ", "]),
    }


OPTIONS = {
    "plain": EngineOptions(width=0, forced=False),
    "plain, whole head": EngineOptions(width=0, forced=False, narrow=False),
    "forced": EngineOptions(width=0),
    "width 4": EngineOptions(width=4),
    "width 10": EngineOptions(),
    "width 16": EngineOptions(width=16),
    "whole head": EngineOptions(narrow=False),
    "padded": EngineOptions(padded=24),
    "padded, plain": EngineOptions(padded=24, width=0, forced=False),
    "guard": EngineOptions(guard=0.3),
    "guard on everything": EngineOptions(guard=1e9),
    "guard, padded, whole head": EngineOptions(guard=0.3, padded=7, narrow=False, width=16),
    "cold": EngineOptions(tier="cold"),
    "no room": EngineOptions(budget=0),
}  # fmt: skip


@pytest.mark.parametrize("name", ["plain", "width 10", "guard, padded, whole head", "no room"])
def test_no_option_changes_a_token(tiny: LanguageModel, oracle: Oracle, name: str) -> None:
    """Forcing, drafts of any width, head, padding, guard and tier: the oracle's tokens."""
    engine = Engine(tiny, options=OPTIONS[name])
    for query, tools in QUICK:
        drafter = Drafter(TOOLSETS[tools], query)
        assert written(engine, query, tools, drafter) == oracle(tiny, query, tools), (query, tools)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_no_option_changes_a_token_of_many_plans(
    tiny: LanguageModel, oracle: Oracle, name: str
) -> None:
    """The same over 40 requests."""
    engine = Engine(tiny, options=OPTIONS[name])
    for query, tools in CASES:
        drafter = Drafter(TOOLSETS[tools], query)
        assert written(engine, query, tools, drafter) == oracle(tiny, query, tools), (query, tools)


@pytest.mark.parametrize("settings", [{"tie_word_embeddings": False}, {"num_hidden_layers": 3}])
def test_other_models_too(tmp_path: Path, oracle: Oracle, settings: dict[str, Any]) -> None:
    """A head of its own, another depth: the same equality."""
    other = load(write_model(tmp_path / "other", seed=5, **settings))
    for options in (EngineOptions(), EngineOptions(narrow=False, guard=0.1)):
        engine = Engine(other, options=options)
        for query, tools in QUICK[:3]:
            drafter = Drafter(TOOLSETS[tools], query)
            assert written(engine, query, tools, drafter) == oracle(other, query, tools)


def check_drafters(
    model: LanguageModel, oracle: Oracle, cases: Sequence[tuple[str, str]], width: int
) -> None:
    """Check every sort of drafter on these requests."""
    engine = Engine(model, options=EngineOptions(width=width))
    for index, (query, tools) in enumerate(cases):
        right = oracle(model, query, tools)
        plan = model.tokenizer.decode(right)
        for name, drafter in drafters(query, TOOLSETS[tools], plan, index).items():
            assert written(engine, query, tools, drafter) == right, (query, tools, name)


def test_no_drafter_changes_a_token(tiny: LanguageModel, oracle: Oracle) -> None:
    """Noise, lone surrogates, special tokens, endless and perfect guesses."""
    check_drafters(tiny, oracle, QUICK[:2], 10)


@pytest.mark.slow
@pytest.mark.parametrize("width", [4, 40])
def test_no_drafter_changes_a_token_of_many_plans(
    tiny: LanguageModel, oracle: Oracle, width: int
) -> None:
    """The same over more requests, narrow and wide."""
    check_drafters(tiny, oracle, CASES[::3], width)


def test_a_perfect_drafter_saves_passes(tiny: LanguageModel, oracle: Oracle) -> None:
    """Who knows the plan gets it in a fraction of the passes; nobody needs more than tokens."""
    query, tools = QUICK[0]
    right = oracle(tiny, query, tools)
    plan = tiny.tokenizer.decode(right)
    passes = {}
    for name, drafter in drafters(query, TOOLSETS[tools], plan, 0).items():
        engine = Engine(tiny)
        constraint = constraint_for(tiny.tokenizer, query, TOOLSETS[tools])
        prompt = prompt_for(tiny.tokenizer, query, TOOLSETS[tools])
        counts = engine.plan(prompt, constraint, drafter=drafter).counts
        passes[name] = counts.forward_passes
        assert counts.plan_tokens == len(right)
        assert counts.forward_passes <= len(right)
    # Not a tenth, as a random model divides its text into tokens of its own taste.
    assert passes["perfect"] <= len(right) // 4
    assert passes["perfect"] < passes["empty"]


# Reuse


def test_reuse_changes_no_token(tiny: LanguageModel, oracle: Oracle, tmp_path: Path) -> None:
    """Warm and cold, after eviction, and with prompt parts read from disk by another engine."""
    small = 40_000  # bytes: less than a header and a tool take
    store = KVStore(tmp_path / "kv", tiny)
    engines = [
        Engine(tiny),
        Engine(tiny, options=EngineOptions(budget=small)),
        Engine(tiny, store=store),
        Engine(tiny, store=store),
    ]
    cases = [*QUICK[:3], *QUICK[:2]]
    for query, tools in cases:
        right = oracle(tiny, query, tools)
        for engine in engines:
            assert written(engine, query, tools, Drafter(TOOLSETS[tools], query)) == right
    assert list((tmp_path / "kv").glob("*.safetensors"))


def test_what_was_written_before_leaves_no_trace(tiny: LanguageModel, oracle: Oracle) -> None:
    """The kept segments stay as they are while plans are written after them."""
    import mlx.core as mx

    engine = Engine(tiny)
    query, tools = QUICK[0]
    written(engine, query, tools)
    path = [s.digest for s in prompt_for(tiny.tokenizer, query, TOOLSETS[tools]).segments[:-1]]
    kept = engine.tier.tree.match(path)  # type: ignore[attr-defined]
    before = [[mx.array(layer) for layer in (*kv.keys, *kv.values)] for kv in kept]
    for other, _ in QUICK:
        written(engine, other, tools)
    after = engine.tier.tree.match(path)  # type: ignore[attr-defined]
    assert [a is b for a, b in zip(after, kept, strict=True)] == [True] * len(path)
    for kv, old in zip(after, before, strict=True):
        assert all(
            mx.array_equal(now, was) for now, was in zip((*kv.keys, *kv.values), old, strict=True)
        )
    assert written(engine, query, tools) == oracle(tiny, query, tools)


def test_options_change_no_token_on_blocks(tiny: LanguageModel) -> None:
    """Blocks are another prompt to the model, but decoding after them is just as exact."""
    plain = Engine(tiny, options=EngineOptions(tier="blocks", width=0, forced=False))
    fast = Engine(tiny, options=EngineOptions(tier="blocks", guard=0.1, padded=16))
    for query, tools in QUICK[:3]:
        drafter = Drafter(TOOLSETS[tools], query)
        assert written(fast, query, tools, drafter) == written(plain, query, tools)


# Counts


def test_counts_are_what_happened(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes and tokens, counted at the model itself, for a first and a second request."""
    sizes: list[int] = []
    real = run.serve

    def counted(model: Any, ids: Any, cache: Any) -> Any:
        sizes.append(int(ids.shape[1]))
        return real(model, ids, cache)

    monkeypatch.setattr(run, "serve", counted)
    monkeypatch.setattr("mlx_tinyagent.decode.tiers.serve", counted)
    engine = Engine(tiny)
    tokenizer, tools = tiny.tokenizer, TOOLSETS["few"]
    prompt = prompt_for(tokenizer, QUERIES[0], tools)
    lengths = [len(segment.encode(tokenizer)) for segment in prompt.segments]
    pieces = [p for segment in prompt.segments for p in segment.pieces]
    assert sum(lengths) == sum(len(tokenizer.encode(p.text, special=p.frame)) for p in pieces)
    for first in (True, False):
        sizes.clear()
        constraint = constraint_for(tokenizer, QUERIES[0], tools)
        counts = engine.plan(prompt, constraint, drafter=Drafter(tools, QUERIES[0])).counts
        assert counts.prompt_tokens == sum(lengths)
        assert counts.prompt_tokens_computed == (sum(lengths) if first else lengths[-1])
        assert counts.prefix_passes == (len(lengths) - 1 if first else 0)
        assert len(sizes) == counts.forward_passes + counts.prefix_passes
        after = sizes[counts.prefix_passes :]
        # A pass feeds what is pending and the draft; the last token of all is never fed.
        assert sum(sizes[: counts.prefix_passes]) == (sum(lengths[:-1]) if first else 0)
        assert after[0] >= lengths[-1]
        assert counts.rows == sum(after) - (lengths[-1] - 1)


def test_another_request_computes_its_tail_alone(tiny: LanguageModel) -> None:
    """With the same tools nothing else is new; with others what differs from the first tool on."""
    engine = Engine(tiny)
    tokenizer = tiny.tokenizer
    few = TOOLSETS["few"]

    def computed(query: str, tools: ToolSet) -> int:
        constraint = constraint_for(tokenizer, query, tools)
        counts = engine.plan(prompt_for(tokenizer, query, tools), constraint).counts
        assert counts.prompt_tokens_ahead == 0
        return counts.prompt_tokens_computed

    def size(query: str, tools: ToolSet, *, skip: int) -> int:
        segments = prompt_for(tokenizer, query, tools).segments[skip:]
        return sum(len(segment.encode(tokenizer)) for segment in segments)

    assert computed(QUERIES[0], few) == size(QUERIES[0], few, skip=0)
    assert computed(QUERIES[1], few) == size(QUERIES[1], few, skip=4)
    longest, *_ = [tool.name for tool in few.in_prompt_order()]
    assert computed(QUERIES[2], few.subset([longest])) == size(
        QUERIES[2], few.subset([longest]), skip=2
    )
    without = few.subset([name for name in few.names if name != longest])
    assert computed(QUERIES[2], without) == size(QUERIES[2], without, skip=1)


# Limits and callbacks


def test_a_plan_that_does_not_end_is_cut(tiny: LanguageModel, oracle: Oracle) -> None:
    """At exactly the allowed number of tokens, with drafts and without."""
    query, tools = QUICK[0]
    right = oracle(tiny, query, tools)
    prompt = prompt_for(tiny.tokenizer, query, TOOLSETS[tools])
    plan = tiny.tokenizer.decode(right)
    for options in (EngineOptions(), EngineOptions(width=0, forced=False)):
        for drafter in (None, Clairvoyant(plan)):
            engine = Engine(tiny, options=options)
            constraint = constraint_for(tiny.tokenizer, query, TOOLSETS[tools])
            kept = engine.plan(prompt, constraint, drafter=drafter, max_tokens=len(right))  # type: ignore[arg-type]
            assert kept.tokens == right
            constraint = constraint_for(tiny.tokenizer, query, TOOLSETS[tools])
            with pytest.raises(PlanError, match=f"not over after {len(right) - 1} tokens"):
                engine.plan(prompt, constraint, drafter=drafter, max_tokens=len(right) - 1)  # type: ignore[arg-type]
            assert written(engine, query, tools) == right  # nothing of it is left


def test_a_prompt_that_does_not_fit_is_refused(tiny: LanguageModel) -> None:
    """With the numbers and what would do; nothing is computed."""
    query = "words " * 5000
    prompt = prompt_for(tiny.tokenizer, query, TOOLSETS["one"])
    engine = Engine(tiny)
    constraint = constraint_for(tiny.tokenizer, "words", TOOLSETS["one"])
    with pytest.raises(ContextError, match=r"shorten the request or offer fewer tools"):
        engine.plan(prompt, constraint)
    assert len(engine.tier.tree) == 0  # type: ignore[attr-defined]


def test_the_text_grows_as_it_is_written(tiny: LanguageModel) -> None:
    """The callback sees the plan's beginnings, the whole plan last."""
    query, tools = QUICK[0]
    seen: list[str] = []
    constraint = constraint_for(tiny.tokenizer, query, TOOLSETS[tools])
    prompt = prompt_for(tiny.tokenizer, query, TOOLSETS[tools])
    decoded = Engine(tiny).plan(prompt, constraint, on_text=seen.append)
    assert seen[-1] == decoded.text
    assert len(seen) == decoded.counts.forward_passes
    finished = [text.rstrip("\ufffd") for text in seen]
    assert all(decoded.text.startswith(text) for text in finished)
    assert set(decoded.trace.seconds) >= {"prefill", "decode", "first"}


def test_a_script_is_written_at_the_models_cost(tiny: LanguageModel) -> None:
    """For benchmarks: the given plan comes out whatever the model would say."""
    query, tools = QUERIES[0], "few"
    other = tiny.tokenizer.encode('1. open_note("budget review", "")\n2. join()')
    assert tuple(other) != written(Engine(tiny), query, tools)
    prompt = prompt_for(tiny.tokenizer, query, TOOLSETS[tools])
    for options in (EngineOptions(), EngineOptions(width=0, forced=False)):
        constraint = constraint_for(tiny.tokenizer, query, TOOLSETS[tools])
        engine = Engine(tiny, options=options)
        decoded = engine.plan(
            prompt, constraint, script=other, drafter=Drafter(TOOLSETS[tools], query)
        )
        assert list(decoded.tokens) == other
        assert decoded.counts.forward_passes <= len(other)


def test_free_text_is_greedy_and_ends(tiny: LanguageModel) -> None:
    """``complete`` equals a loop without a cache."""
    import mlx.core as mx

    ids = tiny.tokenizer.encode("Request: email Dana")
    sequence = list(ids)
    for _ in range(12):
        token = int(mx.argmax(tiny.model(mx.array(sequence)[None])[0, -1]).item())
        if token in tiny.tokenizer.eos_ids:
            break
        sequence.append(token)
    text = Engine(tiny).complete(ids, max_tokens=12)
    assert text == tiny.tokenizer.decode(sequence[len(ids) :])
