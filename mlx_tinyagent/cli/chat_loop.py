"""The loop of a chat: read, answer, go on, whatever happens."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from mlx_tinyagent.act.executor import Callbacks
from mlx_tinyagent.act.gate import Preview
from mlx_tinyagent.agent.session import Exchange, Question, Session
from mlx_tinyagent.agent.talker import Talker
from mlx_tinyagent.agent.writers.book import DraftBook
from mlx_tinyagent.cli import chat_file
from mlx_tinyagent.cli.chat_approval import Approval
from mlx_tinyagent.cli.chat_commands import Leave, options, run_command
from mlx_tinyagent.cli.chat_input import QUOTES, Interrupts, Line, Reader, Words, edit_text
from mlx_tinyagent.cli.chat_settings import Settings
from mlx_tinyagent.cli.chat_view import RunView, footer
from mlx_tinyagent.cli.common import check_query, dim, interactive
from mlx_tinyagent.cli.talk import YES, choose, read_answer, visible, what_was_stopped
from mlx_tinyagent.errors import RefusedError, TinyAgentError, UsageError
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.tools.backend import Writer
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.results import Ambiguous, Candidate
from mlx_tinyagent.tools.store_tools import agenda_of

if TYPE_CHECKING:
    from rich.console import Console

    from mlx_tinyagent.agent.agent import Agent, Reply
    from mlx_tinyagent.agent.threaded import ThreadedPlanner

LEAVING = ("quit", "exit", "bye")


@dataclass(slots=True)
class Totals:
    """What a chat has cost."""

    requests: int = 0
    planned: int = 0
    prompt: int = 0
    computed: int = 0
    ahead: int = 0
    plan: int = 0
    passes: int = 0
    plan_s: float = 0.0
    run_s: float = 0.0

    def add(self, reply: Reply, waited: float) -> None:
        """Count one request; the seconds the user was asked something are not its own."""
        self.requests += 1
        seconds = reply.trace.seconds
        self.plan_s += sum(seconds.get(name, 0.0) for name in ("retrieve", "prefill", "decode"))
        self.run_s += max(0.0, seconds.get("run", 0.0) - waited)
        if reply.counts is not None:
            self.planned += 1
            self.prompt += reply.counts.prompt_tokens
            self.computed += reply.counts.prompt_tokens_computed
            self.ahead += reply.counts.prompt_tokens_ahead
            self.plan += reply.counts.plan_tokens
            self.passes += reply.counts.forward_passes


@dataclass(slots=True)
class Resident:
    """The model a chat talks with.

    Attributes:
        model: Its name.
        adapter: Its adapter, as named; None for the model's own.
        planner: The planner on it.
    """

    model: str
    adapter: str | None
    planner: ThreadedPlanner


@dataclass(slots=True)
class Chat:
    """One chat.

    Attributes:
        agent: Plans and runs.
        resident: The model.
        settings: How it is set.
        load: Loads another model: name, adapter, settings.
        write: Makes the writer of bodies that the settings ask for.
        session: What was said.
        last: What came of the last request that ended.
        last_query: The last request.
        saved_as: Name it is saved under and kept up to date; None for none.
        totals: What it has cost.
    """

    agent: Agent
    resident: Resident
    settings: Settings
    load: Callable[[str, str | None, Settings], Resident]
    write: Callable[[Resident, Settings], Writer]
    session: Session = field(init=False)
    last: Reply | None = None
    last_query: str | None = None
    saved_as: str | None = None
    totals: Totals = field(default_factory=Totals)
    _plan: Plan = field(default_factory=Plan)  # the one that is asked about
    _drafts: DraftBook = field(init=False)
    _interrupts: Interrupts = field(default_factory=Interrupts)
    _words: Words = field(init=False)

    def __post_init__(self) -> None:
        self.session = Session(agent=self.agent)
        self._words = Words(self._names)
        self.apply(self.settings)

    @property
    def tools(self) -> ToolSet:
        """The enabled tools."""
        return self.agent.tools

    @property
    def model_name(self) -> str:
        """The model, as named."""
        return self.resident.model

    @property
    def adapter_name(self) -> str:
        """The adapter, as named."""
        adapter = self.resident.adapter
        return "its own adapter, if it has one" if adapter is None else f"adapter {adapter}"

    # The loop

    def talk(self) -> None:
        """Answer requests until the user leaves.

        Raises:
            KeyboardInterrupt: The user left with Ctrl-C.
            StoreError: The history file cannot be written.
        """
        reader = Reader(dict(options(self)), self._words, self._interrupts, self.typed)
        click.echo("Type a request, /help or /quit.", err=True)
        while (line := reader.read()) is not None:
            try:
                self._take(line)
            except Leave:
                return

    def _take(self, line: Line) -> None:
        """Do what one entered line says; errors and Ctrl-C end that, not the chat."""
        from mlx_tinyagent.cli.crash import report

        text = line.text.strip()
        if line.typed and text.casefold() in LEAVING:
            raise Leave
        try:
            if line.typed and text.startswith("/"):
                if told := run_command(self, text):
                    click.echo(visible(told), err=True)
            elif text:
                self.again(self._chosen(text))
        except KeyboardInterrupt as stop:
            click.echo(f"\n{what_was_stopped(stop)}", err=True)
            if self._interrupts.again():
                raise
            if not text.startswith("/"):
                self.session.stopped(text)
        except TinyAgentError as error:
            click.echo(visible(str(error)), err=True)
        except Leave:
            raise
        except Exception:  # a bug ends the request; the report has the rest
            click.echo(report(), err=True)

    def typed(self, text: str) -> None:
        """Read along: what is typed so far is computed ahead, word by word.

        A word that is not over may become another, and need other tools.
        """
        whole = text[-1:].isspace() or text[-1:] in ",.;:!?"
        request = text.strip() and not text.lstrip().startswith(("/", QUOTES))
        if self.settings.ahead == "on" and whole and request:
            self.resident.planner.read_along(self.session.request(text))

    # Requests

    def again(self, text: str) -> None:
        """Answer a request and show what came of it.

        Raises:
            TinyAgentError: It could not be answered; nothing was changed.
            KeyboardInterrupt: Ctrl-C.
        """
        self.last_query = check_query(text)
        self._drafts.clear()
        view = RunView(_console())
        with contextlib.redirect_stdout(sys.stderr), view.shown():  # what tools print is no answer
            reply = self.session.answer(
                text,
                self._callbacks(view),
                ask=self._ask(view) if interactive() else None,
                on_text=view.wrote,
                on_plan=lambda plan: self._planned(view, plan),
            )
        self.last = reply
        self.totals.add(reply, view.waited)
        click.echo(visible(reply.text))
        self._offer(reply)
        click.echo(dim(footer(reply, len(self.tools), view.waited)), err=True)
        if self.saved_as is not None:
            chat_file.save(self.saved_as, self.session.exchanges)

    def dry_run(self, text: str) -> str:
        """Plan a request and run nothing.

        Raises:
            TinyAgentError: It could not be planned.
        """
        view = RunView(_console())
        with view.shown():
            planned = self.resident.planner.plan(
                self.session.request(check_query(text)), on_text=view.wrote
            )
        return planned.text

    def undo(self, which: str) -> str:
        """Take back what a request did, after a yes.

        Args:
            which: Its number in the journal, or that of one step; empty for the last one.

        Returns:
            What became of it.

        Raises:
            TinyAgentError: It cannot be taken back; nothing was changed.
        """
        from mlx_tinyagent.act.recovery import choose_undo, undo

        journal = self.agent.journal
        if journal is None:
            raise UsageError("no journal is kept here: nothing can be taken back")
        chosen = choose_undo(journal, which or None)
        if chosen is None:
            return "There is nothing to undo."
        click.echo("\n".join(f"  {visible(line)}" for line in chosen.describe()), err=True)
        if not interactive():
            raise RefusedError("there is no terminal to ask at; nothing was undone")
        said = read_answer("Take this back? [y/N] ")
        if said is None or said.strip().casefold() not in YES:
            return "Nothing was undone."
        kept = undo(journal, self.agent.backend, chosen)
        self.session.undone(step.result.record for step in chosen.steps if step.result is not None)
        return "\n".join(kept) if kept else "Undone."

    def _planned(self, view: RunView, plan: Plan) -> None:
        self._plan = plan
        view.planned(plan)

    def _chosen(self, text: str) -> str:
        """Return the choice that a number means, after a question with choices; else the text."""
        last = self.last
        if last is None or last.plan.ask is None or not (text.isascii() and text.isdigit()):
            return text
        choices = self.session.choices(last.plan.ask)
        return choices[int(text) - 1] if 1 <= int(text) <= len(choices) else text

    def _offer(self, reply: Reply) -> None:
        """Offer answers to a question the planner asked."""
        if reply.plan.ask is None:
            return
        for number, choice in enumerate(self.session.choices(reply.plan.ask), start=1):
            click.echo(f"  {number}. {visible(choice)}", err=True)

    # Talking while a plan runs

    def _callbacks(self, view: RunView) -> Callbacks:
        def approve(shown: Preview) -> bool:
            with view.paused():
                approval = Approval(
                    tools=self.tools,
                    plan=self._plan,
                    label=self._label,
                    drafts=self._drafts,
                    edit=edit_text,
                )
                return approval.ask(shown)

        def pick(unclear: Ambiguous) -> Candidate | None:
            with view.paused():
                return choose(unclear, tries=3)

        return Callbacks(
            approve=approve,
            choose=pick if interactive() else None,
            partial=interactive(),
            started=view.started,
            finished=view.finished,
        )

    def _ask(self, view: RunView) -> Callable[[Question], str | None]:
        def ask(question: Question) -> str | None:
            with view.paused():
                click.echo(f"  {visible(question.text)}", err=True)
                for number, choice in enumerate(question.choices, start=1):
                    click.echo(f"    {number}. {visible(choice)}", err=True)
                hint = "a number or other words" if question.choices else "empty for none"
                said = (read_answer(f"  > ({hint}) ") or "").strip()
            if said.isascii() and said.isdigit() and 1 <= int(said) <= len(question.choices):
                return question.choices[int(said) - 1]
            return said or None

        return ask

    def _label(self, key: str) -> str | None:
        agenda = agenda_of(self.agent.backend)
        item = agenda.item(key) if agenda is not None else None
        return item.label if item is not None else None

    # Settings

    def apply(self, settings: Settings) -> None:
        """Set the chat; another retriever needs another planner.

        Raises:
            TinyAgentError: The model cannot be loaded anew.
        """
        if settings.retrieval != self.settings.retrieval:
            self.resident = self.load(self.resident.model, self.resident.adapter, settings)
        self._drafts = DraftBook(self.write(self.resident, settings))  # an adapter may not fit
        self.settings = settings
        self.agent.planner = self.resident.planner  # type: ignore[assignment] # plans as one does
        self.agent.instructions = settings.instructions
        self.session.turns = settings.turns
        talks = settings.writer == "model"  # the default model is too small to talk
        self.session.talker = Talker(self.resident.planner.engine) if talks else None
        self.agent.writer = self._drafts

    def use(self, model: str, adapter: str | None) -> None:
        """Go on with another model or adapter; what was said stays.

        Raises:
            TinyAgentError: It cannot be loaded; the chat goes on with the one it has.
        """
        self.resident = self.load(model, adapter, self.settings)
        self.apply(self.settings)

    def begin_anew(self) -> None:
        """Forget what was said."""
        self.session.exchanges.clear()
        self.last, self.last_query, self.saved_as = None, None, None

    def resume(self, name: str) -> list[Exchange]:
        """Go on with a saved chat.

        Raises:
            UsageError: There is none of that name.
            InputError: It is damaged.
        """
        found = chat_file.load(name)
        self.session.exchanges[:] = found
        self.saved_as = name if name != chat_file.LAST else (chat_file.saved() or [name])[0]
        return found

    def _names(self) -> Iterable[tuple[str, str]]:
        """Yield what a request may name, for completion."""
        backend = self.agent.backend
        yield from ((contact.name, "contact") for contact in backend.contacts())
        yield from ((note.name, f"note in {note.folder}") for note in backend.notes())
        yield from ((entry.name, "file") for entry in backend.files())


def _console() -> Console | None:
    """Return the terminal to draw on; None where there is none."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console

    return Console(stderr=True, highlight=False)
