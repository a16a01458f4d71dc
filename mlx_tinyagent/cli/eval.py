"""``eval``: how good a planner or retriever is, and whether it is better than another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlx_tinyagent.cli.batch import rows_option
from mlx_tinyagent.cli.common import (
    adapter_option,
    classifier_option,
    load_model,
    load_tool_set,
    make_planner,
    make_retriever,
    model_option,
    print_json,
    progress_bar,
    tools_option,
)
from mlx_tinyagent.cli.rows import write_rows
from mlx_tinyagent.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlx_tinyagent.decode.tiers import TierName
    from mlx_tinyagent.evaluate.harness import Predict
    from mlx_tinyagent.evaluate.harness_compare import Comparison
    from mlx_tinyagent.evaluate.harness_items import Item, Items
    from mlx_tinyagent.tools.base import ToolSet

FILE = click.Path(path_type=Path)
FORMAT_NAMES = ("record", "tinyagent", "silver")  # harness_items.FORMATS; --help loads nothing
HEADLINES = (  # figures printed at the end of a run; summary.json has all
    "right",
    "tinyagent_success",
    "plan_match",
    "execution_match",
    "tool_full_recall",
    "argument_match",
    "ungrounded",
    "clarification",
    "false_fire_near",
    "false_fire_far",
    "error",
)


@click.group(name="eval")
def eval() -> None:
    """Score plans and tool retrieval; compare runs."""


data_option = click.option("--data", required=True, type=FILE, help="Rows to evaluate on.")
out_option = click.option("--out", required=True, type=FILE, help="Folder for the results.")
format_option = click.option(
    "--format",
    "form",
    type=click.Choice(FORMAT_NAMES),
    help="Format of the rows. [default: told from the first one]",
)
limit_option = click.option("--limit", type=click.IntRange(min=1), help="Take the first rows only.")
skip_option = click.option(
    "--skip-bad", is_flag=True, help="Count broken rows; more than 1 % is an error."
)
seed_option = click.option(
    "--seed", default=0, show_default=True, help="Seed of the 95 % intervals."
)


@eval.command()
@data_option
@out_option
@model_option
@adapter_option
@tools_option
@click.option(
    "--retrieval",
    type=click.Choice(["on", "off", "gold"]),
    default="on",
    show_default=True,
    help="Offer retrieved tools, all, or the row's own.",
)
@classifier_option
@click.option(
    "--tier",
    type=click.Choice(["exact", "blocks"]),
    help="Prompt as one sequence, or in blocks. [default: what the adapter was trained for]",
)
@click.option(
    "--planner",
    "kind",
    type=click.Choice(["model", "keyword", "openai"]),
    default="model",
    show_default=True,
    help="Who plans: the model, cue words, or a chat endpoint.",
)
@click.option(
    "--endpoint", metavar="URL", help="For openai: base address, ending in /v1 as a rule."
)
@click.option("--endpoint-model", metavar="NAME", help="For openai: the model's name there.")
@click.option("--predictions", type=FILE, help="Score this output of plan; nothing is planned.")
@click.option(
    "--execute/--no-execute",
    default=True,
    help="Run plans on a made-up world in memory, where rows allow it.  [default: execute]",
)
@format_option
@limit_option
@skip_option
@seed_option
@rows_option
@click.option("--resume", is_flag=True, help="Go on with the run that is in the folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON document.")
def plans(**options: Any) -> None:
    """Plan every row of a file and score the plans.

    Rows are example records, TinyAgent items, or commands with acceptable tool
    sets. Results: items.jsonl (one line per row), summary.json (figures with
    95 % intervals, by stratum and tool) and report.html (a browser of
    failures). An untrained model is measured with --adapter none.
    """
    as_json = options.pop("as_json")
    job = PlanJob(**options)
    summary = run_plans(job)
    _print_figures(job.out, summary, as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanJob:
    """The options of ``eval plans``."""

    data: Path
    out: Path
    model: str
    adapter: str | None
    tools_name: str
    retrieval: str
    kind: str
    endpoint: str | None
    endpoint_model: str | None
    predictions: Path | None
    execute: bool
    form: str | None
    limit: int | None
    skip_bad: bool
    seed: int
    resume: bool
    rows: int = 1
    classifier: Path | None = None
    tier: TierName | None = None


def run_plans(job: PlanJob, predict: Predict | None = None) -> dict[str, Any]:
    """Do what ``eval plans`` does and return the summary.

    Args:
        job: The options.
        predict: Plans a row in place of the planner that the options name.
    """
    from mlx_tinyagent.evaluate import harness, harness_run, report
    from mlx_tinyagent.evaluate.harness_items import read_items
    from mlx_tinyagent.evaluate.harness_summary import summarize
    from mlx_tinyagent.files import atomic_write

    harness_run.check_free(job.out, resume=job.resume)
    items = read_items(job.data, form=job.form, limit=job.limit, skip_bad=job.skip_bad)
    tools = load_tool_set(job.tools_name)
    _check_gold(job, items, tools)
    if predict is None:
        predict, planner = _planner(job, items, tools)
    else:
        planner = {"kind": "given"}
    config = {
        "command": "eval plans",
        "data": harness_run.describe_data(items),
        "tools": harness_run.describe_tools(tools),
        "planner": planner,
        "retrieval": job.retrieval if planner["kind"] in ("model", "openai") else None,
        "execute": job.execute,
        "seed": job.seed,
    }
    harness_run.open_run(job.out, config, resume=job.resume)
    write_rows(
        job.data,
        job.out / harness_run.ITEMS,
        items.items,
        lambda item: harness.score_item(item, predict(item), tools, execute=job.execute),
        resume=job.resume,
        title="Evaluating",
    )
    rows = harness_run.read_rows(job.out)
    summary = harness_run.write_summary(job.out, config, summarize(rows, tools, seed=job.seed))
    atomic_write(job.out / harness_run.REPORT, report.render(rows, summary))
    _say_skipped(items)
    return summary


def _check_gold(job: PlanJob, items: Items, tools: ToolSet) -> None:
    """Refuse ``--retrieval gold`` where a row's own tools are not known, before anything runs."""
    if job.retrieval != "gold" or job.predictions is not None:
        return
    for item in items.items:
        missing = [name for name in item.tools or () if name not in tools]
        if item.tools is None or missing:
            reason = f"unknown tools: {', '.join(missing)}" if missing else "no tools on offer"
            raise InputError(
                f"{items.path}: row {item.id!r} has {reason}; --retrieval gold needs them, "
                "use on or off"
            )


