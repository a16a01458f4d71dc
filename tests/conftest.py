"""Shared fixtures: a user folder of its own for every test, the real weights once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlx_tinyagent.config import HOME_VARIABLE, paths

if TYPE_CHECKING:
    from mlx_tinyagent.models.language import LanguageModel

SHARED = Path(__file__).resolve().parents[1] / "../shared/data"
DEFAULT_MODEL = "smollm2-135m"


@pytest.fixture(autouse=True)
def user_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has user folders of its own; nothing of the real ones is read or written."""
    home = tmp_path / "home"
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    return home


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """Ctrl-C raises, even where the tests run in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The shared data sets; skips, counted, where they are not beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the shared data sets are not beside the checkout")
    return SHARED.resolve()


@pytest.fixture(scope="session")
def weights() -> Path:
    """Folder of the default model in the user's own cache, fetched once if a source answers."""
    from mlx_tinyagent.errors import TinyAgentError
    from mlx_tinyagent.models.fetch import pull
    from mlx_tinyagent.models.registry import local_path, resolve

    with pytest.MonkeyPatch.context() as patch:
        real = _REAL_HOME
        if real is None:
            patch.delenv(HOME_VARIABLE, raising=False)
        else:
            patch.setenv(HOME_VARIABLE, real)
        folder = local_path(DEFAULT_MODEL)
        if folder is None:
            try:
                folder = pull(resolve(DEFAULT_MODEL))
            except TinyAgentError as error:
                pytest.skip(f"the default model cannot be fetched: {error}")
    return folder


@pytest.fixture(scope="session")
def model(weights: Path) -> LanguageModel:
    """The default model, loaded once."""
    from mlx_tinyagent.models.language import load

    return load(weights)


@pytest.fixture
def home_with_model(user_home: Path, weights: Path) -> Path:
    """The test's own user folders, with the default model in its cache."""
    folder = paths().models
    folder.mkdir(parents=True)
    (folder / DEFAULT_MODEL).symlink_to(weights, target_is_directory=True)
    return user_home


_REAL_HOME = os.environ.get(HOME_VARIABLE)
