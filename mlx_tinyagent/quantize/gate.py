"""Whether a quantized model may take the place of the one it was made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlx_tinyagent.evaluate.harness_compare import Difference, compare
from mlx_tinyagent.evaluate.stats import Interval, bootstrap, paired_bootstrap

if TYPE_CHECKING:
    from mlx_tinyagent.quantize.score import Score
    from mlx_tinyagent.quantize.settings import QuantizeConfig

NEEDED = 500  # rows from which on a bound of 1.5 points can be met by a model that is no worse
FLOOR = 0.2  # share of right plans below which a model is no planner whose drop says much
State = Literal["passed", "failed", "not judged"]
Item = Mapping[str, Any]  # a line of the harness
# figures of written plans, and whether more of it is better
PLANNED = {
    "tinyagent_success": True,
    "plan_match": True,
    "argument_match": True,
    "false_fire": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One figure of the model against the reference's.

    Attributes:
        name: What is compared.
        reference: The reference's mean.
        model: The model's mean.
        difference: Model minus reference; for ``kl`` the KL itself.
        low: Lower end of its 95 % interval.
        high: Upper end.
        n: Rows.
        limit: What the bound must keep to, in words.
        state: The outcome.
    """

    name: str
    reference: float
    model: float
    difference: float
    low: float
    high: float
    n: int
    limit: str
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All checks; one that failed is enough to refuse."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(check.state != "failed" for check in self.checks)

    @property
    def reasons(self) -> list[str]:
        """What failed, in words."""
        return [
            f"{check.name} is {check.difference:+.4g} ({check.low:+.4g} to {check.high:+.4g}), "
            f"the limit: {check.limit}"
            for check in self.checks
            if check.state == "failed"
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "verdict": "passed" if self.passed else "refused",
            "checks": [asdict(check) for check in self.checks],
        }


def judge(
    scores: Sequence[Score],
    config: QuantizeConfig,
    *,
    reference_items: Sequence[Item] = (),
    items: Sequence[Item] = (),
) -> Verdict:
    """Judge a model by how it reads plans and, where there are any, by the plans it wrote.

    Args:
        scores: Plans read by both.
        config: Limits and seed.
        reference_items: Plans the reference wrote, as the harness scored them.
        items: Plans the model wrote, for the same rows.
    """
    checks = [_kl(scores, config), _nll(scores, config), _whole(scores, config)]
    if reference_items:
        found = {d.figure: d for d in compare(reference_items, items, seed=config.seed).figures}
        success = found.get("tinyagent_success")
        good = success is not None and success.first >= FLOOR
        checks += [
            _planned(found[name], config, rises=rises, good=good)
            for name, rises in PLANNED.items()
            if name in found
        ]
    return Verdict(checks=tuple(checks))


def failures(items: Sequence[Item]) -> dict[str, dict[str, int]]:
    """Count what is wrong in written plans: by reason, and missed arguments by tool and name."""
    misses = (
        f"{miss['tool']}.{miss['argument']}"
        for item in items
        for miss in item["details"].get("misses", ())
    )
    return {
        "reasons": dict(Counter(item["reason"] for item in items).most_common()),
        "arguments": dict(Counter(misses).most_common()),
    }


def _kl(scores: Sequence[Score], config: QuantizeConfig) -> Check:
    found = bootstrap([score.kl for score in scores], seed=config.seed)
    return Check(
        name="kl",
        reference=0.0,
        model=found.value,
        difference=found.value,
        low=found.low,
        high=found.high,
        n=found.n,
        limit=f"upper bound at most {config.max_kl:g} nats per plan token",
        state="passed" if found.high <= config.max_kl else "failed",
    )


def _nll(scores: Sequence[Score], config: QuantizeConfig) -> Check:
    first, second = [s.nll_reference for s in scores], [s.nll for s in scores]
    found = paired_bootstrap(first, second, seed=config.seed)
    limit = f"upper bound at most {config.max_kl:+g} nats per plan token"
    state: State = "passed" if found.high <= config.max_kl else "failed"
    return paired("nll", first, second, found, limit=limit, state=state)


def paired(
    name: str,
    reference: Sequence[float],
    model: Sequence[float],
    found: Interval,
    *,
    limit: str,
    state: State,
) -> Check:
    """Write down a paired comparison: both means and the interval of the difference."""
    return Check(
        name=name,
        reference=sum(reference) / len(reference),
        model=sum(model) / len(model),
        difference=found.value,
        low=found.low,
        high=found.high,
        n=found.n,
        limit=limit,
        state=state,
    )


def _whole(scores: Sequence[Score], config: QuantizeConfig) -> Check:
    first, second = [float(s.whole_reference) for s in scores], [float(s.whole) for s in scores]
    found = paired_bootstrap(first, second, seed=config.seed)
    share = sum(first) / len(first)
    state, limit = drop(found, config.max_drop, good=share >= FLOOR)
    return paired("whole_plans", first, second, found, limit=limit, state=state)


def _planned(found: Difference, config: QuantizeConfig, *, rises: bool, good: bool) -> Check:
    interval = Interval(value=found.difference, low=found.low, high=found.high, n=found.n)
    state, limit = drop(interval, config.max_drop, rises=rises, good=good)
    return Check(
        name=found.figure,
        reference=found.first,
        model=found.second,
        difference=found.difference,
        low=found.low,
        high=found.high,
        n=found.n,
        limit=limit,
        state=state,
    )


def drop(
    found: Interval, most: float, *, rises: bool = True, good: bool = True
) -> tuple[State, str]:
    """Judge how far a share got worse.

    Args:
        found: The paired difference, model minus reference.
        most: Points that it may get worse.
        rises: Whether more of it is better.
        good: Whether the reference is good enough for a drop to say something.

    Returns:
        The outcome, and the limit in words.
    """
    if not good:
        return "not judged", f"the reference gets fewer than {FLOOR:.0%} right"
    if found.n < NEEDED:
        return "not judged", f"{found.n} rows; {NEEDED} are needed for an interval this narrow"
    if rises:
        return ("passed" if 100 * found.low > -most else "failed"), (
            f"lower bound above -{most:g} points"
        )
    return ("passed" if 100 * found.high < most else "failed"), (
        f"upper bound below {most:g} points"
    )
