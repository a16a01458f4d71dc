"""``mlx-tinyagent train tool-rag``: train the classifier that chooses tools."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlx_tinyagent.cli.common import load_model, load_tool_set

if TYPE_CHECKING:
    from mlx_tinyagent.train.loop import Event
    from mlx_tinyagent.train.tool_rag.config import ToolRagConfig
    from mlx_tinyagent.train.tool_rag.rows import Data

PATH = click.Path(path_type=Path)
REASONS = {"done": "done", "patience": "no better loss", "minutes": "time is up"}

# Options that set a field of the run's configuration: name, type, help.
_FIELDS: tuple[tuple[str, Any, str], ...] = (
    ("base", str, "Folder of a DeBERTa-v2/v3 checkpoint to start from."),
    ("tools", str, "Tool declarations: a name, a .py file or schemas (.json)."),
    ("vocabulary", int, "Pieces of a fresh vocabulary."),
    ("hidden", int, "Width of a fresh encoder."),
    ("layers", int, "Its blocks."),
    ("heads", int, "Its attention heads."),
    ("embeddings", str, "Language model whose embeddings the fresh pieces start from."),
    ("max-length", int, "Tokens of a request at most."),
    ("iters", int, "Updates."),
    ("batch", int, "Requests per update."),
    ("learning-rate", float, "Peak learning rate."),
    ("warmup", int, "Updates until the peak."),
    ("weight-decay", float, "Of AdamW."),
    ("clip", float, "Largest norm of a gradient; 0 for no limit."),
    ("dropout", float, "Share of hidden states left out."),
    ("unknown", float, "Share of tokens read as unknown while training."),
    ("hinge", float, "Weight of the loss on the lowest needed score."),
    ("ngrams", str, "Source whose long rows n-grams are fitted on, for long requests."),
    ("seed", int, "Decides weights, order and dropout."),
    ("eval-every", int, "Updates between evaluations."),
    ("eval-rows", int, "Most validation rows."),
    ("save-every", int, "Updates between checkpoints."),
    ("patience", int, "Evaluations without a better loss that end the run."),
)


def _fields(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option per field of the configuration."""
    for name, kind, text in reversed(_FIELDS):
        command = click.option(f"--{name}", type=kind, default=None, help=text)(command)
    return command


@click.command("tool-rag")
@click.option(
    "--data",
    "sources",
    type=PATH,
    multiple=True,
    required=True,
    help="Folder with train.jsonl and further sides, or a file; repeatable.",
)
@click.option("--out", type=PATH, required=True, help="Folder for classifier, checkpoint and log.")
@click.option("--config", "config_file", type=PATH, help="JSON file of settings; options win.")
@click.option("--resume", is_flag=True, help="Go on from the folder's checkpoint.")
@click.option("--minutes", type=float, help="Stop cleanly after this time; go on with --resume.")
@_fields
def tool_rag(
    sources: tuple[Path, ...],
    out: Path,
    config_file: Path | None,
    resume: bool,
    minutes: float | None,
    **fields: Any,
) -> None:
    """Train and calibrate a classifier that chooses tools.

    Settings that are not given come from --config, then, with --resume, from
    the run that goes on, then from the defaults. The result, in the folder's
    "classifier", is what --retriever takes.
    """
    from mlx_tinyagent.errors import InputError
    from mlx_tinyagent.models.device import setup
    from mlx_tinyagent.train.checkpoint import exists
    from mlx_tinyagent.train.loop import run
    from mlx_tinyagent.train.tool_rag.finish import finish
    from mlx_tinyagent.train.tool_rag.fresh import (
        base_identity,
        make_tokenizer,
        new_tool_classifier,
    )
    from mlx_tinyagent.train.tool_rag.rows import load_data
    from mlx_tinyagent.train.tool_rag.trainer import ToolRagTrainer, label_priors

    if resume and not exists(out):
        raise InputError(f"{out} has no checkpoint to go on from; leave out --resume")
    config = _config(config_file or (out / "config.json" if resume else None), fields)
    setup()
    tools = load_tool_set(config.tools)
    data = load_data(sources, tools, eval_rows=config.eval_rows, seed=config.seed)
    _say_data(data)
    tokenizer = make_tokenizer(config, [row.text for row in data.train])
    language = load_model(config.embeddings, "none") if config.embeddings else None
    model = new_tool_classifier(
        config, tokenizer, tools.names, label_priors(data.train, tools.names), language=language
    )
    language = None
    base = base_identity(config, tokenizer)
    trainer = ToolRagTrainer(model, tokenizer, data, config, base=base)
    finished = run(trainer, out, resume=resume, minutes=minutes, report=_report)
    progress = finished.progress
    if finished.reason == "interrupted":
        click.echo("the last checkpoint is intact; go on with --resume", err=True)
        raise KeyboardInterrupt
    best = "" if progress.best is None else f", best loss {progress.best:.4f}"
    click.echo(
        f"{REASONS[finished.reason]} after {progress.step} updates, {progress.examples} "
        f"examples{best}",
        err=True,
    )
    for line in finish(out, data, tools, ngrams=config.ngrams):
        click.echo(line, err=True)
    click.echo(f"the classifier is in {out / 'classifier'}", err=True)


def _say_data(data: Data) -> None:
    for reason, count in sorted(data.skipped.items()):
        click.echo(f"left out: {count} rows, {reason}", err=True)
    click.echo(
        f"{len(data.train)} rows to train on, {len(data.valid)} to evaluate on, "
        f"{len(data.calibration)} to calibrate on, {len(data.test)} to test on",
        err=True,
    )


def _config(file: Path | None, fields: dict[str, Any]) -> ToolRagConfig:
    from mlx_tinyagent.errors import ConfigError
    from mlx_tinyagent.train.tool_rag.config import ToolRagConfig

    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file} cannot be read: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{file} holds no JSON object")
    given = {name: value for name, value in fields.items() if value is not None}
    return ToolRagConfig.from_dict({**values, **given}, where=str(file or "the configuration"))


def _report(event: Event) -> None:
    """Print one line per evaluation and per 25 updates."""
    progress = event.progress
    if event.update is None:
        mark = " (best)" if progress.best_step == progress.step else ""
        click.echo(
            f"{progress.step}/{event.iters} validation loss {event.valid:.5f}{mark}", err=True
        )
        return
    if progress.step % 25:
        return
    left = progress.seconds / progress.step * (event.iters - progress.step)
    click.echo(
        f"{progress.step}/{event.iters} loss {event.update.loss:.4f} "
        f"{progress.examples / progress.seconds:.1f} examples/s lr {event.update.rate:.1e} "
        f"left {int(left // 60)} min",
        err=True,
    )
