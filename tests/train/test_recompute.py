"""Computing layers twice saves memory and changes no gradient."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_tinyagent.train.recompute import recomputed
from tests.train.conftest import MakeTrainer
from tests.train.test_gradients import disturb, relative
from tests.train.test_through import flat


@pytest.mark.parametrize(
    "settings",
    [
        {"attention": "after_blocks", "rows": 2},
        {"attention": "full", "dropout": 0.3},
        {"attention": "through_blocks", "dropout": 0.3, "exact_share": 0.5},
    ],
)
def test_the_update_is_the_same(make_trainer: MakeTrainer, settings: dict[str, Any]) -> None:
    """Loss, gradient norm and adapter after an update, with and without, dropout included."""
    plain = make_trainer(**settings)
    lean = make_trainer(**settings, grad_checkpoint=True)
    for trainer in (plain, lean):
        disturb(trainer)
    before = plain.adapter()

    wanted, found = plain.update(0), lean.update(0)

    assert found.loss == pytest.approx(wanted.loss, rel=1e-5)
    assert found.norm == pytest.approx(wanted.norm, rel=1e-4)
    moved = [
        {name: value - before[name] for name, value in trainer.adapter().items()}
        for trainer in (lean, plain)
    ]
    assert relative(*moved) < 1e-2  # Adam's first step is the gradient's sign


def test_layers_get_their_calls_back(make_trainer: MakeTrainer) -> None:
    """After the block, and after an error inside it, layers are as they were."""
    trainer = make_trainer()
    model = trainer.model.model
    kind = type(model.model.layers[0])
    original = kind.__call__
    weights = {name: id(value) for name, value in flat(model.trainable_parameters()).items()}

    def fail() -> None:
        with recomputed(model):
            assert kind.__call__ is not original
            trainer._gradient(model, trainer.inputs(trainer.batch(0)[:1]))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()

    assert kind.__call__ is original
    again = {name: id(value) for name, value in flat(model.trainable_parameters()).items()}
    assert again == weights
