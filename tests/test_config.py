"""User folders follow the home directory or one environment variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_tinyagent.config import Rule, Settings, paths, settings
from mlx_tinyagent.errors import ConfigError


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


def write_settings(text: str) -> Path:
    """Write the user's settings file."""
    file = paths().config / "config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_without_a_file_the_settings_are_the_defaults() -> None:
    """Nothing is needed to begin with."""
    assert settings() == Settings()


def test_settings_are_read() -> None:
    """All of them."""
    write_settings(
        'mode = "auto"\nmax_recipients = 2\ntool_seconds = 30\nsend_wait_seconds = 0\n'
        '[[rules]]\nverdict = "deny"\ntool = "send_*"\nto = "*@x.example"\n'
        '[net]\nsmtp = "smtp.example"\n'
    )
    assert settings() == Settings(
        mode="auto",
        max_recipients=2,
        tool_seconds=30,
        send_wait_seconds=0,
        rules=(Rule(verdict="deny", tool="send_*", to="*@x.example"),),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('mode = "yolo"', "one of ask, plan, auto"),
        ("mood = 1", "'mood' is no setting"),
        ("max_recipients = -1", "0 or more"),
        ("max_recipients = true", "0 or more"),
        ("tool_seconds = 0", "1 or more"),
        ("send_wait_seconds = 'x'", "a number of seconds"),
        ("rules = 3", "[[rules]]"),
        ('[[rules]]\nverdict = "maybe"', "rule 1"),
        ('[[rules]]\nverdict = "deny"\nwhom = "x"', "rule 1"),
        ('[[rules]]\nverdict = "deny"\ntool = 3', "rule 1"),
        ("mode = ", "cannot be read"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(text: str, said: str) -> None:
    """With the file, in one line."""
    file = write_settings(text)
    with pytest.raises(ConfigError) as error:
        settings()
    assert str(file) in str(error.value)
    assert said in str(error.value)
