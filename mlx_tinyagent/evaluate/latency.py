"""Latency of planning: counts that hold on any machine, and ratios in one process.

Every contestant writes the same plan (the gold plan of the row, at the cost of
choosing it), under the same grammar, with the same model, BLAS and process.
Contestants take turns on every row, in an order that turns with the row, and
ratios are taken per row.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlx_tinyagent.decode.engine import Engine, EngineOptions
from mlx_tinyagent.decode.store import KVStore
from mlx_tinyagent.decode.tiers import BlockTier
from mlx_tinyagent.errors import InputError
from mlx_tinyagent.evaluate.latency_cases import (
    Case,
    constraint_of,
    job_of,
    prompt_of,
    script_of,
)
from mlx_tinyagent.evaluate.stats import binomial_cdf
from mlx_tinyagent.prompt.render import header_segment, tool_segment

if TYPE_CHECKING:
    from mlx_tinyagent.models.language import LanguageModel
    from mlx_tinyagent.models.plain import PlainGenerator

RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Trial:
    """What one contestant took for one row.

    Attributes:
        contestant: Its name.
        case: The row's id.
        prompt_tokens: Tokens of the prompt.
        computed: Those that went through the model.
        passes: Forward passes over tail and plan.
        rows: Rows of those passes that were asked for a token.
        plan_tokens: Tokens written.
        first_s: Seconds to the first token.
        total_s: Seconds to the last one.
        kv_bytes: Bytes of known KV that were put together or copied for the prompt.
    """

    contestant: str
    case: str
    prompt_tokens: int
    computed: int
    passes: int
    rows: int
    plan_tokens: int
    first_s: float
    total_s: float
    kv_bytes: int


FIGURES = (
    "prompt_tokens",
    "computed",
    "passes",
    "rows",
    "plan_tokens",
    "first_s",
    "total_s",
    "kv_bytes",
)


@dataclass(slots=True)
class Report:
    """All trials and what follows from them."""

    trials: list[Trial] = field(default_factory=list)

    def ratios(self, over: str, of: str, figure: str) -> dict[str, Any]:
        """Return the median per-row ratio of two contestants with two 95 % intervals.

        ``low`` and ``high`` are of the bootstrap; ``exact`` is the interval between
        two order statistics, which is wider and holds whatever the distribution.

        Args:
            over: Contestant in the numerator.
            of: Contestant in the denominator.
            figure: Attribute of ``Trial``.
        """
        by_case = {(t.contestant, t.case): getattr(t, figure) for t in self.trials}
        cases = sorted({t.case for t in self.trials})
        values = [by_case[over, c] / by_case[of, c] for c in cases if by_case[of, c]]
        if not values:
            return {"ratio": None, "low": None, "high": None, "exact": None, "n": 0}
        low, high = median_bootstrap(values)
        return {
            "ratio": round(statistics.median(values), 3),
            "low": round(low, 3),
            "high": round(high, 3),
            "exact": [round(value, 3) for value in median_interval(values)],
            "n": len(values),
        }

    def means(self, contestant: str) -> dict[str, float]:
        """Return a contestant's means per row."""
        mine = [t for t in self.trials if t.contestant == contestant]
        return {
            figure: round(statistics.fmean(getattr(t, figure) for t in mine), 4)
            for figure in FIGURES
        }

    @property
    def contestants(self) -> list[str]:
        """Names in order of first appearance."""
        return list(dict.fromkeys(t.contestant for t in self.trials))


def median_bootstrap(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the median.

    Source:
        Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    data = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(len(data), size=(RESAMPLES, len(data)))
    low, high = np.percentile(np.median(data[picks], axis=1), [2.5, 97.5])
    return float(low), float(high)


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
    "blocks-repair": EngineOptions(tier="blocks", repair=16),
    "blocks-typed": EngineOptions(tier="blocks"),
}
TYPED = (
    "blocks-typed"  # each request is typed word by word, and read along, before the clock starts
)
BASELINES = ("mlx-lm", "mlx-lm-tinyagent", "mlx-lm-cache", "mlx-lm-cache-tinyagent")


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
        contestants: Names: of ``BASELINES`` or of ``ENGINES``.
        store: Folder of KV blocks and of the cost curve; None keeps blocks in memory
            only and drafts at the default width.
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
    if name in BASELINES:
        from mlx_tinyagent.models.plain import PlainGenerator

        generator = PlainGenerator(model, reuse="cache" in name)
        layout = "tinyagent" if name.endswith("tinyagent") else "ours"
        return lambda case: _plain_trial(name, generator, model, case, layout)
    known = ", ".join((*BASELINES, *ENGINES))
    raise InputError(f"no contestant is called {name!r}; known: {known}")


def _build_blocks(engine: Engine, cases: Sequence[Case]) -> None:
    """Compute the blocks of all tools ahead, as they are when a tool has been used once."""
    if isinstance(engine.tier, BlockTier):
        tools = {tool.name: tool for case in cases for tool in case.tools}
        header = header_segment(engine.model.tokenizer.chat_frame())
        segments = [header, *(tool_segment(tool) for tool in tools.values())]
        engine.tier.build(segments, [s.encode(engine.model.tokenizer) for s in segments])


def _engine_trial(name: str, engine: Engine, case: Case) -> Trial:
    if name == TYPED:
        _type(engine, case)
    job = job_of(case, engine.model, drafts=engine.width() > 0)
    decoded = engine.plan(job.prompt, job.constraint, drafter=job.drafter, script=job.script)
    if list(decoded.tokens) != job.script:
        raise InputError(f"row {case.id}: {name} wrote another plan than it was told")
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
        kv_bytes=counts.kv_bytes,
    )


def _type(engine: Engine, case: Case) -> None:
    """Read along while a request is typed, word by word, as the chat prompt does."""
    words = case.query.split(" ")
    for count in range(1, len(words) + 1):
        typed = dataclasses.replace(case, query=" ".join(words[:count]))
        engine.extend(prompt_of(typed, engine.model))


def _plain_trial(
    name: str, generator: PlainGenerator, model: LanguageModel, case: Case, layout: str
) -> Trial:
    from mlx_tinyagent.models.plain import scripted

    prompt = prompt_of(case, model, layout)
    ids = [token for segment in prompt.segments for token in segment.encode(model.tokenizer)]
    script = script_of(case, model)
    processor = scripted(constraint_of(case, model), script)
    tokens, computed, first, total = generator.generate(ids, processor, len(script))
    if tokens != script:
        raise InputError(f"row {case.id}: {name} wrote another plan than it was told")
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
        kv_bytes=(len(ids) - computed) * model.kv_bytes_per_token,
    )
