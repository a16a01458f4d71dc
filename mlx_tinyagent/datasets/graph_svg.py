"""Draws a plan's graph as inline SVG: calls in columns by depth, arrows for references."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from mlx_tinyagent.datasets.record import Call, references

WIDTH, HEIGHT = 236, 52  # of a call's box, in pixels
GAP_X, GAP_Y = 56, 14
MAX_CHARS = 34  # of the line with the arguments


def draw(calls: Sequence[Call]) -> str:
    """Return a plan's graph as an ``<svg>`` element; empty for an empty plan.

    A call stands one column to the right of the last call it reads.
    """
    if not calls:
        return ""
    depth: dict[int, int] = {}
    for call in calls:
        depth[call.id] = 1 + max(
            (depth[k] for k in references(call.args) if k in depth), default=-1
        )
    rows: dict[int, int] = {}
    place: dict[int, tuple[int, int]] = {}
    for call in calls:
        column = depth[call.id]
        row = rows.get(column, 0)
        rows[column] = row + 1
        place[call.id] = (4 + column * (WIDTH + GAP_X), 4 + row * (HEIGHT + GAP_Y))
    width = 8 + (max(depth.values()) + 1) * (WIDTH + GAP_X) - GAP_X
    height = 8 + max(rows.values()) * (HEIGHT + GAP_Y) - GAP_Y
    arrows = [
        _arrow(place[k], place[call.id])
        for call in calls
        for k in sorted(set(references(call.args)))
        if k in place
    ]
    boxes = [_box(call, *place[call.id]) for call in calls]
    return (
        f'<svg class="plan" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="{escape(describe(calls), quote=True)}">'
        + "".join([*arrows, *boxes])
        + "</svg>"
    )


def describe(calls: Sequence[Call]) -> str:
    """Say a graph in words, for those who do not see it."""
    parts = []
    for call in calls:
        reads = sorted(set(references(call.args)))
        after = f" after {', '.join(map(str, reads))}" if reads else ""
        parts.append(f"{call.id} {call.tool}{after}")
    return "; ".join(parts)


def _box(call: Call, x: int, y: int) -> str:
    arguments = ", ".join(_short(arg) for arg in call.args if arg not in ("", None, [], False))
    if len(arguments) > MAX_CHARS:
        arguments = arguments[: MAX_CHARS - 1] + "…"
    return (
        f'<g><rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{x + 10}" y="{y + 21}" class="tool">{call.id}. {escape(call.tool)}</text>'
        f'<text x="{x + 10}" y="{y + 40}" class="args">{escape(arguments)}</text></g>'
    )


def _short(arg: Any) -> str:
    if isinstance(arg, list | tuple):
        return "[" + ", ".join(_short(item) for item in arg) + "]"
    return f"“{arg}”" if isinstance(arg, str) and not arg.startswith("$") else str(arg)


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    """Draw a curve from one box's right side to another's left side, with a head."""
    x1, y1 = start[0] + WIDTH, start[1] + HEIGHT // 2
    x2, y2 = end[0] - 1, end[1] + HEIGHT // 2
    middle = (x1 + x2) // 2
    return (
        f'<path class="edge" d="M{x1} {y1} C{middle} {y1} {middle} {y2} {x2 - 6} {y2}"/>'
        f'<path class="head" d="M{x2} {y2} l-8 -4 v8 z"/>'
    )
