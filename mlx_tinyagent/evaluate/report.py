"""The report of a planning run: figures, tables, and a browser of what went wrong.

One self-contained HTML page. Whatever stands in the rows is shown as text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from mlx_tinyagent.errors import InputError
from mlx_tinyagent.evaluate.calls import Call, read_calls
from mlx_tinyagent.evaluate.harness import REASONS, RIGHT
from mlx_tinyagent.evaluate.harness_summary import FIGURES, RATES
from mlx_tinyagent.evaluate.report_graph import Mark, clip, draw, show
from mlx_tinyagent.evaluate.report_page import (
    MEANING,
    figure_rows,
    footer,
    page,
    share,
    strata_tables,
    table,
)

Row = Mapping[str, Any]

MAX_SHOWN = 500  # failures on the page
MAX_CHARS = 2_000  # of a request
MAX_FAULTS = 12  # lines under one plan
STRATA_FIGURES = (
    "right",
    "tinyagent_success",
    "plan_match",
    "execution_match",
    "tool_full_recall",
    "argument_match",
    "clarification",
    "false_fire",
)

SCRIPT = """
const cards=[...document.querySelectorAll('article')],shown=document.getElementById('shown');
const ids=['reason','kind','tool','words'],controls=ids.map(id=>document.getElementById(id));
function filter(){
const [reason,kind,tool,words]=controls.map(c=>c.value);
let count=0;
for(const card of cards){
const d=card.dataset;
const fits=(!reason||d.reason===reason)&&(!kind||d.kind===kind)
&&(!tool||d.tools.split(' ').includes(tool))
&&(!words||card.textContent.toLowerCase().includes(words.toLowerCase()));
card.hidden=!fits;count+=fits;}
shown.textContent=count;}
controls.forEach(c=>c.addEventListener('input',filter));filter();
"""


def render(rows: Sequence[Row], summary: Mapping[str, Any]) -> str:
    """Return the page of a run.

    Args:
        rows: The items of the run.
        summary: Its summary, with configuration and machine.
    """
    failures = [row for row in rows if row["reason"] != RIGHT]
    body = [
        f'<p class="soft">{escape(_planner(summary["config"]))}</p>',
        "<h2>Figures</h2>",
        figure_rows(summary["figures"], {**FIGURES, **RATES}),
        "<h2>Why rows are not right</h2>",
        _reasons(summary["reasons"], len(rows)),
        *strata_tables(summary["strata"], STRATA_FIGURES),
        "<h2>By tool</h2>",
        _tools(summary["tools"]),
        *_measured(summary),
        "<h2>What went wrong</h2>",
        _controls(failures[:MAX_SHOWN]),
        _told(len(failures)),
        *(_card(row) for row in failures[:MAX_SHOWN]),
        footer(summary),
    ]
    return page(f"Plans for {summary['config']['data']['file']}", body, script=SCRIPT)


def _planner(config: Mapping[str, Any]) -> str:
    """Say who planned."""
    planner = dict(config["planner"])
    facts = [str(planner.pop("kind"))]
    facts += [f"{name.replace('_', ' ')} {value}" for name, value in planner.items() if value]
    if config["retrieval"]:
        facts.append(f"retrieval {config['retrieval']}")
    return "Planner: " + ", ".join(facts)


def _reasons(reasons: Mapping[str, int], total: int) -> str:
    rows = [
        [escape(name), f"{count:,}", share(count / total), _meaning(name)]
        for name, count in reasons.items()
    ]
    return table(["reason", "rows", "share", MEANING], rows)


def _meaning(reason: str) -> str:
    text = "nothing to complain about" if reason == RIGHT else REASONS.get(reason, "")
    return f'<span class="soft">{escape(text)}</span>'


def _tools(tools: Mapping[str, Mapping[str, Any]]) -> str:
    head = ["tool", "wanted", "called", "both", "precision", "recall", "steps", "right steps"]
    rows = [
        [
            escape(clip(name, 60)),
            *(f"{line[key]:,}" for key in ("wanted", "called", "both")),
            share(line["precision"]),
            share(line["recall"]),
            f"{line['steps']:,}",
            share(line["steps_right"] / line["steps"] if line["steps"] else None),
            f"{line['fired_near']:,}",
            f"{line['fired_far']:,}",
        ]
        for name, line in tools.items()
    ]
    return table([*head, "fired near", "fired far"], rows)


def _measured(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of seconds and tokens, where the planner told any."""
    lines = [
        [escape(f"{name}{unit}"), *(f"{found[key]:,.3g}" for key in ("mean", "median", "p90"))]
        for field, unit in (("seconds", " seconds"), ("counts", ""))
        for name, found in summary[field].items()
    ]
    if lines:
        yield "<h2>Time and tokens per request</h2>"
        yield table(["", "mean", "median", "90 %"], lines)


