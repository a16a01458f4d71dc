"""Write docs/cli.md from the commands' own help; the same text on every machine.

Run it after a change of any command: ``python scripts/make_cli_docs.py``. With
``--check`` it only says whether the file is current.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from mlx_tinyagent.cli.main import cli

TARGET = Path(__file__).resolve().parents[1] / "docs" / "cli.md"
WIDTH = 96  # characters of a line of help
INTRODUCTION = """\
# Command line

Made from `--help` by `scripts/make_cli_docs.py`; a test keeps it current.

Standard output carries the answer, or one JSON document with `--json`. Everything else, such as
questions, progress and errors, goes to standard error. An error is one line.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed: bad input, a full disk, a file that cannot be used |
| 2 | usage: a command, option or name that does not exist |
| 3 | refused by you or by policy; also: no terminal to ask at, and no `--yes` |
| 4 | the model cannot be used, or the request does not fit it |
| 5 | a tool failed |
| 6 | an answer from you is needed: something is missing, not found or not clear |
| 130 | interrupted |

`MLX_TINYAGENT_HOME` moves settings, store and cache to one folder. `NO_COLOR` switches styles off;
without a terminal there are none.
"""


def text() -> str:
    """Return the whole page."""
    sections = [f"## {title}\n\n```\n{shown}\n```\n" for title, shown in _help(cli, None)]
    return "\n".join([INTRODUCTION, *sections])


def _help(command: click.Command, parent: click.Context | None) -> Iterator[tuple[str, str]]:
    """Yield title and help of a command and of those below it, in the order of the overview."""
    name = command.name if parent else "mlx-tinyagent"
    context = click.Context(
        command,
        parent=parent,
        info_name=name,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        help_option_names=["-h", "--help"],
    )
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None:
                yield from _help(found, context)


def main() -> None:
    """Write the page, or check it."""
    page = text()
    if "--check" in sys.argv[1:]:
        if TARGET.read_text(encoding="utf-8") != page:
            sys.exit(f"{TARGET} is not current: run python scripts/make_cli_docs.py")
        return
    TARGET.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
