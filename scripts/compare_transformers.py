"""Compare the DeBERTa encoder's speed with transformers' on torch, both on the CPU.

    pip install -e '.[reference]'
    python scripts/compare_transformers.py [--threads 1] [--repeats 20]

Models of the same shape with random weights take turns in one process: one request of 32
tokens, and one update of AdamW on 32 rows of 20 to 40 tokens (binary cross-entropy over 16
labels, dropout 0.1). Prints a Markdown table of medians; processor seconds hold on a machine
that others use too. "Ratio" is torch's processor time over MLX's: above 1, MLX is faster.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Mapping
from time import perf_counter, process_time
from typing import Any

import numpy as np

LABELS = 16
QUERY = 32  # tokens of the one request
ROWS, LONGEST = 32, 40  # of the training batch
WARM = 3  # rounds that are not counted
V3: dict[str, Any] = {
    "relative_attention": True,
    "max_relative_positions": -1,
    "position_biased_input": False,
    "pos_att_type": "p2c|c2p",
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "type_vocab_size": 0,
    "num_labels": LABELS,
    "problem_type": "multi_label_classification",
}
SHAPES: dict[str, dict[str, Any]] = {
    "4x256": {
        "vocab_size": 8000,
        "hidden_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 1024,
        "position_buckets": 32,
        "max_position_embeddings": 128,
    },
    "v3-xsmall": {
        "vocab_size": 128100,
        "hidden_size": 384,
        "num_hidden_layers": 12,
        "num_attention_heads": 6,
        "intermediate_size": 1536,
        "position_buckets": 256,
        "max_position_embeddings": 512,
    },
}
TRAINED = ("4x256",)  # the one that is trained on a CPU
Work = Callable[[], None]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="Of both libraries.")
    parser.add_argument("--repeats", type=int, default=20, help="Rounds that are counted.")
    parser.add_argument("--inference-only", action="store_true")
    options = parser.parse_args()
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # read when the libraries load
        os.environ[name] = str(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, {options.repeats} rounds, torch {torch.__version__}\n")
    print("| work | torch: ms of processor, of wall | MLX | ratio |")
    print("|---|---|---|---|")
    for name, shape in SHAPES.items():
        raw = {**V3, **shape}
        torch_work, mlx_work = one_query(raw)
        print(line(f"one request, {name}", torch_work, mlx_work, options.repeats), flush=True)
    for name in () if options.inference_only else TRAINED:
        torch_work, mlx_work = one_update({**V3, **SHAPES[name]})
        repeats = max(options.repeats // 4, 3)
        print(line(f"one update of {ROWS} rows, {name}", torch_work, mlx_work, repeats), flush=True)


def one_query(raw: Mapping[str, Any]) -> tuple[Work, Work]:
    """Return one request through torch's model, and through MLX's."""
    import mlx.core as mx
    import torch

    ids = np.random.default_rng(0).integers(4, 7000, (1, QUERY))
    theirs = torch_model(raw).eval()
    given = torch.tensor(ids)

    def by_torch() -> None:
        with torch.inference_mode():
            theirs(input_ids=given).logits.numpy()

    ours = mlx_model(raw)
    ours.eval()
    ours.cache_positions()
    rows = mx.array(ids.astype(np.int32))
    return by_torch, lambda: mx.eval(ours(rows))


def one_update(raw: Mapping[str, Any]) -> tuple[Work, Work]:
    """Return one update of torch's model, and of MLX's."""
    import mlx.core as mx
    import torch
    from mlx import nn, optimizers

    dice = np.random.default_rng(0)
    lengths = dice.integers(20, LONGEST + 1, ROWS)
    mask = (np.arange(LONGEST) < lengths[:, None]).astype(np.int32)
    ids = dice.integers(4, 7000, mask.shape).astype(np.int32) * mask
    targets = dice.integers(0, 2, (ROWS, LABELS)).astype(np.float32)

    theirs = torch_model(raw).train()
    their_optimizer = torch.optim.AdamW(theirs.parameters(), 1e-4)
    batch = {
        "input_ids": torch.tensor(ids).long(),
        "attention_mask": torch.tensor(mask),
        "labels": torch.tensor(targets),
    }

    def by_torch() -> None:
        their_optimizer.zero_grad()
        theirs(**batch).loss.backward()
        their_optimizer.step()

    ours = mlx_model(raw)
    ours.train()
    our_optimizer = optimizers.AdamW(1e-4)
    state = [ours.state, our_optimizer.state, mx.random.state]

    def loss_of(rows: mx.array, seen: mx.array, right: mx.array) -> mx.array:
        return nn.losses.binary_cross_entropy(ours(rows, seen), right)

    gradient_of = nn.value_and_grad(ours, loss_of)

    def update(*arrays: mx.array) -> mx.array:
        loss, gradient = gradient_of(*arrays)
        our_optimizer.update(ours, gradient)
        return loss

    step = mx.compile(update, inputs=state, outputs=state)
    arrays = (mx.array(ids), mx.array(mask), mx.array(targets))
    return by_torch, lambda: mx.eval(step(*arrays), state)


def torch_model(raw: Mapping[str, Any]) -> Any:
    """Return transformers' model of a shape, random weights."""
    from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

    return DebertaV2ForSequenceClassification(DebertaV2Config(**raw))


def mlx_model(raw: Mapping[str, Any]) -> Any:
    """Return ours of a shape, random weights."""
    from mlx_tinyagent.models.deberta import new_classifier
    from mlx_tinyagent.models.deberta.config import DebertaConfig
    from mlx_tinyagent.models.device import setup

    setup()
    return new_classifier(DebertaConfig.from_dict(raw), seed=0)


def line(name: str, by_torch: Work, by_mlx: Work, repeats: int) -> str:
    """Time two works in turns and return a row of the table."""
    spent: tuple[list[tuple[float, float]], ...] = ([], [])
    for turn in range(WARM + repeats):
        works = list(zip(spent, (by_torch, by_mlx), strict=True))
        for times, work in works if turn % 2 else works[::-1]:
            start = process_time(), perf_counter()
            work()
            times.append((process_time() - start[0], perf_counter() - start[1]))
    cells = []
    medians = []
    for times in spent:
        processor, wall = (statistics.median(t[k] for t in times[WARM:]) * 1e3 for k in range(2))
        cells.append(f"{processor:.1f}, {wall:.1f}")
        medians.append(processor)
    return f"| {name} | {cells[0]} | {cells[1]} | {medians[0] / medians[1]:.2f} |"


if __name__ == "__main__":
    main()
