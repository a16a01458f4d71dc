"""Quantize a random model of a billion weights and tell the peak memory.

    python scripts/measure_large.py DIR [--rows 4] [--gate-rows 5] [--method gptq]

The shapes are TinyLlama's (22 blocks, hidden 2048), with the tokenizer and the
vocabulary of the default model. Random weights plan nothing: the gate's
limits are set so wide that it runs and passes. Needs 4 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import time
from pathlib import Path

import mlx.core as mx

from mlx_tinyagent.models.device import setup
from mlx_tinyagent.models.registry import local_path
from mlx_tinyagent.quantize import rows
from mlx_tinyagent.quantize.pipeline import Source
from mlx_tinyagent.quantize.run import Job, run
from mlx_tinyagent.quantize.settings import QuantizeConfig
from mlx_tinyagent.tools.catalog import TINYAGENT16

HIDDEN, FFN, BLOCKS, HEADS, KV_HEADS = 2048, 5632, 22, 32, 4


def main() -> None:
    """Write the model if it is not there, quantize it, print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--gate-rows", type=int, default=5)
    parser.add_argument("--method", choices=["gptq", "round"], default="gptq")
    parser.add_argument("--recipe", choices=["mixed", "uniform"], default="mixed")
    options = parser.parse_args()
    setup()
    folder = options.folder / "random"
    if not (folder / "config.json").exists():
        write_model(folder)
    config = QuantizeConfig(
        rows=options.rows,
        sensitivity_rows=2,
        gate_rows=options.gate_rows,
        method=options.method,
        recipe=options.recipe,
        max_kl=100.0,
    )
    examples = rows.synthetic(TINYAGENT16, 2 * (options.rows + options.gate_rows), seed=0)
    examples.sort(key=lambda example: len(example.tools))
    job = Job(
        source=Source(folder=folder),
        name="random-1.1b",
        out=options.folder / "quantized",
        config=config,
        tools=TINYAGENT16,
        calibration=examples[::2],
        held=examples[1::2],
    )
    start = time.process_time()
    found = run(job, lambda *done: print(*done, file=sys.stderr, flush=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
    facts = {
        "peak_gb": round(peak / 1e9, 2),
        "cpu_s": round(time.process_time() - start),
        "gb": round(found["bytes"] / 1e9, 3),
        "bits_on_disk": found["bits_on_disk"],
        "kl": found["checks"][0]["model"],
        "rows": found["checks"][0]["n"],
        "seconds": found["seconds"],
    }
    print(json.dumps(facts))


def write_model(folder: Path) -> None:
    """Write random weights, float16, one file per block."""
    base = local_path("smollm2-135m")
    assert base is not None, "pull the default model first"
    folder.mkdir(parents=True)
    config = json.loads((base / "config.json").read_text())
    vocabulary = config["vocab_size"]
    config |= {
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HIDDEN // HEADS,
        "tie_word_embeddings": False,
    }
    del config["quantization"]
    width = KV_HEADS * HIDDEN // HEADS
    shapes = {
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (width, HIDDEN),
        "self_attn.v_proj": (width, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (FFN, HIDDEN),
        "mlp.up_proj": (FFN, HIDDEN),
        "mlp.down_proj": (HIDDEN, FFN),
    }
    for block in range(BLOCKS):
        weights = {
            f"model.layers.{block}.{name}.weight": random(shape, 100 * block + number)
            for number, (name, shape) in enumerate(shapes.items())
        }
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"model.layers.{block}.{name}.weight"] = mx.ones(HIDDEN, mx.float16)
        mx.save_safetensors(str(folder / f"model-{block:02d}.safetensors"), weights)
    outer = {
        "model.embed_tokens.weight": random((vocabulary, HIDDEN), 9001),
        "lm_head.weight": random((vocabulary, HIDDEN), 9002),
        "model.norm.weight": mx.ones(HIDDEN, mx.float16),
    }
    mx.save_safetensors(str(folder / f"model-{BLOCKS:02d}.safetensors"), outer)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(base / name, folder / name)
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def random(shape: tuple[int, int], seed: int) -> mx.array:
    """Return a random matrix that keeps the scale of what passes it."""
    drawn = mx.random.normal(shape, key=mx.random.key(seed)) / shape[1] ** 0.5
    return drawn.astype(mx.float16)


if __name__ == "__main__":
    main()
