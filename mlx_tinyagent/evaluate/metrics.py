"""Strict measures of a predicted plan; each says what it counts.

``tinyagent_score`` has TinyAgent's own measure. These here read typed calls,
count every reference, compare arguments, and look at what should not have
been planned at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from mlx_tinyagent.errors import InputError, PlanError
from mlx_tinyagent.evaluate.arguments import ArgumentScore, Resolve, argument_match
from mlx_tinyagent.evaluate.calls import Call, call_graph, read_calls
from mlx_tinyagent.evaluate.graphs import isomorphic
from mlx_tinyagent.evaluate.grounding import (
    GroundingScore,
    Value,
    grounding,
    unknown_people,
    unknown_tools,
)
from mlx_tinyagent.evaluate.tinyagent_score import Score, tinyagent_success
from mlx_tinyagent.plan.graph import from_calls
from mlx_tinyagent.tools.base import ToolSet

NO_TOOL = ("none_near", "none_far")


class Outcome(StrEnum):
    """What a planner did with a request."""

    CALLS = "calls"
    ASK = "ask"
    ABSTAIN = "abstain"
    ERROR = "error"  # no plan: a row error, or calls that cannot be read


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolScore:
    """Overlap of two sets of tool names.

    Attributes:
        precision: Share of the predicted names that are wanted; 1 if none was predicted.
        recall: Share of the wanted names that were predicted; 1 if none is wanted
            (TinyAgent's tool recall, without join).
        full: Whether every wanted name was predicted ("set-complete").
        exact: Whether the sets are equal.
    """

    precision: float
    recall: float
    full: bool
    exact: bool


def graph_match(predicted: Sequence[Call], gold: Sequence[Call]) -> bool:
    """Say whether two plans are the same graph of tools, with repaired edges.

    Unlike TinyAgent's measure, every reference is an edge: ``${k}``, two in
    one text, ``$k.field``, a second slot that reads the same step. Numbers
    are followed as printed, so renumbering and reordering independent steps
    change nothing. ``join`` is no step. A comparison that was given up (none
    that comes from a plan) is no match.
    """
    return isomorphic(call_graph(predicted), call_graph(gold)) is True


def tool_score(predicted: Collection[str], gold: Collection[str]) -> ToolScore:
    """Compare predicted with gold tool names as sets."""
    found, wanted = set(predicted), set(gold)
    hits = len(found & wanted)
    return ToolScore(
        precision=hits / len(found) if found else 1.0,
        recall=hits / len(wanted) if wanted else 1.0,
        full=wanted <= found,
        exact=wanted == found,
    )


def best_tool_score(predicted: Collection[str], any_of: Iterable[Collection[str]]) -> ToolScore:
    """Compare with the acceptable set that fits best: exact, then full, recall, precision.

    Raises:
        InputError: There is no acceptable set; "no tool" is one empty set.
    """
    scores = [tool_score(predicted, gold) for gold in any_of]
    if not scores:
        raise InputError("any_of is empty; a request that needs no tool has [[]]")
    return max(scores, key=lambda s: (s.exact, s.full, s.recall, s.precision))


def positional_accuracy(predicted: Sequence[Call], gold: Sequence[Call]) -> float:
    """Return the share of gold steps whose tool stands at the same place; 1 for two empty plans.

    TinyAgent's zip measure (``evaluate_plan``) ignores surplus steps; here
    the longer plan's length divides.
    """
    length = max(len(predicted), len(gold))
    same = sum(a.tool == b.tool for a, b in zip(predicted, gold, strict=False))
    return same / length if length else 1.0


def validity(calls: Sequence[Call], tools: ToolSet) -> str | None:
    """Return the rule that a plan breaks, or None if it could run.

    The rules are the validator's of ``plan.graph``: names, order, arity,
    types, references, limits.
    """
    rows = [{"id": call.id, "tool": call.tool, "args": list(call.args)} for call in calls]
    try:
        from_calls(rows, tools)
    except PlanError as error:
        return error.rule
    return None


def outcome(calls: Sequence[object], ask: str | None, error: str | None = None) -> Outcome:
    """Name what a planner did: an error, calls, a question, or nothing."""
    if error:
        return Outcome.ERROR
    if calls:
        return Outcome.CALLS
    return Outcome.ASK if ask else Outcome.ABSTAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanScore:
    """Every measure of one predicted plan; None where it does not apply.

    Attributes:
        kind: The example's kind: tool, ask, none_near or none_far.
        outcome: What the planner did.
        tinyagent: TinyAgent's success, for tool requests.
        graph: Graph match with repaired edges, for tool requests.
        tools: Tool sets, for tool requests.
        arguments: Argument match, for tool requests.
        plan: The graph and all gradable arguments are right and it could run, for
            tool requests.
        valid: Whether what was planned could run; False for an error.
        rule: The rule it breaks.
        grounding: Values that come from nowhere.
        unknown_tools: Names that were not offered.
        unknown_people: People that nobody mentioned.
        false_fire: A request that no tool serves was answered with calls, for none_*.
        abstained: Neither calls nor a question, for none_*.
        clarified: A question instead of calls; right for ask, needless for tool.
    """

    kind: str
    outcome: Outcome
    tinyagent: Score | None
    graph: bool | None
    tools: ToolScore | None
    arguments: ArgumentScore | None
    plan: bool | None
    valid: bool
    rule: str | None
    grounding: GroundingScore
    unknown_tools: tuple[str, ...]
    unknown_people: tuple[Value, ...]
    false_fire: bool | None
    abstained: bool | None
    clarified: bool | None

    def figures(self) -> dict[str, float | None]:
        """Return the measures as numbers by name, for means over many plans."""
        tools, arguments = self.tools, self.arguments
        values: dict[str, float | bool | None] = {
            "tinyagent_success": self.tinyagent.value if self.tinyagent else None,
            "graph_match": self.graph,
            "plan_match": self.plan,
            "tool_precision": tools.precision if tools else None,
            "tool_recall": tools.recall if tools else None,
            "tool_full_recall": tools.full if tools else None,
            "tool_exact": tools.exact if tools else None,
            "argument_match": arguments.rate if arguments else None,
            "valid": self.valid,
            "false_fire": self.false_fire,
            "abstained": self.abstained,
            "clarified": self.clarified,
            "unknown_tool": bool(self.unknown_tools),
            "unknown_person": bool(self.unknown_people),
        }
        return {name: None if value is None else float(value) for name, value in values.items()}


def score_plan(
    prediction: Mapping[str, Any],
    example: Mapping[str, Any],
    tools: ToolSet,
    *,
    resolve: Resolve | None = None,
) -> PlanScore:
    """Score one row of ``plan`` output against its example.

    Args:
        prediction: ``{"calls", "ask"?, "error"?, "tools"?}``; calls that
            cannot be read count as an error, never as a crash.
        example: ``{"query", "plan", "kind"?, "now"?, "history"?, "tools"?}``.
        tools: Declarations of all tools that either side may call.
        resolve: Resolves a date phrase; without it dates are not graded.

    Raises:
        InputError: The *example* cannot be read; it names the field.
    """
    gold, kind, now = _read_example(example)
    error: str | None = prediction.get("error")
    calls: tuple[Call, ...] = ()
    if not error:
        try:
            calls = read_calls(prediction.get("calls") or [])
        except InputError as problem:
            error = str(problem)
    offered = prediction.get("tools") or example.get("tools") or tools.names
    rule = "error" if error else validity(calls, tools)
    done = outcome(calls, prediction.get("ask"), error)
    needs_tool = kind == "tool"
    arguments = argument_match(calls, gold, tools, now=now, resolve=resolve) if needs_tool else None
    graph = graph_match(calls, gold) if needs_tool else None
    request, history = str(example["query"]), example.get("history") or ()
    return PlanScore(
        kind=kind,
        outcome=done,
        tinyagent=_tinyagent(calls, gold, tools) if needs_tool else None,
        graph=graph,
        tools=tool_score([c.tool for c in calls], [c.tool for c in gold]) if needs_tool else None,
        arguments=arguments,
        plan=bool(graph and arguments and arguments.complete and not rule) if needs_tool else None,
        valid=rule is None,
        rule=rule,
        grounding=grounding(calls, tools, request, history),
        unknown_tools=unknown_tools(calls, offered),
        unknown_people=unknown_people(calls, tools, request, history),
        false_fire=bool(calls) if kind in NO_TOOL else None,
        abstained=done is Outcome.ABSTAIN if kind in NO_TOOL else None,
        clarified=done is Outcome.ASK if kind in ("ask", "tool") else None,
    )


def ungrounded_rate(scores: Iterable[GroundingScore], kinds: Collection[str]) -> float:
    """Return the ungrounded share over all values of many plans, not the mean of shares."""
    totals: Counter[bool] = Counter()
    for score in scores:
        totals[True] += sum(count for kind, count in score.totals.items() if kind in kinds)
        totals[False] += sum(value.kind in kinds for value in score.ungrounded)
    return totals[False] / totals[True] if totals[True] else 0.0


def _tinyagent(calls: Sequence[Call], gold: Sequence[Call], tools: ToolSet) -> Score:
    rows = [
        [{"id": call.id, "tool": call.tool, "args": list(call.args)} for call in side]
        for side in (calls, gold)
    ]
    return tinyagent_success(rows[0], rows[1], tools.names)


def _read_example(example: Mapping[str, Any]) -> tuple[tuple[Call, ...], str, datetime | None]:
    if not isinstance(example.get("query"), str):
        raise InputError(f"example {example.get('id')!r} has query {example.get('query')!r:.100}")
    kind = example.get("kind") or "tool"
    if kind not in ("tool", "ask", *NO_TOOL):
        raise InputError(
            f"example {example.get('id')!r} has kind {kind!r}; tool, ask, none_near, none_far do"
        )
    try:
        gold = read_calls(example.get("plan") or [])
        now = datetime.fromisoformat(example["now"]) if example.get("now") else None
    except (InputError, TypeError, ValueError) as error:
        raise InputError(f"example {example.get('id')!r}: {error}") from error
    return gold, kind, now
