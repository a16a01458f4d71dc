"""``ask`` and ``run``: one request, or one given plan."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlx_tinyagent.cli.common import (
    adapter_option,
    check_query,
    load_model,
    load_tool_set,
    make_agent,
    make_planner,
    model_option,
    open_backend,
    status,
    tools_option,
)
from mlx_tinyagent.errors import InputError

if TYPE_CHECKING:
    from mlx_tinyagent.agent.agent import Reply

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
yes_option = click.option("--yes", is_flag=True, help="Approve the plan without asking.")
backend_option = click.option(
    "--backend", default="local", show_default=True, help="Where actions happen."
)


@click.command()
@click.argument("query")
@json_option
@click.option("--dry-run", is_flag=True, help="Show the plan; run nothing.")
@yes_option
@model_option
@adapter_option
@tools_option
@backend_option
def ask(
    query: str,
    as_json: bool,
    dry_run: bool,
    yes: bool,
    model: str,
    adapter: str | None,
    tools_name: str,
    backend: str,
) -> int:
    """Plan and run one request. QUERY '-' reads it from standard input."""
    from mlx_tinyagent.cli.talk import callbacks

    query = check_query(_read_query(query))
    tools = load_tool_set(tools_name)
    store = open_backend(backend)
    planner = make_planner(load_model(model, adapter), tools)
    agent = make_agent(tools, store, planner)
    with contextlib.ExitStack() as spinner:
        spinner.enter_context(status("Planning"))
        # The spinner ends when the plan is checked; from then on the terminal is the user's.
        reply = agent.ask(
            query, callbacks(yes=yes), dry_run=dry_run, on_plan=lambda planned: spinner.close()
        )
    return _print(reply, as_json=as_json, dry_run=dry_run)


@click.command()
@click.argument("plan_file", type=click.Path(path_type=Path))
@json_option
@yes_option
@tools_option
@backend_option
def run(plan_file: Path, as_json: bool, yes: bool, tools_name: str, backend: str) -> int:
    """Run a plan given as text. PLAN_FILE '-' reads it from standard input."""
    from mlx_tinyagent.cli.talk import callbacks
    from mlx_tinyagent.plan.graph import parse
    from mlx_tinyagent.plan.text import write

    tools = load_tool_set(tools_name)
    plan = parse(_read_plan(plan_file), tools)
    agent = make_agent(tools, open_backend(backend), None)
    reply = agent.run_plan(plan, write(plan), "", callbacks(yes=yes))
    return _print(reply, as_json=as_json, dry_run=False)


def _read_query(query: str) -> str:
    if query != "-":
        return query
    try:
        return sys.stdin.buffer.read(1 << 20).decode()
    except UnicodeDecodeError:
        raise InputError("the request is not UTF-8 text") from None


def _read_plan(file: Path) -> str:
    try:
        raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return raw.decode()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text (byte {error.start})") from error


def _print(reply: Reply, *, as_json: bool, dry_run: bool) -> int:
    if as_json:
        click.echo(json.dumps(reply.as_json(), ensure_ascii=False, indent=2))
    else:
        click.echo(reply.plan_text if dry_run else reply.text)
    return 0 if dry_run else reply.exit_code
