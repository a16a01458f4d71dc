"""``mlx-tinyagent use``: the model, adapter and tools that options stand for when left out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mlx_tinyagent.cli.common import DEFAULT_MODEL, load_tool_set, print_json
from mlx_tinyagent.cli.consent import allow
from mlx_tinyagent.config import SETTINGS_FILE, Use, paths, settings

USERS = ("ask", "run", "chat", "listen", "plan", "serve", "mcp")  # commands that take what is saved
_TABLE = re.compile(r"^\[use\][^\n]*\n?(?:(?!\[)[^\n]*\n?)*", re.MULTILINE)


@click.command()
@click.option("--model", help="Alias, Hub id or folder.")
@click.option("--adapter", help="Adapter folder that goes with the model.")
@click.option("--tools", "tools_name", metavar="FILE|NAME", help="Tool set of these commands.")
@click.option("--clear", is_flag=True, help="Forget what was saved.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def use(
    model: str | None, adapter: str | None, tools_name: str | None, clear: bool, as_json: bool
) -> None:
    """Save the model, adapter and tools to use; alone, show them.

    They hold for ask, run, chat, plan, serve and mcp where an option is left out.
    A saved adapter goes with the saved model: with another --model it does not
    count. Saving a model forgets the adapter unless that is given too.
    """
    saved = settings().use
    if clear:
        saved = Use()
    if model is not None:
        saved = Use(model=_model(model), tools=saved.tools)
    if adapter is not None:
        saved = Use(model=saved.model, adapter=_adapter(adapter), tools=saved.tools)
    if tools_name is not None:
        saved = Use(model=saved.model, adapter=saved.adapter, tools=_tools(tools_name))
    if clear or (model, adapter, tools_name) != (None, None, None):
        _save(saved)
    chosen = {name: getattr(saved, name) for name in Use.__slots__ if getattr(saved, name)}
    if as_json:
        print_json(chosen)
        return
    for name, value in chosen.items():
        click.echo(f"{name:<8} {value}")
    if not chosen:
        click.echo("Nothing is saved; the commands' own defaults hold.", err=True)


def defaults(ctx: click.Context, name: str) -> None:
    """Let what is saved stand for the options that a command is not given.

    Args:
        ctx: Context of the whole command line.
        name: The command.

    Raises:
        ConfigError: The settings cannot be used.
    """
    saved = settings().use
    values: dict[str, Any] = {}
    if saved.model:
        values["model"] = saved.model
    if saved.adapter:
        values["adapter"] = _adapter_of(saved)
    if saved.tools:
        values["tools_name"] = saved.tools
    ctx.default_map = {name: values}


def _adapter_of(saved: Use) -> Callable[[], str | None]:
    """Return what gives the saved adapter, unless another model was named."""
    own = saved.model or DEFAULT_MODEL

    def adapter() -> str | None:
        model = click.get_current_context().params.get("model", own)
        return saved.adapter if model == own else None

    return adapter


def _model(name: str) -> str:
    from mlx_tinyagent.models.registry import resolve

    resolve(name)
    return _absolute(name)


def _adapter(name: str) -> str:
    from mlx_tinyagent.models.adapters import read_config

    read_config(Path(name).expanduser())
    return _absolute(name)


def _tools(name: str) -> str:
    load_tool_set(name)
    allow(name)  # naming it here is a yes, on a terminal or not
    return _absolute(name)


def _absolute(name: str) -> str:
    """Return a place in a form that holds in every folder; other names as they are."""
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() else name


def _save(saved: Use) -> None:
    """Write the table at the end of the settings; whatever else stands there stays."""
    from mlx_tinyagent.files import atomic_write

    file = paths().config / SETTINGS_FILE
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    kept = _TABLE.sub("", text).rstrip()
    lines = [
        f"{name} = {json.dumps(getattr(saved, name), ensure_ascii=False)}"
        for name in Use.__slots__
        if getattr(saved, name)
    ]
    table = "\n".join(["[use]", *lines]) if lines else ""
    parts = [part for part in (kept, table) if part]
    atomic_write(file, "\n\n".join(parts) + "\n" if parts else "", private=True)
