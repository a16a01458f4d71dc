"""The macOS backend: Calendar, Reminders, Contacts, Mail, Notes, Messages, Finder, Maps, Zoom.

Events, reminders and contacts go through Apple's frameworks, the rest through
scripts of this package. Nothing is typed into windows, and nothing is sent
but what ``deliver`` is given.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, Concatenate, Literal, ParamSpec
from urllib.parse import quote, unquote, urlsplit

from mlx_tinyagent.tools.backend import Action, Contact, FileEntry, Mail, Note
from mlx_tinyagent.tools.checks import (
    EMAIL,
    done,
    drafted,
    event_added,
    event_request,
    first_unlike,
    half_character,
    mail_request,
    moment,
    no_address,
    noted,
    phone_numbers,
    reminder_added,
    reminder_request,
    spoken,
)
from mlx_tinyagent.tools.external import BackendError, uid
from mlx_tinyagent.tools.local.backend import OPENABLE_SUFFIXES, URL_SCHEMES, LocalBackend
from mlx_tinyagent.tools.local.documents import document
from mlx_tinyagent.tools.macos import apps, eventkit
from mlx_tinyagent.tools.macos.contacts import read_contacts
from mlx_tinyagent.tools.macos.runner import Runner
from mlx_tinyagent.tools.macos.spotlight import default_roots, find_files
from mlx_tinyagent.tools.macos.zoom import Zoom
from mlx_tinyagent.tools.match import fold
from mlx_tinyagent.tools.results import Failed, NotFound, Ok, Result, Unknown, Value

P = ParamSpec("P")


def _typed(
    method: Callable[Concatenate[MacBackend, P], Result],
) -> Callable[Concatenate[MacBackend, P], Result]:
    """Make a result of a refused read inside an effect."""

    @functools.wraps(method)
    def guarded(self: MacBackend, /, *args: P.args, **kwargs: P.kwargs) -> Result:
        try:
            return method(self, *args, **kwargs)
        except BackendError as refused:
            return refused.result

    return guarded


class MacBackend:
    """Implements ``tools.backend.Backend`` with the applications of a Mac.

    Args:
        local: Holds what no application does: links for meetings without Zoom.
        runner: Runs scripts and programs.
        roots: Folders whose files can be found; Documents, Desktop and Downloads if None.
        zoom: Makes meetings; None leaves them to ``local``.
    """

    def __init__(
        self,
        local: LocalBackend,
        *,
        runner: Runner | None = None,
        roots: Sequence[Path] | None = None,
        zoom: Zoom | None = None,
    ) -> None:
        self.name = "macos"
        self._local, self._zoom = local, zoom
        self._runner = runner or Runner()
        self._roots = default_roots() if roots is None else roots
        self._key = ""

    def with_key(self, key: str) -> MacBackend:
        """Return a view whose next effect carries ``key``."""
        view = copy.copy(self)
        view._key = key
        return view

    def with_action(self, action: Action) -> MacBackend:
        """Return a view for one step; when its time is over, its programs are ended."""
        view = self.with_key(action.key)
        view._local = self._local.with_action(action)
        runner = self._runner
        view._runner = Runner(
            deadline_s=runner.deadline_s,
            first_s=runner.first_s,
            cancelled=lambda: action.closed,
            used=runner.used,
        )
        return view

    # Reads

    def contacts(self) -> Sequence[Contact]:
        """Return the address book.

        Raises:
            BackendError: There is no access.
        """
        return read_contacts()

    def files(self) -> Sequence[FileEntry]:
        """Return the files under the user's folders that Spotlight knows.

        Raises:
            BackendError: Spotlight gives no answer.
        """
        return find_files(self._runner, self._roots)

    def notes(self, folder: str = "") -> Sequence[Note]:
        """Return the notes of a folder (case and accents do not count), or all.

        Raises:
            BackendError: Notes gives no answer.
        """
        every = (known.note for known in apps.notes(self._runner))
        return [note for note in every if not folder or fold(note.folder) == fold(folder)]

    def selected_mail(self) -> Mail | None:
        """Return the message that is selected in Mail, else the newest of the inbox.

        Raises:
            BackendError: Mail gives no answer.
        """
        return apps.selected_mail(self._runner)

    @_typed
    def read_document(self, path: str) -> Result:
        """Return the text of a PDF or plain text file (untrusted)."""
        return document(path) if self._known(path) else NotFound(what=f"file '{path}'")

    # Effects

    @_typed
    def open_file(self, path: str) -> Result:
        """Open a file that was found; never one that could run code."""
        if not self._known(path):
            return NotFound(what=f"file '{path}'")
        name = PurePath(path).name
        if PurePath(path).suffix.lower() not in OPENABLE_SUFFIXES:
            return Failed(reason=f"{name} was not opened: files of its kind may run code")
        wrong = apps.open_file(self._runner, path)
        value = Value(text=path, fields={"path": path, "name": name})
        return wrong or Ok(value=value, note=f"Opened {name}: {path}")

    @_typed
    def open_url(self, url: str, *, note: str) -> Result:
        """Show a link in its application."""
        if not url.isprintable() or urlsplit(url).scheme not in URL_SCHEMES:
            return Failed(reason=f"links of this kind are not opened: {url[:80]!a}")
        wrong = apps.open_url(self._runner, url)
        return wrong or Ok(value=Value(text=url, fields={"url": url}), note=note)

    @_typed
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
        """Add an event to the named calendar, else to the default one; invites nobody."""
        wanted = event_request(
            title=title,
            start=start,
            end=end,
            location=location,
            invitees=invitees,
            notes=notes,
            calendar=calendar,
        )
        if isinstance(wanted, Failed):
            return wanted
        name = uid(self._key)
        place = eventkit.add_event(wanted, name)
        if not isinstance(place, str):
            return place
        return event_added(wanted, place, f"event:{name}")

    @_typed
    def create_reminder(
        self, *, name: str, due: str, notes: str, list_name: str, priority: int, all_day: bool
    ) -> Result:
        """Add a reminder to the named list, made if there is none, else to the default one."""
        wanted = reminder_request(
            name=name,
            due=due,
            notes=notes,
            list_name=list_name,
            priority=priority,
            all_day=all_day,
        )
        if isinstance(wanted, Failed):
            return wanted
        carried = uid(self._key)
        added = eventkit.add_reminder(wanted, carried)
        if not isinstance(added, tuple):
            return added
        place, new = added
        return reminder_added(wanted, place, f"reminder:{carried}", new=new)

    @_typed
    def create_note(self, *, name: str, body: str, folder: str) -> Result:
        """Add a note to the named folder, made if there is none, else to the default one."""
        title = " ".join(name.split())
        if not title:
            return Failed(reason="the note has no title")
        if (half := half_character(title, body, folder)) is not None:
            return half
        made = apps.add_note(self._runner, name=title, body=body, folder=folder.strip())
        if not isinstance(made, tuple):
            return made
        own, place, new = made
        note = f"Saved the note '{title}' in the {'new ' * new}folder {place}."
        return done(f"note:{quote(own)}", note, {"name": title, "folder": place})

    @_typed
    def append_note(self, *, note_id: int, text: str) -> Result:
        """Add text on a new line at the end of a note."""
        if not text.strip():
            return Failed(reason="there is nothing to add to the note")
        if (half := half_character(text)) is not None:
            return half
        found = [known for known in apps.notes(self._runner) if known.note.id == note_id]
        if len(found) != 1:
            return NotFound(what=f"note {note_id}")
        note = found[0].note
        wrong = apps.append_note(self._runner, found[0].own, text)
        said = f"Added to the note '{note.name}' in the folder {note.folder}."
        fields = {"name": note.name, "folder": note.folder}
        return wrong or done(f"text:{quote(found[0].own)}", said, fields)

    @_typed
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
        """Open a draft in Mail; nothing is sent."""
        addressed = mail_request(recipients, cc, subject, body)
        if isinstance(addressed, Failed):
            return addressed
        missing = next((path for path in attachments if not self._known(path)), None)
        if missing is not None:
            return NotFound(what=f"file '{missing}'")
        payload = {
            "kind": kind,
            "to": list(addressed.to),
            "cc": list(addressed.cc),
            "subject": subject,
            "body": body,
            "attachments": list(attachments),
            "source": source,
        }
        number = apps.draft(self._runner, payload)
        if not isinstance(number, int):
            return number
        note = drafted(kind, addressed, subject, attachments)
        return done(f"draft:{number}", note, {"subject": subject})

    @_typed
    def queue_message(self, *, recipients: Sequence[str], text: str) -> Result:
        """Open one text message in Messages, ready to be sent by the user."""
        numbers = phone_numbers(recipients, text)
        if isinstance(numbers, Failed):
            return numbers
        handles = ",".join(
            "".join(c for c in number if c.isdigit() or c == "+") for number in numbers
        )
        url = f"sms:/open?addresses={quote(handles, safe='+,')}&body={quote(text, safe='')}"
        wrong = apps.open_url(self._runner, url)
        note = f"Opened the text to {', '.join(numbers)} in Messages; it was not sent."
        return wrong or done(f"message:{uid(self._key)}", note, {})

    @_typed
    def create_meeting(
        self, *, topic: str, start: str, minutes: int, invitees: Sequence[str]
    ) -> Result:
        """Make a meeting with Zoom, else a link as the local store does."""
        when = moment(start)
        if self._zoom is None or when is None or minutes < 1:
            return self._local.create_meeting(
                topic=topic, start=start, minutes=minutes, invitees=invitees
            )
        wrong = first_unlike(EMAIL, invitees)
        if wrong is not None:
            return no_address(wrong)
        if (half := half_character(topic)) is not None:
            return half
        made = self._zoom.create(topic=topic, start=when, minutes=minutes, name=uid(self._key))
        if not isinstance(made, Ok):
            return made
        url = made.value.text
        note = f"Made a Zoom meeting '{topic}' on {spoken(when)}: {url}"
        note += f".{noted(invitees)}" if invitees else ""
        fields = {"url": url, "topic": topic, "start": when.isoformat()}
        return Ok(value=Value(text=url, fields=fields), note=note, record=made.record)

    # Looking for effects, taking them back, sending

    def find(self, key: str) -> Result:
        """Look for the effect that carries a key, where effects can carry one."""
        try:
            found = eventkit.find(uid(key), datetime.now())
        except BackendError as refused:
            return Unknown(reason=str(refused))
        if isinstance(found, NotFound) and self._zoom is not None:
            found = self._zoom.find(uid(key))
        if isinstance(found, NotFound):
            return Unknown(reason="drafts, notes and texts carry no key; look into Mail and Notes")
        return found

    @_typed
    def undo(self, record: str) -> Result:
        """Delete the event, reminder, note or meeting of a record."""
        kind, _, name = record.partition(":")
        if kind in ("event", "reminder"):
            return eventkit.remove(kind, name, datetime.now())
        if kind == "note":
            note = "Moved the note to Recently Deleted."
            return apps.delete_note(self._runner, unquote(name)) or done(record, note, {})
        if kind == "zoom" and self._zoom is not None:
            return self._zoom.delete(name)
        places = {"draft": "Mail", "message": "Messages", "text": "Notes"}
        where = places.get(kind, "its application")
        return Failed(reason=f"it can be taken back in {where} alone")

    def deliver(self, kind: str, payload: Mapping[str, Any], *, key: str) -> Result:
        """Send a text message for good; mails are sent in Mail by the user.

        Args:
            kind: ``message``; nothing else can be sent from here.
            payload: ``recipients`` and ``text``.
            key: Not carried: no field of a text message can.
        """
        if kind != "message":
            return Failed(reason="mails are not sent from here: the draft waits in Mail")
        text = str(payload.get("text", ""))
        numbers = phone_numbers(tuple(payload.get("recipients", ())), text)
        if isinstance(numbers, Failed):
            return numbers
        for place, number in enumerate(numbers):
            wrong = apps.send_text(self._runner, number, text)
            if wrong is not None:
                if place == 0:
                    return wrong
                return Unknown(
                    reason=f"it was sent to {', '.join(numbers[:place])}, not to {number}"
                )
        note = f"Sent the text to {', '.join(numbers)}."
        return done(f"sent:{uid(key)}", note, {})

    def _known(self, path: str) -> bool:
        """Whether a path is one of the files that can be found."""
        return any(entry.path == path for entry in self.files())
