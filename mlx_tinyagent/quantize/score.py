"""Reading plans instead of writing them: how far a model's choices are from another's.

Both models read the same plans under the same prompts. Compared is the
distribution before every plan token, so one pass over all rows tells more, and
far sooner, than plans written token by token. Greedy decoding without a
grammar writes a plan exactly if every token of it is the most likely one, so
that share is here as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.models.kernels import LOG2E, exp2
from mlx_tinyagent.quantize.walk import Layout, Progress, walk

if TYPE_CHECKING:
    import mlx.core as mx

    from mlx_tinyagent.models.blockwise import Blockwise
    from mlx_tinyagent.quantize.rows import Row, Rows


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a model thinks before every plan token.

    Attributes:
        states: Per row the states after the last norm [plan tokens, hidden].
        head: The head's weight [vocab, hidden], float32.
    """

    states: list[mx.array]
    head: mx.array


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One row, read by two models.

    Attributes:
        id: The row's id.
        kind: The row's kind.
        tokens: Tokens of its plan, with the end token.
        nll_reference: Nats per plan token of the reference.
        nll: Nats per plan token of the model that is judged.
        kl: KL(reference, model), nats per plan token.
        agreement: Share of plan tokens before which both prefer the same token.
        whole_reference: Whether the reference prefers every token of the plan.
        whole: Whether the model does.
    """

    id: str
    kind: str
    tokens: int
    nll_reference: float
    nll: float
    kl: float
    agreement: float
    whole_reference: bool
    whole: bool

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def read(
    model: Blockwise,
    rows: Rows,
    *,
    blocks: bool = False,
    kept: int = 32,
    progress: Progress | None = None,
) -> Reading:
    """Let a model read all plans.

    Args:
        model: The model, not walked yet; consumed.
        rows: Rows with their plans.
        blocks: Whether tool blocks stand side by side; with an adapter that acts
            after them they always do.
        kept: Bits in which tool blocks are kept, as a ``Layout`` has it.
        progress: Told how far it is.
    """
    layout = Layout(rows=rows, blocks=blocks or model.after_blocks, kept=kept)
    states = walk(model, layout, progress=progress)
    head: Any = model.head()
    return Reading(layout.planned(states), head.weight)


def compare(reference: Reading, model: Reading, rows: Rows) -> list[Score]:
    """Compare two readings of the same rows."""
    return [
        _compare(row, first, second, reference.head, model.head)
        for row, first, second in zip(rows.rows, reference.states, model.states, strict=True)
    ]


def _compare(
    row: Row, first: mx.array, second: mx.array, first_head: mx.array, second_head: mx.array
) -> Score:
    import mlx.core as mx
    import numpy as np

    targets = mx.array(list(row.plan))
    one, two = _log_probabilities(first, first_head), _log_probabilities(second, second_head)
    kl = mx.sum(exp2(one * LOG2E) * (one - two), axis=-1)
    chosen = [mx.take_along_axis(scores, targets[:, None], axis=-1)[:, 0] for scores in (one, two)]
    best = [mx.argmax(scores, axis=-1) for scores in (one, two)]
    mx.eval(kl, chosen, best)
    (mine, theirs), ids = [np.array(found) for found in best], np.array(row.plan)
    return Score(
        id=row.id,
        kind=row.kind,
        tokens=len(row.plan),
        nll_reference=float(-np.array(chosen[0]).mean()),
        nll=float(-np.array(chosen[1]).mean()),
        kl=max(0.0, float(np.array(kl).mean())),
        agreement=float((mine == theirs).mean()),
        whole_reference=bool((mine == ids).all()),
        whole=bool((theirs == ids).all()),
    )


def _log_probabilities(states: mx.array, head: mx.array) -> mx.array:
    import mlx.core as mx

    scores = states @ head.T
    scores = scores - mx.max(scores, axis=-1, keepdims=True)
    return scores - mx.log(mx.sum(exp2(scores * LOG2E), axis=-1, keepdims=True))


def mean(scores: Sequence[Score], name: str, *, by_token: bool = True) -> float:
    """Return a figure's mean, over tokens or over rows."""
    weights = [score.tokens if by_token else 1 for score in scores]
    values = [float(getattr(score, name)) for score in scores]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