def _controls(failures: Sequence[Row]) -> str:
    """Return the filters; each offers what there is, with its count."""
    reasons = Counter(row["reason"] for row in failures)
    kinds = Counter(row["kind"] for row in failures)
    tools = Counter(name for row in failures for name in _tool_names(row))
    ordered = {name: tools[name] for name in sorted(tools)}
    return (
        '<div class="controls">'
        f"{_select('reason', reasons)}{_select('kind', kinds)}{_select('tool', ordered)}"
        '<label>words <input id="words" type="search"></label>'
        f'<span class="soft"><span id="shown">{len(failures)}</span> shown</span></div>'
        '<p class="soft">\u2715 dashed: a call without counterpart in the other plan. '
        "\u2260: an argument differs.</p>"
    )


def _select(name: str, counts: Mapping[str, int]) -> str:
    options = "".join(
        f'<option value="{escape(value, quote=True)}">{escape(clip(value, 60))} ({count})</option>'
        for value, count in counts.items()
    )
    return (
        f'<label>{name} <select id="{name}"><option value="">all</option>{options}</select></label>'
    )


def _told(failures: int) -> str:
    if failures <= MAX_SHOWN:
        return ""
    return (
        f'<p class="soft">The first {MAX_SHOWN} of {failures:,} are shown; all are in '
        "items.jsonl.</p>"
    )


def _tool_names(row: Row) -> list[str]:
    """Return the tools of both plans, as values of a filter: names have no blanks."""
    names = [call["tool"] for call in row["gold"]]
    names += [name for group in row["any_of"] or () for name in group]
    names += [call.tool for call in _predicted(row)]
    return list(dict.fromkeys(clip("_".join(name.split()), 60) for name in names))


def _predicted(row: Row) -> tuple[Call, ...]:
    """Return the predicted calls; none where they could not be read."""
    if row["outcome"] == "error":
        return ()
    try:
        return read_calls(row["prediction"].get("calls") or [])
    except InputError:
        return ()


def _card(row: Row) -> str:
    """Show one failure: request, both plans, what differs."""
    calls, gold = _predicted(row), read_calls(row["gold"])
    mine, theirs = _marks(row, calls, gold)
    history = "".join(
        f'<p class="soft">before: <bdi>{escape(clip(turn["query"], MAX_CHARS))}</bdi></p>'
        for turn in row["history"]
    )
    tools = escape(" ".join(_tool_names(row)), quote=True)
    return (
        f'<article data-reason="{escape(row["reason"], quote=True)}" '
        f'data-kind="{escape(row["kind"], quote=True)}" data-tools="{tools}">'
        f"{_chips(row)}{history}"
        f'<p class="query"><bdi>{escape(clip(row["query"], MAX_CHARS))}</bdi></p>'
        f'<div class="sides"><div><h3>right</h3>{_wanted(row, gold, theirs)}</div>'
        f"<div><h3>predicted</h3>{_given(row, calls, mine)}</div></div>"
        f"{_faults(row)}</article>"
    )


