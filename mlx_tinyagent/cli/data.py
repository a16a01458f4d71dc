"""``mlx-tinyagent data``: import, check, count, split, generate and look at examples."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlx_tinyagent.cli.common import load_tool_set, tools_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlx_tinyagent.datasets.paraphrase import Rewriter

FILE = click.Path(path_type=Path)
FORMAT_NAMES = (  # importers.FORMATS, written out so that --help loads nothing
    "tinyagent-hf",
    "tinyagent",
    "smcalflow",
    "silver",
    "workbench",
    "seal-tools",
    "openai",
)


@click.group()
def data() -> None:
    """Import, check, count, split, generate and look at examples."""


@data.command("import")
@click.argument("form", metavar="FORMAT", type=click.Choice(FORMAT_NAMES))
@click.argument("file", type=FILE)
@click.option("--out", type=FILE, required=True, help="JSONL file to write.")
@click.option("--tools-out", type=FILE, help="Write the declared tools as JSON schemas.")
@click.option("--source", default="", help="What rows give as their source.")
@click.option("--licence", default="", help="What rows give as their licence.")
@click.option(
    "--keep-invalid",
    is_flag=True,
    help="Keep TinyAgent plans that break a rule, marked plan-invalid (to score, not to train).",
)
def import_(
    form: str,
    file: Path,
    out: Path,
    tools_out: Path | None,
    source: str,
    licence: str,
    keep_invalid: bool,
) -> None:
    """Turn FILE, of another project's FORMAT, into examples."""
    from mlx_tinyagent.datasets.importers import import_file
    from mlx_tinyagent.datasets.importers.base import Options
    from mlx_tinyagent.datasets.record import write_examples
    from mlx_tinyagent.files import atomic_write

    options = Options(source=source, licence=licence, keep_invalid=keep_invalid)
    found = import_file(file, form, options)
    rows = write_examples(out, found.examples)
    if tools_out is not None:
        schemas = [tool.schema() for tool in found.tools]
        atomic_write(tools_out, json.dumps(schemas, indent=2, ensure_ascii=False) + "\n")
    report = found.report
    _say(f"{rows} examples written to {out}")
    if report.dates:
        _say(
            f"dates: {report.dates} seen, {report.dates_from_request} replaced by the request's "
            f"phrase, {report.dates_dropped} without one (rows marked date-unknown), "
            f"{report.ends_dropped} ends left out"
        )
    if report.recased or report.references:
        _say(f"arguments: {report.recased} recased, {report.references} references braced")
    for reason, count in sorted(report.skipped.items()):
        _say(f"left out: {count} rows, {reason}")


@data.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--tools", "tools_name", help="Check plans against these tools (name, .py, .json).")
@click.option("--skip-bad", is_flag=True, help="Count broken rows; more than 1 % is an error.")
@click.option(
    "--against", multiple=True, type=FILE, help="File or folder that must share no request."
)
@click.option("--threshold", default=0.8, show_default=True, help="Token Jaccard of a leak.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(
    files: tuple[Path, ...],
    tools_name: str | None,
    skip_bad: bool,
    against: tuple[Path, ...],
    threshold: float,
    as_json: bool,
) -> None:
    """Check FILES (or folders): schema, plans, duplicates, leaks between them.

    Exit code 1 if a row is broken or a request of one file stands in another.
    """
    from mlx_tinyagent.datasets.dedupe import duplicates
    from mlx_tinyagent.datasets.record import ReadReport, read_examples
    from mlx_tinyagent.datasets.split import expanded, leaks
    from mlx_tinyagent.errors import InputError

    tools = load_tool_set(tools_name) if tools_name else None
    result: dict[str, Any] = {"files": []}
    paths = expanded(files)
    for path in paths:
        report = ReadReport()
        queries = [
            example.query
            for example in read_examples(path, tools=tools, skip_bad=skip_bad, report=report)
        ]
        twice = sum(1 for _ in duplicates(queries, threshold=1.0))
        similar = sum(1 for _ in duplicates(queries, threshold=threshold))
        entry = {"file": str(path), "rows": report.rows, "broken": len(report.skipped)}
        result["files"].append({**entry, "same_words": twice, "similar": similar})
        for skipped in report.skipped:
            _say(f"skipped: {skipped.error}")
    found = leaks(paths, [*against, *(paths if len(paths) > 1 else ())], threshold=threshold)
    result["leaks"] = [
        {
            "file": str(leak.file),
            "id": leak.id,
            "other": str(leak.other),
            "other_id": leak.other_id,
            "score": round(leak.score, 3),
        }
        for leak in found
    ]
    _print(result, as_json, _check_lines(result))
    if found:
        raise InputError(f"{len(found)} requests stand in more than one file")


