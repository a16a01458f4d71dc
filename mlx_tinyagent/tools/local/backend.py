"""The local backend: reads and effects on the store, with honest words about both.

Nothing leaves the machine: mails stay drafts, texts stay in the outbox, and
the result says so. Arguments arrive resolved; what does not look like an
address, a number or an indexed file is refused, never guessed.
"""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import Concatenate, Literal, ParamSpec
from urllib.parse import urlsplit

from mlx_tinyagent.tools import checks
from mlx_tinyagent.tools.backend import Action, Contact, FileEntry, Mail, Note
from mlx_tinyagent.tools.local.changes import recording
from mlx_tinyagent.tools.local.documents import document, found_text, unreadable
from mlx_tinyagent.tools.local.store import Row, Store
from mlx_tinyagent.tools.match import fold
from mlx_tinyagent.tools.results import Failed, NotFound, Ok, Result, Value

QUEUED = "queued, no gateway"
URL_SCHEMES = frozenset({"https", "http", "maps", "geo"})
# Files that an application only shows. Everything else may run code when opened.
OPENABLE_SUFFIXES = frozenset(
    {".pdf", ".txt", ".md", ".csv", ".tsv", ".log", ".json", ".rtf", ".doc", ".docx", ".xls"}
    | {".xlsx", ".ppt", ".pptx", ".odt", ".ods", ".odp", ".pages", ".numbers", ".key", ".png"}
    | {".jpg", ".jpeg", ".gif", ".heic", ".tif", ".tiff", ".webp", ".mp3", ".m4a", ".wav"}
    | {".mp4", ".mov"}
)

P = ParamSpec("P")


def _typed(
    method: Callable[Concatenate[LocalBackend, P], Result],
) -> Callable[Concatenate[LocalBackend, P], Result]:
    """Turn text that no database can hold into a typed failure."""

    @functools.wraps(method)
    def guarded(self: LocalBackend, /, *args: P.args, **kwargs: P.kwargs) -> Result:
        try:
            return method(self, *args, **kwargs)
        except UnicodeEncodeError as error:
            found = error.object[error.start]
            return Failed(reason=f"the text holds half a character ({found!a}) and was not saved")

    return guarded


def in_one_transaction(
    method: Callable[Concatenate[LocalBackend, P], Result],
) -> Callable[Concatenate[LocalBackend, P], Result]:
    """Write an effect and its journal entry in one transaction; both or neither."""

    @functools.wraps(method)
    def journaled(self: LocalBackend, /, *args: P.args, **kwargs: P.kwargs) -> Result:
        action = self._action
        if action is None:
            return method(self, *args, **kwargs)
        with action.lock:
            if action.closed:
                return Failed(reason="its time was over before it changed anything")
            with self.store.transaction():
                with recording(self.store) as changes:
                    result = method(self, *args, **kwargs)
                if isinstance(result, Ok) and action.journal is not None:
                    action.journal(self.store, result, changes)
        return result

    return _typed(journaled)


