"""The outbox: what is to be sent for good waits here, and can be recalled until it goes.

A message is put in once per key. It is marked ``sending`` before it goes and
``sent`` after; if the process dies between the two nobody knows, and the
message is looked for by its key before anything else. Nothing is sent twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from mlx_tinyagent.act.gate import find_effect, send
from mlx_tinyagent.errors import InputError, ToolError
from mlx_tinyagent.tools.backend import Backend
from mlx_tinyagent.tools.interchange.eml import thread
from mlx_tinyagent.tools.interchange.save import read_attachment
from mlx_tinyagent.tools.local.store import Row, Store
from mlx_tinyagent.tools.results import NotFound, Ok, Result, Unknown, explain

State = Literal["waiting", "sending", "sent", "recalled", "failed", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A message in the outbox.

    Attributes:
        id: Its number.
        key: What it carries, to be found again.
        kind: ``mail`` or ``message``.
        payload: Recipients, subject, text, files.
        due: When it may go, UTC.
        state: How far it is.
        reason: Why it failed; empty otherwise.
    """

    id: int
    key: str
    kind: str
    payload: Mapping[str, Any]
    due: datetime
    state: State
    reason: str


class Outbox:
    """The outbox of one store.

    Args:
        store: The store that holds it.
        clock: Gives the time, UTC.
    """

    def __init__(
        self, store: Store, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._store = store
        self._clock = clock

    def put(self, kind: str, payload: Mapping[str, Any], *, key: str, wait_s: float) -> Waiting:
        """Let a message wait; the same key twice is one message.

        One that was recalled or surely did not go waits again.

        Args:
            kind: ``mail`` or ``message``.
            payload: What is to be sent, plain data: see ``tools.backend.Sender``.
            key: What it carries.
            wait_s: How long it can be recalled, in seconds.

        Raises:
            StoreError: The store cannot be written.
        """
        due = self._clock() + timedelta(seconds=wait_s)
        with self._store.transaction():
            if not self._store.rows("SELECT 1 FROM outbox WHERE key = ?", (key,)):
                text = json.dumps(dict(payload), sort_keys=True)
                row = {"key": key, "kind": kind, "payload": text, "due": due.isoformat()}
                self._store.insert("outbox", row)
            self._store.rows(
                "UPDATE outbox SET state = 'waiting', reason = '', due = ? "
                "WHERE key = ? AND state IN ('recalled', 'failed')",
                (due.isoformat(), key),
            )
        return self._only("key", key)

    def items(self) -> list[Waiting]:
        """Return all messages, oldest first.

        Raises:
            StoreError: The store cannot be read.
        """
        return [_waiting(row) for row in self._store.rows("SELECT * FROM outbox ORDER BY id")]

    def recall(self, number: int) -> None:
        """Take a message back that has not gone yet.

        Raises:
            ToolError: It has gone, is going, or is not there.
            StoreError: The store cannot be written.
        """
        with self._store.transaction():
            found = [item for item in self.items() if item.id == number]
            state = found[0].state if found else "not there"
            if state != "waiting":
                raise ToolError(f"message {number} cannot be recalled: it is {state}")
            self._set(number, "recalled")

    def send_due(self, backend: Backend) -> list[Waiting]:
        """Send what is due; one after the other, each marked before it goes.

        Args:
            backend: What can send.

        Returns:
            The messages that were due, as they are now.

        Raises:
            StoreError: The store cannot be written; what is not marked has not gone.
        """
        handled = []
        for item in self.items():
            if item.state != "waiting" or item.due > self._clock():
                continue
            if self._take(item.id):
                self._settle(item.id, send(backend, item.kind, item.payload, key=item.key))
                handled.append(item.id)
        return [item for item in self.items() if item.id in handled]

    def reconcile(self, backend: Backend) -> list[Waiting]:
        """Find out what became of messages that were going when the process died.

        One that surely did not go waits again; one of which nobody can tell stays
        ``unknown`` and is not sent again.

        Args:
            backend: What was sending.

        Returns:
            The messages in question, as they are now.
        """
        open_items = [item for item in self.items() if item.state in ("sending", "unknown")]
        for item in open_items:
            found = find_effect(backend, item.key)
            if isinstance(found, NotFound):
                self._set(item.id, "waiting")
            else:
                self._settle(
                    item.id, found if isinstance(found, Ok) else Unknown(reason=explain(found))
                )
        numbers = {item.id for item in open_items}
        return [item for item in self.items() if item.id in numbers]

    def _take(self, number: int) -> bool:
        """Mark a message as going, unless somebody else has, or it was recalled."""
        with self._store.transaction():
            if self._only("id", number).state != "waiting":
                return False
            self._set(number, "sending")
            return True

    def _settle(self, number: int, result: Result) -> None:
        match result:
            case Ok():
                self._set(number, "sent")
            case Unknown():
                self._set(number, "unknown", explain(result))
            case _:  # a missing file or permission: it surely did not go
                self._set(number, "failed", explain(result))

    def _set(self, number: int, state: State, reason: str = "") -> None:
        self._store.rows(
            "UPDATE outbox SET state = ?, reason = ? WHERE id = ?", (state, reason, number)
        )

    def _only(self, column: Literal["id", "key"], value: int | str) -> Waiting:
        (row,) = self._store.rows(f"SELECT * FROM outbox WHERE {column} = ?", (value,))
        return _waiting(row)


def message_of(store: Store, record: str) -> tuple[str, dict[str, Any]]:
    """Return a draft or text message as it is put into the outbox, its files bound by content.

    Args:
        store: The store that holds it.
        record: ``draft:3`` or ``message:2``, as the result of a step names it.

    Returns:
        Kind and payload: see ``tools.backend.Sender``.

    Raises:
        InputError: There is none of that name, or a file of it cannot be read.
        StoreError: The store cannot be read.
    """
    sort, _, number = record.partition(":")
    found: list[Row] = []
    if number.isascii() and number.isdigit() and sort in ("draft", "message"):
        table = "drafts" if sort == "draft" else "outbox_messages"
        found = store.rows(f"SELECT * FROM {table} WHERE id = ?", (int(number),))
    if not found:
        raise InputError(f"there is no {record!r}; it is draft:N or message:N, as its result says")
    if sort == "message":
        return "message", _text(store, found[0])
    return "mail", _mail(store, found[0])


def _text(store: Store, row: Row) -> dict[str, Any]:
    sql = "SELECT phone FROM outbox_recipients WHERE message_id = ? ORDER BY position"
    numbers = [found["phone"] for found in store.rows(sql, (row["id"],))]
    return {"recipients": numbers, "text": row["text"]}


def _mail(store: Store, row: Row) -> dict[str, Any]:
    people = store.rows(
        "SELECT * FROM draft_recipients WHERE draft_id = ? ORDER BY position", (row["id"],)
    )
    sql = "SELECT path FROM draft_attachments WHERE draft_id = ? ORDER BY position"
    paths = [found["path"] for found in store.rows(sql, (row["id"],))]
    return {
        "recipients": [person["email"] for person in people if person["role"] == "to"],
        "cc": [person["email"] for person in people if person["role"] == "cc"],
        "subject": row["subject"],
        "body": row["body"],
        "attachments": paths,
        "sha256": {path: _digest(path) for path in paths},
        "thread": _thread(store, row) if row["kind"] == "reply" else [],
    }


def _digest(path: str) -> str:
    content = read_attachment(path)
    if content is None:
        raise InputError(
            f"{path} cannot be attached: it is gone, no plain file, or too large; "
            "put it back, or write the mail anew"
        )
    return hashlib.sha256(content).hexdigest()


def _thread(store: Store, draft: Row) -> list[str]:
    """Return the Message-IDs that a reply follows, if the mail it answers came with any."""
    sql = "SELECT text FROM originals WHERE kind = 'mail' AND row_id = ?"
    found = store.rows(sql, (draft["source_id"],))
    return list(thread(found[0]["text"].encode("latin-1"))) if found else []


def _waiting(row: Row) -> Waiting:
    return Waiting(
        id=row["id"],
        key=row["key"],
        kind=row["kind"],
        payload=json.loads(row["payload"]),
        due=datetime.fromisoformat(row["due"]),
        state=row["state"],
        reason=row["reason"],
    )
