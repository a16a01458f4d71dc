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
