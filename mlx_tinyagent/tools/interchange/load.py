"""Puts records into the local store: each once, whoever wrote the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_tinyagent.tools.external import uid
from mlx_tinyagent.tools.interchange.records import (
    Draft,
    Event,
    Letter,
    Page,
    Person,
    Record,
    Todo,
)
from mlx_tinyagent.tools.local.store import Store
from mlx_tinyagent.tools.match import fold

KINDS: Mapping[type[Record], str] = {
    Person: "contact",
    Event: "event",
    Todo: "reminder",
    Letter: "mail",
    Draft: "draft",
    Page: "note",
}
TABLES = {kind: f"{kind}s" for kind in KINDS.values()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What became of records.

    Attributes:
        added: New rows by kind.
        known: Records that the store held already, by kind.
    """

    added: Mapping[str, int]
    known: Mapping[str, int]


class Names:
    """Identifiers of the store's rows: those of their files, else ones of the store's own.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._own = store.setting("store_id")
        if not self._own:
            self._own = uid("").partition("@")[0]
            store.set_setting("store_id", self._own)
        found = store.rows("SELECT kind, row_id, uid, text FROM originals")
        self._originals = {(row["kind"], row["row_id"]): (row["uid"], row["text"]) for row in found}

    def of(self, kind: str, row_id: int) -> tuple[str, str]:
        """Return a row's identifier and the text it was read from, which may be empty."""
        return self._originals.get((kind, row_id)) or (uid(f"{self._own}/{kind}/{row_id}"), "")

    def known(self) -> set[tuple[str, str]]:
        """Return kind and identifier of every row."""
        return {
            (kind, self.of(kind, row["id"])[0])
            for kind, table in TABLES.items()
            for row in self._store.rows(f"SELECT id FROM {table}")
        }


def load(store: Store, records: Iterable[Record]) -> Loaded:
    """Add records to a store, in one transaction.

    A record whose identifier the store knows is left alone: what is there may
    have been changed since.

    Raises:
        StoreError: The store cannot be written; nothing was added.
    """
    added: Counter[str] = Counter()
    known: Counter[str] = Counter()
    with store.transaction():
        names = Names(store).known()
        for record in records:
            kind = KINDS[type(record)]
            if (kind, record.uid) in names:
                known[kind] += 1
                continue
            names.add((kind, record.uid))
            row_id = _insert(store, record)
            original = {"kind": kind, "row_id": row_id, "uid": record.uid, "text": record.text}
            store.insert("originals", original)
            added[kind] += 1
    return Loaded(added=added, known=known)


def _insert(store: Store, record: Record) -> int:
    match record:
        case Person():
            row = store.insert("contacts", {"name": record.name, "company": record.company})
            _members(store, "contact_emails", "contact_id", row, "email", record.emails)
            _members(store, "contact_phones", "contact_id", row, "phone", record.phones)
            _members(store, "contact_nicknames", "contact_id", row, "nickname", record.nicknames)
        case Event():
            row = store.insert("events", _event(store, record))
            _members(store, "event_invitees", "event_id", row, "email", record.invitees)
        case Todo():
            row = store.insert("reminders", _todo(store, record))
        case Letter():
            columns = ("sender", "sender_name", "subject", "body", "received")
            row = store.insert("mails", {name: getattr(record, name) for name in columns})
        case Draft():
            draft = {"kind": "new", "subject": record.subject, "body": record.body}
            row = store.insert("drafts", draft)
            marked = [("to", a) for a in record.to] + [("cc", a) for a in record.cc]
            for position, (role, address) in enumerate(marked):
                place = {"draft_id": row, "position": position, "role": role, "email": address}
                store.insert("draft_recipients", place)
        case Page():
            folder = _place(store, "note_folders", record.folder)
            note = {"folder_id": folder, "name": record.name, "body": record.body}
            row = store.insert("notes", note)
    return row


def _event(store: Store, event: Event) -> dict[str, Any]:
    return {
        "calendar_id": _place(store, "calendars", event.calendar),
        "title": event.title,
        "starts": event.starts,
        "ends": event.ends,
        "location": event.location,
        "notes": event.notes,
    }


def _todo(store: Store, todo: Todo) -> dict[str, Any]:
    return {
        "list_id": _place(store, "reminder_lists", todo.list_name),
        "name": todo.name,
        "due": todo.due,
        "all_day": int(todo.all_day),
        "priority": todo.priority,
        "notes": todo.notes,
        "done": int(todo.done),
    }


def _members(
    store: Store, table: str, owner: str, row: int, column: str, values: Sequence[str]
) -> None:
    for position, value in enumerate(values):
        store.insert(table, {owner: row, "position": position, column: value})


def _place(store: Store, table: str, name: str) -> int:
    """Return the row of a calendar, list or folder, made if there is none; the first by default."""
    every = store.rows(f"SELECT id, name FROM {table} ORDER BY id")
    wanted = fold(name)
    for row in every:
        if not name or fold(row["name"]) == wanted:
            return int(row["id"])
    return store.insert(table, {"name": name or "Imported"})
