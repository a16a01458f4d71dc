"""The net backend: events, reminders, contacts and mail on the user's servers.

What no server is named for, and what no server of these kinds has (notes,
files, text messages, meetings), stays in the local store. Every effect on a
server carries its key, is written once and read back.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Literal

from mlx_tinyagent.tools.backend import Action, Contact, FileEntry, Mail, Note
from mlx_tinyagent.tools.checks import (
    done,
    drafted,
    event_added,
    event_request,
    mail_request,
    reminder_added,
    reminder_request,
)
from mlx_tinyagent.tools.external import BackendError, uid
from mlx_tinyagent.tools.interchange.eml import thread
from mlx_tinyagent.tools.interchange.ics import write_calendar
from mlx_tinyagent.tools.interchange.lines import made_uid
from mlx_tinyagent.tools.interchange.records import Event, InterchangeError, Person, Todo
from mlx_tinyagent.tools.interchange.vcf import read_cards
from mlx_tinyagent.tools.local.backend import LocalBackend
from mlx_tinyagent.tools.net.account import Account
from mlx_tinyagent.tools.net.dav import Collection, Dav, Resource
from mlx_tinyagent.tools.net.entries import event_of, find_entry, new_list, place_of, same
from mlx_tinyagent.tools.net.faults import NetError
from mlx_tinyagent.tools.net.http import Http
from mlx_tinyagent.tools.net.imap import Mailbox, Stored
from mlx_tinyagent.tools.net.letters import Outgoing, received, written
from mlx_tinyagent.tools.net.smtp import send
from mlx_tinyagent.tools.results import Failed, NotFound, Result, Unknown, explain

CONTACTS_S = 60.0  # how long the address book is taken as read
_OPEN = "nobody can tell whether the mail was sent; a copy is among the drafts"


class NetBackend:
    """Implements ``tools.backend.Backend`` on servers.

    Args:
        account: The servers.
        local: Where everything else is.
    """

    def __init__(self, account: Account, local: LocalBackend) -> None:
        self.name = "net"
        self._account, self._local = account, local
        self._key = ""
        self._people: tuple[float, Sequence[Contact]] = (0.0, ())
        self._calendars = _dav(account, account.caldav, "caldav")
        self._cards = _dav(account, account.carddav, "carddav")
        self._mailbox = Mailbox(account) if account.imap else None

    def with_key(self, key: str) -> NetBackend:
        """Return a view whose next effect carries ``key``."""
        view = copy.copy(self)
        view._key = key
        return view

    def with_action(self, action: Action) -> NetBackend:
        """Return a view for one step: its key goes to servers, its journal to the store."""
        view = self.with_key(action.key)
        view._local = self._local.with_action(action)
        return view

    # Reads

    def contacts(self) -> Sequence[Contact]:
        """Return the address book.

        Raises:
            BackendError: The server cannot be asked or refuses.
        """
        if self._cards is None:
            return self._local.contacts()
        read_at, people = self._people
        if not people or monotonic() - read_at > CONTACTS_S:
            people = self._read_contacts(self._cards)
            self._people = (monotonic(), people)
        return people

    def files(self) -> Sequence[FileEntry]:
        """Return the file index of the local store."""
        return self._local.files()

    def notes(self, folder: str = "") -> Sequence[Note]:
        """Return the notes of the local store."""
        return self._local.notes(folder)

    def selected_mail(self) -> Mail | None:
        """Return the newest message of the inbox.

        Raises:
            BackendError: The server cannot be asked or refuses.
        """
        if self._mailbox is None:
            return self._local.selected_mail()
        try:
            found = self._mailbox.newest()
        except NetError as error:
            raise BackendError(Failed(reason=error.reason)) from error
        return received(*found, self._account.local_zone) if found else None

    def read_document(self, path: str) -> Result:
        """Return the text of an indexed file."""
        return self._local.read_document(path)

    # Effects on servers

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
        if self._calendars is None:
            return self._local.create_event(
                title=title,
                start=start,
                end=end,
                location=location,
                invitees=invitees,
                notes=notes,
                calendar=calendar,
            )
        calendar = wanted.calendar or self._account.calendar
        place = place_of(self._calendars, "VEVENT", calendar)
        if not isinstance(place, Collection):
            return place or NotFound(what=f"calendar '{calendar}'" if calendar else "calendar")
        event = event_of(wanted, uid(self._key))
        stored = self._write(self._calendars, place, event)
        if not isinstance(stored, Resource):
            return stored
        return event_added(wanted, place.name, f"event:{stored.url}")

    def create_reminder(
        self, *, name: str, due: str, notes: str, list_name: str, priority: int, all_day: bool
    ) -> Result:
        """Add a task to the named list, made if there is none, else to the default one."""
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
        if self._calendars is None:
            return self._local.create_reminder(
                name=name,
                due=due,
                notes=notes,
                list_name=list_name,
                priority=priority,
                all_day=all_day,
            )
        list_name = wanted.list_name or self._account.reminders
        place: Collection | Result | None = place_of(self._calendars, "VTODO", list_name)
        new = place is None
        if place is None:
            place = new_list(self._calendars, list_name or "Reminders")
        if not isinstance(place, Collection):
            return place
        todo = Todo(
            uid=uid(self._key),
            text="",
            name=wanted.name,
            due=wanted.due_text,
            all_day=wanted.all_day,
            priority=wanted.priority,
            notes=wanted.notes,
        )
        stored = self._write(self._calendars, place, todo)
        if not isinstance(stored, Resource):
            return stored
        return reminder_added(wanted, place.name, f"reminder:{stored.url}", new=new)

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
        """Save a draft in the server's folder for drafts; nothing is sent."""
        addressed = mail_request(recipients, cc, subject, body)
        if isinstance(addressed, Failed):
            return addressed
        if self._mailbox is None:
            return self._local.draft_mail(
                kind=kind,
                recipients=recipients,
                cc=cc,
                subject=subject,
                body=body,
                attachments=attachments,
                source=source,
            )
        known = {entry.path for entry in self.files()}
        missing = next((path for path in attachments if path not in known), None)
        if missing is not None:
            return NotFound(what=f"file '{missing}'")
        answered = _answered(self._mailbox, source)
        if isinstance(answered, Result):
            return answered
        mail = Outgoing(
            sender=self._account.sender,
            to=addressed.to,
            cc=addressed.cc,
            subject=subject,
            body=body,
            attachments=attachments,
            thread=answered,
        )
        name = uid(self._key)
        content = written(mail, name)
        if not isinstance(content, bytes):
            return content
        stored = self._mailbox.store("Drafts", name, content)
        if not isinstance(stored, Stored):
            return stored
        note = drafted(kind, addressed, subject, attachments)
        return done(f"draft:{name}", note, {"subject": subject})

    # Effects on the local store

    def open_file(self, path: str) -> Result:
        """Show an indexed file."""
        return self._local.open_file(path)

    def open_url(self, url: str, *, note: str) -> Result:
        """Show a URL."""
        return self._local.open_url(url, note=note)

    def create_note(self, *, name: str, body: str, folder: str) -> Result:
        """Add a note to the local store."""
        return self._local.create_note(name=name, body=body, folder=folder)

    def append_note(self, *, note_id: int, text: str) -> Result:
        """Add text to a note of the local store."""
        return self._local.append_note(note_id=note_id, text=text)

    def queue_message(self, *, recipients: Sequence[str], text: str) -> Result:
        """Put one text message into the local outbox."""
        return self._local.queue_message(recipients=recipients, text=text)

    def create_meeting(
        self, *, topic: str, start: str, minutes: int, invitees: Sequence[str]
    ) -> Result:
        """Make a join link as the local store does."""
        return self._local.create_meeting(
            topic=topic, start=start, minutes=minutes, invitees=invitees
        )

    # Looking for effects, taking them back, sending

    def find(self, key: str) -> Result:
        """Look for the effect that carries a key, on every server."""
        name = uid(key)
        try:
            if self._calendars and (found := find_entry(self._calendars, name)):
                return found
            if self._mailbox:
                return _letter(self._mailbox, name, _sent_name(key))
        except NetError as error:
            return Unknown(reason=f"it could not be looked for: {error.reason}")
        if self._account.smtp:
            return Unknown(reason="without net.imap nobody can tell which mails were sent")
        return NotFound(what="what was to be done")

    def undo(self, record: str) -> Result:
        """Delete the event, reminder or draft of a record."""
        kind, _, name = record.partition(":")
        try:
            if kind in ("event", "reminder") and self._calendars and "://" in name:
                gone = self._calendars.delete(name)
            elif kind == "draft" and self._mailbox and "@" in name:
                gone = _remove(self._mailbox, name)
            elif kind == "sent":
                return Failed(reason="a mail that was sent cannot be taken back")
            else:
                return Failed(reason=f"{record} is not on a server")
        except NetError as error:
            return error.result
        return done(record, f"Deleted the {kind}.", {}) if gone else NotFound(what=f"the {kind}")

    def deliver(self, kind: str, payload: Mapping[str, Any], *, key: str) -> Result:
        """Send a mail for good, once.

        Args:
            kind: ``mail``; nothing else can be sent from here.
            payload: See ``tools.backend.Sender``.
            key: What the mail's Message-ID is made from.
        """
        if kind != "mail" or not self._account.smtp:
            return Failed(reason="no server is configured to send it: see net.smtp in the settings")
        if not self._account.sender:
            return Failed(reason="no sender is configured: set net.address in the settings")
        texts = [str(payload.get(name, "")) for name in ("subject", "body")]
        to, cc, files = (tuple(payload.get(n, ())) for n in ("recipients", "cc", "attachments"))
        addressed = mail_request(to, cc, *texts)
        if isinstance(addressed, Failed):
            return addressed
        if not addressed.to + addressed.cc:
            return Failed(reason="the mail has no recipient")
        digests = payload.get("sha256", {})
        unbound = next((path for path in files if path not in digests), None)
        if unbound is not None:
            return Failed(reason=f"nobody has agreed to what {unbound} holds; nothing was sent")
        name = _sent_name(key)
        mail = Outgoing(
            sender=self._account.sender,
            to=addressed.to,
            cc=addressed.cc,
            subject=texts[0],
            body=texts[1],
            attachments=files,
            thread=tuple(payload.get("thread", ())),
            digests=digests,
        )
        content = written(mail, name)
        if not isinstance(content, bytes):
            return content
        return self._send_once(addressed.to + addressed.cc, name, content)

    def _send_once(self, recipients: Sequence[str], name: str, content: bytes) -> Result:
        """Send a message, with a mark among the drafts for as long as the outcome is open.

        A mark that is there already is an earlier attempt whose outcome nobody
        knows: then nothing is sent again.
        """
        people, box = ", ".join(recipients), self._mailbox
        try:
            if box and box.find("Sent", name):
                return done(f"sent:{name}", f"It had been sent to {people} already.", {})
            if box and box.find("Drafts", name):
                return Unknown(reason=_OPEN)
            marked = box.store("Drafts", name, content) if box else None
            if isinstance(marked, Result):
                return Failed(reason=f"nothing was sent: {explain(marked)}")
            send(self._account, recipients, content)
        except NetError as error:
            if box and not error.sent:
                with suppress(NetError):
                    _remove(box, name)
            return error.result
        note = f"Sent the mail to {people}."
        if box and not _kept(box, name, content):
            note += " No copy could be kept."
        return done(f"sent:{name}", note, {})

    # Parts

    def _read_contacts(self, cards: Dav) -> list[Contact]:
        try:
            books = cards.collections()
            found = [resource for book in books for resource in cards.cards(book)]
        except NetError as error:
            raise BackendError(Failed(reason=error.reason)) from error
        people = [person for item in sorted(found, key=_address) for person in _people(item)]
        return [
            Contact(
                id=number,
                name=person.name,
                emails=person.emails,
                phones=person.phones,
                nicknames=person.nicknames,
                company=person.company,
            )
            for number, person in enumerate(people, start=1)
        ]

    def _write(self, dav: Dav, place: Collection, entry: Event | Todo) -> Resource | Result:
        """Write an event or task once and compare what is stored with what was meant."""
        zone = self._account.local_zone
        text = write_calendar("", [entry], zone)
        return dav.create(place, f"{made_uid(entry.uid)}.ics", text, same(entry, zone))


