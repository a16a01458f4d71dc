"""What commands share: options, exit codes, progress, and putting an agent together."""

from __future__ import annotations

import errno
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlx_tinyagent.config import paths, settings
from mlx_tinyagent.errors import ContextError, InputError, TinyAgentError

if TYPE_CHECKING:
    from mlx_tinyagent.agent.agent import Agent
    from mlx_tinyagent.agent.planner import Planner
    from mlx_tinyagent.decode.tiers import TierName
    from mlx_tinyagent.models.language import LanguageModel
    from mlx_tinyagent.retrieval.base import Retriever
    from mlx_tinyagent.tools.backend import Backend
    from mlx_tinyagent.tools.base import ToolSet

INTERRUPTED = 130
NO_MEMORY = 4
MAX_QUERY_CHARS = 16_384
DEFAULT_MODEL = "smollm2-135m"
_STREAM_ERRORS = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG)  # of writing an answer

model_option = click.option(
    "--model", default=DEFAULT_MODEL, show_default=True, help="Alias, Hub id or folder."
)
adapter_option = click.option(
    "--adapter", default=None, help="Adapter folder, or 'none'. [default: the model's own]"
)
classifier_option = click.option(
    "--classifier",
    type=click.Path(path_type=Path),
    help="Folder of a tool classifier; left out, the one that ships.",
)
tools_option = click.option(
    "--tools",
    "tools_name",
    metavar="FILE|JSON|NAME",
    default="tinyagent16",
    show_default=True,
    help="A .py file (it runs as code), function schemas (a .json file or JSON text), MCP servers "
    "(a .json file with mcpServers: their commands run), or a name.",
)
backend_option = click.option(
    "--backend", default="local", show_default=True, help="Where actions happen: local, macos, net."
)


def run_cli(command: click.Command) -> None:
    """Run the command line and leave with the documented exit code."""
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a foreign locale is no reason to fail
    try:
        code = command.main(prog_name="mlx-tinyagent", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort) as stop:
        code = _fail(_interruption(stop), INTERRUPTED)
    except TinyAgentError as error:
        code = _fail(str(error), error.exit_code)
    except MemoryError:
        code = _fail("there is not enough memory; use a smaller or a quantized model", NO_MEMORY)
    except OSError as error:
        code = _stream_error(error)
    except Exception:  # a bug: one line for the user, the traceback in a private file
        from mlx_tinyagent.cli.crash import report

        code = _fail(report(), 1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> int:
    click.echo(f"mlx-tinyagent: {' '.join(message.split())}", err=True)
    return code


def _interruption(stop: BaseException) -> str:
    """Say what an interruption left: click wraps the one that was raised."""
    cause = stop if isinstance(stop, KeyboardInterrupt) else stop.__cause__
    if cause is None or type(cause) is KeyboardInterrupt:
        return "interrupted"
    from mlx_tinyagent.cli.talk import what_was_stopped

    return what_was_stopped(cause)


def _stream_error(error: OSError) -> int:
    """Report that the answer could not be written; any other error of the system is a bug."""
    if error.filename is None and (
        isinstance(error, BrokenPipeError) or error.errno in _STREAM_ERRORS
    ):
        with open(os.devnull, "wb") as nowhere:  # what is still buffered cannot be written either
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 1
        return _fail(f"the answer could not be written: {error.strerror}", 1)
    from mlx_tinyagent.cli.crash import report

    return _fail(report(), 1)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"mlx-tinyagent: warning: {message}", err=True)


