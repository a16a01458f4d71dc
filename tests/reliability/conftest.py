"""How many cases a figure is measured with, and a table of the figures at the end.

The sizes are those of a commit. ``scripts/bars`` runs the same tests with more:
the variable ``BARS`` holds ``G2=1000000,G14=20000``, or ``x10`` for ten times each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.local import LocalBackend, Store, memory_world
from mlx_tinyagent.tools.writer import PlainWriter
from tests.cli.conftest import cli, plans, scripted_module

__all__ = ["cli", "plans", "scripted_module"]  # the command line in this process

NOW = datetime(2026, 3, 2, 9, 0)  # the world's reference day, a Monday
FIGURES: list[tuple[str, str]] = []


def wanted(name: str, usual: int) -> int:
    """Return how many cases a figure is to be measured with."""
    asked = os.environ.get("BARS", "")
    if asked.startswith("x"):
        return usual * int(asked[1:])
    sizes = dict(part.split("=", 1) for part in asked.split(",") if "=" in part)
    return int(sizes.get(name, usual))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Take off the time limits of a commit: a long run takes as long as it takes."""
    for item in items if "BARS" in os.environ else ():
        item.own_markers = [mark for mark in item.own_markers if mark.name != "timeout"]


@pytest.fixture
def cases() -> Callable[[str, int], int]:
    """A function that gives the number of cases of a figure, by its usual one."""
    return wanted


@pytest.fixture
def figure() -> Callable[[str, str], None]:
    """A function that notes a figure for the table at the end."""
    return lambda name, text: FIGURES.append((name, text))


@pytest.fixture
def store() -> Iterator[Store]:
    """World v1 in memory."""
    with memory_world() as opened:
        yield opened


@pytest.fixture
def host(store: Store) -> Host:
    """What a tool reaches on that morning."""
    return Host(backend=LocalBackend(store), writer=PlainWriter(), request="", now=NOW)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that were measured."""
    if FIGURES:
        terminalreporter.section("reliability figures")
        for name, text in sorted(FIGURES, key=lambda item: (len(item[0]), item)):
            terminalreporter.line(f"{name:<4} {text}")
