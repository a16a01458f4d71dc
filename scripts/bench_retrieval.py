"""Tool retrieval on TinyAgent's public requests and on people's short commands.

    python scripts/bench_retrieval.py --data ../shared/data          # Markdown
    python scripts/bench_retrieval.py --data ../shared/data --json
    python scripts/bench_retrieval.py --data ../shared/data --no-tfidf --classifier DIR

Fits on ``tinyagent/train.jsonl`` alone, then with 80 % of
``human_tool_silver/dev_train.jsonl`` (by hash of the text) added. Thresholds
come from 5-fold out-of-fold scores on the TinyAgent rows. Compound requests
are ``tinyagent/test_public.jsonl``; short commands are the other 20 % of the
silver rows. "Complete": every needed tool is offered, after closure over
producers; "tools": offered on average, out of 16. The classifier is the one
that ships, unless another is named; "missed": it says that no tool is needed,
and one is. Its tools stay on offer then.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mlx_tinyagent.evaluate.stats import wilson
from mlx_tinyagent.retrieval.base import AllTools, Retriever
from mlx_tinyagent.retrieval.bm25 import BM25Config, BM25Retriever
from mlx_tinyagent.retrieval.deberta import SHIPPED, DebertaRetriever
from mlx_tinyagent.retrieval.scorer import Scores, ToolScorer
from mlx_tinyagent.retrieval.tfidf import (
    Example,
    TfidfModel,
    TfidfRetriever,
    fit,
    marginal_threshold,
)
from mlx_tinyagent.tools.catalog import TINYAGENT16

FOLDS = 5
CLASSIFIER_MISSES = (Fraction(1, 10), Fraction(1, 50))
MISS_RATES = (Fraction(1, 10), Fraction(1, 20), Fraction(1, 100))


def main() -> None:
    """Fit, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True, help="Folder with the shared sets.")
    parser.add_argument("--json", action="store_true", help="Print JSON instead of Markdown.")
    parser.add_argument("--classifier", type=Path, default=SHIPPED, help="Folder of a classifier.")
    parser.add_argument("--no-tfidf", action="store_true", help="Leave out what has to be fitted.")
    options = parser.parse_args()
    train = read(options.data / "tinyagent/train.jsonl")
    test = read(options.data / "tinyagent/test_public.jsonl")
    silver = read(options.data / "human_tool_silver/dev_train.jsonl")
    held_out = [row for row in silver if digest(row["text"]) % 5 == 0]
    fitted_on = [row for row in silver if digest(row["text"]) % 5 != 0]
    compound = [(row["question"], [row["tools"]], "tool") for row in test]
    short = [(row["text"], row["any_of"], row["kind"]) for row in held_out]

    rows = [measure("all tools", AllTools(), compound, short)]
    for top in (4, 8, 12):
        retriever = BM25Retriever(BM25Config(top=top))
        rows.append(measure(f"BM25, top {top}", retriever, compound, short))
    if (options.classifier / "config.json").is_file():
        scorer = Remembering(options.classifier)
        timed("scoring", lambda: scorer.read([text for text, _, _ in (*compound, *short)]))
        for miss in (None, *CLASSIFIER_MISSES):
            label = "classifier" if miss is None else f"classifier, {float(miss):.0%} misses"
            trained = DebertaRetriever(options.classifier, miss=miss)
            trained.scorer = scorer
            rows.append(measure(label, trained, compound, short))
    own: list[Example] = [(row["question"], sorted(set(row["tools"]))) for row in train]
    more: list[Example] = [(row["text"], row["any_of"][0]) for row in fitted_on]
    fitted = () if options.no_tfidf else (("TF-IDF", []), ("TF-IDF + silver", more))
    for name, extra in fitted:
        rows += measure_tfidf(name, own, extra, compound, short)
    report = {
        "n": {
            "train": len(own),
            "silver": len(more),
            "compound": len(compound),
            "short_tool": sum(kind == "tool" for _, _, kind in short),
            "none_near": sum(kind == "none_near" for _, _, kind in short),
            "none_far": sum(kind == "none_far" for _, _, kind in short),
        },
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
        "rows": rows,
    }
    print(json.dumps(report, indent=1) if options.json else markdown(report))


class Remembering(ToolScorer):
    """Scores requests in batches once, for several thresholds."""

    def read(self, queries: Sequence[str]) -> None:
        """Score requests and remember it."""
        self._known = dict(zip(queries, self.score_all(queries), strict=True))

    def score(self, query: str) -> Scores:
        """Return what was remembered."""
        return self._known[query]


Item = tuple[str, Sequence[Sequence[str]], str]  # text, acceptable sets, kind


