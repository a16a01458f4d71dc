"""Measure plan success of quantized models against the model they were made from.

    python scripts/measure_plans.py ROWS.jsonl FOLDER ... --out DIR [--rows 60]
    python scripts/measure_plans.py --table --out DIR

Every model plans the same rows, offered the tools that a row names, and so
does the reference (``--model``, with the adapter that serves it). A quantized
model that plans the same has its plan verified in a few passes, so rows on
which nothing changes cost little. Appends a line per row to
DIR/<folder>.jsonl and goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlx_tinyagent.cli.common import adapter_folder
from mlx_tinyagent.evaluate.harness_compare import compare
from mlx_tinyagent.evaluate.harness_items import Item, read_items
from mlx_tinyagent.models.registry import local_path
from mlx_tinyagent.quantize.plans import written
from mlx_tinyagent.tools.catalog import TINYAGENT16

REFERENCE = "reference"
FIGURES = ("tinyagent_success", "plan_match", "argument_match")
Line = dict[str, Any]


def main() -> None:
    """Plan all rows that were not planned yet, reference first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--adapter", help="of the reference; default: the model's own")
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="print what was measured")
    options = parser.parse_args()
    if options.table:
        print_table(options.out)
        return
    if options.file is None:
        parser.error("name a file of rows")
    options.out.mkdir(parents=True, exist_ok=True)
    items = choose(list(read_items(options.file).items), options.rows)
    folder = local_path(options.model)
    assert folder is not None, "pull the model first"
    adapter = adapter_folder(options.model, options.adapter)
    usual = plan(folder, adapter, items, options.out / f"{REFERENCE}.jsonl", {})
    known = {row["id"]: row["prediction"].get("text", "") for row in usual}
    for place in options.folders:
        beside = place if (place / "adapters.safetensors").is_file() else None
        plan(place, beside, items, options.out / f"{place.name}.jsonl", known)
    print_table(options.out)


def choose(items: Sequence[Item], count: int) -> list[Item]:
    """Return rows by the hash of their request: an order that no file decides."""
    return sorted(items, key=lambda item: hashlib.sha256(item.query.encode()).hexdigest())[:count]


def plan(
    folder: Path, adapter: Path | None, items: Sequence[Item], path: Path, known: dict[str, str]
) -> list[Line]:
    """Let a model plan what is not in its file yet; return all lines."""
    lines = read(path)
    done = {line["id"] for line in lines}
    left = [item for item in items if item.id not in done]
    if left:
        texts = [known.get(item.id, "") for item in left] if known else []
        with path.open("a") as file:
            keep = _writer(lines, file.write, file.flush)
            written(folder, adapter, TINYAGENT16, left, lambda *_: None, known=texts, each=keep)
    wanted = {item.id for item in items}
    return [line for line in lines if line["id"] in wanted]


def _writer(
    lines: list[Line], write: Callable[[str], object], flush: Callable[[], object]
) -> Callable[[Line], None]:
    def keep(line: Line) -> None:
        lines.append(line)
        write(json.dumps(line) + "\n")
        flush()

    return keep


def read(path: Path) -> list[Line]:
    """Return the lines of a file; none if it is not there."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def print_table(out: Path) -> None:
    """Print success, and how many plans are the reference's to the letter."""
    usual = {line["id"]: line for line in read(out / f"{REFERENCE}.jsonl")}
    print(
        "| model | rows | success | difference (95 %) | lost, gained | plan match | arguments "
        "| same plan |\n|---|---|---|---|---|---|---|---|"
    )
    for path in sorted(out.glob("*.jsonl")):
        lines = read(path)
        if path.stem == REFERENCE or not lines:
            continue
        first = [usual[line["id"]] for line in lines]
        found = {d.figure: d for d in compare(first, lines).figures}
        success = found["tinyagent_success"]
        texts = zip(first, lines, strict=True)
        same = sum(a["prediction"].get("text") == b["prediction"].get("text") for a, b in texts)
        others = " | ".join(
            f"{100 * found[name].first:.1f} -> {100 * found[name].second:.1f} %"
            for name in FIGURES[1:]
        )
        print(
            f"| {path.stem} | {success.n} | {100 * success.first:.1f} -> "
            f"{100 * success.second:.1f} % | {100 * success.difference:+.1f} "
            f"({100 * success.low:+.1f} to {100 * success.high:+.1f}) | {success.only_first}, "
            f"{success.only_second} | {others} | {100 * same / len(lines):.1f} % |"
        )


if __name__ == "__main__":
    main()
