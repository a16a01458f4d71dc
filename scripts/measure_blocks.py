"""Measure how far independent tool blocks are from the exact prompt, by model or by adapter.

    python scripts/measure_blocks.py ROWS.jsonl [--limit 24] [--adapter FOLDER]

Each row's plan is read, not written: the distribution before every plan token
is compared with that of the exact tier. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from mlx_tinyagent.decode.tiers import BlockTier, ExactTier
from mlx_tinyagent.evaluate.latency_cases import Case, admitted, prompt_of, read_cases, script_of
from mlx_tinyagent.models.forward import logits, serve
from mlx_tinyagent.models.language import LanguageModel, load

BUDGET = 1 << 30


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--limit", type=int, default=24)
    parser.add_argument("--adapter", help="a folder; none if left out")
    options = parser.parse_args()
    model = load("smollm2-135m", adapter=options.adapter)
    found = admitted(read_cases(options.rows), model)
    cases = list(itertools.islice(found, options.limit))
    name = f"{model.name} with {model.adapter}" if model.adapter else model.name
    print(f"n = {len(cases)} rows, {name}, {model.dtype}\n")
    print(
        "| prefix | mean KL to exact | top-1 as exact | plan NLL, nats/token |\n|---|---|---|---|"
    )
    exact = [scores(model, case, "exact") for case in cases]
    for variant in ("exact", "header only", "longest chosen block", "fixed room", "repair 16"):
        others = exact if variant == "exact" else [scores(model, c, variant) for c in cases]
        rows = [
            compare(a, b, script_of(c, model)) for a, b, c in zip(exact, others, cases, strict=True)
        ]
        kl, same, nll = (statistics.fmean(row[k] for row in rows) for k in range(3))
        print(f"| {variant} | {kl:.4f} | {same:.3f} | {nll:.3f} |", flush=True)


def scores(model: LanguageModel, case: Case, variant: str) -> np.ndarray[Any, Any]:
    """Return log-probabilities before every plan token [tokens, vocab]."""
    import mlx.core as mx

    prompt = prompt_of(case, model)
    ids = [segment.encode(model.tokenizer) for segment in prompt.segments]
    plan = script_of(case, model)
    cache = open_cache(model, variant, prompt.segments[:-1], ids[:-1])
    states = serve(model.model, mx.array([*ids[-1], *plan[:-1]])[None], cache)
    out = logits(model.model, states[0, len(ids[-1]) - 1 :])
    return np.array(out - mx.logsumexp(out, axis=-1, keepdims=True))


_TIERS: dict[str, Any] = {}


def open_cache(model: LanguageModel, variant: str, segments: Any, ids: Any) -> list[Any]:
    """Return a cache that holds the prefix in one of the ways compared."""
    if not _TIERS:
        _TIERS["exact"] = ExactTier(model, store=None, budget=BUDGET)
        _TIERS["fixed room"] = BlockTier(model, store=None, budget=BUDGET)
        _TIERS["repair 16"] = BlockTier(model, store=None, budget=BUDGET, repair=16)
    if variant in _TIERS:
        cache: list[Any] = _TIERS[variant].open(segments, ids).cache
        return cache
    if variant == "header only":
        return list(_TIERS["exact"].open(segments[:1], ids[:1]).cache)
    cache = _TIERS["fixed room"].open(segments, ids).cache
    for layer in cache:  # the tail right after the longest block instead of at a fixed place
        layer.offset = len(ids[0]) + max(map(len, ids[1:]))
    return cache


def compare(
    exact: np.ndarray[Any, Any], other: np.ndarray[Any, Any], plan: list[int]
) -> tuple[float, float, float]:
    """Return mean KL(exact, other), top-1 agreement and the other's NLL of the plan."""
    kl = float((np.exp(exact) * (exact - other)).sum(axis=-1).mean())
    same = float((exact.argmax(axis=-1) == other.argmax(axis=-1)).mean())
    nll = float(-other[np.arange(len(plan)), plan].mean())
    return kl, same, nll


if __name__ == "__main__":
    main()
