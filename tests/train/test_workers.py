"""Several processes train one adapter: the same losses as one process, and the same checkpoints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from mlx_tinyagent.train.workers import Workers


@pytest.mark.parametrize("costs", [[], [5], [5, 9, 1, 7], [3] * 9, [1, 2, 3, 4, 5, 6, 7]])
def test_every_part_is_done_once(costs: list[int]) -> None:
    """Shares cover the work without overlap, and none is far above the mean."""
    shares = [Workers(rank=rank, size=3).share(costs) for rank in range(3)]

    assert sorted(index for share in shares for index in share) == list(range(len(costs)))
    spent = [sum(costs[index] for index in share) for share in shares]
    assert max(spent) <= sum(costs) / 3 + max(costs, default=0)


def test_a_process_alone_does_everything_in_order() -> None:
    """One process takes all parts, and sums are what it has."""
    alone = Workers()

    assert alone.share([1, 5, 3]) == [0, 1, 2]
    assert alone.total([1.5, 2.0]) == [1.5, 2.0]
    assert alone.hand_out("text") == "text"
    assert not alone.any(False)


@pytest.mark.slow
def test_two_processes_train_as_one(base: Path, data_folder: Path, tmp_path: Path) -> None:
    """Joined by MLX's ring, two processes give one process's losses and adapter, also resumed."""
    launch = Path(sys.executable).with_name("mlx.launch")
    if not launch.exists():
        pytest.skip("mlx.launch is not installed")

    def train(out: Path, count: int, *more: str) -> None:
        command = [sys.executable, "-m", "mlx_tinyagent", "train", "planner"]
        options = f"--model {base} --data {data_folder} --out {out} --iters 6 --batch 4 --rank 4"
        joined = [str(launch), "-n", "2", "--backend", "ring", "--"] if count > 1 else []
        done = subprocess.run(
            [*joined, *command, *options.split(), "--eval-every", "3", "--save-every", "2", *more],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    train(tmp_path / "one", 1)
    train(tmp_path / "two", 2)
    for name in ("one", "two"):
        assert (tmp_path / name / "checkpoint" / "state.json").is_file()
    curves = [_losses(tmp_path / name) for name in ("one", "two")]
    assert np.allclose(curves[0], curves[1], rtol=1e-4)
    adapters = [load_file(tmp_path / name / "adapters.safetensors") for name in ("one", "two")]
    for name, value in adapters[0].items():
        assert np.allclose(value, adapters[1][name], atol=2e-3), name


def _losses(out: Path) -> list[float]:
    entries = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return [entry.get("loss", entry.get("valid_loss")) for entry in entries]
