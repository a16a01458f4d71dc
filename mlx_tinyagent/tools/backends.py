"""The backends by name; each loads when it is opened."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from mlx_tinyagent.config import SETTINGS_FILE, Paths
from mlx_tinyagent.errors import ConfigError, UsageError
from mlx_tinyagent.tools.agenda import AgendaBackend
from mlx_tinyagent.tools.backend import Backend
from mlx_tinyagent.tools.local import LocalBackend, Store

NAMES = ("local", "macos", "net")


def open_backend(name: str, store: Store, places: Paths) -> Backend:
    """Return a backend.

    Args:
        name: ``local``, ``macos`` or ``net``.
        store: What the local backend is; the others keep there what they have no place for.
        places: The user folders; ``config.toml`` says where servers and files are.

    Raises:
        UsageError: There is none of that name.
        ConfigError: The settings lack something it needs, or an extra is not installed.
    """
    local = AgendaBackend(store)
    match name:
        case "local":
            return local
        case "macos":
            return _macos(local, places.config / SETTINGS_FILE)
        case "net":
            return _net(local, places.config / SETTINGS_FILE)
    raise UsageError(f"no backend is called {name!r}; there is {', '.join(NAMES)}")


def _net(local: LocalBackend, config: Path) -> Backend:
    from importlib.util import find_spec

    from mlx_tinyagent.tools.net import NetBackend, read_account

    if find_spec("icalendar") is None:
        raise ConfigError("this backend needs an extra: pip install 'mlx-tinyagent[net]'")
    return NetBackend(read_account(config), local)


def _macos(local: LocalBackend, config: Path) -> Backend:
    from mlx_tinyagent.tools.macos import MacBackend, Zoom
    from mlx_tinyagent.tools.macos.zoom import TOKEN_VARIABLE

    table = _table(config, "macos")
    if unknown := table.keys() - {"roots"}:
        raise ConfigError(f"{config}: macos.{min(unknown)} is unknown; known: roots")
    roots = table.get("roots")
    if roots is not None and not (
        isinstance(roots, list) and all(isinstance(root, str) for root in roots)
    ):
        raise ConfigError(f"{config}: macos.roots is not a list of folders")
    token = os.environ.get(TOKEN_VARIABLE, "")
    return MacBackend(
        local,
        roots=None if roots is None else [Path(root).expanduser() for root in roots],
        zoom=Zoom(token=token) if token else None,
    )


def _table(config: Path, name: str) -> dict[str, Any]:
    """Return a table of the settings; empty if there is none.

    Raises:
        ConfigError: The file cannot be read.
    """
    try:
        found = tomllib.loads(config.read_text("utf-8")).get(name, {})
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{config} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{config}: {name} is not a table")
    return found
