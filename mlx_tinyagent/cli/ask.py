"""``ask`` and ``run``: one request, or one given plan."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlx_tinyagent.cli.common import (
    adapter_option,
    backend_option,
    check_query,
    classifier_option,
    load_model,
    load_tool_set,
    make_agent,
    make_planner,
    model_option,
    open_backend,
    print_json,
    status,
    tools_option,
)
from mlx_tinyagent.cli.journal import tell_of_cut_off
from mlx_tinyagent.errors import ContextError, InputError

if TYPE_CHECKING:
    from mlx_tinyagent.agent.agent import Reply

MAX_INPUT_BYTES = 1 << 20  # read from standard input or a plan file; limits below are tighter

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
yes_option = click.option(
    "--yes",
    is_flag=True,
    help="Approve the plan unseen, unless something in it needs a look; if a part of it cannot "
    "run, nothing is changed.",
)


@click.command()
@click.argument("query")
@json_option
@click.option("--dry-run", is_flag=True, help="Show the plan; run nothing.")
@yes_option
@model_option
@adapter_option
@tools_option
@classifier_option
@backend_option
def ask(
    query: str,
    as_json: bool,
    dry_run: bool,
    yes: bool,
    model: str,
    adapter: str | None,
    tools_name: str,
    classifier: Path | None,
    backend: str,
) -> int:
    """Plan and run one request.

    QUERY is the request in plain words; '-' reads it from standard input. A
    plan that changes something is shown first and runs only after a yes.

    Exit codes: 0 done, 1 bad input or a full disk, 2 usage, 3 refused, 4 model
    or context limit, 5 a tool failed, 6 an answer from you is needed, 130
    interrupted.
    """
    reply = answer(
        check_query(_read_query(query)),
        dry_run=dry_run,
        yes=yes,
        model=model,
        adapter=adapter,
        tools_name=tools_name,
        classifier=classifier,
        backend=backend,
    )
    return _print(reply, as_json=as_json, dry_run=dry_run)


def answer(
    query: str,
    *,
    dry_run: bool,
    yes: bool,
    model: str,
    adapter: str | None,
    tools_name: str,
    classifier: Path | None = None,
    backend: str,
) -> Reply:
    """Plan and run a checked request; the arguments are the options of ``ask``."""
    from mlx_tinyagent.cli.talk import callbacks

    tools = load_tool_set(tools_name)
    with open_backend(backend) as store, contextlib.ExitStack() as spinner:
        planner = make_planner(load_model(model, adapter), tools, classifier=classifier)
        agent = make_agent(tools, store, planner)
        tell_of_cut_off(agent.journal)
        spinner.enter_context(status("Planning"))
        with contextlib.redirect_stdout(sys.stderr):  # what tools print is no answer
            # The spinner ends when the plan is checked; from then on the terminal is the user's.
            return agent.ask(
                query, callbacks(yes=yes), dry_run=dry_run, on_plan=lambda _: spinner.close()
            )


@click.command()
@click.argument("plan_file", type=click.Path(path_type=Path))
@json_option
@yes_option
@tools_option
@backend_option
def run(plan_file: Path, as_json: bool, yes: bool, tools_name: str, backend: str) -> int:
    """Run a plan given as text.

    PLAN_FILE holds the plan, one step per line, as `ask --dry-run` prints it;
    '-' reads it from standard input. It goes through the same checks and the
    same approval as a planned request. Exit codes are those of `ask`.
    """
    from mlx_tinyagent.cli.talk import callbacks
    from mlx_tinyagent.plan.graph import parse
    from mlx_tinyagent.plan.text import write

    tools = load_tool_set(tools_name)
    plan = parse(_read_plan(plan_file), tools)
    with open_backend(backend) as store, contextlib.redirect_stdout(sys.stderr):
        agent = make_agent(tools, store, None)
        tell_of_cut_off(agent.journal)
        reply = agent.run_plan(plan, write(plan), "", callbacks(yes=yes), typed=True)
    return _print(reply, as_json=as_json, dry_run=False)


def _read_query(query: str) -> str:
    if query != "-":
        return query
    return _decoded(sys.stdin.buffer.read(MAX_INPUT_BYTES + 1), "the request")


def _read_plan(file: Path) -> str:
    if str(file) == "-":
        return _decoded(sys.stdin.buffer.read(MAX_INPUT_BYTES + 1), "the plan")
    try:
        with file.open("rb") as opened:
            return _decoded(opened.read(MAX_INPUT_BYTES + 1), str(file))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error


def _decoded(raw: bytes, what: str) -> str:
    """Return text that was read, or refuse it."""
    if len(raw) > MAX_INPUT_BYTES:
        raise ContextError(f"{what} has more than {MAX_INPUT_BYTES:,} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{what} is not UTF-8 text (byte {error.start})") from None


def _print(reply: Reply, *, as_json: bool, dry_run: bool) -> int:
    """Print the answer; returns the exit code."""
    from mlx_tinyagent.cli.talk import visible

    if as_json:
        print_json(reply.as_json())
    else:
        click.echo(visible(reply.plan_text if dry_run else reply.text))
    return 0 if dry_run else reply.exit_code
