"""Reading what is typed: editing, history, completion, several lines, an editor, Ctrl-C.

At a terminal a line is edited; elsewhere lines are read as they come.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlx_tinyagent.config import paths
from mlx_tinyagent.files import readable_errors
from mlx_tinyagent.trace import now

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.key_binding import KeyBindings

TWICE_S = 1.0  # a second Ctrl-C within this time leaves
QUOTES = '"""'  # opens and closes a request of several lines
MAX_OFFERED = 12  # completions at a time


@dataclass(frozen=True, slots=True)
class Line:
    """What was entered.

    Attributes:
        text: The text.
        typed: Whether it was typed, so that ``/help`` is a command; pasted text never is one.
    """

    text: str
    typed: bool = True


class Interrupts:
    """Tells a second Ctrl-C within a second from a first."""

    def __init__(self) -> None:
        self._last = float("-inf")

    def again(self) -> bool:
        """Note a Ctrl-C; True if it is the second within a second."""
        moment = now()
        again = moment - self._last <= TWICE_S
        self._last = moment
        return again

    def forget(self) -> None:
        """Take the next one for a first."""
        self._last = float("-inf")


class Words:
    """Names that a request may hold: people, notes, files; read from the store once in a while.

    Args:
        read: Reads them anew.
    """

    def __init__(self, read: Callable[[], Iterable[tuple[str, str]]]) -> None:
        self._read = read
        self._known: list[tuple[str, str]] | None = None

    def forget(self) -> None:
        """Read them anew when they are next needed."""
        self._known = None

    def matching(self, start: str) -> Iterator[tuple[str, str]]:
        """Yield names that begin like a text, or have a word that does, with what they are."""
        wanted = start.casefold()
        if self._known is None:
            self._known = sorted(set(self._read()))
        for name, what in self._known:
            folded = name.casefold()
            if folded.startswith(wanted) or any(
                word.startswith(wanted) for word in folded.replace("/", " ").split()
            ):
                yield name, what


class Reader:
    """Reads requests.

    Args:
        commands: Names of the slash commands and what may follow each.
        words: Names to complete.
        interrupts: The last Ctrl-C.
        on_change: Called with what is typed so far; must return at once.
    """

    def __init__(
        self,
        commands: dict[str, Sequence[str]],
        words: Words,
        interrupts: Interrupts,
        on_change: Callable[[str], None],
    ) -> None:
        self._interrupts = interrupts
        self._words = words
        self._pasted = False
        self._session: PromptSession[str] | None = None
        if sys.stdin.isatty() and sys.stderr.isatty():
            self._session = self._make(commands, on_change)

    def read(self) -> Line | None:
        """Return what is entered next; None at the end.

        Raises:
            KeyboardInterrupt: Ctrl-C twice within a second, or once where nobody types.
        """
        while True:
            try:
                line = self._request()
                self._interrupts.forget()
                return line
            except EOFError:
                return None
            except KeyboardInterrupt:
                if self._session is None or self._interrupts.again():
                    raise
                click.echo("Ctrl-C again, Ctrl-D or /quit leaves.", err=True)

    def _request(self) -> Line | None:
        """Read one line, or all lines between two triple quotes."""
        line = self._line("> ")
        if line is None or not line.text.lstrip().startswith(QUOTES):
            return line
        text = line.text.lstrip().removeprefix(QUOTES)
        while QUOTES not in text:
            more = self._line("| ")
            if more is None:
                break
            text += f"\n{more.text}"
        return Line(text.partition(QUOTES)[0].strip("\n"), typed=False)

    def _line(self, prompt: str) -> Line | None:
        if self._session is None:
            raw = sys.stdin.buffer.readline()
            return Line(raw.decode(errors="surrogateescape").rstrip("\r\n")) if raw else None
        self._pasted = False
        self._words.forget()
        text = self._session.prompt(prompt)
        return Line(text, typed=not self._pasted and "\n" not in text.strip("\n"))

    def _make(
        self, commands: dict[str, Sequence[str]], on_change: Callable[[str], None]
    ) -> PromptSession[str]:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
        from prompt_toolkit.history import FileHistory
        from prompt_toolkit.output import create_output

        session: PromptSession[str] = PromptSession(
            history=FileHistory(str(history_file())),
            output=create_output(stdout=sys.stderr),  # stdout carries answers alone
            auto_suggest=AutoSuggestFromHistory(),
            completer=_completer(commands, self._words),
            complete_while_typing=False,
            key_bindings=self._keys(),
            multiline=True,
            prompt_continuation="  ",
            enable_open_in_editor=True,
            tempfile_suffix=".txt",
            enable_suspend=True,
        )
        session.default_buffer.on_text_changed += lambda buffer: on_change(buffer.text)
        return session

    def _keys(self) -> KeyBindings:
        from prompt_toolkit.key_binding import KeyBindings
        from prompt_toolkit.keys import Keys

        keys = KeyBindings()

        @keys.add("enter")
        def _(event: Any) -> None:
            event.current_buffer.validate_and_handle()

        @keys.add("escape", "enter")
        def _(event: Any) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("c-g")
        def _(event: Any) -> None:
            event.current_buffer.open_in_editor()

        @keys.add(Keys.BracketedPaste)
        def _(event: Any) -> None:
            text = event.data.replace("\r\n", "\n").replace("\r", "\n")
            self._pasted = self._pasted or not event.current_buffer.text.strip()
            event.current_buffer.insert_text(text)

        return keys