def interactive() -> bool:
    """Whether a person can answer questions here."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def colored() -> bool:
    """Whether text for people may carry styles: on a terminal, unless NO_COLOR says no."""
    return bool(sys.stderr.isatty()) and not os.environ.get("NO_COLOR")


def dim(text: str) -> str:
    """Style something that is not the answer."""
    return click.style(text, dim=True) if colored() else text


def print_json(document: object) -> None:
    """Print one JSON document on stdout; what a terminal would obey is escaped."""
    text = json.dumps(document, ensure_ascii=False, indent=2)
    click.echo(
        "".join(
            char
            if char == "\n" or (char.isprintable() and _encodable(char))
            else json.dumps(char)[1:-1]
            for char in text
        )
    )


def _encodable(char: str) -> bool:
    """Whether standard output's encoding has a character."""
    try:
        char.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


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

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
    )
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(_plain(title), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


@contextmanager
def status(message: str) -> Iterator[None]:
    """Show that something takes a moment, on a terminal only."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(_plain(message)):
        yield


def _plain(text: str) -> str:
    """Keep a model's name from being read as markup."""
    return text.replace("[", r"\[")


def load_tool_set(name: str) -> ToolSet:
    """Return the tool set of a ``--tools`` option; what runs code is asked about first."""
    from mlx_tinyagent.cli.consent import check_code
    from mlx_tinyagent.server.mcp_tools import connect, is_servers_file
    from mlx_tinyagent.tools.loading import load_tools

    check_code(name)
    if is_servers_file(name):
        return connect(Path(name).expanduser(), warn=warnings.warn)
    return load_tools(name)


def load_model(name: str, adapter: str | None) -> LanguageModel:
    """Load a model, fetching it first where needed; tells on stderr what takes time."""
    from mlx_tinyagent.models.registry import local_path, resolve

    if local_path(name) is None:
        from mlx_tinyagent.models.fetch import pull

        spec = resolve(name)
        with progress_bar(f"Fetching {name}") as report:
            pull(spec, report)
    with status(f"Loading {name}"):
        from mlx_tinyagent.models.language import load

        return load(name, adapter=adapter_folder(name, adapter))


def adapter_folder(name: str, adapter: str | None) -> Path | None:
    """Return the folder of an ``--adapter`` option.

    Left out, it is the model's own folder where ``quantize`` put an adapter beside
    it, else what ships for the model.
    """
    from mlx_tinyagent.models.adapters import CONFIG, SHIPPED, shipped
    from mlx_tinyagent.models.folder import fingerprint
    from mlx_tinyagent.models.registry import local_path

    if adapter == "none":
        return None
    if adapter is not None:
        return Path(adapter).expanduser()
    folder = local_path(name)
    if folder is None:
        return None
    if (folder / CONFIG).is_file():
        return folder
    return shipped(fingerprint(folder)) if SHIPPED.is_dir() else None


def make_retriever(kind: str, classifier: Path | None = None) -> Retriever:
    """Return the retriever of a ``--retrieval`` or ``--retriever`` option.

    Args:
        kind: What the option says.
        classifier: What ``--classifier`` says.

    Raises:
        UsageError: The folder holds no classifier, or the kind takes none.
    """
    from mlx_tinyagent.retrieval.default import make

    return make(kind, classifier)


def make_planner(
    model: LanguageModel,
    tools: ToolSet,
    retrieval: str = "on",
    classifier: Path | None = None,
    tier: TierName | None = None,
) -> Planner:
    """Put a planner together: engine with its disk cache, tools, retriever.

    Args:
        model: The model.
        tools: Enabled tools.
        retrieval: How tools are chosen.
        classifier: Folder of a classifier of one's own.
        tier: Where the prompt before the tail comes from; None for what the model's
            adapter was trained for.
    """
    from mlx_tinyagent.agent.planner import Planner
    from mlx_tinyagent.decode.engine import Engine, EngineOptions
    from mlx_tinyagent.decode.store import KVStore

    options = None if tier is None else EngineOptions(tier=tier)
    engine = Engine(model, store=KVStore(paths().cache / "kv", model), options=options)
    return Planner(engine, tools, make_retriever(retrieval, classifier))


@contextmanager
def open_backend(name: str) -> Iterator[Backend]:
    """Open the backend of a ``--backend`` option.

    Raises:
        UsageError: There is none of that name.
        ConfigError: The settings lack something it needs, or an extra is not installed.
        StoreError: The store cannot be opened.
    """
    from mlx_tinyagent.tools.backends import open_backend as make
    from mlx_tinyagent.tools.local import user_store

    store = user_store(paths())
    try:
        yield make(name, store, paths())
    except KeyboardInterrupt:  # a tool may still hold the store; leaving does not wait for it
        raise
    except BaseException:
        store.close()
        raise
    store.close()


def make_agent(tools: ToolSet, backend: Backend, planner: Planner | None) -> Agent:
    """Put an agent together: the user's settings, and the journal of the user's store.

    Raises:
        ConfigError: The settings cannot be used.
        StoreError: The store that holds the journal cannot be opened.
    """
    from mlx_tinyagent.act.journal import Journal
    from mlx_tinyagent.agent.agent import Agent
    from mlx_tinyagent.tools.local import Store, user_store
    from mlx_tinyagent.tools.writer import PlainWriter

    store = getattr(backend, "store", None)
    return Agent(
        tools=tools,
        backend=backend,
        writer=PlainWriter(),
        planner=planner,
        settings=settings(),
        journal=Journal(store if isinstance(store, Store) else user_store(paths())),
    )
