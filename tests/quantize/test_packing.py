"""Packed matrices are MLX's own, bit for bit, and what they mean is what products use."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlx_tinyagent.models.device import setup
from mlx_tinyagent.quantize.packing import (
    AFFINE_BITS,
    FLOATS,
    Format,
    choose_grid,
    from_codes,
    nearest,
    pack,
    round_to,
)

setup()


def matrix(rows: int = 12, columns: int = 128, seed: int = 0) -> np.ndarray:
    """Return a random matrix with a few large numbers, as weights have."""
    generator = np.random.default_rng(seed)
    values = generator.standard_normal((rows, columns)).astype(np.float32)
    values[:, ::37] *= 4
    return values


@pytest.mark.parametrize("bits", AFFINE_BITS)
def test_codes_are_packed_as_mlx_packs_them(bits: int) -> None:
    """MLX unpacks our stream of bits into the codes that went in."""
    codes = np.random.default_rng(bits).integers(0, 2**bits, (6, 64)).astype(np.uint8)
    ones, zeros = mx.ones((6, 1)), mx.zeros((6, 1))

    found = mx.dequantize(mx.array(pack(codes, bits)), ones, zeros, group_size=64, bits=bits)

    np.testing.assert_array_equal(np.array(found), codes)


@pytest.mark.parametrize("bits", AFFINE_BITS)
@pytest.mark.parametrize("group_size", [32, 64, 128])
def test_what_is_packed_is_what_the_codes_mean(bits: int, group_size: int) -> None:
    """Unpacking gives scale * code + bias to the last bit but one, and no number is far off."""
    weight = matrix()
    grid = choose_grid(weight, Format(bits=bits, group_size=group_size))
    codes = nearest(weight, grid)

    dense = np.array(from_codes(codes, grid).dense())

    np.testing.assert_allclose(dense, grid.values(codes), rtol=2e-7, atol=1e-7)
    spans = weight.reshape(12, -1, group_size)
    widest = (spans.max(-1) - spans.min(-1)).max()
    assert np.abs(dense - weight).max() <= 0.2 * widest + widest / 2**bits


def test_searching_a_range_never_hurts() -> None:
    """The squared error of every group is at most that of its full range."""
    weight = matrix(rows=40)
    form = Format(bits=3, group_size=32)

    def error(search: bool) -> np.ndarray:
        grid = choose_grid(weight, form, search=search)
        off = grid.values(nearest(weight, grid)) - weight
        return np.square(off).reshape(40, -1, 32).sum(-1)

    assert (error(True) <= error(False) + 1e-6).all()
    assert error(True).sum() < 0.97 * error(False).sum()


@pytest.mark.parametrize("bits", AFFINE_BITS)
def test_a_constant_group_stays_itself(bits: int) -> None:
    """A group of one value has no range and keeps its value."""
    weight = np.full((3, 64), 0.25, np.float32)

    dense = np.array(round_to(weight, Format(bits=bits, group_size=64)).dense())

    np.testing.assert_array_equal(dense, weight)


@pytest.mark.parametrize(
    "form",
    [
        *(Format(bits=bits, group_size=32) for bits in AFFINE_BITS),
        *(Format(bits=bits, group_size=group, mode=mode) for mode, (group, bits) in FLOATS.items()),  # type: ignore[arg-type]
    ],
    ids=lambda form: f"{form.mode}-{form.bits}",
)
def test_packed_products_equal_those_of_the_dense_numbers(form: Format) -> None:
    """MLX's packed product, float32, is the product with the unpacked numbers."""
    packed = round_to(matrix(rows=16), form)
    x = mx.array(np.random.default_rng(1).standard_normal((5, 128)).astype(np.float32))
    affine = form.mode == "affine"
    scales = packed.arrays["scales"]

    product = mx.quantized_matmul(
        x,
        packed.arrays["weight"],
        scales.astype(mx.float32) if affine else scales,
        packed.arrays["biases"].astype(mx.float32) if affine else None,
        transpose=True,
        group_size=form.group_size,
        bits=form.bits,
        mode=form.mode,
    )

    np.testing.assert_allclose(
        np.array(product), np.array(x @ packed.dense().T), rtol=2e-4, atol=2e-4
    )


@pytest.mark.parametrize(
    ("form", "cost"),
    [
        (Format(bits=4, group_size=64), 4.5),
        (Format(bits=4, group_size=32), 5.0),
        (Format(bits=4, group_size=32, mode="mxfp4"), 4.25),
        (Format(bits=4, group_size=16, mode="nvfp4"), 4.5),
    ],
)
def test_the_cost_is_what_the_arrays_take(form: Format, cost: float) -> None:
    """Bits per weight count the scales, in 16 or 8 bits."""
    packed = round_to(matrix(), form)

    assert form.cost == cost
    assert sum(array.nbytes for array in packed.arrays.values()) * 8 / (12 * 128) == cost
