"""``bench`` and ``cache``: how fast planning is, and what is kept to make it so."""

from __future__ import annotations

import dataclasses
import itertools
import json
import tempfile
from pathlib import Path
from typing import cast

import click

from mlx_tinyagent.cli.bench_train import bench_train
from mlx_tinyagent.cli.common import (
    adapter_option,
    load_model,
    load_tool_set,
    make_retriever,
    model_option,
    progress_bar,
    tools_option,
)
from mlx_tinyagent.config import paths

MIN_TOOLS = 10  # fewer are all offered
DEFAULT_CONTESTANTS = "mlx-lm,mlx-lm-cache,cold,exact,blocks"


@click.group()
def bench() -> None:
    """Measure latency, and how fast training is."""


bench.add_command(bench_train)


@bench.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Rows with plans.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for results.")
@click.option("--limit", default=20, show_default=True, help="Rows to measure.")
@click.option(
    "--contestants",
    default=DEFAULT_CONTESTANTS,
    show_default=True,
    help="Also: mlx-lm-tinyagent, mlx-lm-cache-tinyagent, blocks-plain, blocks-forced, "
    "blocks-drafts, blocks-repair, blocks-typed.",
)
@click.option(
    "--retrieval",
    type=click.Choice(["gold", "on", "off"]),
    default="gold",
    show_default=True,
    help="Offer the tools of the row's plan, retrieved ones, or all.",
)
@model_option
@adapter_option
def latency(
    data: Path,
    out: Path,
    limit: int,
    contestants: str,
    retrieval: str,
    model: str,
    adapter: str | None,
) -> None:
    """Compare ways to plan: each row's own plan, under the same grammar, in one process.

    The file holds example records or TinyAgent items; their plans are written
    by every contestant, so only the time differs. Ratios are over the first
    contestant. What a pass costs by its rows is measured first, and kept: later
    runs draft as wide as pays on this machine.
    """
    from mlx_tinyagent.decode import cost
    from mlx_tinyagent.evaluate import latency as measure
    from mlx_tinyagent.evaluate.latency_cases import admitted, read_cases, retrieved
    from mlx_tinyagent.evaluate.latency_report import chart, summarize, table
    from mlx_tinyagent.files import atomic_write

    names = [name.strip() for name in contestants.split(",") if name.strip()]
    cases = read_cases(data)
    loaded = load_model(model, adapter)
    if retrieval != "gold":
        cases = list(retrieved(cases, make_retriever(retrieval)))
    chosen = list(itertools.islice(admitted(cases, loaded), limit))
    curve = cost.measure(loaded)
    cost.save(_folder(), loaded, curve)
    with progress_bar("Measuring") as report_progress:
        report = measure.run(
            loaded, chosen, contestants=names, store=_folder(), progress=report_progress
        )
    summary = summarize(report, loaded, curve)
    rows = "".join(json.dumps(dataclasses.asdict(t)) + "\n" for t in report.trials)
    atomic_write(out / "trials.jsonl", rows)
    atomic_write(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    atomic_write(out / "latency.svg", chart(report))
    click.echo(table(summary))


@bench.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for results.")
@click.option("--sizes", default="16,100,1000", show_default=True, help="Tools installed.")
@click.option("--requests", default=10, show_default=True, help="Requests per size.")
@click.option("--seed", default=0, show_default=True, help="Of the made-up tools.")
@model_option
@adapter_option
def tools(out: Path, sizes: str, requests: int, seed: int, model: str, adapter: str | None) -> None:
    """Time requests with few and with many installed tools, five of them offered.

    Tools are made up from the seed; their blocks, stand-ins of the right size,
    are on disk under the folder while it runs (about 2 GB for 1,000 tools and
    the default model) and deleted afterwards.
    """
    from mlx_tinyagent.evaluate import latency_tools as measure
    from mlx_tinyagent.files import atomic_write

    counts = _numbers(sizes)
    loaded = load_model(model, adapter)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kv-", dir=out) as folder:
        installed = []
        for count in counts:
            with progress_bar(f"Placing {count} blocks") as report_progress:
                made = measure.synthetic(count, seed)
                place = Path(folder) / str(count)
                installed.append(measure.install(loaded, made, place, progress=report_progress))
        with progress_bar("Measuring") as report_progress:
            trials = measure.run(loaded, installed, requests=requests, progress=report_progress)
        summary = measure.summarize(trials, installed)
    rows = "".join(json.dumps(dataclasses.asdict(trial)) + "\n" for trial in trials)
    atomic_write(out / "trials.jsonl", rows)
    atomic_write(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    click.echo(measure.table(summary))


def _numbers(text: str) -> list[int]:
    """Read numbers of tools, separated by commas."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdigit() and int(part) >= MIN_TOOLS for part in parts):
        raise click.BadParameter(f"{text!r} is no list of numbers from {MIN_TOOLS}")
    return sorted({int(part) for part in parts})


@click.group()
def cache() -> None:
    """Show, build or clear the prompt parts kept on disk."""


def _folder() -> Path:
    return paths().cache / "kv"


@cache.command("list")
def cache_list() -> None:
    """Show how much is kept."""
    from mlx_tinyagent.decode.store import contents

    found = contents(_folder())
    lines = [f"{_folder()}: {len(found.parts)} prompt parts, {found.nbytes / 1e6:.1f} MB"]
    if found.curves:
        lines.append(f"cost curves: {len(found.curves)}")
    if found.leftovers:
        lines.append(f"unfinished files: {len(found.leftovers)}; cache clear deletes them")
    click.echo("\n".join(lines))


@cache.command("clear")
def cache_clear() -> None:
    """Delete all that is kept; it is computed and measured again when needed.

    That includes what writers left that were killed. One that is at work at
    this moment keeps its part in memory and warns.
    """
    from mlx_tinyagent.decode.store import contents
    from mlx_tinyagent.files import readable_errors

    found = contents(_folder())
    with readable_errors(_folder()):
        for file in found.files:
            file.unlink(missing_ok=True)
    click.echo(f"{len(found.parts)} prompt parts deleted, {found.nbytes / 1e6:.1f} MB")


@cache.command("build")
@model_option
@adapter_option
@tools_option
def cache_build(model: str, adapter: str | None, tools_name: str) -> None:
    """Compute the header and one block per tool ahead of time.

    Also measures what a pass costs here by its number of rows, so that later
    runs draft as wide as pays.
    """
    from mlx_tinyagent.decode.engine import Engine, EngineOptions
    from mlx_tinyagent.decode.store import KVStore
    from mlx_tinyagent.decode.tiers import BlockTier
    from mlx_tinyagent.prompt.render import header_segment, tool_segment

    tools = load_tool_set(tools_name)
    loaded = load_model(model, adapter)
    options = EngineOptions(tier="blocks", budget=1 << 28)
    engine = Engine(loaded, store=KVStore(_folder(), loaded), options=options)
    tier = cast(BlockTier, engine.tier)
    header = header_segment(loaded.tokenizer.chat_frame())
    computed = 0
    with progress_bar("Building") as report:
        for number, tool in enumerate(tools.in_prompt_order(), start=1):
            segments = [header, tool_segment(tool)]
            computed += tier.build(segments, [s.encode(loaded.tokenizer) for s in segments])
            report(number, len(tools))
    if engine.curve is None:
        engine.calibrate()
    click.echo(f"{len(tools)} tools, {computed} prompt parts computed")
    click.echo(f"drafts are {engine.width()} tokens wide here")
