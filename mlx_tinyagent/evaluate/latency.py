"""Latency of planning: counts that hold on any machine, and ratios in one process.

Every contestant writes the same plan (the gold plan of the row, at the cost of
choosing it), under the same grammar, with the same model, BLAS and process.
Contestants take turns on every row, in an order that turns with the row, and
ratios are taken per row.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.decode.constraint import PlanConstraint
from mlx_tinyagent.decode.drafts import Drafter, Hints
from mlx_tinyagent.decode.engine import Engine, EngineOptions
from mlx_tinyagent.decode.grammar import GrammarOptions
from mlx_tinyagent.decode.store import KVStore
from mlx_tinyagent.decode.tiers import BlockTier
from mlx_tinyagent.errors import InputError
from mlx_tinyagent.evaluate.stats import binomial_cdf
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.plan.text import write
from mlx_tinyagent.prompt import tinyagent
from mlx_tinyagent.prompt.render import Prompt, Request, header_segment, render, tool_segment
from mlx_tinyagent.tools.base import Kind, ToolSet

if TYPE_CHECKING:
    from mlx_tinyagent.models.language import LanguageModel
    from mlx_tinyagent.models.plain import PlainGenerator

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


@dataclass(frozen=True, slots=True)
class Trial:
    """What one contestant took for one row."""

    contestant: str
    case: str
    prompt_tokens: int
    computed: int  # prompt tokens that went through the model
    passes: int
    rows: int  # rows of decode passes
    plan_tokens: int
    first_s: float
    total_s: float
    touched_bytes: int = 0


@dataclass(slots=True)
class Report:
    """All trials and what follows from them."""

    trials: list[Trial] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def ratios(self, over: str, of: str, figure: str) -> dict[str, Any]:
        """Return the median per-row ratio of two contestants with a 95 % interval.

        Args:
            over: Contestant in the numerator.
            of: Contestant in the denominator.
            figure: Attribute of ``Trial``.
        """
        by_case = {(t.contestant, t.case): getattr(t, figure) for t in self.trials}
        cases = sorted({t.case for t in self.trials})
        values = [by_case[over, c] / by_case[of, c] for c in cases if by_case[of, c]]
        low, high = median_interval(values)
        median = statistics.median(values)
        return {
            "ratio": round(median, 3),
            "low": round(low, 3),
            "high": round(high, 3),
            "n": len(values),
        }

    def means(self, contestant: str) -> dict[str, float]:
        """Return a contestant's means per row."""
        mine = [t for t in self.trials if t.contestant == contestant]
        figures = (
            "prompt_tokens",
            "computed",
            "passes",
            "rows",
            "plan_tokens",
            "first_s",
            "total_s",
        )
        return {
            figure: round(statistics.fmean(getattr(t, figure) for t in mine), 4)
            for figure in figures
        }

    @property
    def contestants(self) -> list[str]:
        """Names in order of first appearance."""
        return list(dict.fromkeys(t.contestant for t in self.trials))


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return a distribution-free 95 % interval of the median: two order statistics.

    Source:
        Hahn and Meeker 1991, Statistical Intervals, section 5.2. With fewer than six
        values it is the whole range, and covers less.
    """
    ordered = sorted(values)
    count = len(ordered)
    below = 0
    while below < count // 2 and binomial_cdf(below, count, 0.5) <= 0.025:
        below += 1
    below = max(below - 1, 0)
    return ordered[below], ordered[count - 1 - below]


Contestant = Callable[[Case], Trial]

ENGINES = {
    "cold": EngineOptions(tier="cold", forced=False, width=0, narrow=False),
    "exact": EngineOptions(tier="exact"),
    "blocks": EngineOptions(tier="blocks"),
    "blocks-plain": EngineOptions(tier="blocks", forced=False, width=0, narrow=False),
    "blocks-forced": EngineOptions(tier="blocks", width=0, narrow=False),
    "blocks-drafts": EngineOptions(tier="blocks", narrow=False),
}


def run(
    model: LanguageModel,
    cases: Sequence[Case],
    *,
    contestants: Sequence[str],
    store: Path | None,
    progress: Callable[[int, int], None],
) -> Report:
    """Run all contestants on all cases.

    Args:
        model: The model.
        cases: The rows.
        contestants: Names: ``mlx-lm``, ``mlx-lm-tinyagent``, ``mlx-lm-cache``,
            ``mlx-lm-cache-tinyagent``, or of ``ENGINES``.
        store: Folder for KV blocks; None keeps them in memory only.
        progress: Called with trials done and in all.

    Raises:
        InputError: There are no cases, or a contestant is unknown.
    """
    if not cases:
        raise InputError("no row of the file can be benchmarked")
    made = {name: _contestant(name, model, store, cases) for name in contestants}
    report = Report()
    for contestant in made.values():  # warm up every kernel and every block once
        contestant(cases[0])
    total = len(cases) * len(made)
    for number, case in enumerate(cases):
        names = list(made)
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            report.trials.append(made[name](case))
            progress(len(report.trials), total)
    return report


def _contestant(
    name: str, model: LanguageModel, store: Path | None, cases: Sequence[Case]
) -> Contestant:
    if name in ENGINES:
        kv = KVStore(store, model) if store is not None else None
        engine = Engine(model, store=kv, options=ENGINES[name])
        _build_blocks(engine, cases)
        return lambda case: _engine_trial(name, engine, case)
    if name.startswith("mlx-lm"):
        from mlx_tinyagent.models.plain import PlainGenerator

        generator = PlainGenerator(model, reuse="cache" in name)
        layout = "tinyagent" if name.endswith("tinyagent") else "ours"
        return lambda case: _plain_trial(name, generator, model, case, layout)
    known = ["mlx-lm", "mlx-lm-tinyagent", "mlx-lm-cache", "mlx-lm-cache-tinyagent", *ENGINES]
    raise InputError(f"no contestant is called {name!r}; known: {', '.join(known)}")


def _build_blocks(engine: Engine, cases: Sequence[Case]) -> None:
    """Compute the blocks of all tools ahead, as they are when a tool has been used once."""
    if isinstance(engine.tier, BlockTier):
        tools = {tool.name: tool for case in cases for tool in case.tools}
        header = header_segment(engine.model.tokenizer.chat_frame())
        segments = [header, *(tool_segment(tool) for tool in tools.values())]
        engine.tier.build(segments, [s.encode(engine.model.tokenizer) for s in segments])


def _engine_trial(name: str, engine: Engine, case: Case) -> Trial:
    tokenizer = engine.model.tokenizer
    prompt = _prompt(case, engine.model, "ours")
    drafter = Drafter(case.tools, case.query, Hints(dates=_dates(case.query)))
    decoded = engine.plan(
        prompt,
        _constraint(case, engine.model),
        drafter=drafter if engine.options.width else None,
        script=tokenizer.encode(write(case.plan)),
    )
    counts, seconds = decoded.counts, decoded.trace.seconds
    return Trial(
        contestant=name,
        case=case.id,
        prompt_tokens=counts.prompt_tokens,
        computed=counts.prompt_tokens_computed,
        passes=counts.forward_passes,
        rows=counts.rows,
        plan_tokens=counts.plan_tokens,
        first_s=seconds["first"],
        total_s=seconds["prefill"] + seconds["decode"],
    )


def _plain_trial(
    name: str, generator: PlainGenerator, model: LanguageModel, case: Case, layout: str
) -> Trial:
    from mlx_tinyagent.models.plain import scripted

    prompt = _prompt(case, model, layout)
    ids = [token for segment in prompt.segments for token in segment.encode(model.tokenizer)]
    script = model.tokenizer.encode(write(case.plan))
    constraint = _constraint(case, model)
    processor = scripted(constraint, script)
    tokens, computed, first, total = generator.generate(ids, processor, len(script))
    if tokens != script:
        raise InputError(f"row {case.id}: the baseline wrote another plan than it was told")
    return Trial(
        contestant=name,
        case=case.id,
        prompt_tokens=len(ids),
        computed=computed,
        passes=len(tokens),
        rows=len(tokens),
        plan_tokens=len(tokens),
        first_s=first,
        total_s=total,
    )


def _prompt(case: Case, model: LanguageModel, layout: str) -> Prompt:
    request = Request(query=case.query, now=MOMENT)
    if layout == "tinyagent":
        return tinyagent.render(request, case.tools)
    return render(request, case.tools, model.tokenizer.chat_frame())


def _constraint(case: Case, model: LanguageModel) -> PlanConstraint:
    guide = model.tokenizer.llguidance_tokenizer()
    return PlanConstraint(guide, case.tools, case.sources(), GrammarOptions())


def _dates(query: str) -> tuple[str, ...]:
    from mlx_tinyagent.act.dates import find

    return tuple(found.text for found in find(query, MOMENT))


def admitted(cases: Sequence[Case], model: LanguageModel) -> Iterator[Case]:
    """Yield the cases whose plan the grammar can write."""
    for case in cases:
        constraint = _constraint(case, model)
        for token in model.tokenizer.encode(write(case.plan)):
            if not constraint.allows(token):
                break
            constraint.accept(token)
        if constraint.finished:
            yield case