def measure(
    name: str, retriever: Retriever, compound: Sequence[Item], short: Sequence[Item]
) -> dict[str, Any]:
    """Return one row of the table."""
    tool = [item for item in short if item[2] == "tool"]
    near = [item for item in short if item[2] == "none_near"]
    far = [item for item in short if item[2] == "none_far"]
    log(f"measuring {name}")
    return {
        "name": name,
        **{f"compound_{key}": value for key, value in coverage(retriever, compound).items()},
        **{f"short_{key}": value for key, value in coverage(retriever, tool).items()},
        "missed": fires(retriever, tool, silent=True),
        "fire_near": fires(retriever, near),
        "fire_far": fires(retriever, far),
    }


def coverage(retriever: Retriever, items: Sequence[Item]) -> dict[str, Any]:
    """Return complete sets, exact sets, micro-recall and tools offered."""
    complete = exact = offered = hits = needed = 0
    for text, any_of, _ in items:
        kept = set(retriever.select(text, TINYAGENT16).tools.names)
        best = max((set(gold) for gold in any_of), key=lambda gold: (gold <= kept, -len(gold)))
        complete += best <= kept
        exact += best == kept
        offered += len(kept)
        hits += len(best & kept)
        needed += len(best)
    share = wilson(complete, len(items))
    return {
        "complete": share.value,
        "low": share.low,
        "high": share.high,
        "exact": exact / len(items),
        "recall": hits / needed,
        "tools": offered / len(items),
    }


def fires(retriever: Retriever, items: Sequence[Item], *, silent: bool = False) -> float:
    """Return the share of requests that were not abstained from; with ``silent``, that were."""
    found = [retriever.select(text, TINYAGENT16).abstain for text, _, _ in items]
    return sum(one == silent for one in found) / len(items)


def measure_tfidf(
    name: str,
    own: Sequence[Example],
    extra: Sequence[Example],
    compound: Sequence[Item],
    short: Sequence[Item],
) -> list[dict[str, Any]]:
    """Fit on everything, calibrate on out-of-fold scores of the TinyAgent rows, measure."""
    model = timed(f"fitting {name}", lambda: fit([*own, *extra], TINYAGENT16.names))
    least = timed(f"{FOLDS} folds of {name}", lambda: out_of_fold(own, extra))
    rows = [measure(f"{name}, p >= 0.5", TfidfRetriever(model), compound, short)]
    for rate in MISS_RATES:
        threshold = marginal_threshold(least, rate)
        label = f"{name}, {float(rate):.0%} misses (p >= {threshold:.3f})"
        rows.append(measure(label, TfidfRetriever(model, threshold), compound, short))
    return rows


def out_of_fold(own: Sequence[Example], extra: Sequence[Example]) -> list[float]:
    """Return each row's lowest needed score under a model that has not seen the row."""
    least: list[float] = []
    for fold in range(FOLDS):
        kept = [item for item in own if digest(item[0]) % FOLDS != fold]
        left = [item for item in own if digest(item[0]) % FOLDS == fold]
        model = fit([*kept, *extra], TINYAGENT16.names)
        least += [
            min(scores[name] for name in needed)
            for (_, needed), scores in zip(left, closed_scores(model, left), strict=True)
        ]
    return least


def closed_scores(model: TfidfModel, items: Sequence[Example]) -> list[dict[str, float]]:
    """Return scores in which a producer counts at least as much as the tools that need it."""
    closures = {name: TINYAGENT16.closure([name]).names for name in TINYAGENT16.names}
    result = []
    for row in model.probabilities([text for text, _ in items]):
        scores = dict(zip(model.labels, (float(p) for p in row), strict=True))
        closed = dict(scores)
        for name, score in scores.items():
            for needed in closures[name]:
                closed[needed] = max(closed[needed], score)
        result.append(closed)
    return result


def markdown(report: dict[str, Any]) -> str:
    """Return the report as a table with its footer."""
    lines = [
        "| retriever | compound: complete (95 %) | tools | short: complete | tools "
        "| missed | fires near / far |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        lines.append(
            f"| {row['name']} | {row['compound_complete']:.3f} ({row['compound_low']:.3f}-"
            f"{row['compound_high']:.3f}) | {row['compound_tools']:.1f} | "
            f"{row['short_complete']:.3f} | {row['short_tools']:.1f} | {row['missed']:.1%} | "
            f"{row['fire_near']:.1%} / {row['fire_far']:.1%} |"
        )
    sizes = ", ".join(f"{key} {value:,}" for key, value in report["n"].items())
    lines.append("")
    lines.append(
        f"n: {sizes}. Python {report['python']}, numpy {report['numpy']}, {report['machine']}."
    )
    return "\n".join(lines)


def read(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def digest(text: str) -> int:
    """Return a stable number for a text, case and blanks aside."""
    return int(hashlib.sha256(" ".join(text.lower().split()).encode()).hexdigest()[:8], 16)


def timed(what: str, work: Callable[[], Any]) -> Any:
    """Run and say how long it took."""
    start = time.perf_counter()
    result = work()
    log(f"{what}: {time.perf_counter() - start:.1f} s")
    return result


def log(text: str) -> None:
    """Write a line to stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
