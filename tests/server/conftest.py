"""Servers with plans written beforehand; most tests share one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.tools.local import Store, memory_world
from tests.server.live import Live, serving


@pytest.fixture
def store() -> Iterator[Store]:
    """World v1 in memory."""
    with memory_world() as opened:
        yield opened


@pytest.fixture
def start(store: Store) -> Iterator[Callable[..., Live]]:
    """A function that starts a server over the test's own store."""
    with ExitStack() as stack:

        def make(folder: Path | None = None, **options: Any) -> Live:
            return stack.enter_context(serving(store, folder, **options))

        yield make


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Live]:
    """One server at a port, with a token."""
    with memory_world() as opened, serving(opened) as live:
        yield live


@pytest.fixture
def live(shared_server: Live) -> Live:
    """The shared server, as if it had just been started; its store is not looked at."""
    shared_server.script.reset()
    return shared_server
