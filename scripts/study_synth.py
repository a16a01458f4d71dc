"""Compares synthetic requests with people's: lengths, tools, shared phrasing, a classifier.

Needs scikit-learn, which the package does not depend on:

    python scripts/study_synth.py --synth DATA/train.jsonl --silver SILVER.jsonl \
        [--tinyagent TRAIN.jsonl] [--mined MINED.json] [--show 40]

The classifier is a logistic regression on TF-IDF of words 1-2 and characters
3-5, five folds, balanced; 0.5 means that it cannot tell the two apart. Rows of
the silver file that were mined for phrases are left out.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from mlx_tinyagent.datasets.dedupe import normalized
from mlx_tinyagent.datasets.synth.book import books_for
from mlx_tinyagent.datasets.synth.mine import is_mined, tool_of
from mlx_tinyagent.tools.catalog import TINYAGENT16

LOOKUPS = ("get_email_address", "get_phone_number", "open_and_get_file_path")


def main() -> None:
    """Print the study."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--synth", type=Path, required=True)
    parser.add_argument("--silver", type=Path, required=True)
    parser.add_argument("--tinyagent", type=Path)
    parser.add_argument("--all-rows", action="store_true", help="keep rows that were mined")
    parser.add_argument("--show", type=int, default=0, help="strongest features to print")
    parser.add_argument("--limit", type=int, default=2000, help="rows per side")
    options = parser.parse_args()
    synthetic = read(options.synth)
    human = [
        row
        for row in read(options.silver)
        if row["source"] != "smcalflow"
        and (options.all_rows or not is_mined(row["id"], row["text"]))
    ]
    compare_short(synthetic, human, options.limit, options.show)
    compare_refusals(synthetic, human, options.limit, options.show)
    if options.tinyagent:
        compare_compound(synthetic, read(options.tinyagent), options.limit, options.show)


def read(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def main_tool(names: list[str]) -> str:
    """Return the tool a plan is about: the last that is no look-up, else the last."""
    acting = [name for name in names if name not in LOOKUPS]
    return (acting or names)[-1]


def compare_short(
    synthetic: list[dict[str, Any]], human: list[dict[str, Any]], limit: int, show: int
) -> None:
    """Compare short commands, the tools of both sides in the same proportion."""
    ours: dict[str, list[str]] = defaultdict(list)
    # People's rows are labelled by tool even where something is missing; ours ask then.
    asked = {q.ask: tool for tool, b in books_for(TINYAGENT16).items() for q in b.questions}
    for row in synthetic:
        if row["source"] == "synth/short":
            ours[main_tool([call["tool"] for call in row["plan"]])].append(row["query"])
        elif row["source"] == "synth/ask":
            ours[asked[row["ask"]]].append(row["query"])
    theirs: dict[str, list[str]] = defaultdict(list)
    for row in human:
        if row["kind"] == "tool":
            theirs[tool_of(row)].append(row["text"])
    rng = random.Random(1)
    left, right = [], []
    print("== short commands: synthetic against people's, per tool")
    for tool in sorted(theirs):
        count = min(len(ours[tool]), len(theirs[tool]), limit // 8)
        if count < 10:
            continue
        a, b = rng.sample(ours[tool], count), rng.sample(theirs[tool], count)
        left += a
        right += b
        print(
            f"   {tool:26} n={count:4}  AUC {auc(a, b)[0]:.3f}  words {mean(a):.1f} / {mean(b):.1f}"
        )
    report("short commands", left, right, show)


def compare_refusals(
    synthetic: list[dict[str, Any]], human: list[dict[str, Any]], limit: int, show: int
) -> None:
    """Compare requests that no tool serves."""
    for stratum, kind in (("near", "none_near"), ("far", "none_far")):
        ours = [row["query"] for row in synthetic if row["source"] == f"synth/{stratum}"]
        theirs = [row["text"] for row in human if row["kind"] == kind]
        count = min(len(ours), len(theirs), limit)
        rng = random.Random(2)
        report(f"refusals, {stratum}", rng.sample(ours, count), rng.sample(theirs, count), show)


def compare_compound(
    synthetic: list[dict[str, Any]], items: list[dict[str, Any]], limit: int, show: int
) -> None:
    """Compare compound requests with TinyAgent's."""
    ours = [row for row in synthetic if row["source"] == "synth/compound"]
    written = [row for row in ours if row["query"].endswith(".") and '"' in row["query"]]
    count = min(len(written), len(items), limit)
    report(
        "compound requests (written)",
        [row["query"] for row in random.Random(3).sample(written, count)],
        [row["question"] for row in random.Random(3).sample(items, count)],
        show,
    )
    for name, plans in (
        ("synthetic", [[c["tool"] for c in row["plan"]] for row in written]),
        ("tinyagent", [[c["tool"] for c in row["calls"]] for row in items]),
    ):
        calls = Counter(len(plan) for plan in plans)
        tools = Counter(tool for plan in plans for tool in set(plan))
        print(f"   {name} calls  ", {n: f"{calls[n] / len(plans):.2f}" for n in sorted(calls)})
        print(f"   {name} tools  ", {t: f"{n / len(plans):.2f}" for t, n in tools.most_common()})


def report(title: str, ours: list[str], theirs: list[str], show: int) -> None:
    """Print lengths, overlap and the classifier's figure for two sides of equal size."""
    score, features = auc(ours, theirs)
    print(f"== {title}: n={len(ours)} per side, AUC {score:.3f}")
    print(f"   words: {quantiles(ours)} / {quantiles(theirs)}")
    lower = [sum(t == t.lower() for t in side) / len(side) for side in (ours, theirs)]
    print(f"   all lower case: {lower[0]:.2f} / {lower[1]:.2f}")
    print(f"   share of their word 3-grams that ours have: {shared_grams(ours, theirs):.3f}")
    if show:
        print("   ours:  ", "  ".join(f"{name!r}" for name in features[-show:][::-1]))
        print("   theirs:", "  ".join(f"{name!r}" for name in features[:show]))


def auc(ours: list[str], theirs: list[str]) -> tuple[float, list[str]]:
    """Return the mean AUC of five folds, and the features from theirs to ours."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline, make_union

    texts = [*ours, *theirs]
    labels = np.array([1] * len(ours) + [0] * len(theirs))
    union = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b"),
        TfidfVectorizer(analyzer="char", ngram_range=(3, 5), sublinear_tf=True),
    )
    model = make_pipeline(union, LogisticRegression(max_iter=2000, class_weight="balanced"))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = cross_val_score(model, texts, labels, cv=folds, scoring="roc_auc")
    model.fit(texts, labels)
    names = union.get_feature_names_out()
    order = np.argsort(model[-1].coef_[0])
    return float(scores.mean()), [
        str(names[i]).split("__")[-1] for i in order if "-1__" in names[i]
    ]


def mean(texts: list[str]) -> float:
    """Return the mean number of words."""
    return statistics.mean(len(text.split()) for text in texts)


def quantiles(texts: list[str]) -> list[int]:
    """Return the deciles of the number of words."""
    return [round(q) for q in statistics.quantiles([len(text.split()) for text in texts], n=10)]


def shared_grams(ours: list[str], theirs: list[str]) -> float:
    """Return the share of one side's distinct word 3-grams that the other side has."""
    left, right = (
        {
            tuple(w[i : i + 3])
            for t in side
            for w in [normalized(t).split()]
            for i in range(len(w) - 2)
        }
        for side in (ours, theirs)
    )
    return len(left & right) / max(len(right), 1)


if __name__ == "__main__":
    main()