class LocalBackend:
    """Implements ``tools.backend.Backend`` on a store.

    Args:
        store: The store.
        opener: Shows a path or URL on this machine; None records it and tells
            the user where it is.
    """

    def __init__(self, store: Store, opener: Callable[[str], None] | None = None) -> None:
        self.name = "local"
        self.store = store
        self._opener = opener
        self._action: Action | None = None

    def with_action(self, action: Action) -> LocalBackend:
        """Return a view whose effects are journaled as those of ``action``."""
        view = LocalBackend(self.store, self._opener)
        view._action = action
        return view

    # Reads

    def contacts(self) -> Sequence[Contact]:
        """Return the address book."""
        with self.store.transaction(write=False):
            people = self.store.rows("SELECT id, name, company FROM contacts ORDER BY id")
            emails, phones, nicknames = (
                self._members(f"contact_{what}s", "contact_id", what)
                for what in ("email", "phone", "nickname")
            )
        return [
            Contact(
                id=row["id"],
                name=row["name"],
                company=row["company"],
                emails=tuple(emails.get(row["id"], ())),
                phones=tuple(phones.get(row["id"], ())),
                nicknames=tuple(nicknames.get(row["id"], ())),
            )
            for row in people
        ]

    def files(self) -> Sequence[FileEntry]:
        """Return the file index."""
        found = self.store.rows("SELECT path, name, size, modified FROM files ORDER BY path")
        return [FileEntry(**row) for row in found]

    def notes(self, folder: str = "") -> Sequence[Note]:
        """Return the notes of a folder (case and accents do not count), or all."""
        found = self.store.rows(
            "SELECT notes.id, notes.name, note_folders.name AS folder, body "
            "FROM notes JOIN note_folders ON note_folders.id = folder_id ORDER BY notes.id"
        )
        return [Note(**row) for row in found if not folder or fold(row["folder"]) == fold(folder)]

    def selected_mail(self) -> Mail | None:
        """Return the message that the setting ``selected_mail`` names, else the newest."""
        chosen = self.store.setting("selected_mail")
        found = self.store.rows(
            "SELECT * FROM mails ORDER BY (CAST(id AS TEXT) = ?) DESC, received DESC, id DESC "
            "LIMIT 1",
            (chosen,),
        )
        return Mail(**found[0]) if found else None

    @_typed
    def read_document(self, path: str) -> Result:
        """Return the text of an indexed PDF or plain text file (untrusted)."""
        entry = self._file(path)
        if entry is None:
            return NotFound(what=f"file '{path}'")
        if entry["embedded"]:
            name = entry["name"]
            return unreadable(name) or found_text(entry["text"], name=name, pages=entry["pages"])
        if os.path.realpath(path) != path:
            return Failed(reason=f"{entry['name']} is now behind a link; index its folder again")
        return document(path)

    # Effects

    @in_one_transaction
    def open_file(self, path: str) -> Result:
        """Show an indexed file, or say where it is if there is no opener."""
        entry = self._file(path)
        if entry is None or not (entry["embedded"] or os.path.isfile(path)):
            return NotFound(what=f"file '{path}'")
        if PurePath(path).suffix.lower() not in OPENABLE_SUFFIXES:
            return Failed(reason=f"{entry['name']} was not opened: files of its kind may run code")
        value = Value(text=path, fields={"path": path, "name": entry["name"]})
        verb = "Opened" if self._opener else "Found"
        return self._show("file", path, Ok(value=value, note=f"{verb} {entry['name']}: {path}"))

    @in_one_transaction
    def open_url(self, url: str, *, note: str) -> Result:
        """Show a URL, or give it to the user if there is no opener."""
        scheme = urlsplit(url).scheme if url.isprintable() else ""
        if scheme not in URL_SCHEMES:
            return Failed(reason=f"links of this kind are not opened: {url[:80]!a}")
        return self._show("url", url, Ok(value=Value(text=url, fields={"url": url}), note=note))

    @in_one_transaction
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
        """Add an event to the named calendar, else to the first one."""
        starts, ends = checks.moment(start), checks.moment(end)
        if not title.strip():
            return Failed(reason="the event has no title")
        if starts is None or ends is None:
            return Failed(reason=f"not a local date and time: {(end if starts else start)!a}")
        if ends <= starts:
            return Failed(reason=f"the event would end ({ends}) before it starts ({starts})")
        if wrong := checks.first_unlike(checks.EMAIL, invitees):
            return checks.no_address(wrong)
        with self.store.transaction():
            place = self._named("calendars", calendar)
            if place is None:
                return NotFound(what=f"calendar '{calendar}'")
            event = self.store.insert(
                "events",
                {
                    "calendar_id": place["id"],
                    "title": title.strip(),
                    "starts": starts.isoformat(),
                    "ends": ends.isoformat(),
                    "location": location,
                    "notes": notes,
                },
            )
            self._add_members("event_invitees", "event_id", event, "email", invitees)
        note = (
            f"Added '{title.strip()}' to the calendar {place['name']}: {checks.span(starts, ends)}."
        )
        return checks.done(
            f"event:{event}",
            note + _invited(invitees),
            {"title": title.strip(), "start": starts.isoformat(), "end": ends.isoformat()},
        )

    @in_one_transaction
    def create_reminder(
        self, *, name: str, due: str, notes: str, list_name: str, priority: int, all_day: bool
    ) -> Result:
        """Add a reminder to the named list, made if there is none, else to the first one."""
        moment = checks.moment(due) if due else None
        if not name.strip():
            return Failed(reason="the reminder has no name")
        if due and moment is None:
            return Failed(reason=f"not a local date and time: {due!a}")
        if not 0 <= priority <= 9:
            return Failed(reason=f"a reminder's priority is 0 to 9, not {priority}")
        all_day = bool(moment) and (all_day or checks.is_date(due))
        stored = ""
        if moment is not None:
            stored = moment.date().isoformat() if all_day else moment.isoformat()
        with self.store.transaction():
            place, new = self._named_or_new("reminder_lists", list_name)
            reminder = self.store.insert(
                "reminders",
                {
                    "list_id": place["id"],
                    "name": name.strip(),
                    "due": stored,
                    "all_day": int(all_day),
                    "priority": priority,
                    "notes": notes,
                },
            )
        when = f", due {checks.spoken(moment, all_day=all_day)}" if moment else ""
        note = f"Added the reminder '{name.strip()}' to {_place('list', place, new)}{when}."
        return checks.done(f"reminder:{reminder}", note, {"name": name.strip(), "due": stored})

    @in_one_transaction
    def create_note(self, *, name: str, body: str, folder: str) -> Result:
        """Add a note to the named folder, made if there is none, else to the first one."""
        if not name.strip():
            return Failed(reason="the note has no title")
        with self.store.transaction():
            place, new = self._named_or_new("note_folders", folder)
            values = {"folder_id": place["id"], "name": name.strip(), "body": body}
            note = self.store.insert("notes", values)
        return checks.done(
            f"note:{note}",
            f"Saved the note '{name.strip()}' in {_place('folder', place, new)}.",
            {"name": name.strip(), "folder": place["name"]},
        )

    @in_one_transaction
    def append_note(self, *, note_id: int, text: str) -> Result:
        """Add text on a new line at the end of a note."""
        if not text.strip():
            return Failed(reason="there is nothing to add to the note")
        with self.store.transaction():
            found = [note for note in self.notes() if note.id == note_id]
            if not found:
                return NotFound(what=f"note {note_id}")
            note = found[0]
            gap = "\n" if note.body and not note.body.endswith("\n") else ""
            body = f"{note.body}{gap}{text}"
            self.store.rows("UPDATE notes SET body = ? WHERE id = ?", (body, note_id))
        return checks.done(
            f"note:{note_id}",
            f"Added to the note '{note.name}' in the folder {note.folder}.",
            {"name": note.name, "folder": note.folder},
        )

    @in_one_transaction
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
        """Save a draft; nothing is sent."""
        to = list(dict.fromkeys(recipients))
        copies = [address for address in dict.fromkeys(cc) if address not in to]
        if wrong := checks.first_unlike(checks.EMAIL, [*to, *copies]):
            return checks.no_address(wrong)
        with self.store.transaction():
            missing = next((path for path in attachments if self._file(path) is None), None)
            if missing is not None:
                return NotFound(what=f"file '{missing}'")
            if source and not self.store.rows("SELECT 1 FROM mails WHERE id = ?", (source,)):
                return NotFound(what=f"mail {source}")
            draft = self.store.insert(
                "drafts", {"kind": kind, "source_id": source, "subject": subject, "body": body}
            )
            marked = [("to", address) for address in to] + [("cc", address) for address in copies]
            for position, (role, address) in enumerate(marked):
                values = {"draft_id": draft, "position": position, "role": role, "email": address}
                self.store.insert("draft_recipients", values)
            self._add_members("draft_attachments", "draft_id", draft, "path", attachments)
        what = {"new": "mail", "reply": "reply", "forward": "forward"}[kind]
        parts = [f"to {', '.join(to)}" if to else "without recipients yet"]
        parts += [f"copy to {', '.join(copies)}"] if copies else []
        parts += [f"with {', '.join(PurePath(p).name for p in attachments)}"] if attachments else []
        note = f"Saved a draft {what} '{subject}' {', '.join(parts)}; it was not sent."
        return checks.done(f"draft:{draft}", note, {"subject": subject})

    @in_one_transaction
    def queue_message(self, *, recipients: Sequence[str], text: str) -> Result:
        """Put one text message into the outbox; there is no gateway to send it."""
        numbers = list(dict.fromkeys(recipients))
        if not numbers:
            return Failed(reason="the text message has no recipient")
        if not text.strip():
            return Failed(reason="the text message is empty")
        if wrong := checks.first_unlike(checks.PHONE, numbers):
            return Failed(reason=f"not a phone number: {wrong!a}; look the person up first")
        with self.store.transaction():
            message = self.store.insert("outbox_messages", {"state": QUEUED, "text": text})
            self._add_members("outbox_recipients", "message_id", message, "phone", numbers)
        note = f"Queued the text to {', '.join(numbers)}; no gateway is configured to send it."
        return checks.done(f"message:{message}", note, {})

    @in_one_transaction
    def create_meeting(
        self, *, topic: str, start: str, minutes: int, invitees: Sequence[str]
    ) -> Result:
        """Make a join link from the setting ``meeting_url``."""
        pattern = self.store.setting("meeting_url")
        moment = checks.moment(start)
        if "{key}" not in pattern:
            return Failed(
                reason="no meeting provider is configured: set meeting_url to a link with {key} "
                "in it, such as https://meet.example/{key}"
            )
        if moment is None:
            return Failed(reason=f"not a local date and time: {start!a}")
        if minutes < 1:
            return Failed(reason=f"a meeting lasts at least a minute, not {minutes}")
        if wrong := checks.first_unlike(checks.EMAIL, invitees):
            return checks.no_address(wrong)
        with self.store.transaction():
            values = {"topic": topic, "starts": moment.isoformat(), "minutes": minutes, "url": ""}
            meeting = self.store.insert("meetings", values)
            url = pattern.replace("{key}", self._meeting_key(meeting, topic, moment))
            self.store.rows("UPDATE meetings SET url = ? WHERE id = ?", (url, meeting))
            self._add_members("meeting_invitees", "meeting_id", meeting, "email", invitees)
        note = f"Made a link for '{topic}' on {checks.spoken(moment)}: {url}"
        fields = {"url": url, "topic": topic, "start": moment.isoformat()}
        return Ok(
            value=Value(text=url, fields=fields),
            note=note + (f".{_invited(invitees)}" if invitees else ""),
            record=f"meeting:{meeting}",
        )

    # Rows

    def _file(self, path: str) -> Row | None:
        """Return the index row of a path."""
        found = self.store.rows("SELECT * FROM files WHERE path = ?", (path,))
        return found[0] if found else None

    def _show(self, kind: str, target: str, shown: Ok) -> Result:
        """Record what is opened, and open it if there is an opener; both or neither."""
        try:
            with self.store.transaction():
                self.store.insert("opened", {"kind": kind, "target": target})
                if self._opener:
                    self._opener(target)
        except OSError as error:
            return Failed(reason=f"{target} could not be opened: {error.strerror or error}")
        return shown

    def _named(self, table: str, name: str) -> Row | None:
        """Return the row of that name (case and accents do not count), or the first row."""
        every = self.store.rows(f"SELECT id, name FROM {table} ORDER BY id")
        wanted = fold(name)
        matching = (row for row in every if not name.strip() or fold(row["name"]) == wanted)
        return next(matching, None)

    def _named_or_new(self, table: str, name: str) -> tuple[Row, bool]:
        """Return the row of that name, made if needed, and whether it is new."""
        found = self._named(table, name)
        if found is not None:
            return found, False
        title = name.strip() or "Notes"
        return {"id": self.store.insert(table, {"name": title}), "name": title}, True

    def _members(self, table: str, owner: str, column: str) -> Mapping[int, list[str]]:
        """Return the values that belong to each owner, in order."""
        members: dict[int, list[str]] = {}
        found = self.store.rows(f"SELECT {owner}, {column} FROM {table} ORDER BY {owner}, position")
        for row in found:
            members.setdefault(row[owner], []).append(row[column])
        return members

    def _add_members(
        self, table: str, owner: str, owner_id: int, column: str, values: Iterable[str]
    ) -> None:
        for position, value in enumerate(dict.fromkeys(values)):
            self.store.insert(table, {owner: owner_id, "position": position, column: value})

    def _meeting_key(self, meeting: int, topic: str, start: datetime) -> str:
        """Return a key that nobody can guess and that the same store gives again."""
        secret = self.store.setting("meeting_secret")
        if not secret:
            secret = secrets.token_hex(16)
            self.store.set_setting("meeting_secret", secret)
        words = "-".join(fold(topic).split())[:40].strip("-")
        seed = f"{secret}|{meeting}|{topic}|{start.isoformat()}"
        code = hashlib.sha256(seed.encode()).hexdigest()[:12]
        return f"{words}-{code}" if words.isascii() and words else code


def _invited(invitees: Sequence[str]) -> str:
    """Say that invitees were written down, and no more."""
    if not invitees:
        return ""
    count = len(dict.fromkeys(invitees))
    return f" {count} invitee{'s' * (count > 1)} noted; nobody was notified."


def _place(kind: str, row: Row, new: bool) -> str:
    return f"the {'new ' * new}{kind} {row['name']}"
