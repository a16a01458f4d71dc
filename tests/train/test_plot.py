"""Curves are drawn from the log alone."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mlx_tinyagent.errors import InputError
from mlx_tinyagent.train.plot import Curves, draw, read_log, smooth

SVG = "{http://www.w3.org/2000/svg}"


def test_a_log_becomes_curves(tmp_path: Path) -> None:
    """Updates and evaluations are told apart; a line cut in the middle is left out."""
    lines = [
        json.dumps({"step": 1, "loss": 2.0}),
        json.dumps({"step": 2, "loss": 1.0}),
        json.dumps({"step": 2, "valid_loss": 1.5}),
        '{"step": 3, "lo',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))

    curves = read_log(tmp_path / "log.jsonl")

    assert curves == Curves(train=((1.0, 2.0), (2.0, 1.0)), valid=((2.0, 1.5),))


def test_points_stand_where_their_values_are() -> None:
    """A higher loss stands higher, a later step further right, all inside the picture."""
    curves = Curves(
        train=tuple((float(step), 3.0 - step / 50) for step in range(1, 101)),
        valid=((50.0, 2.2), (100.0, 1.4)),
    )

    root = ElementTree.fromstring(draw(curves))

    train, smoothed, valid = (
        [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
        for line in root.iter(f"{SVG}polyline")
    )
    assert len(train) == len(smoothed) == 100
    assert train == sorted(train)
    assert [y for _, y in train] == sorted(y for _, y in train)
    assert valid[0][0] < valid[1][0]
    assert valid[0][1] < valid[1][1]
    assert all(0 <= x <= 760 and 0 <= y <= 420 for x, y in (*train, *smoothed, *valid))


def test_one_point_is_a_picture() -> None:
    """A run of one update can be drawn."""
    ElementTree.fromstring(draw(Curves(train=((1.0, 2.0),), valid=())))


def test_the_running_mean_is_over_the_last_points() -> None:
    """With half of four points, each mean is over two."""
    points = [(1.0, 4.0), (2.0, 2.0), (3.0, 0.0), (4.0, 6.0)]

    assert smooth(points, share=0.5) == [(1.0, 4.0), (2.0, 3.0), (3.0, 1.0), (4.0, 3.0)]


@pytest.mark.parametrize("content", [None, "", "{}\n[]\nnull\n"])
def test_a_log_without_losses_is_one_line(tmp_path: Path, content: str | None) -> None:
    """Nothing to draw is said."""
    path = tmp_path / "log.jsonl"
    if content is not None:
        path.write_text(content)

    with pytest.raises(InputError, match=r"log\.jsonl"):
        read_log(path)
