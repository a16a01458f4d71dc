"""``cache`` and ``bench``: what is kept on disk, and the benchmarks with a tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.config import paths
from tests.decode.tiny import write_model

Cli = Callable[..., Any]


def folder() -> Path:
    """Return where prompt parts are kept."""
    return paths().cache / "kv"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Folder of a tiny random llama with a trained tokenizer."""
    return write_model(tmp_path / "tiny")


def test_build_list_and_clear(cli: Cli, tiny: Path, user_home: Path) -> None:
    """One part per tool and the header, computed once; nothing of it is left after clear."""
    built = cli("cache", "build", "--model", tiny)
    assert built.code == 0
    assert "16 tools, 17 prompt parts computed" in built.out
    assert "tokens wide" in built.out

    listed = cli("cache", "list")
    assert "17 prompt parts" in listed.out
    assert "cost curves: 1" in listed.out

    again = cli("cache", "build", "--model", tiny)
    assert "16 tools, 0 prompt parts computed" in again.out

    cleared = cli("cache", "clear")
    assert "17 prompt parts deleted" in cleared.out
    assert list(folder().iterdir()) == []


def test_clear_sweeps_what_killed_writers_left(cli: Cli, user_home: Path) -> None:
    """Their temporary files, and nothing that is not the cache's own."""
    folder().mkdir(parents=True)
    left = folder() / ".abc.safetensors.0123456789ab.new"
    left.write_bytes(b"x" * 1000)
    (folder() / "notes.txt").write_text("mine")

    listed = cli("cache", "list")
    assert "unfinished files: 1" in listed.out

    assert cli("cache", "clear").code == 0
    assert [file.name for file in folder().iterdir()] == ["notes.txt"]
    assert "unfinished" not in cli("cache", "list").out


def test_an_empty_cache_can_be_listed_and_cleared(cli: Cli, user_home: Path) -> None:
    """Before anything was kept."""
    assert "0 prompt parts, 0.0 MB" in cli("cache", "list").out
    assert "0 prompt parts deleted" in cli("cache", "clear").out


ROW = {
    "query": 'Text Leo "I am late" and open the note "Groceries"',
    "now": "2026-03-02T09:00:00",
    "history": [],
    "tools": ["get_phone_number", "send_sms", "open_note"],
    "plan": [
        {"id": 1, "tool": "get_phone_number", "args": ["Leo"]},
        {"id": 2, "tool": "send_sms", "args": [["$1"], "I am late"]},
        {"id": 3, "tool": "open_note", "args": ["Groceries", ""]},
    ],
    "source": "test",
    "licence": "none",
    "kind": "tool",
}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Three example records."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"id": str(n), **ROW}) + "\n" for n in range(3)))
    return path


def test_latency_compares_in_one_process(
    cli: Cli, tiny: Path, rows: Path, tmp_path: Path, user_home: Path
) -> None:
    """Every contestant writes every plan; counts, ratios, goals, intervals and a chart come out."""
    names = "mlx-lm,mlx-lm-cache,mlx-lm-tinyagent,cold,exact,blocks,blocks-plain,blocks-repair"
    done = cli(
        "bench", "latency", "--data", rows, "--out", tmp_path / "out", "--model", tiny,
        "--contestants", names,
    )  # fmt: skip
    assert done.code == 0, done.err

    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    trials = [json.loads(line) for line in (tmp_path / "out" / "trials.jsonl").open()]
    means = summary["means"]
    assert list(means) == names.split(",")
    assert len(trials) == 3 * 8
    assert len({trial["plan_tokens"] for trial in trials}) == 1
    assert means["mlx-lm"]["computed"] == means["mlx-lm"]["prompt_tokens"]
    assert means["mlx-lm"]["prompt_tokens"] == means["blocks"]["prompt_tokens"]
    assert means["blocks"]["computed"] < means["mlx-lm"]["computed"] / 4
    assert means["blocks"]["computed"] == means["blocks-plain"]["computed"]
    assert means["blocks-repair"]["computed"] == means["blocks"]["computed"] + 3 * 16
    assert means["blocks-plain"]["passes"] == means["mlx-lm"]["passes"]
    assert means["blocks"]["passes"] < means["blocks-plain"]["passes"] / 2
    assert means["cold"]["kv_bytes"] == 0 < means["blocks"]["kv_bytes"]
    goals = {goal["what"]: goal for goal in summary["goals"]}
    assert [goal["at_least"] for goal in goals.values()] == [10.0, 4.0]
    for goal in goals.values():
        assert goal["n"] == 3
        assert goal["low"] <= goal["ratio"] <= goal["high"]
    assert summary["ratios"]["mlx-lm"]["total_s"]["ratio"] == 1.0
    assert "goal 10" in done.out
    assert (tmp_path / "out" / "latency.svg").read_text().startswith("<svg")


def test_an_unknown_contestant_is_named(
    cli: Cli, tiny: Path, rows: Path, tmp_path: Path, user_home: Path
) -> None:
    """With those that are known."""
    done = cli(
        "bench", "latency", "--data", rows, "--out", tmp_path, "--model", tiny,
        "--contestants", "mlx-lm,nobody",
    )  # fmt: skip
    assert done.code == 1
    assert "'nobody'; known: mlx-lm," in done.err


def test_tools_times_sets_of_tools(cli: Cli, tiny: Path, tmp_path: Path, user_home: Path) -> None:
    """Five are offered of each; stand-in blocks are as large as real ones and go away."""
    done = cli(
        "bench", "tools", "--out", tmp_path / "out", "--model", tiny,
        "--sizes", "60,12", "--requests", "2",
    )  # fmt: skip
    assert done.code == 0, done.err

    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    trials = [json.loads(line) for line in (tmp_path / "out" / "trials.jsonl").open()]
    assert [row["installed"] for row in summary["sizes"]] == [12, 60]
    assert summary["sizes"][0]["disk_bytes"] < summary["sizes"][1]["disk_bytes"] / 3
    assert {trial["offered"] for trial in trials} == {5}
    assert len(trials) == 2 * 2 * 2
    assert len({trial["computed"] for trial in trials if trial["request"] == 1}) == 1
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "summary.json",
        "trials.jsonl",
    ]


@pytest.mark.parametrize("sizes", ["", "9", "a", "16,-1", "1.5"])
def test_sizes_that_cannot_be_are_usage_errors(
    cli: Cli, tiny: Path, tmp_path: Path, sizes: str
) -> None:
    """Of fewer than ten tools all are offered."""
    done = cli("bench", "tools", "--out", tmp_path, "--model", tiny, "--sizes", sizes)
    assert done.code == 2
    assert "numbers from 10" in done.err
