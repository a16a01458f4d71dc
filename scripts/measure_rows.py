"""Measure how many plans a second come out when several share a forward pass.

    python scripts/measure_rows.py ROWS.jsonl [--limit 16] [--rows 1,2,4,8] [--adapter FOLDER]

Every plan is the row's own, written at the cost of choosing it; settings take turns
in one process. Prints a Markdown table.
CPU seconds hold on a machine that others use too.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import process_time

from mlx_tinyagent.decode.engine import Decoded, Engine, EngineOptions, Job
from mlx_tinyagent.evaluate.latency_cases import Case, admitted, job_of, prompt_of, read_cases
from mlx_tinyagent.models.language import load
from mlx_tinyagent.prompt.render import Segment
from mlx_tinyagent.trace import now


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=16)
    parser.add_argument("--rows", default="1,2,4,8")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--adapter")
    options = parser.parse_args()
    model = load("smollm2-135m", adapter=options.adapter)
    found = admitted(read_cases(options.data), model)
    cases = list(itertools.islice(found, options.limit))
    engine = Engine(model, options=EngineOptions(tier="blocks"))
    engine.calibrate()
    settings = [int(text) for text in options.rows.split(",")]
    spent: dict[int, list[tuple[float, float]]] = {rows: [] for rows in settings}
    passes: dict[int, int] = {}
    for case in cases:  # blocks and kernels
        engine.tier.open(*prefix_of(engine, case))
    list(engine.plan_many(jobs(engine, cases[:2]), rows=2))
    for turn in range(options.repeats):
        for rows in settings if turn % 2 == 0 else settings[::-1]:
            start = now(), process_time()
            plans = list(engine.plan_many(jobs(engine, cases), rows=rows))
            spent[rows].append((now() - start[0], process_time() - start[1]))
            passes[rows] = sum(p.counts.forward_passes for _, p in plans if isinstance(p, Decoded))
    print(f"n = {len(cases)} plans, {model.name}, blocks, {engine.curve}\n")
    print("| rows | draft width | passes counted | s a plan | CPU s a plan | CPU, 1 row / this |")
    print("|---|---|---|---|---|---|")
    base = statistics.median(cpu for _, cpu in spent[settings[0]])
    for rows in settings:
        wall, cpu = (statistics.median(pair[k] for pair in spent[rows]) for k in range(2))
        print(
            f"| {rows} | {engine.width(plans=rows)} | {passes[rows]} | {wall / len(cases):.2f} "
            f"| {cpu / len(cases):.2f} | {base / cpu:.2f} |"
        )


def prefix_of(engine: Engine, case: Case) -> tuple[Sequence[Segment], list[list[int]]]:
    """Return the segments before a case's tail, and their tokens."""
    segments = prompt_of(case, engine.model).segments[:-1]
    return segments, [segment.encode(engine.model.tokenizer) for segment in segments]


def jobs(engine: Engine, cases: Sequence[Case]) -> Iterator[Job]:
    """Yield every case with its own plan as the script."""
    for case in cases:
        yield job_of(case, engine.model)


if __name__ == "__main__":
    main()
