"""Rows to tables: every figure with n and a 95 % interval, by stratum and by tool.

Reads what ``harness.score_item`` writes and nothing else, so that a summary
can be made again from ``items.jsonl`` at any time, with the same numbers.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mlx_tinyagent.evaluate.stats import RESAMPLES, Interval
from mlx_tinyagent.tools.base import ToolSet

Row = Mapping[str, Any]
Pair = tuple[float, float]  # what counts, of how many

LEVEL = 0.95
CHUNK = 2_000_000  # multinomial counts drawn at a time, which bounds memory to 16 MB
MOST_CALLS = 8  # plans of more calls stand together

# What each figure says, in the order of the tables. "Of" is the rows it is taken over.
FIGURES: Mapping[str, str] = {
    "right": "nothing to complain about: the reason of a row is 'right'",
    "tinyagent_success": "TinyAgent's measure: the same tool graph, arguments not compared",
    "graph_match": "the same tool graph, every reference an edge",
    "plan_match": "the same graph, every gradable argument matches, and it could run",
    "execution_match": "run on the demonstration world, it does what the gold plan does",
    "tool_precision": "share of called tools that are wanted",
    "tool_recall": "share of wanted tools that are called",
    "tool_full_recall": "every wanted tool is called",
    "tool_exact": "exactly the wanted tools are called",
    "argument_match": "share of the gold plan's arguments that match",
    "needless_question": "a question although nothing is missing",
    "clarification": "a question where one is right",
    "false_fire": "tools called where none serves",
    "false_fire_near": "the same, requests that sound like the tools",
    "false_fire_far": "the same, requests that have nothing to do with them",
    "abstained": "neither tools nor a question where no tool serves",
    "unwanted_change": "run on the demonstration world, it changes something unasked",
    "error": "no plan was written",
    "valid": "what was planned could run",
    "unknown_tool": "a tool that was not offered is called",
    "unknown_person": "a person is named that nobody mentioned",
}
# Rates over all values of all plans; intervals by resampling rows.
RATES: Mapping[str, str] = {
    "ungrounded": "span and date values that come from nowhere",
    "ungrounded_with_text": "the same, free text included",
    "argument_span": "arguments that match: copied words",
    "argument_when": "arguments that match: dates, where they can be graded",
    "argument_text": "arguments that match: free text",
    "argument_template": "arguments that match: text to be sent or written",
    "argument_choice": "arguments that match: choices",
    "argument_int": "arguments that match: whole numbers",
    "argument_float": "arguments that match: numbers",
    "argument_bool": "arguments that match: yes or no",
}


def estimate(pairs: Sequence[Pair], *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Return the ratio of sums of pairs and its percentile bootstrap interval.

    With all second parts 1 it is a mean, and its bootstrap the usual one: rows
    are drawn with replacement. Equal rows are drawn as one multinomial count,
    which is the same distribution and makes ten thousand rows cheap.

    Args:
        pairs: What counts and of how many, one pair per row.
        seed: Seed of the resampling.
        resamples: Draws.

    Raises:
        ValueError: There are no pairs, or the second parts add up to nothing.
    """
    total = sum(of for _, of in pairs)
    if not pairs or total <= 0:
        raise ValueError("a rate needs at least one value")
    counted = Counter(pairs)
    kinds = sorted(counted)
    shares = np.array([counted[kind] for kind in kinds], dtype=np.float64) / len(pairs)
    values = np.array(kinds, dtype=np.float64)  # [kinds, 2]
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK // len(kinds))
    sums = np.concatenate(
        [
            generator.multinomial(len(pairs), shares, min(step, resamples - start)) @ values
            for start in range(0, resamples, step)
        ]
    )
    sums = sums[sums[:, 1] > 0]  # a draw without any value has no rate
    rates = sums[:, 0] / sums[:, 1] if len(sums) else np.array([0.0])
    low, high = np.quantile(rates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    value = sum(count for count, _ in pairs) / total
    return Interval(value=value, low=float(low), high=float(high), n=int(total))


def figure_table(rows: Sequence[Row], *, seed: int = 0) -> dict[str, dict[str, float]]:
    """Return every figure that applies to some row: value, low, high, n.

    ``n`` is the number of rows; of rates over values, the number of values.
    """
    values: dict[str, list[Pair]] = defaultdict(list)
    for row in rows:
        for name, value in row["figures"].items():
            values[name].append((value, 1.0))
        for name, (count, of) in row.get("parts", {}).items():
            values[name].append((count, of))
    order = [*FIGURES, *RATES]
    known = [name for name in order if name in values]
    names = [*known, *sorted(values.keys() - set(order))]
    return {name: as_json(estimate(values[name], seed=seed)) for name in names}


def as_json(found: Interval) -> dict[str, float]:
    """Return an interval as plain data, rounded to six digits."""
    return {
        "value": round(found.value, 6),
        "low": round(found.low, 6),
        "high": round(found.high, 6),
        "n": found.n,
    }


def summarize(rows: Sequence[Row], tools: ToolSet, *, seed: int = 0) -> dict[str, Any]:
    """Return the tables of a run: figures, strata, tools, reasons, counts, seconds.

    Args:
        rows: What ``score_item`` returned, at least one.
        tools: Declares the order of the tools; others follow by name.
        seed: Seed of the intervals.
    """
    return {
        "rows": len(rows),
        "figures": figure_table(rows, seed=seed),
        "reasons": dict(Counter(row["reason"] for row in rows).most_common()),
        "outcomes": dict(Counter(row["outcome"] for row in rows).most_common()),
        "rules": dict(Counter(_rules(rows)).most_common()),
        "strata": {
            name: {
                str(value): {"rows": len(group), "figures": figure_table(group, seed=seed)}
                for value, group in _grouped(rows, key).items()
            }
            for name, key in _STRATA.items()
        },
        "tools": tool_table(rows, tools),
        "counts": _measured(rows, "counts"),
        "seconds": _measured(rows, "seconds"),
    }


def call_stratum(row: Row) -> str | None:
    """Return how many calls the right plan has; None where there is no right plan."""
    if not row["gold"]:
        return None
    return f"{MOST_CALLS}+" if len(row["gold"]) >= MOST_CALLS else str(len(row["gold"]))


_STRATA: Mapping[str, Callable[[Row], str | None]] = {
    "kind": lambda row: row["kind"],
    "calls": call_stratum,
    "source": lambda row: row["source"],
    "history": lambda row: "with history" if row["history"] else "without history",
}


def _grouped(rows: Sequence[Row], key: Callable[[Row], str | None]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        value = key(row)
        if value is not None:
            groups[value].append(row)
    return {name: groups[name] for name in sorted(groups)}


def _rules(rows: Iterable[Row]) -> Iterable[str]:
    return (row["details"]["rule"] for row in rows if "rule" in row["details"])


def tool_table(rows: Sequence[Row], tools: ToolSet) -> dict[str, dict[str, Any]]:
    """Return per tool how often it was wanted and called, by rows, and how its arguments did.

    ``wanted``, ``called``, ``both`` count requests that need some tool, with
    ``precision`` and ``recall`` from them (null without any); ``steps`` and
    ``steps_right`` count gold steps and those whose counterpart has no
    argument amiss; ``fired_near`` and ``fired_far`` count requests that no
    tool serves. Of rows with several acceptable sets the one nearest to what
    was called counts.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        called = {name for name in _called(row) if isinstance(name, str)}
        if row["kind"] == "ask":
            continue
        if row["kind"] != "tool":
            where = "fired_" + row["kind"].removeprefix("none_")
            for name in called:
                counts[name][where] += 1
            continue
        wanted = _wanted(row, called)
        for name in wanted | called:
            counts[name]["wanted"] += name in wanted
            counts[name]["called"] += name in called
            counts[name]["both"] += name in wanted and name in called
        _count_steps(row, counts)
    order = [*(name for name in tools.names if name in counts)]
    order += sorted(counts.keys() - set(order))
    return {name: _tool_line(counts[name]) for name in order}


def _called(row: Row) -> list[Any]:
    """Return the called tools; nothing where the calls could not be read."""
    if row["outcome"] == "error":
        return []
    return [call["tool"] for call in row["prediction"].get("calls") or ()]


def _wanted(row: Row, called: set[str]) -> set[str]:
    if row.get("any_of") is None:
        return {call["tool"] for call in row["gold"]}
    groups = [set(group) for group in row["any_of"]]
    return max(groups, key=lambda group: (group == called, group <= called, len(group & called)))


def _count_steps(row: Row, counts: dict[str, Counter[str]]) -> None:
    paired = {gold for _, gold in row["details"].get("pairs", ())}
    missed = {miss["step"] for miss in row["details"].get("misses", ())}
    for place, call in enumerate(row["gold"]):
        counts[call["tool"]]["steps"] += 1
        right = place in paired and call["id"] not in missed
        counts[call["tool"]]["steps_right"] += right


def _tool_line(count: Counter[str]) -> dict[str, Any]:
    names = ("wanted", "called", "both", "steps", "steps_right", "fired_near", "fired_far")
    return {
        **{name: count[name] for name in names},
        "precision": _share(count["both"], count["called"]),
        "recall": _share(count["both"], count["wanted"]),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _measured(rows: Sequence[Row], field: str) -> dict[str, dict[str, float]]:
    """Return mean, median, 90th percentile and sum of what predictions report; errors left out."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["outcome"] != "error":
            for name, value in (row["prediction"].get(field) or {}).items():
                values[name].append(float(value))
    return {
        name: {
            "mean": round(statistics.fmean(found), 4),
            "median": round(statistics.median(found), 4),
            "p90": round(float(np.quantile(found, 0.9)), 4),
            "sum": round(sum(found), 4),
            "n": len(found),
        }
        for name, found in values.items()
    }
