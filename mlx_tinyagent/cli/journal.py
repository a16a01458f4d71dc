"""``log``, ``undo`` and ``resume``: what was done, taking it back, going on after a crash."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import click

from mlx_tinyagent.cli.common import (
    backend_option,
    interactive,
    load_tool_set,
    make_agent,
    open_backend,
    print_json,
    tools_option,
)
from mlx_tinyagent.config import paths
from mlx_tinyagent.errors import RefusedError, StoreError

if TYPE_CHECKING:
    from mlx_tinyagent.act.journal import Journal, LoggedRun
    from mlx_tinyagent.agent.agent import Agent, Reply
    from mlx_tinyagent.tools.backend import Backend

SHOWN_RUNS = 20

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command()
@click.option("--verify", is_flag=True, help="Check that nothing in the journal was changed.")
@click.option(
    "--last", default=SHOWN_RUNS, show_default=True, metavar="N", help="Runs shown; 0 for all."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def log(verify: bool, last: int, as_json: bool) -> None:
    """Show what was done, newest last.

    Each run is one approved plan with the steps that could change something.
    The number before a run or step is what `undo` takes. --verify checks the
    chain of hashes: exit code 1 and the entry's number if one was changed,
    removed or added by anything else.
    """
    from mlx_tinyagent.act.journal import Journal
    from mlx_tinyagent.tools.local import user_store

    with user_store(paths()) as store:
        journal = Journal(store)
        checked = journal.verify() if verify else None
        runs = journal.runs()[-last if last else None :]
    if as_json:
        print_json({"verified": checked, "runs": [_run_json(run) for run in runs]})
        return
    if checked is not None:
        click.echo(f"{checked} entries, none changed")
        return
    for line in (line for run in runs for line in run_lines(run)):
        click.echo(line)


@click.command()
@click.argument("which", metavar="[ID]", required=False)
@yes_option
@backend_option
def undo(which: str | None, yes: bool, backend: str) -> int:
    """Take back what a plan did.

    ID is a run (12) or one step of it (12.2), as `log` shows it; without one
    it is the last run that is not undone. Effects on the store are taken back
    all together or not at all: what was changed since stays, and the reason is
    said (exit code 5). What is undone already stays as it is.
    """
    from mlx_tinyagent.act import recovery
    from mlx_tinyagent.cli.talk import visible

    with contextlib.ExitStack() as stack:
        opened, journal = _opened(stack, backend)
        undoing = recovery.choose_undo(journal, which)
        if undoing is None:
            click.echo("Nothing to undo.")
            return 0
        if not yes:
            _confirm([visible(line) for line in undoing.describe()], "Undo this? [y/N] ")
        _alone(stack, journal)
        kept = recovery.undo(journal, opened, undoing)
    click.echo(f"Undone: {len(undoing.steps) - len(kept)} of {len(undoing.steps)} steps.")
    for line in kept:
        click.echo(f"Not undone: {visible(line)}")
    return 5 if kept else 0


@click.command()
@click.option("--yes", is_flag=True, help="Approve what is left, unseen.")
@click.option("--discard", is_flag=True, help="Do nothing more; only find out what was done.")
@tools_option
@backend_option
def resume(yes: bool, discard: bool, tools_name: str, backend: str) -> int:
    """Find out about runs that were cut off, and go on with them.

    What a step did is read back before anything is done again: from the store,
    or by the key that its effect carries. A step of which nobody can tell is
    not repeated. What is left is shown and asked about like a new plan.
    """
    from mlx_tinyagent.act import recovery

    tools = load_tool_set(tools_name)
    code = 0
    with contextlib.ExitStack() as stack:
        opened, journal = _opened(stack, backend)
        agent = make_agent(tools, opened, None)
        agent.journal = journal
        cut = recovery.unfinished(journal.runs())
        if not cut:
            click.echo("No run was cut off.")
            return 0
        _alone(stack, journal)
        for run in cut:
            known = recovery.reconcile(journal, opened, run)
            for line in run_lines(known):
                click.echo(line)
            if discard or not recovery.remaining(known):
                journal.append("end", run=known.run)
            else:
                code = max(code, _go_on(agent, known, yes=yes))
    return code


def _opened(stack: contextlib.ExitStack, name: str) -> tuple[Backend, Journal]:
    """Open a backend and the journal, which lies in the user's store."""
    from mlx_tinyagent.act.journal import Journal
    from mlx_tinyagent.tools.local import Store, user_store

    backend = stack.enter_context(open_backend(name))
    store = getattr(backend, "store", None)
    if not isinstance(store, Store):
        store = stack.enter_context(user_store(paths()))
    return backend, Journal(store)


def _alone(stack: contextlib.ExitStack, journal: Journal) -> None:
    """Make sure that no run is at work meanwhile."""
    from mlx_tinyagent.act.journal import at_work

    if lock := at_work(journal.store, alone=True):
        stack.callback(lock.close)


def tell_of_cut_off(journal: Journal | None) -> None:
    """Say on stderr that a run was cut off, if one was; nothing is done about it here."""
    from mlx_tinyagent.act.journal import at_work

    if journal is None or not journal.has_unfinished():
        return
    try:
        lock = at_work(journal.store, alone=True)
    except StoreError:  # it is at work elsewhere
        return
    if lock is not None:
        lock.close()
    click.echo("An earlier run was cut off: mlx-tinyagent resume", err=True)


def run_lines(run: LoggedRun) -> list[str]:
    """Write a run for people: a line for it, and one for each step."""
    from mlx_tinyagent.cli.talk import visible

    states = {"ok": "done", "begun": "cut off"}
    lines = [f"{run.run:>4}  {run.at[:16].replace('T', ' ')} UTC  {run.status}  {run.summary}"]
    for step in run.steps.values():
        state = "undone" if step.undone else states.get(step.status, step.status)
        lines.append(f"      {run.run}.{step.step}  {state}: {step.summary}")
    return [visible(line) for line in lines]


def _go_on(agent: Agent, run: LoggedRun, *, yes: bool) -> int:
    """Do what is left of a run; returns the exit code."""
    from mlx_tinyagent.cli.talk import callbacks, visible
    from mlx_tinyagent.plan.graph import from_calls
    from mlx_tinyagent.plan.text import write

    plan = from_calls(list(run.details["calls"]), agent.tools)
    with contextlib.redirect_stdout(sys.stderr):
        reply: Reply = agent.resume(plan, write(plan), run, callbacks(yes=yes))
    click.echo(visible(reply.text))
    return reply.exit_code


def _confirm(lines: list[str], question: str) -> None:
    """Ask once; anything but an explicit yes is no.

    Raises:
        RefusedError: The answer is no, or there is no terminal to ask at.
    """
    from mlx_tinyagent.cli.talk import YES, read_answer

    if not interactive():
        raise RefusedError("there is no terminal to ask at; nothing was changed (--yes does it)")
    for line in lines:
        click.echo(line, err=True)
    if (read_answer(question) or "").strip().casefold() not in YES:
        raise RefusedError("not confirmed: nothing was changed")


def _run_json(run: LoggedRun) -> dict[str, Any]:
    return {
        "id": run.run,
        "at": run.at,
        "status": run.status,
        "request": run.details.get("request", ""),
        "shown": run.details.get("shown", ""),
        "steps": [
            {
                "id": f"{run.run}.{step.step}",
                "tool": step.tool,
                "status": step.status,
                "undone": step.undone,
                "key": step.key,
                "summary": step.summary,
            }
            for step in run.steps.values()
        ],
    }