def _chips(row: Row) -> str:
    figures = row["figures"]
    chips = [f'<span class="chip reason">{escape(row["reason"])}</span>']
    chips += [f'<span class="chip">{escape(text)}</span>' for text in (row["kind"], row["id"])]
    if row["now"]:
        chips.append(f'<span class="chip">{escape(row["now"])}</span>')
    for name, text in (("tinyagent_success", "TinyAgent success"), ("execution_match", "effect")):
        if figures.get(name) == 1.0:
            chips.append(f'<span class="chip good">\u2713 {text}</span>')
    return "".join(chips)


def _marks(
    row: Row, calls: Sequence[Call], gold: Sequence[Call]
) -> tuple[dict[int, Mark], dict[int, Mark]]:
    """Return how each predicted and each gold call compares with its counterpart."""
    pairs = row["details"].get("pairs", [])
    missed = {miss["step"] for miss in row["details"].get("misses", ())}
    if row["any_of"] is not None:  # only tools are known; there are no steps to pair
        return {}, {}
    mine: dict[int, Mark] = dict.fromkeys(range(len(calls)), "alone")
    theirs: dict[int, Mark] = dict.fromkeys(range(len(gold)), "alone")
    for left, right in pairs:
        mark: Mark = "differs" if gold[right].id in missed else "same"
        mine[left] = theirs[right] = mark
    return mine, theirs


def _wanted(row: Row, gold: Sequence[Call], marks: Mapping[int, Mark]) -> str:
    if row["any_of"] is not None:
        groups = [", ".join(group) or "no tool" for group in row["any_of"]]
        return "".join(f"<p>{escape(clip(group, 400))}</p>" for group in groups)
    if gold:
        return draw(gold, marks)
    return f"<p>asks: {_text(row['gold_ask'])}</p>" if row["gold_ask"] else "<p>no call</p>"


def _given(row: Row, calls: Sequence[Call], marks: Mapping[int, Mark]) -> str:
    prediction = row["prediction"]
    if row["outcome"] == "error":
        reason = prediction.get("error") or "calls that cannot be read"
        return f"<p>error: {_text(reason)}</p><p class='soft'>{_text(prediction.get('text'))}</p>"
    if calls:
        return draw(calls, marks)
    return f"<p>asks: {_text(prediction['ask'])}</p>" if prediction.get("ask") else "<p>no call</p>"


def _text(value: object) -> str:
    return f"<bdi>{escape(clip(str(value or ''), MAX_CHARS))}</bdi>"


def _faults(row: Row) -> str:
    lines = list(_fault_lines(row))
    more = [f"and {len(lines) - MAX_FAULTS} more"] if len(lines) > MAX_FAULTS else []
    shown = "".join(f"<li>{escape(clip(line, 400))}</li>" for line in [*lines[:MAX_FAULTS], *more])
    return f'<ul class="faults">{shown}</ul>' if shown else ""


def _fault_lines(row: Row) -> Iterable[str]:
    details = row["details"]
    if "rule" in details:
        yield f"breaks the rule {details['rule']}"
    for miss in _paired_misses(row):
        yield (
            f"right step {miss['step']}, {miss['tool']}, {miss['argument']}: "
            f"{_argument(miss['predicted'])} instead of {_argument(miss['gold'])}"
        )
    for value in details.get("ungrounded", ()):
        where = f"predicted step {value['step']}, {value['argument']}"
        yield f"{where}: {show(value['text'])} from nowhere"
    for name in details.get("unknown_tools", ()):
        yield f"{name} was not offered"
    for name in details.get("unknown_people", ()):
        yield f"{name} was not mentioned"
    yield from details.get("differences", ())


def _paired_misses(row: Row) -> Iterator[Mapping[str, Any]]:
    """Yield the arguments that differ; a call that is missing altogether is drawn so already."""
    paired = {row["gold"][right]["id"] for _, right in row["details"].get("pairs", ())}
    return (miss for miss in row["details"].get("misses", ()) if miss["step"] in paired)


def _argument(value: object) -> str:
    return "nothing" if value in (None, "", []) else clip(show(value), 150)
