"""The page of what a recipe left: one section per kind of part, figures before details.

Everything from a file is shown as text; drawings are made here from figures.
A part whose figures are not where this version puts them is left out and named.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlx_tinyagent.cli.eval import HEADLINES
from mlx_tinyagent.cli.report_collect import Collected, Kind, Part
from mlx_tinyagent.evaluate.harness_run import describe_machine
from mlx_tinyagent.evaluate.report_page import interval_bar, number, page, share, table

MAX_TOOLS = 24  # of a data set, shown
LINKED: Mapping[str, tuple[str, str]] = {  # pages that commands write beside a part
    "plans": ("report.html", "row by row"),
    "tools": ("report.html", "request by request"),
    "quantization": ("quantization_report.html", "bits per matrix"),
}
# Figures of an evaluation that stand side by side; its own page has all.
SHOWN = (*HEADLINES[:2], "graph_match", *HEADLINES[2:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page that was put together.

    Attributes:
        html: The document.
        shown: What is on it, in words.
        left_out: Files that could not be shown, each with the reason.
    """

    html: str
    shown: str
    left_out: tuple[str, ...]


def render(found: Collected, *, title: str, beside: Path) -> Page:
    """Put the page together.

    Args:
        found: What a recipe left.
        title: Its heading, plain text.
        beside: Folder the page will stand in, which its links start from.
    """
    body: list[str] = []
    shown: list[str] = []
    left_out = list(found.unreadable)

    def guarded(what: str, lines: Iterator[str]) -> list[str]:
        """Return lines, or none where a file holds something else than this version writes."""
        try:
            return list(lines)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            left_out.append(f"{what}: not as this version writes it, {error!r}")
            return []

    for kinds, heading, section in _SECTIONS:
        drawn = []
        for part in found.of(*kinds):
            lines = guarded(f"{part.name} ({part.kind})", section(part))
            drawn += ["\n".join([_name(part, beside), *lines])] if lines else []
        if drawn:
            body += [f"<h2>{escape(heading)}</h2>", *drawn]
            shown.append(f"{heading.lower()} ({len(drawn)})")
    first = guarded("side by side", _side_by_side(found.of("plans")))
    first += guarded("compared", _compared(found.of("plans"), left_out))
    if left_out:
        body += ["<h2>Left out</h2>", *(f"<p>{escape(line)}</p>" for line in left_out)]
    html = page(title, [*first, *body, _footer(found)])
    return Page(html=html, shown=", ".join(shown) or "nothing", left_out=tuple(left_out))


def _name(part: Part, beside: Path) -> str:
    """Head a part with its place, linked to its own page where it has one."""
    text = escape("in the folder itself" if part.name == "." else part.name)
    file, says = LINKED.get(part.kind) or ("", "")
    link = ""
    if file and (part.folder / file).is_file():
        target = quote(os.path.relpath(part.folder / file, beside))
        link = f' <a href="{target}">{says}</a>'
    return f'<h3 id="{escape(part.kind)}-{quote(part.name)}">{text}{link}</h3>'


def _side_by_side(parts: Sequence[Part]) -> Iterator[str]:
    """Yield the figures of all evaluations in one table, the oldest on the left."""
    summaries = {part.name: part.found for part in parts if "figures" in part.found}
    if not summaries:
        return
    yield "<h2>Plans, side by side</h2>"
    rows = []
    for name in SHOWN:
        values = [summary["figures"].get(name) for summary in summaries.values()]
        if any(values):
            rows.append([escape(name), *(_figure(name, value) for value in values)])
    yield table(["figure", *summaries], rows)


def _figure(name: str, value: Mapping[str, float] | None) -> str:
    if not value:
        return "\u2013"
    ends = f"{number(name, value['low'])} \u2013 {number(name, value['high'])}"
    return f"{number(name, value['value'])} ({ends}), n {value['n']:,}"


