"""``retrieve``: which retriever serves, what ``explain`` says, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.retrieval.base import AllTools
from mlx_tinyagent.retrieval.bm25 import BM25Retriever
from mlx_tinyagent.retrieval.deberta import SHIPPED, DebertaRetriever
from mlx_tinyagent.retrieval.default import make
from mlx_tinyagent.tools.catalog import TINYAGENT16
from tests.retrieval.conftest import tiny_classifier

__all__ = ["tiny_classifier"]  # the fixture serves here as well
Cli = Callable[..., Any]


def rows(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two requests."""
    path = tmp_path / "q.jsonl"
    path.write_text('{"id": 1, "query": "text Ana"}\n{"id": 2, "query": "open the note"}\n')
    return path


def test_the_best_retriever_there_is_serves() -> None:
    """The classifier of the package where there is one, else words."""
    shipped = (SHIPPED / "config.json").is_file()

    assert isinstance(make("on"), DebertaRetriever if shipped else BM25Retriever)
    assert isinstance(make("bm25"), BM25Retriever)
    assert isinstance(make("off"), AllTools)


@pytest.mark.parametrize("retriever", ["bm25", "off"])
def test_a_retriever_can_be_named(cli: Cli, source: Path, tmp_path: Path, retriever: str) -> None:
    """Rows have the same keys whichever serves."""
    target = tmp_path / "r.jsonl"

    done = cli("retrieve", "--input", source, "--output", target, "--retriever", retriever)

    assert done.code == 0, done.err
    for row in rows(target):
        assert list(row) == ["id", "tools", "scores", "abstain"]
        assert set(row["scores"]) == set(TINYAGENT16.names)


def test_a_classifier_can_be_named(
    cli: Cli, source: Path, tmp_path: Path, tiny_classifier: Path
) -> None:
    """Its scores stand in the rows."""
    target = tmp_path / "r.jsonl"

    done = cli("retrieve", "--input", source, "--output", target, "--classifier", tiny_classifier)

    assert done.code == 0, done.err
    first = rows(target)[0]
    found = DebertaRetriever(tiny_classifier).select("text Ana", TINYAGENT16)
    assert first["tools"] == list(found.tools.names)
    assert first["scores"] == pytest.approx(dict(found.scores), abs=1e-5)


def test_explain_says_why(cli: Cli, tiny_classifier: Path) -> None:
    """Scores, closure and promise; as JSON the same."""
    done = cli("retrieve", "explain", "text Ana", "--classifier", tiny_classifier)

    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split() == ["tool", "score", "closed", "why"]
    assert all(any(name in line for line in lines) for name in TINYAGENT16.names)
    assert lines[-1] == "nothing is promised: the classifier was not calibrated"

    document = json.loads(
        cli("retrieve", "explain", "text Ana", "--classifier", tiny_classifier, "--json").out
    )
    assert document["promise"] == lines[-1]
    assert document["thresholds"] == {"complete": None, "no_tool": None}
    for name, reader in document["edges"].items():
        assert name in TINYAGENT16.closure([reader]).names


def test_what_cannot_be_done_is_one_line(cli: Cli, source: Path, tmp_path: Path) -> None:
    """No rows, no classifier, a share that is none, an empty request."""
    assert cli("retrieve", "--input", source).code == 2
    missing = cli("retrieve", "explain", "text Ana", "--classifier", tmp_path)
    assert missing.code == 2
    assert "holds no tool classifier" in missing.err
    assert cli("retrieve", "explain", "text Ana", "--recall", "1").code == 2
    assert cli("retrieve", "explain", " ").code == 1


def test_a_classifier_is_calibrated_on_rows_of_ones_own(
    cli: Cli, tmp_path: Path, tiny_classifier: Path
) -> None:
    """``calibrate`` writes the calibration, and ``explain`` then promises something."""
    folder = shutil.copytree(tiny_classifier, tmp_path / "classifier")
    lines = [
        json.dumps(
            {
                "id": number,
                "source": "mine",
                "kind": "tool",
                "text": f"open the note about Ana {number}",
                "any_of": [["open_note"]],
            }
        )
        for number in range(80)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")

    done = cli("retrieve", "calibrate", "--classifier", folder, "--data", tmp_path / "rows.jsonl")
    told = cli("retrieve", "explain", "open the note about Ana 7", "--classifier", folder)

    assert done.code == 0, done.err
    assert "short: every needed tool is kept for at least 95.0%" in done.err
    assert "long: every tool is kept: 0 calibration requests do not support 95.0%" in done.err
    assert told.out.splitlines()[-1].startswith("every needed tool is kept for at least 95.0%")
