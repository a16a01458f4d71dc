"""Where the server listens: who can reach it, and what is left behind."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_tinyagent.errors import UsageError
from mlx_tinyagent.server.listen import loopback, token_file, unix_socket
from tests.server.live import Live


def mode(path: Path) -> int:
    """Return a file's permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_the_socket_is_its_owners(tmp_path: Path) -> None:
    """0600 in a folder of 0700, whatever the umask; it is gone at the end."""
    path = tmp_path / "deep" / "http.sock"
    before = os.umask(0)
    try:
        with unix_socket(path):
            assert mode(path) == 0o600
            assert mode(path.parent) == 0o700
    finally:
        assert os.umask(before) == 0

    assert not path.exists()


def test_a_dead_socket_is_replaced(tmp_path: Path) -> None:
    """One that a crash left behind is no obstacle."""
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    with unix_socket(path), socket.socket(socket.AF_UNIX) as asked:
        asked.connect(str(path))


def test_a_living_socket_is_left_alone(tmp_path: Path) -> None:
    """The second server says where the first one is."""
    path = tmp_path / "http.sock"
    with unix_socket(path):
        with pytest.raises(UsageError, match="already"), unix_socket(path):
            pass
        assert path.exists()


def test_another_file_is_left_alone(tmp_path: Path) -> None:
    """Also a link to one: nothing is removed that is no socket."""
    kept = tmp_path / "kept"
    kept.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(kept)
    for path in (kept, link):
        with pytest.raises(UsageError, match="no socket"), unix_socket(path):
            pass

    assert kept.read_text() == "mine"
    assert link.is_symlink()


def test_a_long_path_is_named(tmp_path: Path) -> None:
    """Before the system cuts it."""
    with pytest.raises(UsageError, match="longer than"), unix_socket(tmp_path / ("x" * 120)):
        pass


def test_a_port_is_this_machines_alone() -> None:
    """It is bound to the loopback address; a second server says that it is taken."""
    with loopback(0) as listening:
        host, port = listening.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(UsageError, match=f"port {port}"), loopback(port):
            pass


def test_a_token_is_of_one_start(tmp_path: Path) -> None:
    """256 bits in a private file, another one each time, gone at the end."""
    path = tmp_path / "token"
    tokens = []
    for _ in range(2):
        with token_file(path) as token:
            assert path.read_text() == f"{token}\n"
            assert mode(path) == 0o600
            assert len(token) == 43
            tokens.append(token)

    assert tokens[0] != tokens[1]
    assert not path.exists()


def test_a_newer_starts_token_stays(tmp_path: Path) -> None:
    """The end of an older server removes only its own."""
    path = tmp_path / "token"
    with token_file(path):
        path.write_text("another\n")

    assert path.read_text() == "another\n"


def test_a_unix_socket_needs_no_token(start: Callable[..., Live], tmp_path: Path) -> None:
    """Its permissions decide; names and origins are checked all the same."""
    live = start(tmp_path)

    assert live.request("GET", "/health")[0] == 200
    assert live.request("GET", "/health", host="evil.example")[0] == 421
    assert live.request("GET", "/health", origin="http://localhost")[0] == 403
