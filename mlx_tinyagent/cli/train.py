"""``mlx-tinyagent train``: fine-tune the planner, draw its curves, fuse its adapter."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlx_tinyagent.cli.common import DEFAULT_MODEL, adapter_folder, load_model, load_tool_set
from mlx_tinyagent.cli.tool_rag import tool_rag

if TYPE_CHECKING:
    from mlx_tinyagent.train.config import TrainConfig
    from mlx_tinyagent.train.loop import Event
    from mlx_tinyagent.train.rows import Data

PATH = click.Path(path_type=Path)

_REASONS = {"done": "done", "patience": "nothing better came", "minutes": "time is up"}

# Options that set a field of the run's configuration: name, type, help.
_FIELDS: tuple[tuple[str, Any, str], ...] = (
    ("model", str, "Alias, Hub id or folder of the base model."),
    ("tools", str, "Tool declarations: a name, a .py file or schemas (.json)."),
    (
        "attention",
        click.Choice(["after_blocks", "through_blocks", "full"]),
        "Where the adapter acts: after frozen tool blocks, on blocks as well, or on a whole prompt "
        "of one sequence.",
    ),
    ("fine-tune-type", click.Choice(["lora", "dora"]), "Kind of adapter."),
    ("rank", int, "Rank of the adapter's matrices."),
    ("scale", float, "Factor of the adapter's output (alpha / rank)."),
    ("dropout", float, "Share of the adapter's inputs left out."),
    ("layers", int, "Layers with an adapter, from the last; 0 for all."),
    ("iters", int, "Updates."),
    ("batch", int, "Examples per update."),
    ("rows", int, "Examples per forward pass."),
    ("learning-rate", float, "Peak learning rate."),
    ("warmup", int, "Updates until the peak."),
    ("weight-decay", float, "Of AdamW."),
    ("clip", float, "Largest norm of a gradient; 0 for no limit."),
    ("seed", int, "Decides weights, order, drawn tools and dropout."),
    ("distractors", int, "Most tools drawn beside those a plan needs."),
    ("all-tools", float, "Share of draws that offer every tool."),
    ("retrieved", float, "Share of draws that offer what the retriever picks."),
    ("mask-names", float, "Share of draws whose tools have made-up names."),
    ("exact-share", float, "Share of draws whose prompt is one sequence instead of blocks."),
    ("eval-every", int, "Updates between evaluations."),
    ("eval-rows", int, "Most validation rows."),
    ("eval-plans", int, "Validation rows to plan; the best adapter plans most of them right."),
    ("save-every", int, "Updates between checkpoints."),
    ("patience", int, "Evaluations without a better result that end the run."),
)


def _fields(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option per field of the configuration."""
    for name, kind, text in reversed(_FIELDS):
        command = click.option(f"--{name}", type=kind, default=None, help=text)(command)
    for option in (
        click.option(
            "--grad-checkpoint/--no-grad-checkpoint",
            default=None,
            help="Compute activations twice instead of keeping them: less memory, a third slower.",
        ),
        click.option("--key", "keys", multiple=True, help="Linear layer to adapt; repeatable."),
    ):
        command = option(command)
    return command


@click.group()
def train() -> None:
    """Fine-tune the planner on this machine."""


def _start(named: str | None, model: str) -> Path | None:
    """Return the folder that ``--start`` names; None for a fresh adapter."""
    if named != "own":
        return None if named is None else Path(named).expanduser()
    folder = adapter_folder(model, None)
    if folder is None:
        click.echo(f"No adapter comes with {model}: the run begins with a fresh one", err=True)
    return folder


