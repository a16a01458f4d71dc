"""Loss curves as SVG, from the log alone."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_tinyagent.errors import InputError

WIDTH, HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 44, 48
_LEGEND = 150  # width of an entry
TRAIN, SMOOTH, VALID, _INK = "#c8d3e0", "#2f6db3", "#c2410c", "#222222"
Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """What a log holds.

    Attributes:
        train: Step and loss of every update.
        valid: Step and loss of every evaluation.
    """

    train: tuple[Point, ...]
    valid: tuple[Point, ...]


def read_log(path: Path) -> Curves:
    """Read a run's log; a last line that was cut is left out.

    Raises:
        InputError: The file cannot be read or holds no loss.
    """
    train: list[Point] = []
    valid: list[Point] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the log {path} cannot be read: {error}") from error
    for line in lines:
        try:
            entry = json.loads(line)
            step = float(entry["step"])
            for name, points in (("loss", train), ("valid_loss", valid)):
                if name in entry and math.isfinite(entry[name]):
                    points.append((step, float(entry[name])))
        except (ValueError, KeyError, TypeError):
            continue
    if not train and not valid:
        raise InputError(f"the log {path} holds no loss; it is written by train planner")
    return Curves(train=tuple(train), valid=tuple(valid))


def smooth(points: Sequence[Point], *, share: float = 0.05) -> list[Point]:
    """Return the running mean over a share of the points."""
    span = max(1, round(len(points) * share))
    means = []
    total = 0.0
    for index, (step, value) in enumerate(points):
        total += value
        if index >= span:
            total -= points[index - span][1]
        means.append((step, total / min(index + 1, span)))
    return means


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line of a picture.

    Attributes:
        name: In the legend; empty for none.
        points: Its points.
        color: CSS color.
        width: Of the line; 0 for points alone.
        dots: Whether each point has a dot.
    """

    name: str
    points: tuple[Point, ...]
    color: str
    width: float = 2.0
    dots: bool = False


def draw(curves: Curves) -> str:
    """Draw the curves.

    Returns:
        An SVG document.
    """
    last = max(step for step, _ in (*curves.train, *curves.valid))
    marks = [(last * share, str(round(last * share))) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    lines = [
        Series(name="", points=curves.train, color=TRAIN, width=1.0),
        Series(name="training", points=tuple(smooth(curves.train)), color=SMOOTH),
        Series(name="validation", points=curves.valid, color=VALID, dots=True),
    ]
    return picture(
        lines,
        title="Loss against updates",
        across="updates",
        up="loss, nats per plan token",
        marks=marks,
    )


def picture(
    lines: Sequence[Series],
    *,
    title: str,
    across: str,
    up: str,
    marks: Sequence[tuple[float, str]],
) -> str:
    """Draw lines over one another, the vertical axis fitted to them.

    Args:
        lines: What to draw, the first at the back.
        title: For readers that see no picture.
        across: What the horizontal axis is.
        up: What the vertical axis is.
        marks: Values on the horizontal axis with their labels, from its left end to its right.

    Returns:
        An SVG document.
    """
    values = [value for line in lines for _, value in line.points]
    low, high, ticks = _ticks(min(values), max(values))
    inner = (WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM)
    left, right = marks[0][0], marks[-1][0]

    def at(point: Point) -> str:
        x = _LEFT + inner[0] * (point[0] - left) / ((right - left) or 1.0)
        y = _TOP + inner[1] * (high - point[1]) / (high - low)
        return f"{x:.1f},{y:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12" '
        f'fill="{_INK}">',
        f"<title>{html.escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for tick in ticks:
        x, y = at((left, tick)).split(",")
        parts.append(f'<path d="M{x} {y}H{WIDTH - _RIGHT}" stroke="#e5e7eb"/>')
        parts.append(
            f'<text x="{_LEFT - 8}" y="{float(y) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    for value, label in marks:
        x = at((value, low)).split(",")[0]
        parts.append(
            f'<text x="{x}" y="{HEIGHT - _BOTTOM + 20}" text-anchor="middle">'
            f"{html.escape(label)}</text>"
        )
    middle = _LEFT + inner[0] / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(across)}</text>'
    )
    parts.append(f'<text x="{_LEFT}" y="18">{html.escape(up)}</text>')
    for line in lines:
        if line.width:
            parts.append(_line([at(point) for point in line.points], line.color, line.width))
        for point in line.points if line.dots else ():
            x, y = at(point).split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{line.color}"/>')
    named = [line for line in lines if line.name]
    for place, line in enumerate(named):
        start = WIDTH - _LEGEND * (len(named) - place)
        parts.append(f'<path d="M{start} 14h24" stroke="{line.color}" stroke-width="2"/>')
        parts.append(f'<text x="{start + 30}" y="18">{html.escape(line.name)}</text>')
    return "\n".join([*(part for part in parts if part), "</svg>"]) + "\n"


def _line(points: Sequence[str], color: str, width: float) -> str:
    if not points:
        return ""
    joined = " ".join(points)
    return f'<polyline points="{joined}" fill="none" stroke="{color}" stroke-width="{width:g}"/>'


def _ticks(low: float, high: float) -> tuple[float, float, list[float]]:
    """Return round limits around a range of values, and round values between them."""
    span = max(high - low, 1e-3)
    raw = span / 5
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    last += first == last
    ticks = [round(number * step, 10) for number in range(first, last + 1)]
    return ticks[0], ticks[-1], ticks
