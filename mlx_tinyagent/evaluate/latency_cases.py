"""The rows of the latency benchmark: requests with the plan that every contestant writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_tinyagent.agent.planner import date_phrases, draft_hints, retrieval_query
from mlx_tinyagent.decode.constraint import PlanConstraint
from mlx_tinyagent.decode.drafts import Drafter
from mlx_tinyagent.decode.engine import Job
from mlx_tinyagent.decode.grammar import GrammarOptions
from mlx_tinyagent.errors import InputError, PlanError
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.plan.text import write
from mlx_tinyagent.prompt import tinyagent
from mlx_tinyagent.prompt.render import Prompt, Request, render
from mlx_tinyagent.tools.base import Kind, ToolSet

if TYPE_CHECKING:
    from mlx_tinyagent.models.language import LanguageModel
    from mlx_tinyagent.retrieval.base import Retriever

MOMENT = datetime(2026, 3, 2, 9)  # the day in the prompts; any does


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of the benchmark.

    Attributes:
        id: The row's id.
        query: The request.
        tools: Offered tools.
        hidden: Names of tools that are enabled too and not offered.
        plan: The plan to write.
    """

    id: str
    query: str
    tools: ToolSet
    hidden: tuple[str, ...]
    plan: Plan

    @property
    def request(self) -> Request:
        """The request as it is rendered."""
        return Request(query=self.query, now=MOMENT)

    def elsewhere(self, *kinds: Kind) -> tuple[str, ...]:
        """Return arguments of these kinds that the plan copies from beyond the request."""
        copied = [
            item
            for step in self.plan.steps
            for param, argument in zip(self.tools[step.tool].params, step.args, strict=True)
            for item in (argument if isinstance(argument, tuple) else (argument,))
            if param.kind in kinds and isinstance(item, str) and item
        ]
        return tuple(text for text in copied if text not in self.query)


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
            case = Case(id=example.id, query=example.query, tools=used, hidden=(), plan=plan)
            cases.append(_offering(case, used))
    return cases


def retrieved(cases: Sequence[Case], retriever: Retriever) -> Iterator[Case]:
    """Yield the cases with the tools that a retriever offers, where these suffice for the plan."""
    from mlx_tinyagent.tools.catalog import TINYAGENT16

    for case in cases:
        tools = retriever.select(retrieval_query(case.request), TINYAGENT16).tools
        if {step.tool for step in case.plan.steps} <= set(tools.names):
            yield _offering(case, tools)


def _offering(case: Case, tools: ToolSet) -> Case:
    """Return a case with these of TinyAgent's tools on offer."""
    from mlx_tinyagent.tools.catalog import TINYAGENT16

    hidden = tuple(name for name in TINYAGENT16.names if name not in tools)
    return dataclasses.replace(case, tools=tools, hidden=hidden)


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
    hints = draft_hints(case.request, {})
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
    if layout == "tinyagent":
        return tinyagent.render(case.request, case.tools)
    return render(case.request, case.tools, model.tokenizer.chat_frame())


def constraint_of(case: Case, model: LanguageModel) -> PlanConstraint:
    """Return the grammar of a case, at its start: the one that the planner serves.

    What the row's plan copies from elsewhere counts as said in the request.
    """
    options = GrammarOptions(
        more_tools=case.hidden,
        dates=(*date_phrases(case.request), *case.elsewhere(Kind.WHEN)),
    )
    sources = (case.query, *case.elsewhere(Kind.SPAN, Kind.WHEN))
    return PlanConstraint(model.tokenizer.llguidance_tokenizer(), case.tools, sources, options)
