"""Three pictures of a tool classifier, as SVG: precision and recall, calibration, tools kept."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 560, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 36, 48
_INK, _GRID, _BLUE, _RED = "#222222", "#e5e7eb", "#2f6db3", "#c2410c"
_CELL = 150  # of the small multiples
Point = tuple[float, float]


def precision_recall(pairs: Sequence[tuple[float, bool]]) -> list[Point]:
    """Return (recall, precision) from the strictest threshold to the loosest.

    Args:
        pairs: Score and truth.
    """
    total = sum(truth for _, truth in pairs)
    points: list[Point] = []
    hits = 0
    ordered = sorted(pairs, key=lambda pair: -pair[0])
    for number, (score, truth) in enumerate(ordered, start=1):
        hits += truth
        if number == len(ordered) or ordered[number][0] != score:  # equal scores stand together
            points.append((hits / total if total else 0.0, hits / number))
    return points


def average_precision(pairs: Sequence[tuple[float, bool]]) -> float:
    """Return the area under the steps of precision over recall; 0 without positives."""
    area, before = 0.0, 0.0
    for recall, precision in precision_recall(pairs):
        area += (recall - before) * precision
        before = recall
    return area


def reliability(pairs: Sequence[tuple[float, bool]], *, bins: int = 10) -> list[tuple[Point, int]]:
    """Return ((mean score, share true), count) per bin of scores that holds any."""
    found = []
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [p for p in pairs if low <= p[0] < high or (number == bins - 1 and p[0] == 1.0)]
        if inside:
            mean = sum(score for score, _ in inside) / len(inside)
            share = sum(truth for _, truth in inside) / len(inside)
            found.append(((mean, share), len(inside)))
    return found


def calibration_error(pairs: Sequence[tuple[float, bool]], *, bins: int = 10) -> float:
    """Return the expected calibration error: mean distance of score and share, by bin."""
    total = max(len(pairs), 1)
    return sum(abs(x - y) * count / total for (x, y), count in reliability(pairs, bins=bins))


def kept_curve(
    rows: Sequence[tuple[Mapping[str, float], Sequence[Sequence[str]]]],
) -> list[Point]:
    """Return (mean tools kept, share complete) over thresholds on closed scores."""
    least = [max(min(scores[n] for n in group) for group in groups) for scores, groups in rows]
    levels = sorted(set(least), reverse=True)
    step = max(1, len(levels) // 200)
    points = []
    for tau in [*levels[::step], levels[-1]] if levels else []:
        kept = sum(sum(score >= tau for score in scores.values()) for scores, _ in rows)
        points.append((kept / len(rows), sum(one >= tau for one in least) / len(rows)))
    return points


def draw_precision_recall(pairs: Mapping[str, Sequence[tuple[float, bool]]]) -> str:
    """Draw one small precision-recall curve per tool.

    Args:
        pairs: Score and truth per tool.
    """
    columns = 4
    rows = -(-len(pairs) // columns)
    parts = []
    for number, (name, found) in enumerate(pairs.items()):
        left, top = 20 + number % columns * (_CELL + 20), 40 + number // columns * (_CELL + 40)
        parts.append(_frame(left, top, _CELL, _CELL))
        points = [(0.0, 1.0), *precision_recall(found)]
        parts.append(_line([(left + _CELL * x, top + _CELL * (1 - y)) for x, y in points], _BLUE))
        label = f"{name} {average_precision(found):.3f}"
        parts.append(_text(left, top - 6, label, size=10))
    width, height = 20 + columns * (_CELL + 20), 40 + rows * (_CELL + 40)
    head = _text(20, 18, "Precision over recall per tool, with average precision")
    return _svg(width, height, [head, *parts])


def draw_reliability(pairs: Sequence[tuple[float, bool]]) -> str:
    """Draw how often what gets a probability is true.

    Args:
        pairs: Score and truth over all tools.
    """
    axes = _Axes(x=(0.0, 1.0), y=(0.0, 1.0))
    parts = axes.frame("probability", f"share true, error {calibration_error(pairs):.4f}")
    parts.append(_line([axes.at((0, 0)), axes.at((1, 1))], _GRID))
    points = [axes.at(point) for point, _ in reliability(pairs)]
    parts.append(_line(points, _BLUE))
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_BLUE}"/>' for x, y in points]
    return _svg(WIDTH, HEIGHT, parts)


def draw_kept(rows: Sequence[tuple[Mapping[str, float], Sequence[Sequence[str]]]]) -> str:
    """Draw how many tools are kept for how many complete requests.

    Args:
        rows: Closed scores and acceptable sets, per request that needs a tool.
    """
    points = kept_curve(rows)
    most = max([x for x, _ in points], default=1.0)
    low = min([y for _, y in points], default=0.0)
    axes = _Axes(x=(0.0, most), y=(min(0.8, low), 1.0))
    parts = axes.frame("tools kept on average", "share of requests with every needed tool")
    parts.append(_line([axes.at(point) for point in points], _RED))
    return _svg(WIDTH, HEIGHT, parts)


class _Axes:
    """Maps values to places of a plot."""

    def __init__(self, x: Point, y: Point) -> None:
        self.x, self.y = x, y

    def at(self, point: Point) -> Point:
        """Return the place of a value."""
        across = (point[0] - self.x[0]) / max(self.x[1] - self.x[0], 1e-9)
        up = (point[1] - self.y[0]) / max(self.y[1] - self.y[0], 1e-9)
        inner = (WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM)
        return _LEFT + inner[0] * across, _TOP + inner[1] * (1 - up)

    def frame(self, below: str, above: str) -> list[str]:
        """Return grid and labels."""
        parts = [_text(_LEFT, 20, above), _text(WIDTH / 2 - 60, HEIGHT - 8, below)]
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            x, y = (low + share * (high - low) for low, high in (self.x, self.y))
            left, bottom = self.at((self.x[0], y))
            parts.append(f'<path d="M{left:.1f} {bottom:.1f}H{WIDTH - _RIGHT}" stroke="{_GRID}"/>')
            parts.append(_text(8, bottom + 4, f"{y:.3g}"))
            parts.append(_text(self.at((x, self.y[0]))[0] - 10, HEIGHT - _BOTTOM + 18, f"{x:.3g}"))
        return parts


def _frame(left: float, top: float, width: float, height: float) -> str:
    return (
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" '
        f'stroke="{_GRID}"/>'
    )


def _line(points: Sequence[Point], color: str) -> str:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{joined}" fill="none" stroke="{color}" stroke-width="1.5"/>'


def _text(x: float, y: float, text: str, *, size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}">{html.escape(text)}</text>'


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" fill="{_INK}">'
    )
    background = f'<rect width="{width}" height="{height}" fill="white"/>'
    return "\n".join([head, background, *parts, "</svg>"]) + "\n"
