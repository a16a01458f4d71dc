"""``mlx-tinyagent init``: a folder to bring your own tools from."""

from __future__ import annotations

import shlex
from importlib import resources
from pathlib import Path

import click

FILES = {  # as written: the packaged template
    "tools.py": "tools.py.txt",
    "phrases.json": "phrases.json",
    "README.md": "README.md",
    "run.sh": "run.sh.txt",
}


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Begin an agent with tools of your own in DIR.

    Writes two example tools that keep what they do in memory (tools.py), how
    people ask for them (phrases.json), and a script that makes data, trains,
    quantizes and measures (run.sh). DIR must be new or empty.
    """
    from mlx_tinyagent.files import atomic_write

    check_empty(folder)
    templates = resources.files("mlx_tinyagent") / "templates"
    for name, template in FILES.items():
        atomic_write(folder / name, (templates / template).read_text(encoding="utf-8"))
    click.echo(f"{folder}: {', '.join(FILES)}", err=True)
    click.echo("Next:", err=True)
    for line in (
        f"mlx-tinyagent tools list --tools {shlex.quote(str(folder / 'tools.py'))}",
        f"PRESET=tiny sh {shlex.quote(str(folder / 'run.sh'))}",
        f"sh {shlex.quote(str(folder / 'run.sh'))}",
    ):
        click.echo(f"  {line}", err=True)


def check_empty(folder: Path) -> None:
    """Refuse a place that holds something already.

    Raises:
        InputError: It is a file, or a folder that is not empty.
    """
    from mlx_tinyagent.errors import InputError

    if folder.is_dir():
        if any(folder.iterdir()):
            raise InputError(f"{folder} is not empty; name a new folder")
    elif folder.exists() or folder.is_symlink():
        raise InputError(f"{folder} is a file; name a new folder")
