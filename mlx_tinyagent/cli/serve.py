"""``serve``: plans for other programs on this machine, and a local page."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlx_tinyagent.cli.common import (
    adapter_option,
    backend_option,
    load_model,
    load_tool_set,
    make_agent,
    make_planner,
    make_retriever,
    model_option,
    open_backend,
    tools_option,
)
from mlx_tinyagent.config import paths

if TYPE_CHECKING:
    import socket

    from mlx_tinyagent.agent.session import Session
    from mlx_tinyagent.agent.worker import Worker
    from mlx_tinyagent.server.desk import Plans
    from mlx_tinyagent.server.guard import Access
    from mlx_tinyagent.tools.backend import Backend
    from mlx_tinyagent.tools.base import ToolSet

MAX_QUEUE = 32


@click.command()
@model_option
@adapter_option
@tools_option
@backend_option
@click.option(
    "--socket",
    "socket_path",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="Where the Unix socket is made. [default: serve/http.sock in the cache folder]",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Listen at this port of 127.0.0.1, with a token, instead of a socket; 0 takes a free one.",
)
@click.option(
    "--queue",
    default=8,
    show_default=True,
    type=click.IntRange(0, MAX_QUEUE),
    help="Requests that may wait for the model; more are told to come again.",
)
def serve(
    model: str,
    adapter: str | None,
    tools_name: str,
    backend: str,
    socket_path: Path | None,
    port: int | None,
    queue: int,
) -> int:
    """Serve plans to programs on this machine.

    Offers OpenAI's /v1/chat/completions with tools, /v1/models and /plan, at a
    Unix socket that only you can reach. With --port it listens at 127.0.0.1
    and wants the token of this start with every request; a page there plans
    and runs requests, and nothing changes before you approve it. Ctrl-C ends it.
    """
    from mlx_tinyagent.agent.worker import Worker
    from mlx_tinyagent.cli.crash import report
    from mlx_tinyagent.server.desk import Desk
    from mlx_tinyagent.server.listen import check_installed, make_server
    from mlx_tinyagent.server.routes import Service, make_app

    check_installed()
    tools = load_tool_set(tools_name)
    worker = Worker()
    with open_backend(backend) as store, _listen(socket_path, port) as (listening, access, where):
        planner = worker.call(lambda check: resident(model, adapter, tools))
        service = Service(
            model=model,
            tools=tools,
            desk=Desk(worker, planner, queue=queue),
            session=conversations(worker, planner, tools, store),
            bug=report,
        )
        server = make_server(make_app(service, access))
        click.echo(f"Serving {model} at {where} (Ctrl-C ends it)", err=True)
        with contextlib.redirect_stdout(sys.stderr), _until_stopped():
            server.run(sockets=[listening])
    click.echo("Stopped.", err=True)
    return 0


@click.command()
@model_option
@adapter_option
@tools_option
@backend_option
def mcp(model: str, adapter: str | None, tools_name: str, backend: str) -> int:
    """Offer plan, ask and retrieve to MCP clients over stdio.

    An MCP client starts this command and talks to it over its standard input
    and output. A client is a program and cannot approve: ask looks things up,
    does what your own rules allow, and refuses the rest.
    """
    from mlx_tinyagent.agent.threaded import ThreadedPlanner
    from mlx_tinyagent.agent.worker import Worker
    from mlx_tinyagent.cli.crash import report
    from mlx_tinyagent.server.desk import Desk
    from mlx_tinyagent.server.mcp_server import check_installed, make_server

    check_installed()
    tools = load_tool_set(tools_name)
    worker = Worker()
    with open_backend(backend) as store, _until_stopped():
        planner = worker.call(lambda check: resident(model, adapter, tools))
        retriever = make_retriever("on")
        threaded: Any = ThreadedPlanner(lambda: planner(tools), retriever, worker)  # type: ignore[arg-type, return-value]
        server = make_server(
            Desk(worker, planner),
            tools,
            retriever,
            lambda: make_agent(tools, store, threaded),
            bug=report,
        )
        server.run("stdio")
    return 0


def resident(model: str, adapter: str | None, tools: ToolSet) -> Callable[[ToolSet], Plans]:
    """Load a model; returns what makes a planner of it for any tool set.

    Args:
        model: The model, as named.
        adapter: Its adapter, as named; None for the model's own.
        tools: The server's own tools.
    """
    from mlx_tinyagent.agent.planner import Planner

    own = make_planner(load_model(model, adapter), tools)
    retriever = make_retriever("on")
    return lambda wanted: own if wanted is tools else Planner(own.engine, wanted, retriever)


def conversations(
    worker: Worker, planner: Callable[[ToolSet], Any], tools: ToolSet, store: Backend
) -> Callable[[], Session]:
    """Return what begins a conversation with the server's own tools."""
    from mlx_tinyagent.agent.session import Session
    from mlx_tinyagent.agent.talker import Talker
    from mlx_tinyagent.agent.threaded import ThreadedPlanner

    threaded: Any = ThreadedPlanner(lambda: planner(tools), make_retriever("on"), worker)
    return lambda: Session(make_agent(tools, store, threaded), Talker(threaded.engine))


@contextlib.contextmanager
def _listen(path: Path | None, port: int | None) -> Iterator[tuple[socket.socket, Access, str]]:
    """Open the socket or the port; yields it, who may ask, and what to tell the user."""
    from mlx_tinyagent.errors import UsageError
    from mlx_tinyagent.server.guard import Access
    from mlx_tinyagent.server.listen import LOOPBACK, loopback, token_file, unix_socket

    folder = paths().cache / "serve"
    if port is None:
        place = path if path is not None else folder / "http.sock"
        with unix_socket(place) as listening:
            yield listening, Access.socket(), str(place)
        return
    if path is not None:
        raise UsageError("--socket and --port exclude each other")
    with loopback(port) as listening, token_file(folder / "token") as token:
        number = listening.getsockname()[1]
        address = f"http://{LOOPBACK}:{number}"
        # The part behind # stays in the browser; where nobody looks, it stays out of the log too.
        where = f"{address}/#{token}" if sys.stderr.isatty() else address
        yield (
            listening,
            Access.loopback(number, token),
            f"{where}; the token is in {folder / 'token'}",
        )


@contextlib.contextmanager
def _until_stopped() -> Iterator[None]:
    """End as asked for at Ctrl-C and at the signal to terminate, so that files are removed."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
