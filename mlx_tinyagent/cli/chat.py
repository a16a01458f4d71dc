"""``chat``: a loop over requests that remembers the last few."""

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
    dim,
    load_model,
    load_tool_set,
    make_agent,
    make_planner,
    model_option,
    open_backend,
    status,
    tools_option,
)
from mlx_tinyagent.config import paths
from mlx_tinyagent.errors import TinyAgentError

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

    from mlx_tinyagent.agent.agent import Agent, Reply
    from mlx_tinyagent.agent.planner import Planned

HELP = """\
Type a request, such as: remind me to call mom tomorrow at 5pm
/tools   the tools that may be used
/plan    the last plan
/help    this text
/quit    leave (also Ctrl-D, or Ctrl-C twice)
Ctrl-C stops the running request."""
LEAVING = ("/quit", "/exit", "quit", "exit")


@click.command()
@model_option
@adapter_option
@tools_option
@backend_option
def chat(model: str, adapter: str | None, tools_name: str, backend: str) -> None:
    """Talk to the assistant.

    Each line is a request; the last three are remembered. A plan that changes
    something is shown first and runs only after a yes. Inside, /help lists the
    commands. Ctrl-C stops the running request and keeps the chat; at an empty
    line, twice leaves it.
    """
    tools = load_tool_set(tools_name)
    with open_backend(backend) as store:
        agent = make_agent(tools, store, make_planner(load_model(model, adapter), tools))
        talk(agent)


def talk(agent: Agent) -> None:
    """Answer requests until the user leaves.

    Raises:
        KeyboardInterrupt: The user left with Ctrl-C.
        StoreError: The history file cannot be written.
    """
    reader = _Reader()
    click.echo("Type a request, /help or /quit.", err=True)
    last: Reply | None = None
    while (line := reader.read()) is not None:
        text = line.strip()
        if text.casefold() in LEAVING:
            return
        if text.startswith("/"):
            click.echo(_command(text, agent, last), err=True)
        elif text:
            last = _answer(agent, text) or last


def _command(text: str, agent: Agent, last: Reply | None) -> str:
    """Answer a slash command; an unknown one is an error and goes nowhere."""
    match text.casefold():
        case "/help":
            return HELP
        case "/tools":
            width = max(len(tool.name) for tool in agent.tools)
            return "\n".join(f"{tool.name:<{width}}  {tool.summary}" for tool in agent.tools)
        case "/plan":
            return last.plan_text if last else "There is no plan yet."
        case _:
            return f"There is no command {text.split()[0]}; /help lists them."


def _answer(agent: Agent, text: str) -> Reply | None:
    """Answer one request; an error or Ctrl-C ends the request, not the chat."""
    from mlx_tinyagent.cli.crash import report
    from mlx_tinyagent.cli.talk import callbacks, visible, what_was_stopped

    try:
        with contextlib.ExitStack() as spinner, contextlib.redirect_stdout(sys.stderr):
            spinner.enter_context(status("Planning"))

            def show(planned: Planned) -> None:
                spinner.close()
                click.echo(dim(visible(planned.text)), err=True)

            reply = agent.ask(check_query(text), callbacks(), on_plan=show)
    except KeyboardInterrupt as stop:
        click.echo(f"\n{what_was_stopped(stop)}", err=True)
        return None
    except TinyAgentError as error:
        click.echo(str(error), err=True)
        return None
    except Exception:  # a bug ends the request; the report has the rest
        click.echo(report(), err=True)
        return None
    click.echo(visible(reply.text))
    click.echo(dim(_footer(agent, reply)), err=True)
    return reply


def _footer(agent: Agent, reply: Reply) -> str:
    """One line on what the request cost."""
    seconds = reply.trace.seconds
    planned = sum(seconds.get(name, 0.0) for name in ("retrieve", "prefill", "decode"))
    parts = [f"{len(reply.offered)}/{len(agent.tools)} tools"]
    if reply.counts is not None:
        counts = reply.counts
        parts.append(
            f"{counts.prompt_tokens_computed}/{counts.prompt_tokens} prompt tokens computed"
        )
    parts.append(f"plan {planned:.1f} s")
    parts.append(f"run {seconds.get('run', 0.0):.1f} s")
    return " · ".join(parts)


class _Reader:
    """Reads requests: with history and editing at a terminal, else line by line."""

    def __init__(self) -> None:
        self._session: PromptSession[str] | None = None
        if sys.stdin.isatty() and sys.stderr.isatty():
            from prompt_toolkit import PromptSession
            from prompt_toolkit.history import FileHistory
            from prompt_toolkit.output import create_output

            output = create_output(stdout=sys.stderr)  # stdout carries answers alone
            self._session = PromptSession(
                history=FileHistory(str(_history_file())), output=output, enable_suspend=True
            )

    def read(self) -> str | None:
        """Return the next line; None at the end.

        Raises:
            KeyboardInterrupt: Ctrl-C twice in a row, or once where nobody types.
        """
        stopped = False
        while True:
            try:
                return self._line()
            except EOFError:
                return None
            except KeyboardInterrupt:
                if stopped or self._session is None:
                    raise
                stopped = True
                click.echo("Ctrl-C again, Ctrl-D or /quit leaves.", err=True)

    def _line(self) -> str | None:
        if self._session is not None:
            return self._session.prompt("> ")
        raw = sys.stdin.buffer.readline()
        return raw.decode(errors="surrogateescape") if raw else None


def _history_file() -> Path:
    """Return the history file, readable by its owner only."""
    from mlx_tinyagent.files import readable_errors

    file = paths().data / "history"
    with readable_errors(file):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.chmod(0o600)
    return file
