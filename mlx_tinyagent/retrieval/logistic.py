"""One-vs-rest logistic regression on sparse features, in numpy.

Minimizes, per label, C * sum of log losses + |w|^2 / 2 by L-BFGS with an exact
line search. The labels are independent problems solved side by side, so every
inner product and step length is a vector with one entry per label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

HISTORY = 8  # pairs of steps that L-BFGS remembers
LINE_STEPS = 12  # Newton steps of a line search
BIAS_PENALTY = 1e-4  # keeps the bias of a label without examples finite
CHUNK = 1 << 17  # nonzero entries multiplied at a time


@dataclass(frozen=True)
class Sparse:
    """A sparse matrix by rows.

    Attributes:
        starts: Shape [rows + 1]; row i holds entries starts[i] .. starts[i + 1].
        columns: Column of each entry.
        values: Value of each entry.
        width: Number of columns.
    """

    starts: Ints
    columns: Ints
    values: Floats
    width: int

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[Ints, Floats]], width: int) -> Sparse:
        """Stack rows given as (columns, values)."""
        starts = np.cumsum([0, *(len(columns) for columns, _ in rows)], dtype=np.int64)
        columns = np.concatenate([c for c, _ in rows]) if rows else np.zeros(0, np.int64)
        values = np.concatenate([v for _, v in rows]) if rows else np.zeros(0)
        return cls(starts, columns.astype(np.int64), values.astype(np.float64), width)

    @property
    def height(self) -> int:
        """Number of rows."""
        return len(self.starts) - 1

    @cached_property
    def transposed(self) -> Sparse:
        """The same matrix by columns."""
        rows = np.repeat(np.arange(self.height), np.diff(self.starts))
        order = np.argsort(self.columns, kind="stable")
        counts = np.bincount(self.columns, minlength=self.width)
        starts = np.concatenate([[0], np.cumsum(counts)])
        return Sparse(starts, rows[order], self.values[order], self.height)

    def dot(self, dense: Floats) -> Floats:
        """Multiply with a dense matrix [width, labels]; returns [height, labels]."""
        result = np.zeros((self.height, dense.shape[1]))
        row = 0
        while row < self.height:
            end = int(np.searchsorted(self.starts, self.starts[row] + CHUNK, side="right")) - 1
            end = min(max(end, row + 1), self.height)
            part = slice(int(self.starts[row]), int(self.starts[end]))
            filled = row + np.flatnonzero(np.diff(self.starts[row : end + 1]))
            if len(filled):
                products = dense[self.columns[part]] * self.values[part, None]
                result[filled] = np.add.reduceat(products, self.starts[filled] - part.start)
            row = end
        return result


def fit_logistic(
    features: Sparse,
    targets: Floats,
    *,
    c: float,
    iterations: int = 200,
    tolerance: float = 1e-2,
) -> tuple[Floats, Floats]:
    """Fit weights and biases.

    Args:
        features: [examples, features].
        targets: 0 or 1, shape [examples, labels].
        c: Weight of the loss against the penalty.
        iterations: Steps at most.
        tolerance: Stop when no gradient entry of any label exceeds it.

    Returns:
        Weights [features, labels] and biases [labels].
    """
    x = _with_bias(features)
    penalty = np.ones((x.width, 1))
    penalty[-1] = BIAS_PENALTY
    weights = np.zeros((x.width, targets.shape[1]))
    logits = np.zeros_like(targets)
    gradient = _gradient(x, weights, logits, targets, c, penalty)
    memory: list[tuple[Floats, Floats, Floats]] = []  # step, gradient change, 1 / their product
    for _ in range(iterations):
        unfinished = np.abs(gradient).max(axis=0) > tolerance
        if not unfinished.any():
            break
        direction = _direction(gradient, memory) * unfinished
        slope = x.dot(direction)
        length = _line_search(weights, direction, logits, slope, targets, c, penalty)
        step = direction * length
        weights += step
        logits += slope * length
        new = _gradient(x, weights, logits, targets, c, penalty)
        change = new - gradient
        memory.append((step, change, _inverse(_inner(step, change))))
        del memory[:-HISTORY]
        gradient = new
    return weights[:-1], weights[-1]


def sigmoid(logits: Floats) -> Floats:
    """Return 1 / (1 + exp(-logits)), without overflow."""
    small = np.exp(-np.abs(logits))
    result: Floats = np.where(logits >= 0, 1.0, small) / (1.0 + small)
    return result


def _with_bias(features: Sparse) -> Sparse:
    """Append a column of ones."""
    ends = features.starts[1:]
    return Sparse(
        starts=features.starts + np.arange(features.height + 1),
        columns=np.insert(features.columns, ends, features.width),
        values=np.insert(features.values, ends, 1.0),
        width=features.width + 1,
    )


def _gradient(
    x: Sparse, weights: Floats, logits: Floats, targets: Floats, c: float, penalty: Floats
) -> Floats:
    return c * x.transposed.dot(sigmoid(logits) - targets) + penalty * weights


def _direction(gradient: Floats, memory: Sequence[tuple[Floats, Floats, Floats]]) -> Floats:
    """Two-loop recursion of L-BFGS (Nocedal and Wright 2006, algorithm 7.4), per label."""
    result = -gradient
    shares: list[Floats] = []
    for step, change, inverse in reversed(memory):
        share = _inner(step, result) * inverse
        result = result - share * change
        shares.append(share)
    if memory:
        step, change, _ = memory[-1]
        scale = _inner(step, change) * _inverse(_inner(change, change))
        result = result * np.where(scale > 0, scale, 1.0)
    for (step, change, inverse), share in zip(memory, reversed(shares), strict=True):
        result = result + step * (share - _inner(change, result) * inverse)
    return result


def _line_search(
    weights: Floats,
    direction: Floats,
    logits: Floats,
    slope: Floats,
    targets: Floats,
    c: float,
    penalty: Floats,
) -> Floats:
    """Minimize along the direction, per label: safeguarded Newton on a convex function."""
    linear = _inner(penalty * weights, direction)
    square = _inner(penalty * direction, direction)
    length = np.ones(direction.shape[1])
    low, high = np.zeros_like(length), np.full_like(length, np.inf)
    for _ in range(LINE_STEPS):
        likely = sigmoid(logits + slope * length)
        first = c * _inner(slope, likely - targets) + linear + length * square
        second = c * _inner(slope * slope, likely * (1 - likely)) + square
        low, high = np.where(first < 0, length, low), np.where(first < 0, high, length)
        newton = length - first / np.maximum(second, 1e-300)
        fallback = np.where(np.isinf(high), 2 * length, (low + high) / 2)
        length = np.where((newton > low) & (newton < high), newton, fallback)
    return length


def _inverse(products: Floats) -> Floats:
    """Return reciprocals, 0 for what is no curvature: labels that stand still, rounding."""
    result: Floats = np.zeros_like(products)
    np.divide(1.0, products, out=result, where=products > 1e-30)
    return result


def _inner(first: Floats, second: Floats) -> Floats:
    """Return the inner product per label."""
    result: Floats = np.einsum("vl,vl->l", first, second)
    return result
