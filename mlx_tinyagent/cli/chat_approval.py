"""The one question before a plan runs: yes, no, or another plan.

The whole plan is shown with what its words mean: dates, people, files, the rows
that change, the drafts as they will be used. An edit makes another plan, which
is checked, read and shown like the first.
"""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from mlx_tinyagent.act.executor import StepResult
from mlx_tinyagent.act.gate import Preview, PreviewStep
from mlx_tinyagent.agent.followup import edited, without
from mlx_tinyagent.agent.joiner import problem, words
from mlx_tinyagent.agent.session import Edited
from mlx_tinyagent.agent.writers.book import DraftBook
from mlx_tinyagent.cli.chat_view import StepView, step_lines, unicode_marks
from mlx_tinyagent.cli.common import interactive
from mlx_tinyagent.cli.talk import YES, read_answer, visible
from mlx_tinyagent.errors import PlanError, RefusedError
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.plan.schema import Argument, Plan
from mlx_tinyagent.plan.text import write
from mlx_tinyagent.tools.base import Kind, Param, ToolSet
from mlx_tinyagent.tools.results import Ok, explain

if TYPE_CHECKING:
    from rich.text import Text

QUESTION = "Do this? [y/N, e edit, ? help] "
HELP = """\
  y, yes             do all of it
  n, empty, Ctrl-C   do nothing
  skip 2             leave out step 2 and what needs it
  2 NAME = VALUE     change an argument of step 2: 2 start date = friday at 4pm
  e                  edit the plan in your editor ($EDITOR)
  d 2                edit the draft of step 2 in your editor
  v 2                show step 2 in full"""
_SKIP = re.compile(r"(?:skip|drop|no|without|-)\s*(\d{1,2}(?:\s*,?\s*\d{1,2})*)", re.IGNORECASE)
_SET = re.compile(r"(\d{1,2})[\s.]+([A-Za-z_][\w ]*?)\s*=\s*(.*)", re.DOTALL)
_STEP = re.compile(r"([dv])\s*(\d{1,2})", re.IGNORECASE)


