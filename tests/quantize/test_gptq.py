"""Calibrated rounding loses less on the inputs it saw, and on others like them."""

from __future__ import annotations

import numpy as np
import pytest

from mlx_tinyagent.models.device import setup
from mlx_tinyagent.quantize.gptq import calibrated
from mlx_tinyagent.quantize.packing import Format, round_to

setup()


def inputs(count: int, seed: int) -> np.ndarray:
    """Return inputs whose columns depend on each other, as activations do."""
    mixing = np.random.default_rng(99).standard_normal((24, 128)).astype(np.float32)
    mixing[:, :6] *= 6
    found = np.random.default_rng(seed).standard_normal((count, 24)) @ mixing
    noise = 0.3 * np.random.default_rng(seed + 1).standard_normal((count, 128))
    return (found + noise).astype(np.float32)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_outputs_change_less_than_with_nearest_rounding(bits: int) -> None:
    """On inputs that were not seen, the squared error falls by more than a third."""
    weight = np.random.default_rng(0).standard_normal((48, 128)).astype(np.float32)
    form = Format(bits=bits, group_size=64)
    seen, other = inputs(600, 3), inputs(300, 50)

    def error(dense: object) -> float:
        return float(np.square(other @ (np.array(dense) - weight).T).mean())

    plain = error(round_to(weight, form).dense())
    found = error(calibrated(weight, form, seen.T @ seen).dense())

    assert found < 0.65 * plain


def test_without_inputs_it_is_nearest_rounding() -> None:
    """Columns that were never used leave nothing to weigh by."""
    weight = np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)
    form = Format(bits=4, group_size=32)

    found = calibrated(weight, form, np.zeros((64, 64), np.float32))

    np.testing.assert_array_equal(np.array(found.dense()), np.array(round_to(weight, form).dense()))


def test_independent_inputs_leave_nothing_to_make_up_for() -> None:
    """Where the second moment is diagonal, calibrated rounding is nearest rounding."""
    weight = np.random.default_rng(4).standard_normal((8, 64)).astype(np.float32)
    form = Format(bits=4, group_size=32)

    found = calibrated(weight, form, np.eye(64, dtype=np.float32))

    np.testing.assert_array_equal(np.array(found.dense()), np.array(round_to(weight, form).dense()))


def test_inputs_of_low_rank_are_no_problem() -> None:
    """Fewer inputs than columns give a singular second moment, which damping makes usable."""
    weight = np.random.default_rng(4).standard_normal((8, 64)).astype(np.float32)
    few = np.random.default_rng(5).standard_normal((3, 64)).astype(np.float32)

    dense = np.array(calibrated(weight, Format(bits=3, group_size=32), few.T @ few).dense())

    assert np.isfinite(dense).all()
