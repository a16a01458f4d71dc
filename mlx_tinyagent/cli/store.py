"""``store``: all that is kept about the user, in one file, or gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from mlx_tinyagent.cli.common import interactive, print_json
from mlx_tinyagent.config import Paths, paths
from mlx_tinyagent.errors import RefusedError


@click.group()
def store() -> None:
    """Take the whole store along, or erase it."""


@store.command("export")
@click.argument("out", type=click.Path(path_type=Path))
def export(out: Path) -> None:
    """Write everything in the store to one JSON file.

    OUT is the file; '-' prints it. It holds every row, the journal and the
    outbox included, and only you can read it.
    """
    from mlx_tinyagent.files import atomic_write
    from mlx_tinyagent.tools.local import export_store, user_store

    with user_store(paths()) as opened:
        document = export_store(opened)
    if str(out) == "-":
        print_json(document)
        return
    import json

    atomic_write(out, json.dumps(document, indent=1, ensure_ascii=False) + "\n", private=True)
    rows = sum(len(table) for table in document["tables"].values())
    click.echo(f"{out}: {rows} rows, {len(document['journal'])} journal entries")


@store.command("erase")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase(yes: bool) -> None:
    """Delete the store, the journal, saved chats and the history of requests.

    Settings, models and the cache stay; nothing that is erased can be undone.
    """
    from mlx_tinyagent.act.journal import at_work
    from mlx_tinyagent.tools.local import user_store

    places = paths()
    present = [path for path in _kept(places) if path.exists()]
    if not present:
        click.echo("There is nothing to erase.")
        return
    if not yes:
        _confirm(present)
    with user_store(places) as opened:  # nobody may be at work on what is deleted
        lock = at_work(opened, alone=True)
    present = [path for path in _kept(places) if path.exists()]
    for path in present:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if lock is not None:
        lock.close()
    click.echo(f"Erased {len(present)} files and folders in {places.data}.")


def _kept(places: Paths) -> list[Path]:
    """Return what is kept about the user, whether it is there or not."""
    from mlx_tinyagent.act.journal import LOCK_NAME
    from mlx_tinyagent.tools.local.store import FILE_NAME
    from mlx_tinyagent.tools.local.world import FOLDER

    names = [FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", LOCK_NAME]
    return [places.data / name for name in (*names, "history", "chats", FOLDER)]


def _confirm(present: list[Path]) -> None:
    from mlx_tinyagent.cli.talk import YES, read_answer

    if not interactive():
        raise RefusedError("there is no terminal to ask at; nothing was erased (--yes does it)")
    for path in present:
        click.echo(f"  {path}", err=True)
    if (read_answer("Erase this for good? [y/N] ") or "").strip().casefold() not in YES:
        raise RefusedError("not confirmed: nothing was erased")
