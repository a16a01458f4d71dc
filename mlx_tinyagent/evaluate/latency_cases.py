"""The rows of the latency benchmark: requests with the plan that every contestant writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_tinyagent.decode.constraint import PlanConstraint
from mlx_tinyagent.decode.drafts import Drafter, Hints
from mlx_tinyagent.decode.engine import Job
from mlx_tinyagent.errors import InputError, PlanError
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.plan.text import write
from mlx_tinyagent.prompt import tinyagent
from mlx_tinyagent.prompt.render import Prompt, Request, render
from mlx_tinyagent.tools.base import Kind, ToolSet

if TYPE_CHECKING:
    from mlx_tinyagent.models.language import LanguageModel

MOMENT = datetime(2026, 3, 2, 9)  # the day in the prompts; any does


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of the benchmark.

    Attributes:
        id: The row's id.
        query: The request.
        tools: Offered tools.
        plan: The plan to write.
    """

    id: str
    query: str
    tools: ToolSet
    plan: Plan

    def sources(self) -> tuple[str, ...]:
        """Return what spans may copy: the request, and what the plan copies from elsewhere."""
        extra = [
            item
            for step in self.plan.steps
            for param, argument in zip(self.tools[step.tool].params, step.args, strict=True)
            for item in (argument if isinstance(argument, tuple) else (argument,))
            if param.kind in (Kind.SPAN, Kind.WHEN) and isinstance(item, str) and item
        ]
        return (self.query, *(text for text in extra if text not in self.query))


def read_cases(data: Path) -> list[Case]:
    """Read rows whose plan is valid; example records and TinyAgent items tell themselves apart.

    Raises:
        InputError: The file has no rows or cannot be read.
    """
    from mlx_tinyagent.datasets.importers import import_file
    from mlx_tinyagent.datasets.jsonl import read_objects
    from mlx_tinyagent.datasets.record import read_examples
    from mlx_tinyagent.plan.graph import from_calls
    from mlx_tinyagent.tools.catalog import TINYAGENT16

    first = next(iter(read_objects(data)), None)
    if first is None:
        raise InputError(f"{data} has no rows")
    items = "question" in first.value
    examples = import_file(data, "tinyagent").examples if items else read_examples(data)
    cases = []
    for example in examples:
        try:
            plan = from_calls([call.as_dict() for call in example.plan], TINYAGENT16)
        except PlanError:
            continue
        if plan.steps:
            used = TINYAGENT16.closure({step.tool for step in plan.steps})
            cases.append(Case(id=example.id, query=example.query, tools=used, plan=plan))
    return cases


def admitted(cases: Sequence[Case], model: LanguageModel) -> Iterator[Case]:
    """Yield the cases whose plan the grammar can write."""
    for case in cases:
        constraint = constraint_of(case, model)
        for token in script_of(case, model):
            if not constraint.allows(token):
                break
            constraint.accept(token)
        if constraint.finished:
            yield case


def job_of(case: Case, model: LanguageModel, *, drafts: bool = True) -> Job:
    """Return what an engine needs to write a case's own plan, at the cost of choosing it.

    Args:
        case: The row.
        model: Whose tokens are written.
        drafts: Whether anything may be guessed.
    """
    hints = Hints(dates=_dates(case.query))
    return Job(
        prompt_of(case, model),
        constraint_of(case, model),
        Drafter(case.tools, case.query, hints) if drafts else None,
        script=script_of(case, model),
    )


def script_of(case: Case, model: LanguageModel) -> list[int]:
    """Return the tokens of a case's plan."""
    return model.tokenizer.encode(write(case.plan))


def prompt_of(case: Case, model: LanguageModel, layout: str = "ours") -> Prompt:
    """Return a case's prompt, in our layout or in TinyAgent's."""
    request = Request(query=case.query, now=MOMENT)
    if layout == "tinyagent":
        return tinyagent.render(request, case.tools)
    return render(request, case.tools, model.tokenizer.chat_frame())


def constraint_of(case: Case, model: LanguageModel) -> PlanConstraint:
    """Return the grammar of a case, at its start."""
    return PlanConstraint(model.tokenizer.llguidance_tokenizer(), case.tools, case.sources())


def _dates(query: str) -> tuple[str, ...]:
    from mlx_tinyagent.act.dates import find

    return tuple(found.text for found in find(query, MOMENT))
