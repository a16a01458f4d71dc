"""Bringing a database to the newest schema: each step in one transaction.

A process that is killed anywhere leaves the old schema or the new one. The
steps are packaged SQL files whose number is the schema version they lead to.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from mlx_tinyagent.errors import StoreError

APPLICATION_ID = 1296847937  # "MLTA"; marks the file as ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step.

    Attributes:
        version: Schema version it leads to, from 1.
        sql: Its statements.
    """

    version: int
    sql: str


@lru_cache(maxsize=1)
def packaged() -> tuple[Migration, ...]:
    """Return the packaged steps in order."""
    folder = files("mlx_tinyagent.tools.local") / "migrations"
    scripts = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return tuple(
        Migration(version=int(script.name.split("_")[0]), sql=script.read_text("utf-8"))
        for script in scripts
    )


def migrate(
    connection: sqlite3.Connection, *, where: str, steps: Sequence[Migration] | None = None
) -> None:
    """Run the steps that a database still lacks.

    Args:
        connection: In autocommit mode (``isolation_level=None``).
        where: Name of the database for messages.
        steps: The steps; the packaged ones by default.

    Raises:
        StoreError: The file belongs to another program or to a newer version.
        sqlite3.Error: The database refuses; nothing of the failing step remains.
    """
    steps = packaged() if steps is None else steps
    newest = steps[-1].version
    if _version(connection) == newest:
        _check_owner(connection, where)
        return
    for step in steps:
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = _version(connection)  # again: another process may have been faster
            _check_owner(connection, where)
            if version > newest:
                raise StoreError(
                    f"{where} was written by a newer version (schema {version}, this one knows "
                    f"{newest}); update mlx-tinyagent"
                )
            if version < step.version:
                for statement in statements(step.sql):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {step.version}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def statements(sql: str) -> Iterator[str]:
    """Yield the statements of a script; semicolons inside triggers do not split."""
    pending = ""
    for line in sql.splitlines(keepends=True):
        if not pending and (not line.strip() or line.startswith("--")):
            continue
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending.strip()
            pending = ""
    if pending.strip():
        yield pending.strip()


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _check_owner(connection: sqlite3.Connection, where: str) -> None:
    """Refuse a database that another program made."""
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    empty = not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    if owner != APPLICATION_ID and not (empty and owner == 0):
        raise StoreError(
            f"{where} is a database of another program; name another file, or move it away"
        )
