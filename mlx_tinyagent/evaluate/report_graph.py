"""Draws a plan's graph for the failure browser: calls in columns by depth, arrows for references.

Total: whatever a planner wrote is drawn or, if it is too large, told in words.
Marks say how a call compares with the other plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Literal

from mlx_tinyagent.evaluate.calls import Call, dependencies

Mark = Literal["same", "differs", "alone"]  # alone: without a counterpart in the other plan

MAX_NODES = 16
WIDTH, GAP_X, GAP_Y = 196, 34, 12  # pixels
LINE, PADDING = 15, 9
LINE_CHARS, MAX_LINES = 28, 3  # of a call's arguments

_SIGNS: Mapping[Mark, str] = {"same": "", "differs": "\u2260", "alone": "\u2715"}


def draw(calls: Sequence[Call], marks: Mapping[int, Mark] | None = None) -> str:
    """Return a plan's graph as ``<svg>``; a plan of more than 16 calls as a sentence.

    Args:
        calls: The calls; references follow printed numbers.
        marks: Mark by place (from 0); calls without one are ``same``.
    """
    if len(calls) > MAX_NODES:
        names = ", ".join(dict.fromkeys(clip(call.tool, 40) for call in calls[:MAX_NODES]))
        return (
            f'<p class="soft">{len(calls)} calls, too many to draw; the first: {escape(names)}</p>'
        )
    reads = dependencies(calls)
    columns = _columns(reads)
    texts = [_wrapped(call) for call in calls]
    heights = [2 * PADDING + LINE * (1 + len(lines)) for lines in texts]
    boxes = _places(columns, heights)
    width = max(x for x, _ in boxes) + WIDTH + 2
    height = max(y + heights[place] for place, (_, y) in enumerate(boxes)) + 2
    arrows = [
        _arrow(boxes[source], heights[source], boxes[place], heights[place])
        for place, sources in enumerate(reads)
        for source in sources
    ]
    nodes = [
        _box(call, texts[place], boxes[place], heights[place], (marks or {}).get(place, "same"))
        for place, call in enumerate(calls)
    ]
    return (
        f'<svg class="graph" viewBox="0 0 {width} {height}" style="max-width:{width}px" '
        f'role="img" aria-label="{escape(describe(calls), quote=True)}">'
        f"{''.join(arrows)}{''.join(nodes)}</svg>"
    )


def describe(calls: Sequence[Call]) -> str:
    """Say a graph in words, for those who do not see it."""
    parts = []
    for call, sources in zip(calls, dependencies(calls), strict=True):
        after = f" after {', '.join(str(calls[s].id) for s in sources)}" if sources else ""
        parts.append(f"{call.id} {clip(call.tool, 60)}{after}")
    return "; ".join(parts)


def clip(text: str, length: int) -> str:
    """Cut a text that is too long to show."""
    return text if len(text) <= length else text[: length - 1] + "\u2026"


def show(value: object) -> str:
    """Write an argument for people: texts in quotes, references and numbers bare."""
    if isinstance(value, str):
        return value if value.startswith("$") else f"\u201c{value}\u201d"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(show(item) for item in value[:MAX_NODES]) + "]"
    return str(value)


def _columns(reads: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """Group places by depth; in a column, calls stand near those they read.

    ``dependencies`` names earlier places only, so one pass finds the depths.
    """
    depth: list[int] = []
    for sources in reads:
        depth.append(1 + max((depth[source] for source in sources), default=-1))
    columns: list[list[int]] = [[] for _ in range(max(depth) + 1)]
    for place, level in enumerate(depth):
        columns[level].append(place)
    row: dict[int, float] = {}
    for column in columns:
        means = {
            place: sum(row[s] for s in reads[place]) / len(reads[place]) if reads[place] else place
            for place in column
        }
        column.sort(key=lambda place: (means[place], place))
        row.update({place: number for number, place in enumerate(column)})
    return columns


def _places(columns: Sequence[Sequence[int]], heights: Sequence[int]) -> list[tuple[int, int]]:
    """Return the upper left corner of each call's box; columns are centered."""
    totals = [sum(heights[p] + GAP_Y for p in column) - GAP_Y for column in columns]
    boxes = [(0, 0)] * len(heights)
    for level, column in enumerate(columns):
        y = 1 + (max(totals) - totals[level]) // 2
        for place in column:
            boxes[place] = (1 + level * (WIDTH + GAP_X), y)
            y += heights[place] + GAP_Y
    return boxes


def _wrapped(call: Call) -> list[str]:
    """Return a call's arguments in a few short lines; empty ones are left out."""
    said = [show(arg) for arg in call.args[:MAX_NODES] if arg not in ("", None, [], ())]
    text = " ".join(", ".join(clip(part, 2 * LINE_CHARS) for part in said).split())
    lines: list[str] = []
    while text and len(lines) < MAX_LINES:
        cut = text if len(text) <= LINE_CHARS else text[: text.rfind(" ", 1, LINE_CHARS + 1)]
        cut = cut if 0 < len(cut) <= LINE_CHARS else text[:LINE_CHARS]
        lines.append(cut)
        text = text[len(cut) :].strip()
    if text and lines:
        lines[-1] = clip(lines[-1] + text, LINE_CHARS)
    return lines


def _box(call: Call, lines: Sequence[str], corner: tuple[int, int], height: int, mark: Mark) -> str:
    x, y = corner
    title = clip(f"{call.id}. {call.tool}", 28)
    rows = "".join(
        f'<text class="args" x="{x + 10}" y="{y + PADDING + 12 + LINE * number}">'
        f"{escape(line)}</text>"
        for number, line in enumerate(lines, start=1)
    )
    sign = f'<text class="sign" x="{x + WIDTH - 17}" y="{y + 21}">{_SIGNS[mark]}</text>'
    return (
        f'<g class="{mark}"><rect x="{x}" y="{y}" width="{WIDTH}" height="{height}" rx="6"/>'
        f'<text class="tool" x="{x + 10}" y="{y + PADDING + 12}">{escape(title)}</text>'
        f"{rows}{sign if mark != 'same' else ''}</g>"
    )


def _arrow(start: tuple[int, int], start_height: int, end: tuple[int, int], end_height: int) -> str:
    """Draw a curve from a box's right side to another's left side, with a head."""
    x1, y1 = start[0] + WIDTH, start[1] + start_height // 2
    x2, y2 = end[0] - 1, end[1] + end_height // 2
    middle = (x1 + x2) // 2
    return (
        f'<path class="edge" d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2 - 6} {y2}"/>'
        f'<path class="head" d="M{x2} {y2}l-8 -4v8z"/>'
    )
