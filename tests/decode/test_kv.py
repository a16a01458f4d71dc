"""Caches put together from segments: positions, lengths, masks, rotation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_tinyagent.decode.kv import SegmentKV, SplitCache, cut, fill, rotated, side_by_side
from mlx_tinyagent.decode.tiers import compute
from mlx_tinyagent.models.forward import hidden_states, ropes
from mlx_tinyagent.models.language import LanguageModel, import_mlx_lm, load
from tests.decode.tiny import write_model

HEADS, WIDTH, LAYERS = 2, 16, 2


def rows(start: int, count: int) -> mx.array:
    """Return keys that tell their own number: [1, heads, count, width]."""
    numbers = mx.arange(start, start + count, dtype=mx.float32)[None, None, :, None]
    return mx.broadcast_to(numbers, (1, HEADS, count, WIDTH))


def numbers(array: mx.array) -> list[int]:
    """Read the numbers of ``rows`` back."""
    return [int(x) for x in array[0, 0, :, 0].tolist()]  # type: ignore[union-attr,arg-type]


def test_stored_length_and_position_are_apart() -> None:
    """Tokens are appended after what is stored; positions go on from where the caller says."""
    cache = SplitCache(rows(0, 5), rows(0, 5), position=40)
    keys, values = cache.update_and_fetch(rows(5, 3), rows(5, 3))
    assert numbers(keys) == numbers(values) == list(range(8))
    assert (cache.length, cache.offset) == (8, 43)


def test_taking_back_and_going_on() -> None:
    """What was taken back is overwritten; more than everything cannot be taken."""
    cache = SplitCache(rows(0, 5), rows(0, 5), position=40)
    cache.update_and_fetch(rows(5, 4), rows(5, 4))
    assert cache.is_trimmable()
    assert cache.trim(3) == 3
    assert (cache.length, cache.offset) == (6, 41)
    keys, _ = cache.update_and_fetch(rows(90, 2), rows(90, 2))
    assert numbers(keys) == [0, 1, 2, 3, 4, 5, 90, 91]
    assert cache.trim(100) == 8
    assert (cache.length, cache.offset) == (0, 35)


@pytest.mark.parametrize(
    "sizes", [[1] * 600, [255, 1, 1, 256, 257, 3], [700, 1, 1], [256, 256, 256]]
)
def test_growth_keeps_everything(sizes: list[int]) -> None:
    """Over the steps by which room is made, in pieces of any size."""
    cache = SplitCache(rows(0, 3), rows(0, 3), position=3)
    total = 3
    for size in sizes:
        keys, values = cache.update_and_fetch(rows(total, size), rows(total, size))
        total += size
        if size > 1 or total % 97 == 0:
            assert numbers(keys) == numbers(values) == list(range(total))
    assert (cache.length, cache.offset) == (total, total)
    assert keys.shape[2] == total


def test_growing_leaves_the_segments_alone() -> None:
    """A cache owns what it appends to; the segments it came from stay as they were."""
    kv = SegmentKV((rows(0, 4),) * LAYERS, (rows(0, 4),) * LAYERS)
    for cache in side_by_side([kv], position=4):
        cache.update_and_fetch(rows(50, 2), rows(50, 2))
        cache.trim(4)
        cache.update_and_fetch(rows(70, 3), rows(70, 3))
    assert all(numbers(array) == [0, 1, 2, 3] for array in (*kv.keys, *kv.values))
    assert (kv.tokens, kv.nbytes) == (4, 2 * LAYERS * HEADS * 4 * WIDTH * 4)


def test_the_mask_sees_all_blocks_and_is_causal_inside() -> None:
    """One new token needs none; an array has one column per stored and per new token."""
    cache = SplitCache(rows(0, 5), rows(0, 5), position=400)
    assert cache.make_mask(1) is None
    assert cache.make_mask(3) == "causal"
    mask = cache.make_mask(3, return_array=True)
    assert mask.tolist() == [[column <= 5 + row for column in range(8)] for row in range(3)]
    with pytest.raises(ValueError, match="full attention"):
        cache.make_mask(3, window_size=8)


def test_blocks_of_another_format_take_the_first_ones() -> None:
    """16-bit blocks beside a 32-bit header become 32 bits wide."""
    header = SegmentKV((rows(0, 2),), (rows(0, 2),))
    (cache,) = side_by_side([header, SegmentKV((rows(2, 2),), (rows(2, 2),)).halved()], position=9)
    assert cache.keys.dtype == cache.values.dtype == mx.float32
    assert numbers(cache.keys) == [0, 1, 2, 3]
    wide = SegmentKV((rows(0, 2).astype(mx.bfloat16),), (rows(0, 2).astype(mx.bfloat16),))
    assert wide.halved().keys[0].dtype == mx.bfloat16


def test_a_split_cache_in_line_is_an_ordinary_cache(tiny: LanguageModel) -> None:
    """With position equal to length, the model cannot tell the two apart."""
    ids = tiny.tokenizer.encode("email Dana Wu and Sam about the budget review")
    first, second = ids[:9], ids[9:]
    plain = tiny.new_cache()
    compute(tiny, plain, first)
    split = side_by_side([cut(plain, 0, 9)], position=9)
    filled = tiny.new_cache()
    fill(filled, [cut(plain, 0, 4), cut(plain, 4, 9)])
    outputs = [hidden_states(tiny.model, mx.array(second)[None], c) for c in (plain, split, filled)]
    assert mx.array_equal(outputs[0], outputs[1])
    assert mx.array_equal(outputs[0], outputs[2])


ROPES: dict[str, dict[str, Any]] = {
    "default": {},
    "traditional": {"rope_traditional": True},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "llama3": {
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 512,
        }
    },
    "yarn": {
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 8.0,
            "original_max_position_embeddings": 512,
        }
    },
    "dynamic": {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
}


@pytest.mark.parametrize("name", ROPES)
def test_a_moved_segment_equals_one_computed_there(tmp_path: Path, name: str) -> None:
    """One constant rotation of the keys, for every kind of rotary embedding; values stay."""
    import_mlx_lm()
    model = load(write_model(tmp_path / "model", **ROPES[name]))
    ids = model.tokenizer.encode("email Dana Wu and Sam about the budget review")

    def computed_at(position: int) -> SegmentKV:
        nothing = mx.zeros((1, HEADS, 0, WIDTH))
        cache = [SplitCache(nothing, nothing, position=position) for _ in range(LAYERS)]
        compute(model, cache, ids)
        return cut(cache, 0, len(ids))

    base = computed_at(0)
    assert rotated(base, ropes(model.model), 0) is base
    for delta in (1, 77, 777):
        moved, there = rotated(base, ropes(model.model), delta), computed_at(delta)
        for got, wanted in zip(
            (*moved.keys, *moved.values), (*there.keys, *there.values), strict=True
        ):
            assert mx.allclose(got, wanted, rtol=1e-3, atol=1e-3), (name, delta)
        back = rotated(moved, ropes(model.model), -delta)
        assert all(
            mx.allclose(a, b, rtol=1e-3, atol=1e-3)
            for a, b in zip(back.keys, base.keys, strict=True)
        )
