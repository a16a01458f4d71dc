"""The project as a whole: version, packaged files, lean help, honest language."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_changelog_names_the_version() -> None:
    """The newest entry of the changelog is the package's version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    entry = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert entry is not None
    assert entry[1] == version


def test_help_loads_nothing_heavy() -> None:
    """``--help`` imports neither MLX, mlx-lm, transformers, NumPy nor the terminal libraries."""
    code = (
        "import sys\n"
        "from mlx_tinyagent.cli.main import cli\n"
        "try:\n cli.main(['--help'], standalone_mode=True)\nexcept SystemExit:\n pass\n"
        "print(sorted(set(sys.modules) & {'mlx', 'mlx_lm', 'transformers', 'numpy', 'rich',"
        " 'prompt_toolkit', 'llguidance', 'pypdf'}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "Commands:" in done.stdout
    assert done.stderr.strip() == "[]"


def test_public_names() -> None:
    """The documented names can be imported from the package, and nothing else is promised."""
    import mlx_tinyagent

    assert mlx_tinyagent.__all__ == ["Agent", "Plan", "Tool", "load", "tool"]
    for name in mlx_tinyagent.__all__:
        assert getattr(mlx_tinyagent, name).__name__ == name


def test_every_data_file_is_packaged() -> None:
    """Files in the package that are not Python match a pattern of the package data."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]["mlx_tinyagent"]
    package = ROOT / "mlx_tinyagent"
    packaged = {path for pattern in patterns for path in package.glob(pattern)}
    files = {
        path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")
    }

    assert files <= packaged