def _planner(job: PlanJob, items: Items, tools: ToolSet) -> tuple[Predict, dict[str, Any]]:
    """Return who plans, and how the summary tells of it."""
    if job.predictions is not None:
        return _from_file(job.predictions, job, items)
    if job.kind == "keyword":
        from mlx_tinyagent.evaluate.baselines import KeywordPlanner

        return KeywordPlanner(tools).plan, {"kind": "keyword"}
    if job.kind == "openai":
        return _from_endpoint(job, tools)
    return _from_model(job, items, tools)


def _from_file(path: Path, job: PlanJob, items: Items) -> tuple[Predict, dict[str, Any]]:
    from mlx_tinyagent.evaluate.harness_items import file_sha256, read_predictions

    found = read_predictions(
        path,
        items.items,
        partial=job.limit is not None or bool(items.skipped),
        skip_bad=job.skip_bad,
    )
    facts = {"kind": "predictions", "file": path.name, "sha256": file_sha256(path)}
    return lambda item: found[item.id], facts


def _from_endpoint(job: PlanJob, tools: ToolSet) -> tuple[Predict, dict[str, Any]]:
    from mlx_tinyagent.datasets.endpoint import ChatEndpoint
    from mlx_tinyagent.evaluate.harness_endpoint import EndpointPlanner

    if not job.endpoint or not job.endpoint_model:
        raise UsageError("--planner openai needs --endpoint and --endpoint-model")
    planner = EndpointPlanner(
        endpoint=ChatEndpoint(url=job.endpoint, model=job.endpoint_model),
        tools=tools,
        retriever=None if job.retrieval == "gold" else make_retriever(job.retrieval),
    )
    facts = {"kind": "openai", "endpoint": job.endpoint, "model": job.endpoint_model}
    return planner.plan, {**facts, "prompt": "tinyagent"}


