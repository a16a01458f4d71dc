"""The file index: what Spotlight knows under the user's folders. Nothing is opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path, PurePath

from mlx_tinyagent.tools.backend import FileEntry
from mlx_tinyagent.tools.external import BackendError
from mlx_tinyagent.tools.local.backend import OPENABLE_SUFFIXES
from mlx_tinyagent.tools.macos.runner import Runner
from mlx_tinyagent.tools.results import Failed

ROOTS = ("Documents", "Desktop", "Downloads")
MAX_FILES = 20_000
# Constant: which name is meant is decided here, never by a query made of data.
_QUERY = "kMDItemContentTypeTree == 'public.content'"


def default_roots() -> tuple[Path, ...]:
    """Return the folders that are looked through unless others are named."""
    return tuple(Path.home() / name for name in ROOTS)


def find_files(runner: Runner, roots: Sequence[Path]) -> list[FileEntry]:
    """Return the files under some folders that can be shown without running code.

    Raises:
        BackendError: Spotlight gives no answer.
    """
    found: dict[str, FileEntry] = {}
    for root in roots:
        where = os.path.realpath(root)
        done = runner.run("mdfind", "-0", "-onlyin", where, _QUERY)
        if done.ending != "exit" or done.code:
            raise BackendError(Failed(reason=f"Spotlight gave no answer for {root}"))
        for raw in done.stdout.split(b"\0"):
            path = os.fsdecode(raw)
            entry = _entry(path, where) if path else None
            if entry is not None and len(found) < MAX_FILES:
                found[path] = entry
    return sorted(found.values(), key=lambda entry: entry.path)


def _entry(path: str, root: str) -> FileEntry | None:
    """Return a file's entry; None for what is hidden, linked, outside or of another kind."""
    inside = PurePath(path)
    if not inside.is_relative_to(root) or not path.isprintable():
        return None
    parts = inside.relative_to(root).parts
    if any(part.startswith(".") or part == ".." for part in parts):
        return None
    if inside.suffix.lower() not in OPENABLE_SUFFIXES or os.path.realpath(path) != path:
        return None
    try:
        status = os.lstat(path)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    modified = datetime.fromtimestamp(int(status.st_mtime)).isoformat()
    return FileEntry(path=path, name=inside.name, size=status.st_size, modified=modified)
