"""Gradients through shared blocks are those of computing everything for every example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mlx_tinyagent.decode.tiers import BLOCK_ROOM
from mlx_tinyagent.models import kernels
from mlx_tinyagent.tools.base import Effect, Tool, ToolSet
from mlx_tinyagent.train import through
from mlx_tinyagent.train.cache import Blocks
from mlx_tinyagent.train.loss import plan_nats, prepare
from mlx_tinyagent.train.parts import HEADER, Parts
from mlx_tinyagent.train.rows import Drawn
from mlx_tinyagent.train.through import ThroughBlocks
from mlx_tinyagent.train.trainer import Trainer
from tests.train.conftest import MakeTrainer
from tests.train.test_gradients import disturb, relative, unshared


def flat(tree: Any) -> dict[str, Any]:
    """Return a tree's arrays by name."""
    from mlx.utils import tree_flatten

    return dict(tree_flatten(tree))


def added(trees: Sequence[Any]) -> Any:
    """Return the sum of trees."""
    import mlx.core as mx
    from mlx.utils import tree_map

    total = trees[0]
    for tree in trees[1:]:
        total = tree_map(mx.add, total, tree)
    return total


def shared(
    trainer: Trainer, parts: Parts, rows: Sequence[Drawn], *, count: int = 1
) -> tuple[float, dict[str, Any]]:
    """Return loss and gradient of rows that share header and blocks, ``count`` to a pass."""
    names = {name for row in rows for name in row.tools}
    with kernels.fast(trainer.model.model):
        opened = ThroughBlocks(trainer.model.model, parts, names, seed=1)
        passes = [rows[start : start + count] for start in range(0, len(rows), count)]
        found = [opened.gradient(some) for some in passes]
        total = added([*(slope for _, slope in found), opened.backward()])
    return sum(float(nats) for nats, _ in found), flat(total)


@pytest.mark.parametrize("count", [1, 2])
def test_shared_blocks_give_the_gradient_of_everything_anew(
    make_trainer: MakeTrainer, count: int
) -> None:
    """Against autograd through header, blocks and tail of each row, written out in plain MLX."""
    trainer = make_trainer(attention="through_blocks")
    disturb(trainer)
    rows = trainer.batch(0)
    assert len({name for row in rows for name in row.tools}) > 2

    loss, gradient = shared(trainer, trainer.parts, rows, count=count)

    each = [unshared(trainer, row, everywhere=True) for row in rows]
    assert loss == pytest.approx(sum(float(nats) for nats, _ in each), rel=1e-5)
    assert relative(gradient, added([slope for _, slope in each])) < 3e-4


def test_one_tool_is_plain_full_attention(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that fills its positions stands where full attention has it: equal gradients."""
    trainer = make_trainer(attention="through_blocks")
    disturb(trainer)
    monkeypatch.setattr(through, "_rounded", lambda kv: kv)
    parts = Parts(trainer.model, [_room_filling(trainer)])
    row = Drawn(tail=(40, 41, 42, 43), plan=(50, 51, 52, 2), tools=("fill",))

    loss, gradient = shared(trainer, parts, [row])
    plain = prepare([row], before=None, prompts=[parts.tokens(row.tools)])
    wanted, tree = trainer._gradient(trainer.model.model, plain)

    assert loss == pytest.approx(float(wanted), rel=1e-5)
    assert relative(gradient, flat(tree)) < 1e-4


def _room_filling(trainer: Trainer) -> ToolSet:
    """Return one tool whose block is as long as the room that blocks share."""
    for letters in range(1, 4 * BLOCK_ROOM):
        tool = Tool(name="fill", summary="x" * letters, params=(), effect=Effect.READ)
        if len(Parts(trainer.model, [ToolSet("one", [tool])])["fill"].ids) == BLOCK_ROOM:
            return ToolSet("one", [tool])
    raise AssertionError("no length of text has that many tokens")


def test_the_way_back_leaves_out_what_the_way_there_did(make_trainer: MakeTrainer) -> None:
    """With dropout, the gradient is that of one graph with the same draws."""
    import mlx.core as mx

    trainer = make_trainer(attention="through_blocks", dropout=0.4)
    disturb(trainer)
    trainer.model.model.train()
    (row,) = trainer.batch(0)[:1]
    opened = ThroughBlocks(trainer.model.model, trainer.parts, row.tools, seed=5)

    def whole(weights: Any) -> mx.array:
        trainer.model.model.update(weights)
        header = opened._compute(HEADER, None)
        tools = {name: opened._compute(name, header) for name in row.tools}
        rounded = {
            name: [
                [x + mx.stop_gradient(x.astype(mx.float16).astype(mx.float32) - x) for x in kind]
                for kind in kv
            ]
            for name, kv in tools.items()
        }
        mx.random.seed(9)
        blocks: Blocks = through._blocks(header, rounded)
        return plan_nats(trainer.model.model, prepare([row], before=blocks))

    weights = trainer.model.model.trainable_parameters()
    wanted, tree = mx.value_and_grad(whole)(weights)
    mx.eval(wanted, tree)
    mx.random.seed(9)
    nats, slope = opened.gradient([row])

    assert float(nats) == pytest.approx(float(wanted), rel=1e-4)
    assert relative(flat(added([slope, opened.backward()])), flat(tree)) < 1e-3
