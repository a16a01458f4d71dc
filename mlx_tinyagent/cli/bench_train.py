"""``mlx-tinyagent bench train``: how fast training is, against mlx-lm's own."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mlx_tinyagent.cli.common import (
    DEFAULT_MODEL,
    load_model,
    load_tool_set,
    progress_bar,
    tools_option,
)

PATH = click.Path(path_type=Path)


@click.command("train")
@click.option(
    "--data", required=True, type=PATH, help="Folder with train.jsonl, or a file of rows."
)
@click.option("--out", required=True, type=PATH, help="JSON file to write.")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Base model.")
@click.option(
    "--attention",
    type=click.Choice(["after_blocks", "through_blocks", "full"]),
    default="after_blocks",
    show_default=True,
    help="How ours trains; mlx-lm's is on the whole prompt.",
)
@click.option("--batch", default=4, show_default=True, help="Examples per update.")
@click.option("--repeats", default=3, show_default=True, help="Updates of each, per batch size.")
@click.option(
    "--memory", default=8.0, show_default=True, help="GB that mlx-lm's largest batch may take."
)
@click.option(
    "--all-tools", default=1.0, show_default=True, help="Share of rows that offer every tool."
)
@click.option("--grad-checkpoint", is_flag=True, help="Ours computes activations twice.")
@tools_option
def bench_train(
    data: Path,
    out: Path,
    model: str,
    attention: str,
    batch: int,
    repeats: int,
    memory: float,
    all_tools: float,
    grad_checkpoint: bool,
    tools_name: str,
) -> None:
    """Compare our update with mlx-lm's on the same rows, in turns, in one process.

    Measured at --batch, and at the largest batch that mlx-lm makes within
    --memory, reckoned from its first two examples. Ours needs no more memory
    for a larger batch. Set OPENBLAS_NUM_THREADS as the training will have it.
    """
    from mlx_tinyagent.files import atomic_write
    from mlx_tinyagent.train.bench import Bench, summarize, table
    from mlx_tinyagent.train.config import TrainConfig
    from mlx_tinyagent.train.rows import load_data
    from mlx_tinyagent.train.trainer import Trainer

    if repeats < 1:
        raise click.BadParameter(f"--repeats is {repeats}; it must be at least 1")
    config = TrainConfig.from_dict(
        {
            "model": model,
            "tools": tools_name,
            "attention": attention,
            "batch": batch,
            "all_tools": all_tools,
            "grad_checkpoint": grad_checkpoint,
            "eval_rows": 0,
        }
    )
    tools = load_tool_set(tools_name)
    loaded = load_model(model, "none")
    rows = load_data([data], tools, loaded.tokenizer, eval_rows=0)
    bench = Bench(Trainer(loaded, tools, rows, config))
    with progress_bar("Measuring") as report_progress:
        report = bench.run(
            batch=batch,
            repeats=repeats,
            limit_bytes=int(memory * 1e9),
            progress=report_progress,
        )
    summary = {"config": config.as_dict(), "rows": len(rows.train), **summarize(report)}
    atomic_write(out, json.dumps(summary, indent=2) + "\n")
    click.echo(table(summary))
