"""What a threshold on scores promises: how often every needed tool is kept.

A request's *least* score is the lowest among the tools it needs, after closure
over producers; it is complete exactly if the threshold does not exceed it. So a
promise about complete sets is a promise about one number per request, and order
statistics of the least scores of calibration requests give it, whatever the
model is. Requests that need no tool are left out: they are complete for free.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from mlx_tinyagent.errors import ConfigError
from mlx_tinyagent.tools.base import ToolSet

CONFIDENCE = Fraction(19, 20)
KEEP_ALL = -math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A threshold with what it promises.

    Attributes:
        tau: Tools of at least this score are kept; minus infinity keeps all.
        n: Calibration requests.
        k: Rank of ``tau`` among their least scores, lowest first; 0 keeps all.
        miss: Accepted share of incomplete requests.
        confidence: Of the promise, over the draw of the calibration requests.
    """

    tau: float
    n: int
    k: int
    miss: Fraction
    confidence: Fraction = CONFIDENCE

    @property
    def promises(self) -> bool:
        """Whether the calibration requests support the promise with some tool left out."""
        return self.k > 0

    def line(self) -> str:
        """Say what is promised."""
        target = f"{float(1 - self.miss):.1%}"
        if not self.promises:
            least = smallest_n(self.miss, self.confidence)
            return (
                f"every tool is kept: {self.n} calibration requests do not support {target} "
                f"at {float(self.confidence):.0%} confidence, {least} would"
            )
        return (
            f"every needed tool is kept for at least {target} of requests like the {self.n} "
            f"it was calibrated on ({float(self.confidence):.0%} confidence, "
            f"{self.k - 1} of them missed)"
        )


def pac_threshold(
    least: Sequence[float], miss: Fraction, confidence: Fraction = CONFIDENCE
) -> Threshold:
    """Return the highest threshold that keeps its promise with a confidence.

    With that confidence over the draw of the calibration requests, at most
    ``miss`` of further requests from the same source are incomplete.

    Args:
        least: Least score per calibration request.
        miss: Accepted share of incomplete requests, above 0 and below 1.
        confidence: Above 0 and below 1.

    Raises:
        ConfigError: A share is out of range.

    Source:
        Vovk 2012, Conditional validity of inductive conformal predictors
        (arXiv:1209.2673), proposition 2b.
    """
    _check_share("miss", miss)
    _check_share("confidence", confidence)
    k = pac_rank(len(least), miss, confidence)
    return Threshold(tau=_ranked(least, k), n=len(least), k=k, miss=miss, confidence=confidence)


def pac_rank(n: int, miss: Fraction, confidence: Fraction = CONFIDENCE) -> int:
    """Return the largest k with P(Binomial(n, miss) <= k - 1) <= 1 - confidence; 0 for none."""
    allowed, share = float(1 - confidence), float(miss)
    log_term = n * math.log1p(-share)  # of zero misses
    total, k = 0.0, 0
    while k < n:
        total += math.exp(log_term)
        if total > allowed:
            break
        log_term += math.log(n - k) - math.log(k + 1) + math.log(share) - math.log1p(-share)
        k += 1
    return k


def smallest_n(miss: Fraction, confidence: Fraction = CONFIDENCE) -> int:
    """Return how many calibration requests support a promise at all."""
    return math.ceil(math.log(float(1 - confidence)) / math.log1p(-float(miss)))


def marginal_rank(n: int, miss: Fraction) -> int:
    """Return k = floor(miss * (n + 1)): the promise holds on average over calibration draws."""
    return int(miss * (n + 1))


def marginal_threshold(least: Sequence[float], miss: Fraction) -> float:
    """Return the split-conformal threshold; minus infinity where n is too small.

    Args:
        least: Least score per calibration request.
        miss: Accepted share of incomplete requests, exact, so that the rank is.

    Source:
        Angelopoulos et al. 2022, Conformal Risk Control (arXiv:2208.02814).
    """
    return _ranked(least, marginal_rank(len(least), miss))


def lower_bound(misses: int, n: int, confidence: Fraction = CONFIDENCE) -> float:
    """Return the one-sided Clopper-Pearson bound of coverage after so many misses.

    Args:
        misses: Incomplete requests seen under a fixed threshold.
        n: Requests seen.
        confidence: Of the bound.
    """
    if n == 0 or misses >= n:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(60):  # P(at most `misses` misses) falls as the miss rate rises
        middle = (low + high) / 2
        if _binomial_tail(misses, n, middle) > float(1 - confidence):
            low = middle
        else:
            high = middle
    return 1.0 - high


def close_scores(
    scores: Mapping[str, float], producers: Mapping[str, Collection[str]]
) -> dict[str, float]:
    """Return scores in which a producer counts at least as much as what reads its value.

    Args:
        scores: Score per tool.
        producers: Per tool, the tools whose values its arguments need, over any
            number of steps.
    """
    closed = dict(scores)
    for name, score in scores.items():
        for producer in producers.get(name, ()):
            if producer in closed and closed[producer] < score:
                closed[producer] = score
    return closed


def producers_of(tools: ToolSet) -> dict[str, tuple[str, ...]]:
    """Return, per tool, the tools whose values its arguments need, over any number of steps."""
    return {
        name: tuple(other for other in tools.closure([name]).names if other != name)
        for name in tools.names
    }


def least_score(closed: Mapping[str, float], any_of: Iterable[Collection[str]]) -> float:
    """Return the highest threshold at which some acceptable set is complete.

    Args:
        closed: Score per tool, after closure.
        any_of: Acceptable sets, none empty.
    """
    return max(min(closed[name] for name in group) for group in any_of)


def _ranked(least: Sequence[float], k: int) -> float:
    return sorted(least)[k - 1] if k else KEEP_ALL


def _binomial_tail(most: int, n: int, share: float) -> float:
    """Return P(Binomial(n, share) <= most)."""
    if share <= 0.0:
        return 1.0
    if share >= 1.0:
        return float(most >= n)
    log_term, total = n * math.log1p(-share), 0.0
    for count in range(most + 1):
        total += math.exp(log_term)
        log_term += math.log(n - count) - math.log(count + 1) if count < n else 0.0
        log_term += math.log(share) - math.log1p(-share)
    return min(total, 1.0)


def _check_share(name: str, value: Fraction) -> None:
    if not 0 < value < 1:
        raise ConfigError(f"{name} is {float(value):g}; it must be above 0 and below 1")
