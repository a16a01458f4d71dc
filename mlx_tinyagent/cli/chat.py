"""``chat``: a conversation with the assistant at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlx_tinyagent.cli.common import (
    adapter_option,
    backend_option,
    classifier_option,
    dim,
    load_model,
    load_tool_set,
    make_agent,
    make_planner,
    model_option,
    open_backend,
)

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_tinyagent.agent.agent import Agent
    from mlx_tinyagent.agent.worker import Worker
    from mlx_tinyagent.cli.chat_loop import Chat, Resident
    from mlx_tinyagent.cli.chat_settings import Settings
    from mlx_tinyagent.tools.backend import Writer
    from mlx_tinyagent.tools.base import ToolSet

RECALLED = 3  # exchanges of a resumed chat that are shown again


@click.command()
@model_option
@adapter_option
@click.option(
    "--tools",
    "tools_name",
    metavar="FILE|JSON|NAME",
    default="chat",
    show_default=True,
    help="As for other commands; 'chat' is the 16 tools and those that change what is there.",
)
@classifier_option
@backend_option
@click.option("--resume", metavar="NAME", help="Go on with a saved chat; 'last' is the newest.")
def chat(
    model: str,
    adapter: str | None,
    tools_name: str,
    classifier: Path | None,
    backend: str,
    resume: str | None,
) -> None:
    """Talk to the assistant.

    Each line is a request, a follow-up ("make it 4pm") or the answer to a
    question. The plan is drawn while it is written and while it runs; one that
    changes something is shown first, can be edited, and runs only after a yes.
    Inside, /help lists commands and keys. Ctrl-C stops the running request; a
    second one within a second leaves.

    Settings of a chat, such as standing instructions, stand in chat.toml in the
    folder of settings.
    """
    from mlx_tinyagent.agent.worker import Worker
    from mlx_tinyagent.cli.chat_loop import Chat
    from mlx_tinyagent.cli.chat_settings import read_settings

    settings = read_settings()
    tools = load_tool_set(tools_name)
    with open_backend(backend) as store:
        worker = Worker()
        resident = load_resident(worker, tools, model, adapter, settings, classifier)
        agent = make_agent(tools, store, None)
        talk = Chat(
            agent=agent,
            resident=resident,
            settings=settings,
            load=lambda name, other, how: load_resident(
                worker, tools, name, other, how, classifier
            ),
            write=lambda found, how: make_writer(agent, found, how),
        )
        if resume is not None:
            recall(talk, resume)
        talk.talk()


def load_resident(
    worker: Worker,
    tools: ToolSet,
    model: str,
    adapter: str | None,
    settings: Settings,
    classifier: Path | None = None,
) -> Resident:
    """Load a model on the thread that owns it.

    Args:
        worker: The thread.
        tools: Enabled tools.
        model: The model, as named.
        adapter: Its adapter, as named; None for the model's own.
        settings: Whether tools are retrieved.
        classifier: Folder of the classifier that retrieves them; None for the package's.

    Raises:
        TinyAgentError: It cannot be loaded.
    """
    from mlx_tinyagent.agent.threaded import ThreadedPlanner
    from mlx_tinyagent.cli.chat_loop import Resident

    chosen = classifier if settings.retrieval == "on" else None
    planner = ThreadedPlanner(
        lambda: make_planner(load_model(model, adapter), tools, settings.retrieval, chosen),
        None,
        worker,
    )
    return Resident(model, adapter, planner)


def make_writer(agent: Agent, resident: Resident, settings: Settings) -> Writer:
    """Return who writes bodies and summaries: rules, or the model with rules around it."""
    from pathlib import Path

    from mlx_tinyagent.agent.writers.model import ModelWriter
    from mlx_tinyagent.tools.writer import PlainWriter

    if settings.writer == "plain":
        return PlainWriter()
    engine = resident.planner.engine
    if settings.writer_adapter:
        engine = engine.wearing(Path(settings.writer_adapter).expanduser())
    return ModelWriter(engine, selected=agent.backend.selected_mail)


def recall(talk: Chat, name: str) -> None:
    """Go on with a saved chat and show its end.

    Raises:
        UsageError: There is none of that name.
        InputError: It is damaged.
    """
    from mlx_tinyagent.cli.talk import visible

    found = talk.resume(name)
    for exchange in found[-RECALLED:]:
        click.echo(dim(f"> {visible(exchange.query)}"), err=True)
        if exchange.reply:
            click.echo(dim(visible(exchange.reply)), err=True)
