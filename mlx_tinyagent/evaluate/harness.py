"""One row through the harness: a prediction becomes figures, and why it is not right.

``score_item`` is all there is between a planner and the tables: what it returns
is one line of ``items.jsonl``, and everything else (summary, report, comparison)
is made from these lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from mlx_tinyagent.act import dates
from mlx_tinyagent.errors import InputError
from mlx_tinyagent.evaluate.arguments import pair_steps
from mlx_tinyagent.evaluate.calls import Call, read_calls
from mlx_tinyagent.evaluate.grounding import POINTING, WORDED
from mlx_tinyagent.evaluate.harness_execute import Execution, execution
from mlx_tinyagent.evaluate.harness_items import Item
from mlx_tinyagent.evaluate.metrics import (
    NO_TOOL,
    Outcome,
    PlanScore,
    best_tool_score,
    score_plan,
)
from mlx_tinyagent.evaluate.tinyagent_score import tinyagent_success
from mlx_tinyagent.tools.base import ToolSet

Prediction = Mapping[str, Any]
Predict = Callable[[Item], Prediction | None]  # None: there is no prediction
Row = dict[str, Any]

RIGHT = "right"
# Why a row is not right; the first that applies, in this order.
REASONS = {
    "error": "no plan was written",
    "asked": "a question instead of what was wanted",
    "abstained": "nothing was planned",
    "called": "tools were called where none should be",
    "invalid": "the plan breaks a rule and cannot run",
    "tools": "other tools, or another number of calls",
    "graph": "the right calls, but other references between them",
    "arguments": "the right graph, but an argument differs",
    "effect": "all arguments match, but running it does something else",
}
_NO_PREDICTION: Prediction = {"calls": [], "error": "no prediction"}


def resolve_moment(phrase: str, now: datetime) -> tuple[datetime, datetime | None, bool] | None:
    """Return what a date phrase means, comparable: start, stated end, and whether a time is said.

    Args:
        phrase: A phrase, or ISO 8601 text.
        now: Local time that relative words count from.

    Returns:
        None for what names no moment; a mere length is (now + length, None, True).
    """
    found = dates.resolve(phrase, now)
    if found is not None:
        end = found.end if found.has_time else None
        return found.start, end, found.has_time
    lengths = [part.duration for part in dates.find(phrase, now) if part.duration is not None]
    return (now + sum(lengths, timedelta()), None, True) if lengths else None


def score_item(
    item: Item, prediction: Prediction | None, tools: ToolSet, *, execute: bool = True
) -> Row:
    """Score one prediction.

    Args:
        item: The row.
        prediction: A row of ``plan`` output; None if there is none, which counts as an error.
        tools: Declarations of all tools that either side may call.
        execute: Run rows of the demonstration world.

    Returns:
        Plain data for ``items.jsonl``: what was wanted and predicted,
        ``outcome``, ``reason``, ``figures`` (0 to 1 by name), ``parts`` (counted
        and of how many, for rates over values), and details.
    """
    prediction = prediction if prediction is not None else _NO_PREDICTION
    score = _score(item, prediction, tools)
    calls = _readable(prediction) if score.outcome is not Outcome.ERROR else ()
    ran = execution([_plain(call) for call in calls], item) if execute else None
    pairs = _pairs(calls, item, tools)
    return {
        "id": item.id,
        "kind": item.kind,
        "source": item.source,
        "query": item.query,
        "now": item.now.isoformat() if item.now else None,
        "history": [{"query": turn.query, "plan": turn.plan} for turn in item.history],
        "gold": [dict(call) for call in item.gold],
        "gold_ask": item.ask,
        "any_of": None if item.any_of is None else [list(group) for group in item.any_of],
        "prediction": dict(prediction),
        "outcome": score.outcome.value,
        "reason": _reason(item, score, calls, ran),
        "figures": _figures(item, score, calls, ran),
        "parts": _parts(score),
        "details": _details(score, ran, pairs, prediction),
    }


def _score(item: Item, prediction: Prediction, tools: ToolSet) -> PlanScore:
    """Apply the measures; those that need a plan do not apply to rows that only name tools."""
    example = {
        "id": item.id,
        "query": item.query,
        "plan": list(item.gold),
        "kind": item.kind,
        "now": item.now.isoformat() if item.now else None,
        "history": [turn.query for turn in item.history],
    }
    score = score_plan(prediction, example, tools, resolve=resolve_moment)
    if item.kind != "tool":
        return score
    calls = _readable(prediction) if score.outcome is not Outcome.ERROR else ()
    if item.any_of is not None:
        found = best_tool_score([call.tool for call in calls], item.any_of)
        return replace(score, tools=found, tinyagent=None, graph=None, arguments=None, plan=None)
    if item.published is not None:
        rows = [_plain(call) for call in calls]
        return replace(score, tinyagent=tinyagent_success(rows, list(item.published), tools.names))
    return score


def _readable(prediction: Prediction) -> tuple[Call, ...]:
    """Return the predicted calls; none where they cannot be read."""
    try:
        return read_calls(prediction.get("calls") or [])
    except InputError:
        return ()


def _plain(call: Call) -> dict[str, Any]:
    return {"id": call.id, "tool": call.tool, "args": list(call.args)}


def _pairs(calls: Sequence[Call], item: Item, tools: ToolSet) -> list[tuple[int, int]]:
    gold = read_calls(list(item.gold))
    return pair_steps(calls, gold, tools, now=item.now, resolve=resolve_moment)


def _reason(item: Item, score: PlanScore, calls: Sequence[Call], ran: Execution | None) -> str:
    """Name the first thing that is not right."""
    if score.outcome is Outcome.ERROR:
        return "error"
    if item.kind != "tool":
        wanted = Outcome.ASK if item.kind == "ask" else Outcome.ABSTAIN
        if score.outcome is wanted:
            return RIGHT
        return {Outcome.CALLS: "called", Outcome.ASK: "asked"}.get(score.outcome, "abstained")
    if not calls:
        return "asked" if score.outcome is Outcome.ASK else "abstained"
    if not score.valid:
        return "invalid"
    if not _same_tools(item, score, calls):
        return "tools"
    if score.graph is False:
        return "graph"
    if score.plan is False:
        return "arguments"
    return "effect" if ran is not None and ran.match is False else RIGHT


def _same_tools(item: Item, score: PlanScore, calls: Sequence[Call]) -> bool:
    """Whether the calls are of the right tools: as often, where there is a plan to count in."""
    if item.any_of is not None:
        return bool(score.tools and score.tools.exact)
    return Counter(c.tool for c in calls) == Counter(call["tool"] for call in item.gold)


def _figures(
    item: Item, score: PlanScore, calls: Sequence[Call], ran: Execution | None
) -> dict[str, float]:
    """Return every figure that applies to the row, by the names of the tables."""
    found = score.figures()
    clarified, false_fire = found.pop("clarified"), found.pop("false_fire")
    found["right"] = float(_reason(item, score, calls, ran) == RIGHT)
    found["error"] = float(score.outcome is Outcome.ERROR)
    found["clarification" if item.kind == "ask" else "needless_question"] = clarified
    if item.kind in NO_TOOL:
        found["false_fire"] = found[f"false_fire_{item.kind.removeprefix('none_')}"] = false_fire
    if score.arguments is not None and not score.arguments.compared:
        found["argument_match"] = None  # nothing was to compare
    if ran is not None:
        found["execution_match"] = None if ran.match is None else float(ran.match)
        if item.kind != "tool":
            found["unwanted_change"] = float(ran.changes)
    return {name: value for name, value in found.items() if value is not None}


def _parts(score: PlanScore) -> dict[str, tuple[int, int]]:
    """Return counts whose rate is taken over all values of many plans."""
    parts: dict[str, tuple[int, int]] = {}
    for name, kinds in (("ungrounded", POINTING), ("ungrounded_with_text", WORDED)):
        total = sum(score.grounding.totals.get(kind, 0) for kind in kinds)
        if total:
            bad = sum(value.kind in kinds for value in score.grounding.ungrounded)
            parts[name] = (bad, total)
    if score.arguments is not None:
        for kind, counts in score.arguments.by_kind.items():
            parts[f"argument_{kind}"] = counts
    return parts


def _details(
    score: PlanScore,
    ran: Execution | None,
    pairs: Sequence[tuple[int, int]],
    prediction: Prediction,
) -> dict[str, Any]:
    """Return what a reader of a failure wants to know; empty things are left out."""
    misses = score.arguments.misses if score.arguments else ()
    found: dict[str, Any] = {
        "error": prediction.get("error"),
        "rule": score.rule if score.rule != "error" else None,
        "tinyagent": score.tinyagent.reason if score.tinyagent else None,
        "pairs": [list(pair) for pair in pairs],
        "misses": [
            {
                "step": miss.step,
                "tool": miss.tool,
                "argument": miss.argument,
                "predicted": miss.predicted,
                "gold": miss.gold,
            }
            for miss in misses
        ],
        "ungradable_dates": score.arguments.ungradable if score.arguments else 0,
        "ungrounded": [
            {"step": value.step, "argument": value.argument, "text": value.text}
            for value in score.grounding.ungrounded
        ],
        "unknown_tools": list(score.unknown_tools),
        "unknown_people": [value.text for value in score.unknown_people],
        "differences": list(ran.differences) if ran else [],
    }
    return {name: value for name, value in found.items() if value}
