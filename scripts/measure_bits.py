"""Measure quality against bits: KL and NLL of plans, read by quantized models.

    python scripts/measure_bits.py ROWS.jsonl --calibrate OTHERS.jsonl --out DIR
    python scripts/measure_bits.py --table --out DIR

Calibrates on rows of other files (``--calibrate``) and judges ``--rows`` rows
of these; ``--blocks`` as an adapter that acts after the tool blocks is
served. Every point is written as a folder, read back and judged through
its unpacked weights; ``--keep`` leaves the folders in DIR. Appends one line of
JSON per point to DIR/points.jsonl and goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_tinyagent.models.blockwise import Blockwise
from mlx_tinyagent.models.registry import local_path
from mlx_tinyagent.quantize import folder, pipeline, rows, score, sensitivity
from mlx_tinyagent.quantize.packing import AFFINE_BITS, FLOATS, Format
from mlx_tinyagent.quantize.recipe import mean_bits, mixed
from mlx_tinyagent.quantize.settings import QuantizeConfig
from mlx_tinyagent.tools.catalog import TINYAGENT16

POINTS: list[dict[str, Any]] = [
    {"bits": 4},
    {"bits": 3},
    {"bits": 8, "recipe": "uniform"},
    {"bits": 3.5},
    {"bits": 5},
    {"bits": 2.5},
    {"bits": 6},
    {"bits": 4, "recipe": "uniform", "method": "round"},
    {"bits": 4, "recipe": "uniform"},
    {"bits": 4, "method": "round"},
    {"bits": 4.5},
    {"bits": 4, "mode": "mxfp4", "recipe": "uniform"},
    {"bits": 4, "mode": "nvfp4", "recipe": "uniform"},
    {"bits": 8, "mode": "mxfp8", "recipe": "uniform"},
    {"bits": 4, "group_size": 32},
]


def main() -> None:
    """Measure all points that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--calibrate", type=Path, action="append", default=[])
    parser.add_argument("--table", action="store_true", help="print what was measured")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep", action="store_true", help="leave the models in DIR")
    parser.add_argument("--blocks", action="store_true", help="tool blocks side by side")
    options = parser.parse_args()
    if options.table:
        print_table(options.out / "points.jsonl")
        return
    if not options.files or not options.calibrate:
        parser.error("name a file of rows and --calibrate")
    options.out.mkdir(parents=True, exist_ok=True)
    path = local_path(options.model)
    assert path is not None, "pull the model first"
    source = pipeline.Source(folder=path, adapter=options.adapter, blocks=options.blocks)
    tokenizer = source.open().tokenizer
    held = rows.render(rows.read(options.files), TINYAGENT16, tokenizer, count=options.rows)
    seen = rows.render(
        rows.read(options.calibrate), TINYAGENT16, tokenizer, count=QuantizeConfig().rows
    )
    reference = _reference(source, held, options.out / "reference.safetensors")
    print(f"judged: {len(held.rows)} rows, calibrated: {len(seen.rows)}", flush=True)
    table = _table(source, seen, options.out / "sensitivity.json")
    moments = _moments(source, seen, options.out / "moments.safetensors")
    log = options.out / "points.jsonl"
    done = (
        [json.loads(line)["point"] for line in log.read_text().splitlines()] if log.exists() else []
    )
    for point in POINTS:
        if point in done:
            continue
        with _folder(options.out / _label(point), keep=options.keep) as target:
            config = QuantizeConfig(**point)
            found = measure(source, config, seen, held, reference, table, moments, target)
        with log.open("a") as file:
            file.write(json.dumps({"point": point, **found}) + "\n")
        print(point, found, flush=True)


def _label(point: dict[str, Any]) -> str:
    """Return a point's name as a folder."""
    return "-".join(f"{value:g}" if key == "bits" else str(value) for key, value in point.items())


@contextlib.contextmanager
def _folder(path: Path, *, keep: bool) -> Iterator[Path]:
    """Give a folder to write to: that one if it is kept, else one that goes away again."""
    if keep:
        path.mkdir(exist_ok=True)
        yield path
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def print_table(path: Path) -> None:
    """Print a Markdown table of all points, and the knee of the default recipe's curve."""
    points = [json.loads(line) for line in path.read_text().splitlines()]
    points.sort(key=lambda found: (found["bits_on_disk"], found["kl"]))
    print(
        "| recipe | bits | on disk | MB | KL | NLL | same choice |\n|---|---|---|---|---|---|---|"
    )
    for found in points:
        point = found["point"]
        parts = [point.get("mode", "affine"), point.get("recipe", "mixed")]
        parts += [point.get("method", "gptq")] if parts[0] == "affine" else []
        parts.append(f"groups of {QuantizeConfig(**point).group}")
        print(
            f"| {', '.join(parts)} | {found['bits']:.2f} | {found['bits_on_disk']:.2f} "
            f"| {found['bytes'] / 1e6:.1f} | {found['kl']:.4f} | {found['nll']:.3f} "
            f"| {100 * found['agreement']:.1f} % |"
        )
    curve = [f for f in points if set(f["point"]) <= {"bits", "recipe"}]
    curve = [f for f in curve if f["bits"] >= 8 or "recipe" not in f["point"]]
    print(f"\nreference: NLL {points[0]['nll_reference']:.3f}, {points[0]['rows']} rows")
    if len(curve) > 2:
        print(f"knee: {knee([(f['bits'], f['kl']) for f in curve]):g} bits")


