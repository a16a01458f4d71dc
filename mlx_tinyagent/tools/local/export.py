"""The whole store as plain data, to take along."""

from __future__ import annotations

from typing import Any

from mlx_tinyagent.tools.local.rows import snapshot
from mlx_tinyagent.tools.local.store import Store

VERSION = 1


def export_store(store: Store) -> dict[str, Any]:
    """Return everything in a store: every row of every table, and the journal.

    Raises:
        StoreError: The store cannot be read.
    """
    with store.transaction(write=False):
        return {
            "version": VERSION,
            "schema": store.rows("SELECT user_version FROM pragma_user_version")[0]["user_version"],
            "tables": snapshot(store),
            "journal": store.rows("SELECT * FROM journal ORDER BY seq"),
        }
