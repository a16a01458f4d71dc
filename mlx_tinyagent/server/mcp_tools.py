"""Tools of MCP servers: their schemas become declarations, their calls go through the gate.

What a server says of its own tools' effects is not believed: every tool counts
as one that changes something, so that it is asked about, unless the user's file
says otherwise. What a tool gives counts as anyone's text.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.errors import ConfigError, InputError, ToolError
from mlx_tinyagent.server.declare import MAX_TOOLS, Declared, declare
from mlx_tinyagent.tools.base import Effect, Tool, ToolSet
from mlx_tinyagent.tools.results import Failed, Ok, Origin, Result, Unknown, Value

if TYPE_CHECKING:
    from mcp import Client

KEY = "mcpServers"  # as in the files that other MCP clients read
START_SECONDS = 30.0  # for a server to start and list its tools
CALL_SECONDS = 110.0  # below the default of tool_seconds, so that the reason is told
MAX_TEXT_CHARS = 100_000  # of one result
_FIELDS = {"command", "args", "env", "url", "effects"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEntry:
    """How one server is reached.

    Attributes:
        name: Its name in the file.
        command: The program to start and its arguments; empty with ``url``.
        env: Environment variables beside the few harmless ones it gets.
        url: Its address; empty with ``command``.
        effects: What its tools do, by name, as the user says.
    """

    name: str
    command: tuple[str, ...] = ()
    env: Mapping[str, str]
    url: str = ""
    effects: Mapping[str, Effect]


def is_servers_file(source: str) -> bool:
    """Whether a ``--tools`` option names a file of MCP servers."""
    path = Path(source).expanduser()
    try:
        return path.suffix == ".json" and path.is_file() and f'"{KEY}"' in path.read_text("utf-8")
    except (OSError, UnicodeDecodeError, ValueError):
        return False


def read_servers(path: Path) -> list[ServerEntry]:
    """Read a file of MCP servers.

    Raises:
        InputError: It cannot be used; the message names the entry.
    """
    try:
        data = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable JSON: {error}") from error
    servers = data.get(KEY) if isinstance(data, dict) else None
    if not isinstance(servers, dict) or not servers:
        raise InputError(f"{path}: {KEY} is not an object of servers by name")
    return [_entry(f"{path}: {KEY}.{name}", name, found) for name, found in servers.items()]


def _entry(where: str, name: str, found: Any) -> ServerEntry:
    if not isinstance(found, dict) or bool(found.get("command")) == bool(found.get("url")):
        raise InputError(f"{where} has no command and no url, or both")
    if unknown := found.keys() - _FIELDS - {"type"}:
        raise InputError(f"{where}.{min(unknown)} is unknown; known: {', '.join(sorted(_FIELDS))}")
    command, args, env = found.get("command", ""), found.get("args", []), found.get("env", {})
    if not isinstance(args, list) or not all(isinstance(text, str) for text in (command, *args)):
        raise InputError(f"{where}: command is text and args a list of texts")
    if not isinstance(env, dict) or not all(isinstance(text, str) for text in env.values()):
        raise InputError(f"{where}.env is an object of texts")
    url, told = found.get("url", ""), found.get("effects", {})
    if not isinstance(url, str) or (url and not url.startswith(("http://", "https://"))):
        raise InputError(f"{where}.url is {str(url)[:60]!r}, expected http://... or https://...")
    try:
        effects = {tool: Effect(effect) for tool, effect in dict(told).items()}
    except (TypeError, ValueError) as error:
        kinds = ", ".join(Effect)
        raise InputError(f"{where}.effects gives one of {kinds} by tool: {error}") from error
    chosen = (command, *args) if command else ()
    return ServerEntry(name=name, command=chosen, env=env, url=url, effects=effects)


def connect(path: Path, *, warn: Callable[[str], None]) -> ToolSet:
    """Start the servers of a file and declare their tools; they end with this process.

    Args:
        path: The file; its commands are run.
        warn: Told about each tool that cannot be declared.

    Raises:
        ConfigError: The extra is missing.
        InputError: The file cannot be used.
        ToolError: A server cannot be started or reached.
    """
    from importlib.util import find_spec

    if find_spec("mcp") is None:
        raise ConfigError("MCP servers need an extra: pip install 'mlx-tinyagent[mcp]'")
    entries = read_servers(path)
    link = _Link()
    atexit.register(link.close)
    tools: list[Tool] = []
    for entry in entries:
        client, schemas = link.open(entry)
        prefix = f"{entry.name}." if len(entries) > 1 else ""
        named = [{**schema, "name": prefix + schema["name"]} for schema in schemas]
        effects = {prefix + tool: effect for tool, effect in entry.effects.items()}
        declared = declare(path.stem, named[:MAX_TOOLS], effects=effects, skip=True)
        for reason in (*declared.left_out, *(["too many tools"] if named[MAX_TOOLS:] else [])):
            warn(f"{entry.name}: left out: {reason}")
        tools += [
            replace(tool, app=entry.name, function=_function(link, client, declared, tool, prefix))
            for tool in declared.tools
        ]
    return ToolSet(path.stem, tools)


def _function(
    link: _Link, client: Client, declared: Declared, tool: Tool, prefix: str
) -> Callable[..., Result]:
    def call(**said: Any) -> Result:
        name, args = declared.outward(tool.name, said)
        return link.call(client, name.removeprefix(prefix), args)

    return call


class _Link:
    """The connections, on a thread with an event loop of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: list[tuple[asyncio.Event, Future[None]]] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="mcp", daemon=True)
        self._thread.start()

    def open(self, entry: ServerEntry) -> tuple[Client, list[dict[str, Any]]]:
        """Connect to a server; returns its client and its tools' schemas.

        Raises:
            ToolError: It cannot be started or reached.
        """
        opened: Future[tuple[Client, list[dict[str, Any]]]] = Future()
        stop = asyncio.Event()
        task = asyncio.run_coroutine_threadsafe(_keep(entry, opened, stop), self._loop)
        self._tasks.append((stop, task))
        try:
            return opened.result(START_SECONDS)
        except TimeoutError:
            reason = f"it gave no list of tools within {START_SECONDS:g} s"
        except Exception as error:  # the library and the server may raise anything
            reason = str(_cause(error)) or type(_cause(error)).__name__
        self.close()
        where = " ".join(entry.command) or entry.url
        raise ToolError(f"the MCP server {entry.name} ({where}) cannot be used: {reason}")

    def call(self, client: Client, name: str, args: Mapping[str, Any]) -> Result:
        """Call a tool; an error of the server is a result."""
        calling = asyncio.run_coroutine_threadsafe(
            client.call_tool(name, dict(args), read_timeout_seconds=CALL_SECONDS), self._loop
        )
        try:
            answer = calling.result(CALL_SECONDS + 5)
        except TimeoutError:
            calling.cancel()
            return Unknown(reason=f"{name} gave no answer within {CALL_SECONDS:g} s")
        except Exception as error:  # the connection may have broken after the call was sent
            cause = _cause(error)
            return Unknown(reason=f"{name} gave no answer: {str(cause) or type(cause).__name__}")
        return _result(name, answer)

    def close(self) -> None:
        """End the connections and the servers that were started."""
        for stop, task in self._tasks:
            self._loop.call_soon_threadsafe(stop.set)
            with suppress(Exception):
                task.result(10)
        self._tasks.clear()
        self._loop.call_soon_threadsafe(self._loop.stop)


