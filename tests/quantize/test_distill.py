"""Tuned scales and biases bring a rounded model nearer, and nothing else changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_tinyagent.errors import UsageError
from mlx_tinyagent.models.folder import fingerprint
from mlx_tinyagent.models.language import load
from mlx_tinyagent.quantize import distill as module
from mlx_tinyagent.quantize import report
from mlx_tinyagent.quantize import rows as made
from mlx_tinyagent.quantize.pipeline import Source
from mlx_tinyagent.quantize.run import DISTILLING, Job, run
from mlx_tinyagent.quantize.settings import QuantizeConfig
from mlx_tinyagent.tools.base import ToolSet

Say = Callable[[str, int, int], None]
LOW = QuantizeConfig(
    bits=3,
    recipe="uniform",
    method="round",
    rows=12,
    gate_rows=6,
    max_kl=9.0,
    distill=12,
    rate=3e-3,
)


@pytest.fixture
def job(model: Path, make_adapter: Callable[..., Path], few_tools: ToolSet, tmp_path: Path) -> Job:
    """A job at 3 bits with an adapter that acts after the blocks."""
    examples = made.synthetic(few_tools, 24, seed=5)
    return Job(
        source=Source(folder=model, adapter=make_adapter(model)),
        name="tiny",
        out=tmp_path / "out",
        config=LOW,
        tools=few_tools,
        calibration=examples[:14],
        held=examples[14:],
    )


def weights(folder: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a model folder."""
    stored: Any = mx.load(str(folder / "model.safetensors"))
    return {name: np.array(value.astype(mx.float32)) for name, value in stored.items()}


def test_it_gets_nearer_and_keeps_the_packed_numbers(job: Job, say: Say) -> None:
    """Other rows agree: KL falls. Only scales and biases of the blocks' matrices move."""
    plain = run(replace(job, config=replace(LOW, distill=0)), say)
    before = weights(job.out)

    found = run(job, say)

    after = weights(job.out)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved
    assert {name.rpartition(".")[2] for name in moved} == {"scales", "biases"}
    assert all(name.startswith("model.layers.") for name in moved)
    assert min(found["distilled"]) < 0.9 * found["distilled"][0]
    assert found["checks"][0]["model"] < 0.95 * plain["checks"][0]["model"]


def test_the_adapter_beside_belongs_to_the_tuned_weights(job: Job, say: Say) -> None:
    """The pair loads, and nothing is left of the run but the folder and its report."""
    run(job, say)

    served = load(job.out, adapter=job.out)
    assert served.adapter_config["base_fingerprint"] == fingerprint(job.out)
    assert json.loads((job.out / report.JSON).read_text())["config"]["distill"] == LOW.distill
    assert not job.out.with_name(job.out.name + DISTILLING).exists()


def test_a_rate_that_only_harms_changes_nothing(job: Job, say: Say) -> None:
    """The state before the first update is one of those that may be kept."""
    run(replace(job, config=replace(LOW, distill=0)), say)
    before = weights(job.out)

    found = run(replace(job, config=replace(LOW, distill=2, rate=5.0)), say)

    assert found["distilled"][0] == min(found["distilled"])
    for name, value in weights(job.out).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_run_that_was_cut_off_goes_on(
    job: Job, say: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Stopped after seven updates and started again it has the weights of an undisturbed run."""
    monkeypatch.setattr(module, "SAVE", 2)
    whole = replace(job, out=tmp_path / "whole")
    run(whole, say)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "distilling" and done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(job, stop)
    assert not job.out.exists()
    steps: list[int] = []

    def count(stage: str, done: int, total: int) -> None:
        if stage == "distilling":
            steps.append(done)

    run(job, count)

    assert steps[0] == 7
    first, second = weights(whole.out), weights(job.out)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])


def test_a_state_of_another_run_is_not_taken(
    job: Job, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other settings it begins anew."""
    monkeypatch.setattr(module, "SAVE", 2)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "distilling" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(job, stop)
    steps: list[int] = []

    def count(stage: str, done: int, total: int) -> None:
        if stage == "distilling":
            steps.append(done)

    run(replace(job, config=replace(LOW, rate=2e-3)), count)
    assert steps[0] == 1


def test_formats_without_scales_of_their_own_are_refused() -> None:
    """And so is a negative number of updates."""
    with pytest.raises(UsageError, match="mxfp4 has no scales that could be tuned"):
        QuantizeConfig(bits=4, mode="mxfp4", recipe="uniform", distill=5)
    with pytest.raises(UsageError, match="distill is -1"):
        QuantizeConfig(distill=-1)
