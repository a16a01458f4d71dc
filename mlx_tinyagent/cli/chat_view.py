"""What a chat shows of a request: the plan as it is written, the steps as they run, the cost.

All of it goes to standard error. On a terminal it is one picture that changes
in place; elsewhere it is plain lines, each written once.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import click

from mlx_tinyagent.act.executor import StepResult
from mlx_tinyagent.agent.joiner import problem, words
from mlx_tinyagent.cli.talk import visible
from mlx_tinyagent.errors import PlanError
from mlx_tinyagent.plan.schema import Argument, Plan, Ref, Step, parse_ref, parse_template
from mlx_tinyagent.plan.text import PlanReader, RawStep
from mlx_tinyagent.tools.results import Ok, explain
from mlx_tinyagent.trace import now

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType
    from rich.live import Live
    from rich.text import Text

    from mlx_tinyagent.agent.agent import Reply

State = Literal["planned", "running", "ok", "open", "failed", "skipped", "unknown"]
FRAMES = 10  # per second
MAX_ARGUMENT_CHARS = 48  # of one argument in a step's line
MAX_NOTE_LINES = 3  # of a result below its step

_MARKS: dict[State, tuple[str, str, str]] = {  # on UTF-8 terminals, elsewhere, style
    "planned": ("○", "o", "dim"),
    "running": ("◐", "*", "cyan"),
    "ok": ("✓", "+", "green"),
    "open": ("?", "?", "yellow"),
    "failed": ("✗", "x", "red"),
    "skipped": ("–", "-", "dim"),  # noqa: RUF001 - a dash as wide as the other marks
    "unknown": ("!", "!", "yellow"),
}
_SPINNER = "◐◓◑◒"
_OF_STATUS: dict[str, State] = {
    "ok": "ok",
    "not_found": "open",
    "ambiguous": "open",
    "permission": "open",
    "failed": "failed",
    "skipped": "skipped",
    "unknown": "unknown",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """One step as shown.

    Attributes:
        id: Number in the plan.
        tool: Tool name.
        args: What the call says, defaults left out.
        needs: Numbers of the steps it reads.
        state: What became of it so far.
        note: What came of it, or why nothing did.
        seconds: How long it ran; None before it is done.
    """

    id: int
    tool: str
    args: tuple[str, ...] = ()
    needs: tuple[int, ...] = ()
    state: State = "planned"
    note: str = ""
    seconds: float | None = None


def step_views(plan: Plan) -> list[StepView]:
    """Return the steps of a checked plan as shown before they run."""
    return [_of_step(step) for step in plan.steps]


def unicode_marks() -> bool:
    """Whether standard error takes more than ASCII."""
    stream = sys.__stderr__ or sys.stderr  # while something is drawn, stderr is another object
    return (stream.encoding or "").casefold().startswith("utf")


def step_lines(steps: Sequence[StepView], *, beat: float = 0.0) -> list[Text]:
    """Draw steps, one per line, those that read others indented below them.

    Args:
        steps: The steps in plan order.
        beat: Seconds since something; turns the marks of running steps.
    """
    from rich.text import Text

    depths: dict[int, int] = {}
    lines: list[Text] = []
    rich_marks = unicode_marks()
    for step in steps:
        depth = 1 + max((depths.get(number, 0) for number in step.needs), default=-1)
        depths[step.id] = depth
        mark, plain, style = _MARKS[step.state]
        if step.state == "running":
            mark = _SPINNER[int(beat * 8) % len(_SPINNER)]
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append("  " + "   " * depth)
        line.append(mark if rich_marks else plain, style=style)
        line.append(f" {step.id}  ", style="dim")
        line.append(words(step.tool), style="bold" if step.state != "skipped" else "dim")
        if step.args:
            joint = " · " if rich_marks else " - "
            line.append(joint + joint.join(map(_short, step.args)), style="dim")
        if step.needs:
            arrow = "←" if rich_marks else "<-"
            line.append(f"  {arrow} {' '.join(map(str, step.needs))}", style="dim")
        if step.seconds is not None:
            line.append(f"  {step.seconds:.2f} s", style="dim")
        lines.append(line)
        for note in visible(step.note).splitlines()[:MAX_NOTE_LINES] if step.note else ():
            below = Text(no_wrap=True, overflow="ellipsis")
            below.append("     " + "   " * depth + note, style=style if step.state != "ok" else "")
            lines.append(below)
    return lines


class RunView:
    """The picture of one request, from the first written token to the last result.

    Args:
        console: Where it is drawn; None for plain lines.
    """

    def __init__(self, console: Console | None) -> None:
        self._console = console
        self._live: Live | None = None
        self._lock = threading.Lock()
        self._text = ""
        self._title = "Planning"
        self._steps: list[StepView] = []
        self._begun = now()
        self._over = False
        self._drawing = False
        self.waited = 0.0  # seconds for which the user was asked something

    # What happens

    def wrote(self, text: str) -> None:
        """Take the plan text so far; called on the model's thread."""
        self._text = text

    def planned(self, plan: Plan) -> None:
        """Take the checked plan; what is written so far gives way to it."""
        with self._lock:
            self._steps = step_views(plan)
            self._text = ""
            self._title = ""
        if self._drawing and self._live is None:  # an edit has ended a question
            self._begin()
        if self._console is None:
            for line in step_lines(self._steps):
                click.echo(line.plain, err=True)

    def started(self, step: Step) -> None:
        """Show that a step runs."""
        self._set(step.id, state="running")

    def finished(self, outcome: StepResult) -> None:
        """Show what came of a step."""
        ok = isinstance(outcome.result, Ok)
        told = "" if ok else problem(outcome)
        if isinstance(outcome.result, Ok) and outcome.result.record is None:
            told = _first_line(explain(outcome.result))
        ran = outcome.seconds if outcome.args or ok else None
        self._set(outcome.id, state=_OF_STATUS[outcome.result.status], note=told, seconds=ran)

    def _set(self, number: int, **changes: Any) -> None:
        with self._lock:
            self._steps = [
                replace(step, **changes) if step.id == number else step for step in self._steps
            ]

    # Drawing

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Draw while the block runs; keys that are hit meanwhile are not echoed."""
        self._drawing = True
        self._begin()
        try:
            with no_echo():
                yield
            self._over = True
        finally:
            self._drawing = False
            self._end()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to a question while the block runs."""
        self._end(keep=False)
        since = now()
        try:
            with echo():
                yield
        finally:
            self.waited += now() - since
        if self._drawing:
            self._begin()

    def _begin(self) -> None:
        if self._console is None:
            return
        from rich.live import Live

        self._live = Live(
            _Frame(self),
            console=self._console,
            refresh_per_second=FRAMES,
            transient=False,
            vertical_overflow="crop",
        )
        self._live.start(refresh=True)

    def _end(self, *, keep: bool = True) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.transient = not (keep and self._kept())
            live.stop()

    def _kept(self) -> bool:
        """Whether the last picture is worth staying: something ran."""
        return any(step.state != "planned" for step in self._steps)

    def frame(self) -> Group:
        """Return the picture as it is now."""
        from rich.console import Group
        from rich.text import Text

        beat = now() - self._begun
        with self._lock:
            steps, text, title = self._steps, self._text, self._title
        parts: list[RenderableType] = []
        if title:
            mark = _SPINNER[int(beat * 8) % len(_SPINNER)] if unicode_marks() else "*"
            parts.append(Text(f"  {mark} {title} ...", style="dim"))
        if text:
            parts += [*step_lines(_read(text)), *_rest(text)]
        if self._over:  # the answer says it again, unless it only went into another step
            used = {number for step in steps for number in step.needs}
            steps = [step if step.id in used else replace(step, note="") for step in steps]
        parts += step_lines(steps, beat=beat)
        return Group(*parts)


