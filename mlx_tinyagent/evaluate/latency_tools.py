"""Whether the time of a request depends on how many tools are installed.

Made-up tools from a seed, the same first ones in every set; blocks of all of
them on disk, five offered. Blocks are stand-ins of the right size, since a
plan that is told what to write takes as long whatever they hold.
"""

from __future__ import annotations

import dataclasses
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.agent.planner import Planner
from mlx_tinyagent.decode.engine import Engine, EngineOptions
from mlx_tinyagent.decode.store import KVStore
from mlx_tinyagent.decode.tiers import BlockTier
from mlx_tinyagent.errors import InputError
from mlx_tinyagent.evaluate.latency import median_bootstrap
from mlx_tinyagent.evaluate.latency_cases import MOMENT
from mlx_tinyagent.plan.graph import from_calls
from mlx_tinyagent.plan.text import write
from mlx_tinyagent.prompt.render import Request, header_segment, tool_segment
from mlx_tinyagent.retrieval.bm25 import BM25Config, BM25Retriever
from mlx_tinyagent.tools.base import Effect, Kind, Param, Tool, ToolSet
from mlx_tinyagent.trace import Trace, now

if TYPE_CHECKING:
    from mlx_tinyagent.models.language import LanguageModel

OFFERED = 5
_SYLLABLES = "ba be bi bo da de di do fa fe fi fo ga ge gi go ka ke ki ko la le li lo".split()
_VERBS = "get set find list move copy send read make sort join mark plan book".split()
_FILLERS = (
    "for the current workspace",
    "and reports what changed",
    "as the account's owner would",
    "in the order they were added",
    "without touching anything archived",
)

# A word of every filler, so that any tool fits a request a little and five are always offered.
_COMMON = "current workspace, what changed, account, order, archived"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolTrial:
    """One request with so many tools installed.

    Attributes:
        installed: Tools installed.
        request: Number of the request.
        blocks: Where the offered blocks came from: "disk" or "memory".
        offered: Tools offered.
        seconds: By stage: retrieve, prefill, decode, total.
        computed: Prompt tokens that went through the model.
    """

    installed: int
    request: int
    blocks: str
    offered: int
    seconds: dict[str, float]
    computed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A set of tools whose blocks are on disk.

    Attributes:
        tools: The tools.
        retriever: With its index built.
        store: The folder of blocks.
        disk_bytes: Bytes of that folder.
        index_s: Seconds of the retriever's index, once per process.
    """

    tools: ToolSet
    retriever: BM25Retriever
    store: KVStore
    disk_bytes: int
    index_s: float


def synthetic(count: int, seed: int) -> ToolSet:
    """Return made-up tools; a larger set begins with the tools of a smaller one.

    Args:
        count: How many.
        seed: What they are drawn from.
    """
    return ToolSet(f"synthetic{count}", [_tool(number, seed) for number in range(count)])


def _tool(number: int, seed: int) -> Tool:
    chance = random.Random(f"{seed}/{number}")
    word = "".join(chance.choice(_SYLLABLES) for _ in range(3)) + _letters(number)
    verb = chance.choice(_VERBS)
    params = [
        _param(index, chance, f"the {word} to {verb}") for index in range(chance.randint(1, 3))
    ]
    summary = f"{verb.title()}s the {word} {chance.choice(_FILLERS)}."
    return Tool(name=f"{verb}_{word}", summary=summary, params=tuple(params), effect=Effect.READ)


def _param(index: int, chance: random.Random, meaning: str) -> Param:
    """Return a tool's first argument, words of the request, or a further one, a number."""
    name = f"{chance.choice(_SYLLABLES)}{index}"
    meaning = f"{meaning}, {chance.choice(_FILLERS)}"
    if index == 0:
        return Param(name=name, kind=Kind.SPAN, meaning=meaning)
    return Param(name=name, kind=Kind.INT, meaning=meaning, default=index)


def _letters(number: int) -> str:
    """Write a number in letters, so that every tool has a word of its own."""
    digits = f"{number:04d}"
    return "".join("qvxzwjyhnm"[int(digit)] for digit in digits)


def install(
    model: LanguageModel,
    tools: ToolSet,
    folder: Path,
    *,
    progress: Callable[[int, int], None],
) -> Installed:
    """Put stand-in blocks of tools on disk and build the index over them."""
    store = KVStore(folder, model)
    tier = BlockTier(model, store=store, budget=0)
    header = header_segment(model.tokenizer.chat_frame())
    ids = header.encode(model.tokenizer)
    tier.build([header], [ids])
    for number, tool in enumerate(tools, start=1):
        segment = tool_segment(tool)
        tier.place([header, segment], [ids, segment.encode(model.tokenizer)])
        progress(number, len(tools))
    retriever = BM25Retriever(BM25Config(top=OFFERED, floor=0.0))
    start = now()
    retriever.select("x", tools)
    index_s = now() - start
    size = sum(file.stat().st_size for file in folder.iterdir())
    return Installed(
        tools=tools, retriever=retriever, store=store, disk_bytes=size, index_s=index_s
    )


