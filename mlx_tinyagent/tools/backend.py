"""What a backend can do: the one protocol behind the local store and macOS.

Arguments arrive resolved: dates as local ISO 8601 text, people as addresses
or numbers, files as paths. Nothing here guesses.

``Backend`` is what every backend has. What it may have besides, each a
protocol of its own: ``Recoverable`` (effects outside the store carry a key, and
are found and taken back), ``Transactional`` (effects on the store share a
transaction with the journal), ``Sender`` (delivers what waits in the outbox).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, runtime_checkable

from mlx_tinyagent.tools.results import Ok, Result

# What a tool may call without changing anything. Every other method of a backend is an effect
# and runs only inside an approved step; a backend that gains a read adds its name here.
READS = frozenset({"name", "contacts", "files", "notes", "selected_mail", "read_document"})
FOREIGN = frozenset({"selected_mail", "read_document"})  # reads that give text of others
OPENS = frozenset({"open_file", "open_url"})  # effects that only show something


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """A person in the address book."""

    id: int
    name: str
    emails: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()
    nicknames: tuple[str, ...] = ()  # also relations: "mom"
    company: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file under one of the user's roots."""

    path: str  # absolute
    name: str
    size: int  # bytes
    modified: str  # local ISO 8601


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A note."""

    id: int
    name: str
    folder: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A received message; its text is untrusted."""

    id: int
    sender: str
    sender_name: str
    subject: str
    body: str
    received: str  # local ISO 8601


class Backend(Protocol):
    """Reads and effects; every effect returns a typed result and never raises for user data."""

    name: str

    def contacts(self) -> Sequence[Contact]:
        """Return the address book."""

    def files(self) -> Sequence[FileEntry]:
        """Return the file index."""

    def notes(self, folder: str = "") -> Sequence[Note]:
        """Return the notes of a folder, or all."""

    def selected_mail(self) -> Mail | None:
        """Return the message the user has selected, else the newest in the inbox."""

    def read_document(self, path: str) -> Result:
        """Return a document's text (untrusted) as ``Ok`` with field ``pages``."""

    def open_file(self, path: str) -> Result:
        """Show a file in its application."""

    def open_url(self, url: str, *, note: str) -> Result:
        """Show a URL; ``note`` is what the user is told."""

    def create_event(
        self,
        *,
        title: str,
        start: str,
        end: str,
        location: str,
        invitees: Sequence[str],
        notes: str,
        calendar: str,
    ) -> Result:
        """Add an event; ``start`` and ``end`` are local ISO 8601."""

    def create_reminder(
        self, *, name: str, due: str, notes: str, list_name: str, priority: int, all_day: bool
    ) -> Result:
        """Add a reminder; ``due`` is local ISO 8601 (a date alone means all day) or empty."""

    def create_note(self, *, name: str, body: str, folder: str) -> Result:
        """Add a note."""

    def append_note(self, *, note_id: int, text: str) -> Result:
        """Add text to the end of a note."""

    def draft_mail(
        self,
        *,
        kind: Literal["new", "reply", "forward"],
        recipients: Sequence[str],
        cc: Sequence[str],
        subject: str,
        body: str,
        attachments: Sequence[str],
        source: int | None = None,
    ) -> Result:
        """Save a draft; ``source`` is the message replied to or forwarded."""

    def queue_message(self, *, recipients: Sequence[str], text: str) -> Result:
        """Put one text message to several numbers into the outbox."""

    def create_meeting(
        self, *, topic: str, start: str, minutes: int, invitees: Sequence[str]
    ) -> Result:
        """Create an online meeting; ``Ok`` carries the join link."""


@runtime_checkable
class Recoverable(Protocol):
    """A backend whose effects carry a key, by which they are found and taken back.

    The key stands where others leave it alone (Message-ID, UID, URL field), so
    that an unknown outcome is read back before anything is tried again.
    """

    def with_key(self, key: str) -> Backend:
        """Return a view whose next effect carries ``key``; the same key twice is one effect."""

    def find(self, key: str) -> Result:
        """Look for the effect that carries a key.

        Returns:
            ``Ok`` with its record if it took place, ``NotFound`` if it surely
            did not, anything else if that cannot be told.
        """

    def undo(self, record: str) -> Result:
        """Take one effect back.

        Args:
            record: ``Ok.record`` of the effect.

        Returns:
            ``Ok`` or ``NotFound`` if it is as before; ``Failed`` with the
            reason if it cannot be taken back.
        """


@runtime_checkable
class Sender(Protocol):
    """A backend that can deliver what waits in the outbox."""

    def deliver(self, kind: str, payload: Mapping[str, Any], *, key: str) -> Result:
        """Send one waiting message for good.

        Args:
            kind: ``mail`` or ``message``.
            payload: As it was put into the outbox. A mail: ``recipients``, ``cc``,
                ``subject``, ``body``, ``attachments`` (paths), ``sha256`` (what each of
                them holds, by path), ``thread`` (Message-IDs of the mails it follows);
                a message: ``recipients``, ``text``.
            key: What the message has to carry, so that it can be found again.

        Returns:
            ``Ok``; ``Unknown`` if nobody can tell whether it was sent; anything
            else if it surely was not.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one effect did to one row of the store.

    Attributes:
        table: The table.
        key: The row's key.
        before: Its columns before; None if it was not there.
        after: Its columns after; None if it is gone.
    """

    table: str
    key: int | str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(slots=True, eq=False)
class Action:
    """One approved step at work.

    Attributes:
        key: Idempotency key that its effect carries; the same if it is tried again.
        journal: Called by a backend on a store, inside the effect's own
            transaction, with the store, the result and the rows that changed.
        closed: Whether its time is over, by deadline or Ctrl-C; effects then fail.
        lock: Held while an effect on a store is written.
    """

    key: str
    journal: Callable[[object, Ok, Sequence[Change]], None] | None = None
    closed: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def close(self, *, wait_s: float) -> None:
        """Let no further effect begin; one that is being written may end first.

        Args:
            wait_s: How long to wait for it, in seconds.
        """
        held = self.lock.acquire(timeout=wait_s)
        self.closed = True
        if held:
            self.lock.release()


@runtime_checkable
class Transactional(Protocol):
    """A backend that writes an effect and its journal entry in one transaction."""

    def with_action(self, action: Action) -> Backend:
        """Return a view whose effects belong to ``action``: they tell its journal."""


class Writer(Protocol):
    """Writes the bodies that plans only point at."""

    def mail(self, *, request: str, subject: str, context: str, greeting: str) -> str:
        """Write a mail body from the request and intermediate results."""

    def note(self, *, request: str, name: str, content: str) -> str:
        """Write a note's body."""

    def summary(self, *, text: str) -> str:
        """Summarize a document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What a running tool can reach.

    Attributes:
        backend: Where effects happen.
        writer: Who writes bodies.
        request: The user's own words for this run.
        now: The moment that relative dates refer to, local time.
    """

    backend: Backend
    writer: Writer
    request: str
    now: datetime
