"""``interchange``: files of other programs, in and out of the local store."""

from __future__ import annotations

from pathlib import Path

import click

from mlx_tinyagent.config import paths

MAX_PROBLEMS = 20  # shown one by one


@click.group()
def interchange() -> None:
    """Read and write files of other programs: calendars, contacts, mails, notes."""


@interchange.command("import")
@click.argument("path", type=click.Path(path_type=Path))
def interchange_import(path: Path) -> int:
    """Read files into the local store.

    PATH is an .ics, .vcf, .eml or .md file, a folder of them, or a Maildir.
    What was imported before is left alone. Files are read in a child process
    with limits; one that cannot be read is named and the others go on (exit
    code 1).
    """
    from mlx_tinyagent.tools.interchange.files import describe, import_path
    from mlx_tinyagent.tools.local import user_store

    with user_store(paths()) as store:
        done = import_path(store, path)
    for problem in done.problems[:MAX_PROBLEMS]:
        click.echo(_visible(problem), err=True)
    if len(done.problems) > MAX_PROBLEMS:
        click.echo(f"... and {len(done.problems) - MAX_PROBLEMS} more", err=True)
    added, known = (describe(list(n.items())) for n in (done.loaded.added, done.loaded.known))
    click.echo(f"added {added}" + (f"; already there: {known}" if done.loaded.known else ""))
    return 1 if done.problems else 0


@interchange.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
def interchange_export(folder: Path) -> None:
    """Write the local store as files that other programs read.

    FOLDER is made, or must be empty: contacts.vcf, calendars/*.ics,
    reminders/*.ics, Maildirs mail/inbox and mail/drafts, notes/*/*.md. Only
    you can read them.
    """
    from mlx_tinyagent.tools.interchange.save import save
    from mlx_tinyagent.tools.local import user_store

    with user_store(paths()) as store:
        done = save(store, folder)
    for path in done.left_out:
        click.echo(_visible(f"left out, not there or too large: {path}"), err=True)
    click.echo(f"{done.files} files in {folder}")


def _visible(text: str) -> str:
    """Keep names in files of others from steering the terminal."""
    from mlx_tinyagent.cli.talk import visible

    return visible(text)