def run(
    model: LanguageModel,
    installed: Sequence[Installed],
    *,
    requests: int,
    progress: Callable[[int, int], None],
) -> list[ToolTrial]:
    """Plan requests with each set of installed tools, in turns.

    Every request is planned by an engine that holds nothing yet, so its blocks
    come from disk, and then once more.

    Raises:
        InputError: There are no requests.
    """
    if requests < 1:
        raise InputError(f"{requests} requests cannot be measured, at least 1")
    smallest = min((one.tools for one in installed), key=len)
    trials: list[ToolTrial] = []
    for one in installed:  # warm up
        _plan(model, one, smallest.names[0], 0)
    for number in range(requests):
        turn = number % len(installed)
        for one in (*installed[turn:], *installed[:turn]):
            trials += _plan(model, one, smallest.names[number % len(smallest)], number)
            progress(len(trials), 2 * requests * len(installed))
    return trials


def _plan(model: LanguageModel, one: Installed, wanted: str, number: int) -> list[ToolTrial]:
    """Plan a request for a tool twice: blocks from disk, then from memory."""
    engine = Engine(model, store=one.store, options=EngineOptions(tier="blocks"))
    planner = Planner(engine, one.tools, one.retriever)
    tool = one.tools[wanted]
    verb, word = wanted.split("_")
    request = Request(query=f"{verb} the {word} of the Blue Heron file, {_COMMON}", now=MOMENT)
    defaults = [param.default for param in tool.params[1:]]
    call: dict[str, Any] = {"id": 1, "tool": wanted, "args": ["Blue Heron", *defaults]}
    script = model.tokenizer.encode(write(from_calls([call], one.tools)))
    trials = []
    for blocks in ("disk", "memory"):
        trace = Trace()
        with trace.span("total"):
            with trace.span("retrieve"):
                found = one.retriever.select(request.query, one.tools)
            with trace.span("prepare"):
                job = dataclasses.replace(planner.job(request, found), script=script)
            decoded = engine.plan(job.prompt, job.constraint, drafter=job.drafter, script=script)
        seconds = {**trace.seconds, **decoded.trace.seconds}
        trials.append(
            ToolTrial(
                installed=len(one.tools),
                request=number,
                blocks=blocks,
                offered=len(found.tools),
                seconds={name: round(value, 6) for name, value in seconds.items()},
                computed=decoded.counts.prompt_tokens_computed,
            )
        )
    return trials


def summarize(trials: Sequence[ToolTrial], installed: Sequence[Installed]) -> dict[str, Any]:
    """Return medians per size, and the median per-request ratio to the smallest size."""
    sizes = [len(one.tools) for one in installed]
    by_key = {(t.installed, t.request, t.blocks): t for t in trials}
    numbers = sorted({t.request for t in trials})
    rows = []
    for one, size in zip(installed, sizes, strict=True):
        row: dict[str, Any] = {
            "installed": size,
            "disk_bytes": one.disk_bytes,
            "index_s": round(one.index_s, 4),
        }
        for blocks in ("disk", "memory"):
            mine = [by_key[size, number, blocks] for number in numbers]
            stages = mine[0].seconds
            row[blocks] = {
                stage: round(statistics.median(t.seconds[stage] for t in mine), 4)
                for stage in stages
            }
            ratios = [
                t.seconds["total"] / by_key[min(sizes), t.request, blocks].seconds["total"]
                for t in mine
            ]
            low, high = median_bootstrap(ratios)
            row[blocks]["ratio"] = [
                round(value, 3) for value in (statistics.median(ratios), low, high)
            ]
        rows.append(row)
    return {"requests": len(numbers), "offered": OFFERED, "sizes": rows}


def table(summary: dict[str, Any]) -> str:
    """Write a summary as Markdown; seconds are medians."""
    lines = [
        "| installed | blocks from | disk MB | retrieve ms | prepare ms | prefill ms | total s "
        "| to the fewest tools |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in summary["sizes"]:
        for blocks in ("disk", "memory"):
            found = row[blocks]
            middle, low, high = found["ratio"]
            stages = " | ".join(
                f"{1000 * found[stage]:.1f}" for stage in ("retrieve", "prepare", "prefill")
            )
            lines.append(
                f"| {row['installed']} | {blocks} | {row['disk_bytes'] / 1e6:.0f} | {stages} "
                f"| {found['total']:.3f} | {middle:.3f} ({low:.3f}-{high:.3f}) |"
            )
    return "\n".join(lines)
