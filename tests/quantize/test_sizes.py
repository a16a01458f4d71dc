"""Sizes and memory: what ``models show`` tells about a quantized folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_tinyagent.models.info import ModelInfo


def info(gigabytes: float, *, context: int = 8192) -> ModelInfo:
    """Return a model whose weights take this much, with 100 kB of cache per token."""
    size = int(gigabytes * 1e9)
    return ModelInfo(
        architecture="llama",
        parameters=2 * size,
        bits=4.0,
        disk_bytes=size,
        context=context,
        kv_bytes_per_token=100_000,
        dense_bytes=8 * size,
        packed_bytes=size,
    )


@pytest.mark.parametrize(
    ("gigabytes", "tier", "tokens"),
    [
        (0.1, 8, 8192),  # 3.5 GB are left: 35,000 tokens, the context is the limit
        (3.4, 8, 2000),  # 4 GB - 3.4 - 0.4: 0.2 GB
        (3.9, 8, 0),
        (3.9, 16, 8192),
    ],
)
def test_room_is_half_of_the_memory_less_weights_and_work_space(
    gigabytes: float, tier: int, tokens: int
) -> None:
    """Worked by hand: half of a Mac's memory, less weights and 0.4 GB, in 100 kB steps."""
    assert info(gigabytes).room(tier) == tokens


def test_advice_names_every_tier() -> None:
    """The least Mac, what is resident, and the room on each."""
    assert info(3.4).advice == (
        "fits a Mac with 16 GB of memory or more: 4.21 GB with 4,096 tokens; room beside other "
        "apps: 8 GB 2,000 tokens, 16 GB 8,192 tokens, 24 GB 8,192 tokens, 32 GB 8,192 tokens"
    )


def test_a_quantized_folder_is_shown(model: Path, cli_show: dict[str, object]) -> None:
    """Bits, bytes and advice of a folder stand in ``models show --json``."""
    stored = (model / "model.safetensors").stat().st_size

    assert cli_show["disk_bytes"] == stored
    assert cli_show["bits"] == 32
    assert "room beside other apps: 8 GB" in str(cli_show["advice"])


@pytest.fixture
def cli_show(model: Path) -> dict[str, object]:
    """What ``models show --json`` prints for the tiny model."""
    import json

    from click.testing import CliRunner

    from mlx_tinyagent.cli.main import cli

    done = CliRunner().invoke(cli, ["models", "show", str(model), "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout)
    return found