def _from_model(job: PlanJob, items: Items, tools: ToolSet) -> tuple[Predict, dict[str, Any]]:
    """Load the model; rows are planned exactly as ``plan`` does it."""
    from mlx_tinyagent.cli.batch import Row, row_planner
    from mlx_tinyagent.prompt.render import FORMAT

    loaded = load_model(job.model, job.adapter)
    planner = make_planner(loaded, tools, job.retrieval, job.classifier, job.tier)
    rows = {
        item.id: Row(
            id=item.id,
            query=item.query,
            now=item.now,
            tools=item.tools,
            history=tuple({"query": turn.query, "plan": turn.plan} for turn in item.history),
        )
        for item in items.items
    }
    one = row_planner(planner, list(rows.values()), gold=job.retrieval == "gold", rows=job.rows)

    def predict(item: Item) -> dict[str, Any]:
        return one(rows[item.id])

    return predict, {
        "kind": "model",
        "model": loaded.name,
        "fingerprint": loaded.fingerprint,
        "adapter": job.adapter,
        "adapter_fingerprint": loaded.adapter_fingerprint,
        "dtype": loaded.dtype,
        "prompt": FORMAT,
        **({"classifier": job.classifier.name} if job.classifier else {}),
        **({"tier": job.tier} if job.tier else {}),
    }


