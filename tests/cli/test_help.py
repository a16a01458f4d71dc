"""Help reads well, is light, and the page made from it is current."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from mlx_tinyagent.cli.main import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[2]


def commands(
    command: click.Command = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with its path, groups included."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*path, name))


ALL = dict(commands())


@pytest.mark.parametrize("path", ALL, ids=lambda path: " ".join(path) or "-")
def test_every_command_says_what_it_does(path: tuple[str, ...]) -> None:
    """In a sentence, for the command and for each of its options."""
    command = ALL[path]

    assert (command.help or "").strip().split("\n\n")[0].endswith(".")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.help[0].isupper(), parameter.help
            assert re.search(r"[.\])]$", parameter.help), parameter.help


@pytest.mark.parametrize("name", COMMANDS)
def test_the_overview_says_what_the_command_says(name: str) -> None:
    """Its line is the beginning of the command's own help."""
    own = " ".join((ALL[(name,)].help or "").split())

    assert own.startswith(COMMANDS[name][1].rstrip("."))


ASK_ALL = """
import json, sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from mlx_tinyagent.cli.main import main

shown = []
for path in json.loads(sys.argv[1]):
    for option in ("-h", "--help"):
        sys.argv = ["mlx-tinyagent", *path, option]
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                main()
            except SystemExit as left:
                code = left.code
        shown.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(shown))
"""


def test_help_can_be_asked_for() -> None:
    """Short or long, of every command; it goes to stdout, without color."""
    done = subprocess.run(
        [sys.executable, "-c", ASK_ALL, json.dumps(list(ALL))],
        capture_output=True,
        text=True,
        check=True,
    )

    shown = iter(json.loads(done.stdout))
    for path in ALL:
        for _ in ("-h", "--help"):
            code, out, err = next(shown)
            assert (code, err) == (0, ""), path
            assert out.startswith(f"Usage: mlx-tinyagent {' '.join(path)}".rstrip())
            assert "\x1b" not in out


def test_the_version_is_the_packages(cli: Callable[..., Any]) -> None:
    """One line."""
    from importlib.metadata import version

    assert cli("--version").out == f"mlx-tinyagent, version {version('mlx-tinyagent')}\n"


def test_the_page_is_current() -> None:
    """``docs/cli.md`` is what the script writes now."""
    script = ROOT / "scripts" / "make_cli_docs.py"

    done = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
