"""A server with plans written beforehand, on a thread of its own, and raw requests to it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mlx_tinyagent.agent.agent import Agent
from mlx_tinyagent.agent.planner import Planned
from mlx_tinyagent.agent.session import Session
from mlx_tinyagent.agent.talker import Talker
from mlx_tinyagent.agent.worker import Worker
from mlx_tinyagent.decode.engine import Counts
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.prompt.render import Request
from mlx_tinyagent.retrieval.base import AllTools
from mlx_tinyagent.server.desk import Desk
from mlx_tinyagent.server.guard import Access
from mlx_tinyagent.server.listen import loopback, make_server, unix_socket
from mlx_tinyagent.server.routes import Service, make_app
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import LocalBackend, Store
from mlx_tinyagent.tools.writer import PlainWriter
from mlx_tinyagent.trace import Trace

TOKEN = "t" * 43
NOW = datetime(2026, 3, 2, 9, 0)
MODEL = "scripted"
PATIENCE_S = 200  # of a client on a busy machine


@dataclass
class Script:
    """Plans by request, and what was asked of the model.

    Attributes:
        plans: Plan text by request; others get ``join()``.
        requests: What was planned.
        offered: Names of the tools that were offered, request by request.
        begun: Set when the plan BLOCK has begun.
        ended: Set when the plan BLOCK was given up, because nobody waited any more.
        release: Lets the plan BLOCK end.
    """

    plans: dict[str, str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    offered: list[tuple[str, ...]] = field(default_factory=list)
    begun: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def reset(self) -> None:
        """Forget plans and requests."""
        self.plans.clear()
        self.requests.clear()
        self.offered.clear()
        for event in (self.begun, self.ended, self.release):
            event.clear()

    def planner(self, tools: ToolSet) -> ScriptedPlanner:
        """Return a planner for a tool set."""
        return ScriptedPlanner(self, tools)


class ScriptedPlanner:
    """Gives each request the plan that was written for it."""

    def __init__(self, script: Script, tools: ToolSet) -> None:
        self.script = script
        self.tools = tools
        frame = SimpleNamespace(system_open="", user_open="", assistant_open="")
        tokenizer = SimpleNamespace(chat_frame=lambda: frame, encode=lambda text, special=True: [0])
        self.engine = SimpleNamespace(
            model=SimpleNamespace(tokenizer=tokenizer, adapter_config={}),
            complete=lambda ids, max_tokens: "I only plan.",
        )

    def plan(
        self,
        request: Request,
        *,
        offered: tuple[str, ...] | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Planned:
        """Return the plan for a request."""
        script = self.script
        script.requests.append(request)
        tools = self.tools if offered is None else self.tools.subset(offered)
        script.offered.append(tools.names)
        text = script.plans.get(request.query, "1. join()")
        if text == "BLOCK":
            text = self._block(on_text)
        if on_text is not None:
            on_text(text)
        return Planned(
            plan=parse(text, tools),
            text=text,
            retrieved=AllTools().select(request.query, tools),
            counts=Counts(
                prompt_tokens=100,
                prompt_tokens_computed=20,
                plan_tokens=30,
                forward_passes=10,
                prefix_passes=1,
            ),
            trace=Trace(),
        )

    def _block(self, on_text: Callable[[str], None] | None) -> str:
        self.script.begun.set()
        try:
            while not self.script.release.wait(0.01):
                if on_text is not None:
                    on_text("")
        except Exception:
            self.script.ended.set()
            raise
        return "1. join()"


@dataclass(frozen=True)
class Live:
    """A server that answers.

    Attributes:
        script: Its plans.
        port: Where it listens; 0 for a Unix socket.
        path: Its Unix socket; None for a port.
        token: What it wants.
    """

    script: Script
    port: int
    path: Path | None
    token: str | None

    @property
    def host(self) -> str:
        """What ``Host`` is to be."""
        return f"127.0.0.1:{self.port}" if self.path is None else "localhost"

    @property
    def address(self) -> str:
        """The address of the server."""
        return f"http://{self.host}"

    def connect(self) -> socket.socket:
        """Open a connection."""
        if self.path is None:
            return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        opened.settimeout(PATIENCE_S)
        opened.connect(str(self.path))
        return opened

    def send(self, raw: bytes) -> bytes:
        """Send bytes and return all that comes until the server closes."""
        with self.connect() as opened:
            opened.sendall(raw)
            return read_all(opened)

    def request(
        self, method: str, path: str, body: object = None, **headers: str | None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request as it should be, but for the headers that are given (None: left out)."""
        data = (
            b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        )
        sent: dict[str, str | None] = {"host": self.host, "connection": "close"}
        if self.token is not None:
            sent["authorization"] = f"Bearer {self.token}"
        if body is not None:
            sent |= {"content-type": "application/json", "content-length": str(len(data))}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{name}: {value}" for name, value in sent.items() if value is not None]
        head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""])
        return parse_answer(self.send(head.encode("latin-1") + data))

    def post(self, path: str, body: object) -> tuple[int, Any]:
        """Send a JSON body; returns status and JSON."""
        status, _, data = self.request("POST", path, body)
        return status, json.loads(data)


def read_all(opened: socket.socket) -> bytes:
    """Return all bytes until the other side closes."""
    chunks = []
    while chunk := opened.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)


def parse_answer(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an answer; chunks are put together."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        whole = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            whole += body[: int(size, 16)]
            body = body[int(size, 16) + 2 :]
        body = whole
    return int(first.split()[1]), headers, body


def events(body: bytes) -> list[Any]:
    """Return the JSON of each event of a stream; the end mark stays text."""
    lines = [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


class Threaded:
    """A scripted planner on the model's thread, as a real one would be."""

    def __init__(self, planner: ScriptedPlanner, worker: Worker) -> None:
        self._planner, self._worker = planner, worker
        self.tools, self.engine = planner.tools, planner.engine

    def plan(self, request: Request, *, on_text: Callable[[str], None] | None = None) -> Planned:
        """Plan on the other thread."""
        return self._worker.call(lambda check: self._planner.plan(request, on_text=on_text))


@contextmanager
def serving(
    store: Store,
    folder: Path | None = None,
    *,
    tools: ToolSet = TINYAGENT16,
    queue: int = 8,
    header_seconds: float = 20.0,
    body_seconds: float = 20.0,
) -> Iterator[Live]:
    """Serve at a free port, or at a Unix socket in a folder."""
    script, worker = Script(), Worker()

    def session() -> Session:
        planner: Any = Threaded(script.planner(tools), worker)
        agent = Agent(
            tools=tools,
            backend=LocalBackend(store),
            writer=PlainWriter(),
            planner=planner,
            clock=lambda: NOW,
        )
        return Session(agent, Talker(planner.engine))

    path = folder / "http.sock" if folder is not None else None
    with unix_socket(path) if path is not None else loopback(0) as listening:
        port = 0 if path is not None else listening.getsockname()[1]
        access = Access.socket() if path is not None else Access.loopback(port, TOKEN)
        service = Service(
            model=MODEL,
            tools=tools,
            desk=Desk(worker, script.planner, queue=queue),
            session=session,
            bug=lambda: "internal error",
            clock=lambda: NOW,
        )
        app = make_app(service, replace(access, body_seconds=body_seconds))
        server = make_server(app, header_seconds=header_seconds)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Live(script, port, path, access.token)
        finally:
            script.release.set()
            server.should_exit = server.force_exit = True
            thread.join(60)
            assert not thread.is_alive()