def _dav(account: Account, url: str, service: Literal["caldav", "carddav"]) -> Dav | None:
    if not url:
        return None
    http = Http(account.user, account.password, timeout_s=account.timeout_s, site=url)
    return Dav(http, url, service)


def _answered(mailbox: Mailbox, source: int | None) -> tuple[str, ...] | Result:
    """Return the Message-IDs of the mails that an answer follows; empty for a new mail."""
    if not source:
        return ()
    try:
        content = mailbox.message(source)
    except NetError as error:
        return Failed(reason=error.reason)
    return NotFound(what=f"mail {source}") if content is None else thread(content)


def _sent_name(key: str) -> str:
    """Return the Message-ID of a mail that is sent: another one than that of its draft."""
    return uid(f"send {key}")


def _letter(mailbox: Mailbox, draft: str, sent: str) -> Result:
    """Look for a draft, and for a mail that was sent or is marked as being sent."""
    if mailbox.find("Sent", sent):
        return done(f"sent:{sent}", "The mail is among the sent ones.", {})
    if mailbox.find("Drafts", sent):
        return Unknown(reason=_OPEN)
    if mailbox.find("Drafts", draft):
        return done(f"draft:{draft}", "It is among the drafts.", {})
    return NotFound(what="what was to be done")


def _remove(mailbox: Mailbox, name: str) -> bool:
    """Delete a draft; returns whether it was there."""
    stored = mailbox.find("Drafts", name)
    return stored is not None and mailbox.delete(stored)


def _kept(mailbox: Mailbox, name: str, content: bytes) -> bool:
    """Keep a copy of what was sent and take its mark away; returns whether there is a copy."""
    kept = isinstance(mailbox.store("Sent", name, content), Stored)
    if kept:
        with suppress(NetError):
            _remove(mailbox, name)
    return kept


def _people(resource: Resource) -> list[Person]:
    """Read one stored card; a damaged one is nobody."""
    try:
        found = read_cards(resource.text.encode("utf-8", "replace")).records
    except InterchangeError:
        return []
    return [person for person in found if isinstance(person, Person)]


def _address(resource: Resource) -> str:
    return resource.url