def _compared(parts: Sequence[Part], left_out: list[str]) -> Iterator[str]:
    """Yield, for each evaluation after the first of the same rows, what it is better at."""
    from mlx_tinyagent.errors import TinyAgentError
    from mlx_tinyagent.evaluate.harness_compare import compare
    from mlx_tinyagent.evaluate.harness_run import read_rows

    first: dict[str, Part] = {}
    for part in parts:
        base = first.setdefault(part.found["config"]["data"]["sha256"], part)
        if base is part:
            continue
        try:
            found = compare(read_rows(base.folder), read_rows(part.folder))
        except TinyAgentError as error:
            left_out.append(f"{base.name} against {part.name}: {error}")
            continue
        rows = [
            [
                escape(line.figure),
                f"{line.n:,}",
                *(number(line.figure, value) for value in (line.first, line.second)),
                f"{100 * line.difference:+.1f} ({100 * line.low:+.1f} to {100 * line.high:+.1f})",
                "\u2013" if line.p is None else f"{line.p:.3g}",
            ]
            for line in found.figures
            if line.figure in SHOWN
        ]
        yield f"<h3>{escape(base.name)} against {escape(part.name)}, on {found.common:,} rows</h3>"
        yield table(["figure", "n", base.name, part.name, "difference, points (95 %)", "p"], rows)


def _data(part: Part) -> Iterator[str]:
    """Count a data set, a side per column."""
    sides = part.found["sides"]
    names = [Path(name).stem for name in sides]
    total = ["rows", "distinct_requests", "with_history"]
    rows = [[n.replace("_", " "), *(f"{side[n]:,}" for side in sides.values())] for n in total]
    for group in ("kinds", "sources", "arguments"):
        keys = dict.fromkeys(key for side in sides.values() for key in side[group])
        rows += [
            [
                escape(f"{group}: {key}"),
                *(f"{side[group].get(key, 0):,}" for side in sides.values()),
            ]
            for key in keys
        ]
    yield table(["", *names], rows)
    tools = next((side["tools"] for side in sides.values()), None)
    if tools:
        yield _bars(f"rows that call a tool, {names[0]}", list(tools.items())[:MAX_TOOLS])


def _training(part: Part) -> Iterator[str]:
    """Draw the loss, and say what was trained how."""
    from mlx_tinyagent.train.plot import draw

    curves, progress = part.found["curves"], part.found["progress"]
    facts = [f"{len(curves.train):,} updates"]
    if curves.train:
        facts.append(f"training loss {curves.train[0][1]:.4f} to {curves.train[-1][1]:.4f}")
    if curves.valid:
        step, loss = min(curves.valid, key=lambda point: point[1])
        facts.append(f"best validation loss {loss:.4f} after {step:.0f} updates")
    if progress:
        facts.append(f"{progress['examples']:,} examples in {_duration(progress['seconds'])}")
    yield f"<p>{escape('; '.join(facts))}</p>"
    yield f'<div class="scroll">{draw(curves)}</div>'
    settings = part.found["config"]
    if settings:
        text = ", ".join(f"{name} {value}" for name, value in settings.items() if value != [])
        yield f'<p class="soft">{escape(text)}</p>'


def _classifier(part: Part) -> Iterator[str]:
    """Show what a classifier of tools does with rows that it has not seen."""
    rows = [
        [
            escape(name),
            share(line["share"]),
            f"{line['n']:,}",
            share(line.get("at_least")),
            f"{line['tools']:.2f}" if "tools" in line else "\u2013",
            share(line.get("abstained")),
        ]
        for name, line in part.found["figures"].items()
    ]
    head = ["figure", "share", "n", "at least (95 %)", "tools kept", "abstained from"]
    yield table(head, rows)
    for group, promise in part.found["promises"].items():
        yield f"<p>{escape(f'{group}: {promise}')}</p>"


