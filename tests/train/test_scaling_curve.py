"""The scaling curve: a weighted line over the logarithm of examples, drawn from results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "scaling_curve.py"
SVG = "{http://www.w3.org/2000/svg}"


def result(folder: Path, value: float, rows: int) -> str:
    """Write a result and return its folder's name."""
    folder.mkdir()
    figure = {"value": value, "low": value - 0.05, "high": value + 0.05, "n": rows}
    (folder / "summary.json").write_text(json.dumps({"figures": {"tinyagent_success": figure}}))
    return str(folder)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )


def test_the_line_is_the_weighted_fit(tmp_path: Path) -> None:
    """Slope and goal agree with NumPy's weighted fit; every result has a dot and a whisker."""
    points = {1000: (0.30, 150), 4000: (0.52, 150), 16000: (0.66, 50)}
    given = [f"{n}={result(tmp_path / str(n), *found)}" for n, found in points.items()]
    out = tmp_path / "curve.svg"

    done = run(*given[::-1], "--out", str(out), "--goal", "0.8")

    x = np.log(list(points))
    y, weight = np.array(list(points.values())).T
    slope, start = np.polyfit(x, y, 1, w=np.sqrt(weight))
    assert done.returncode == 0, done.stderr
    assert f"fit: {slope * np.log(2):+.1%} for every doubling" in done.stdout
    assert f"80% would be reached after about {np.exp((0.8 - start) / slope):,.0f}" in done.stdout
    root = ElementTree.fromstring(out.read_text())
    dots = [float(dot.attrib["cx"]) for dot in root.iter(f"{SVG}circle")]
    assert dots == sorted(dots)
    assert len(dots) == 3
    assert len(list(root.iter(f"{SVG}polyline"))) == 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["x=a"], "'x=a' is not EXAMPLES=FOLDER"),
        (["100=missing"], "has no figure 'tinyagent_success'"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, given: list[str], message: str) -> None:
    """Wrong arguments and folders without results are said, and nothing is written."""
    done = run(*given, "--out", str(tmp_path / "curve.svg"))

    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "curve.svg").exists()