class _Frame:
    """Asks the view for its picture at every refresh."""

    def __init__(self, view: RunView) -> None:
        self._view = view

    def __rich__(self) -> Group:
        return self._view.frame()


def footer(reply: Reply, enabled: int, waited: float = 0.0) -> str:
    """Return one line on what a request cost.

    Args:
        reply: What came of it.
        enabled: How many tools are enabled.
        waited: Seconds for which the user was asked something; they are no cost.
    """
    seconds = reply.trace.seconds
    parts = []
    if reply.counts is not None:
        counts = reply.counts
        parts.append(f"{len(reply.offered)}/{enabled} tools")
        parts.append(
            f"{counts.prompt_tokens_computed}/{counts.prompt_tokens} prompt tokens computed"
        )
        if counts.prompt_tokens_ahead:
            parts.append(f"{counts.prompt_tokens_ahead} while typing")
        planned = sum(seconds.get(name, 0.0) for name in ("retrieve", "prefill", "decode"))
        parts.append(f"plan {planned:.1f} s")
    else:
        parts.append("read without the model")
    parts.append(f"run {max(0.0, seconds.get('run', 0.0) - waited):.1f} s")
    return (" · " if unicode_marks() else " - ").join(parts)


@contextlib.contextmanager
def no_echo() -> Iterator[None]:
    """Keep keys from being echoed while the block runs; they stay for the next prompt."""
    with _echoing(False):
        yield


@contextlib.contextmanager
def echo() -> Iterator[None]:
    """Let keys be echoed while the block runs."""
    with _echoing(True):
        yield


@contextlib.contextmanager
def _echoing(on: bool) -> Iterator[None]:
    import termios

    if not sys.stdin.isatty():
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    flags = before[3] | termios.ECHO if on else before[3] & ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSADRAIN, [*before[:3], flags, *before[4:]])
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _of_step(step: Step) -> StepView:
    said = (argument for argument in step.args if not _only_refs(argument))
    shown = tuple(text for text in map(_argument, said) if text)
    return StepView(id=step.id, tool=step.tool, args=shown, needs=step.dependencies)


def _only_refs(argument: Argument) -> bool:
    """Whether an argument is what earlier steps give: the arrow says so already."""
    items = argument if isinstance(argument, tuple) else (argument,)
    return bool(items) and all(isinstance(item, Ref) for item in items)


def _argument(argument: Argument) -> str:
    if isinstance(argument, tuple):
        return ", ".join(filter(None, map(_argument, argument)))
    return "" if argument in ("", None, False, 0) else str(argument)


def _short(text: str) -> str:
    line = visible(" ".join(text.split()))
    return line if len(line) <= MAX_ARGUMENT_CHARS else f"{line[: MAX_ARGUMENT_CHARS - 1]}…"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _read(text: str) -> list[StepView]:
    """Read the steps that are complete in a plan being written."""
    found: list[RawStep] = []
    with contextlib.suppress(PlanError):
        found.extend(PlanReader().feed(text))
    return [_of_raw(step) for step in found if step.name not in ("join", "ask", "more_tools")]


def _of_raw(raw: RawStep) -> StepView:
    def value(item: Any) -> Any:
        if isinstance(item, list):
            return tuple(map(value, item))
        if isinstance(item, str):
            return parse_ref(item) or parse_template(item)
        return item

    return _of_step(Step(raw.id, raw.name, tuple(map(value, raw.args))))


def _rest(text: str) -> list[Text]:
    """Return the line that is being written."""
    from rich.text import Text

    line = text.rpartition("\n")[2]
    if not line.strip():
        return []
    return [Text(f"    {visible(line)}", style="dim", no_wrap=True, overflow="ellipsis")]
