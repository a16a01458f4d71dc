"""A run can start from an adapter that fits it, and from no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlx_tinyagent.cli.train import train
from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models.language import load
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.train.config import TrainConfig
from mlx_tinyagent.train.loop import run
from mlx_tinyagent.train.rows import load_data
from mlx_tinyagent.train.start import identity, read_start
from mlx_tinyagent.train.trainer import Trainer
from tests.train.conftest import MakeTrainer


@pytest.fixture
def adapter(make_trainer: MakeTrainer, tmp_path: Path) -> Path:
    """An adapter trained for a few updates."""
    run(make_trainer(iters=4, learning_rate=0.05), tmp_path / "first")
    return tmp_path / "first"


def test_the_first_loss_is_the_adapters(
    adapter: Path, base: Path, data_folder: Path, tools: ToolSet
) -> None:
    """Before any update, a run that starts from an adapter evaluates as that adapter did."""
    trained = json.loads((adapter / "adapter_config.json").read_text())["trained"]
    model = load(base)
    config = TrainConfig(model=str(base), rank=4, start=identity(adapter))
    data = load_data([data_folder], tools, model.tokenizer, eval_rows=64)

    warm = Trainer(model, tools, data, config, start=adapter)
    cold = Trainer(load(base), tools, data, TrainConfig(model=str(base), rank=4))

    assert warm.evaluate() == pytest.approx(trained["valid_loss"], abs=5e-3)
    assert warm.evaluate() != pytest.approx(cold.evaluate(), abs=0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 8}, r"lora_a is \(96, 4\), this run has \(96, 8\)"),
        ({"attention": "full"}, "active is after_blocks, this run has all"),
        ({"scale": 2.0}, "scale is 4.0, this run has 2.0"),
        ({"fine_tune_type": "dora"}, "fine_tune_type is lora, this run has dora"),
        ({"layers": 1}, "this run has no such tensor"),
    ],
)
def test_an_adapter_of_another_kind_is_one_line(
    adapter: Path, make_trainer: MakeTrainer, settings: dict[str, Any], message: str
) -> None:
    """Rank, layers, kind, factor and where it acts must be the run's; the message has both."""
    trainer = make_trainer(**settings)

    with pytest.raises(ModelError, match=message):
        read_start(adapter, trainer.config, base=trainer.base, fresh=trainer.adapter())


def test_an_adapter_of_another_model_is_one_line(adapter: Path, make_trainer: MakeTrainer) -> None:
    """The base model's fingerprint must be the same."""
    trainer = make_trainer()

    with pytest.raises(ModelError, match=r"base_fingerprint is .*, this run has ffff"):
        read_start(adapter, trainer.config, base="ffff", fresh=trainer.adapter())


def test_the_command_starts_from_an_adapter_and_goes_on_without_it(
    adapter: Path, base: Path, data_folder: Path, tmp_path: Path
) -> None:
    """``--start`` is in the settings by fingerprint; ``--resume`` needs the checkpoint alone."""
    out = tmp_path / "second"
    common = ["planner", "--data", str(data_folder), "--out", str(out)]
    given = ["--model", str(base), "--rank", "4", "--iters", "2", "--batch", "4"]
    given += ["--eval-plans", "2", "--eval-rows", "4", "--eval-every", "1"]

    done = CliRunner().invoke(
        train, [*common, *given, "--start", str(adapter), "--minutes", "0"], catch_exceptions=False
    )

    assert done.exit_code == 0
    assert "% of plans right" in done.output
    config = json.loads((out / "config.json").read_text())
    assert config["start"] == identity(adapter)
    again = CliRunner().invoke(train, [*common, "--resume"], catch_exceptions=False)
    assert again.exit_code == 0
    assert "done after 2 updates, 8 examples" in again.output
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries if "graph_match" in entry] == [1, 2]
