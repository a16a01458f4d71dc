"""Tool retrieval through the harness: what a retriever offers against the tools that are needed.

Nothing is planned. A set is complete if every needed tool is offered; of
several acceptable sets the one that fits best counts. Rows whose right answer
is a question say nothing about tools and are left out, counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mlx_tinyagent.agent.planner import retrieval_query
from mlx_tinyagent.evaluate.harness_items import Item
from mlx_tinyagent.evaluate.harness_summary import Pair, as_json, estimate
from mlx_tinyagent.evaluate.metrics import best_tool_score
from mlx_tinyagent.prompt.render import Request
from mlx_tinyagent.retrieval.base import AllTools, Retrieved, Retriever
from mlx_tinyagent.retrieval.bm25 import BM25Retriever
from mlx_tinyagent.retrieval.deberta import DebertaRetriever
from mlx_tinyagent.retrieval.tfidf import TfidfRetriever, fit
from mlx_tinyagent.retrieval.words import words
from mlx_tinyagent.tools.base import ToolSet

Row = dict[str, Any]

FIGURES: Mapping[str, str] = {
    "full_recall": "every needed tool is offered (set-complete)",
    "tool_recall": "share of needed tools that are offered, mean of requests",
    "micro_recall": "the same over all needed tools",
    "micro_precision": "share of offered tools that are needed, over all offered tools",
    "exact": "exactly the needed tools are offered",
    "mean_tools": "tools offered to a request that needs some",
    "missed": "a request that needs tools seems to need none",
    "fire_near": "tools offered although none serves: requests that sound like the tools",
    "fire_far": "the same: requests that have nothing to do with them",
    "mean_tools_near": "tools offered to requests of the first kind",
    "mean_tools_far": "tools offered to requests of the second kind",
}


def score_retrieval(item: Item, retriever: Retriever, tools: ToolSet) -> Row:
    """Offer tools for one row and compare with what it needs.

    Args:
        item: The row.
        retriever: Chooses the tools.
        tools: Enabled tools.

    Returns:
        Plain data for ``items.jsonl``.
    """
    found = retriever.select(query_of(item), tools)
    groups = item.acceptable()
    offered = found.tools.names
    return {
        "id": item.id,
        "kind": item.kind,
        "source": item.source,
        "query": item.query,
        "any_of": None if groups is None else [list(group) for group in groups],
        "tools": list(offered),
        "abstain": found.abstain,
        "scores": {name: round(score, 6) for name, score in found.scores.items()},
        "figures": {} if groups is None else _figures(item.kind, groups, found),
        "parts": {} if groups is None else _parts(item.kind, groups, offered),
    }


def query_of(item: Item) -> str:
    """Return the text that tools are retrieved for, as the planner does."""
    return retrieval_query(Request(query=item.query, now=item.now, history=item.history))


def _figures(kind: str, groups: Sequence[Collection[str]], found: Retrieved) -> dict[str, float]:
    offered = found.tools.names
    if kind != "tool":
        name = kind.removeprefix("none_")
        fired = bool(offered) and not found.abstain
        return {f"fire_{name}": float(fired), f"mean_tools_{name}": float(len(offered))}
    score = best_tool_score(offered, groups)
    return {
        "full_recall": float(score.full),
        "tool_recall": score.recall,
        "exact": float(score.exact),
        "mean_tools": float(len(offered)),
        "missed": float(found.abstain),
    }


def _parts(
    kind: str, groups: Sequence[Collection[str]], offered: Collection[str]
) -> dict[str, tuple[int, int]]:
    if kind != "tool":
        return {}
    wanted = nearest(groups, offered)
    hits = len(wanted & set(offered))
    return {"micro_recall": (hits, len(wanted)), "micro_precision": (hits, len(offered))}


def nearest(groups: Sequence[Collection[str]], offered: Collection[str]) -> set[str]:
    """Return the acceptable set that the offered tools fit best; ``best_tool_score`` scores it."""
    found = set(offered)

    def fit_of(place: int) -> tuple[bool, bool, float, float]:
        score = best_tool_score(found, [groups[place]])
        return score.exact, score.full, score.recall, score.precision

    return set(groups[max(range(len(groups)), key=fit_of)])


def summarize_retrieval(rows: Sequence[Row], tools: ToolSet, *, seed: int = 0) -> dict[str, Any]:
    """Return the tables of a run: figures, strata by source and kind, tools, top-k curve.

    Args:
        rows: What ``score_retrieval`` returned, at least one.
        tools: Enabled tools, in their order.
        seed: Seed of the intervals.
    """
    graded = [row for row in rows if row["any_of"] is not None]
    sources = sorted({row["source"] for row in graded})
    return {
        "rows": len(rows),
        "left_out": len(rows) - len(graded),
        "kinds": dict(Counter(row["kind"] for row in rows)),
        "figures": figures_of(graded, seed=seed),
        "strata": {
            "source": {
                source: {
                    "rows": sum(row["source"] == source for row in graded),
                    "figures": figures_of(
                        [row for row in graded if row["source"] == source], seed=seed
                    ),
                }
                for source in sources
            }
        },
        "tools": _tool_table(graded, tools),
        "top_k": _curve([row for row in graded if row["kind"] == "tool"], tools, seed),
    }


def figures_of(rows: Sequence[Row], *, seed: int = 0) -> dict[str, dict[str, float]]:
    """Return every figure that applies to some row: value, low, high, n."""
    values: dict[str, list[Pair]] = defaultdict(list)
    for row in rows:
        for name, value in row["figures"].items():
            values[name].append((value, 1.0))
        for name, (count, of) in row["parts"].items():
            if of:
                values[name].append((count, of))
    names = [name for name in FIGURES if name in values]
    return {name: as_json(estimate(values[name], seed=seed)) for name in names}


def _tool_table(rows: Sequence[Row], tools: ToolSet) -> dict[str, dict[str, Any]]:
    """Return per tool: wanted, offered, both, precision, recall, and how often none was needed."""
    count: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        offered = set(row["tools"])
        if row["kind"] != "tool":
            where = "offered_" + row["kind"].removeprefix("none_")
            for name in offered if not row["abstain"] else ():
                count[name][where] += 1
            continue
        wanted = nearest(row["any_of"], offered)
        for name in wanted | offered:
            count[name]["wanted"] += name in wanted
            count[name]["offered"] += name in offered
            count[name]["both"] += name in wanted and name in offered
    order = [*tools.names, *sorted(count.keys() - set(tools.names))]
    return {name: _tool_line(count[name]) for name in order}


def _tool_line(count: Counter[str]) -> dict[str, Any]:
    both, offered, wanted = count["both"], count["offered"], count["wanted"]
    return {
        "wanted": wanted,
        "offered": offered,
        "both": both,
        "precision": round(both / offered, 6) if offered else None,
        "recall": round(both / wanted, 6) if wanted else None,
        "offered_near": count["offered_near"],
        "offered_far": count["offered_far"],
    }


def _curve(rows: Sequence[Row], tools: ToolSet, seed: int) -> list[dict[str, Any]]:
    """Return full recall and mean tools when the k best scores are kept, for each k.

    Kept tools are closed over the tools whose values they read, as retrievers
    do; ties go by the set's order.
    """
    if all(len(set(row["scores"].values())) <= 1 for row in rows):  # nothing is ranked
        return []
    ranked = [_ranked(row["scores"], tools) for row in rows]
    curve = []
    closures: dict[frozenset[str], tuple[str, ...]] = {}
    for k in range(1, len(tools) + 1):
        full: list[Pair] = []
        kept: list[Pair] = []
        for row, names in zip(rows, ranked, strict=True):
            chosen = frozenset(names[:k])
            if chosen not in closures:
                closures[chosen] = tools.closure(chosen).names
            offered = set(closures[chosen])
            full.append((float(any(offered >= set(group) for group in row["any_of"])), 1.0))
            kept.append((float(len(offered)), 1.0))
        curve.append(
            {
                "k": k,
                "full_recall": as_json(estimate(full, seed=seed)),
                "mean_tools": round(sum(count for count, _ in kept) / len(kept), 4),
            }
        )
    return curve


def _ranked(scores: Mapping[str, float], tools: ToolSet) -> list[str]:
    return sorted(tools.names, key=lambda name: -scores.get(name, 0.0))


def make_retrievers(
    kind: str, training: Sequence[Item], held_out: Sequence[Item], tools: ToolSet
) -> tuple[dict[str, Retriever], int]:
    """Return the retrievers of an option by name, and how many training rows were left out.

    Args:
        kind: ``bm25``, ``tfidf``, ``everything``, or ``all`` of these that can be had;
            ``deberta`` for the classifier, which loads a model.
        training: Rows to fit TF-IDF on; none leaves it out of ``all``.
        held_out: Rows it will be judged on: training rows with the same words are left out.
        tools: Enabled tools.
    """
    found: dict[str, Retriever] = {}
    dropped = 0
    if kind in ("bm25", "all"):
        found["bm25"] = BM25Retriever()
    if kind == "tfidf" or (kind == "all" and training):
        examples, dropped = training_examples(training, held_out, tools)
        found["tfidf"] = TfidfRetriever(fit(examples, tools.names))
    if kind in ("everything", "all"):
        found["everything"] = AllTools()
    if kind == "deberta":
        found["deberta"] = DebertaRetriever()
    return found, dropped


def training_examples(
    training: Sequence[Item], held_out: Sequence[Item], tools: ToolSet
) -> tuple[list[tuple[str, Sequence[str]]], int]:
    """Turn rows into requests with the tools they need; returns how many were left out too.

    Left out are requests that have the same words as one that will be judged,
    and those that need tools which are not enabled. Rows where a question is
    right say nothing and are not counted. Of several acceptable sets the
    smallest is learned, of equals the first by name.
    """
    known = {" ".join(words(query_of(item))) for item in held_out}
    examples: list[tuple[str, Sequence[str]]] = []
    dropped = 0
    for item in training:
        groups = item.acceptable()
        if groups is None:
            continue
        wanted = min((sorted(group) for group in groups), key=lambda group: (len(group), group))
        if " ".join(words(query_of(item))) in known or not all(name in tools for name in wanted):
            dropped += 1
            continue
        examples.append((query_of(item), wanted))
    return examples, dropped
