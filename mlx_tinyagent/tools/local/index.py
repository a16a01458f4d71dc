"""The file index: name, size, time and text of what lies under the user's folders.

Hidden files, links, pipes and devices are left out; nothing is opened but
documents whose text can be read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from mlx_tinyagent.errors import StoreError
from mlx_tinyagent.tools.local.documents import document, unreadable
from mlx_tinyagent.tools.local.store import Row, Store
from mlx_tinyagent.tools.results import Ok

MAX_FILES = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """What an indexing run did: numbers of files."""

    added: int
    changed: int
    removed: int
    kept: int


def index_roots(
    store: Store, roots: Sequence[Path], *, progress: Callable[[str], None] | None = None
) -> Indexed:
    """Make the index hold exactly the files under these folders.

    A file whose size and time are as before is not read again and keeps its
    id. All changes are one transaction.

    Args:
        store: Where the index is.
        roots: The user's folders; they replace those of the last run.
        progress: Called with the path of each file that is read.

    Returns:
        How many files were added, changed, removed and kept.

    Raises:
        StoreError: A root is no folder, there are more than ``MAX_FILES``
            files, or the store cannot be written.
    """
    places = [_real_folder(root) for root in roots]
    known = {row["path"]: row for row in store.rows("SELECT * FROM files WHERE embedded = 0")}
    found = dict(_walk(places))
    stale = {
        path: status
        for path, status in found.items()
        if path not in known
        or (known[path]["size"], known[path]["stamp"]) != (status.st_size, status.st_mtime_ns)
    }
    entries = [_entry(path, status, progress) for path, status in sorted(stale.items())]
    gone = [path for path in known if path not in found]
    with store.transaction():
        _set_roots(store, [str(place) for place in places])
        for path in gone:
            store.rows("DELETE FROM files WHERE path = ? AND embedded = 0", (path,))
        for entry in entries:
            _put(store, entry)
    added = sum(path not in known for path in stale)
    return Indexed(
        added=added,
        changed=len(stale) - added,
        removed=len(gone),
        kept=len(found) - len(stale),
    )


def _real_folder(root: Path) -> Path:
    """Resolve a root, so that every indexed path is free of links."""
    try:
        place = root.expanduser().resolve(strict=True)
    except OSError as error:
        raise StoreError(f"cannot index {root}: {error.strerror or error}") from error
    if not place.is_dir():
        raise StoreError(f"cannot index {root}: it is not a folder")
    return place


def _walk(roots: Sequence[Path]) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the plain files under the roots."""
    count = 0
    pending = [str(root) for root in roots]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue  # a folder that may not be read has no files to offer
        for entry in entries:
            if entry.name.startswith(".") or not _is_text(entry.name):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # gone meanwhile
            if stat.S_ISDIR(status.st_mode):
                pending.append(entry.path)
            elif stat.S_ISREG(status.st_mode):
                count += 1
                if count > MAX_FILES:
                    raise StoreError(
                        f"more than {MAX_FILES} files under {roots[0]} and the other folders; "
                        "name smaller ones"
                    )
                yield entry.path, status


def _is_text(name: str) -> bool:
    """Whether a file name is valid text; others cannot be shown or stored."""
    return not any("\ud800" <= char <= "\udfff" for char in name)


def _entry(
    path: str, status: os.stat_result, progress: Callable[[str], None] | None
) -> dict[str, Any]:
    """Describe a file and read its text where that is possible."""
    if progress:
        progress(path)
    read = None if unreadable(path) else document(path)
    text, pages = "", 0
    if isinstance(read, Ok):
        text, pages = read.value.text, int(read.value.fields["pages"])
    return {
        "path": path,
        "name": os.path.basename(path),
        "size": status.st_size,
        "modified": datetime.fromtimestamp(int(status.st_mtime)).isoformat(),
        "stamp": status.st_mtime_ns,
        "embedded": 0,
        "pages": pages,
        "text": text,
    }


def _set_roots(store: Store, places: Sequence[str]) -> None:
    kept: list[Row] = store.rows("SELECT path FROM roots")
    for row in kept:
        if row["path"] not in places:
            store.rows("DELETE FROM roots WHERE path = ?", (row["path"],))
    for place in dict.fromkeys(places):
        store.rows("INSERT OR IGNORE INTO roots (path) VALUES (?)", (place,))


def _put(store: Store, entry: dict[str, Any]) -> None:
    """Add a file's row, or change the one of the same path."""
    columns = list(entry)
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name != "path")
    store.rows(
        f"INSERT INTO files ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))}) "
        f"ON CONFLICT (path) DO UPDATE SET {changes}",
        tuple(entry.values()),
    )
