"""The loss of a batch of requests: log losses, and a hinge on the lowest needed score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import mlx.core as mx

    from mlx_tinyagent.models.deberta.tool_heads import ToolClassifier
    from mlx_tinyagent.train.tool_rag.rows import Row

MARGIN = 2.0  # logit that the lowest needed tool should exceed
_NEVER = 1e4  # beyond any logit


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """What is right for a batch.

    Attributes:
        groups: Acceptable sets as 0 and 1, [batch, sets, labels]; missing sets
            repeat the first.
        union: Labels in any acceptable set, [batch, labels].
        needs: Whether any tool is needed, [batch].
    """

    groups: mx.array
    union: mx.array
    needs: mx.array


def make_targets(rows: Sequence[Row], labels: Sequence[str]) -> Targets:
    """Put acceptable sets into arrays.

    Args:
        rows: Requests.
        labels: Tool names in label order.
    """
    import mlx.core as mx

    sets = max(len(row.any_of) for row in rows)
    groups = np.zeros((len(rows), sets, len(labels)), np.float32)
    place = {name: index for index, name in enumerate(labels)}
    for number, row in enumerate(rows):
        for choice in range(sets):
            group = row.any_of[choice if choice < len(row.any_of) else 0]
            groups[number, choice, [place[name] for name in sorted(group)]] = 1.0
    needs = [float(row.kind == "tool") for row in rows]
    return Targets(
        groups=mx.array(groups), union=mx.array(groups.max(axis=1)), needs=mx.array(needs)
    )


def batch_loss(
    model: ToolClassifier,
    input_ids: mx.array,
    attention_mask: mx.array | None,
    targets: Targets,
    *,
    hinge: float,
    any_weight: float,
) -> mx.array:
    """Return the mean loss of a batch.

    Of several acceptable sets the one that the model already favors is learned,
    and nothing is said about the tools of the others.

    Args:
        model: The classifier.
        input_ids: [batch, tokens].
        attention_mask: [batch, tokens]; None for no padding.
        targets: What is right.
        hinge: Weight of the hinge on the lowest needed logit.
        any_weight: Weight of the log loss of "any tool".
    """
    import mlx.core as mx
    from mlx import nn

    logits, any_tool = model(input_ids, attention_mask)
    wanted = chosen_sets(mx.stop_gradient(logits), targets.groups)
    weights = 1.0 - targets.union + wanted  # 0 for what other acceptable sets hold
    losses = nn.losses.binary_cross_entropy(logits, wanted, with_logits=True, reduction="none")
    loss = mx.mean(losses * weights)
    # log(sum(exp(-z))) over needed tools: how far the lowest is below zero, smoothly.
    lowest = mx.logsumexp(mx.where(wanted > 0, -logits, -_NEVER), axis=-1)
    short = nn.softplus(MARGIN + mx.maximum(lowest, -_NEVER / 2)) * targets.needs
    loss = loss + hinge * mx.mean(short) / logits.shape[-1]
    wants = nn.losses.binary_cross_entropy(any_tool, targets.needs, with_logits=True)
    return loss + any_weight * wants / logits.shape[-1]


def chosen_sets(logits: mx.array, groups: mx.array) -> mx.array:
    """Return, per row, the acceptable set whose lowest logit is highest, [batch, labels].

    Args:
        logits: [batch, labels].
        groups: [batch, sets, labels].
    """
    import mlx.core as mx

    lowest = mx.min(mx.where(groups > 0, logits[:, None], _NEVER), axis=-1)  # [batch, sets]
    best = mx.argmax(lowest, axis=-1)
    return mx.take_along_axis(groups, best[:, None, None], axis=1)[:, 0]
