"""The wheel: complete, without tests, and usable away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILD_FILES = ("pyproject.toml", "README.md", "LICENSE")
SETUPTOOLS = 77  # the build's lower bound in pyproject.toml

pytestmark = pytest.mark.slow


def in_checkout(path: Path) -> bool:
    """Whether a file belongs to the project, caches of tools left out."""
    parts = path.relative_to(ROOT).parts
    return path.is_file() and not any(p.startswith(".") or p == "__pycache__" for p in parts)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the checkout, without the network."""
    try:
        found = int(metadata.version("setuptools").split(".")[0])
    except metadata.PackageNotFoundError:
        found = 0
    if found < SETUPTOOLS:
        pytest.skip(f"setuptools {SETUPTOOLS} or later is not installed (found {found or 'none'})")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    hidden = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("mlx_tinyagent", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=hidden)
    for name in BUILD_FILES:
        shutil.copy(ROOT / name, source)
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(out)]
    run(sys.executable, "-m", "pip", "wheel", *options, str(source))
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of a fresh environment with the wheel in it and the other packages from ours.

    A path in a ``.pth`` file is searched after the environment's own packages
    and brings no ``.pth`` files of its own, so an editable install of the
    checkout does not show through.
    """
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    options = ["--no-deps", "--no-index", "--quiet"]
    run(sys.executable, "-m", "pip", "--python", str(python), "install", *options, str(wheel))
    packages = next((home / "lib").glob("python*/site-packages"))
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


def run(*command: str, **environment: str) -> str:
    """Run a command away from the checkout; returns stdout, fails with stderr."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd="/", env=clean | environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_in_the_package_is_in_the_wheel(wheel: Path) -> None:
    """Every module and data file of the package is there, and nothing else but metadata."""
    members = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "mlx_tinyagent").rglob("*")
        if in_checkout(path)
    }

    assert members == files


@pytest.mark.parametrize(
    "pattern",
    [
        "mlx_tinyagent/py.typed",
        "mlx_tinyagent/tools/local/world_v1.json",
        "mlx_tinyagent/tools/local/migrations/*.sql",
        "*.dist-info/licenses/LICENSE",
    ],
)
def test_what_is_not_python_is_in_the_wheel(wheel: Path, pattern: str) -> None:
    """Type marker, demonstration world, migrations and license travel with the code."""
    assert any(Path(name).match(pattern) for name in zipfile.ZipFile(wheel).namelist())


def test_metadata_names_every_backend(wheel: Path) -> None:
    """Plain MLX is required on macOS and its CPU backend on Linux; torch by one extra alone."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    needs = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-")]

    assert any(need.startswith("mlx[cpu]") and 'sys_platform == "linux"' in need for need in needs)
    assert any(need.startswith("mlx<") and 'sys_platform == "darwin"' in need for need in needs)
    torch = [need for need in needs if need.startswith("torch")]
    assert torch
    assert all('extra == "reference"' in need for need in torch)


def test_the_installed_command_runs(installed: Path, tmp_path: Path) -> None:
    """The command of a fresh environment has its version, its tools and its demonstration world."""
    command = str(installed / "mlx-tinyagent")
    where = "import mlx_tinyagent; print(mlx_tinyagent.__file__)"

    assert Path(run(str(installed / "python"), "-c", where)).is_relative_to(installed.parent)
    assert run(command, "--version").split()[-1] == metadata.version("mlx-tinyagent")
    assert "send_sms" in run(command, "tools", "list")
    assert "75 contacts" in run(command, "demo-data", MLX_TINYAGENT_HOME=str(tmp_path))
