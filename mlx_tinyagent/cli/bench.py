"""``bench`` and ``cache``: how fast planning is, and what is kept to make it so."""

from __future__ import annotations

import dataclasses
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlx_tinyagent.cli.common import (
    adapter_option,
    load_model,
    load_tool_set,
    model_option,
    progress_bar,
    tools_option,
)
from mlx_tinyagent.config import paths
from mlx_tinyagent.errors import InputError

if TYPE_CHECKING:
    from mlx_tinyagent.evaluate.latency import Case, Report
    from mlx_tinyagent.models.language import LanguageModel

DEFAULT_CONTESTANTS = "mlx-lm,mlx-lm-cache,cold,exact,blocks"


@click.group()
def bench() -> None:
    """Measure latency."""


@bench.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Rows with plans.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for results.")
@click.option("--limit", default=20, show_default=True, help="Rows to measure.")
@click.option(
    "--contestants",
    default=DEFAULT_CONTESTANTS,
    show_default=True,
    help="Also: mlx-lm-tinyagent, mlx-lm-cache-tinyagent, blocks-plain, blocks-forced, "
    "blocks-drafts.",
)
@model_option
@adapter_option
def latency(
    data: Path, out: Path, limit: int, contestants: str, model: str, adapter: str | None
) -> None:
    """Compare ways to plan: each row's own plan, under the same grammar, in one process.

    The file holds example records or TinyAgent items; their plans are written
    by every contestant, so only the time differs.
    """
    from mlx_tinyagent.evaluate import latency as measure
    from mlx_tinyagent.files import atomic_write
    from mlx_tinyagent.models.plain import measure_rows

    names = [name.strip() for name in contestants.split(",") if name.strip()]
    cases = _cases(data)
    loaded = load_model(model, adapter)
    chosen = [case for _, case in zip(range(limit), measure.admitted(cases, loaded), strict=False)]
    with progress_bar("Measuring") as report_progress:
        report = measure.run(
            loaded, chosen, contestants=names, store=None, progress=report_progress
        )
    widths = (1, 2, 4, 6, 8, 12, 16)
    curve = dict(zip(widths, measure_rows(loaded, widths), strict=True))
    summary = _summary(report, loaded, curve)
    rows = "".join(json.dumps(dataclasses.asdict(t)) + "\n" for t in report.trials)
    atomic_write(out / "trials.jsonl", rows)
    atomic_write(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    atomic_write(out / "latency.svg", _chart(report))
    click.echo(_table(summary))


def _cases(data: Path) -> list[Case]:
    """Read rows whose plan is valid; both formats are known by their fields."""
    from mlx_tinyagent.datasets.importers import import_file
    from mlx_tinyagent.datasets.jsonl import read_objects
    from mlx_tinyagent.datasets.record import read_examples
    from mlx_tinyagent.errors import PlanError
    from mlx_tinyagent.evaluate.latency import Case
    from mlx_tinyagent.plan.graph import from_calls
    from mlx_tinyagent.tools.catalog import TINYAGENT16

    first = next(iter(read_objects(data)), None)
    if first is None:
        raise InputError(f"{data} has no rows")
    items = "question" in first.value
    examples = import_file(data, "tinyagent").examples if items else read_examples(data)
    cases = []
    for example in examples:
        try:
            plan = from_calls([call.as_dict() for call in example.plan], TINYAGENT16)
        except PlanError:
            continue
        if plan.steps:
            used = TINYAGENT16.closure({step.tool for step in plan.steps})
            cases.append(Case(id=example.id, query=example.query, tools=used, plan=plan))
    return cases


def _summary(report: Report, model: LanguageModel, curve: dict[int, float]) -> dict[str, Any]:
    from importlib.metadata import version

    from mlx_tinyagent.models.device import setup

    device = setup()
    base = report.contestants[0]
    return {
        "machine": {
            "platform": platform.platform(),
            "processor": platform.machine(),
            "device": device.name,
            "dtype": model.dtype,
            "blas": device.blas,
            "threads": device.threads,
            "mlx": version("mlx"),
            "mlx_lm": version("mlx-lm"),
            "python": platform.python_version(),
        },
        "model": {"name": model.name, "fingerprint": model.fingerprint},
        "means": {name: report.means(name) for name in report.contestants},
        "ratios": {
            name: {
                figure: report.ratios(base, name, figure)
                for figure in ("first_s", "total_s", "computed", "passes")
            }
            for name in report.contestants
        },
        "ratios_over": base,
        "seconds_per_pass_by_rows": {str(k): round(v, 5) for k, v in curve.items()},
    }


def _table(summary: dict[str, Any]) -> str:
    """Write the summary as a Markdown table."""
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
            f"| {first['ratio']:.2f} ({first['low']:.2f}-{first['high']:.2f}) "
            f"| {total['ratio']:.2f} ({total['low']:.2f}-{total['high']:.2f}) |"
        )
    return "\n".join(lines)


def _chart(report: Report) -> str:
    """Draw mean seconds per contestant, prefill and decode apart, as SVG."""
    bars = []
    means = {name: report.means(name) for name in report.contestants}
    longest = max(m["total_s"] for m in means.values()) or 1.0
    for row, (name, m) in enumerate(means.items()):
        y = 20 + 34 * row
        first, total = (400 * m[figure] / longest for figure in ("first_s", "total_s"))
        bars.append(
            f'<text x="0" y="{y + 14}">{name}</text>'
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


@click.group()
def cache() -> None:
    """Show, build or clear the prompt parts kept on disk."""


def _folder() -> Path:
    return paths().cache / "kv"


@cache.command("list")
def cache_list() -> None:
    """Show how much is kept."""
    files = sorted(_folder().glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    click.echo(f"{_folder()}: {len(files)} prompt parts, {size / 1e6:.1f} MB")


@cache.command("clear")
def cache_clear() -> None:
    """Delete all kept prompt parts; they are computed again when needed."""
    from mlx_tinyagent.files import readable_errors

    files = list(_folder().glob("*.safetensors"))
    with readable_errors(_folder()):
        for file in files:
            file.unlink(missing_ok=True)
    click.echo(f"{len(files)} prompt parts deleted")


@cache.command("build")
@model_option
@adapter_option
@tools_option
def cache_build(model: str, adapter: str | None, tools_name: str) -> None:
    """Compute the header and one block per tool ahead of time."""
    from mlx_tinyagent.decode.store import KVStore
    from mlx_tinyagent.decode.tiers import BlockTier
    from mlx_tinyagent.prompt.render import header_segment, tool_segment

    tools = load_tool_set(tools_name)
    loaded = load_model(model, adapter)
    tier = BlockTier(loaded, store=KVStore(_folder(), loaded), budget=1 << 28)
    header = header_segment(loaded.tokenizer.chat_frame())
    computed = 0
    with progress_bar("Building") as report:
        for number, tool in enumerate(tools.in_prompt_order(), start=1):
            segments = [header, tool_segment(tool)]
            computed += tier.build(segments, [s.encode(loaded.tokenizer) for s in segments])
            report(number, len(tools))
    click.echo(f"{len(tools)} tools, {computed} prompt parts computed")
