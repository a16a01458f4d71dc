"""Intervals and tests, against published tables and exact sums."""

import math
import random
from fractions import Fraction

import numpy as np
import pytest

from mlx_tinyagent.evaluate.stats import (
    beta_quantile,
    binomial_cdf,
    bootstrap,
    clopper_pearson,
    incomplete_beta,
    lower_bound,
    mcnemar,
    normal_quantile,
    paired_bootstrap,
    wilson,
)


@pytest.mark.parametrize("n", [1, 5, 40, 300])
@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.97])
def test_binomial_tails_equal_exact_sums(n, p):
    """The incomplete beta function gives what adding fractions gives."""
    share = Fraction(str(p))
    for k in sorted({0, n // 3, n // 2, n - 1, n}):
        exact = sum(math.comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(k + 1))
        assert binomial_cdf(k, n, p) == pytest.approx(float(exact), rel=1e-10, abs=1e-300)


def test_incomplete_beta_has_its_symmetry_and_closed_forms():
    """I_x(1, b), I_x(a, 1) and I_x(a, b) + I_(1-x)(b, a) = 1."""
    for x in (0.001, 0.2, 0.5, 0.93):
        for a in (0.5, 1.0, 7.0, 300.0):
            assert incomplete_beta(x, a, 1) == pytest.approx(x**a, rel=1e-12)
            assert incomplete_beta(x, 1, a) == pytest.approx(-math.expm1(a * math.log1p(-x)))
            assert incomplete_beta(x, a, 3.5) + incomplete_beta(1 - x, 3.5, a) == pytest.approx(1)
            assert incomplete_beta(beta_quantile(x, a, 2), a, 2) == pytest.approx(x)


@pytest.mark.parametrize(
    ("probability", "z"),
    [(0.5, 0.0), (0.95, 1.6448536269514722), (0.975, 1.959963984540054), (0.005, -2.5758293035489)],
)
def test_normal_quantiles_are_the_tables(probability, z):
    """Standard normal table."""
    assert normal_quantile(probability) == pytest.approx(z, abs=1e-9)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, Statistics in Medicine 17, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_newcombes(successes, n, low, high):
    """Score intervals without continuity correction."""
    interval = wilson(successes, n)

    assert (interval.low, interval.high) == (
        pytest.approx(low, abs=5e-5),
        pytest.approx(high, abs=5e-5),
    )


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2527, 0.3676),  # Newcombe 1998, table I, method 5
        (15, 148, 0.0578, 0.1617),
        (0, 20, 0.0000, 0.1684),
        (1, 29, 0.0009, 0.1776),
    ],
)
def test_clopper_pearson_intervals_are_newcombes(successes, n, low, high):
    """Exact intervals."""
    interval = clopper_pearson(successes, n)

    assert (interval.low, interval.high) == (
        pytest.approx(low, abs=5e-5),
        pytest.approx(high, abs=5e-5),
    )


@pytest.mark.parametrize(
    ("n", "misses", "bound"),
    [(300, 0, 0.9901), (300, 1, 0.9843), (500, 2, 0.9875), (1000, 0, 0.9970), (1000, 2, 0.9937)],
)
def test_one_sided_bounds_without_and_with_misses(n, misses, bound):
    """At zero misses the bound is 0.05^(1/n)."""
    assert lower_bound(n - misses, n) == pytest.approx(bound, abs=5e-5)
    assert lower_bound(n, n) == pytest.approx(0.05 ** (1 / n))


def test_exact_intervals_cover_at_least_as_promised():
    """Over all outcomes of Bin(30, p), the exact interval holds p at least 95 % of the time."""
    intervals = [clopper_pearson(k, 30) for k in range(31)]
    for p in (0.03, 0.2, 0.5, 0.81):
        inside = sum(
            math.comb(30, k) * p**k * (1 - p) ** (30 - k)
            for k, interval in enumerate(intervals)
            if interval.low <= p <= interval.high
        )
        assert inside >= 0.95


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [(0, 0, 1.0), (1, 1, 1.0), (0, 6, 2 / 64), (2, 8, 2 * (1 + 10 + 45) / 1024), (30, 30, 1.0)],
)
def test_mcnemar_is_the_exact_coin_test(only_first, only_second, p):
    """Items both got right or wrong do not matter."""
    first = [True] * only_first + [False] * only_second + [True] * 9 + [False] * 4
    second = [False] * only_first + [True] * only_second + [True] * 9 + [False] * 4

    test = mcnemar(first, second)

    assert (test.only_first, test.only_second) == (only_first, only_second)
    assert test.p == pytest.approx(p)


def test_bootstrap_is_seeded_and_near_the_normal_interval():
    """Same seed, same interval; for 400 tosses it is the textbook one within resampling noise."""
    values = [1.0] * 300 + [0.0] * 100

    interval = bootstrap(values, seed=3)

    assert interval == bootstrap(values, seed=3)
    uneven = [math.sqrt(i) for i in range(50)]
    assert bootstrap(uneven, seed=3) != bootstrap(uneven, seed=4)
    half = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert (interval.value, interval.n) == (0.75, 400)
    assert interval.low == pytest.approx(0.75 - half, abs=0.006)
    assert interval.high == pytest.approx(0.75 + half, abs=0.006)


def test_bootstrap_intervals_cover():
    """About 95 of 100 samples of a known mean are covered."""
    generator = np.random.default_rng(0)
    samples = generator.normal(2.0, 1.0, (200, 60))
    intervals = [
        bootstrap(sample.tolist(), seed=i, resamples=500) for i, sample in enumerate(samples)
    ]
    covered = sum(interval.low <= 2.0 <= interval.high for interval in intervals)

    assert 0.88 <= covered / 200 <= 0.99


def test_pairing_sees_what_separate_intervals_hide():
    """A small steady gain is significant pair by pair."""
    rng = random.Random(0)
    first = [rng.random() for _ in range(200)]
    second = [value + 0.02 for value in first]

    gain = paired_bootstrap(first, second)

    assert gain.low == pytest.approx(0.02)
    assert bootstrap(first).high > bootstrap(second).low


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap([]), "at least one value"),
        (lambda: bootstrap([1.0, math.nan]), "value 1 is not finite"),
        (lambda: paired_bootstrap([1.0], [1.0, 2.0]), "1 and 2"),
        (lambda: mcnemar([True], []), "1 and 0"),
        (lambda: wilson(5, 4), "5 successes of 4"),
        (lambda: clopper_pearson(0, 0), "0 successes of 0"),
    ],
)
def test_senseless_counts_are_refused(call, message):
    """The message carries the value."""
    with pytest.raises(ValueError, match=message):
        call()
