"""Thresholds and their promises, against exact binomial sums, tables and simulation."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tinyagent.errors import ConfigError
from mlx_tinyagent.retrieval.calibration import (
    KEEP_ALL,
    close_scores,
    least_score,
    lower_bound,
    marginal_rank,
    marginal_threshold,
    pac_rank,
    pac_threshold,
    producers_of,
    smallest_n,
)
from mlx_tinyagent.tools.catalog import TINYAGENT16

SPLITS = 200


def exact_rank(n: int, miss: Fraction, delta: Fraction) -> int:
    """Return the PAC rank by exact fractions."""
    total, k = Fraction(0), 0
    while k < n:
        total += math.comb(n, k) * miss**k * (1 - miss) ** (n - k)
        if total > delta:
            return k
        k += 1
    return k


@pytest.mark.parametrize("n", [0, 1, 59, 100, 299, 300, 500])
@pytest.mark.parametrize("miss", [Fraction(1, 20), Fraction(1, 50), Fraction(1, 100)])
def test_the_pac_rank_is_the_exact_one(n: int, miss: Fraction) -> None:
    """Sums of floats give the rank that exact fractions give."""
    assert pac_rank(n, miss) == exact_rank(n, miss, Fraction(1, 20))


def test_ranks_of_common_sizes() -> None:
    """Marginal and PAC ranks for 2, 1, 0.5 and 0.2 % misses."""
    shares = [Fraction(20, 1000), Fraction(10, 1000), Fraction(5, 1000), Fraction(2, 1000)]

    assert [(marginal_rank(1000, a), pac_rank(1000, a)) for a in shares] == [
        (20, 13), (10, 5), (5, 2), (2, 0),
    ]  # fmt: skip
    assert [smallest_n(a) for a in shares] == [149, 299, 598, 1497]
    assert marginal_rank(99, Fraction(29, 100)) == 29  # 0.29 * 100 is below 29 in floats


@pytest.mark.parametrize(
    ("misses", "n", "bound"),
    [(0, 300, 0.9901), (1, 300, 0.9843), (2, 300, 0.9792), (2, 1000, 0.9937), (5, 5, 0.0)],
)
def test_lower_bounds_of_coverage(misses: int, n: int, bound: float) -> None:
    """One-sided 95 % Clopper-Pearson bounds."""
    assert lower_bound(misses, n) == pytest.approx(bound, abs=5e-5)


def test_the_pac_promise_holds_over_random_splits() -> None:
    """Over 200 calibration draws, coverage falls below the target no oftener than allowed."""
    rng = np.random.default_rng(0)
    miss, n = Fraction(1, 50), 500
    below = 0
    marginal = []
    for _ in range(SPLITS):
        calibration = rng.random(n)  # uniform scores: coverage at tau is exactly 1 - tau
        below += 1 - pac_threshold(calibration.tolist(), miss).tau < 1 - float(miss)
        marginal.append(1 - marginal_threshold(calibration.tolist(), miss))

    # Binomial(200, 0.05) exceeds 17 once in 90.
    assert below <= 17
    spread = math.sqrt(0.02 * 0.98 / n)
    assert np.mean(marginal) == pytest.approx(0.98, abs=4 * spread / math.sqrt(SPLITS))


def test_too_few_requests_promise_nothing() -> None:
    """Everything is kept, and the line says how many would do."""
    found = pac_threshold([0.5] * 58, Fraction(1, 20))

    assert (found.k, found.tau) == (0, KEEP_ALL)
    assert not found.promises
    assert "58 calibration requests do not support 95.0%" in found.line()
    assert found.line().endswith("59 would")
    assert pac_threshold([], Fraction(1, 20)).tau == KEEP_ALL


def test_the_line_names_size_target_and_confidence() -> None:
    """What is promised stands in one line."""
    line = pac_threshold([0.1, *[0.9] * 299], Fraction(1, 50)).line()

    assert "98.0%" in line
    assert "300" in line
    assert "95%" in line


def test_equal_scores_are_kept_together() -> None:
    """A threshold that many requests share loses none of them."""
    least = [0.2] * 50 + [0.7] * 250
    tau = pac_threshold(least, Fraction(1, 50)).tau

    assert tau == 0.2
    assert sum(one >= tau for one in least) == len(least)


@given(
    least=st.lists(st.floats(0, 1, allow_nan=False), min_size=60, max_size=200),
    shares=st.tuples(st.integers(50, 300), st.integers(50, 300)),
)
@settings(max_examples=50, deadline=None)
def test_a_harder_promise_never_raises_the_threshold(
    least: list[float], shares: tuple[int, int]
) -> None:
    """Fewer accepted misses, lower threshold; PAC is never above marginal."""
    low, high = (Fraction(share, 1000) for share in sorted(shares))

    assert pac_threshold(least, low).tau <= pac_threshold(least, high).tau
    assert pac_threshold(least, low).tau <= marginal_threshold(least, low)


@pytest.mark.parametrize("share", [Fraction(0), Fraction(1), Fraction(-1, 2)])
def test_shares_out_of_range_are_refused(share: Fraction) -> None:
    """0 and 1 are no promises."""
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        pac_threshold([0.5], share)


def test_closure_lifts_producers_and_leaves_the_least_score() -> None:
    """A producer counts as much as its reader; closing the gold set changes nothing."""
    producers = producers_of(TINYAGENT16)
    scores = dict.fromkeys(TINYAGENT16.names, 0.01) | {"send_sms": 0.8, "open_note": 0.4}
    closed = close_scores(scores, producers)

    assert closed["get_phone_number"] == 0.8
    assert closed["get_email_address"] == 0.01
    gold = ["send_sms", "open_note"]
    assert least_score(closed, [gold]) == least_score(closed, [TINYAGENT16.closure(gold).names])


def test_of_several_acceptable_sets_the_easiest_counts() -> None:
    """The least score is the best set's."""
    assert least_score({"a": 0.1, "b": 0.6, "c": 0.9}, [["a", "c"], ["b", "c"]]) == 0.6
