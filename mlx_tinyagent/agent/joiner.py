"""Typed results to one plain answer, without a model.

What was done is said in the tools' own notes; what was not is said first and
by its reason. Lookups that only fed other steps are not told.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlx_tinyagent.act.executor import StepResult
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.tools.base import Effect, ToolSet
from mlx_tinyagent.tools.results import Ok, Skipped, explain

NO_TOOL = "None of my tools can do that."


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
    read = {number for step in plan.steps for number in step.dependencies}
    problems, done, lookups = [], [], []
    for outcome in results:
        sentence = explain(outcome.result)
        if not isinstance(outcome.result, Ok):
            problems.append((outcome, sentence))
        elif tools[outcome.tool].effect is Effect.READ and outcome.id in read:
            lookups.append(sentence)
        else:
            done.append(sentence)
    told = [
        f"{outcome.tool}: {sentence}"
        for outcome, sentence in problems
        if not (isinstance(outcome.result, Skipped) and len(problems) > 1)
    ]
    skipped = sum(isinstance(outcome.result, Skipped) for outcome, _ in problems)
    if skipped and len(problems) > 1:
        told.append(f"{skipped} step{'s' if skipped > 1 else ''} that needed this did not run.")
    return "\n".join([*told, *done]) or "\n".join(lookups)
