"""Talking to the person at the terminal: approval, choices, progress. All on stderr.

What is shown may hold text of others (a contact's name, a file's name, a note),
so control characters are shown and never obeyed. What is answered counts only
if it was typed after the question: one line, and nothing behind it.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import unicodedata

import click

from mlx_tinyagent.act.executor import Callbacks, StepResult, Stopped
from mlx_tinyagent.act.gate import Preview, PreviewStep
from mlx_tinyagent.agent.joiner import problem, words
from mlx_tinyagent.cli.common import interactive
from mlx_tinyagent.errors import RefusedError
from mlx_tinyagent.plan.schema import Step
from mlx_tinyagent.tools.match import WHOLE, score
from mlx_tinyagent.tools.results import Ambiguous, Candidate, Ok, Result, Unknown, explain

SLOW_S = 1.0  # a step that runs longer is named
YES = ("y", "yes")
_LINE_BYTES = 4096
_HARMLESS = "\n\t\u200c\u200d"  # joiners are part of words and emoji
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode categories that a terminal may obey


def callbacks(*, yes: bool = False) -> Callbacks:
    """Return how ``ask``, ``run`` and ``chat`` talk to their user while a plan runs.

    Args:
        yes: Whether the plan counts as approved, unseen. Then it runs whole or
            changes nothing.
    """
    waiting = _SlowSteps()
    return Callbacks(
        approve=approve_unseen if yes else approve,
        choose=choose if interactive() else None,
        partial=interactive() and not yes,
        started=waiting.started,
        finished=waiting.finished,
    )


class _SlowSteps:
    """Names a step that takes more than a moment."""

    def __init__(self) -> None:
        self._timers: dict[int, threading.Timer] = {}

    def started(self, step: Step) -> None:
        timer = threading.Timer(SLOW_S, click.echo, [f"  {words(step.tool)} ..."], {"err": True})
        timer.daemon = True
        timer.start()
        self._timers[step.id] = timer

    def finished(self, outcome: StepResult) -> None:
        if outcome.id in self._timers:
            self._timers.pop(outcome.id).cancel()


def approve(shown: Preview) -> bool:
    """Show the whole plan and ask once; anything but an explicit yes is no.

    Raises:
        RefusedError: There is no terminal to ask at, or Ctrl-C was the answer.
    """
    if not interactive():
        raise RefusedError(
            "this plan changes something and there is no terminal to ask at; nothing was changed "
            "(--yes approves it)"
        )
    click.echo(render(shown), err=True)
    try:
        answer = read_answer("Do this? [y/N] ")
    except KeyboardInterrupt:
        click.echo(err=True)
        raise RefusedError("not approved: nothing was changed") from None
    return answer is not None and answer.strip().casefold() in YES


def approve_unseen(shown: Preview) -> bool:
    """Approve a plan as ``--yes`` does: unless something in it needs somebody to look.

    Raises:
        RefusedError: It does, and there is no terminal to ask at.
    """
    if not shown.warnings:
        return True
    if interactive():
        return approve(shown)
    raise RefusedError(
        f"--yes does not cover this plan ({'; '.join(shown.warnings)}) and there is no terminal "
        "to ask at; nothing was changed"
    )


def choose(ambiguous: Ambiguous, *, tries: int = 1) -> Candidate | None:
    """Let the user pick one of several candidates; an empty answer picks none.

    Args:
        ambiguous: What is not clear.
        tries: How often to ask while the answer is neither a number nor words of one candidate.
    """
    click.echo(f"  {visible(ambiguous.what)} is not clear:", err=True)
    for number, candidate in enumerate(ambiguous.candidates, start=1):
        click.echo(f"    {number}. {visible(candidate.label)}", err=True)
    for _ in range(tries):
        answer = (read_answer("  Which one? (number, empty for none) ") or "").strip()
        if answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(ambiguous.candidates):
            return ambiguous.candidates[int(answer) - 1]
        named = [c for c in ambiguous.candidates if score(answer, c.label) >= WHOLE]
        if len(named) == 1:
            return named[0]
        if not answer:
            break
    return None


def read_answer(question: str) -> str | None:
    """Ask at the terminal and return the line that is typed then.

    Keys hit before the question do not count, and a line with more behind it
    was pasted, not answered.

    Returns:
        The line, or None at the end of input or where more than a line came.
    """
    import termios

    descriptor = sys.stdin.fileno()
    with contextlib.suppress(termios.error):
        termios.tcflush(descriptor, termios.TCIFLUSH)
    click.echo(question, err=True, nl=False)
    line = os.read(descriptor, _LINE_BYTES).decode(errors="replace")
    if not line.endswith("\n"):
        click.echo(err=True)
        return None
    if select.select([descriptor], [], [], 0)[0]:
        with contextlib.suppress(termios.error):
            termios.tcflush(descriptor, termios.TCIFLUSH)
        return None
    return line


def render(shown: Preview) -> str:
    """Write a preview for people: one step per paragraph, resolved values, what will not run."""
    return "\n".join(line for step in shown.steps for line in _step(step))


def _step(step: PreviewStep) -> list[str]:
    title = f"  {step.id}. {words(step.tool)}"
    if step.result is not None:
        told = explain(step.result) if isinstance(step.result, Ok) else _why(step, step.result)
        return [f"{title}: {visible(told.splitlines()[0] if told else 'done')}"]
    if step.problem is not None:
        return [f"{title}  [will not run] {visible(_why(step, step.problem))}"]
    lines = [f"{title}  [{step.effect}]"]
    for name, value in step.args:
        first, *rest = visible(value).split("\n")
        lines += [f"       {words(name)}: {first}", *(f"       | {line}" for line in rest)]
    return lines + [f"     ! {visible(warning)}" for warning in step.warnings]


def _why(step: PreviewStep, result: Result) -> str:
    return problem(StepResult(id=step.id, tool=step.tool, args={}, result=result, seconds=0))


def what_was_stopped(stop: BaseException) -> str:
    """Say in one line what an interruption left behind."""
    if not isinstance(stop, Stopped):
        return "interrupted"
    told = [f"done: {explain(o.result)}" for o in stop.effects if isinstance(o.result, Ok)]
    told += [
        f"still running, so perhaps done: {words(o.tool)}"
        for o in stop.effects
        if isinstance(o.result, Unknown)
    ]
    return visible(f"interrupted; {'; '.join(told) or 'nothing was changed'}")


def visible(text: str) -> str:
    """Show control characters instead of letting a terminal obey them; newlines and tabs stay."""
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in _HIDDEN and char not in _HARMLESS
        else char
        for char in text
    )
