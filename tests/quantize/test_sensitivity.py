"""What one backward pass expects is what rounding a matrix alone then costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tinyagent.errors import UsageError
from mlx_tinyagent.models.blockwise import Blockwise, linear_layers
from mlx_tinyagent.quantize import score, sensitivity
from mlx_tinyagent.quantize.packing import AFFINE_BITS, Format
from mlx_tinyagent.quantize.recipe import expected, mean_bits, mixed
from mlx_tinyagent.quantize.rows import Rows
from mlx_tinyagent.quantize.walk import Layout, walk

FORMATS = [Format(bits=bits, group_size=32) for bits in AFFINE_BITS]


def rounded(weight: mx.array, form: Format) -> mx.array:
    """Round with MLX's own quantization."""
    parts = mx.quantize(weight, group_size=form.group_size, bits=form.bits)
    return mx.dequantize(*parts, group_size=form.group_size, bits=form.bits)


def measured(
    folder: Path, plans: Rows, name: str, form: Format, adapter: Path | None = None
) -> float:
    """Return the KL of a model in which one matrix is rounded."""
    model = Blockwise(folder, adapter)
    if not name.startswith("model.layers"):
        layer = model.embedding() if name == sensitivity.EMBEDDING else model.head()
        layer["weight"] = rounded(layer["weight"], form)

    def change(index: int, block: object) -> None:
        for inner, layer in linear_layers(block).items():  # type: ignore[arg-type]
            if name == f"model.layers.{index}.{inner}":
                layer["weight"] = rounded(layer["weight"], form)

    layout = Layout(rows=plans, blocks=model.after_blocks)
    states = walk(model, layout, before=change)
    head = model.head()
    reading = score.Reading(layout.planned(states), head["weight"])
    reference = score.read(Blockwise(folder, adapter), plans)
    return score.mean(score.compare(reference, reading, plans), "kl")


@pytest.mark.parametrize("tied", [True, False])
def test_expected_and_measured_kl_agree(
    make_model: Callable[..., Path], plans: Rows, tied: bool
) -> None:
    """Within a factor of two for single matrices, over two orders of magnitude."""
    folder = make_model("judged", tie_word_embeddings=tied)
    table = sensitivity.measure(lambda: Blockwise(folder), plans, FORMATS)
    names = [
        sensitivity.EMBEDDING,
        "model.layers.0.self_attn.k_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.down_proj",
        *([] if tied else [sensitivity.HEAD]),
    ]

    assert set(table) == set(Blockwise(folder).matrices)
    for name in names:
        ratio = table[name][FORMATS[1]] / measured(folder, plans, name, FORMATS[1])
        assert 0.5 < ratio < 2, name


def test_an_adapter_after_the_blocks_takes_part(
    model: Path, make_adapter: Callable[..., Path], plans: Rows
) -> None:
    """With it the expectation is that of base and adapter together, blocks side by side.

    The adapter is so large that the base alone expects something else.
    """
    adapter = make_adapter(model, size=0.5)
    name = "model.layers.1.self_attn.q_proj"

    together = sensitivity.measure(lambda: Blockwise(model, adapter), plans, FORMATS)
    alone = sensitivity.measure(lambda: Blockwise(model), plans, FORMATS)
    kl = measured(model, plans, name, FORMATS[1], adapter)

    assert 0.5 < together[name][FORMATS[1]] / kl < 2
    assert not 0.5 < alone[name][FORMATS[1]] / kl < 2


costs = st.lists(st.floats(0, 10), min_size=6, max_size=6)
tables = st.dictionaries(st.sampled_from("abcdefgh"), costs, min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(tables, st.floats(2, 8))
def test_bits_are_spent_up_to_the_mean_and_not_beyond(
    found: dict[str, list[float]], bits: float
) -> None:
    """The mean is kept, and whoever has less could not have more that helps."""
    table = {
        name: dict(zip(FORMATS, sorted(values, reverse=True), strict=True))
        for name, values in found.items()
    }
    sizes = {name: 100 + 7 * index for index, name in enumerate(table)}

    chosen = mixed(table, sizes, bits)

    assert mean_bits(chosen, sizes, cost=False) <= bits + 1e-9
    lowest = dict.fromkeys(table, FORMATS[0])
    assert expected(table, chosen) <= expected(table, lowest)


def test_what_costs_most_gets_most() -> None:
    """Of two matrices of one size the one that suffers a hundred times more gets more bits."""
    falling = dict(zip(FORMATS, (1.0, 0.25, 0.06, 0.015, 0.004, 0.0003), strict=True))
    table = {"a": falling, "b": {form: 100 * kl for form, kl in falling.items()}}

    chosen = mixed(table, {"a": 64, "b": 64}, 4)

    assert chosen["b"].bits > chosen["a"].bits
    assert (chosen["a"].bits + chosen["b"].bits) / 2 <= 4


def test_too_few_bits_are_refused() -> None:
    """Below the smallest format there is nothing to choose."""
    table = {"a": dict(zip(FORMATS[1:], (5.0, 4.0, 3.0, 2.0, 1.0), strict=True))}

    with pytest.raises(UsageError, match=r"2\.5 bits are too few; the formats on offer begin at 3"):
        mixed(table, {"a": 64}, 2.5)


def test_mixed_beats_uniform_where_matrices_differ() -> None:
    """The greedy choice expects less KL than the same bits everywhere (random tables)."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        levels = np.exp(generator.normal(0, 2, 12))
        table = {
            str(i): {form: float(level * 4.0 ** (2 - form.bits)) for form in FORMATS}
            for i, level in enumerate(levels)
        }
        sizes = dict.fromkeys(table, 64)
        chosen = mixed(table, sizes, 4)
        assert expected(table, chosen) < expected(table, dict.fromkeys(table, FORMATS[2]))
