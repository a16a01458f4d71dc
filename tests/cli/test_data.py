"""``mlx-tinyagent data``: each command on small files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlx_tinyagent.cli.data import FORMAT_NAMES, data
from mlx_tinyagent.datasets.importers import FORMATS
from mlx_tinyagent.errors import InputError, RecordError


def run(*arguments: object) -> tuple[str, str]:
    """Run a command that must succeed; returns standard output and error."""
    result = CliRunner().invoke(data, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with a small generated set."""
    folder = tmp_path / "set"
    run("synth", "--out", folder, "--count", 60, "--seed", 1, "--valid", 5, "--test", 5,
        "--workers", 1)  # fmt: skip
    return folder


def test_the_formats_offered_are_those_that_exist() -> None:
    """The help's list is the importers' list."""
    assert FORMAT_NAMES == FORMATS


def test_synth_check_stats_split_and_report_work_together(made: Path, tmp_path: Path) -> None:
    """What one command writes the next one reads."""
    out, _ = run("check", made, "--tools", "tinyagent16", "--json")
    checked = json.loads(out)
    assert [entry["rows"] for entry in checked["files"]] == [5, 60, 5]
    assert checked["leaks"] == []
    out, _ = run("stats", made / "train.jsonl", "--json")
    assert json.loads(out)["rows"] == 60
    out, _ = run("stats", made / "train.jsonl")
    assert out.startswith("rows: 60")
    _, err = run("split", made / "train.jsonl", "--out", tmp_path / "parts")
    assert "train: " in err
    run("report", made / "train.jsonl", "--out", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_check_fails_on_a_leak_and_on_a_broken_row(made: Path, tmp_path: Path) -> None:
    """Both are errors of exit code 1."""
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes((made / "test.jsonl").read_bytes())
    with pytest.raises(InputError, match="5 requests stand in more than one file"):
        run("check", copy, "--against", made)
    copy.write_text('{"id": 1}\n')
    with pytest.raises(RecordError):
        run("check", copy)


def test_import_writes_examples_and_declared_tools(tmp_path: Path) -> None:
    """The tools of a foreign set come as JSON schemas."""
    rows = tmp_path / "w.jsonl"
    rows.write_text(json.dumps({"query": "plot visits", "answer": ['a.plot.func(v="visits")']}))
    tools = tmp_path / "tools.json"
    _, err = run("import", "workbench", rows, "--out", tmp_path / "o.jsonl", "--tools-out", tools)
    assert "1 examples written" in err
    assert json.loads(tools.read_text())[0]["name"] == "a__plot"
    out, _ = run("check", tmp_path / "o.jsonl", "--tools", tools)
    assert "1 rows, 0 broken" in out
