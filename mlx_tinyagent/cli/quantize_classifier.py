"""``mlx-tinyagent quantize-classifier``: the tool classifier in fewer bits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlx_tinyagent.cli.common import classifier_option, load_tool_set, print_json, tools_option

if TYPE_CHECKING:
    from mlx_tinyagent.evaluate.harness_items import Item

PATH = click.Path(path_type=Path)


@click.command("quantize-classifier")
@classifier_option
@tools_option
@click.option("--bits", type=int, default=8, show_default=True, help="Bits per weight.")
@click.option("--group-size", type=int, default=64, show_default=True, help="Weights per scale.")
@click.option(
    "--calibrate",
    "calibration",
    type=PATH,
    multiple=True,
    help="Rows it was not trained on, which decide its thresholds anew.",
)
@click.option("--gate-data", "held", type=PATH, multiple=True, help="Other rows, to judge it on.")
@click.option(
    "--max-drop",
    type=float,
    default=1.5,
    show_default=True,
    help="Points a share may get worse.",
)
@click.option("--gate/--no-gate", default=True, help="Judge before publishing.  [default: gate]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the intervals.")
@click.option("--out", type=PATH, required=True, help="Classifier folder to write.")
@click.option("--json", "as_json", is_flag=True, help="Print the report.")
def quantize_classifier(
    classifier: Path | None,
    tools_name: str,
    bits: int,
    group_size: int,
    calibration: tuple[Path, ...],
    held: tuple[Path, ...],
    max_drop: float,
    gate: bool,
    seed: int,
    out: Path,
    as_json: bool,
) -> None:
    """Quantize a tool classifier, judge it by the tools it chooses.

    Thresholds belong to the scores they were measured on, so --calibrate is
    needed where the classifier has some. Rows are as for eval tools. Exit code
    3: the gate refused, and what was in the folder is still there.
    """
    from mlx_tinyagent.errors import UsageError
    from mlx_tinyagent.quantize.encoder import EncoderJob
    from mlx_tinyagent.quantize.encoder import quantize_classifier as run
    from mlx_tinyagent.quantize.packing import Format
    from mlx_tinyagent.retrieval.deberta import SHIPPED
    from mlx_tinyagent.retrieval.default import classifier_folder
    from mlx_tinyagent.retrieval.guarantee import CALIBRATION_FILE

    source = classifier_folder(classifier) if classifier is not None else SHIPPED
    if not calibration and (source / CALIBRATION_FILE).is_file():
        raise UsageError(
            "--calibrate FILE is needed: the thresholds belong to the scores in floats"
        )
    if gate and not held:
        raise UsageError("--gate-data FILE is needed to judge it, or --no-gate")
    job = EncoderJob(
        source=source,
        out=out,
        form=Format(bits=bits, group_size=group_size),
        tools=load_tool_set(tools_name),
        calibration=_rows(calibration),
        held=_rows(held) if gate else [],
        max_drop=max_drop,
        seed=seed,
    )
    found = run(job, lambda *_: None)
    if as_json:
        print_json(found)
    size = found["bytes"]
    checks = [
        f"{check['name']} {check['reference']:.4f} -> {check['model']:.4f} ({check['state']})"
        for check in found["checks"]
    ]
    facts = [
        f"{size['before'] / 1e6:.2f} -> {size['after'] / 1e6:.2f} MB",
        *(checks or ["not gated"]),
    ]
    click.echo(f"{', '.join(facts)}; the classifier is in {out}", err=True)


def _rows(files: tuple[Path, ...]) -> list[Item]:
    from mlx_tinyagent.evaluate.harness_items import read_items

    return [item for file in files for item in read_items(file).items]