def _check_lines(result: dict[str, Any]) -> Iterator[str]:
    for entry in result["files"]:
        yield (
            f"{entry['file']}: {entry['rows']} rows, {entry['broken']} broken, "
            f"{entry['same_words']} with the same words as an earlier one, "
            f"{entry['similar']} similar to one"
        )
    for leak in result["leaks"][:20]:
        here, there = f"{leak['file']} {leak['id']}", f"{leak['other']} {leak['other_id']}"
        yield f"leak {leak['score']}: {here} = {there}"


@data.command()
@click.argument("file", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def stats(file: Path, as_json: bool) -> None:
    """Count what is in FILE."""
    from mlx_tinyagent.datasets.record import read_examples
    from mlx_tinyagent.datasets.stats import collect

    found = collect(read_examples(file)).as_dict()
    _print(found, as_json, _stats_lines(found))


def _stats_lines(found: dict[str, Any]) -> Iterator[str]:
    for name, value in found.items():
        title = name.replace("_", " ")
        if not isinstance(value, dict):
            yield f"{title}: {value}"
            continue
        yield f"{title}:"
        yield from (f"  {key}: {count}" for key, count in list(value.items())[:30])


@data.command()
@click.argument("file", type=FILE)
@click.option("--out", type=FILE, required=True, help="Folder for train, valid and test.")
@click.option("--valid", default=0.1, show_default=True, help="Share of the validation split.")
@click.option("--test", default=0.1, show_default=True, help="Share of the test split.")
@click.option("--seed", default=0, show_default=True, help="Another seed, another split.")
@click.option("--threshold", default=0.8, show_default=True, help="Jaccard that keeps together.")
def split(file: Path, out: Path, valid: float, test: float, seed: int, threshold: float) -> None:
    """Part FILE so that requests that say the same stay on one side."""
    from mlx_tinyagent.datasets.record import load_examples
    from mlx_tinyagent.datasets.split import split as part
    from mlx_tinyagent.datasets.split import write_splits

    examples = load_examples(file)
    sides = part(examples, valid=valid, test=test, seed=seed, threshold=threshold)
    for name, rows in write_splits(out, sides).items():
        _say(f"{name}: {rows} rows")


@data.command()
@click.option("--out", type=FILE, required=True, help="Folder; a run that stopped goes on there.")
@click.option("--count", type=int, required=True, help="Rows of train.jsonl.")
@click.option("--seed", type=int, required=True, help="The same seed gives the same bytes.")
@click.option("--valid", default=1000, show_default=True, help="Rows of valid.jsonl.")
@click.option("--test", default=1000, show_default=True, help="Rows of test.jsonl.")
@click.option("--mine", "mined_file", type=FILE, help="Silver rows to take phrasing patterns from.")
@click.option("--phrases", "phrases_file", type=FILE, help="Your own phrases for the tools (JSON).")
@click.option("--workers", type=int, help="Processes. [default: one per core]")
@tools_option
def synth(
    out: Path,
    count: int,
    seed: int,
    valid: int,
    test: int,
    mined_file: Path | None,
    phrases_file: Path | None,
    workers: int | None,
    tools_name: str,
) -> None:
    """Generate train.jsonl, valid.jsonl and test.jsonl for a tool set, offline."""
    from mlx_tinyagent.datasets.synth.generate import Mined, SynthConfig, synthesize
    from mlx_tinyagent.datasets.synth.mine import mine
    from mlx_tinyagent.datasets.synth.own_phrases import merged, read_phrases

    tools = load_tool_set(tools_name)
    mined = mine(mined_file) if mined_file is not None else Mined()
    if phrases_file is not None:
        mined = merged(mined, read_phrases(phrases_file, tools))
    config = SynthConfig(seed=seed, count=count, valid=valid, test=test, mined=mined.digest())
    with _progress() as progress:
        report = synthesize(
            out,
            tools,
            config,
            mined=mined,
            workers=workers or os.cpu_count() or 1,
            progress=progress,
        )
    rows = ", ".join(f"{name} {number}" for name, number in report.rows.items())
    _say(f"written to {out}: {rows}; {report.repeated} repeated drafts left out")


@data.command("from-log")
@click.option("--out", type=FILE, required=True, help="JSONL file to write, for your eyes only.")
@tools_option
def from_log(out: Path, tools_name: str) -> None:
    """Turn your own approved requests into examples to train on.

    They are taken from the journal (see `log`): plans that changed something,
    as you approved them, all done and not undone. They hold your words and
    names: keep the file, and what is trained on it, to yourself.
    """
    from mlx_tinyagent.act.journal import Journal
    from mlx_tinyagent.config import paths
    from mlx_tinyagent.datasets.from_log import LogReport, examples
    from mlx_tinyagent.files import atomic_write
    from mlx_tinyagent.tools.local import user_store

    tools, report = load_tool_set(tools_name), LogReport()
    with user_store(paths()) as store:
        found = list(examples(Journal(store).runs(), tools, report))
    atomic_write(out, "".join(f"{example.to_line()}\n" for example in found), private=True)
    _say(f"{report.kept} examples written to {out}")
    for reason, count in sorted(report.left_out.items()):
        _say(f"left out: {count} runs, {reason}")


@data.command()
@click.argument("file", type=FILE)
@click.option("--out", type=FILE, required=True, help="JSONL file to write.")
@click.option("--model", help="Model on this machine that writes: alias, Hub id or folder.")
@click.option("--endpoint", help="Or the address of an OpenAI-compatible server.")
@click.option("--endpoint-model", default="", help="The model's name there.")
@click.option("--share", default=0.3, show_default=True, help="Of the rows with calls.")
@click.option("--seed", default=0, show_default=True, help="Chooses which rows.")
@tools_option
def paraphrase(
    file: Path,
    out: Path,
    model: str | None,
    endpoint: str | None,
    endpoint_model: str,
    share: float,
    seed: int,
    tools_name: str,
) -> None:
    """Let a model say requests of FILE in other words.

    A new wording is kept only if every copied value and every number still
    stands in it and the plan still runs. With --endpoint, requests are sent to
    that address and nowhere else. What the model said is kept beside the output
    until it is complete, so a run that stopped goes on.
    """
    from mlx_tinyagent.datasets.paraphrase import ParaphraseReport
    from mlx_tinyagent.datasets.paraphrase import paraphrase as rewritten
    from mlx_tinyagent.datasets.record import read_examples, write_examples
    from mlx_tinyagent.errors import UsageError

    if bool(model) == bool(endpoint):
        raise UsageError("give either --model or --endpoint with --endpoint-model")
    if endpoint and not endpoint_model:
        raise UsageError("--endpoint needs --endpoint-model")
    if not 0 < share <= 1:
        raise UsageError(f"--share is {share}; it must be above 0 and at most 1")
    tools = load_tool_set(tools_name)
    report = ParaphraseReport()
    answers = out.with_name(out.name + ".answers")
    rows = rewritten(
        read_examples(file, tools=tools),
        _rewriter(model, endpoint, endpoint_model),
        tools,
        share=share,
        seed=seed,
        answers=answers,
        report=report,
    )
    total = write_examples(out, rows)
    answers.unlink(missing_ok=True)
    _say(f"{total} examples written to {out}: {report.rewritten} in other words")
    for reason, count in sorted(report.kept.items()):
        _say(f"kept as they were: {count} rows, {reason}")


def _rewriter(model: str | None, endpoint: str | None, endpoint_model: str) -> Rewriter:
    from mlx_tinyagent.datasets.endpoint import ChatEndpoint
    from mlx_tinyagent.datasets.paraphrase import EndpointRewriter, LocalRewriter

    if endpoint:
        return EndpointRewriter(ChatEndpoint(url=endpoint, model=endpoint_model))
    from mlx_tinyagent.cli.common import load_model
    from mlx_tinyagent.decode.engine import Engine

    return LocalRewriter(Engine(load_model(model or "", "none")))


@data.command()
@click.argument("file", type=FILE)
@click.option("--out", type=FILE, required=True, help="HTML file to write.")
@click.option("--title", default="", help="Heading. [default: the file's name]")
@click.option("--seed", default=0, show_default=True, help="Chooses the examples shown.")
def report(file: Path, out: Path, title: str, seed: int) -> None:
    """Write a page with distributions, examples and drawn plans of FILE."""
    from mlx_tinyagent.datasets.record import read_examples
    from mlx_tinyagent.datasets.report import render
    from mlx_tinyagent.files import atomic_write

    atomic_write(out, render(read_examples(file), title=title or file.name, seed=seed))
    _say(f"written to {out}")


def _say(text: str) -> None:
    click.echo(text, err=True)


def _print(result: dict[str, Any], as_json: bool, lines: Iterator[str]) -> None:
    """Print a result as one JSON document or as lines, on standard output."""
    if as_json:
        click.echo(json.dumps(result, ensure_ascii=False))
        return
    for line in lines:
        click.echo(line)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error; a line per tenth where that is no terminal."""
    import sys

    if not sys.stderr.isatty():
        told = [-1]

        def tell(done: int, total: int) -> None:
            tenth = 10 * done // max(total, 1)
            if tenth > told[0]:
                told[0] = tenth
                _say(f"{done} of {total} examples")

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("examples", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("examples", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
