"""``mlx-tinyagent retrieve``: choose tools, and say why."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlx_tinyagent.cli.common import (
    check_query,
    classifier_option,
    load_tool_set,
    make_retriever,
    print_json,
    tools_option,
)

if TYPE_CHECKING:
    from mlx_tinyagent.retrieval.deberta import DebertaRetriever, Explanation

PATH = click.Path(path_type=Path)
recall_option = click.option(
    "--recall",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of requests that must get every needed tool; left out, the calibration's.",
)


@click.group(invoke_without_command=True)
@click.option("--input", "source", type=PATH, help="JSON Lines to read.")
@click.option("--output", "target", type=PATH, help="File to write.")
@tools_option
@click.option(
    "--retriever",
    type=click.Choice(["on", "bm25", "deberta", "off"]),
    default="on",
    show_default=True,
    help="The best there is, words alone, the classifier, or every tool.",
)
@classifier_option
@recall_option
@click.pass_context
def retrieve(
    context: click.Context,
    source: Path | None,
    target: Path | None,
    tools_name: str,
    retriever: str,
    classifier: Path | None,
    recall: float | None,
) -> None:
    """Choose tools for every row of a file.

    Each input line is an object with "id" and "query"; each output line has the
    names of the chosen tools, the score of every tool, and whether the request
    seems to need none ("abstain").
    """
    if context.invoked_subcommand is not None:
        return
    if source is None or target is None:
        raise click.UsageError("Missing option '--input' or '--output'; both are needed for rows.")
    from mlx_tinyagent.cli.batch import retrieve_rows

    made: Any
    if classifier is not None or recall is not None or retriever == "deberta":
        made = _deberta(classifier, recall)
    else:
        made = make_retriever(retriever)
    retrieve_rows(source, target, load_tool_set(tools_name), made)


@retrieve.command()
@click.argument("query")
@tools_option
@classifier_option
@recall_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def explain(
    query: str, tools_name: str, classifier: Path | None, recall: float | None, as_json: bool
) -> None:
    """Say which tools a request is offered, and why."""
    found = _deberta(classifier, recall).explain(check_query(query), load_tool_set(tools_name))
    if as_json:
        print_json(_document(query, found))
        return
    for line in _lines(found):
        click.echo(line)


@retrieve.command()
@click.option("--data", "source", type=PATH, required=True, help="Rows with the tools they need.")
@click.option("--classifier", type=PATH, required=True, help="Folder of the tool classifier.")
@tools_option
@recall_option
@click.option(
    "--no-tool-miss",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of requests that may be said to need no tool and do.  [default: 0.05]",
)
def calibrate(
    source: Path,
    classifier: Path,
    tools_name: str,
    recall: float | None,
    no_tool_miss: float | None,
) -> None:
    """Choose a classifier's thresholds on requests of your own.

    The rows must be ones that the classifier was not trained on; formats are
    those of "train tool-rag". Requests that need no tool are left out.
    """
    from collections import Counter

    from mlx_tinyagent.retrieval.default import classifier_folder
    from mlx_tinyagent.retrieval.groups import GROUPS
    from mlx_tinyagent.retrieval.guarantee import MISS, NO_TOOL_MISS
    from mlx_tinyagent.train.tool_rag.finish import calibrate_folder
    from mlx_tinyagent.train.tool_rag.rows import read_rows

    tools = load_tool_set(tools_name)
    miss = MISS if recall is None else dict.fromkeys(GROUPS, 1 - Fraction(str(recall)))
    rows = read_rows(source, tools, Counter())
    lost = NO_TOOL_MISS if no_tool_miss is None else Fraction(str(no_tool_miss))
    folder = classifier_folder(classifier)
    for line in calibrate_folder(folder, rows, tools, miss=miss, no_tool_miss=lost):
        click.echo(line, err=True)


def _deberta(classifier: Path | None, recall: float | None) -> DebertaRetriever:
    from mlx_tinyagent.retrieval.deberta import SHIPPED, DebertaRetriever
    from mlx_tinyagent.retrieval.default import classifier_folder

    folder = classifier_folder(SHIPPED if classifier is None else classifier)
    miss = None if recall is None else 1 - Fraction(str(recall))
    return DebertaRetriever(folder, miss=miss)


def _document(query: str, found: Explanation) -> dict[str, Any]:
    retrieved = found.retrieved
    thresholds = {"complete": found.threshold, "no_tool": found.no_tool}
    return {
        "query": query,
        "tools": list(retrieved.tools.names),
        "scores": {name: round(score, 6) for name, score in retrieved.scores.items()},
        "closed": {name: round(score, 6) for name, score in found.closed.items()},
        "reasons": dict(retrieved.reasons),
        "edges": dict(found.edges),
        "any_tool": round(found.any_tool, 6),
        "abstain": retrieved.abstain,
        "group": found.group,
        "thresholds": {
            name: None
            if one is None
            else {"tau": one.tau if one.promises else None, "n": one.n, "k": one.k}
            for name, one in thresholds.items()
        },
        "promise": found.promise,
    }


def _lines(found: Explanation) -> list[str]:
    """Return the explanation as a table for people, best score first."""
    retrieved = found.retrieved
    lines = ["tool                       score  closed  why"]
    order = sorted(retrieved.scores, key=lambda name: -found.closed.get(name, 2.0))
    for name in order:
        why = retrieved.reasons.get(name, "")
        if name in found.edges:
            why = f"{found.edges[name]} reads its value"
        mark = "+" if name in retrieved.tools else " "
        closed = f"{found.closed[name]:.4f}" if name in found.closed else "     -"
        lines.append(f"{mark} {name:<24} {retrieved.scores[name]:.4f}  {closed}  {why}".rstrip())
    if found.threshold is not None:
        lines.append(f"kept from {_level(found.threshold.tau)} on, as a {found.group} request")
    if found.no_tool is not None:
        verdict = "no tool seems to be needed" if retrieved.abstain else "a tool seems to be needed"
        lines.append(
            f"any tool: {found.any_tool:.4f}, no tool below {_level(found.no_tool.tau)}: {verdict}"
        )
    lines.append(found.promise)
    return lines


def _level(tau: float) -> str:
    return f"{tau:.4g}" if tau > float("-inf") else "any score"
