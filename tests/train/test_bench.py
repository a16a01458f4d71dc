"""The comparison with mlx-lm's own step: same rows, and a baseline that is mlx-lm's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mlx_tinyagent.cli.bench import bench
from mlx_tinyagent.datasets.record import write_examples
from mlx_tinyagent.errors import InputError
from mlx_tinyagent.models.plain_training import PlainTrainer
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.train.bench import OURS, PLAIN, Bench, summarize
from tests.train.conftest import MakeTrainer, example


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with three examples: the baseline computes whole prompts."""
    folder = tmp_path_factory.mktemp("few")
    write_examples(folder / "train.jsonl", [example(number) for number in (1, 4, 7)])
    return folder


@pytest.fixture
def tools() -> ToolSet:
    """One tool, for short prompts."""
    return TINYAGENT16.subset(["open_note"])


def test_the_baseline_makes_mlx_lms_updates(make_trainer: MakeTrainer) -> None:
    """Loss and gradient step are those of mlx-lm's own batches, loss and optimizer."""
    import mlx.core as mx
    from mlx import nn
    from mlx.optimizers import Adam
    from mlx_lm.tuner.trainer import default_loss, iterate_batches

    ours, theirs = (make_trainer(attention="full") for _ in range(2))
    rows = [([3, *range(40, 60)], 12), ([3, *range(70, 83)], 5)]
    plain = PlainTrainer(ours.model, learning_rate=0.01)

    found = [plain.update(rows) for _ in range(2)]

    model = theirs.model.model
    model.train()
    optimizer = Adam(learning_rate=0.01)
    step = nn.value_and_grad(model, default_loss)
    wanted = []
    for _ in range(2):
        (batch,) = list(iterate_batches(rows, 2, 64))
        (loss, _), gradient = step(model, *batch)
        optimizer.update(model, gradient)
        mx.eval(loss, model.parameters(), optimizer.state)
        wanted.append(float(np.asarray(loss)))
    assert found == pytest.approx(wanted, rel=1e-5)
    for name, value in theirs.adapter().items():
        assert np.allclose(np.asarray(ours.adapter()[name]), np.asarray(value), atol=1e-4), name


def test_both_see_the_same_rows_in_turns(make_trainer: MakeTrainer) -> None:
    """Per size, each makes as many updates on as many tokens; who begins alternates."""
    trainer = make_trainer(attention="full", all_tools=1.0)
    report = Bench(trainer).run(batch=2, repeats=2, limit_bytes=1 << 34)

    assert report.largest == 3  # all rows there are
    trials = [(trial.contestant, trial.batch) for trial in report.trials]
    assert trials == [
        *[(OURS, 2), (PLAIN, 2), (PLAIN, 2), (OURS, 2)],
        *[(OURS, 3), (PLAIN, 3), (PLAIN, 3), (OURS, 3)],
    ]
    assert set(report.probes) == {1, 2}
    assert report.probes[1] < report.probes[2]
    summary = summarize(report)
    assert set(summary["batches"]) == {"2", "3"}
    for found in summary["batches"].values():
        assert found[OURS]["tokens_per_example"] == found[PLAIN]["tokens_per_example"]
        assert found[OURS]["peak_bytes"] > 0
        assert found["speed"] > 0


def test_a_limit_that_one_example_passes_is_one_line(make_trainer: MakeTrainer) -> None:
    """The baseline must be able to make an update at all."""
    with pytest.raises(InputError, match=r"mlx-lm takes .* GB for one example"):
        Bench(make_trainer()).run(batch=4, repeats=1, limit_bytes=1000)


def test_the_command_writes_json(base: Path, data_folder: Path, tmp_path: Path) -> None:
    """``bench train`` leaves figures and every trial; a batch past the limit is left out."""
    out = tmp_path / "bench.json"
    schema = tmp_path / "tools.json"
    schema.write_text(json.dumps([TINYAGENT16["open_note"].schema()]))
    options = ["--data", str(data_folder), "--out", str(out), "--model", str(base)]
    options += ["--tools", str(schema), "--batch", "64", "--repeats", "1"]
    done = CliRunner().invoke(bench, ["train", *options], catch_exceptions=False)

    assert done.exit_code == 0
    summary = json.loads(out.read_text())
    assert list(summary["batches"]) == [str(summary["largest_batch"])] == ["3"]
    assert summary["config"]["all_tools"] == 1.0
    assert len(summary["trials"]) == 2
    assert "x the speed" in done.stdout
