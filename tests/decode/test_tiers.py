"""What stands before the tail: exact equals cold bit for bit, blocks fit in any order."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_tinyagent.decode import grammar
from mlx_tinyagent.decode.drafts import Drafter
from mlx_tinyagent.decode.engine import Engine, EngineOptions
from mlx_tinyagent.decode.reference import plan_tokens
from mlx_tinyagent.decode.store import KVStore
from mlx_tinyagent.decode.tiers import (
    BLOCK_ROOM,
    BlockTier,
    ColdTier,
    ExactTier,
    TierWarning,
    make_tier,
    tail_position,
)
from mlx_tinyagent.errors import ContextError, PlanError, UsageError
from mlx_tinyagent.models.forward import hidden_states, logits
from mlx_tinyagent.models.language import LanguageModel, load
from mlx_tinyagent.prompt.render import Prompt, Segment
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16
from tests.decode.tiny import (
    QUERIES,
    TOOLSETS,
    constraint_for,
    prompt_for,
    write_adapter,
    write_model,
)

PLENTY = 1 << 30


def subsets(count: int) -> list[ToolSet]:
    """Return tool sets of one to six tools."""
    chance = random.Random(3)
    names = TINYAGENT16.names
    return [TINYAGENT16.subset(chance.sample(names, chance.randrange(1, 7))) for _ in range(count)]


def opened(tier: Any, model: LanguageModel, prompt: Prompt) -> tuple[mx.array, Any]:
    """Open a prompt's prefix and run its tail; returns the tail's hidden states."""
    *prefix, tail = prompt.segments
    ids = [segment.encode(model.tokenizer) for segment in prefix]
    result = tier.open(prefix, ids)
    hidden = hidden_states(model.model, mx.array(tail.encode(model.tokenizer))[None], result.cache)
    mx.eval(hidden)
    return hidden, result


def encoded(model: LanguageModel, segments: list[Segment]) -> list[list[int]]:
    """Return the segments' tokens."""
    return [segment.encode(model.tokenizer) for segment in segments]


# Exact


@pytest.mark.parametrize("budget", [PLENTY, 250_000, 0])
def test_exact_equals_cold_bit_for_bit(tiny: LanguageModel, tmp_path: Path, budget: int) -> None:
    """Hidden states and logits, for shared, evicted and stored prefixes alike."""
    cold = ColdTier(tiny)
    store = KVStore(tmp_path / "kv", tiny)
    tiers = [ExactTier(tiny, store=kept, budget=budget) for kept in (None, store, store)]
    for index, tools in enumerate(subsets(6)):
        prompt = prompt_for(tiny.tokenizer, QUERIES[index % len(QUERIES)], tools)
        wanted, cost = opened(cold, tiny, prompt)
        assert (cost.computed, cost.touched) == (
            sum(map(len, encoded(tiny, [*prompt.segments[:-1]]))),
            0,
        )
        for tier in tiers:
            hidden, result = opened(tier, tiny, prompt)
            assert mx.array_equal(hidden, wanted)
            assert mx.array_equal(logits(tiny.model, hidden), logits(tiny.model, wanted))
            assert result.computed <= cost.computed
            assert tier.tree.nbytes <= budget


def test_exact_computes_what_no_prompt_before_had(tiny: LanguageModel) -> None:
    """Counted against the set of all beginnings seen so far; bytes touched are those reused."""
    tier = ExactTier(tiny, store=None, budget=PLENTY)
    seen: set[tuple[str, ...]] = set()
    for tools in subsets(20):
        segments = list(prompt_for(tiny.tokenizer, "x", tools).segments[:-1])
        ids = encoded(tiny, segments)
        paths = [tuple(s.digest for s in segments[: i + 1]) for i in range(len(segments))]
        new = [i for i, path in enumerate(paths) if path not in seen]
        result = tier.open(segments, ids)
        assert result.computed == sum(len(ids[i]) for i in new)
        assert result.passes == len(new)
        reused = sum(map(len, ids)) - result.computed
        assert result.touched == reused * tiny.kv_bytes_per_token
        seen |= set(paths)
    assert len(tier.tree) == len(seen)


