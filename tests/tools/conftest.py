"""Worlds and backends that the tool tests run against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from mlx_tinyagent.tools.backend import Backend, Host
from mlx_tinyagent.tools.local import LocalBackend, Store, memory_world
from mlx_tinyagent.tools.writer import PlainWriter

# Every backend that can be filled with world v1 on this machine; the contract runs on each.
BACKENDS: dict[str, Callable[[], Backend]] = {"local": lambda: LocalBackend(memory_world())}


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


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn, holding world v1."""
    return BACKENDS[request.param]()