async def _keep(
    entry: ServerEntry,
    opened: Future[tuple[Client, list[dict[str, Any]]]],
    stop: asyncio.Event,
) -> None:
    """Hold a connection open until it is to end; one task opens and closes it."""
    from mcp import Client, StdioServerParameters

    if entry.command:
        program, *args = entry.command
        server: Any = StdioServerParameters(command=program, args=args, env=dict(entry.env))
    else:
        server = entry.url
    try:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(Client(server))
            opened.set_result((client, await _schemas(client)))
            await stop.wait()
    except Exception as error:
        if not opened.done():
            opened.set_exception(error)


async def _schemas(client: Client) -> list[dict[str, Any]]:
    """Return the schemas of all tools, page by page."""
    schemas: list[dict[str, Any]] = []
    cursor: str | None = None
    while len(schemas) <= MAX_TOOLS:
        page = await client.list_tools(cursor=cursor)
        schemas += [
            {"name": t.name, "description": t.description or "", "parameters": t.input_schema}
            for t in page.tools
        ]
        cursor = page.next_cursor
        if not cursor:
            break
    return schemas


def _result(name: str, answer: Any) -> Result:
    """Return what a call gave: its text, or its data as JSON."""
    parts = [part.text for part in answer.content if getattr(part, "type", "") == "text"]
    text = "\n".join(parts)
    if not text and answer.structured_content is not None:
        text = json.dumps(answer.structured_content, ensure_ascii=False)
    text = text[:MAX_TEXT_CHARS]
    if answer.is_error:
        return Failed(reason=f"{name} failed: {text or 'the server gave no reason'}")
    return Ok(value=Value(text=text, origin=Origin.UNTRUSTED), note=text or f"{name} done.")


def _cause(error: BaseException) -> BaseException:
    """Return the first plain exception of nested groups."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return error
