"""What a latency run says: one JSON schema everywhere, a table, a chart."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.evaluate.latency import Report
from mlx_tinyagent.models.device import setup

if TYPE_CHECKING:
    from mlx_tinyagent.decode.cost import CostCurve
    from mlx_tinyagent.models.language import LanguageModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A ratio the project is held to.

    Attributes:
        what: In words.
        over: Contestant in the numerator.
        of: Contestant in the denominator.
        figure: Attribute of a trial.
        at_least: The ratio wanted.
    """

    what: str
    over: str
    of: str
    figure: str
    at_least: float


# Both sides have the same prompt tokens, grammar, plan, model, BLAS and process.
GOALS = (
    Goal(
        what="time to first token, no cache / blocks",
        over="mlx-lm",
        of="blocks",
        figure="first_s",
        at_least=10.0,
    ),
    Goal(
        what="planner wall time, mlx-lm / blocks",
        over="mlx-lm",
        of="blocks",
        figure="total_s",
        at_least=4.0,
    ),
)


def summarize(report: Report, model: LanguageModel, curve: CostCurve) -> dict[str, Any]:
    """Return everything but the trials as one JSON document."""
    base = report.contestants[0]
    return {
        "machine": _machine(model),
        "model": {
            "name": model.name,
            "fingerprint": model.fingerprint,
            "adapter": model.adapter_fingerprint,
        },
        "rows": len({trial.case for trial in report.trials}),
        "means": {name: report.means(name) for name in report.contestants},
        "ratios": {
            name: {
                figure: report.ratios(base, name, figure)
                for figure in ("first_s", "total_s", "computed", "passes")
            }
            for name in report.contestants
        },
        "ratios_over": base,
        "goals": _goals(report),
        "seconds_per_pass_by_rows": dict(zip(map(str, curve.rows), curve.seconds, strict=True)),
        "draft_width": curve.width(),
    }


def _machine(model: LanguageModel) -> dict[str, Any]:
    device = setup()
    return {
        "platform": platform.platform(),
        "processor": platform.machine(),
        "device": device.name,
        "dtype": model.dtype,
        "blas": device.blas,
        "threads": device.threads,
        "mlx": version("mlx"),
        "mlx_lm": version("mlx-lm"),
        "python": platform.python_version(),
    }


def _goals(report: Report) -> list[dict[str, Any]]:
    """Return the goals whose contestants took part, with what was reached."""
    present = report.contestants
    return [
        {
            "what": goal.what,
            "at_least": goal.at_least,
            **report.ratios(goal.over, goal.of, goal.figure),
        }
        for goal in GOALS
        if goal.over in present and goal.of in present
    ]


def table(summary: Mapping[str, Any]) -> str:
    """Write a summary as Markdown."""
    base = summary["ratios_over"]
    lines = [
        f"| contestant | prompt tokens | computed | passes | first s | total s | {base} / this: "
        "first | total |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, means in summary["means"].items():
        first, total = (summary["ratios"][name][figure] for figure in ("first_s", "total_s"))
        lines.append(
            f"| {name} | {means['prompt_tokens']:.0f} | {means['computed']:.0f} "
            f"| {means['passes']:.1f} | {means['first_s']:.3f} | {means['total_s']:.3f} "
            f"| {_ratio(first)} | {_ratio(total)} |"
        )
    lines += ["", f"{summary['rows']} rows; median of the rows' ratios (95 % bootstrap interval)"]
    lines += [
        f"{goal['what']}: {_ratio(goal)}, goal {goal['at_least']:g}" for goal in summary["goals"]
    ]
    costs = ", ".join(
        f"{rows}: {1000 * seconds:.0f}"
        for rows, seconds in summary["seconds_per_pass_by_rows"].items()
    )
    lines.append(f"milliseconds of a pass by rows: {costs}; draft width {summary['draft_width']}")
    return "\n".join(lines)


def _ratio(found: Mapping[str, Any]) -> str:
    if found["ratio"] is None:
        return "-"
    return f"{found['ratio']:.2f} ({found['low']:.2f}-{found['high']:.2f})"


def chart(report: Report) -> str:
    """Draw mean seconds per contestant, prefill and decode apart, as SVG."""
    bars = []
    means = {name: report.means(name) for name in report.contestants}
    longest = max(m["total_s"] for m in means.values()) or 1.0
    for row, (name, m) in enumerate(means.items()):
        y = 20 + 34 * row
        first, total = (400 * m[figure] / longest for figure in ("first_s", "total_s"))
        bars.append(
            f'<text x="0" y="{y + 14}">{escape(name)}</text>'
            f'<rect x="190" y="{y}" width="{total:.1f}" height="20" fill="#8fb4d8"/>'
            f'<rect x="190" y="{y}" width="{first:.1f}" height="20" fill="#2b5d8c"/>'
            f'<text x="{196 + total:.1f}" y="{y + 14}">{m["total_s"]:.2f} s</text>'
        )
    height = 30 + 34 * len(means)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="680" height="{height}" '
        'font-family="sans-serif" font-size="13">'
        '<text x="190" y="12">seconds per plan; dark: to the first token</text>'
        f"{''.join(bars)}</svg>\n"
    )
