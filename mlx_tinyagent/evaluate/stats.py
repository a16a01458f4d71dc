"""Intervals and tests for shares and means; exact where exact is cheap.

Needs no statistics package: binomial sums and the incomplete beta function
are written out and tested against published tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
CHUNK = 4_000_000  # indices drawn at a time, which bounds memory to about 64 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its interval."""

    value: float
    low: float
    high: float
    n: int


def bootstrap(
    values: Sequence[float], *, seed: int = 0, level: float = 0.95, resamples: int = RESAMPLES
) -> Interval:
    """Return the mean and its percentile bootstrap interval.

    Args:
        values: One value per item, at least one.
        seed: Seed of the resampling.
        level: Coverage, between 0 and 1.
        resamples: Draws.

    Raises:
        ValueError: There are no values, or one is not finite.

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    data = _checked(values)
    low, high = _percentiles(_resampled_means(data, seed, resamples), level)
    return Interval(value=float(data.mean()), low=low, high=high, n=len(data))


def paired_bootstrap(
    first: Sequence[float],
    second: Sequence[float],
    *,
    seed: int = 0,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the mean difference ``second - first`` over the same items, with its interval.

    Raises:
        ValueError: The lengths differ, there are no values, or one is not finite.
    """
    if len(first) != len(second):
        raise ValueError(f"paired values need equal lengths, got {len(first)} and {len(second)}")
    return bootstrap(
        (_checked(second) - _checked(first)).tolist(), seed=seed, level=level, resamples=resamples
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """A comparison of two planners on the same items.

    Attributes:
        only_first: Items that only the first got right.
        only_second: Items that only the second got right.
        p: Two-sided exact p-value.
    """

    only_first: int
    only_second: int
    p: float


def mcnemar(first: Sequence[bool | float], second: Sequence[bool | float]) -> McNemar:
    """Test whether two planners are right equally often: the exact McNemar test.

    Under the null the items that only one got right are fair coin tosses; p is
    twice the smaller tail, at most 1.

    Raises:
        ValueError: The lengths differ.

    Source:
        McNemar 1947; exact form as in Dietterich 1998, Neural Computation 10(7).
    """
    if len(first) != len(second):
        raise ValueError(f"paired values need equal lengths, got {len(first)} and {len(second)}")
    only_first = sum(bool(a) and not b for a, b in zip(first, second, strict=True))
    only_second = sum(bool(b) and not a for a, b in zip(first, second, strict=True))
    tail = binomial_cdf(min(only_first, only_second), only_first + only_second, 0.5)
    return McNemar(only_first=only_first, only_second=only_second, p=min(1.0, 2 * tail))


def wilson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Return a share and its Wilson score interval.

    Raises:
        ValueError: Not 0 <= successes <= n, or n is 0.

    Source:
        Wilson 1927, JASA 22(158).
    """
    _check_counts(successes, n)
    z = normal_quantile((1 + level) / 2)
    share = successes / n
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else center - half
    high = 1.0 if successes == n else center + half
    return Interval(value=share, low=low, high=high, n=n)


def clopper_pearson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """Return a share and its exact (Clopper-Pearson) two-sided interval.

    Raises:
        ValueError: Not 0 <= successes <= n, or n is 0.

    Source:
        Clopper and Pearson 1934, Biometrika 26(4).
    """
    tail = (1 - level) / 2
    low, high = lower_bound(successes, n, level=1 - tail), 1.0
    if successes < n:
        high = beta_quantile(1 - tail, successes + 1, n - successes)
    return Interval(value=successes / n, low=low, high=high, n=n)


def lower_bound(successes: int, n: int, *, level: float = 0.95) -> float:
    """Return the one-sided exact lower bound of a share.

    Raises:
        ValueError: Not 0 <= successes <= n, or n is 0.
    """
    _check_counts(successes, n)
    return beta_quantile(1 - level, successes, n - successes + 1) if successes else 0.0


def binomial_cdf(k: int, n: int, p: float) -> float:
    """Return P(X <= k) of X ~ Bin(n, p)."""
    if k < 0:
        return 0.0
    if k >= n:
        return 1.0
    return incomplete_beta(1 - p, n - k, k + 1)


def incomplete_beta(x: float, a: float, b: float) -> float:
    """Return the regularized incomplete beta function I_x(a, b) for a, b > 0.

    Source:
        Continued fraction DLMF 8.17.22, summed by Lentz's method.
    """
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side
        return 1.0 - incomplete_beta(1.0 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    return front * _beta_fraction(x, a, b) / a


def beta_quantile(probability: float, a: float, b: float) -> float:
    """Return x with I_x(a, b) = probability, by bisection to the last bit."""
    low, high = 0.0, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if incomplete_beta(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return high


def normal_quantile(probability: float) -> float:
    """Return z with P(Z <= z) = probability for a standard normal Z."""
    low, high = -40.0, 40.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if math.erfc(-middle / math.sqrt(2)) / 2 < probability:
            low = middle
        else:
            high = middle
    return high


def _beta_fraction(x: float, a: float, b: float) -> float:
    """Sum the continued fraction of the incomplete beta function."""
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    total = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for factor in (even, odd):
            d = 1.0 + factor * d
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = 1.0 + factor / c
            c = c if abs(c) > tiny else tiny
            total *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return total


def _checked(values: Sequence[float]) -> npt.NDArray[np.float64]:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or not data.size:
        raise ValueError("a mean needs at least one value")
    if not np.isfinite(data).all():
        raise ValueError(f"value {int(np.argmin(np.isfinite(data)))} is not finite")
    return data


def _resampled_means(
    data: npt.NDArray[np.float64], seed: int, resamples: int
) -> npt.NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK // len(data))
    parts = [
        data[generator.integers(0, len(data), (min(step, resamples - start), len(data)))].mean(1)
        for start in range(0, resamples, step)
    ]
    return np.concatenate(parts)


def _percentiles(means: npt.NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check_counts(successes: int, n: int) -> None:
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} make no share; 0 <= successes <= n, n >= 1")
