"""A model that is in memory block by block computes what it computes whole, as it is served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_tinyagent.decode.tiers import BlockTier
from mlx_tinyagent.errors import ModelError, UsageError
from mlx_tinyagent.models.blockwise import Blockwise
from mlx_tinyagent.models.forward import hidden_states
from mlx_tinyagent.models.language import LanguageModel, load
from mlx_tinyagent.prompt.render import header_segment, tool_segment
from mlx_tinyagent.quantize import score
from mlx_tinyagent.quantize.rows import Row, Rows
from mlx_tinyagent.quantize.walk import Layout, rest_bytes, walk
from mlx_tinyagent.tools.catalog import TINYAGENT16


def served(model: LanguageModel, row: Row) -> np.ndarray:
    """Return the states before a row's plan, with the tier that serves blocks."""
    frame, tokenizer = model.tokenizer.chat_frame(), model.tokenizer
    segments = [header_segment(frame), *(tool_segment(TINYAGENT16[name]) for name in row.tools)]
    ids = [segment.encode(tokenizer) for segment in segments]
    cache = BlockTier(model, store=None, budget=1 << 30).open(segments, ids).cache
    states = hidden_states(model.model, mx.array([*row.tail, *row.plan[:-1]])[None], cache)
    return np.array(states[0, -len(row.plan) :])


def test_one_text_after_the_other_is_the_whole_model(model: Path, plans: Rows) -> None:
    """The exact layout gives the states of one pass over the whole prompt."""
    layout = Layout(rows=plans, blocks=False)
    found = layout.planned(walk(Blockwise(model), layout))
    whole = load(model)

    for row, states in zip(plans.rows, found, strict=True):
        ids = mx.array([*plans.prompt(row), *row.plan[:-1]])[None]
        expected = hidden_states(whole.model, ids, None)[0, -len(row.plan) :]
        np.testing.assert_allclose(np.array(states), np.array(expected), atol=1e-4)


@pytest.mark.parametrize("adapted", [False, True])
def test_blocks_side_by_side_are_what_is_served(
    model: Path, plans: Rows, make_adapter: Callable[..., Path], adapted: bool
) -> None:
    """The block layout gives the served states, up to serving's 16 bits; with an adapter too."""
    adapter = make_adapter(model) if adapted else None
    layout = Layout(rows=plans, blocks=True)
    found = layout.planned(walk(Blockwise(model, adapter), layout))
    whole = load(model, adapter=adapter)

    for row, states in zip(plans.rows, found, strict=True):
        np.testing.assert_allclose(np.array(states), served(whole, row), atol=0.02)


def test_blocks_kept_in_16_bits_are_exactly_what_is_served(model: Path, plans: Rows) -> None:
    """Told to keep them as serving does, the walk differs by rounding alone."""
    layout = Layout(rows=plans, blocks=True, kept=16)
    found = layout.planned(walk(Blockwise(model), layout))
    whole = load(model)

    for row, states in zip(plans.rows, found, strict=True):
        np.testing.assert_allclose(np.array(states), served(whole, row), atol=2e-4)


def test_fewer_bits_at_rest_cost_more(make_model: Callable[..., Path], plans: Rows) -> None:
    """The KL of kept blocks rises as their bits fall, and is next to nothing at 8."""
    folder = make_model("wide", head_dim=32)
    reference = score.read(Blockwise(folder), plans, blocks=True, kept=16)
    kl = []
    for bits in (8, 4, 2):
        reading = score.read(Blockwise(folder), plans, blocks=True, kept=bits)
        kl.append(score.mean(score.compare(reference, reading, plans), "kl"))

    assert kl[0] < 1e-3
    assert kl[0] < kl[1] < kl[2]
    config = Blockwise(folder).config
    assert rest_bytes(config, 16) == 2 * 2 * 2 * 32 * 2
    assert rest_bytes(config, 8) == 2 * 2 * 2 * 32 * 9 / 8


def test_heads_that_do_not_divide_stay_in_16_bits(model: Path, plans: Rows) -> None:
    """The line says what would do."""
    with pytest.raises(UsageError, match="heads of 16 do not divide into groups of 32; keep 16"):
        score.read(Blockwise(model), plans, blocks=True, kept=8)


def test_an_adapter_for_all_tokens_is_fused(
    model: Path, plans: Rows, make_adapter: Callable[..., Path]
) -> None:
    """Fused block by block it gives what it gives unfused."""
    adapter = make_adapter(model, active="all")
    opened = Blockwise(model, adapter)
    layout = Layout(rows=plans, blocks=False)
    found = layout.planned(walk(opened, layout))
    whole = load(model, adapter=adapter)

    assert opened.fused
    row = plans.rows[0]
    ids = mx.array([*plans.prompt(row), *row.plan[:-1]])[None]
    expected = hidden_states(whole.model, ids, None)[0, -len(row.plan) :]
    np.testing.assert_allclose(np.array(found[0]), np.array(expected), atol=1e-3)


def test_a_block_is_taken_once(model: Path) -> None:
    """A block that was let go of is not read again by mistake."""
    opened = Blockwise(model)
    opened.take(0)

    with pytest.raises(ValueError, match="block 0 was taken already"):
        opened.take(0)


def test_an_unknown_architecture_is_refused(make_model: Callable[..., Path]) -> None:
    """What is not one block after the other is not walked through."""
    folder = make_model("odd", model_type="mamba")

    with pytest.raises(
        ModelError, match="architecture 'mamba'; quantizing with a gate knows llama"
    ):
        Blockwise(folder)
