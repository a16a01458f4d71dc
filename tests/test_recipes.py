"""Recipes and the script that ``init`` writes: they parse, name real options, do what they say."""

from __future__ import annotations

import html
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
from tests.datasets.importers.test_tinyagent_hf import item, write
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


def page(path: Path) -> str:
    """Return the words of a page, elements left out."""
    text = path.read_text()
    assert text.startswith("<!doctype html>")
    assert not re.search(r"<script|src=|https?://(?!www\.w3\.org/2000/svg)", text)
    return " ".join(
        html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", text, flags=re.S)).split()
    )


@each_script
def test_it_ends_with_a_page(script: Path) -> None:
    """The last thing that a recipe makes is its report; your tools' is that of ``run.sh``."""
    if script.name == "your_tools.sh":
        assert script.read_text().rstrip().endswith('exec sh "$dir/run.sh"')
        return
    (*_, last) = command_lines(script)

    assert last[0] == "report" or script == RUN_SH  # which tells how to go on
    assert "\nmlx-tinyagent report " in script.read_text()


@pytest.mark.slow
def test_quickstart_shows_runs_and_takes_back(run: Run, tmp_path: Path) -> None:
    """In a store of its own; what it did is gone at its end."""
    done = run(RECIPES / "quickstart.sh", NO_MODEL="1")

    assert done.returncode == 0, done.stderr
    assert "75 contacts" in done.stdout
    assert "Added 'Lunch' to the calendar" in done.stdout
    assert "Undone: 2 of 2 steps." in done.stdout
    assert (tmp_path / "quickstart-home" / "data" / "store.sqlite").is_file()
    seen = page(tmp_path / "quickstart" / "index.html")
    assert "Added 'Lunch' to the calendar" in seen
    assert seen.count("taken back") == 2


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
    seen = page(out / "index.html")
    log = rows(out / "planner" / "log.jsonl")
    valid = next(entry["valid_loss"] for entry in log if "valid_loss" in entry)
    assert "before against after, on 2 rows" in seen
    assert "distinct requests" in seen
    assert f"best validation loss {valid:.4f} after 2 updates" in seen
    assert "not gated: 4.50 bits per weight on disk" in seen
    assert "heat the kitchen to 21 degrees" in seen
    assert "Left out" not in seen

    trained = (out / "planner" / "adapters.safetensors").stat().st_mtime_ns
    again = run(recipe, tmp_path / "agent", PRESET="smoke", MODEL=tiny)

    assert again.returncode == 0, again.stderr
    assert again.stderr.count("done before") == 6
    assert (out / "planner" / "adapters.safetensors").stat().st_mtime_ns == trained


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_default_planner_is_made_and_scored(run: Run, tmp_path: Path, tiny: str) -> None:
    """Rows, adapter, scores and their page; run again, the scores are those that are there."""
    out = tmp_path / "planner"

    done = run(RECIPES / "default_planner.sh", out, PRESET="smoke", MODEL=tiny)

    assert done.returncode == 0, done.stderr
    assert len(load_examples(out / "data" / "train.jsonl")) == 20
    assert json.loads((out / "run" / "adapter_config.json").read_text())["tier"] == "blocks"
    scored = (out / "eval" / "items.jsonl").read_bytes()
    assert scored.count(b"\n") == 2
    seen = page(out / "index.html")
    assert "2 updates; training loss" in seen
    assert "2 rows of test.jsonl" in seen

    again = run(RECIPES / "default_planner.sh", out, PRESET="smoke", MODEL=tiny)

    assert again.returncode == 0, again.stderr
    assert (out / "eval" / "items.jsonl").read_bytes() == scored


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("which", "tier"), [("qwen3", "blocks"), ("functiongemma", "exact")])
def test_other_models_are_trained_for_their_tier(
    run: Run, tmp_path: Path, tiny: str, which: str, tier: str
) -> None:
    """With a tiny model in the place of theirs."""
    out = tmp_path / which

    done = run(RECIPES / "other_models.sh", which, out, PRESET="smoke", BASE=tiny)

    assert done.returncode == 0, done.stderr
    assert json.loads((out / "run" / "adapter_config.json").read_text())["tier"] == tier
    assert len(rows(out / "eval" / "items.jsonl")) == 2
    seen = page(out / "index.html")
    assert seen.startswith(f"{which} as a planner")
    assert "Evaluations of plans" in seen


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_tool_rag_is_trained_calibrated_and_compared(run: Run, tmp_path: Path) -> None:
    """The classifier's own figures and BM25's on the same side of the data."""
    out = tmp_path / "rag"

    done = run(RECIPES / "tool_rag.sh", out, PRESET="smoke")

    assert done.returncode == 0, done.stderr
    assert "calibration.json" in {path.name for path in (out / "run" / "classifier").iterdir()}
    report = json.loads((out / "run" / "report.json").read_text())
    seen = page(out / "index.html")
    for name, figures in report["figures"].items():
        assert f"{name} {100 * figures['share']:.1f} % {figures['n']}" in seen
    assert "retriever bm25" in seen
    assert "full_recall" in seen


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_latency_table_has_every_contestant(run: Run, tmp_path: Path, tiny: str) -> None:
    """Seconds of each, and ratios over the first; a size of installed tools beside."""
    out = tmp_path / "latency"

    done = run(RECIPES / "latency_table.sh", out, ROWS="2", SIZES="16", MODEL=tiny)

    assert done.returncode == 0, done.stderr
    summary = json.loads((out / "plans" / "summary.json").read_text())
    assert list(summary["means"]) == ["mlx-lm", "mlx-lm-cache", "cold", "exact", "blocks"]
    seen = page(out / "index.html")
    for name, means in summary["means"].items():
        assert f"{name} {means['prompt_tokens']:.0f} {means['computed']:.0f}" in seen
    assert "Many tools installed" in seen


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_paper_ends_with_both_scores(run: Run, tmp_path: Path, tiny: str) -> None:
    """From a file in the published form of the data set to 16 and 4 bits side by side."""
    names = ("dana", "leo", "mia", "noah", "ida")
    data = {
        f"row-{number}": item(
            f"{('call', 'text', 'mail', 'find')[number % 4]} {name} about {number}",
            [("get_phone_number", [name])],
        )
        for number, name in enumerate(names * 8)
    }
    out = tmp_path / "paper"

    done = run(
        RECIPES / "tinyagent_paper.sh",
        write(tmp_path, data),
        "1.1b",
        out,
        PRESET="smoke",
        BASE=tiny,
    )

    assert done.returncode == 0, done.stderr
    sides = [load_examples(out / "data" / f"{name}.jsonl") for name in ("train", "valid", "test")]
    assert sum(map(len, sides)) == 40
    assert "quantization" in json.loads((out / "4bit" / "config.json").read_text())
    assert "tinyagent_success" in done.stdout
    seen = page(out / "index.html")
    assert "eval-16bit against eval-4bit, on 2 rows" in seen
    assert "bits per weight on disk" in seen


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
            [row["id"] for row in rows(out / name / "items.jsonl")]
            for name in ("before", "shipped", "after")
        ]
        assert scored[0] == scored[1] == scored[2]
        assert len(scored[0]) == 2
        assert "tinyagent_success" in done.stdout
        seen = page(out / "index.html")
        assert "before against after, on 2 rows" in seen
        assert "2 rows of rows.jsonl" in seen
