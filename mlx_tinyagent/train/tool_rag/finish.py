"""After training: calibrate the classifier as it will be used, measure it, draw it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.files import atomic_write
from mlx_tinyagent.retrieval.calibration import close_scores, lower_bound, producers_of
from mlx_tinyagent.retrieval.deberta import DebertaRetriever
from mlx_tinyagent.retrieval.groups import GROUPS, group_of
from mlx_tinyagent.retrieval.guarantee import MISS, NO_TOOL_MISS, calibrate
from mlx_tinyagent.retrieval.needs import fit_needs
from mlx_tinyagent.retrieval.ngrams import fit_mix
from mlx_tinyagent.retrieval.scorer import Scores, ToolScorer
from mlx_tinyagent.train.tool_rag.plots import draw_kept, draw_precision_recall, draw_reliability

if TYPE_CHECKING:
    from mlx_tinyagent.tools.base import ToolSet
    from mlx_tinyagent.train.tool_rag.rows import Data, Row

CLASSIFIER = "classifier"  # in the run's folder
NEED_ROWS = 20  # with a tool and without, that decide how much n-grams count
GENERATED = "synth"  # what the sources of generated rows begin with


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A row with what the classifier says.

    Attributes:
        row: The row.
        scores: As scored.
        closed: Score per tool after closure.
    """

    row: Row
    scores: Scores
    closed: dict[str, float]


def finish(out: Path, data: Data, tools: ToolSet, *, ngrams: str = "") -> list[str]:
    """Calibrate a run's best classifier and write ``calibration.json``, report and plots.

    Args:
        out: The run's folder.
        data: Its rows.
        tools: Declarations.
        ngrams: Source whose long requests an n-gram model is fitted on; empty for none.

    Returns:
        Lines for the terminal.

    Raises:
        ModelError: The classifier cannot be read back.
        StoreError: The file system refuses.
    """
    folder = out / CLASSIFIER
    lines = mix_ngrams(folder, data, tools, source=ngrams) if ngrams else []
    if _tells_needs(data):
        lines += mix_needs(folder, data)
    lines += calibrate_folder(folder, data.calibration, tools)
    rows = data.test or data.valid
    if not rows:
        return [*lines, "no rows to test on"]
    judged = judge(ToolScorer(folder), rows, tools)
    report = measure(DebertaRetriever(folder), judged, tools)
    atomic_write(out / "report.json", json.dumps(report, indent=2) + "\n")
    for name, draw in _PLOTS.items():
        atomic_write(out / "plots" / name, draw(judged, tools.names))
    lines += [_line(name, figures) for name, figures in report["figures"].items()]
    return lines


def mix_ngrams(folder: Path, data: Data, tools: ToolSet, *, source: str) -> list[str]:
    """Fit n-grams on the long requests of a source and mix them into a classifier.

    Args:
        folder: The classifier.
        data: Its rows; validation rows decide the weights of the mix.
        tools: Declarations.
        source: What the rows' sources begin with.

    Returns:
        What was done, in a line.

    Raises:
        InputError: The source has no long requests to train or to evaluate on.
        StoreError: The folder cannot be written.
    """
    train, valid = (
        {
            row.text: sorted(row.any_of[0])
            for row in rows
            if row.source.casefold().startswith(source.casefold())
            and len(row.any_of) == 1
            and group_of(row.text) == "long"
        }
        for rows in (data.train, data.valid)
    )
    logits, _ = ToolScorer(folder).logits(list(valid))
    mix = fit_mix(list(train.items()), list(valid.items()), logits, tools.names)
    mix.save(folder)
    own, other, _ = mix.weights
    return [
        f"n-grams of {len(train)} long requests count {other:.2f}, the encoder {own:.2f} "
        f"({len(valid)} requests decided)"
    ]


def mix_needs(folder: Path, data: Data) -> list[str]:
    """Fit n-grams that say whether a tool is needed, and mix them into a classifier.

    Args:
        folder: The classifier.
        data: Its rows; validation rows that people wrote decide the weights of the
            mix, all of them where none is known to be.

    Returns:
        What was done, in a line.

    Raises:
        InputError: One side lacks requests that need a tool, or ones that need none.
        StoreError: The folder cannot be written.
    """
    train = {row.text: row.kind == "tool" for row in data.train}
    valid = {row.text: row.kind == "tool" for row in _by_people(data.valid)}
    logits, needs = ToolScorer(folder).logits(list(valid))
    mix = fit_needs(list(train.items()), list(valid.items()), logits, needs)
    mix.save(folder)
    own, best, other, _ = mix.weights
    return [
        f"whether a tool is needed: the encoder counts {own:.2f}, its best tool {best:.2f}, "
        f"n-grams of {len(train)} requests {other:.2f} ({len(valid)} requests decided)"
    ]


