"""Several plans in one forward pass: one row of the batch each, at its own length.

A pass over few rows spends its time reading the weights, so plans that share
it share that. What is drafted, checked and counted stays each plan's own; only
the matrix products are larger, which rounds differently, and a position whose
best two tokens are near is asked again alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from mlx_tinyagent.decode.rows import stack
from mlx_tinyagent.decode.run import Run, Step, choose, trim
from mlx_tinyagent.errors import TinyAgentError
from mlx_tinyagent.models.forward import serve
from mlx_tinyagent.trace import now

if TYPE_CHECKING:
    import mlx.core as mx

    from mlx_tinyagent.decode.engine import Decoded, Engine, Job, Writing
    from mlx_tinyagent.models.language import LanguageModel

# Float32 logits of one context computed alone and among others differ by less than 1e-4.
GUARD = 1e-3


def plan_many(
    engine: Engine, jobs: Iterable[Job], *, rows: int
) -> Iterator[tuple[int, Decoded | TinyAgentError]]:
    """Write plans, up to ``rows`` of them in every pass.

    Args:
        engine: The engine; a model whose caches cannot be cut plans one by one.
        jobs: What to plan; taken one by one as there is room.
        rows: How many plans share a pass, at least 1.

    Yields:
        Each job's number and its plan, or why there is none, as they end.
    """
    rows = rows if engine.model.kind == "full" else 1
    queue = enumerate(jobs)
    active: dict[int, Writing] = {}
    changed = False
    while True:
        while len(active) < rows and (entry := next(queue, None)) is not None:
            number, job = entry
            try:
                active[number] = _begin(engine, job, rows)
                changed = True
            except TinyAgentError as error:
                yield number, error
                continue
            if active[number].run.finished:
                yield number, active.pop(number).decoded()
        if not active:
            return
        if changed and len(active) > 1:
            _join([writing.run for writing in active.values()])
        failed = _advance(engine.model, active)
        over = [number for number, w in active.items() if w.run.finished or number in failed]
        for number in over:
            writing = active.pop(number)
            yield number, failed[number] if number in failed else writing.decoded()
        changed = bool(over)


def _begin(engine: Engine, job: Job, rows: int) -> Writing:
    """Compute a request's tail and the first tokens of its plan, alone.

    A tail has many times the rows of a draft; among others, all would be
    filled up to its length.
    """
    writing = engine.begin(job, shared_by=rows, guard=GUARD if rows > 1 else 0.0)
    with writing.trace.span("decode"):
        writing.advance()
    return writing


def _join(runs: Sequence[Run]) -> None:
    """Put the caches of these plans into one, a row each."""
    for run, views in zip(runs, stack([run.cache for run in runs]), strict=True):
        run.cache = views


def _advance(model: LanguageModel, active: dict[int, Writing]) -> dict[int, TinyAgentError]:
    """Make one pass for all of these plans; returns those that it ended in an error."""
    start = now()
    runs = [writing.run for writing in active.values()]
    steps: list[Step] = []
    failed: dict[int, TinyAgentError] = {}
    for number, run in zip(active, runs, strict=True):
        try:
            steps.append(run.propose())
        except TinyAgentError as error:
            failed[number] = error
    if failed:  # proposing changed nothing: the others do it again without these
        return failed
    hidden = _forward(model, runs, [step.ids for step in steps])
    chosen, gaps = _choose(model, runs, steps, hidden)
    for row, (number, step) in enumerate(zip(active, steps, strict=True)):
        try:
            runs[row].settle(step, chosen[row], gaps[row])
        except TinyAgentError as error:
            failed[number] = error
    share = (now() - start) / len(runs)  # so that the seconds of all plans are the run's
    for writing in active.values():
        writing.trace.seconds["decode"] += share
    return failed


def _forward(model: LanguageModel, runs: Sequence[Run], ids: Sequence[Sequence[int]]) -> mx.array:
    """Run the body over each plan's new tokens; returns hidden states [plans, longest, hidden]."""
    import mlx.core as mx

    longest = max(map(len, ids))
    batch = mx.array([[*own, *([0] * (longest - len(own)))] for own in ids])
    alone = len(runs) == 1
    cache = runs[0].cache if alone else [view.rows for view in runs[0].cache]
    hidden = serve(model.model, batch, cache)
    for run, own in zip(runs, ids, strict=True):
        trim(run.cache, longest - len(own))
    return hidden


def _choose(
    model: LanguageModel, runs: Sequence[Run], steps: Sequence[Step], hidden: mx.array
) -> tuple[list[list[int]], list[list[float]]]:
    """Read the tokens of all plans off a pass at once, so that the head is read once."""
    import mlx.core as mx

    states = mx.concatenate(
        [
            hidden[row, len(step.ids) - len(step.masks) : len(step.ids)]
            for row, step in enumerate(steps)
        ]
    )
    masks = [mask for step in steps for mask in step.masks]
    gaps = runs[0].guarded and len(masks) > 1
    chosen, margins = choose(model, states, masks, narrow=runs[0].narrow, gaps=gaps)
    ends = list(itertools.accumulate(len(step.masks) for step in steps))
    spans = list(zip([0, *ends], ends, strict=False))
    return [chosen[a:b] for a, b in spans], [margins[a:b] for a, b in spans]
