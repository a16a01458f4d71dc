"""Measure what fewer bits for kept tool blocks cost: KL and NLL of plans against 16 bits.

    python scripts/measure_kv.py ROWS.jsonl [--adapter DIR] [--bits 8 4] [--out kv.jsonl]

Tool blocks are kept between requests, in memory and on disk. Here their keys
and values come back from 8 or fewer bits (affine, groups along the head) while
everything else stays float32, and plans are read as they would be served.
Prints a table with the gate's verdict and the bytes of a kept token.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mlx_tinyagent.models.registry import local_path
from mlx_tinyagent.quantize import rows, score
from mlx_tinyagent.quantize.gate import judge
from mlx_tinyagent.quantize.pipeline import Source
from mlx_tinyagent.quantize.settings import QuantizeConfig
from mlx_tinyagent.quantize.walk import rest_bytes
from mlx_tinyagent.tools.catalog import TINYAGENT16


def main() -> None:
    """Read the plans with blocks kept in 16 bits and in fewer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 6, 5, 4])
    parser.add_argument("--out", type=Path, help="file that each line is added to, as JSON")
    options = parser.parse_args()
    folder = local_path(options.model)
    assert folder is not None, "pull the model first"
    source = Source(folder=folder, adapter=options.adapter, blocks=True)
    model = source.open()
    held = rows.render(rows.read(options.files), TINYAGENT16, model.tokenizer, count=options.rows)
    reference = score.read(model, held, blocks=True, kept=16)
    config = QuantizeConfig()
    print("| bits | bytes per token | KL | NLL | same choice | gate |\n|---|---|---|---|---|---|")
    for bits in options.bits:
        reading = score.read(source.open(), held, blocks=True, kept=bits)
        scores = score.compare(reference, reading, held)
        verdict = judge(scores, config)
        found = {
            "bits": bits,
            "bytes_per_token": rest_bytes(model.config, bits),
            "rows": len(scores),
            "kl": score.mean(scores, "kl"),
            "nll_reference": score.mean(scores, "nll_reference"),
            "nll": score.mean(scores, "nll"),
            "agreement": score.mean(scores, "agreement"),
            **verdict.as_dict(),
        }
        if options.out is not None:
            with options.out.open("a") as file:
                file.write(json.dumps(found) + "\n")
        print(
            f"| {bits} | {found['bytes_per_token']:.0f} | {found['kl']:.5f} | {found['nll']:.4f} "
            f"(16 bits: {found['nll_reference']:.4f}) | {100 * found['agreement']:.2f} % "
            f"| {found['verdict']} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