def _quantization(part: Part) -> Iterator[str]:
    """Show size, verdict and checks of a quantized model."""
    found = part.found
    yield (
        f"<p>{escape(str(found['verdict']))}: {found['bits_on_disk']:.2f} bits per weight on disk, "
        f"{found['bytes'] / 1e6:.1f} MB, calibrated on {found['calibration']['rows']:,} rows; "
        f"{escape(str(found['config']['recipe']))}, {escape(str(found['config']['method']))}</p>"
    )
    rows = [
        [
            escape(check["name"]),
            *(f"{check[key]:.4f}" for key in ("reference", "model")),
            f"{check['difference']:+.4f} ({check['low']:+.4f} to {check['high']:+.4f})",
            f"{check['n']:,}",
            escape(str(check["limit"])),
            escape(check["state"]),
        ]
        for check in found["checks"]
    ]
    if rows:
        head = ["figure", "reference", "model", "difference (95 %)", "n", "limit", "outcome"]
        yield table(head, rows)


def _plans(part: Part) -> Iterator[str]:
    """Say who planned which rows, why rows are not right, and how long it took."""
    found, config = part.found, part.found["config"]
    planner = ", ".join(
        f"{name.replace('_', ' ')} {str(value)[:16] if 'fingerprint' in name else value}"
        for name, value in config["planner"].items()
        if value
    )
    data = config["data"]
    yield (
        f'<p class="soft">{escape(planner)}; retrieval {escape(str(config["retrieval"]))}; '
        f"{found['rows']:,} rows of {escape(data['file'])}, "
        f"sha256 {escape(data['sha256'][:16])}</p>"
    )
    right = found["figures"].get("right")
    if right:
        yield f"<p>right: {_figure('right', right)} {interval_bar(right)}</p>"
    yield table(
        ["outcome", "rows", "share"],
        [
            [escape(name), f"{count:,}", share(count / found["rows"])]
            for name, count in found["reasons"].items()
        ],
    )
    seconds = found["seconds"]
    if seconds:
        yield _means(seconds, "seconds")


def _tools(part: Part) -> Iterator[str]:
    """Show how complete the tools were that a retriever chose."""
    found = part.found
    yield f'<p class="soft">retriever {escape(str(found["config"]["retriever"]))}</p>'
    rows = [
        [escape(name), number(name, value["value"]), _figure(name, value)]
        for name, value in found["figures"].items()
    ]
    yield table(["figure", "value", "with its 95 % interval"], rows)


def _latency(part: Part) -> Iterator[str]:
    """Show the seconds of every contestant."""
    found = part.found
    base = found["ratios_over"]
    rows = []
    for name, means in found["means"].items():
        first, total = (found["ratios"][name][figure] for figure in ("first_s", "total_s"))
        rows.append(
            [
                escape(name),
                *(f"{means[key]:.0f}" for key in ("prompt_tokens", "computed")),
                f"{means['passes']:.1f}",
                *(f"{means[key]:.3f}" for key in ("first_s", "total_s")),
                _ratio(first),
                _ratio(total),
            ]
        )
    head = ["contestant", "prompt tokens", "computed", "passes", "first, s", "total, s"]
    yield table([*head, f"{base} / this, first", f"{base} / this, total"], rows)
    yield _bars(
        "seconds per plan", [(n, round(m["total_s"], 3)) for n, m in found["means"].items()]
    )
    machine = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    yield f'<p class="soft">{found["rows"]:,} rows; {escape(machine)}</p>'


def _ratio(found: Mapping[str, Any]) -> str:
    if found["ratio"] is None:
        return "\u2013"
    return f"{found['ratio']:.2f} ({found['low']:.2f} \u2013 {found['high']:.2f})"


def _installed(part: Part) -> Iterator[str]:
    """Show how time grows with the number of tools installed."""
    rows = []
    for size in part.found["sizes"]:
        for blocks in ("disk", "memory"):
            timed = size[blocks]
            middle, low, high = timed["ratio"]
            rows.append(
                [
                    f"{size['installed']:,}",
                    blocks,
                    *(f"{1000 * timed[key]:.1f}" for key in ("retrieve", "prepare", "prefill")),
                    f"{timed['total']:.3f}",
                    f"{middle:.3f} ({low:.3f} \u2013 {high:.3f})",
                ]
            )
    head = ["tools", "blocks from", "retrieve, ms", "prepare, ms", "prefill, ms", "total, s"]
    yield table([*head, "to the fewest tools"], rows)


