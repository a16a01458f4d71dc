"""Snapshots of the store, and what differs between two of them.

A difference is exact (rows with their ids, enough to undo it) and has a
canonical form in which two runs that did the same thing are equal, whatever
order they did it in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlx_tinyagent.tools.local.store import Row, Store

Snapshot = Mapping[str, list[Row]]

# Foreign keys as the schema has them. A part belongs to its parent and goes with it.
PARTS = {
    "contact_emails": ("contact_id", "contacts"),
    "contact_phones": ("contact_id", "contacts"),
    "contact_nicknames": ("contact_id", "contacts"),
    "event_invitees": ("event_id", "events"),
    "draft_recipients": ("draft_id", "drafts"),
    "draft_attachments": ("draft_id", "drafts"),
    "outbox_recipients": ("message_id", "outbox_messages"),
    "meeting_invitees": ("meeting_id", "meetings"),
}
LINKS = {
    "events": ("calendar_id", "calendars"),
    "reminders": ("list_id", "reminder_lists"),
    "notes": ("folder_id", "note_folders"),
    "drafts": ("source_id", "mails"),
}
TABLES = (
    *("settings", "contacts", "contact_emails", "contact_phones", "contact_nicknames"),
    *("calendars", "events", "event_invitees", "reminder_lists", "reminders"),
    *("note_folders", "notes", "mails", "drafts", "draft_recipients", "draft_attachments"),
    *("outbox_messages", "outbox_recipients", "meetings", "meeting_invitees"),
    *("outbox", "originals", "roots", "files", "opened"),
)
_INCIDENTAL = ("id", "position")  # of added rows: they only say in which order things were done


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """What changed between two snapshots; tables without a change are left out.

    Attributes:
        added: New rows by table.
        removed: Rows that are gone, by table.
        changed: Pairs of a row before and after, by table.
    """

    added: Mapping[str, list[Row]]
    removed: Mapping[str, list[Row]]
    changed: Mapping[str, list[tuple[Row, Row]]]

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    @property
    def tables(self) -> frozenset[str]:
        """Names of the tables with a change."""
        return frozenset((*self.added, *self.removed, *self.changed))

    def canonical(self, *, ignore: Collection[str] = ()) -> list[str]:
        """Return the change as sorted JSON texts that do not depend on new ids or order.

        A new row stands with its parts inside and without its id; what it
        links to stands by content if it is new too, else by id. Two runs from
        the same start did the same thing exactly if their lists are equal.

        Args:
            ignore: Tables left out.
        """
        new = _New(self.added)
        entries: list[list[Any]] = []
        for table, rows in self.added.items():
            entries += [
                ["added", table, new.content(table, r)] for r in rows if new.is_top(table, r)
            ]
        for table, rows in self.removed.items():
            entries += [["removed", table, key(table, row)] for row in rows]
        for table, pairs in self.changed.items():
            for before, after in pairs:
                fields = {name: new.value(table, name, after) for name in _differing(before, after)}
                entries.append(["changed", table, key(table, before), fields])
        return sorted(_dump(entry) for entry in entries if entry[1] not in ignore)


class _New:
    """The added rows, to be told by content."""

    def __init__(self, added: Snapshot) -> None:
        self._rows = {(t, row.get("id")): row for t, rows in added.items() for row in rows}
        self._parts: dict[tuple[str, Any], list[tuple[str, Row]]] = {}
        for table, rows in added.items():
            if table in PARTS:
                column, parent = PARTS[table]
                for row in rows:
                    self._parts.setdefault((parent, row[column]), []).append((table, row))

    def is_top(self, table: str, row: Row) -> bool:
        """Whether a row is no part of another new one."""
        return table not in PARTS or (PARTS[table][1], row[PARTS[table][0]]) not in self._rows

    def content(self, table: str, row: Row) -> dict[str, Any]:
        """Return a row's columns and parts without what is incidental."""
        content = {n: self.value(table, n, row) for n in row if n not in _INCIDENTAL}
        for part, member in self._parts.get((table, row.get("id")), ()):
            inner = {n: v for n, v in member.items() if n not in (*_INCIDENTAL, PARTS[part][0])}
            content.setdefault(part, []).append(inner)
        for part in PARTS.keys() & content.keys():
            content[part].sort(key=_dump)
        return content

    def value(self, table: str, column: str, row: Row) -> Any:
        """Return a column's value; a link to a new row becomes that row's content."""
        if LINKS.get(table, ("", ""))[0] == column:
            target = self._rows.get((LINKS[table][1], row[column]))
            if target is not None:
                return self.content(LINKS[table][1], target)
        return row[column]


def snapshot(store: Store) -> dict[str, list[Row]]:
    """Return all rows of all tables, in key order, as of one moment.

    Raises:
        StoreError: The store cannot be read.
    """
    with store.transaction(write=False):
        return {
            table: store.rows(f"SELECT * FROM {table} ORDER BY {key_column(table)}")
            for table in TABLES
        }


def diff(before: Snapshot, after: Snapshot) -> Diff:
    """Compare two snapshots of one store row by row."""
    added: dict[str, list[Row]] = {}
    removed: dict[str, list[Row]] = {}
    changed: dict[str, list[tuple[Row, Row]]] = {}
    for table in TABLES:
        old, new = _by_key(table, before), _by_key(table, after)
        _keep(added, table, (row for k, row in new.items() if k not in old))
        _keep(removed, table, (row for k, row in old.items() if k not in new))
        pairs = [(old[k], new[k]) for k in old if k in new and old[k] != new[k]]
        if pairs:
            changed[table] = pairs
    return Diff(added=added, removed=removed, changed=changed)


def content_hash(store: Store) -> str:
    """Return the sha256 of everything in the store.

    Raises:
        StoreError: The store cannot be read.
    """
    return hashlib.sha256(_dump(snapshot(store)).encode()).hexdigest()


def key(table: str, row: Row) -> Any:
    """Return a row's stable key."""
    return row[key_column(table)]


def key_column(table: str) -> str:
    """Return the name of the column that a table's rows are told by."""
    return "key" if table == "settings" else "id"


def _by_key(table: str, rows: Snapshot) -> dict[Any, Row]:
    return {key(table, row): row for row in rows.get(table, ())}


def _keep(into: dict[str, list[Row]], table: str, rows: Iterator[Row]) -> None:
    if found := list(rows):
        into[table] = found


def _differing(before: Row, after: Row) -> list[str]:
    return [name for name in after if before.get(name) != after[name]]


_dump: Callable[[Any], str] = json.JSONEncoder(
    ensure_ascii=True, sort_keys=True, separators=(",", ":")
).encode
