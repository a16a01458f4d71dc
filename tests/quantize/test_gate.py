"""The gate: what it lets through, what it refuses, and when it says it cannot tell."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_tinyagent.quantize.gate import Verdict, failures, judge
from mlx_tinyagent.quantize.score import Score
from mlx_tinyagent.quantize.settings import QuantizeConfig

CONFIG = QuantizeConfig(max_kl=0.1, max_drop=1.5)


def scores(
    n: int = 40,
    *,
    kl: float = 0.02,
    rise: float = 0.0,
    right: int = 0,
    lost: int = 0,
    won: int = 0,
) -> list[Score]:
    """Return rows: ``right`` of the reference, of which ``lost`` are wrong now; ``won`` others."""
    return [
        Score(
            id=str(i),
            kind="tool",
            tokens=30,
            nll_reference=0.5,
            nll=0.5 + rise,
            kl=kl * (1 + 0.1 * (i % 3)),
            agreement=0.9,
            whole_reference=i < right,
            whole=lost <= i < right + won,
        )
        for i in range(n)
    ]


def states(verdict: Verdict) -> dict[str, str]:
    """Return the outcome per check."""
    return {check.name: check.state for check in verdict.checks}


def test_a_close_model_passes() -> None:
    """Little KL and no rise of the NLL pass; 40 rows say nothing about points."""
    verdict = judge(scores(right=20), CONFIG)

    assert verdict.passed
    assert states(verdict) == {"kl": "passed", "nll": "passed", "whole_plans": "not judged"}


@pytest.mark.parametrize(("values", "failed"), [({"kl": 0.2}, "kl"), ({"rise": 0.2}, "nll")])
def test_a_model_that_thinks_otherwise_is_refused(values: dict[str, Any], failed: str) -> None:
    """One figure beyond its limit is enough, and the reason names it."""
    verdict = judge(scores(**values), CONFIG)

    assert not verdict.passed
    assert states(verdict)[failed] == "failed"
    assert verdict.reasons[0].startswith(f"{failed} is +0.2")


@pytest.mark.parametrize(
    ("lost", "won", "state"),
    [(0, 0, "passed"), (3, 3, "passed"), (40, 0, "failed"), (20, 20, "failed")],
)
def test_the_lower_bound_of_the_paired_difference_decides(lost: int, won: int, state: str) -> None:
    """No loss passes; a loss, or as many changes both ways as hide one, does not."""
    verdict = judge(scores(600, right=300, lost=lost, won=won), CONFIG)

    assert states(verdict)["whole_plans"] == state


def test_a_reference_that_cannot_plan_proves_nothing() -> None:
    """From nothing right to nothing right is no drop, and no proof either."""
    verdict = judge(scores(600, right=60), CONFIG)

    assert states(verdict)["whole_plans"] == "not judged"
    assert verdict.checks[-1].limit == "the reference gets fewer than 20% right"


def items(n: int, *, right: int, fired: int) -> list[dict[str, Any]]:
    """Return harness lines: tool requests, ``right`` of them right; then requests for no tool."""
    rows = [
        {
            "id": str(i),
            "query": f"q{i}",
            "reason": "right" if i < right else "arguments",
            "figures": {"tinyagent_success": float(i < right), "argument_match": 1.0},
            "details": {} if i < right else {"misses": [{"tool": "send_sms", "argument": "to"}]},
        }
        for i in range(n)
    ]
    none = [
        {
            "id": f"n{i}",
            "query": f"none {i}",
            "reason": "called" if i < fired else "right",
            "figures": {"false_fire": float(i < fired)},
            "details": {},
        }
        for i in range(n)
    ]
    return rows + none


def test_written_plans_are_judged_both_ways() -> None:
    """Fewer right plans fail, and so do more calls where none should be."""
    before = items(600, right=480, fired=10)

    same = judge(scores(), CONFIG, reference_items=before, items=before)
    fewer = judge(scores(), CONFIG, reference_items=before, items=items(600, right=440, fired=10))
    fires = judge(scores(), CONFIG, reference_items=before, items=items(600, right=480, fired=40))

    assert same.passed
    assert states(fewer)["tinyagent_success"] == "failed"
    assert states(fires)["false_fire"] == "failed"
    assert states(fires)["tinyagent_success"] == "passed"


def test_failures_are_counted_by_argument() -> None:
    """Missed arguments stand by tool and name."""
    found = failures(items(10, right=7, fired=2))

    assert found["arguments"] == {"send_sms.to": 3}
    assert found["reasons"] == {"right": 15, "arguments": 3, "called": 2}
