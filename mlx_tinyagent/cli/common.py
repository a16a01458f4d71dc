"""What commands share: exit codes, progress, and putting an agent together."""

from __future__ import annotations

import os
import secrets
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlx_tinyagent.config import paths
from mlx_tinyagent.errors import ContextError, InputError, TinyAgentError

if TYPE_CHECKING:
    from mlx_tinyagent.agent.agent import Agent
    from mlx_tinyagent.agent.planner import Planner
    from mlx_tinyagent.models.language import LanguageModel
    from mlx_tinyagent.retrieval.base import Retriever
    from mlx_tinyagent.tools.backend import Backend
    from mlx_tinyagent.tools.base import ToolSet

INTERRUPTED = 130
MAX_QUERY_CHARS = 16_384
DEFAULT_MODEL = "smollm2-135m"

model_option = click.option(
    "--model", default=DEFAULT_MODEL, show_default=True, help="Alias, Hub id or folder."
)
adapter_option = click.option(
    "--adapter", default=None, help="Adapter folder, or 'none'. [default: the model's own]"
)
tools_option = click.option(
    "--tools",
    "tools_name",
    default="tinyagent16",
    show_default=True,
    help="Name, .py file (it runs as code) or .json file of function schemas.",
)


def run_cli(command: click.Command) -> None:
    """Run the command line and leave with the documented exit code."""
    warnings.showwarning = _show_warning
    try:
        code = command.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = _fail("interrupted", INTERRUPTED)
    except TinyAgentError as error:
        code = _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception:  # a bug: one line for the user, the traceback in a private file
        code = _fail(_crash_report(), 1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> int:
    click.echo(f"mlx-tinyagent: {' '.join(message.split())}", err=True)
    return code


def _crash_report() -> str:
    """Write the traceback to a file only the user can read; returns the line to show."""
    from mlx_tinyagent.files import atomic_write

    number = secrets.token_hex(4)
    kind = sys.exc_info()[0]
    name = kind.__name__ if kind else "error"
    file = paths().cache / "crashes" / f"{number}.txt"
    try:
        frames = traceback.format_exc()
        atomic_write(file, frames, private=True)
    except TinyAgentError:
        return f"internal error {name} (crash {number}; no report could be written)"
    return f"internal error {name} (crash {number}); the report is in {file}"


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"mlx-tinyagent: warning: {message}", err=True)


def interactive() -> bool:
    """Whether a person can answer questions here."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def check_query(query: str) -> str:
    """Return a request that can be planned.

    Raises:
        InputError: It is empty or not UTF-8.
        ContextError: It is far too long for any plan.
    """
    if any("\ud800" <= char <= "\udfff" for char in query):
        raise InputError("the request is not UTF-8 text")
    if not query.strip():
        raise InputError("the request is empty")
    if len(query) > MAX_QUERY_CHARS:
        raise ContextError(
            f"the request has {len(query)} characters, {MAX_QUERY_CHARS} at most; put long texts "
            "into a file or note and name it"
        )
    return query


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show bytes or steps done on stderr, on a terminal only; yields ``report(done, total)``."""
    if not sys.stderr.isatty():
        click.echo(f"{title} ...", err=True)
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


@contextmanager
def status(message: str) -> Iterator[None]:
    """Show that something takes a moment, on a terminal only."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(message):
        yield


def load_tool_set(name: str) -> ToolSet:
    """Return the tool set of a ``--tools`` option."""
    from mlx_tinyagent.tools.loading import load_tools

    return load_tools(name)


def load_model(name: str, adapter: str | None) -> LanguageModel:
    """Load a model, fetching it first where needed; tells on stderr what takes time."""
    from mlx_tinyagent.models.registry import local_path, resolve

    if local_path(name) is None:
        from mlx_tinyagent.models.fetch import pull

        spec = resolve(name)
        with progress_bar(f"Fetching {name}") as report:
            pull(spec, report)
    from mlx_tinyagent.models.language import load

    folder = None if adapter in (None, "none") else Path(str(adapter)).expanduser()
    with status(f"Loading {name}"):
        return load(name, adapter=folder)


def make_retriever(kind: str) -> Retriever:
    """Return the retriever of a ``--retrieval`` option: ``on`` or ``off``."""
    from mlx_tinyagent.retrieval.base import AllTools
    from mlx_tinyagent.retrieval.bm25 import BM25Retriever

    return AllTools() if kind == "off" else BM25Retriever()


def make_planner(model: LanguageModel, tools: ToolSet, retrieval: str = "on") -> Planner:
    """Put a planner together: engine with its disk cache, tools, retriever."""
    from mlx_tinyagent.agent.planner import Planner
    from mlx_tinyagent.decode.engine import Engine
    from mlx_tinyagent.decode.store import KVStore

    engine = Engine(model, store=KVStore(paths().cache / "kv", model))
    return Planner(engine, tools, make_retriever(retrieval))


def open_backend(name: str) -> Backend:
    """Open the backend of a ``--backend`` option."""
    from mlx_tinyagent.tools.local import LocalBackend, user_store

    if name != "local":
        raise click.BadParameter(f"{name!r}: this version has the local backend only")
    return LocalBackend(user_store(paths()))


def make_agent(tools: ToolSet, backend: Backend, planner: Planner | None) -> Agent:
    """Put an agent together."""
    from mlx_tinyagent.agent.agent import Agent
    from mlx_tinyagent.tools.writer import PlainWriter

    return Agent(tools=tools, backend=backend, writer=PlainWriter(), planner=planner)
