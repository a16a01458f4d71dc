"""Where the server listens: a private Unix socket, or a port of this machine with a token."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlx_tinyagent.errors import ConfigError, UsageError
from mlx_tinyagent.files import atomic_write, readable_errors
from mlx_tinyagent.server.guard import MAX_HEAD_BYTES, App

HEADER_SECONDS = 10.0  # for a request's head to arrive
KEEP_ALIVE_SECONDS = 5
MAX_CONNECTIONS = 64
BACKLOG = 64
TOKEN_BYTES = 32
MAX_SOCKET_PATH = 100  # bytes; macOS takes 103, Linux 107
LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def unix_socket(path: Path) -> Iterator[socket.socket]:
    """Listen at a socket that its owner alone can reach; it is removed at the end.

    Args:
        path: The socket; one that nobody answers any more is replaced.

    Raises:
        UsageError: The path is too long, something else is there, or a server answers there.
        StoreError: The folder cannot be written.
    """
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise UsageError(
            f"the socket path {path} is longer than {MAX_SOCKET_PATH} bytes; name a shorter one "
            "with --socket"
        )
    with readable_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_stale(path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)  # so that it is private from the first moment on
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        path.chmod(0o600)
    own = path.stat().st_ino
    try:
        listening.listen(BACKLOG)
        yield listening
    finally:
        listening.close()
        with contextlib.suppress(OSError):
            if path.stat().st_ino == own:
                path.unlink()


def _remove_stale(path: Path) -> None:
    """Remove the socket of a server that has ended.

    Raises:
        UsageError: It is something else, or a server answers.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise UsageError(f"{path} is in the way and is no socket; name another one with --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink()
            return
    raise UsageError(f"a server answers at {path} already; stop it or name another --socket")


@contextlib.contextmanager
def loopback(port: int) -> Iterator[socket.socket]:
    """Listen at a port of this machine, which no other machine can reach.

    Args:
        port: The port; 0 takes a free one.

    Raises:
        UsageError: The port is taken.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((LOOPBACK, port))
            listening.listen(BACKLOG)
        except OSError as error:
            raise UsageError(
                f"port {port} cannot be used: {error.strerror}; name another --port, or 0 for a "
                "free one"
            ) from error
        yield listening


@contextlib.contextmanager
def token_file(path: Path) -> Iterator[str]:
    """Make the token of this start and keep it in a file that its owner alone can read.

    Raises:
        StoreError: The file cannot be written.
    """
    token = secrets.token_urlsafe(TOKEN_BYTES)
    atomic_write(path, token + "\n", private=True)
    try:
        yield token
    finally:
        with contextlib.suppress(OSError):
            if path.read_text("ascii").strip() == token:
                path.unlink()


def check_installed() -> None:
    """Raise where the extra is missing.

    Raises:
        ConfigError: It is; the message says how to install it.
    """
    from importlib.util import find_spec

    if find_spec("starlette") is None or find_spec("uvicorn") is None:
        raise ConfigError("serving needs an extra: pip install 'mlx-tinyagent[server]'")


def make_server(app: App, *, header_seconds: float = HEADER_SECONDS) -> Any:
    """Return uvicorn's server for an application; ``run(sockets=[...])`` serves.

    Args:
        app: The guarded application.
        header_seconds: How long the head of a request may take to arrive.
    """
    import asyncio

    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Patient(H11Protocol):
        """Ends a connection whose next request does not arrive in time."""

        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._expect()

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before:
                self._arrived()

        def on_response_complete(self) -> None:
            before = self.cycle
            super().on_response_complete()
            if self.cycle is before and not self.transport.is_closing():
                self._expect()

        def connection_lost(self, exc: Exception | None) -> None:
            self._arrived()
            super().connection_lost(exc)

        def _expect(self) -> None:
            self._arrived()
            self._deadline = self.loop.call_later(header_seconds, self.transport.abort)

        def _arrived(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    config = uvicorn.Config(
        app,
        http=Patient,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=2,
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    return uvicorn.Server(config)