@pytest.mark.slow
def test_a_thousand_tools_in_one_prompt(tiny: LanguageModel) -> None:
    """No recursion anywhere; the second time nothing is computed."""
    tools = [
        replace(TOOLSETS["one"]["send_sms"], name=f"t{i}", summary="x", params=())
        for i in range(1000)
    ]
    prompt = prompt_for(tiny.tokenizer, "x", ToolSet("thousand", tools))
    segments = [*prompt.segments[:-1]]
    small = replace(tiny, context=1 << 20)
    tier = ExactTier(small, store=None, budget=PLENTY)
    tokens = [ids[:1] for ids in encoded(tiny, segments)]  # one token each: only depth matters
    assert tier.open(segments, tokens).passes == 1001
    assert tier.open(segments, tokens).computed == 0


# Blocks


def test_the_order_of_blocks_does_not_matter(tiny: LanguageModel) -> None:
    """All stand at the same positions, so a set of tools is one context, whatever its order."""
    tier = BlockTier(tiny, store=None, budget=PLENTY)
    chance = random.Random(0)
    for tools in subsets(4):
        header, *blocks, tail = prompt_for(tiny.tokenizer, QUERIES[0], tools).segments
        wanted, first = opened(tier, tiny, Prompt((header, *blocks, tail)))
        for _ in range(3):
            chance.shuffle(blocks)
            hidden, result = opened(tier, tiny, Prompt((header, *blocks, tail)))
            assert mx.allclose(hidden, wanted, rtol=1e-3, atol=1e-4)
            assert result.computed == 0
            assert result.cache[0].offset == first.cache[0].offset


def test_any_subset_computes_only_new_blocks(tiny: LanguageModel) -> None:
    """Every tool once and never again, as the model has bytes for it."""
    tier = BlockTier(tiny, store=None, budget=PLENTY)
    seen: set[str] = set()
    for tools in subsets(12):
        segments = list(prompt_for(tiny.tokenizer, "x", tools).segments[:-1])
        ids = encoded(tiny, segments)
        result = tier.open(segments, ids)
        new = [i for i, segment in enumerate(segments) if segment.name not in seen]
        assert result.computed == sum(len(ids[i]) for i in new)
        assert result.passes == len(new)
        seen |= {segment.name for segment in segments}


def test_the_tail_begins_at_one_position(tiny: LanguageModel) -> None:
    """A fixed room after the header, doubled where a tool is longer; stored length is another."""
    assert tail_position(200, []) == tail_position(200, [1, BLOCK_ROOM]) == 200 + BLOCK_ROOM
    assert tail_position(200, [BLOCK_ROOM + 1]) == 200 + 2 * BLOCK_ROOM
    tier = BlockTier(tiny, store=None, budget=PLENTY)
    for tools in subsets(6):
        *prefix, _ = prompt_for(tiny.tokenizer, "x", tools).segments
        ids = encoded(tiny, prefix)
        cache = tier.open(prefix, ids).cache
        position = tail_position(len(ids[0]), [len(block) for block in ids[1:]])
        assert all(layer.offset == position for layer in cache)
        assert all(layer.length == sum(map(len, ids)) for layer in cache)


def test_a_single_block_in_its_place_is_the_exact_context(tiny: LanguageModel) -> None:
    """One tool after the header sees what it sees in a whole prompt; only the tail is moved."""
    tools = TOOLSETS["one"]
    *prefix, _ = prompt_for(tiny.tokenizer, "x", tools).segments
    ids = encoded(tiny, prefix)
    blocks = BlockTier(tiny, store=None, budget=PLENTY).open(prefix, ids).cache
    exact = ExactTier(tiny, store=None, budget=PLENTY).open(prefix, ids).cache
    for split, plain in zip(blocks, exact, strict=True):
        length = split.length
        assert mx.allclose(split.keys[..., :length, :], plain.keys[..., :length, :], atol=2e-3)
        assert mx.allclose(split.values[..., :length, :], plain.values[..., :length, :], atol=2e-3)


