"""The one SQLite file that holds everything off macOS.

Knows connections, transactions and errors, not what tools mean. Every method
may be called from any thread; every change is one transaction.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mlx_tinyagent.config import Paths
from mlx_tinyagent.errors import StoreError
from mlx_tinyagent.files import readable_errors
from mlx_tinyagent.tools.local.migrate import migrate
from mlx_tinyagent.trace import now

TIMEOUT_S = 30.0  # how long other processes may hold the lock before we give up
FILE_NAME = "store.sqlite"
_HEADER_BYTES = 100  # of a database file
_POLL_S = 0.01
# SQLite waits ever longer between its tries for a lock, up to 0.1 s, so that of many busy
# processes one might never get its turn. Its waits are kept short and begun again, and who had
# to wait lets the others try before it writes once more.
_TRY_MS = 20

Found = Literal["note", "mail", "event", "file"]  # in the order of the search table's rowids
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A row found by full-text search.

    Attributes:
        kind: What it is.
        id: Its row.
        title: Its title.
        snippet: Some words around the match.
    """

    kind: Found
    id: int
    title: str
    snippet: str


class Store:
    """A database, open.

    Use ``open`` for a file and ``memory`` for one that vanishes.

    Args:
        connection: In autocommit mode, usable from any thread.
        path: The file; None in memory.
        timeout_s: How long a lock held elsewhere is waited for, in seconds.
    """

    def __init__(
        self, connection: sqlite3.Connection, *, path: Path | None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self.path = path
        self._connection = connection
        self._timeout_s = timeout_s
        self._lock = threading.RLock()
        self._depth = 0
        self._had_to_wait = False

    @classmethod
    def open(cls, path: Path, *, timeout_s: float = TIMEOUT_S) -> Store:
        """Open a file, made (mode 0600, missing folders 0700) and migrated where needed.

        Args:
            path: The file.
            timeout_s: How long a lock held elsewhere is waited for, in seconds.

        Raises:
            StoreError: It cannot be opened: locked, damaged, read-only, full,
                of another program or of a newer version.
        """
        with readable_errors(path):
            _private_file(path)
        with _readable(path, timeout_s):
            connection = sqlite3.connect(
                path, timeout=timeout_s, isolation_level=None, check_same_thread=False
            )
            try:
                _switch_to_wal(connection, timeout_s)
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("PRAGMA fullfsync = 1")
                connection.execute("PRAGMA checkpoint_fullfsync = 1")
                store = cls(connection, path=path, timeout_s=timeout_s)
                store._prepare()
                connection.execute(f"PRAGMA busy_timeout = {_TRY_MS}")
            except BaseException:
                connection.close()
                raise
        return store

    @classmethod
    def memory(cls) -> Store:
        """Return a fresh store in memory."""
        store = cls(_memory_connection(), path=None)
        store._prepare()
        return store

    def _prepare(self) -> None:
        """Switch foreign keys on and run the migrations."""
        self._connection.execute("PRAGMA foreign_keys = ON")
        migrate(self._connection, where=str(self.path or "the store in memory"))

    def clone_to_memory(self) -> Store:
        """Return an independent copy in memory; a small store takes about a millisecond."""
        with self._lock, self._guard():
            connection = _memory_connection()
            self._connection.backup(connection)
            connection.execute("PRAGMA foreign_keys = ON")
        return Store(connection, path=None)

    def close(self) -> None:
        """Close the database; further use raises ``sqlite3.ProgrammingError``."""
        with self._lock, self._guard():
            self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
        """Run one statement and return its rows as dictionaries.

        Raises:
            StoreError: The file cannot be read or written.
        """
        with self._lock, self._guard():
            cursor = self._execute(sql, parameters)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def insert(self, table: str, values: Mapping[str, Any]) -> int:
        """Add one row and return its id; table and column names come from code, not from data.

        Raises:
            StoreError: The file cannot be written.
        """
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        with self._lock, self._guard():
            cursor = self._execute(
                f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(values.values())
            )
        return cursor.lastrowid or 0

    @contextlib.contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[None]:
        """Make everything inside the block one change, or none if the block raises.

        Other threads wait. Blocks nest: an inner one that raises undoes its own part.

        Args:
            write: Take the write lock now; False reads one state without it.

        Raises:
            StoreError: The file is locked, read-only or full; nothing was changed.
        """
        with self._lock:
            begin, commit, undo = _INNER if self._depth else _OUTER
            if begin == _OUTER[0]:
                self._had_to_wait = False
                begin = begin if write else "BEGIN"
            with self._guard():
                self._execute(begin)
            self._depth += 1
            try:
                yield
                with self._guard():
                    self._execute(commit)
            except BaseException:
                self._undo(undo)
                raise
            finally:
                self._depth -= 1
            if self._had_to_wait and not self._depth:
                time.sleep(_TRY_MS / 1000)

    def _execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> sqlite3.Cursor:
        """Run one statement, waiting for locks that others hold."""
        deadline = now() + self._timeout_s
        while True:
            try:
                return self._connection.execute(sql, parameters)
            except sqlite3.OperationalError as error:
                # What has read an older state cannot write any more: waiting would not help.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or now() >= deadline:
                    raise
                self._had_to_wait = True

    def _undo(self, statements: Sequence[str]) -> None:
        """Roll back; SQLite has already done so after some errors, such as a full disk."""
        for statement in statements if self._connection.in_transaction else ():
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute(statement)

    def setting(self, key: str, default: str = "") -> str:
        """Return a setting's value.

        Raises:
            StoreError: The file cannot be read.
        """
        found = self.rows("SELECT value FROM settings WHERE key = ?", (key,))
        return str(found[0]["value"]) if found else default

    def set_setting(self, key: str, value: str) -> None:
        """Change a setting.

        Raises:
            StoreError: The file cannot be written.
        """
        self.rows(  # no REPLACE: triggers do not see what it removes
            "INSERT INTO settings (key, value) VALUES (?, ?) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )

    def search(self, text: str, *, kinds: Sequence[Found] = (), limit: int = 20) -> list[Hit]:
        """Find notes, mails, events and files that hold all words, or their beginnings.

        Args:
            text: Words; everything else in it is ignored.
            kinds: What to look through; everything if empty.
            limit: Most hits returned.

        Returns:
            Hits, best first (BM25, titles count four times).

        Raises:
            StoreError: The file cannot be read.
        """
        words = re.findall(r"\w+", text.replace("\0", " "))
        if not words:
            return []
        names = get_args(Found)
        chosen = ", ".join(str(names.index(kind)) for kind in kinds or names)
        found = self.rows(
            "SELECT rowid, title, snippet(search, 1, '', '', '…', 12) AS snippet FROM search "
            f"WHERE search MATCH ? AND rowid % 4 IN ({chosen}) "
            "ORDER BY bm25(search, 4.0, 1.0), rowid LIMIT ?",
            (" ".join(f'"{word}"*' for word in words), limit),
        )
        return [
            Hit(
                kind=names[row["rowid"] % 4],
                id=row["rowid"] // 4,
                title=row["title"],
                snippet=row["snippet"],
            )
            for row in found
        ]

    def reader(self) -> Store:
        """Return a view of this store that only reads."""
        return _Reader(self)

    def _guard(self) -> contextlib.AbstractContextManager[None]:
        return _readable(self.path, self._timeout_s)


class _Reader(Store):
    """A store as one that may only read sees it; shares the connection."""

    def __init__(self, store: Store) -> None:
        self.path = store.path
        self._store = store

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
        if sql.split(maxsplit=1)[0].upper() != "SELECT":
            raise StoreError("this view of the store only reads")
        return self._store.rows(sql, parameters)

    def insert(self, table: str, values: Mapping[str, Any]) -> int:
        raise StoreError("this view of the store only reads")

    @contextlib.contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[None]:
        with self._store.transaction(write=False):
            yield

    def reader(self) -> Store:
        return self

    def clone_to_memory(self) -> Store:
        return self._store.clone_to_memory()

    def close(self) -> None:
        """Leave the store open: it is not this view's."""


_OUTER = ("BEGIN IMMEDIATE", "COMMIT", ("ROLLBACK",))
_INNER = ("SAVEPOINT part", "RELEASE part", ("ROLLBACK TO part", "RELEASE part"))


def user_store(paths: Paths, *, timeout_s: float = TIMEOUT_S) -> Store:
    """Open the user's own store, in a data folder that only the user can read.

    Args:
        paths: The user folders.
        timeout_s: How long a lock held elsewhere is waited for, in seconds.

    Raises:
        StoreError: It cannot be opened.
    """
    with readable_errors(paths.data):
        paths.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if paths.data.stat().st_mode & 0o077:
            paths.data.chmod(0o700)
    return Store.open(paths.data / FILE_NAME, timeout_s=timeout_s)


def _memory_connection() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


def _switch_to_wal(connection: sqlite3.Connection, timeout_s: float) -> None:
    """Let readers and a writer work at once.

    Of two processes that switch a fresh file together SQLite refuses one at once, whatever its
    timeout: each would wait for the other's read lock to go. So the waiting is done here.
    """
    deadline = now() + timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or now() > deadline:
                raise
        time.sleep(_POLL_S)


def _private_file(path: Path) -> None:
    """Make sure that the file exists and that only its owner can read it.

    SQLite gives its companions (``-wal``, ``-shm``) the mode of the file itself.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        status = os.fstat(descriptor)
        if 0 < status.st_size < _HEADER_BYTES:  # SQLite would take it for an empty file
            raise StoreError(f"cannot use {path}: {_REASONS[sqlite3.SQLITE_NOTADB]}")
        if status.st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


_REASONS = {
    sqlite3.SQLITE_READONLY: "it is read-only; check its owner, or move MLX_TINYAGENT_HOME",
    sqlite3.SQLITE_FULL: "the disk is full; free some space and try again",
    sqlite3.SQLITE_IOERR: "the disk reports an error; check its space and its health",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that its folder exists and is writable",
    sqlite3.SQLITE_PERM: "permission denied; check its owner",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move it away to start afresh, or restore a copy",
    sqlite3.SQLITE_NOTADB: "it is not a database; move it away to start afresh, or restore a copy",
}


@contextlib.contextmanager
def _readable(path: Path | None, timeout_s: float) -> Iterator[None]:
    """Turn SQLite's refusals into one line with the path and what would do."""
    where = str(path or "the store in memory")
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreError(
                f"{where} is locked by another process (waited {timeout_s:g} s); "
                "close the other one, or try again"
            ) from error
        if code in _REASONS:
            raise StoreError(f"cannot use {where}: {_REASONS[code]}") from error
        raise
