"""Measure what a warm start costs beside imports, weights and forward passes.

    python scripts/measure_start.py [--model smollm2-135m] [--repeats 3]

Each time a new process does what ``ask --dry-run`` does for one request, with
the shipped adapter, the blocks on disk (run ``mlx-tinyagent cache build`` first)
and a plan that is told. What is named own is the rest: tool declarations, retrieval index, blocks,
grammar, masks, drafts, and what MLX spends on building graphs. Prints a
Markdown table of CPU milliseconds, which hold on a machine that others use
too, and of wall milliseconds.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

QUERY = 'Text Leo "I am late" and open the note "Groceries"'
PLAN = (
    '1. get_phone_number("Leo")\n2. send_sms(["$1"], "I am late")\n'
    '3. open_note("Groceries", "")\n4. join()'
)


class Clock:
    """CPU and wall seconds by name; what is timed inside another is the inner one's."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self._open: list[str] = ["own"]
        self._last = self._now()

    def _now(self) -> tuple[float, float]:
        return time.process_time(), time.perf_counter()

    def _charge(self) -> None:
        now = self._now()
        spent = self.seconds.setdefault(self._open[-1], [0.0, 0.0])
        for kind in range(2):
            spent[kind] += now[kind] - self._last[kind]
        self._last = now

    @contextlib.contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Charge the block to a name."""
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def stop(self) -> dict[str, list[float]]:
        """Return all seconds so far."""
        self._charge()
        return self.seconds

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, its time charged to a name."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.span(name):
                return function(*args, **kwargs)

        return timed


def child(model_name: str) -> None:
    """Do one warm start and print its seconds as JSON."""
    clock = Clock()
    builtins.__import__ = clock.wrap("imports", builtins.__import__)

    from mlx_tinyagent.cli.common import load_model, load_tool_set, make_retriever
    from mlx_tinyagent.config import paths
    from mlx_tinyagent.models import adapters, language, tokenizer

    for owner, name in (
        (language, "_build"),
        (language, "fingerprint"),
        (adapters, "apply"),
        (adapters, "merge"),
    ):
        setattr(owner, name, clock.wrap("weights", getattr(owner, name)))
    for name in ("_read_tokenizer", "_optional_json"):
        setattr(tokenizer, name, clock.wrap("tokenizer", getattr(tokenizer, name)))
    guide = tokenizer.Tokenizer.llguidance_tokenizer
    setattr(tokenizer.Tokenizer, guide.__name__, clock.wrap("tokenizer for the grammar", guide))
    tools = load_tool_set("tinyagent16")
    model = load_model(model_name, None)

    import mlx.core as mx

    from mlx_tinyagent.agent.planner import Planner
    from mlx_tinyagent.decode import run
    from mlx_tinyagent.decode.engine import Engine, EngineOptions
    from mlx_tinyagent.decode.store import KVStore
    from mlx_tinyagent.prompt.render import Request

    def forced(function: Callable[..., Any]) -> Callable[..., Any]:
        """Compute a result at once, so that its time is not found somewhere else."""

        def computed(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            mx.eval(result)
            return result

        return clock.wrap("forward passes", computed)

    for name in ("serve", "logits", "logits_of"):
        setattr(run, name, forced(getattr(run, name)))
    store = KVStore(paths().cache / "kv", model)
    engine = Engine(model, store=store, options=EngineOptions(tier="blocks"))
    planner = Planner(engine, tools, make_retriever("on"))
    from mlx_tinyagent.retrieval.bm25 import BM25Retriever

    request = Request(query=QUERY)
    found = BM25Retriever().select(QUERY, tools)
    job = planner.job(request, found)
    script = model.tokenizer.encode(PLAN)
    decoded = engine.plan(job.prompt, job.constraint, drafter=job.drafter, script=script)
    if decoded.counts.prefix_passes:
        raise SystemExit("not all blocks were on disk: run mlx-tinyagent cache build")
    print(json.dumps({"seconds": clock.stop(), "passes": decoded.counts.forward_passes}))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.model)
        return
    runs = []
    for _ in range(options.repeats):
        command = [sys.executable, __file__, "--child", "--model", options.model]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr.strip())
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    print(f"median of {len(runs)} starts, {options.model}, {runs[0]['passes']} passes\n")
    print("| part | CPU ms | wall ms |\n|---|---|---|")
    for name in runs[0]["seconds"]:
        cpu, wall = (
            1000 * statistics.median(one["seconds"][name][kind] for one in runs)
            for kind in range(2)
        )
        print(f"| {name} | {cpu:.0f} | {wall:.0f} |")


if __name__ == "__main__":
    main()