def test_a_block_is_the_same_computed_or_read_back(tiny: LanguageModel, tmp_path: Path) -> None:
    """Bit for bit: what one process computes, the next one reads."""
    store = KVStore(tmp_path / "kv", tiny)
    prompt = prompt_for(tiny.tokenizer, QUERIES[0], TOOLSETS["few"])
    computed, first = opened(BlockTier(tiny, store=store, budget=PLENTY), tiny, prompt)
    read, second = opened(BlockTier(tiny, store=store, budget=PLENTY), tiny, prompt)
    none, _ = opened(BlockTier(tiny, store=None, budget=PLENTY), tiny, prompt)
    assert first.computed > 0
    assert second.computed == 0
    assert mx.array_equal(computed, read)
    assert mx.array_equal(computed, none)


def test_blocks_take_16_bits_a_number(tiny: LanguageModel, tmp_path: Path) -> None:
    """In memory and on disk; the header, which everything reads, keeps its own format."""
    store = KVStore(tmp_path / "kv", tiny)
    tier = BlockTier(tiny, store=store, budget=PLENTY)
    *prefix, _ = prompt_for(tiny.tokenizer, "x", TOOLSETS["few"]).segments
    tier.open(prefix, encoded(tiny, prefix))
    header, *blocks = tier._kept.values()
    assert header.keys[0].dtype == mx.float32
    assert {array.dtype for kv in blocks for array in (*kv.keys, *kv.values)} == {mx.float16}
    kept = {kv.nbytes for kv in tier._kept.values()}
    sizes = [path.stat().st_size for path in (tmp_path / "kv").iterdir()]
    assert all(any(0 < size - nbytes < 2048 for nbytes in kept) for size in sizes)


def test_repairing_everything_is_the_exact_tier(tiny: LanguageModel) -> None:
    """Blocks moved into line, all their tokens computed in place: the sequential prompt."""
    for tools in subsets(4):
        prompt = prompt_for(tiny.tokenizer, QUERIES[0], tools)
        exact, _ = opened(ExactTier(tiny, store=None, budget=PLENTY), tiny, prompt)
        tier = BlockTier(tiny, store=None, budget=PLENTY, repair=10_000)
        hidden, result = opened(tier, tiny, prompt)
        assert mx.allclose(hidden, exact, rtol=1e-3, atol=1e-4)
        lengths = [len(ids) for ids in encoded(tiny, [*prompt.segments[:-1]])]
        assert result.cache[0].length == sum(lengths) + hidden.shape[1]
        again, warm = opened(tier, tiny, prompt)
        assert mx.array_equal(again, hidden)
        assert warm.computed == sum(lengths[1:])


def test_repairing_the_first_tokens_costs_them_alone(tiny: LanguageModel) -> None:
    """16 per block; the blocks stand one after the other."""
    prompt = prompt_for(tiny.tokenizer, QUERIES[0], TOOLSETS["few"])
    tier = BlockTier(tiny, store=None, budget=PLENTY, repair=16)
    lengths = [len(ids) for ids in encoded(tiny, [*prompt.segments[:-1]])]
    *prefix, _ = prompt.segments
    tier.open(prefix, encoded(tiny, prefix))
    warm = tier.open(prefix, encoded(tiny, prefix))
    assert warm.computed == sum(min(16, n) for n in lengths[1:])
    assert [layer.offset for layer in warm.cache] == [sum(lengths)] * len(warm.cache)


