"""Which retriever an option gets, and whose classifier it reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlx_tinyagent.errors import UsageError
from mlx_tinyagent.retrieval.base import AllTools
from mlx_tinyagent.retrieval.bm25 import BM25Retriever
from mlx_tinyagent.retrieval.deberta import DebertaRetriever
from mlx_tinyagent.retrieval.default import make


def test_a_kind_gets_its_retriever() -> None:
    """Words alone, and everything."""
    assert isinstance(make("bm25"), BM25Retriever)
    assert isinstance(make("off"), AllTools)


def test_a_classifier_of_ones_own_is_taken(tiny_classifier: Path, tmp_path: Path) -> None:
    """Its folder, or that of the run that trained it."""
    run = tmp_path / "run"
    shutil.copytree(tiny_classifier, run / "classifier")
    (run / "config.json").write_text("{}")  # the run's settings

    for named, folder in ((tiny_classifier, tiny_classifier), (run, run / "classifier")):
        found = make("on", named)
        assert isinstance(found, DebertaRetriever)
        assert found.scorer.folder == folder


def test_a_folder_without_a_classifier_is_refused(tmp_path: Path) -> None:
    """And so is a classifier where nothing is retrieved by one."""
    with pytest.raises(UsageError, match="holds no tool classifier"):
        make("on", tmp_path)
    for kind in ("off", "bm25", "gold"):
        with pytest.raises(UsageError, match=f"it is {kind}"):
            make(kind, tmp_path)
