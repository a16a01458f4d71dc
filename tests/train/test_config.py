"""Settings of a run: checked, hashed, and the schedule they mean."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_tinyagent.errors import ConfigError
from mlx_tinyagent.train.config import TrainConfig


def test_a_configuration_survives_being_written() -> None:
    """What ``as_dict`` gives, ``from_dict`` reads back, with the same digest."""
    config = TrainConfig(rank=8, keys=("self_attn.q_proj",), learning_rate=1e-3)

    again = TrainConfig.from_dict(config.as_dict())

    assert again == config
    assert again.digest == config.digest
    assert again.digest != TrainConfig().digest


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ranks": 8}, "unknown key 'ranks'"),
        ({"rank": 0}, "rank is 0; it must be at least 1"),
        ({"rank": "8"}, "rank is '8'; expected int"),
        ({"batch": True}, "batch is True; expected int"),
        ({"dropout": 1.5}, "dropout is 1.5; it must be from 0 to 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"attention": "half"}, "attention is 'half'"),
        ({"fine_tune_type": "full"}, "fine_tune_type is 'full'"),
        ({"keys": "q_proj"}, "keys is 'q_proj'"),
        ({"mask_names": 1.5}, "mask_names is 1.5; it must be from 0 to 1"),
        ({"grad_checkpoint": 1}, "grad_checkpoint is 1; expected bool"),
        ({"eval_plans": 9, "eval_rows": 8}, "eval_plans is 9; the validation rows are eval_rows"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, Any], message: str) -> None:
    """A wrong setting is refused with its name and value."""
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_dict(values)


def test_the_rate_rises_then_falls_as_a_cosine() -> None:
    """Warm-up reaches the peak at its end; halfway down it is the mean of peak and floor."""
    config = TrainConfig(iters=110, warmup=10, learning_rate=1.0, final_rate=0.1)

    assert config.rate(0) == pytest.approx(0.1)
    assert config.rate(9) == pytest.approx(1.0)
    assert config.rate(10) == pytest.approx(1.0)
    assert config.rate(60) == pytest.approx(0.55)
    assert config.rate(110) == pytest.approx(0.1)
    assert config.rate(1000) == pytest.approx(0.1)


def test_runs_from_before_a_setting_came_keep_their_digest() -> None:
    """Later settings are left out at their defaults, so old checkpoints and digests stay valid."""
    old = TrainConfig().as_dict()

    assert not {"start", "exact_share", "mask_names", "grad_checkpoint", "eval_plans"} & set(old)
    assert TrainConfig().digest.startswith("9576c862ce4252db")  # as of the first version
    assert TrainConfig.from_dict(old).as_dict() == old
    assert TrainConfig(mask_names=0.2).as_dict()["mask_names"] == 0.2
    assert TrainConfig(mask_names=0.2).digest != TrainConfig().digest


def test_what_an_adapter_is_served_on_follows_from_how_it_was_trained() -> None:
    """Where it acts, and from which tier the prompt before the tail comes."""
    ways = {
        attention: (config.active, config.tier)
        for attention in ("after_blocks", "through_blocks", "full")
        for config in [TrainConfig.from_dict({"attention": attention})]
    }

    assert ways == {
        "after_blocks": ("after_blocks", "blocks"),
        "through_blocks": ("all", "blocks"),
        "full": ("all", "exact"),
    }