def _completer(commands: dict[str, Sequence[str]], words: Words) -> Completer:
    from prompt_toolkit.completion import Completer, Completion

    class ChatCompleter(Completer):
        """Commands and what follows them; in a request people, notes and files."""

        def get_completions(self, document: Document, event: object) -> Iterator[Completion]:
            text = document.text_before_cursor
            if text.startswith("/"):
                yield from self._command(text)
                return
            count = 0
            for start in _starts(text):
                for name, what in words.matching(start):
                    yield Completion(name, start_position=-len(start), display_meta=what)
                    count += 1
                    if count == MAX_OFFERED:
                        return
                if count:
                    return

        def _command(self, text: str) -> Iterator[Completion]:
            name, space, rest = text.partition(" ")
            options = commands.get(name, ()) if space else tuple(commands)
            start = rest if space else text
            for option in options:
                if option.startswith(start):
                    yield Completion(option, start_position=-len(start))

    return ChatCompleter()


def _starts(text: str) -> Iterator[str]:
    """Yield what may be the beginning of a name: the last two words, then the last."""
    line = text.rpartition("\n")[2]
    words = line.split()
    if not words or line.endswith(" "):
        return
    if len(words) > 1:
        yield line[line.rindex(words[-2], 0, len(line) - len(words[-1])) :]
    yield words[-1].lstrip("\"'(")


def history_file() -> Path:
    """Return the history file, readable by its owner only.

    Raises:
        StoreError: It cannot be made.
    """
    file = paths().data / "history"
    with readable_errors(file):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.chmod(0o600)
    return file


def edit_text(text: str) -> str | None:
    """Let the user edit a text in their editor; None if it was left as it is.

    Without ``$VISUAL`` or ``$EDITOR`` it is edited in place: Enter makes a new
    line, Esc and then Enter ends.

    Raises:
        KeyboardInterrupt: Ctrl-C while it was edited in place.
    """
    import os

    if os.environ.get("VISUAL") or os.environ.get("EDITOR"):
        try:
            changed = click.edit(text)
        except click.ClickException as error:
            click.echo(f"  {error.format_message()}", err=True)
            return None
        return None if changed is None else changed.rstrip("\n")
    from prompt_toolkit import PromptSession
    from prompt_toolkit.output import create_output

    click.echo("  Esc and then Enter ends, Ctrl-C leaves it as it is.", err=True)
    session: PromptSession[str] = PromptSession(output=create_output(stdout=sys.stderr))
    try:
        return session.prompt("", default=text, multiline=True)
    except (EOFError, KeyboardInterrupt):
        return None
