"""Which rows an effect changed, noted by SQLite itself and enough to take it back.

Triggers of the connection, not of the file, write every changed row as JSON
while a recording is on. So what an effect does on the side (a folder made for
a note) is noted as well, and tools need not say it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mlx_tinyagent.errors import StoreError
from mlx_tinyagent.tools.backend import Change
from mlx_tinyagent.tools.local.rows import TABLES, key_column
from mlx_tinyagent.tools.local.store import Row, Store


@contextmanager
def recording(store: Store) -> Iterator[list[Change]]:
    """Note which rows the block changes; to be used inside a transaction.

    Yields:
        A list that holds the changes, in order, when the block has ended.

    Raises:
        StoreError: The store cannot be read or written.
    """
    _install(store)
    changes: list[Change] = []
    store.rows("DELETE FROM temp.changes")
    store.rows("UPDATE temp.recorder SET is_on = 1")
    try:
        yield changes
        found = store.rows("SELECT * FROM temp.changes ORDER BY seq")
        changes += [_change(row) for row in found]
    finally:
        store.rows("UPDATE temp.recorder SET is_on = 0")


def revert(store: Store, changes: Sequence[Change]) -> str | None:
    """Take changes back, last first; to be used inside a transaction that is undone on a reason.

    Args:
        store: The store they were made in.
        changes: In the order they were made.

    Returns:
        None if all rows are as before, else why that cannot be.

    Raises:
        StoreError: The store cannot be read or written.
    """
    for change in reversed(changes):
        where = f"{change.table.replace('_', ' ')} {change.key}"
        if _row(store, change) != change.after:
            return f"{where} has been changed since"
        try:
            _restore(store, change)
        except sqlite3.IntegrityError:  # a later row points at it
            return f"{where} is in use"
    return None


def _install(store: Store) -> None:
    """Make the triggers, once per connection."""
    if store.rows("SELECT 1 FROM sqlite_temp_schema WHERE name = 'changes'"):
        return
    store.rows("CREATE TEMP TABLE recorder (is_on INTEGER)")
    store.rows("INSERT INTO temp.recorder VALUES (0)")
    for table in TABLES:
        columns = [row["name"] for row in store.rows(f"PRAGMA main.table_info({table})")]
        for statement in _triggers(table, columns):
            store.rows(statement)
    store.rows(
        "CREATE TEMP TABLE changes "
        "(seq INTEGER PRIMARY KEY, name TEXT, row_key, old TEXT, new TEXT)"
    )


def _triggers(table: str, columns: Sequence[str]) -> Iterator[str]:
    key = key_column(table)
    old, new = (_as_json(side, columns) for side in ("old", "new"))
    for event, side, values in (
        ("INSERT", "new", f"NULL, {new}"),
        ("UPDATE", "old", f"{old}, {new}"),
        ("DELETE", "old", f"{old}, NULL"),
    ):
        yield (
            f"CREATE TEMP TRIGGER changes_{table}_{event.lower()} AFTER {event} ON main.{table} "
            "WHEN (SELECT is_on FROM temp.recorder) BEGIN "
            "INSERT INTO changes (name, row_key, old, new) "
            f"VALUES ('{table}', {side}.{key}, {values}); END"
        )


def _as_json(side: str, columns: Sequence[str]) -> str:
    pairs = ", ".join(f"'{name}', {side}.{name}" for name in columns)
    return f"json_object({pairs})"


def _change(row: Row) -> Change:
    return Change(
        table=row["name"],
        key=row["row_key"],
        before=json.loads(row["old"]) if row["old"] else None,
        after=json.loads(row["new"]) if row["new"] else None,
    )


def _row(store: Store, change: Change) -> dict[str, Any] | None:
    found = store.rows(
        f"SELECT * FROM {_known(change.table)} WHERE {key_column(change.table)} = ?", (change.key,)
    )
    return found[0] if found else None


def _restore(store: Store, change: Change) -> None:
    """Put one row back as it was."""
    table, column = _known(change.table), key_column(change.table)
    if change.before is None:
        store.rows(f"DELETE FROM {table} WHERE {column} = ?", (change.key,))
    elif change.after is None:
        store.insert(table, change.before)
    else:
        marks = ", ".join(f"{name} = ?" for name in change.before)
        store.rows(
            f"UPDATE {table} SET {marks} WHERE {column} = ?",
            (*change.before.values(), change.key),
        )


def _known(table: str) -> str:
    """Return a table's name if it is one of ours: it becomes part of a statement."""
    if table not in TABLES:
        raise StoreError(f"the journal names a table that this version does not know: {table[:40]}")
    return table
