"""What both reports share: style, tables with intervals, one safe self-contained page.

The page loads nothing. Its policy forbids everything but its own style and the
one script whose hash it names, so that text from a data file stays text even
if an escape were missed.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

Interval = Mapping[str, float]
COUNTED = ("mean_tools", "mean_tools_near", "mean_tools_far")  # figures that are no shares
MEANING = "what it says"
TEXT_COLUMNS = (MEANING, "request")  # sentences stand on the left

STYLE = """
:root{color-scheme:light dark;--ink:#1b2330;--soft:#5a6577;--line:#d5dce6;--back:#fff;
--card:#f5f7fa;--blue:#2f66b3;--band:#b9d0ee;--red:#b3261e;--amber:#8a5a00;--green:#1e6b3a}
@media (prefers-color-scheme:dark){:root{--ink:#e4e9f1;--soft:#9ba7b9;--line:#364152;
--back:#11151b;--card:#191f29;--blue:#83aeea;--band:#34507a;--red:#f2938c;--amber:#e3b158;--green:#84cf9c}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1320px;margin:0 auto;padding:26px 20px 60px}
h1{font-size:25px;margin:0}h2{font-size:19px;margin:38px 0 10px}
.soft{color:var(--soft)}p{margin:4px 0}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums}
th,td{padding:4px 12px 4px 0;text-align:right;white-space:nowrap;
border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--soft)}th:first-child,td:first-child,th.left{text-align:left}
td.meaning{white-space:normal;text-align:left;color:var(--soft);min-width:260px}
.bar{display:inline-block;position:relative;width:150px;height:10px;background:var(--card);
border:1px solid var(--line);vertical-align:middle}
.bar i{position:absolute;top:0;bottom:0;background:var(--band)}
.bar b{position:absolute;top:-3px;bottom:-3px;width:2px;background:var(--blue)}
.controls{display:flex;flex-wrap:wrap;gap:10px;align-items:center;margin:10px 0 16px}
select,input{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);
border-radius:6px;padding:4px 8px}
article{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px;
margin:0 0 14px}
article[hidden]{display:none}
.query{font-size:16px;margin:6px 0 10px;overflow-wrap:anywhere;white-space:pre-wrap}
.chip{display:inline-block;border:1px solid var(--line);border-radius:10px;padding:0 9px;
font-size:12.5px;margin-right:6px}
.chip.reason{border-color:var(--red);color:var(--red)}.chip.good{border-color:var(--green);
color:var(--green)}
.sides{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:18px}
@media (max-width:860px){.sides{grid-template-columns:minmax(0,1fr)}}
.sides h3{font-size:13px;margin:0 0 6px;color:var(--soft);font-weight:600}
.graph{width:100%;height:auto;display:block}
.graph rect{fill:var(--back);stroke:var(--line)}.graph text{fill:var(--ink);font-size:12.5px}
.graph .args{fill:var(--soft);font-size:11.5px}.graph .edge{fill:none;stroke:var(--blue);
stroke-width:1.4}.graph .head{fill:var(--blue)}
.graph .differs rect{stroke:var(--amber);stroke-width:1.8}.graph .differs .sign{fill:var(--amber)}
.graph .alone rect{stroke:var(--red);stroke-width:1.8;stroke-dasharray:5 3}
.graph .alone .sign{fill:var(--red)}.graph .sign{font-weight:700;font-size:14px}
.faults{margin:10px 0 0;padding-left:18px;font-size:13.5px;overflow-wrap:anywhere}
footer{margin-top:44px;border-top:1px solid var(--line);padding-top:12px;font-size:13px;
color:var(--soft);overflow-wrap:anywhere}
"""


def page(title: str, body: Iterable[str], *, script: str = "") -> str:
    """Put a page together.

    Args:
        title: Its heading, plain text.
        body: HTML; everything from a data file in it is escaped already.
        script: The one script that may run.
    """
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>",
        f"<h1>{escape(title)}</h1>",
        *body,
        "</main>",
        f"<script>{script}</script>" if script else "",
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def figure_rows(figures: Mapping[str, Interval], meanings: Mapping[str, str]) -> str:
    """Return the table of all figures, each with its interval drawn and what it says."""
    rows = [
        [
            escape(name),
            number(name, found["value"]),
            f"{number(name, found['low'])} \u2013 {number(name, found['high'])}",
            "" if name in COUNTED else interval_bar(found),
            f"{found['n']:,}",
            meaning(meanings.get(name, "")),
        ]
        for name, found in figures.items()
    ]
    return table(["figure", "value", "95 % interval", "", "n", MEANING], rows)


def meaning(text: str) -> str:
    """Return a cell with a sentence."""
    return f'<span class="soft">{escape(text)}</span>'


def number(name: str, value: float) -> str:
    """Write a share in percent, a count as it is."""
    return f"{value:.1f}" if name in COUNTED else f"{100 * value:.1f} %"


def interval_bar(found: Interval) -> str:
    """Draw an interval between 0 and 1 with its value."""
    low, high, value = (min(max(found[key], 0.0), 1.0) for key in ("low", "high", "value"))
    return (
        f'<span class="bar"><i style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></i>'
        f'<b style="left:calc({100 * value:.1f}% - 1px)"></b></span>'
    )


def strata_tables(
    strata: Mapping[str, Mapping[str, Mapping[str, Any]]], shown: Sequence[str]
) -> Iterable[str]:
    """Yield a table per stratum with the figures that some group of it has."""
    for name, groups in strata.items():
        figures = [f for f in shown if any(f in group["figures"] for group in groups.values())]
        rows = [
            [escape(value), f"{group['rows']:,}", *(_cell(group["figures"], f) for f in figures)]
            for value, group in groups.items()
        ]
        yield f"<h2>By {escape(name)}</h2>"
        yield table([name, "rows", *figures], rows)


def _cell(figures: Mapping[str, Interval], name: str) -> str:
    found = figures.get(name)
    if found is None:
        return "\u2013"
    low, high = number(name, found["low"]), number(name, found["high"])
    return (
        f"{number(name, found['value'])} "
        f'<span class="soft">({low.removesuffix(" %")}\u2013{high.removesuffix(" %")})</span>'
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; headings are text, cells are HTML."""
    top = "".join(f"<th{_heading(name)}>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td{_class(cell)}>{cell}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def _heading(name: str) -> str:
    return ' class="left"' if name in TEXT_COLUMNS else ""


def _class(cell: str) -> str:
    return ' class="meaning"' if cell.startswith('<span class="soft">') else ""


def share(value: float | None) -> str:
    """Write a share, or a dash where there is none."""
    return "\u2013" if value is None else f"{100 * value:.1f} %"


def footer(summary: Mapping[str, Any]) -> str:
    """Say on which machine and from what a run was made."""
    config, machine = summary["config"], summary["machine"]
    data = config["data"]
    packages = ", ".join(f"{name} {found}" for name, found in machine["packages"].items() if found)
    lines = [
        f"Data: {data['file']} ({data['format']}), {data['rows']:,} rows, "
        f"{data['skipped']} skipped, sha256 {data['sha256']}",
        f"Tools: {config['tools']['name']}, {len(config['tools']['fingerprints'])}",
        f"Intervals: 95 %, bootstrap, seed {config['seed']}",
        f"Machine: {machine['processor'] or machine['machine']}, {machine['cores']} cores, "
        f"{machine['system']}, Python {machine['python']}",
        f"Versions: {packages}",
    ]
    return "<footer>" + "".join(f"<p>{escape(line)}</p>" for line in lines) + "</footer>"
