"""Runs survive: interrupted anywhere and resumed, they end in the same adapter."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_tinyagent.errors import ConfigError, InputError, ModelError
from mlx_tinyagent.train import checkpoint
from mlx_tinyagent.train.loop import Event, run
from tests.train.conftest import MakeTrainer

FILES = (
    "adapters.safetensors",
    "adapter_config.json",
    "checkpoint/adapter.safetensors",
    "checkpoint/optimizer.safetensors",
)


def digests(out: Path) -> dict[str, str]:
    """Return the sha256 of everything a run leaves but its times."""
    return {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in FILES}


def losses(out: Path) -> list[tuple[int, float]]:
    """Return step and loss of every logged update and evaluation."""
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(entry["step"], entry.get("loss", entry.get("valid_loss"))) for entry in entries]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dropout": 0.3, "rows": 2},
        {"fine_tune_type": "dora"},
        {"attention": "through_blocks", "dropout": 0.3, "exact_share": 0.3, "rows": 2},
        {"mask_names": 0.5, "exact_share": 0.5, "grad_checkpoint": True},
    ],
)
def test_a_resumed_run_ends_in_the_same_bytes(
    make_trainer: MakeTrainer, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """Stopped within an epoch and resumed by a new trainer: sha256-identical."""
    options = {"iters": 7, "save_every": 2, "eval_every": 3, **settings}
    run(make_trainer(**options), tmp_path / "whole")

    first = run(make_trainer(**options), tmp_path / "parts", stop_after=4)
    assert first.reason == "minutes"
    second = run(make_trainer(**options), tmp_path / "parts", resume=True)

    assert (second.reason, second.progress.step) == ("done", 7)
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_what_came_after_the_checkpoint_is_done_again(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    """An interrupt between checkpoints goes back to the last one, in the log as well."""
    options = {"iters": 6, "save_every": 4, "eval_every": 5}
    run(make_trainer(**options), tmp_path / "whole")

    def interrupt(event: Event) -> None:
        if event.progress.step == 5 and event.valid is not None:
            raise KeyboardInterrupt

    stopped = run(make_trainer(**options), tmp_path / "parts", report=interrupt)
    assert (stopped.reason, stopped.progress.step) == ("interrupted", 5)
    resumed: list[int] = []
    run(
        make_trainer(**options),
        tmp_path / "parts",
        resume=True,
        report=lambda event: resumed.append(event.progress.step),
    )

    assert resumed[0] == 5
    assert digests(tmp_path / "parts") == digests(tmp_path / "whole")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bytes(
    base: Path, data_folder: Path, tmp_path: Path
) -> None:
    """SIGKILL in the middle, ``--resume``: the adapter of a run that was left alone."""

    def start(out: Path, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "mlx_tinyagent", "train", "planner"]
        options = f"--model {base} --data {data_folder} --out {out} --iters 9 --batch 4 --rank 4"
        return subprocess.Popen(
            [*command, *options.split(), "--save-every", "2", "--eval-every", "4", *more],
            stderr=subprocess.PIPE,
            text=True,
        )

    whole = start(tmp_path / "whole")
    assert whole.communicate()[1].count("examples/s") == 9
    killed = start(tmp_path / "killed")
    assert killed.stderr is not None
    for line in killed.stderr:
        if line.startswith("5/9"):
            killed.send_signal(signal.SIGKILL)
            break
    assert killed.wait() == -signal.SIGKILL
    killed.stderr.close()
    resumed = start(tmp_path / "killed", "--resume")
    told = resumed.communicate()[1]

    assert resumed.returncode == 0, told
    assert 3 <= told.count("examples/s") < 9
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")


def test_training_learns(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """On a dozen examples the training loss falls by half, and the best adapter is the one kept."""
    finished = run(make_trainer(iters=30, eval_every=5, learning_rate=0.02), tmp_path / "run")

    train = [
        (entry["step"], entry["loss"])
        for entry in map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
        if "loss" in entry
    ]
    assert train[-1][1] < 0.5 * train[0][1]
    config = json.loads((tmp_path / "run" / "adapter_config.json").read_text())
    assert config["trained"]["valid_loss"] == finished.progress.best
    assert config["trained"]["step"] == finished.progress.best_step
    assert config["active"] == "after_blocks"


def test_patience_ends_a_run(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """Evaluations that bring nothing better end it early; the best adapter stays."""
    trainer = make_trainer(iters=40, eval_every=1, patience=2)
    values = iter([3.0, 2.0, 2.5, 2.5, 1.0])
    trainer.evaluate = lambda: next(values)  # type: ignore[method-assign]

    finished = run(trainer, tmp_path / "run")

    assert (finished.reason, finished.progress.step) == ("patience", 4)
    assert (finished.progress.best, finished.progress.best_step) == (2.0, 2)


def test_a_loss_that_is_no_number_stops_the_run(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """NaN is one line; checkpoint and weights are those from before it."""
    import mlx.core as mx

    trainer = make_trainer(iters=8, save_every=2)

    def poison(event: Event) -> None:
        if event.progress.step == 3:
            layer = trainer.model.model.model.layers[1].mlp.up_proj
            layer.linear.weight = layer.linear.weight * mx.nan

    with pytest.raises(ModelError, match="update 4: the loss is nan"):
        run(trainer, tmp_path / "run", report=poison)

    found = checkpoint.load(tmp_path / "run", run=_identity(trainer))
    assert found.progress.step == 2
    for value in (*found.adapter.values(), *trainer.adapter().values()):
        assert np.isfinite(np.asarray(value)).all()


def test_time_is_up_cleanly(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """A time budget ends a run with a checkpoint and an adapter."""
    finished = run(make_trainer(eval_every=0), tmp_path / "run", minutes=0.0)

    assert (finished.reason, finished.progress.step) == ("minutes", 1)
    assert (tmp_path / "run" / "adapters.safetensors").is_file()
    assert checkpoint.exists(tmp_path / "run")


def test_runs_do_not_mix(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """A folder with a run is neither overwritten nor continued with other settings."""
    out = tmp_path / "run"
    with pytest.raises(InputError, match="has no checkpoint to go on from"):
        run(make_trainer(), out, resume=True)
    run(make_trainer(), out, stop_after=1)

    with pytest.raises(InputError, match="holds a run"):
        run(make_trainer(), out)
    with pytest.raises(ConfigError, match="made with batch 4, this run has 3"):
        run(make_trainer(batch=3), out, resume=True)
    with pytest.raises(
        ConfigError, match=r"made with mask_names at its default, this run has 0\.5"
    ):
        run(make_trainer(mask_names=0.5), out, resume=True)


def test_a_damaged_checkpoint_is_one_line(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    """Whatever is in the files, resuming says which checkpoint cannot be read."""
    out = tmp_path / "run"
    run(make_trainer(), out, stop_after=1)
    (out / "checkpoint" / "adapter.safetensors").write_bytes(b"x" * 40)

    with pytest.raises(InputError, match="cannot be read"):
        run(make_trainer(), out, resume=True)


def test_every_update_follows_from_its_step(make_trainer: MakeTrainer) -> None:
    """The same step gives the same rows, whatever came before."""
    one, other = make_trainer(), make_trainer()

    assert one.batch(5) == other.batch(5)
    assert one.batch(0) != one.batch(3)  # the next epoch
    assert math.isclose(one.evaluate(), other.evaluate())


def _identity(trainer: Any) -> dict[str, Any]:
    return checkpoint.identity(
        trainer.config, base=trainer.model.fingerprint, data=trainer.data.digest
    )