@dataclass(slots=True)
class Approval:
    """Asks about one request's plans.

    Attributes:
        tools: Enabled tools.
        plan: The plan as written; what an edit starts from.
        label: Says what a key such as ``event:12`` stands for; None for no such key.
        drafts: What is written for the steps of a plan, and may be written otherwise.
        edit: Lets the user edit a text; None if it was left as it is.
    """

    tools: ToolSet
    plan: Plan
    label: Callable[[str], str | None] = lambda key: None
    drafts: DraftBook | None = None
    edit: Callable[[str], str | None] = click.edit

    def ask(self, shown: Preview) -> bool:
        """Show a plan and ask until there is a yes, a no or another plan.

        Raises:
            Edited: The user wants another plan.
            RefusedError: There is no terminal to ask at, or Ctrl-C was the answer.
        """
        if not interactive():
            raise RefusedError(
                "this plan changes something and there is no terminal to ask at; nothing was "
                "changed"
            )
        self._show(shown)
        while True:
            try:
                answer = read_answer(QUESTION)
            except KeyboardInterrupt:
                click.echo(err=True)
                raise RefusedError("not approved: nothing was changed") from None
            said = (answer or "").strip()
            if said.casefold() in YES:
                return True
            if not said or said.casefold() in ("n", "no", "nope", "cancel", "stop"):
                return False
            if not self._command(said, shown):
                return False

    def _command(self, said: str, shown: Preview) -> bool:
        """Do what was typed instead of yes or no; False takes it for a no.

        Raises:
            Edited: The plan is another one now.
        """
        if said in ("?", "h", "help", "/help"):
            click.echo(HELP, err=True)
        elif said.casefold() in ("e", "edit"):
            self._edit_plan()
        elif match := _SKIP.fullmatch(said):
            self._skip([int(number) for number in re.findall(r"\d+", match[1])])
        elif match := _SET.fullmatch(said):
            self._set(int(match[1]), match[2], match[3].strip())
        elif match := _STEP.fullmatch(said):
            self._one(match[1].casefold(), int(match[2]), shown)
        else:
            return False
        return True

    def _edit_plan(self) -> None:
        text = write(self.plan)
        changed = self.edit(text)
        if changed is None or changed.strip() == text.strip():
            click.echo("  The plan was left as it is.", err=True)
            return
        try:
            plan = parse(changed.strip(), self.tools)
        except PlanError as error:
            click.echo(f"  {visible(str(error))}", err=True)
            return
        raise Edited(plan)

    def _skip(self, numbers: list[int]) -> None:
        known = {step.id for step in self.plan.steps}
        if unknown := [number for number in numbers if number not in known]:
            click.echo(f"  There is no step {unknown[0]}.", err=True)
            return
        left = without(self.plan, numbers)
        if not left.steps:
            raise RefusedError("not approved: nothing was changed")
        raise Edited(left)

    def _set(self, number: int, name: str, value: str) -> None:
        step = next((step for step in self.plan.steps if step.id == number), None)
        if step is None:
            click.echo(f"  There is no step {number}.", err=True)
            return
        params = self.tools[step.tool].params
        wanted = "_".join(name.casefold().split())
        place = next((i for i, param in enumerate(params) if param.name == wanted), None)
        if place is None:
            known = ", ".join(words(param.name) for param in params)
            click.echo(f"  Step {number} has no argument '{visible(name)}': {known}.", err=True)
            return
        plan = edited(self.plan, number, place, _value(params[place], value))
        try:
            raise Edited(parse(write(plan), self.tools))
        except PlanError as error:
            click.echo(f"  {visible(str(error))}", err=True)

    def _one(self, what: str, number: int, shown: Preview) -> None:
        """Show one step in full, or edit its draft.

        Raises:
            Edited: Its draft is another one now.
        """
        step = next((step for step in shown.steps if step.id == number), None)
        if step is None:
            click.echo(f"  There is no step {number}.", err=True)
            return
        if what == "v":
            for name, value in step.args:
                click.echo(f"  {words(name)}: {visible(self._shown(value))}", err=True)
            return
        draft = self._draft(step)
        if self.drafts is None or draft is None:
            click.echo(f"  Step {number} has no draft.", err=True)
            return
        changed = self.edit(draft)
        if changed is None or not changed.strip() or changed.strip() == draft.strip():
            click.echo("  The draft was left as it is.", err=True)
            return
        self.drafts.write_instead(draft, changed.strip())
        raise Edited(self.plan)

    def _draft(self, step: PreviewStep) -> str | None:
        """Return what was written for a step; None if nothing was."""
        if self.drafts is None:
            return None
        return next((t for _, v in step.args if (t := self.drafts.within(v))), None)

    # Showing

    def _show(self, shown: Preview) -> None:
        from rich.console import Console

        console = Console(stderr=True, highlight=False)
        needs = {step.id: step.dependencies for step in self.plan.steps}
        for step in shown.steps:
            for line in self._step(step, needs.get(step.id, ())):
                if isinstance(line, str):
                    click.echo(line, err=True)
                else:
                    console.print(line, soft_wrap=True)

    def _step(self, step: PreviewStep, needs: tuple[int, ...]) -> list[Text | str]:
        from rich.text import Text

        view = StepView(id=step.id, tool=step.tool, needs=needs)
        if step.result is not None:
            if isinstance(step.result, Ok):
                return list(step_lines([replace(view, state="ok", note=explain(step.result))]))
            return list(step_lines([replace(view, state="open", note=_why(step))]))
        if step.problem is not None:
            told = f"will not run: {_why(step)}"
            return list(step_lines([replace(view, state="skipped", note=told)]))
        title = step_lines([view])[0]
        title.append(f"  {step.effect}", style=_EFFECTS.get(step.effect, ""))
        lines: list[Text | str] = [title]
        for name, value in step.args:
            first, *rest = visible(self._shown(value)).split("\n")
            lines += _wrapped(f"       {words(name)}: {first}", " " * 9)
            lines += [part for line in rest for part in _wrapped(f"       | {line}", "       | ")]
        mark = "!" if not unicode_marks() else "⚠"
        for warning in step.warnings:
            told = "\n".join(_wrapped(f"       {mark} {visible(warning)}", " " * 9))
            lines.append(Text(told, style="bold red"))
        return lines

    def _shown(self, value: str) -> str:
        return self.label(value) or value


_EFFECTS = {"write": "yellow", "draft": "yellow", "send": "red", "delete": "red"}


def _wrapped(line: str, indent: str) -> list[str]:
    """Break a long line so that no part of it begins where a step would."""
    width = max(40, shutil.get_terminal_size().columns)
    if len(line) < width:
        return [line]
    return textwrap.wrap(
        line,
        width - 1,
        subsequent_indent=indent,
        drop_whitespace=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )


def _why(step: PreviewStep) -> str:
    result = step.problem or step.result
    if result is None:
        return ""
    return problem(StepResult(id=step.id, tool=step.tool, args={}, result=result, seconds=0))


def _value(param: Param, text: str) -> Argument:
    """Read what was typed as a value of an argument; quotes around it are dropped."""
    if param.is_list:
        parts = [part.strip().strip("\"'") for part in text.strip("[]").split(",")]
        return tuple(part for part in parts if part)
    plain = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
    if param.kind is Kind.BOOL:
        return plain.casefold() in ("true", "yes", "on", "1")
    if param.kind in (Kind.INT, Kind.FLOAT):
        try:
            return int(plain) if param.kind is Kind.INT else float(plain)
        except ValueError:
            return plain
    if param.optional and plain.casefold() in ("", "none"):
        return None
    return plain
