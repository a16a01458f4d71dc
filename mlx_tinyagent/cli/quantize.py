"""``mlx-tinyagent quantize``: fewer bits, calibrated and judged on plans."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlx_tinyagent.cli.common import (
    adapter_folder,
    adapter_option,
    load_tool_set,
    model_option,
    print_json,
    progress_bar,
    tools_option,
)

if TYPE_CHECKING:
    from mlx_tinyagent.datasets.record import Example
    from mlx_tinyagent.evaluate.harness_items import Item
    from mlx_tinyagent.quantize.settings import QuantizeConfig
    from mlx_tinyagent.tools.base import ToolSet

PATH = click.Path(path_type=Path)


@click.command()
@model_option
@adapter_option
@tools_option
@click.option("--bits", type=float, default=4, show_default=True, help="Mean bits per weight.")
@click.option("--group-size", type=int, default=0, help="Weights per scale. [default: 64]")
@click.option(
    "--mode",
    type=click.Choice(["affine", "mxfp4", "nvfp4", "mxfp8"]),
    default="affine",
    show_default=True,
    help="Number format; all but affine fix bits and groups.",
)
@click.option(
    "--recipe",
    type=click.Choice(["mixed", "uniform"]),
    default="mixed",
    show_default=True,
    help="Bits by measured sensitivity, or the same everywhere.",
)
@click.option(
    "--method",
    type=click.Choice(["gptq", "round"]),
    default="gptq",
    show_default=True,
    help="Calibrated rounding, or to the nearest.",
)
@click.option(
    "--data",
    "sources",
    type=PATH,
    multiple=True,
    help="Examples to calibrate and judge on, by different rows. [default: made up]",
)
@click.option("--gate-data", "gate_sources", type=PATH, multiple=True, help="Examples to judge on.")
@click.option("--rows", type=int, help="Rows that calibrate. [default: 32]")
@click.option("--gate-rows", type=int, help="Rows that judge. [default: 40]")
@click.option(
    "--plan-rows",
    type=click.IntRange(min=0),
    default=0,
    help="Rows of --gate-data that both models also plan; slow. [default: none]",
)
@click.option(
    "--max-drop", type=float, help="Points a share of right plans may fall. [default: 1.5]"
)
@click.option("--max-kl", type=float, help="Nats per plan token that KL may reach. [default: 0.05]")
@click.option("--gate/--no-gate", default=True, help="Judge before publishing.  [default: gate]")
@click.option(
    "--distill",
    type=int,
    default=0,
    help="Updates that tune scales and biases on the rows that calibrate; slow. [default: none]",
)
@click.option("--rate", type=float, help="Learning rate of --distill. [default: 1e-4]")
@click.option(
    "--trained",
    type=PATH,
    help="Adapter trained on the model at --out: judge both and put it there, quantize nothing.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides what is drawn.")
@click.option("--out", type=PATH, required=True, help="Model folder to write.")
@click.option("--json", "as_json", is_flag=True, help="Print the report.")
def quantize(
    model: str,
    adapter: str | None,
    tools_name: str,
    sources: tuple[Path, ...],
    gate_sources: tuple[Path, ...],
    plan_rows: int,
    gate: bool,
    trained: Path | None,
    out: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Quantize a model, judge it by plans, and publish it if it is no worse.

    An adapter that acts on all tokens is fused first, in full precision; one
    that acts after the tool blocks stays apart, in 16 bits, in the same folder.
    The folder loads in plain mlx-lm. Exit code 3: the gate refused, and what
    was in the folder is still there.
    """
    from mlx_tinyagent.models.registry import resolve
    from mlx_tinyagent.quantize.adopt import adopt
    from mlx_tinyagent.quantize.pipeline import Source
    from mlx_tinyagent.quantize.run import Job, check_target, run
    from mlx_tinyagent.quantize.settings import QuantizeConfig

    given = {name: value for name, value in settings.items() if value is not None}
    config = QuantizeConfig(**given)
    tools = load_tool_set(tools_name)
    folder = _folder(model)
    check_target(out, folder)
    calibration, held = _examples(sources, gate_sources, tools, config, gate=gate)
    job = Job(
        source=Source(folder=folder, adapter=adapter_folder(model, adapter)),
        name=model,
        out=out,
        config=config,
        tools=tools,
        calibration=calibration,
        held=held,
        items=_items(gate_sources, plan_rows),
        gate=gate,
        license=resolve(model).license,
    )
    with _progress() as say:
        found = adopt(job, trained, say) if trained is not None else run(job, say)
    if as_json:
        print_json(found)
    click.echo(_summary(found, out), err=True)


def _examples(
    sources: tuple[Path, ...],
    gate_sources: tuple[Path, ...],
    tools: ToolSet,
    config: QuantizeConfig,
    *,
    gate: bool,
) -> tuple[list[Example], list[Example]]:
    """Return examples to calibrate on and others to judge on."""
    from mlx_tinyagent.errors import InputError
    from mlx_tinyagent.quantize import rows

    spare = 2  # some examples break a rule and are passed over
    if not sources:
        wanted = spare * (config.rows + config.gate_rows)
        calibration = rows.synthetic(tools, wanted, seed=config.seed)
    else:
        calibration = rows.read(sources)
    if not gate:
        return calibration, []
    if gate_sources:
        held = rows.read(gate_sources)
        known = {example.query for example in held}
        return [example for example in calibration if example.query not in known], held
    count = min(spare * config.gate_rows, len(calibration) // 2)
    if not count:
        raise InputError("one example cannot both calibrate and judge; give more, or --no-gate")
    return calibration[count:], calibration[:count]


def _folder(name: str) -> Path:
    """Return a model's folder, fetching it first where needed."""
    from mlx_tinyagent.models.registry import local_path, resolve

    folder = local_path(name)
    if folder is not None:
        return folder
    from mlx_tinyagent.models.fetch import pull

    with progress_bar(f"Fetching {name}") as report:
        return pull(resolve(name), report)


def _items(sources: tuple[Path, ...], count: int) -> list[Item]:
    """Return the rows that both models plan."""
    from mlx_tinyagent.errors import UsageError
    from mlx_tinyagent.evaluate.harness_items import read_items

    if not count:
        return []
    if len(sources) != 1:
        raise UsageError("--plan-rows needs one file of --gate-data")
    return list(read_items(sources[0], limit=count).items)


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show what is being done on stderr: a line per stage and tenth of it."""
    shown: set[tuple[str, int]] = set()

    def say(stage: str, done: int, total: int) -> None:
        mark = (stage, 10 * done // total)
        if mark not in shown:
            shown.add(mark)
            click.echo(f"{stage}: {done}/{total}", err=True)

    yield say


def _summary(found: dict[str, Any], out: Path) -> str:
    """Say in a few words what came out."""
    checks = [
        f"{check['name']} {check['model']:.4f} ({check['state']})" for check in found["checks"]
    ]
    facts = [
        f"{found['bits_on_disk']:.2f} bits per weight",
        f"{found['bytes'] / 1e6:.1f} MB",
        *(checks or ["not gated"]),
    ]
    return f"{', '.join(facts)}; the model is in {out}"