def test_blocks_keep_within_their_bytes(tiny: LanguageModel) -> None:
    """The least recently used one goes; what is dropped is computed again, to the same bits."""
    budget = 150_000
    tier = BlockTier(tiny, store=None, budget=budget)
    plenty = BlockTier(tiny, store=None, budget=PLENTY)
    for tools in subsets(8):
        prompt = prompt_for(tiny.tokenizer, QUERIES[0], tools)
        hidden, _ = opened(tier, tiny, prompt)
        wanted, _ = opened(plenty, tiny, prompt)
        assert mx.array_equal(hidden, wanted)
        assert tier._nbytes == sum(kv.nbytes for kv in tier._kept.values()) <= budget


def test_building_ahead_leaves_nothing_to_compute(tiny: LanguageModel, tmp_path: Path) -> None:
    """Header and tools once; the next process finds them on disk."""
    store = KVStore(tmp_path / "kv", tiny)
    segments = list(prompt_for(tiny.tokenizer, "x", TINYAGENT16).segments[:-1])
    ids = encoded(tiny, segments)
    assert BlockTier(tiny, store=store, budget=PLENTY).build(segments, ids) == 17
    later = BlockTier(tiny, store=store, budget=PLENTY)
    assert later.build(segments, ids) == 0
    assert later.open(segments[:3], ids[:3]).computed == 0
    assert len(list((tmp_path / "kv").glob("*.safetensors"))) == 17


# Adapters


@pytest.mark.parametrize("tier", ["exact", "cold", "blocks"])
def test_an_adapter_after_the_blocks_leaves_the_prefix_alone(
    tiny: LanguageModel, tiny_folder: Path, tmp_path: Path, tier: str
) -> None:
    """The prefix is the base model's bit for bit, and on disk it is shared with it."""
    after = write_adapter(tmp_path / "after", tiny_folder, active="after_blocks")
    model = load(tiny_folder, adapter=after)
    folder = tmp_path / "kv"
    prompt = prompt_for(tiny.tokenizer, QUERIES[0], TOOLSETS["few"])
    *prefix, _ = prompt.segments
    ids = encoded(tiny, prefix)
    opened_by = [
        make_tier(tier, m, store=KVStore(folder, m), budget=PLENTY).open(prefix, ids)  # type: ignore[arg-type]
        for m in (model, tiny)
    ]
    for adapted, plain in zip(opened_by[0].cache, opened_by[1].cache, strict=True):
        length = sum(map(len, ids))
        assert mx.array_equal(adapted.keys[..., :length, :], plain.keys[..., :length, :])
        assert mx.array_equal(adapted.values[..., :length, :], plain.values[..., :length, :])
    shared = {"exact": len(ids[0]), "cold": 0, "blocks": sum(map(len, ids))}[tier]
    assert opened_by[0].computed - opened_by[1].computed == shared


def test_an_adapter_everywhere_shares_nothing_with_the_base(
    tiny: LanguageModel, tiny_folder: Path, tmp_path: Path
) -> None:
    """Its files are its own."""
    model = load(tiny_folder, adapter=write_adapter(tmp_path / "all", tiny_folder, active="all"))
    stores = [KVStore(tmp_path / "kv", m) for m in (model, tiny)]
    assert stores[0].key(["p"], [1]) != stores[1].key(["p"], [1])


@pytest.mark.parametrize("active", ["after_blocks", "all"])
def test_plans_with_an_adapter_equal_the_plain_loop(
    tiny: LanguageModel,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    active: str,
) -> None:
    """Computed ahead, with drafts, and from disk; and the adapter does make a difference."""
    monkeypatch.setattr(grammar, "MAX_TEXT_CHARS", 16)
    model = load(tiny_folder, adapter=write_adapter(tmp_path / "a", tiny_folder, active=active))
    tools = TOOLSETS["few"]
    prompt = prompt_for(model.tokenizer, "????", tools)

    def constraint() -> Any:
        return constraint_for(model.tokenizer, "????", tools)

    wanted = plan_tokens(model, prompt, constraint())
    assert wanted != plan_tokens(tiny, prompt, constraint())
    store = KVStore(tmp_path / "kv", model)
    for options in (EngineOptions(), EngineOptions(tier="cold", width=0)):
        engine = Engine(model, store=store, options=options)
        engine.extend(prompt)
        for _ in range(2):
            plan = engine.plan(prompt, constraint(), drafter=Drafter(tools, "????"))
            assert list(plan.tokens) == wanted


