"""Writes the local store as files that other programs read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path, PurePath

from mlx_tinyagent.errors import StoreError
from mlx_tinyagent.files import atomic_write, readable_errors
from mlx_tinyagent.tools.interchange.eml import maildir_name, write_draft, write_letter
from mlx_tinyagent.tools.interchange.ics import write_calendar
from mlx_tinyagent.tools.interchange.load import Names
from mlx_tinyagent.tools.interchange.markdown import file_name, write_page
from mlx_tinyagent.tools.interchange.records import Draft, Event, Letter, Page, Person, Todo
from mlx_tinyagent.tools.interchange.vcf import write_card
from mlx_tinyagent.tools.local.store import Row, Store

MAX_ATTACHMENT = 25 * 2**20  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What was written.

    Attributes:
        files: Number of files.
        left_out: Attachments that are not there any more, or are too large.
    """

    files: int
    left_out: tuple[str, ...]


def save(store: Store, folder: Path, zone: tzinfo | None = None) -> Saved:
    """Write contacts, calendars, reminders, mails, drafts and notes into a new folder.

    Args:
        store: The store.
        folder: Must not exist, or be empty; made with mode 0700, its files with 0600.
        zone: What local time is; None for the machine's zone.

    Raises:
        StoreError: The folder holds something, or the disk refuses.
    """
    with readable_errors(folder):
        if folder.exists() and any(folder.iterdir()):
            raise StoreError(f"{folder} is not empty; name a new folder")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with store.transaction():  # one moment's state; the names may be made now
        writer = _Writer(store, zone)
        contents = [*writer.files()]
    for path, content in contents:
        _make_folder(folder, path.parent)
        atomic_write(folder / path, content, private=True)
    for box in ("inbox", "drafts"):
        for part in ("cur", "new", "tmp"):  # what makes a folder a Maildir
            _make_folder(folder, Path("mail", box, part))
    return Saved(files=len(contents), left_out=tuple(writer.left_out))


def _make_folder(top: Path, inner: Path) -> None:
    """Make a folder and those around it, each for the user alone."""
    with readable_errors(top):
        for place in (*reversed(inner.parents), inner):
            (top / place).mkdir(mode=0o700, exist_ok=True)


class _Writer:
    """Makes every file's bytes."""

    def __init__(self, store: Store, zone: tzinfo | None) -> None:
        self._store, self._zone = store, zone
        self._names = Names(store)
        self.left_out: list[str] = []

    def files(self) -> Iterator[tuple[Path, bytes]]:
        """Yield relative path and bytes."""
        if cards := "".join(write_card(person) for person in self._people()):
            yield Path("contacts.vcf"), _bytes(cards)
        taken: set[str] = set()
        for place in self._store.rows("SELECT id, name FROM calendars ORDER BY id"):
            if events := self._events(place):
                text = write_calendar(place["name"], events, self._zone)
                yield Path("calendars") / f"{file_name(place['name'], taken)}.ics", _bytes(text)
        taken = set()
        for place in self._store.rows("SELECT id, name FROM reminder_lists ORDER BY id"):
            if todos := self._todos(place):
                text = write_calendar(place["name"], todos, self._zone)
                yield Path("reminders") / f"{file_name(place['name'], taken)}.ics", _bytes(text)
        yield from self._mails()
        yield from self._notes()

    def _people(self) -> Iterator[Person]:
        for row in self._store.rows("SELECT id, name, company FROM contacts ORDER BY id"):
            uid, text = self._names.of("contact", row["id"])
            yield Person(
                uid=uid,
                text=text,
                name=row["name"],
                company=row["company"],
                emails=self._members("contact_emails", "contact_id", "email", row),
                phones=self._members("contact_phones", "contact_id", "phone", row),
                nicknames=self._members("contact_nicknames", "contact_id", "nickname", row),
            )

    def _events(self, place: Row) -> list[Event]:
        found = []
        sql = "SELECT * FROM events WHERE calendar_id = ? ORDER BY id"
        for row in self._store.rows(sql, (place["id"],)):
            uid, text = self._names.of("event", row["id"])
            invitees = self._members("event_invitees", "event_id", "email", row)
            columns = {n: row[n] for n in ("title", "starts", "ends", "location", "notes")}
            found.append(
                Event(uid=uid, text=text, invitees=invitees, calendar=place["name"], **columns)
            )
        return found

    def _todos(self, place: Row) -> list[Todo]:
        found = []
        sql = "SELECT * FROM reminders WHERE list_id = ? ORDER BY id"
        for row in self._store.rows(sql, (place["id"],)):
            uid, text = self._names.of("reminder", row["id"])
            columns: Row = {name: row[name] for name in ("name", "due", "priority", "notes")}
            columns |= {name: bool(row[name]) for name in ("all_day", "done")}
            found.append(Todo(uid=uid, text=text, list_name=place["name"], **columns))
        return found

    def _mails(self) -> Iterator[tuple[Path, bytes]]:
        for row in self._store.rows("SELECT * FROM mails ORDER BY id"):
            uid, text = self._names.of("mail", row.pop("id"))
            path = Path("mail/inbox/cur") / maildir_name(uid, seen=True)
            yield path, write_letter(Letter(uid=uid, text=text, **row), self._zone)
        for row in self._store.rows("SELECT id, subject, body FROM drafts ORDER BY id"):
            uid, text = self._names.of("draft", row["id"])
            draft = Draft(
                uid=uid,
                text=text,
                to=self._recipients(row, "to"),
                cc=self._recipients(row, "cc"),
                subject=row["subject"],
                body=row["body"],
            )
            files = self._attachments(self._members("draft_attachments", "draft_id", "path", row))
            path = Path("mail/drafts/cur") / maildir_name(uid, seen=False)
            yield path, write_draft(draft, files)

    def _notes(self) -> Iterator[tuple[Path, bytes]]:
        folders: set[str] = set()
        for place in self._store.rows("SELECT id, name FROM note_folders ORDER BY id"):
            where, taken = file_name(place["name"], folders), set[str]()
            sql = "SELECT id, name, body FROM notes WHERE folder_id = ? ORDER BY id"
            for row in self._store.rows(sql, (place["id"],)):
                uid, text = self._names.of("note", row.pop("id"))
                page = Page(uid=uid, text=text, folder=place["name"], **row)
                path = Path("notes") / where / f"{file_name(page.name, taken)}.md"
                yield path, _bytes(write_page(page, where))

    def _members(self, table: str, owner: str, column: str, row: Row) -> tuple[str, ...]:
        sql = f"SELECT {column} AS value FROM {table} WHERE {owner} = ? ORDER BY position"
        return tuple(found["value"] for found in self._store.rows(sql, (row["id"],)))

    def _recipients(self, row: Row, role: str) -> tuple[str, ...]:
        sql = "SELECT email FROM draft_recipients WHERE draft_id = ? AND role = ? ORDER BY position"
        return tuple(found["email"] for found in self._store.rows(sql, (row["id"], role)))

    def _attachments(self, paths: Sequence[str]) -> list[tuple[str, bytes]]:
        found = []
        for path in paths:
            content = read_attachment(path)
            if content is None:
                self.left_out.append(path)
            else:
                found.append((PurePath(path).name, content))
        return found


def read_attachment(path: str) -> bytes | None:
    """Return a file's bytes; None if it is no plain file, is gone or is too large."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_ATTACHMENT:
            os.close(descriptor)
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read()
    except (OSError, ValueError):
        return None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")