def _by_people(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows that were not generated; all where every row was."""
    return [row for row in rows if not row.source.startswith(GENERATED)] or rows


def _tells_needs(data: Data) -> bool:
    """Whether there are rows enough to say which requests need no tool."""
    sides = (data.train, _by_people(data.valid))
    return all(
        sum((row.kind == "tool") == needed for row in rows) >= NEED_ROWS
        for rows in sides
        for needed in (True, False)
    )


def calibrate_folder(
    folder: Path,
    rows: Sequence[Row],
    tools: ToolSet,
    *,
    miss: Mapping[str, Fraction] = MISS,
    no_tool_miss: Fraction = NO_TOOL_MISS,
) -> list[str]:
    """Write ``calibration.json`` beside a classifier.

    Args:
        folder: The classifier.
        rows: Requests that it was not trained on; those that need no tool are left out.
        tools: Declarations.
        miss: Accepted share of incomplete requests per group.
        no_tool_miss: Accepted share of requests wrongly said to need no tool.

    Returns:
        What is promised, a line per group of requests.

    Raises:
        ModelError: The classifier is damaged or foreign.
        StoreError: The folder cannot be written.
    """
    needing = [row for row in rows if row.kind == "tool"]
    if not needing:
        return ["no calibration rows need a tool: nothing is promised"]
    scorer = ToolScorer(folder)
    found = calibrate(
        [row.text for row in needing],
        [row.any_of for row in needing],
        scorer.score_all([row.text for row in needing]),
        tools=tools,
        weights=scorer.fingerprint,
        data=_digest(needing),
        miss=miss,
        no_tool_miss=no_tool_miss,
    )
    found.save(folder)
    return [f"{group}: {found.threshold(group).line()}" for group in GROUPS]


def judge(scorer: ToolScorer, rows: Sequence[Row], tools: ToolSet) -> list[Judged]:
    """Score rows, with closed scores beside."""
    producers = producers_of(tools)
    return [
        Judged(row=row, scores=scores, closed=close_scores(scores.tools, producers))
        for row, scores in zip(rows, scorer.score_all([row.text for row in rows]), strict=True)
    ]


def measure(
    retriever: DebertaRetriever, judged: Sequence[Judged], tools: ToolSet
) -> dict[str, Any]:
    """Return what the retriever does with rows that it has not seen.

    Args:
        retriever: The calibrated retriever.
        judged: The rows.
        tools: Declarations.
    """
    figures: dict[str, Any] = {}
    for group in GROUPS:
        rows = [one.row for one in judged if one.row.kind == "tool"]
        rows = [row for row in rows if group_of(row.text) == group]
        if rows:
            figures[f"complete, {group}"] = _complete(retriever, rows, tools)
    for kind in ("none_near", "none_far"):
        rows = [one.row for one in judged if one.row.kind == kind]
        if rows:
            fired = sum(not retriever.select(row.text, tools).abstain for row in rows)
            figures[f"fires, {kind}"] = {"n": len(rows), "share": fired / len(rows)}
    calibration = retriever.calibration
    promises = {}
    if calibration is not None:
        promises = {group: calibration.threshold(group).line() for group in GROUPS}
    return {"figures": figures, "promises": promises}


def _complete(retriever: DebertaRetriever, rows: Sequence[Row], tools: ToolSet) -> dict[str, float]:
    complete = kept = lost = 0
    for row in rows:
        found = retriever.select(row.text, tools)
        offered = set(found.tools.names)
        complete += any(group <= offered for group in row.any_of)
        kept += len(offered)
        lost += found.abstain
    return {
        "n": len(rows),
        "share": complete / len(rows),
        "at_least": lower_bound(len(rows) - complete, len(rows)),
        "tools": kept / len(rows),
        "abstained": lost / len(rows),
    }


def _line(name: str, figures: dict[str, float]) -> str:
    text = f"{name}: {figures['share']:.1%} of {figures['n']}"
    if "tools" in figures:
        text += (
            f" (95 % sure: at least {figures['at_least']:.1%}), {figures['tools']:.2f} tools "
            f"kept, {figures['abstained']:.1%} abstained from"
        )
    return text


def _digest(rows: Sequence[Row]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        line = f"{row.text}\t{[sorted(group) for group in row.any_of]}\n"
        digest.update(line.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _pairs(judged: Sequence[Judged], name: str) -> list[tuple[float, bool]]:
    """Return score and truth of one tool, where the truth does not depend on a choice."""
    return [
        (one.scores.tools[name], name in one.row.any_of[0])
        for one in judged
        if len({name in group for group in one.row.any_of}) == 1
    ]


_PLOTS: dict[str, Callable[[Sequence[Judged], Sequence[str]], str]] = {
    "precision-recall.svg": lambda judged, names: draw_precision_recall(
        {name: _pairs(judged, name) for name in names}
    ),
    "calibration.svg": lambda judged, names: draw_reliability(
        [pair for name in names for pair in _pairs(judged, name)]
    ),
    "kept.svg": lambda judged, names: draw_kept(
        [
            (one.closed, [sorted(group) for group in one.row.any_of])
            for one in judged
            if one.row.kind == "tool"
        ]
    ),
}
