"""The user's Shortcuts as tools: one text in, one text out, asked about before each run.

``shortcuts list`` says which there are; only those run, by their exact name.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import Effect, Text, Tool, Type, tool
from mlx_tinyagent.tools.macos.runner import Runner
from mlx_tinyagent.tools.results import Failed, Ok, Origin, Result, Unknown, Value

MAX_SHORTCUTS = 200
MAX_OUTPUT = 400_000  # characters
_WORD = re.compile(r"[a-z0-9]+")


def shortcut_names(runner: Runner) -> list[str]:
    """Return the names of the user's Shortcuts; none where there is no such program."""
    done = runner.run("shortcuts", "list")
    if done.ending != "exit" or done.code:
        return []
    names = (line.strip() for line in done.stdout.decode("utf-8", "replace").splitlines())
    usable = (name for name in names if name.isprintable() and name and name[0] != "-")
    return list(dict.fromkeys(usable))[:MAX_SHORTCUTS]


def shortcut_tools(runner: Runner, names: Iterable[str] | None = None) -> list[Tool]:
    """Return a tool for each Shortcut.

    What a Shortcut does nobody can tell from outside, so each counts as
    something that writes, and what it gives back is not trusted.

    Args:
        runner: Runs them.
        names: Which ones; all that ``shortcuts list`` names if None.
    """
    found: dict[str, Tool] = {}
    for name in shortcut_names(runner) if names is None else names:
        made = _tool(runner, name)
        found.setdefault(made.name, made)
    return list(found.values())


def _tool(runner: Runner, name: str) -> Tool:
    def run(host: Host, text: Text = "") -> Result:
        return run_shortcut(runner, name, text)

    words = "_".join(_WORD.findall(name.lower())) or "unnamed"
    run.__name__ = f"shortcut_{words}"[:60]
    shown = " ".join(name.split())[:80]
    run.__doc__ = f"Run the user's shortcut {shown!r}.\n\nArgs:\n    text: its input\n"
    return tool(effect=Effect.WRITE, returns=Type.TEXT, app="shortcuts")(run)


def run_shortcut(runner: Runner, name: str, text: str) -> Result:
    """Run a Shortcut with a text.

    Args:
        runner: Runs it.
        name: Its name, as ``shortcuts list`` gives it.
        text: Its input.
    """
    if name.startswith("-"):  # it would be taken for an option
        return Failed(reason=f"a shortcut called {name!a} cannot be run from here")
    with tempfile.TemporaryDirectory() as folder:  # mode 0700
        source, target = Path(folder, "input.txt"), Path(folder, "output.txt")
        try:
            source.write_text(text, "utf-8")
        except UnicodeEncodeError:
            return Failed(reason="the text holds half a character; the shortcut was not run")
        done = runner.run(
            *("shortcuts", "run", name, "--input-path", str(source)),
            *("--output-path", str(target), "--output-type", "public.plain-text"),
        )
        output = target.read_text("utf-8", "replace")[:MAX_OUTPUT] if target.is_file() else ""
    if done.ending == "missing":
        return Failed(reason="shortcuts is missing: it needs macOS 12 or later")
    if done.ending != "exit" or done.code:
        return Unknown(reason=f"the shortcut '{name}' did not end well; look at what it did")
    value = Value(text=output, origin=Origin.UNTRUSTED)
    return Ok(value=value, note=f"Ran the shortcut '{name}'.", record=None)
