"""``chat``: a loop over requests that remembers the last few."""

from __future__ import annotations

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
    tools_option,
)
from mlx_tinyagent.config import paths
from mlx_tinyagent.errors import TinyAgentError

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

    from mlx_tinyagent.agent.agent import Agent, Reply

HELP = """\
Type a request, such as: remind me to call mom tomorrow at 5pm
/tools   the tools that may be used
/plan    the last plan
/quit    leave (also Ctrl-D)
Ctrl-C stops the running request."""


@click.command()
@model_option
@adapter_option
@tools_option
@click.option("--backend", default="local", show_default=True, help="Where actions happen.")
def chat(model: str, adapter: str | None, tools_name: str, backend: str) -> None:
    """Talk to the assistant."""
    tools = load_tool_set(tools_name)
    store = open_backend(backend)
    planner = make_planner(load_model(model, adapter), tools)
    agent = make_agent(tools, store, planner)
    click.echo("Type a request, /help or /quit.", err=True)
    reader = _Reader()
    last: Reply | None = None
    while (line := reader.read()) is not None:
        text = line.strip()
        if text in ("/quit", "/exit", "quit", "exit"):
            return
        if text.startswith("/"):
            click.echo(_command(text, agent, last), err=True)
        elif text:
            last = _answer(agent, text) or last


def _command(text: str, agent: Agent, last: Reply | None) -> str:
    """Answer a slash command; an unknown one is an error and goes nowhere."""
    match text:
        case "/help":
            return HELP
        case "/tools":
            return "\n".join(f"{tool.name}: {tool.summary}" for tool in agent.tools)
        case "/plan":
            return last.plan_text if last else "There is no plan yet."
        case _:
            return f"There is no command {text.split()[0]}; /help lists them."


def _answer(agent: Agent, text: str) -> Reply | None:
    """Answer one request; an error or Ctrl-C ends the request, not the chat."""
    from mlx_tinyagent.cli.talk import callbacks

    try:
        reply = agent.ask(
            check_query(text),
            callbacks(yes=False),
            on_plan=lambda planned: click.echo(click.style(planned.text, dim=True), err=True),
        )
    except KeyboardInterrupt:
        click.echo("\nstopped", err=True)
        return None
    except TinyAgentError as error:
        click.echo(str(error), err=True)
        return None
    click.echo(reply.text)
    click.echo(click.style(_footer(agent, reply), dim=True), err=True)
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
        if sys.stdin.isatty() and sys.stdout.isatty():
            from prompt_toolkit import PromptSession
            from prompt_toolkit.history import FileHistory

            self._session = PromptSession(history=FileHistory(str(_history_file())))

    def read(self) -> str | None:
        """Return the next line; None at the end. Ctrl-C empties the line."""
        while True:
            try:
                if self._session is not None:
                    return self._session.prompt("> ")
                line = sys.stdin.readline()
                return line if line else None
            except KeyboardInterrupt:
                continue
            except EOFError:
                return None


def _history_file() -> Path:
    """Return the history file, readable by its owner only."""
    from mlx_tinyagent.files import readable_errors

    file = paths().data / "history"
    with readable_errors(file):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.chmod(0o600)
    return file
