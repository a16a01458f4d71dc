"""Talking to the person at the terminal: approval, choices, progress. All on stderr."""

from __future__ import annotations

import sys

import click

from mlx_tinyagent.act.executor import Callbacks
from mlx_tinyagent.act.gate import Preview
from mlx_tinyagent.cli.common import interactive
from mlx_tinyagent.errors import RefusedError
from mlx_tinyagent.tools.results import Ambiguous, Candidate


def callbacks(*, yes: bool) -> Callbacks:
    """Return how ``ask`` and ``run`` talk to their user.

    Args:
        yes: Whether the plan counts as approved.
    """
    return Callbacks(
        approve=(lambda shown: True) if yes else approve,
        choose=choose if interactive() and not yes else None,
    )


def approve(shown: Preview) -> bool:
    """Show the whole plan and ask once; anything but an explicit yes is no.

    Raises:
        RefusedError: There is no terminal to ask at.
    """
    if not interactive():
        raise RefusedError(
            "this plan changes something and there is no terminal to ask at; nothing was changed "
            "(--yes approves it)"
        )
    click.echo(render(shown), err=True)
    click.echo("Do this? [y/N] ", err=True, nl=False)
    return sys.stdin.readline().strip().casefold() in ("y", "yes")


def render(shown: Preview) -> str:
    """Write a preview for people: one step per paragraph, resolved values, what will not run."""
    lines = []
    for step in shown.steps:
        mark = "will not run" if step.blocked else step.effect
        lines.append(f"  {step.id}. {step.tool}  [{mark}]")
        lines += [f"       {name}: {value}" for name, value in step.args]
    return "\n".join(lines)


def choose(ambiguous: Ambiguous) -> Candidate | None:
    """Let the user pick one of several candidates; an empty answer picks none."""
    click.echo(f"  {ambiguous.what} is not clear:", err=True)
    for number, candidate in enumerate(ambiguous.candidates, start=1):
        click.echo(f"    {number}. {candidate.label}", err=True)
    click.echo("  Which one? (number, empty for none) ", err=True, nl=False)
    answer = sys.stdin.readline().strip()
    if answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(ambiguous.candidates):
        return ambiguous.candidates[int(answer) - 1]
    return None
