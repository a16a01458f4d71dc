"""The loss of a plan, and its gradient: one batch in, nats out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from mlx_tinyagent.models.forward import hidden_states, logits
from mlx_tinyagent.models.kernels import LOG2E, exp2

if TYPE_CHECKING:
    import mlx.core as mx
    from mlx import nn

    from mlx_tinyagent.train.cache import PrefixCache
    from mlx_tinyagent.train.rows import Drawn

CHUNK = 128  # positions whose logits are in memory together


class Before(Protocol):
    """What comes before the computed tokens."""

    def caches(self, offered: Sequence[Sequence[str]], *, new: int) -> Sequence[PrefixCache]:
        """Return one cache per layer for rows that are offered these tools."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """Rows ready for a forward pass.

    Attributes:
        ids: Tokens [batch, tokens], filled up on the right.
        spans: Per row, the positions whose next token belongs to the plan.
        targets: Those next tokens, row after row [count].
        cache: What comes before, one per layer; None for nothing.
    """

    ids: mx.array
    spans: tuple[tuple[int, int], ...]
    targets: mx.array
    cache: Sequence[PrefixCache] | None

    @property
    def count(self) -> int:
        """Number of tokens the loss is over."""
        return int(self.targets.shape[0])


def prepare(
    rows: Sequence[Drawn], *, before: Before | None, prompts: Sequence[Sequence[int]] | None = None
) -> Inputs:
    """Put rows into arrays.

    Args:
        rows: The rows.
        before: What was made of header and tools; None where everything is computed.
        prompts: In that case, each row's tokens before its tail.
    """
    import mlx.core as mx

    firsts: Sequence[Sequence[int]] = prompts if prompts is not None else [()] * len(rows)
    lines = [[*first, *row.tail, *row.plan][:-1] for first, row in zip(firsts, rows, strict=True)]
    width = max(map(len, lines))
    ids = mx.array([line + [0] * (width - len(line)) for line in lines])
    spans = tuple(
        (len(line) - len(row.plan), len(line)) for line, row in zip(lines, rows, strict=True)
    )
    targets = mx.array([token for row in rows for token in row.plan])
    cache = None if before is None else before.caches([row.tools for row in rows], new=width)
    return Inputs(ids=ids, spans=spans, targets=targets, cache=cache)


def plan_nats(model: nn.Module, inputs: Inputs) -> mx.array:
    """Return the summed negative log-likelihood of the plans' tokens, in float32."""
    import mlx.core as mx

    hidden = hidden_states(model, inputs.ids, None if inputs.cache is None else [*inputs.cache])
    wanted = mx.concatenate(
        [hidden[row, start:end] for row, (start, end) in enumerate(inputs.spans)]
    )
    return nats(model, wanted, inputs.targets)


def nats(model: nn.Module, hidden: mx.array, targets: mx.array) -> mx.array:
    """Run the head and return the summed cross-entropy, computed in float32.

    The gradient is computed along with the value, chunk by chunk, so that the
    logits of one chunk at most are ever in memory. The head itself is frozen.

    Args:
        model: mlx-lm's module.
        hidden: Hidden states [count, hidden].
        targets: Token ids [count].
    """
    import mlx.core as mx

    @mx.custom_function
    def total(hidden: mx.array) -> tuple[mx.array, mx.array]:
        loss, slopes = mx.array(0.0), []
        for start in range(0, hidden.shape[0], CHUNK):
            part, slope = _chunk(
                model, hidden[start : start + CHUNK], targets[start : start + CHUNK]
            )
            loss = loss + part
            slopes.append(slope)
        return loss, mx.concatenate(slopes)

    @total.vjp
    def backward(
        primals: mx.array, cotangents: tuple[mx.array, ...], outputs: tuple[mx.array, ...]
    ) -> mx.array:
        return cotangents[0].astype(outputs[1].dtype) * outputs[1]

    value: mx.array = cast(Any, total)(hidden)[0]
    return value


def _chunk(model: nn.Module, hidden: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
    """Return summed cross-entropy and its gradient with respect to the hidden states."""
    import mlx.core as mx

    raw = logits(model, hidden)
    scores = raw.astype(mx.float32)
    scores = scores - mx.max(scores, axis=-1, keepdims=True)
    weights = exp2(scores * LOG2E)
    sums = mx.sum(weights, axis=-1, keepdims=True)
    right = mx.take_along_axis(scores, targets[:, None], axis=-1)
    loss = mx.sum(mx.log(sums) - right)
    share = weights / sums
    chosen = mx.take_along_axis(share, targets[:, None], axis=-1)
    share = mx.put_along_axis(share, targets[:, None], chosen - 1.0, axis=-1)
    _, (slope,) = mx.vjp(lambda h: logits(model, h), [hidden], [share.astype(raw.dtype)])
    return loss, slope
