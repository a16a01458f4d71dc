"""Typed results to one plain answer, without a model.

What was not done is said first and by its reason; what was done is said in the
tools' own notes, no stronger than the facts. What was looked up or opened for
another step is part of what is said about that one.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlx_tinyagent.act.executor import StepResult
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.tools.base import Effect, ToolSet, Type
from mlx_tinyagent.tools.results import (
    Ambiguous,
    Failed,
    NotFound,
    Ok,
    PermissionNeeded,
    Skipped,
    Unknown,
    explain,
)

NO_TOOL = "None of my tools can do that."
MAX_CANDIDATES = 8  # named in a question
MAX_TEXT_CHARS = 4000  # of a document or note in the answer


def answer(plan: Plan, results: Sequence[StepResult], tools: ToolSet) -> str:
    """Say what became of a plan.

    Args:
        plan: The plan.
        results: One result per step.
        tools: Its tools.
    """
    if plan.ask is not None:
        return plan.ask
    if not plan.steps:
        return NO_TOOL
    used = {number for step in plan.steps for number in step.dependencies}
    told = list(dict.fromkeys(_problems(results)))
    for outcome in results:
        tool = tools[outcome.tool]
        means = tool.effect in (Effect.READ, Effect.OPEN) and outcome.id in used
        if isinstance(outcome.result, Ok) and not means:
            told.append(_done(outcome.result, tool.returns))
    changing = [outcome for outcome in results if tools[outcome.tool].effect.changes]
    if changing and not any(isinstance(o.result, Ok | Unknown) for o in changing):
        told.append("Nothing was changed.")
    return "\n".join(told)


def problem(outcome: StepResult) -> str:
    """Say in one sentence why a step gave no value.

    Args:
        outcome: Of a step whose result is not ``Ok``.
    """
    action = words(outcome.tool)
    match outcome.result:
        case NotFound(what=what):
            return f"I found no {what}."
        case Ambiguous(what=what, candidates=(only,)):
            return f"I found no {what}. Did you mean {only.label}?"
        case Ambiguous(what=what, candidates=several):
            labels = [candidate.label for candidate in several]
            return f"{_capital(what)} could be {_either(labels)}. Which one?"
        case PermissionNeeded():
            return explain(outcome.result)
        case Unknown(reason=reason):
            return _sentence(f"It is not known whether this was done: {action} ({reason})")
        case Failed(reason=reason):
            said = reason.removeprefix(f"{outcome.tool} failed: ")
            return _sentence(f"Could not {action}: {said}")
        case _:
            return _sentence(f"Not done: {action} ({explain(outcome.result)})")


def words(tool: str) -> str:
    """Write a tool's name as people would read it."""
    return " ".join(tool.replace("_", " ").split())


def _problems(results: Sequence[StepResult]) -> list[str]:
    """Say what went wrong, causes first; what did not run because of them stands in one line."""
    causes = [o for o in results if not isinstance(o.result, Ok | Skipped)]
    skipped = [o for o in results if isinstance(o.result, Skipped)]
    told = [problem(outcome) for outcome in causes]
    if causes and skipped:
        return [*told, f"Not done: {', '.join(words(o.tool) for o in skipped)}."]
    return told + [problem(outcome) for outcome in skipped]


def _done(result: Ok, returns: Type) -> str:
    """Say what was done; a text that was asked for is part of the answer."""
    note, text = explain(result), result.value.text.strip()
    if returns is not Type.TEXT or not text or text in note:
        return note
    more = len(text) - MAX_TEXT_CHARS
    shown = text if more <= 0 else f"{text[:MAX_TEXT_CHARS]}... ({more:,} more characters)"
    return f"{note}\n{shown}"


def _either(labels: Sequence[str]) -> str:
    shown, more = labels[:MAX_CANDIDATES], len(labels) - MAX_CANDIDATES
    if more > 0:
        return f"{', '.join(shown)} or {more} more"
    return f"{', '.join(shown[:-1])} or {shown[-1]}"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
