"""Settings of a quantization: what MLX has, and a clear line for what it has not."""

from __future__ import annotations

from typing import Any

import pytest

from mlx_tinyagent.errors import UsageError
from mlx_tinyagent.quantize.settings import QuantizeConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bits": 1}, "1 bits; affine numbers have 2 to 8"),
        ({"bits": 16}, "16 bits; affine"),
        ({"bits": float("nan")}, "nan bits"),
        ({"bits": 2.5, "recipe": "uniform"}, "2.5 bits for every matrix"),
        ({"bits": 7, "recipe": "uniform"}, "7 bits for every matrix; MLX has 2, 3, 4, 5, 6, 8"),
        ({"group_size": 48}, "groups of 48; MLX has 32, 64, 128"),
        ({"mode": "nf4"}, "no number format is called 'nf4'"),
        ({"mode": "mxfp4", "bits": 8}, "mxfp4 has 4 bits in groups of 32, not 8"),
        ({"mode": "nvfp4", "group_size": 32}, "nvfp4 has 4 bits in groups of 16, not 4"),
        ({"recipe": "best"}, "no recipe is called 'best'"),
        ({"method": "awq"}, "no method is called 'awq'"),
        ({"rows": 0}, "rows is 0"),
        ({"max_kl": 0.0}, "max_kl is 0.0; it must be above 0"),
        ({"max_drop": float("inf")}, "max_drop is inf"),
    ],
)
def test_wrong_settings_are_named(values: dict[str, Any], message: str) -> None:
    """A setting that cannot be is refused with its value."""
    with pytest.raises(UsageError, match=message):
        QuantizeConfig(**values)


@pytest.mark.parametrize(
    ("values", "group", "count"),
    [
        ({}, 64, 6),
        ({"bits": 2.5, "group_size": 32}, 32, 6),
        ({"bits": 3, "recipe": "uniform"}, 64, 1),
        ({"mode": "nvfp4"}, 16, 1),
        ({"mode": "mxfp8", "bits": 8}, 32, 1),
    ],
)
def test_formats_on_offer(values: dict[str, Any], group: int, count: int) -> None:
    """A mixed recipe chooses among all widths; everything else has one format."""
    config = QuantizeConfig(**values)

    assert config.group == group
    assert len(config.formats()) == count
