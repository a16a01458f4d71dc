"""What a backend can do: the one protocol behind the local store and macOS.

Arguments arrive resolved: dates as local ISO 8601 text, people as addresses
or numbers, files as paths. Nothing here guesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from mlx_tinyagent.tools.results import Result


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
