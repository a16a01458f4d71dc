"""Worlds and backends that the tool tests run against."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mlx_tinyagent.tools.backend import Backend, Host
from mlx_tinyagent.tools.local import LocalBackend, Store, memory_world
from mlx_tinyagent.tools.local.demo_files import pdf as demo_pdf
from mlx_tinyagent.tools.local.world import world
from mlx_tinyagent.tools.writer import PlainWriter

HERE = Path(__file__).resolve().parent


def helper(path: str) -> ModuleType:
    """Load a module of helpers that lies beside the tests."""
    name = f"helpers_{Path(path).stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture
def store() -> Iterator[Store]:
    """World v1 in memory."""
    with memory_world() as opened:
        yield opened


@pytest.fixture
def host(store: Store) -> Host:
    """What a tool reaches, on the morning of the world's reference day."""
    return Host(
        backend=LocalBackend(store),
        writer=PlainWriter(),
        request="Tell Sarah that the numbers are ready",
        now=datetime(2026, 3, 2, 9, 0),
    )


# Servers


@pytest.fixture(scope="session")
def servers() -> ModuleType:
    """Helpers that run servers."""
    return helper("net/servers.py")


@pytest.fixture(scope="session")
def stack() -> Iterator[ExitStack]:
    """What ends with the session."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture(scope="session")
def dav_server(
    servers: ModuleType, stack: ExitStack, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """A CalDAV and CardDAV server; skips, counted, without Radicale or the net extra."""
    pytest.importorskip("radicale")
    pytest.importorskip("icalendar")
    return stack.enter_context(servers.radicale(tmp_path_factory.mktemp("radicale"), world()))


@pytest.fixture(scope="session")
def mail_server(servers: ModuleType, stack: ExitStack) -> Any:
    """An IMAP server; skips, counted, without Dovecot."""
    if shutil.which("dovecot") is None:
        pytest.skip("Dovecot is not installed (Debian: dovecot-imapd)")
    return stack.enter_context(servers.dovecot(world()))


# A Mac


@pytest.fixture(scope="session")
def mac_fakes() -> ModuleType:
    """What stands in for a Mac."""
    return helper("macos/fakes.py")


@pytest.fixture(scope="session")
def node(mac_fakes: ModuleType) -> Iterator[Any]:
    """Node, which runs the scripts; skips, counted, where it is not installed."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("Node is not installed (Debian: nodejs)")
    made = mac_fakes.Node(program)
    yield made
    made.close()


# Backends: each is filled with world v1; the contract runs on every one.


def _local(_: pytest.FixtureRequest) -> Backend:
    return LocalBackend(memory_world())


def _net(request: pytest.FixtureRequest) -> Backend:
    """Calendars and contacts on a server, mail in the store."""
    from mlx_tinyagent.tools.net import Account, NetBackend

    dav = request.getfixturevalue("dav_server")
    password = request.getfixturevalue("servers").PASSWORD
    account = Account(user=dav.new_user(), password=password, caldav=dav.url, carddav=dav.url)
    return NetBackend(account, LocalBackend(memory_world()))


def _net_imap(request: pytest.FixtureRequest) -> Backend:
    """Mail on a server, the rest in the store."""
    from mlx_tinyagent.tools.net import Account, NetBackend

    mail = request.getfixturevalue("mail_server")
    password = request.getfixturevalue("servers").IMAP_PASSWORD
    account = Account(
        user=mail.new_user(),
        password=password,
        address="me@mail.example",
        imap=f"imap://127.0.0.1:{mail.port}",
    )
    return NetBackend(account, LocalBackend(memory_world()))


def _macos(request: pytest.FixtureRequest) -> Backend:
    """The macOS backend with its real scripts, on stand-ins for frameworks and applications."""
    from mlx_tinyagent.tools.macos import MacBackend

    fakes = request.getfixturevalue("mac_fakes")
    node = request.getfixturevalue("node")
    modules = {
        "EventKit": fakes.event_kit(fakes.event_data(world())),
        "Foundation": fakes.foundation(),
        "Contacts": fakes.contacts_kit(world()),
    }
    fakes.install(request.getfixturevalue("monkeypatch"), modules)
    root = request.getfixturevalue("tmp_path") / "Documents"
    root.mkdir()
    paths = []
    for name, content in (("plan.pdf", demo_pdf(["The plan"])), ("list.txt", b"one")):
        (root / name).write_bytes(content)
        paths.append(str((root / name).resolve()))
    runner = fakes.FakeRunner(node=node, world=node.world(world()), files=paths)
    local = LocalBackend(memory_world())
    return MacBackend(local, runner=runner, roots=[root])


BACKENDS: dict[str, Callable[[pytest.FixtureRequest], Backend]] = {
    "local": _local,
    "macos": _macos,
    "net": _net,
    "net-imap": _net_imap,
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn, holding world v1."""
    return BACKENDS[request.param](request)
