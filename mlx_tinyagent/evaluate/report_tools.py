"""The report of a retrieval run: figures, tools, the cost of recall, and incomplete sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from mlx_tinyagent.evaluate.harness_tools import FIGURES
from mlx_tinyagent.evaluate.report_graph import clip
from mlx_tinyagent.evaluate.report_page import (
    figure_rows,
    footer,
    page,
    share,
    strata_tables,
    table,
)

MAX_SHOWN = 500  # requests in the list
STRATA_FIGURES = ("full_recall", "micro_recall", "exact", "mean_tools", "fire_near", "fire_far")


def render(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> str:
    """Return the page of a run.

    Args:
        rows: The items of the run.
        summary: Its summary, with configuration and machine.
    """
    missed = [row for row in rows if row["figures"].get("full_recall") == 0.0]
    config = summary["config"]
    body = [
        f'<p class="soft">Retriever: {escape(config["retriever"])}; rows where a question is right '
        f"are left out: {summary['left_out']}</p>",
        "<h2>Figures</h2>",
        figure_rows(summary["figures"], FIGURES),
        *strata_tables(summary["strata"], STRATA_FIGURES),
        "<h2>By tool</h2>",
        _tools(summary["tools"]),
        *_curve(summary["top_k"]),
        "<h2>Requests that miss a tool they need</h2>",
        f'<p class="soft">{min(len(missed), MAX_SHOWN):,} of {len(missed):,} shown</p>',
        _missed(missed[:MAX_SHOWN]),
        footer(summary),
    ]
    return page(f"Tools for {config['data']['file']}", body)


def _tools(tools: Mapping[str, Mapping[str, Any]]) -> str:
    counts = ("wanted", "offered", "both")
    rows = [
        [
            escape(clip(name, 60)),
            *(f"{line[key]:,}" for key in counts),
            share(line["precision"]),
            share(line["recall"]),
            f"{line['offered_near']:,}",
            f"{line['offered_far']:,}",
        ]
        for name, line in tools.items()
    ]
    head = ["tool", *counts, "precision", "recall", "offered near", "offered far"]
    return table(head, rows)


def _curve(curve: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of full recall by the number of tools kept; none where none is ranked."""
    if not curve:
        return []
    rows = [
        [
            str(point["k"]),
            f"{point['mean_tools']:.2f}",
            share(point["full_recall"]["value"]),
            f"{share(point['full_recall']['low'])} \u2013 {share(point['full_recall']['high'])}",
        ]
        for point in curve
    ]
    head = ["k best kept", "offered, producers included", "complete", "95 % interval"]
    return ["<h2>What recall costs</h2>", table(head, rows)]


def _missed(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for row in rows:
        offered = set(row["tools"])
        lacks = min((sorted(set(group) - offered) for group in row["any_of"]), key=len)
        lines.append(
            [
                escape(row["id"]),
                f'<span class="soft">{escape(clip(row["query"], 300))}</span>',
                escape(clip(", ".join(lacks), 200)),
                f"{len(offered)}",
            ]
        )
    return table(["row", "request", "missing", "offered"], lines)
