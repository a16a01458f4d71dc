"""The ``train`` command: a whole run, and clear lines for what cannot be trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlx_tinyagent.cli.main import cli
from mlx_tinyagent.datasets.record import Example, write_examples
from tests.decode.tiny import write_model


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Folder of a tiny random llama."""
    return write_model(tmp_path / "tiny")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Folder with a few examples."""
    rows = [
        Example(
            id=str(number),
            query=f"tell me joke {number}",
            tools=("open_note",),
            source="test",
            licence="Apache-2.0",
            kind="none_far",
        )
        for number in range(40)
    ]
    (tmp_path / "data").mkdir()
    write_examples(tmp_path / "data" / "train.jsonl", rows)
    return tmp_path / "data"


def invoke(*arguments: object) -> Result:
    """Run the command line; errors come back as exceptions of the result."""
    return CliRunner().invoke(cli, ["train", *map(str, arguments)])


def test_a_run_leaves_adapter_checkpoint_and_log(base: Path, data: Path, tmp_path: Path) -> None:
    """Training, going on and drawing work from the command line; stdout stays empty."""
    out = tmp_path / "out"
    options = ("--model", base, "--data", data, "--rank", 2, "--iters", 3, "--batch", 2)

    often = ("--save-every", 1, "--all-tools", 0)
    done = invoke("planner", *options, "--out", out, *often, "--start", "own")

    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert "38 rows to train on, 2 to evaluate on" in done.stderr
    assert "No adapter comes with" in done.stderr
    assert "3/3 loss" in done.stderr
    config = json.loads((out / "adapter_config.json").read_text())
    assert (config["fine_tune_type"], config["lora_parameters"]["rank"]) == ("lora", 2)
    assert (out / "checkpoint" / "state.json").is_file()

    again = invoke("planner", "--data", data, "--out", out, "--resume")
    assert again.exit_code == 0, again.output
    assert "done after 3 updates" in again.stderr

    for name in ("adapters.safetensors", "adapter_config.json"):  # as ``quantize`` leaves them
        shutil.copy(out / name, base / name)
    further = invoke("planner", *options, "--out", tmp_path / "further", "--start", "own")
    assert further.exit_code == 0, further.output
    assert json.loads((tmp_path / "further" / "config.json").read_text())["start"]

    drawn = invoke("plot", out, "--out", tmp_path / "curves.svg")
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "curves.svg").read_text().startswith("<svg")


def test_settings_come_from_a_file_and_options_win(base: Path, data: Path, tmp_path: Path) -> None:
    """``--config`` is read; what is said on the command line is stronger."""
    settings = {"model": str(base), "rank": 3, "iters": 9, "batch": 2, "all_tools": 0.0}
    (tmp_path / "run.json").write_text(json.dumps(settings))

    done = invoke(
        "planner", "--config", tmp_path / "run.json", "--iters", 1, "--data", data, "--out",
        tmp_path / "out",
    )  # fmt: skip

    assert done.exit_code == 0, done.output
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (written["rank"], written["iters"], written["batch"]) == (3, 1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rank", 0), "rank is 0; it must be at least 1"),
        (("--key", "self_attn.z_proj"), "no layer of .* is called self_attn.z_proj"),
        (("--resume",), "no checkpoint to go on from"),
        (("--config", "nothing.json"), "nothing.json cannot be read"),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    base: Path, data: Path, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    """A wrong setting is refused before the first step."""
    out = tmp_path / "out"
    done = invoke("planner", "--model", base, "--data", data, "--out", out, *options)

    assert done.exit_code != 0
    assert done.exception is not None
    with pytest.raises(type(done.exception), match=message):
        raise done.exception
    assert not (out / "checkpoint").exists()


def test_rows_longer_than_the_context_are_named(data: Path, tmp_path: Path) -> None:
    """A prompt that does not fit the model is refused before the first step."""
    short = write_model(tmp_path / "short", max_position_embeddings=256)

    done = invoke("planner", "--model", short, "--data", data, "--out", tmp_path / "out")

    assert done.exception is not None
    assert "tokens with all tools" in str(done.exception)


def test_missing_data_is_one_line(base: Path, tmp_path: Path) -> None:
    """A folder without ``train.jsonl`` is named."""
    (tmp_path / "empty").mkdir()

    done = invoke("planner", "--model", base, "--data", tmp_path / "empty", "--out", tmp_path / "o")

    assert done.exception is not None
    assert "train.jsonl" in str(done.exception)
    shutil.rmtree(tmp_path / "empty")
