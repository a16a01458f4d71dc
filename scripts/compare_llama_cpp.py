"""Measure llama.cpp's prompt cache on the prompts and plans of ``bench latency``.

    pip install xllamacpp
    python scripts/compare_llama_cpp.py ROWS.jsonl MODEL.gguf [--limit 10]

MODEL.gguf is the file that the planner's model was imported from, so tokens
are the same. Every row's plan is written under a grammar that admits nothing
else. Across engines compare tokens computed, and the ratios within an engine;
seconds depend on kernels and number formats. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_tinyagent.evaluate.latency import median_bootstrap
from mlx_tinyagent.evaluate.latency_cases import (
    Case,
    admitted,
    prompt_of,
    read_cases,
    script_of,
)
from mlx_tinyagent.models.language import LanguageModel, load
from mlx_tinyagent.plan.text import write

CONTEXT = 4096
# (name, prompt layout, whether the server may reuse what it has)
CONTESTANTS = (
    ("no cache", "ours", False),
    ("prompt cache", "ours", True),
    ("no cache, TinyAgent's layout", "tinyagent", False),
    ("prompt cache, TinyAgent's layout", "tinyagent", True),
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--limit", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    model = load("smollm2-135m")
    cases = list(itertools.islice(admitted(read_cases(options.rows), model), options.limit))
    servers = {name: server(options.gguf, options.threads) for name, _, _ in CONTESTANTS}
    for name, layout, reuse in CONTESTANTS:  # warm up, not with the row that comes first
        ask(servers[name], cases[-1], model, layout, reuse=reuse)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
    for number, case in enumerate(cases):
        turn = number % len(CONTESTANTS)
        for name, layout, reuse in (*CONTESTANTS[turn:], *CONTESTANTS[:turn]):
            found[name].append(ask(servers[name], case, model, layout, reuse=reuse))
    print(f"n = {len(cases)} rows, {options.gguf.name}, {options.threads} threads\n")
    print("| llama.cpp | prompt tokens | computed | prompt s | plan tokens/s | no cache / this |")
    print("|---|---|---|---|---|---|")
    for name, layout, _ in CONTESTANTS:
        base = found["no cache" if layout == "ours" else "no cache, TinyAgent's layout"]
        print(line(name, found[name], base))


def server(gguf: Path, threads: int) -> Any:
    """Start a server of one slot in this process."""
    xllamacpp: Any = importlib.import_module("xllamacpp")  # no dependency of the project
    settings = xllamacpp.CommonParams()
    settings.model.path = str(gguf)
    settings.n_ctx = CONTEXT
    settings.n_parallel = 1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    settings.verbosity = -1
    return xllamacpp.Server(settings)


def ask(
    running: Any, case: Case, model: LanguageModel, layout: str, *, reuse: bool
) -> dict[str, float]:
    """Have a row's plan written; returns the server's own timings.

    Raises:
        SystemExit: It wrote something else.
    """
    prompt = prompt_of(case, model, layout)
    ids = [token for segment in prompt.segments for token in segment.encode(model.tokenizer)]
    plan = write(case.plan)
    request = {
        "prompt": ids,
        "n_predict": 4 * len(script_of(case, model)),  # it may write the text in shorter tokens
        "temperature": 0,
        "cache_prompt": reuse,
        "grammar": f"root ::= {json.dumps(plan, ensure_ascii=False)}",
    }
    answer: Mapping[str, Any] = running.handle_completions(request)
    written = str(answer["choices"][0]["text"])
    if written.strip() != plan.strip():
        raise SystemExit(f"row {case.id}: llama.cpp wrote {written!r:.300}")
    timings = answer["timings"]
    return {
        "prompt": float(len(ids)),
        "computed": float(timings["prompt_n"]),
        "prompt_s": timings["prompt_ms"] / 1000,
        "plan_s": timings["predicted_ms"] / 1000,
        "plan": float(timings["predicted_n"]),
    }


def line(name: str, mine: list[dict[str, float]], base: list[dict[str, float]]) -> str:
    """Write one contestant's row."""
    ratios = [b["prompt_s"] / m["prompt_s"] for b, m in zip(base, mine, strict=True)]
    low, high = median_bootstrap(ratios)
    means = {key: statistics.fmean(one[key] for one in mine) for key in mine[0]}
    return (
        f"| {name} | {means['prompt']:.0f} | {means['computed']:.0f} | {means['prompt_s']:.2f} "
        f"| {means['plan'] / means['plan_s']:.1f} "
        f"| {statistics.median(ratios):.2f} ({low:.2f}-{high:.2f}) |"
    )


if __name__ == "__main__":
    main()
