"""Calibrated rounding: each number's error is made up for by the numbers after it.

Source:
    Frantar et al. 2023, GPTQ (arXiv:2210.17323): Cholesky form, columns in
    order of falling activation, scales fixed beforehand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mlx_tinyagent.quantize.packing import Format, Packed, choose_grid, from_codes, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAMPING = 0.01  # share of the mean diagonal added to it, so that the inverse exists
_STEP = 128  # columns whose errors are passed on together


def calibrated(
    weight: NDArray[np.float32], form: Format, second_moment: NDArray[np.float32]
) -> Packed:
    """Round a matrix so that its products with the calibration inputs change least.

    Args:
        weight: float32 [outputs, inputs].
        form: An affine format.
        second_moment: Sum of x x^T over the inputs x [inputs, inputs].

    Returns:
        The packed matrix; plain nearest rounding where there was no input.
    """
    moment = np.asarray(second_moment, np.float64)
    mean = float(np.mean(np.diag(moment)))
    if not mean > 0:
        grid = choose_grid(weight, form)
        return from_codes(nearest(weight, grid), grid)
    moment = moment / mean
    moment[np.diag_indices_from(moment)] += DAMPING
    importance = np.diag(moment).astype(np.float32)
    grid = choose_grid(weight, form, importance)
    order = np.argsort(-importance, kind="stable")
    factor = _factor(moment[np.ix_(order, order)])
    columns = np.ascontiguousarray(weight.T[order])  # [inputs, outputs]: a column is one row here
    codes = np.empty(columns.shape, np.uint8)
    top = np.float32(2**form.bits - 1)
    for start in range(0, len(order), _STEP):
        end = min(start + _STEP, len(order))
        errors = np.empty((end - start, columns.shape[1]), np.float32)
        for place in range(start, end):
            scale, bias = grid.column(int(order[place]))
            rounded = np.rint((columns[place] - bias) / np.where(scale > 0, scale, np.inf))
            code = np.clip(rounded, 0, top)
            codes[place] = code
            error = (columns[place] - (code * scale + bias)) / factor[place, place]
            errors[place - start] = error
            columns[place + 1 : end] -= np.outer(factor[place, place + 1 : end], error)
        columns[end:] -= factor[start:end, end:].T @ errors
    chosen = np.empty(weight.shape, np.uint8)
    chosen[:, order] = codes.T
    return from_codes(chosen, grid)


def _factor(moment: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the upper Cholesky factor of a positive matrix's inverse."""
    inverse = np.linalg.inv(moment)
    inverse = (inverse + inverse.T) / 2
    extra = 0.0
    while True:
        try:
            return np.linalg.cholesky(inverse + extra * np.eye(len(inverse))).T.astype(np.float32)
        except np.linalg.LinAlgError:  # rounding made it indefinite
            extra = max(10 * extra, 1e-8 * float(np.mean(np.diag(inverse))))