def _journal(part: Part) -> Iterator[str]:
    """Show what was done and what was taken back."""
    rows = [
        [
            escape(str(step["id"])),
            escape(str(run["at"])),
            escape(str(step["tool"])),
            "taken back" if step["undone"] else escape(str(step["status"])),
            f'<span class="soft">{escape(str(step["summary"]))}</span>',
        ]
        for run in part.found["runs"]
        for step in run["steps"]
    ]
    yield table(["step", "at", "tool", "state", "what it says"], rows)


def _answer(part: Part) -> Iterator[str]:
    """Show a request with its answer."""
    query, reply = (escape(str(part.found[key])) for key in ("query", "reply"))
    yield f'<article><p class="query"><bdi>{query}</bdi></p><p><bdi>{reply}</bdi></p></article>'


def _planned(part: Part) -> Iterator[str]:
    """Show requests with their plans."""
    for row in part.found["rows"]:
        said = row["error"] or row["text"] or row["ask"] or row["reply"] or "no call"
        yield (
            f'<article><p class="query"><bdi>{escape(str(row["query"] or row["id"]))}</bdi></p>'
            f"<p><bdi>{'<br>'.join(escape(line) for line in str(said).splitlines())}</bdi></p>"
            "</article>"
        )


def _means(found: Mapping[str, Mapping[str, float]], unit: str) -> str:
    rows = [
        [escape(name), *(f"{value[key]:,.3g}" for key in ("mean", "median", "p90"))]
        for name, value in found.items()
    ]
    return table([unit, "mean", "median", "90 %"], rows)


def _bars(title: str, values: Sequence[tuple[str, float]]) -> str:
    """Draw named values as bars from zero."""
    top = max([value for _, value in values] + [1e-9])
    lines = []
    for place, (name, value) in enumerate(values):
        y = 24 + 24 * place
        width = 380 * value / top
        lines.append(
            f'<text x="0" y="{y + 13}">{escape(str(name)[:34])}</text>'
            f'<rect x="240" y="{y}" width="{width:.1f}" height="17" fill="#2f66b3"/>'
            f'<text x="{246 + width:.1f}" y="{y + 13}">{value:,}</text>'
        )
    height = 34 + 24 * len(values)
    return (
        f'<div class="scroll"><svg viewBox="0 0 700 {height}" width="700" height="{height}" '
        f'font-size="13" fill="currentColor" role="img"><title>{escape(title)}</title>'
        f'<text x="0" y="14">{escape(title)}</text>{"".join(lines)}</svg></div>'
    )


def _duration(seconds: float) -> str:
    """Say a time in the unit that fits it."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _footer(found: Collected) -> str:
    """Say on which machines the figures were made, and with what this page was."""
    machines = [("This page", describe_machine())]
    for part in found.of("plans", "tools", "quantization"):
        machine = part.found.get("machine")
        if isinstance(machine, dict) and all(machine != known for _, known in machines):
            machines.append((part.name, machine))
    lines = []
    for name, machine in machines:
        packages = machine.get("packages")
        named = packages.items() if isinstance(packages, dict) else ()
        lines.append(
            f"{name}: {machine.get('processor') or machine.get('machine')}, "
            f"{machine.get('cores')} cores, {machine.get('system')}, "
            f"Python {machine.get('python')}; "
            + ", ".join(f"{package} {version}" for package, version in named if version)
        )
    return "<footer>" + "".join(f"<p>{escape(line)}</p>" for line in lines) + "</footer>"


Section = Callable[[Part], Iterator[str]]
_SECTIONS: tuple[tuple[tuple[Kind, ...], str, Section], ...] = (
    (("journal",), "What was done", _journal),
    (("answer",), "A request and its answer", _answer),
    (("planned",), "Requests and their plans", _planned),
    (("plans",), "Evaluations of plans", _plans),
    (("data",), "Data sets", _data),
    (("training",), "Training runs", _training),
    (("classifier",), "Choice of tools, trained", _classifier),
    (("tools",), "Choice of tools, evaluated", _tools),
    (("quantization",), "Quantized models", _quantization),
    (("latency",), "Latency", _latency),
    (("installed",), "Many tools installed", _installed),
)