def knee(curve: list[tuple[float, float]]) -> float:
    """Return the bits at which a falling curve lies farthest below its chord.

    Source:
        Satopaa et al. 2011, Finding a "Kneedle" in a Haystack.
    """
    (first, high), (last, low) = curve[0], curve[-1]

    def below(point: tuple[float, float]) -> float:
        return (last - point[0]) / (last - first) - (point[1] - low) / (high - low)

    return max(curve, key=below)[0]


def _reference(source: pipeline.Source, held: rows.Rows, path: Path) -> score.Reading:
    """Let the reference read all plans, once."""
    if not path.exists():
        reading = score.read(source.open(), held, blocks=source.blocks)
        states = {str(number): state for number, state in enumerate(reading.states)}
        mx.save_safetensors(str(path), states)
    kept: Any = mx.load(str(path))
    head = source.open().head()
    return score.Reading([kept[str(number)] for number in range(len(held.rows))], head["weight"])


def _moments(source: pipeline.Source, seen: rows.Rows, path: Path) -> pipeline.Moments:
    """Observe what goes into all matrices, once."""
    if not path.exists():
        start = time.process_time()
        mx.save_safetensors(str(path), pipeline.observe(source, seen, lambda *_: None))
        print(f"observing: {time.process_time() - start:.0f} CPU s", flush=True)
    kept: Any = mx.load(str(path))
    return dict(kept)


def _table(source: pipeline.Source, seen: rows.Rows, path: Path) -> sensitivity.Table:
    """Measure what bits cost, once; kept for groups of 64."""
    formats = [Format(bits=bits, group_size=64) for bits in AFFINE_BITS]
    if path.exists():
        kept = json.loads(path.read_text())
        return {
            name: {form: costs[str(form.bits)] for form in formats}
            for name, costs in kept["table"].items()
        }
    config = QuantizeConfig()
    few = sorted(seen.rows, key=lambda row: (len(seen.prompt(row)) + len(row.plan), row.id))
    start = time.process_time()
    table = sensitivity.measure(source.open, seen.only(few[: config.sensitivity_rows]), formats)
    kept = {name: {str(f.bits): kl for f, kl in costs.items()} for name, costs in table.items()}
    path.write_text(
        json.dumps({"cpu_seconds": time.process_time() - start, "table": kept}, indent=1)
    )
    print(f"sensitivity: {time.process_time() - start:.0f} CPU s", flush=True)
    return table


def measure(
    source: pipeline.Source,
    config: QuantizeConfig,
    seen: rows.Rows,
    held: rows.Rows,
    reference: score.Reading,
    table: sensitivity.Table,
    moments: pipeline.Moments,
    target: Path,
) -> dict[str, Any]:
    """Quantize, write to an empty folder, read back and judge one point."""
    start = time.process_time()
    shapes = source.open().matrices
    sizes = {name: height * width for name, (height, width) in shapes.items()}
    if config.mixes:
        formats = mixed(table, sizes, config.bits)
        formats = {n: replace(form, group_size=config.group) for n, form in formats.items()}
        choice = pipeline.Choice(formats=formats, table=None)
    else:
        choice = pipeline.Choice(formats=dict.fromkeys(shapes, config.formats()[0]), table=None)
    quantized = pipeline.pack(source, seen, choice, config, lambda *_: None, moments=moments)
    seconds = time.process_time() - start
    folder.write(target, source, quantized, fused=source.open().fused)
    size = (target / "model.safetensors").stat().st_size
    adapter = target if (target / "adapters.safetensors").exists() else None
    reading = score.read(Blockwise(target, adapter), held, blocks=source.blocks)
    scores = score.compare(reference, reading, held)
    means = {
        name: round(score.mean(scores, name), 5)
        for name in ("kl", "nll_reference", "nll", "agreement")
    }
    usual = config.mode in FLOATS or not config.mixes
    return {
        "bits": round(mean_bits(choice.formats, sizes, cost=False), 3),
        "bits_on_disk": round(mean_bits(choice.formats, sizes, cost=True), 3),
        "bytes": size,
        **means,
        "whole": sum(s.whole for s in scores),
        "whole_reference": sum(s.whole_reference for s in scores),
        "rows": len(scores),
        "pack_cpu_s": round(seconds, 1),
        "expected_kl": None
        if usual
        else round(sum(table[n][replace(f, group_size=64)] for n, f in choice.formats.items()), 4),
    }


if __name__ == "__main__":
    main()