# Models whose caches cannot be cut


def test_blocks_are_refused_where_attention_is_not_full(tiny: LanguageModel) -> None:
    """The line names the model, what its layers are and what serves it."""
    for kind in ("sliding", "recurrent"):
        other = replace(tiny, kind=kind)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=f"{kind} layers, which blocks cannot serve.*cold"):
            make_tier("blocks", other, store=None, budget=PLENTY)
        assert make_tier("cold", other, store=None, budget=PLENTY).name == "cold"
        with pytest.warns(TierWarning, match=f"{kind} layers.*computed in full \\(cold tier\\)"):
            assert make_tier("exact", other, store=None, budget=PLENTY).name == "cold"


def test_a_model_with_a_sliding_window_is_served_cold(tmp_path: Path) -> None:
    """No drafts, nothing kept, nothing computed ahead, and still the oracle's tokens."""
    layers = ["sliding_attention", "full_attention"]
    folder = write_model(tmp_path / "sliding", layer_types=layers, sliding_window=48)
    model = load(folder)
    assert model.kind == "sliding"
    tools, query = TOOLSETS["linked"], QUERIES[0]
    prompt = prompt_for(model.tokenizer, query, tools)
    wanted = plan_tokens(model, prompt, constraint_for(model.tokenizer, query, tools))
    with pytest.warns(TierWarning, match="sliding layers"):
        engine = Engine(model, options=EngineOptions(padded=8))
    assert engine.extend(prompt) == 0
    for _ in range(2):
        decoded = engine.plan(prompt, constraint_for(model.tokenizer, query, tools))
        assert list(decoded.tokens) == wanted
        assert decoded.counts.prompt_tokens_computed == decoded.counts.prompt_tokens
        assert decoded.counts.forward_passes == decoded.counts.plan_tokens


def test_the_context_holds_positions_not_stored_tokens(tiny: LanguageModel) -> None:
    """Blocks side by side share positions: many more tools fit, and few take their room."""
    tools = TOOLSETS["hundreds"]
    prompt = prompt_for(tiny.tokenizer, QUERIES[8], tools)
    lengths = [len(segment.encode(tiny.tokenizer)) for segment in prompt.segments]
    room = tail_position(lengths[0], lengths[1:-1]) + lengths[-1]
    assert sum(lengths) > 2 * room

    def plan(context: int, tier: str) -> int:
        model = replace(tiny, context=context)
        engine = Engine(model, options=EngineOptions(tier=tier))  # type: ignore[arg-type]
        constraint = constraint_for(tiny.tokenizer, QUERIES[8], tools)
        with contextlib.suppress(PlanError):  # cut after eight tokens: the prompt fitted
            return engine.plan(prompt, constraint, max_tokens=8).counts.plan_tokens
        return 8

    assert plan(room + 8, "blocks")
    with pytest.raises(ContextError, match=f"takes {room} positions"):
        plan(room + 7, "blocks")
    with pytest.raises(ContextError, match=f"takes {sum(lengths)} positions"):
        plan(sum(lengths) + 7, "exact")


@pytest.mark.parametrize("repair", [0, 4])
def test_the_tail_is_where_the_tier_says(tiny: LanguageModel, repair: int) -> None:
    """What is promised before a prompt is opened is the position it then has."""
    for name in ("exact", "blocks", "cold"):
        tier = make_tier(name, tiny, store=None, budget=PLENTY, repair=repair)  # type: ignore[arg-type]
        for tools in subsets(4):
            segments = prompt_for(tiny.tokenizer, "x", tools).segments[:-1]
            ids = [segment.encode(tiny.tokenizer) for segment in segments]
            assert tier.open(segments, ids).cache[0].offset == tier.positions(ids)
