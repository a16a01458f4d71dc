"""Count prompt tokens and KV bytes of a stream of requests: no model runs.

    python scripts/count_prompt.py STREAM.jsonl ROWS.jsonl

TinyAgent items; the last 500 of STREAM warm the caches up, then ROWS are
counted with their own (gold) tools. Prints a Markdown table.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from mlx_tinyagent.decode.kv import SegmentKV
from mlx_tinyagent.decode.tree import SegmentTree
from mlx_tinyagent.models.registry import local_path
from mlx_tinyagent.models.tokenizer import Tokenizer
from mlx_tinyagent.prompt import tinyagent
from mlx_tinyagent.prompt.render import Prompt, Request, Segment, render
from mlx_tinyagent.tools.catalog import TINYAGENT16

MOMENT = datetime(2026, 3, 2, 9)
WARM = 500
KV_BYTES = 46_080  # per token: SmolLM2-135M in float32


class Counter:
    """Counts the tokens of segments, each text once."""

    def __init__(self) -> None:
        folder = local_path("smollm2-135m")
        if folder is None:
            raise SystemExit("pull the default model first: mlx-tinyagent models pull")
        self.tokenizer = Tokenizer(folder)
        self._known: dict[str, int] = {}

    def tokens(self, segments: Iterable[Segment]) -> int:
        """Return the tokens of some segments."""
        total = 0
        for segment in segments:
            if segment.digest not in self._known:
                self._known[segment.digest] = len(segment.encode(self.tokenizer))
            total += self._known[segment.digest]
        return total


def main(stream: Path, rows: Path) -> None:
    """Print the table."""
    counter = Counter()
    frame = counter.tokenizer.chat_frame()
    prompts, upstream = [], []
    items = [*_items(stream)[-WARM:], *_items(rows)]
    for item in items:
        request = Request(query=item["question"], now=MOMENT)
        tools = TINYAGENT16.subset(item["tools"])
        prompts.append(render(request, tools, frame))
        upstream.append(counter.tokens(tinyagent.render(request, tools).segments))
    upstream = upstream[WARM:]
    queries = [len(counter.tokenizer.encode(item["question"])) for item in items[WARM:]]
    tails = [counter.tokens([prompt.tail]) for prompt in prompts[WARM:]]
    naive = [counter.tokens(prompt.segments) for prompt in prompts[WARM:]]
    base = statistics.fmean(upstream)
    print(f"{len(tails)} rows after {WARM}; request {statistics.fmean(queries):.0f} tokens\n")
    print("| prompt | tokens computed per request | of TinyAgent's layout |\n|---|---|---|")
    lines = {
        "TinyAgent's layout, all of it": upstream,
        "ours, all of it": naive,
        "ours, exact tier, 10 prompts kept": exact(prompts, counter, 10),
        "ours, exact tier, all kept": exact(prompts, counter, 0),
        "ours, exact tier, KV within 0.1 of full copies": within(prompts, counter, 0.1),
        "ours, block tier": tails,
    }
    for name, counts in lines.items():
        mean = statistics.fmean(counts)
        print(f"| {name} | {mean:.0f} | {mean / base:.3f} |")
    over = [tail - query for tail, query in zip(tails, queries, strict=True)]
    print(f"\nblock tier: at most {max(over)} tokens beside the request's own")
    tree, copies = _bytes(prompts[:WARM], counter)
    print(
        f"KV of {WARM} prompts: tree {tree / 1e9:.2f} GB, full copies {copies / 1e9:.2f} GB, "
        f"{tree / copies:.3f}x"
    )


def exact(prompts: list[Prompt], counter: Counter, kept: int) -> list[int]:
    """Count what the exact tier computes for the rows after the warm-up.

    Args:
        prompts: The stream.
        counter: Counts tokens.
        kept: How many prompts are remembered, least recently used first out; 0: all.
    """
    known: dict[tuple[str, ...], None] = {}
    computed = []
    for prompt in prompts:
        path = tuple(segment.digest for segment in prompt.segments[:-1])
        shared = max((_common(path, other) for other in known), default=0)
        computed.append(counter.tokens(prompt.segments[shared:]))
        known.pop(path, None)
        known[path] = None
        if kept and len(known) > kept:
            del known[next(iter(known))]
    return computed[WARM:]


@dataclass(frozen=True, slots=True)
class _Sized:
    """Stands for the KV of a segment."""

    nbytes: int


def within(prompts: list[Prompt], counter: Counter, share: float) -> list[int]:
    """Count what the exact tier computes with a byte budget, for the rows after the warm-up.

    Args:
        prompts: The stream.
        counter: Counts tokens.
        share: The budget, by the bytes of one full copy per prompt of the warm-up.
    """
    _, copies = _bytes(prompts[:WARM], counter)
    tree = SegmentTree(int(share * copies))
    computed = []
    for prompt in prompts:
        path = [segment.digest for segment in prompt.segments[:-1]]
        known = len(tree.match(path))
        for end in range(known, len(path)):
            size = counter.tokens([prompt.segments[end]]) * KV_BYTES
            tree.insert(path[: end + 1], cast(SegmentKV, _Sized(size)))
        computed.append(counter.tokens(prompt.segments[known:]))
    return computed[WARM:]


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count


def _bytes(prompts: list[Prompt], counter: Counter) -> tuple[int, int]:
    """Return KV bytes of all prefixes as a tree and as one copy each."""
    nodes: set[tuple[str, ...]] = set()
    tree = copies = 0
    for prompt in prompts:
        path: tuple[str, ...] = ()
        for segment in prompt.segments[:-1]:
            path = (*path, segment.digest)
            size = counter.tokens([segment]) * KV_BYTES
            copies += size
            tree += 0 if path in nodes else size
            nodes.add(path)
    return tree, copies


def _items(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
