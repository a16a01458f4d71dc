"""Recipes and the script that ``init`` writes: they parse, name real options, do what they say."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from mlx_tinyagent.cli.main import cli
from mlx_tinyagent.datasets.record import load_examples
from tests.decode.tiny import write_model

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "recipes"
RUN_SH = ROOT / "mlx_tinyagent/templates/run.sh.txt"
SCRIPTS = [*sorted(RECIPES.glob("*.sh")), RUN_SH]

each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)

Run = Callable[..., subprocess.CompletedProcess[str]]


def command_lines(script: Path) -> Iterator[list[str]]:
    """Yield the words after each ``mlx-tinyagent`` of a script, comments left out."""
    text = re.sub(r"^\s*#.*$", "", script.read_text(), flags=re.MULTILINE)
    text = re.sub(r"\\\n", " ", text)
    text = re.sub(r"\$\{\w+:\+([^}]*)\}", r"\1", text)  # options that a variable switches on
    for command in re.findall(r"\bmlx-tinyagent ([^\n|;)&]*)", text):
        yield shlex.split(command)


@each_script
def test_the_shell_can_read_it(script: Path) -> None:
    """It is POSIX sh that stops at the first error."""
    done = subprocess.run(["sh", "-n", str(script)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert script.read_text().startswith("#!/bin/sh\n# ")
    assert "\nset -eu\n" in script.read_text()


@each_script
def test_its_commands_exist(script: Path) -> None:
    """Each command, and each option of it, is one the command line has."""
    lines = list(command_lines(script))
    assert lines
    for words in lines:
        command: click.Command = cli
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), words[0])
            assert found is not None, f"{script.name}: no command {' '.join(words)}"
            command, words = found, words[1:]
        params = command.get_params(click.Context(command))
        known = {name for param in params for name in (*param.opts, *param.secondary_opts)}
        given = {word.split("=")[0] for word in words if word.startswith("--")}
        assert given <= known, f"{script.name}: {command.name} has no {given - known}"


@each_script
def test_it_says_what_it_needs_and_how_long_it_takes(script: Path) -> None:
    """At its top; times are marked as estimated where they were not measured."""
    head = script.read_text().split("\nset -eu\n")[0]

    assert "eeds" in head
    assert re.search(r"estimated|derived|measured", head)


def test_the_page_names_every_recipe() -> None:
    """So that none is forgotten."""
    page = (ROOT / "docs/your-tools.md").read_text()

    assert [path.name for path in RECIPES.glob("*.sh") if path.name not in page] == []


@pytest.fixture
def run(tmp_path: Path, user_home: Path) -> Run:
    """A function that runs a recipe as its reader does, on one core."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

    def call(script: Path, *args: object, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(script), *map(str, args)],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, **quiet, **env},
            capture_output=True,
            text=True,
            check=False,
        )

    return call


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    """Folder of a tiny random llama whose matrices divide into groups of 64."""
    return str(write_model(tmp_path / "tiny", intermediate_size=128))


def rows(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_quickstart_shows_runs_and_takes_back(run: Run, tmp_path: Path) -> None:
    """In a store of its own; what it did is gone at its end."""
    done = run(RECIPES / "quickstart.sh", NO_MODEL="1")

    assert done.returncode == 0, done.stderr
    assert "75 contacts" in done.stdout
    assert "Added 'Lunch' to the calendar" in done.stdout
    assert "Undone: 2 of 2 steps." in done.stdout
    assert (tmp_path / "quickstart-home" / "data" / "store.sqlite").is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_your_tools_ends_with_a_measured_model(run: Run, tmp_path: Path, tiny: str) -> None:
    """Every step leaves what it should; run again, it only plans the request at its end."""
    recipe, out = RECIPES / "your_tools.sh", tmp_path / "agent" / "out"

    done = run(recipe, tmp_path / "agent", PRESET="smoke", MODEL=tiny)

    assert done.returncode == 0, done.stderr
    examples = load_examples(out / "data" / "train.jsonl")
    assert len(examples) == 20
    named = {call.tool for example in examples for call in example.plan}
    assert named <= {"get_temperature", "set_temperature"}
    adapter = json.loads((out / "planner" / "adapter_config.json").read_text())
    assert adapter["active"] == "after_blocks"
    assert "quantization" in json.loads((out / "model" / "config.json").read_text())
    assert (out / "model" / "adapters.safetensors").is_file()
    for name in ("before", "after"):
        assert len(rows(out / name / "items.jsonl")) == 2
        assert "<html" in (out / name / "report.html").read_text()
    (planned,) = rows(out / "plan.jsonl")
    assert planned["error"] is None
    assert planned["tools"] == ["get_temperature", "set_temperature"]
    assert json.loads(done.stdout.splitlines()[-1]) == planned

    trained = (out / "planner" / "adapters.safetensors").stat().st_mtime_ns
    again = run(recipe, tmp_path / "agent", PRESET="smoke", MODEL=tiny)

    assert again.returncode == 0, again.stderr
    assert again.stderr.count("done before") == 6
    assert (out / "planner" / "adapters.safetensors").stat().st_mtime_ns == trained


@pytest.mark.slow
def test_your_tools_names_a_wrong_preset(run: Run, tmp_path: Path) -> None:
    """Before anything is done."""
    done = run(RECIPES / "your_tools.sh", tmp_path / "agent", PRESET="huge")

    assert done.returncode == 2
    assert "PRESET is 'huge'" in done.stderr
    assert not (tmp_path / "agent" / "out").exists()


class TestWorkBench:
    """A tool set that is not the Mac's."""

    @pytest.fixture
    def single(self, shared_data: Path, tmp_path: Path) -> Path:
        """The rows that one plan can answer."""
        from click.testing import CliRunner

        tasks, imported = shared_data / "workbench/workbench_tasks.jsonl", tmp_path / "all.jsonl"
        done = CliRunner().invoke(
            cli, ["data", "import", "workbench", str(tasks), "--out", str(imported)]
        )
        assert done.exit_code == 0, done.output
        script = RECIPES / "workbench_rows.py"
        subprocess.run(
            [sys.executable, str(script), str(imported), str(tmp_path / "single.jsonl")], check=True
        )
        return tmp_path / "single.jsonl"

    @pytest.mark.shared
    def test_its_rows_fit_the_declared_tools(self, single: Path) -> None:
        """Every gold plan is one that the declarations allow; none has a condition."""
        from mlx_tinyagent.tools.loading import load_tools

        tools = load_tools(str(RECIPES / "workbench_tools.py"))
        examples = load_examples(single)

        assert len(examples) == 269
        assert all(example.bound(tools).steps for example in examples)
        assert {call.tool for example in examples for call in example.plan} == set(tools.names)
        assert not any(example.query.startswith("If ") for example in examples)

    @pytest.mark.shared
    @pytest.mark.slow
    @pytest.mark.timeout(900)
    def test_the_recipe_scores_before_and_after(
        self, run: Run, shared_data: Path, tmp_path: Path, tiny: str
    ) -> None:
        """On the same rows, and compares the two."""
        tasks, out = shared_data / "workbench/workbench_tasks.jsonl", tmp_path / "out"

        done = run(RECIPES / "workbench.sh", tasks, out, PRESET="smoke", MODEL=tiny)

        assert done.returncode == 0, done.stderr
        scored = [
            [row["id"] for row in rows(out / name / "items.jsonl")] for name in ("before", "after")
        ]
        assert scored[0] == scored[1]
        assert len(scored[0]) == 2
        assert "tinyagent_success" in done.stdout
