"""``mlx-tinyagent report``: one page of what a recipe left."""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("folder", type=FILE)
@click.option("--out", type=FILE, help="HTML file to write. [default: FOLDER/index.html]")
@click.option("--title", default="", help="Heading. [default: the folder's name]")
def report(folder: Path, out: Path | None, title: str) -> None:
    """Write one page of what a recipe left in FOLDER.

    Data sets are counted, training is drawn, evaluations stand side by side,
    and quantization, choice of tools, latency and versions are shown, as far as
    they are there. The page loads nothing from elsewhere. Files that cannot be
    read are named in it and on standard error.
    """
    from mlx_tinyagent.cli.report_collect import collect
    from mlx_tinyagent.cli.report_page import render
    from mlx_tinyagent.files import atomic_write

    found = collect(folder)
    target = out or folder / "index.html"
    page = render(found, title=title or folder.resolve().name, beside=target.parent)
    atomic_write(target, page.html)
    for line in page.left_out:
        click.echo(f"left out: {line}", err=True)
    click.echo(f"{target} shows {page.shown}", err=True)
