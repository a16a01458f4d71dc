"""User folders follow the home directory or one environment variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_tinyagent.config import paths


def test_usual_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Settings, data and cache live in the customary places."""
    monkeypatch.delenv("MLX_TINYAGENT_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = paths()
    assert found.config == tmp_path / ".config" / "mlx-tinyagent"
    assert found.data == tmp_path / ".local" / "share" / "mlx-tinyagent"
    assert found.cache == tmp_path / ".cache" / "mlx-tinyagent"
    assert found.models == found.cache / "models"


def test_one_variable_moves_all_three(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty value counts as not set."""
    monkeypatch.setenv("MLX_TINYAGENT_HOME", str(tmp_path / "h"))
    found = paths()
    roots = {found.config.parent, found.data.parent, found.cache.parent}
    assert roots == {tmp_path / "h"}
    monkeypatch.setenv("MLX_TINYAGENT_HOME", "")
    assert paths().cache.name == "mlx-tinyagent"
