"""``mlx-tinyagent quantize``: options, exit codes, and commands that take its result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlx_tinyagent.cli.main import cli
from mlx_tinyagent.datasets.record import write_examples
from mlx_tinyagent.errors import InputError, RefusedError, UsageError
from mlx_tinyagent.quantize import rows as made
from mlx_tinyagent.tools.base import ToolSet

QUICK = ["--recipe", "uniform", "--method", "round", "--rows", "3", "--gate-rows", "3"]


@pytest.fixture
def data(tmp_path: Path, few_tools: ToolSet) -> Path:
    """A file of examples."""
    path = tmp_path / "rows.jsonl"
    write_examples(path, made.synthetic(few_tools, 12, seed=2))
    return path


def call(*arguments: object) -> Any:
    """Run the command line in this process and return click's result."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def quantize(model: Path, out: Path, *options: object) -> Any:
    """Run ``quantize`` without an adapter."""
    return call("quantize", "--model", model, "--adapter", "none", "--out", out, *options)


def test_a_model_is_published_with_its_report(model: Path, data: Path, tmp_path: Path) -> None:
    """Standard output has the report as JSON, standard error the progress and a summary."""
    done = quantize(model, tmp_path / "q", "--data", data, "--max-kl", "2", "--json", *QUICK)

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verdict"] == "passed"
    assert "reading plans, result: 2/2" in done.stderr
    assert "4.50 bits per weight" in done.stderr.splitlines()[-1]


def test_rows_that_judge_do_not_calibrate(few_tools: ToolSet, data: Path) -> None:
    """Of one file different rows are taken, whatever its order."""
    from mlx_tinyagent.cli.quantize import _examples
    from mlx_tinyagent.quantize.settings import QuantizeConfig

    config = QuantizeConfig(rows=3, gate_rows=3)
    lines = data.read_text().splitlines()
    calibration, held = _examples((data,), (), few_tools, config, gate=True)
    data.write_text("\n".join(reversed(lines)) + "\n")
    again = _examples((data,), (), few_tools, config, gate=True)

    assert not {e.query for e in calibration} & {e.query for e in held}
    assert len(held) == 6
    assert len(calibration) == len({json.loads(line)["query"] for line in lines}) - 6
    assert [e.query for e in again[1]] == [e.query for e in held]


def test_a_refusal_has_its_exit_code(model: Path, data: Path, tmp_path: Path) -> None:
    """3, as for every refusal by policy."""
    done = quantize(model, tmp_path / "q", "--bits", 2, "--data", data, "--max-kl", "1e-6", *QUICK)

    assert isinstance(done.exception, RefusedError)
    assert done.exception.exit_code == 3
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--bits", "9"], UsageError, "9 bits; affine numbers have 2 to 8"),
        (["--plan-rows", "5"], UsageError, "--plan-rows needs one file of --gate-data"),
        (["--data", "missing.jsonl"], InputError, "missing.jsonl"),
    ],
)
def test_wrong_options_are_named(
    model: Path, tmp_path: Path, options: list[str], error: type[Exception], message: str
) -> None:
    """Nothing is loaded or written for them."""
    done = quantize(model, tmp_path / "q", *QUICK, *options)

    assert isinstance(done.exception, error)
    assert message in str(done.exception)
    assert list(tmp_path.glob("q*")) == []


def test_written_plans_are_scored(model: Path, data: Path, tmp_path: Path) -> None:
    """With ``--plan-rows`` both models plan, and what went wrong is counted."""
    done = quantize(
        model, tmp_path / "q", "--bits", 8, "--gate-data", data, "--plan-rows", 2, "--json",
        "--max-kl", "2", *QUICK,
    )  # fmt: skip
    found = json.loads(done.stdout)

    assert sum(found["failures"]["model"]["reasons"].values()) == 2
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert states.get("tinyagent_success", "not judged") == "not judged"


@pytest.mark.slow
def test_latency_can_be_measured(model: Path, data: Path, tmp_path: Path) -> None:
    """``bench latency`` takes the folder as a model."""
    assert quantize(model, tmp_path / "q", "--no-gate", *QUICK).exit_code == 0

    done = call(
        "bench", "latency", "--data", data, "--out", tmp_path / "b", "--limit", 1,
        "--model", tmp_path / "q", "--adapter", "none", "--contestants", "exact,blocks",
    )  # fmt: skip

    assert done.exit_code == 0, done.output
