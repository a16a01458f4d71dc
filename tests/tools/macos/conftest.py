"""A macOS backend on stand-ins, with its parts at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mlx_tinyagent.tools.local import LocalBackend, Store
from mlx_tinyagent.tools.local.world import world
from mlx_tinyagent.tools.macos import MacBackend


@dataclass
class Mac:
    """A backend and what it works on.

    Attributes:
        backend: The backend.
        runner: Runs its scripts in Node; ``calls`` is what applications were told.
        data: What EventKit holds.
        root: Its one folder of files.
    """

    backend: MacBackend
    runner: Any
    data: Any
    root: Path


@pytest.fixture
def mac(node: Any, mac_fakes: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mac:
    """A Mac with the world's calendars, contacts, mails and notes."""
    data = mac_fakes.event_data(world())
    modules = {
        "EventKit": mac_fakes.event_kit(data),
        "Foundation": mac_fakes.foundation(),
        "Contacts": mac_fakes.contacts_kit(world()),
    }
    mac_fakes.install(monkeypatch, modules)
    root = tmp_path.resolve() / "Documents"
    root.mkdir()
    runner = mac_fakes.FakeRunner(node=node, world=node.world(world()))
    backend = MacBackend(LocalBackend(Store.memory()), runner=runner, roots=[root])
    return Mac(backend=backend, runner=runner, data=data, root=root)
