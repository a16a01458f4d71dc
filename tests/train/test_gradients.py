"""Loss and gradients: equal to a computation that shares nothing, over exactly the plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlx_tinyagent.decode.tiers import tail_position
from mlx_tinyagent.models import kernels
from mlx_tinyagent.prompt.render import header_segment, tool_segment
from mlx_tinyagent.train.loss import nats, plan_nats, prepare
from mlx_tinyagent.train.rows import Drawn
from mlx_tinyagent.train.trainer import Trainer
from tests.decode.tiny import CONFIG
from tests.train.conftest import MakeTrainer
from tests.train.oracle import hidden


def disturb(trainer: Trainer) -> None:
    """Give the adapter an effect: fresh ones have none."""
    import mlx.core as mx
    from mlx.utils import tree_unflatten

    key = mx.random.key(11)
    values = [
        (name, mx.random.normal(value.shape, key=mx.random.split(key, 2)[0]) * 0.05)
        for name, value in trainer.adapter().items()
    ]
    trainer.model.model.update(tree_unflatten(values))


def relative(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    """Return the largest difference of any array, relative to the array's largest value."""
    assert found.keys() == wanted.keys()
    worst = 0.0
    for name, value in wanted.items():
        one, other = np.asarray(found[name]), np.asarray(value)
        worst = max(worst, float(np.abs(one - other).max() / np.abs(other).max()))
    return worst


def unshared(
    trainer: Trainer, row: Drawn, *, everywhere: bool = False
) -> tuple[Any, dict[str, Any]]:
    """Compute loss and gradient in one pass over the whole prompt, under the blocks' mask.

    ``everywhere``: the adapter acts on header and blocks as well.
    """
    import mlx.core as mx
    from mlx.utils import tree_flatten

    tokenizer = trainer.model.tokenizer
    frame = tokenizer.chat_frame()
    header = header_segment(frame).encode(tokenizer)
    blocks = [
        tool_segment(tool).encode(tokenizer)
        for tool in trainer.tools.subset(row.tools).in_prompt_order()
    ]
    rest = [*row.tail, *row.plan][:-1]
    parts = [header, *blocks, rest]
    owner = np.concatenate([np.full(len(part), index) for index, part in enumerate(parts)])
    order = np.arange(len(owner))
    tail = owner == len(parts) - 1
    if row.exact:
        positions, same, rounded = order, np.full((1, 1), True), np.full(len(owner), False)
    else:
        start = tail_position(len(header), [len(block) for block in blocks])
        places = [np.arange(len(header)), *(len(header) + np.arange(len(b)) for b in blocks)]
        positions = np.concatenate([*places, start + np.arange(len(rest))])
        same = (owner[:, None] == owner[None]) | (owner[None] == 0) | tail[:, None]
        rounded = (owner > 0) & ~tail
    mask = same & (order[:, None] >= order[None])
    flat = dict(tree_flatten(trainer.model.model.parameters()))
    weights = {name.replace(".linear.", "."): v for name, v in flat.items() if "lora_" not in name}
    targets = mx.array(row.plan)

    def loss(lora: dict[str, mx.array]) -> mx.array:
        states = hidden(
            CONFIG,
            weights,
            lora,
            mx.array([token for part in parts for token in part]),
            positions=mx.array(positions),
            mask=mx.array(mask),
            active=mx.array(tail),
            adapted=mx.array(tail | everywhere),
            rounded=mx.array(rounded),
            scale=trainer.config.scale,
        )[-len(row.plan) :]
        scores = states @ weights["model.embed_tokens.weight"].T
        right = mx.take_along_axis(scores, targets[:, None], axis=-1)[:, 0]
        return mx.sum(mx.logsumexp(scores, axis=-1) - right)

    return mx.value_and_grad(loss)(trainer.adapter())