@train.command()
@click.option(
    "--data",
    "sources",
    type=PATH,
    multiple=True,
    required=True,
    help="Folder with train.jsonl and valid.jsonl, or a file; repeatable.",
)
@click.option("--out", type=PATH, required=True, help="Folder for adapter, checkpoint and log.")
@click.option("--config", "config_file", type=PATH, help="JSON file of settings; options win.")
@click.option(
    "--start",
    metavar="DIR|own",
    help="Adapter to start from instead of a fresh one; 'own' is the model's own, if it has one.",
)
@click.option("--resume", is_flag=True, help="Go on from the folder's checkpoint.")
@click.option("--minutes", type=float, help="Stop cleanly after this time; go on with --resume.")
@_fields
def planner(
    sources: tuple[Path, ...],
    out: Path,
    config_file: Path | None,
    start: str | None,
    resume: bool,
    minutes: float | None,
    **fields: Any,
) -> None:
    """Train an adapter that writes plans.

    Settings that are not given come from --config, then, with --resume, from
    the run that goes on, then from the defaults.
    """
    from mlx_tinyagent.errors import InputError
    from mlx_tinyagent.retrieval.default import make
    from mlx_tinyagent.train.checkpoint import exists
    from mlx_tinyagent.train.loop import run
    from mlx_tinyagent.train.rows import load_data
    from mlx_tinyagent.train.start import identity
    from mlx_tinyagent.train.trainer import Trainer
    from mlx_tinyagent.train.workers import Workers

    if resume and not exists(out):
        raise InputError(f"{out} has no checkpoint to go on from; leave out --resume")
    config = _config(config_file or (out / "config.json" if resume else None), fields)
    if config.start and start is None and not resume:
        raise InputError("the configuration names an adapter to start from; say where with --start")
    tools = load_tool_set(config.tools)
    model = load_model(config.model, "none")
    folder = _start(start, config.model)
    if folder is not None and not resume:
        config = dataclasses.replace(config, start=identity(folder))
    data = load_data(
        sources,
        tools,
        model.tokenizer,
        eval_rows=config.eval_rows,
        retriever=make("on") if config.retrieved else None,
    )
    workers = Workers.join()
    if workers.rank == 0:
        _say_data(data)
    trainer = Trainer(model, tools, data, config, workers, start=None if resume else folder)
    finished = run(
        trainer,
        out,
        resume=resume,
        minutes=minutes,
        report=_report,
        success=trainer.success if config.eval_plans and data.valid else None,
    )
    progress = finished.progress
    if workers.rank != 0:
        return
    if finished.reason == "interrupted":
        click.echo("the last checkpoint is intact; go on with --resume", err=True)
        raise KeyboardInterrupt
    best = "" if progress.best is None else f", best loss {progress.best:.4f}"
    if progress.best_success is not None:
        best += f", {progress.best_success:.0%} of plans right"
    click.echo(
        f"{_REASONS[finished.reason]} after {progress.step} updates, {progress.examples} "
        f"examples{best}; the adapter is in {out}",
        err=True,
    )


def _say_data(data: Data) -> None:
    for reason, count in sorted(data.skipped.items()):
        click.echo(f"left out: {count} rows, {reason}", err=True)
    click.echo(f"{len(data.train)} rows to train on, {len(data.valid)} to evaluate on", err=True)


def _config(file: Path | None, fields: dict[str, Any]) -> TrainConfig:
    from mlx_tinyagent.errors import ConfigError
    from mlx_tinyagent.train.config import TrainConfig

    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file} cannot be read: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{file} holds no JSON object")
    given = {name: value for name, value in fields.items() if value not in (None, ())}
    return TrainConfig.from_dict({**values, **given}, where=str(file or "the configuration"))


def _report(event: Event) -> None:
    """Print one line per update and evaluation."""
    progress = event.progress
    if event.update is None:
        mark = " (best)" if progress.best_step == progress.step else ""
        right = "" if event.success is None else f", {event.success:.0%} of plans right"
        click.echo(
            f"{progress.step}/{event.iters} validation loss {event.valid:.4f}{right}{mark}",
            err=True,
        )
        return
    update = event.update
    left = progress.seconds / progress.step * (event.iters - progress.step)
    click.echo(
        f"{progress.step}/{event.iters} loss {update.loss:.4f} "
        f"{update.examples / event.seconds:.2f} examples/s {update.tokens / event.seconds:.0f} "
        f"tokens/s lr {update.rate:.1e} left {_clock(left)}",
        err=True,
    )


def _clock(seconds: float) -> str:
    minutes = int(seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02d} h" if minutes >= 60 else f"{minutes} min"


@train.command()
@click.argument("run", type=PATH, metavar="DIR|LOG")
@click.option("--out", type=PATH, required=True, help="SVG file to write.")
def plot(run: Path, out: Path) -> None:
    """Draw the loss curves of a run's folder or log."""
    from mlx_tinyagent.files import atomic_write
    from mlx_tinyagent.train.plot import draw, read_log

    atomic_write(out, draw(read_log(run / "log.jsonl" if run.is_dir() else run)))
    click.echo(f"the curves are in {out}", err=True)


@train.command()
@click.option("--adapter", type=PATH, required=True, help="Adapter that acts on all tokens.")
@click.option("--model", default=DEFAULT_MODEL, show_default=True, help="Its base model.")
@click.option("--out", type=PATH, required=True, help="Model folder to write.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Number format of the weights.",
)
def fuse(adapter: Path, model: str, out: Path, dtype: Any) -> None:
    """Write a model with an adapter fused in, in full precision.

    An adapter that acts after the tool blocks only is not fused: the blocks
    belong to the base model, and a fused model would compute others. Nor is one
    that was trained through blocks: a model without adapter reads whole prompts.
    """
    from mlx_tinyagent.decode.tiers import default_tier
    from mlx_tinyagent.errors import UsageError
    from mlx_tinyagent.models.fuse import fuse as write_fused

    loaded = load_model(model, str(adapter))
    if default_tier(loaded) == "blocks" and not loaded.after_blocks:
        raise UsageError(
            f"the adapter {adapter} was trained through blocks; fused, it would be served on whole "
            "prompts. Serve it unfused, with --adapter"
        )
    write_fused(loaded, out, dtype=dtype)
    click.echo(f"the model is in {out}", err=True)


train.add_command(tool_rag)
