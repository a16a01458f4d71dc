"""What a file holds, as plain records, and the one error for files that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass

from mlx_tinyagent.errors import InputError

MAX_BYTES = 16 * 2**20  # of one file
MAX_RECORDS = 20_000  # of one file


class InterchangeError(InputError):
    """A file is not what its name says; the message names the entry and the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One vCard.

    Attributes:
        uid: Its UID, else one made from its text.
        text: The card as it stands in the file.
    """

    uid: str
    text: str
    name: str
    company: str = ""
    emails: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()
    nicknames: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event; of a series the first time.

    Attributes:
        uid: Its UID, else one made from its text.
        text: The component as it stands in the file, with the zones it names and its exceptions.
        starts: Local ISO 8601 date and time.
        ends: Local ISO 8601 date and time, later than ``starts``.
        calendar: Name of the calendar; empty if the file gives none.
    """

    uid: str
    text: str
    title: str
    starts: str
    ends: str
    location: str = ""
    notes: str = ""
    invitees: tuple[str, ...] = ()
    calendar: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Todo:
    """One task.

    Attributes:
        uid: Its UID, else one made from its text.
        text: The component as it stands in the file.
        due: Local ISO 8601; a date alone when all day, empty when open.
        priority: 0 none, 1 high to 9 low.
        list_name: Name of the list; empty if the file gives none.
    """

    uid: str
    text: str
    name: str
    due: str = ""
    all_day: bool = False
    priority: int = 0
    notes: str = ""
    done: bool = False
    list_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One received mail.

    Attributes:
        uid: Its Message-ID, else one made from its bytes.
        text: The message's bytes, decoded as Latin-1, which keeps each of them.
        received: Local ISO 8601 date and time.
    """

    uid: str
    text: str
    sender: str
    sender_name: str
    subject: str
    body: str
    received: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One mail that was not sent; attachments stay in its text.

    Attributes:
        uid: Its Message-ID, else one made from its bytes.
        text: The message's bytes, decoded as Latin-1.
    """

    uid: str
    text: str
    to: tuple[str, ...]
    cc: tuple[str, ...]
    subject: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One Markdown note.

    Attributes:
        uid: The front matter's ``id``, else one made from title and text.
        text: The file as it is.
        folder: Name of its folder; empty if neither file nor place gives one.
    """

    uid: str
    text: str
    name: str
    body: str
    folder: str = ""


Record = Person | Event | Todo | Letter | Draft | Page


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """An entry that says too little to be kept.

    Attributes:
        entry: Its number in the file, from 1.
        reason: What is missing.
    """

    entry: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What one file holds.

    Attributes:
        records: In file order.
        skipped: Entries left out.
    """

    records: tuple[Record, ...] = ()
    skipped: tuple[Skipped, ...] = ()
