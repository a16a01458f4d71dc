"""A Python file of tools runs as code: the user is asked once for each version of it.

A file of MCP servers names commands that are run, and counts as code as well.

What was allowed is kept as sha256 sums in the data folder. Without a terminal
a file that the caller named is taken as meant; one that only the settings name
must have been allowed before, so that nobody who can change it gets to run code.
Only the file itself is looked at, not what it imports.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import click
from click.core import ParameterSource

from mlx_tinyagent.config import paths
from mlx_tinyagent.errors import RefusedError, StoreError

FILE = "allowed_tools.json"  # in the data folder: {sha256: path when it was allowed}


def check_code(source: str) -> None:
    """Make sure that a Python file of tools may run; anything else needs no consent.

    Args:
        source: The value of a ``--tools`` option.

    Raises:
        RefusedError: The user said no, or nobody can be asked about a file
            that the settings name and that was not allowed before.
    """
    from mlx_tinyagent.cli.common import interactive

    digest = _digest(source)
    if digest is None or digest in _allowed():
        return
    if interactive():
        _ask(source)
        allow(source)
    elif _from_settings():
        raise RefusedError(
            f"{source} runs as code and is not the version that was allowed; "
            f"mlx-tinyagent use --tools {source} allows it"
        )


def allow(source: str) -> None:
    """Remember that a Python file may run as it is now; anything else is left alone."""
    from mlx_tinyagent.files import atomic_write

    digest = _digest(source)
    if digest is None:
        return
    known = {**_allowed(), digest: str(Path(source).expanduser().absolute())}
    try:
        atomic_write(paths().data / FILE, json.dumps(known, indent=1) + "\n", private=True)
    except StoreError as error:  # it may run all the same; it is asked about again
        click.echo(f"mlx-tinyagent: warning: {error}", err=True)


def _digest(source: str) -> str | None:
    """Return the sha256 of what runs code; None for what does not or cannot be read."""
    from mlx_tinyagent.server.mcp_tools import is_servers_file

    path = Path(source).expanduser()
    if path.suffix != ".py" and not is_servers_file(source):
        return None
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:  # whoever loads it says why
        return None


def _ask(source: str) -> None:
    from mlx_tinyagent.cli.talk import YES, read_answer, visible

    click.echo(f"{visible(source)} runs as code, with your rights.", err=True)
    if (
        read_answer("Run it, now and until it changes? [y/N] ") or ""
    ).strip().casefold() not in YES:
        raise RefusedError(f"{source} was not run")


def _from_settings() -> bool:
    """Whether the tools of the running command come from the settings, not from its caller."""
    context = click.get_current_context(silent=True)
    if context is None:
        return False
    return context.get_parameter_source("tools_name") is ParameterSource.DEFAULT_MAP


def _allowed() -> dict[str, str]:
    """Return what was allowed; a damaged list allows nothing."""
    try:
        found = json.loads((paths().data / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