@eval.command()
@data_option
@out_option
@click.option(
    "--retriever",
    "kind",
    type=click.Choice(["bm25", "tfidf", "deberta", "everything", "all"]),
    default="bm25",
    show_default=True,
    help="Which one; all writes one subfolder each.",
)
@click.option(
    "--fit",
    "training",
    multiple=True,
    type=FILE,
    help="For tfidf: rows to fit on; may be repeated.",
)
@tools_option
@format_option
@limit_option
@skip_option
@seed_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as one JSON document.")
def tools(
    data: Path,
    out: Path,
    kind: str,
    training: tuple[Path, ...],
    tools_name: str,
    form: str | None,
    limit: int | None,
    skip_bad: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Choose tools for every row of a file and score the choice.

    Nothing is planned. Rows are as for plans; training rows that have the words
    of a row to be judged are left out, counted.
    """
    from mlx_tinyagent.evaluate import harness_run
    from mlx_tinyagent.evaluate.harness_items import read_items
    from mlx_tinyagent.evaluate.harness_tools import make_retrievers

    if kind == "tfidf" and not training:
        raise UsageError("--retriever tfidf is fitted on rows; name some with --fit")
    items = read_items(data, form=form, limit=limit, skip_bad=skip_bad)
    tool_set = load_tool_set(tools_name)
    rows = [item for path in training for item in read_items(path).items]
    retrievers, dropped = make_retrievers(kind, rows, items.items, tool_set)
    summaries = {}
    for name, retriever in retrievers.items():
        config = {
            "command": "eval tools",
            "data": harness_run.describe_data(items),
            "tools": harness_run.describe_tools(tool_set),
            "retriever": name,
            "fit": [path.name for path in training] if name == "tfidf" else None,
            "fit_left_out": dropped if name == "tfidf" else None,
            "seed": seed,
        }
        folder = out if len(retrievers) == 1 else out / name
        summaries[name] = _run_tools(items, tool_set, retriever, folder, config)
    if as_json:
        print_json(summaries if len(summaries) > 1 else next(iter(summaries.values())))
    else:
        _print_table(["figure", *summaries], list(_side_by_side(summaries)))
    _say_skipped(items)


def _run_tools(
    items: Items, tool_set: ToolSet, retriever: Any, folder: Path, config: Mapping[str, Any]
) -> dict[str, Any]:
    """Evaluate one retriever into a folder; an earlier result there is replaced."""
    import json

    from mlx_tinyagent.evaluate import harness_run, report_tools
    from mlx_tinyagent.evaluate.harness_tools import score_retrieval, summarize_retrieval
    from mlx_tinyagent.files import atomic_write

    rows = []
    with progress_bar(f"Retrieving ({config['retriever']})") as report:
        for number, item in enumerate(items.items, start=1):
            rows.append(score_retrieval(item, retriever, tool_set))
            report(number, len(items.items))
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    atomic_write(folder / harness_run.ITEMS, lines)
    atomic_write(folder / harness_run.CONFIG, json.dumps(config, indent=2) + "\n")
    summary = summarize_retrieval(rows, tool_set, seed=int(config["seed"]))
    document = harness_run.write_summary(folder, config, summary)
    atomic_write(folder / harness_run.REPORT, report_tools.render(rows, document))
    return document


@eval.command()
@click.argument("first", type=FILE)
@click.argument("second", type=FILE)
@seed_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def compare(first: Path, second: Path, seed: int, as_json: bool) -> None:
    """Compare two runs, RUN_A and RUN_B, on the rows that both have.

    For each figure: both means, the difference with its 95 % paired bootstrap
    interval, and for figures that are right or wrong per row how many rows
    only one got right, with the exact McNemar p-value.
    """
    from mlx_tinyagent.evaluate.harness_compare import compare as compare_rows
    from mlx_tinyagent.evaluate.harness_run import read_rows

    found = compare_rows(read_rows(first), read_rows(second), seed=seed)
    if as_json:
        print_json(found.as_json())
        return
    _print_comparison(found)


def _print_comparison(found: Comparison) -> None:
    lines = [
        [
            line.figure,
            str(line.n),
            f"{line.first:.3f}",
            f"{line.second:.3f}",
            f"{line.difference:+.3f} ({line.low:+.3f} to {line.high:+.3f})",
            "-" if line.p is None else f"{line.only_first} / {line.only_second}",
            "-" if line.p is None else f"{line.p:.3g}",
        ]
        for line in found.figures
    ]
    _print_table(["figure", "n", "A", "B", "B - A (95 %)", "only A / only B", "p"], lines)
    if found.only_first or found.only_second:
        click.echo(
            f"{found.common} rows in both; left out: {found.only_first} only in A, "
            f"{found.only_second} only in B",
            err=True,
        )


def _print_figures(out: Path, summary: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(summary)
        return
    figures = summary["figures"]
    lines = [
        [name, _interval(figures[name]), str(figures[name]["n"])]
        for name in HEADLINES
        if name in figures
    ]
    _print_table(["figure", "value (95 %)", "n"], lines)
    reasons = ", ".join(f"{name} {count}" for name, count in summary["reasons"].items())
    click.echo(f"\n{reasons}")
    click.echo(f"{out / 'report.html'} shows what went wrong", err=True)


def _interval(found: Mapping[str, float]) -> str:
    return f"{found['value']:.3f} ({found['low']:.3f}-{found['high']:.3f})"


def _side_by_side(summaries: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    names = dict.fromkeys(name for found in summaries.values() for name in found["figures"])
    for name in names:
        values = [found["figures"].get(name) for found in summaries.values()]
        yield [name, *("-" if value is None else _interval(value) for value in values)]


def _print_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print a table as aligned columns."""
    rows = [head, *lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(text.rstrip())


def _say_skipped(items: Items) -> None:
    for bad in items.skipped[:5]:
        click.echo(f"skipped: {bad.error}", err=True)
    if items.skipped:
        click.echo(f"{len(items.skipped)} broken rows skipped", err=True)
