"""Fixtures of this folder: the tiny model and what belongs to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlx_tinyagent.models.tokenizer import Tokenizer
from tests.decode.tiny import VOCABULARY, write_model

if TYPE_CHECKING:
    from mlx_tinyagent.models.language import LanguageModel


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random llama."""
    return write_model(tmp_path_factory.mktemp("decode") / "tiny")


@pytest.fixture(scope="session")
def tokenizer(tiny_folder: Path) -> Tokenizer:
    """The tiny model's tokenizer."""
    return Tokenizer(tiny_folder, n_vocab=VOCABULARY)


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> LanguageModel:
    """The tiny model, loaded once."""
    from mlx_tinyagent.models.language import load

    return load(tiny_folder)