@pytest.mark.parametrize("swapped", [False, True])
def test_sharing_the_prefix_changes_no_gradient(make_trainer: MakeTrainer, swapped: bool) -> None:
    """Frozen shared blocks give loss and gradients of the masked full computation to 1e-4."""
    import contextlib

    from mlx.utils import tree_flatten

    trainer = make_trainer()
    disturb(trainer)
    rows = [row for row in trainer.batch(0) if len(row.tools) > 1]

    for row in rows:
        loss, gradient = unshared(trainer, row)
        with kernels.fast(trainer.model.model) if swapped else contextlib.nullcontext():
            found, tree = trainer._gradient(trainer.model.model, trainer.inputs([row]))
            flat = dict(tree_flatten(tree))
        assert float(found) == pytest.approx(float(loss), rel=1e-5)
        assert relative(flat, gradient) < 1e-4
    assert len(rows) >= 2


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_prompt_of_one_sequence_gives_the_gradient_of_one(
    make_trainer: MakeTrainer, everywhere: bool
) -> None:
    """Rows without blocks have plain causal attention, the adapter on all of it or after it."""
    from mlx.utils import tree_flatten

    attention = "through_blocks" if everywhere else "after_blocks"
    trainer = make_trainer(attention=attention, exact_share=1.0)
    disturb(trainer)
    rows = [row for row in trainer.batch(0) if len(row.tools) > 1]

    for row in rows:
        assert row.exact
        loss, gradient = unshared(trainer, row, everywhere=everywhere)
        found, tree = trainer._slope([row], None)
        assert float(found) == pytest.approx(float(loss), rel=1e-5)
        assert relative(dict(tree_flatten(tree)), gradient) < 1e-4
    assert len(rows) >= 2


@pytest.mark.parametrize("attention", ["after_blocks", "full"])
def test_rows_together_give_the_sum_of_rows_alone(
    make_trainer: MakeTrainer, attention: str
) -> None:
    """Padding of prefix and suffix takes part in nothing."""
    import mlx.core as mx
    from mlx.utils import tree_flatten, tree_map

    trainer = make_trainer(attention=attention)
    disturb(trainer)
    drawn = map(trainer.batch, range(9))
    rows = next(rows for rows in drawn if len({len(row.tools) for row in rows}) > 1)
    assert len({row.tokens for row in rows}) > 1

    loss, gradient = trainer._gradient(trainer.model.model, trainer.inputs(rows))
    apart = [trainer._gradient(trainer.model.model, trainer.inputs([row])) for row in rows]
    total = apart[0][1]
    for _, part in apart[1:]:
        total = tree_map(mx.add, total, part)

    assert float(loss) == pytest.approx(sum(float(one) for one, _ in apart), rel=1e-5)
    assert relative(dict(tree_flatten(gradient)), dict(tree_flatten(total))) < 1e-4


def test_the_loss_is_over_plan_and_end_token_alone(make_trainer: MakeTrainer) -> None:
    """By hand: the log-probabilities of the plan's tokens, each given what stands before it."""
    import mlx.core as mx

    trainer = make_trainer(attention="full")
    row = Drawn(tail=(5, 6, 7), plan=(8, 9, 2), tools=())
    inputs = prepare([row], before=None, prompts=[[3, 4]])
    assert inputs.ids.tolist() == [[3, 4, 5, 6, 7, 8, 9]]
    assert inputs.spans == ((4, 7),)
    assert inputs.targets.tolist() == [8, 9, 2]

    scores = np.asarray(trainer.model.model(mx.array([[3, 4, 5, 6, 7, 8, 9]])))[0].astype(float)
    logs = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    by_hand = -(logs[4, 8] + logs[5, 9] + logs[6, 2])

    assert float(plan_nats(trainer.model.model, inputs)) == pytest.approx(by_hand, rel=1e-5)


def test_the_head_in_pieces_gives_value_and_gradient_of_the_whole(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cross-entropy over chunks equals MLX's over everything, gradient included."""
    import mlx.core as mx
    from mlx import nn

    from mlx_tinyagent.models.forward import logits
    from mlx_tinyagent.train import loss

    monkeypatch.setattr(loss, "CHUNK", 3)
    model = make_trainer().model.model
    states = mx.random.normal((8, 64), key=mx.random.key(1))
    targets = mx.array([1, 5, 639, 0, 7, 7, 2, 3])

    def whole(states: mx.array) -> mx.array:
        return nn.losses.cross_entropy(logits(model, states), targets, reduction="sum")

    wanted = mx.value_and_grad(whole)(states)
    found = mx.value_and_grad(lambda states: nats(model, states, targets))(states)

    assert float(found[0]) == pytest.approx(float(wanted[0]), rel=1e-5)
    assert np.allclose(np.asarray(found[1]), np.asarray(wanted[1]), atol=1e-5)
