"""The 16 tools of TinyAgent: names, argument order and labels as its data has them.

Names and order follow SqueezeAILab/TinyAgent, so its plans and its classifier
can be read; the texts are our own. The order of definition is the label order
and never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Literal
from urllib.parse import urlencode

from mlx_tinyagent.tools.backend import Contact, FileEntry, Host, Mail, Note
from mlx_tinyagent.tools.base import (
    Arg,
    Attachment,
    Effect,
    Email,
    Kind,
    MaybePlace,
    MaybeWhen,
    Phone,
    Place,
    Span,
    Template,
    Text,
    ToolSet,
    Type,
    When,
    tool,
)
from mlx_tinyagent.tools.match import WHOLE, candidates, score
from mlx_tinyagent.tools.results import (
    Ambiguous,
    Candidate,
    Failed,
    NotFound,
    Ok,
    Origin,
    Result,
    Value,
)

# Names that a tool looks up itself; they are made definite before, for the preview.
FileName = Annotated[str, Arg(kind=Kind.SPAN, finds="file")]
NoteName = Annotated[str, Arg(kind=Kind.SPAN, finds="note")]

MAPS_URL = "https://maps.apple.com/"
MEETING_MINUTES = 60  # length of an event or meeting when nothing is said


@tool(effect=Effect.WRITE, app="calendar", label=0, fields=("title", "start", "end"), staged=True)
def create_calendar_event(
    host: Host,
    title: Span,
    start_date: When,
    end_date: Annotated[str, Arg(kind=Kind.WHEN, after="start_date")] = "",
    location: Place = "",
    invitees: Sequence[Email] = (),
    notes: Template = "",
    calendar: Span | None = None,
) -> Result:
    """Add an event to the calendar.

    Args:
        title: what it is
        start_date: when it starts
        end_date: only if the request says when it ends
        location: place or link
        invitees: addresses from get_email_address
        notes: description or link
    """
    if not start_date:
        return Failed(reason="the event has no start")
    all_day = len(start_date) == len("YYYY-MM-DD")
    length = timedelta(days=1) if all_day else timedelta(minutes=MEETING_MINUTES)
    start = datetime.fromisoformat(start_date)
    end = datetime.fromisoformat(end_date) if end_date else start + length
    if end <= start:
        return Failed(reason=f"the event would end ({end}) before it starts ({start})")
    return host.backend.create_event(
        title=title,
        start=start.isoformat(),
        end=end.isoformat(),
        location=location or "",
        invitees=invitees,
        notes=notes or "",
        calendar=calendar or "",
    )


@tool(effect=Effect.READ, returns=Type.PHONE, app="contacts", label=1, fields=("name", "phone"))
def get_phone_number(host: Host, name: Span) -> Result:
    """Look up a person's phone number in the contacts. Needed before send_sms.

    Args:
        name: one person
    """
    return contact_value(host, name, "phone")


@tool(effect=Effect.READ, returns=Type.EMAIL, app="contacts", label=2, fields=("name", "email"))
def get_email_address(host: Host, name: Span) -> Result:
    """Look up a person's e-mail address in the contacts. Needed before mails and invitations.

    Args:
        name: one person
    """
    return contact_value(host, name, "email")


@tool(
    effect=Effect.OPEN,
    returns=Type.PATH,
    app="files",
    label=3,
    fields=("path", "name"),
    staged=True,
)
def open_and_get_file_path(host: Host, file_name: FileName) -> Result:
    """Find a file by name, open it and give its path. Needed before attaching or summarizing.

    Args:
        file_name: name of the file
    """
    found = find_file(host, file_name)
    return host.backend.open_file(found.path) if isinstance(found, FileEntry) else found


@tool(effect=Effect.READ, returns=Type.TEXT, app="files", label=4)
def summarize_pdf(host: Host, pdf_path: Attachment) -> Result:
    """Summarize a PDF document.

    Args:
        pdf_path: path from open_and_get_file_path
    """
    if not _is_file(host, pdf_path):  # the text itself, from an earlier step
        summary = host.writer.summary(text=pdf_path)
        return Ok(value=Value(text=summary, origin=Origin.UNTRUSTED), note=summary)
    document = host.backend.read_document(pdf_path)
    if not isinstance(document, Ok):
        return document
    summary = host.writer.summary(text=document.value.text)
    return Ok(value=Value(text=summary, origin=Origin.UNTRUSTED), note=summary)


@tool(effect=Effect.DRAFT, app="mail", label=5, staged=True)
def compose_new_email(
    host: Host,
    recipients: Sequence[Email],
    cc: Sequence[Email] = (),
    subject: Text = "",
    context: Template = "",
    attachments: Sequence[Attachment] = (),
) -> Result:
    """Draft a new e-mail; the body is written from context and the request.

    Args:
        recipients: addresses from get_email_address
        context: results the mail must contain
        attachments: paths from open_and_get_file_path
    """
    files, texts = _split_attachments(host, attachments)
    body = host.writer.mail(
        request=host.request,
        subject=subject,
        context=_joined(context, texts),
        greeting=_first_names(host, recipients),
    )
    return host.backend.draft_mail(
        kind="new",
        recipients=recipients,
        cc=cc,
        subject=subject,
        body=body,
        attachments=files,
    )


@tool(effect=Effect.DRAFT, app="mail", label=6, staged=True)
def reply_to_email(
    host: Host,
    cc: Sequence[Email] = (),
    context: Template = "",
    attachments: Sequence[Attachment] = (),
) -> Result:
    """Draft a reply to the e-mail that is selected.

    Args:
        cc: further addresses
        context: what the reply must say
        attachments: paths from open_and_get_file_path
    """
    mail = host.backend.selected_mail()
    if mail is None:
        return NotFound(what="selected e-mail")
    files, texts = _split_attachments(host, attachments)
    body = host.writer.mail(
        request=host.request,
        subject=mail.subject,
        context=_joined(context, texts),
        greeting=_first_names(host, [mail.sender]) or mail.sender_name,
    )
    return host.backend.draft_mail(
        kind="reply",
        recipients=[mail.sender],
        cc=cc,
        subject=_prefixed("Re:", mail),
        body=body,
        attachments=files,
        source=mail.id,
    )


@tool(effect=Effect.DRAFT, app="mail", label=7, staged=True)
def forward_email(
    host: Host,
    recipients: Sequence[Email],
    cc: Sequence[Email] = (),
    context: Template = "",
    attachments: Sequence[Attachment] = (),
) -> Result:
    """Draft a forward of the e-mail that is selected.

    Args:
        recipients: addresses from get_email_address
        context: text above the forwarded mail
        attachments: further paths
    """
    mail = host.backend.selected_mail()
    if mail is None:
        return NotFound(what="selected e-mail")
    files, texts = _split_attachments(host, attachments)
    quoted = f"-------- Forwarded --------\nFrom: {mail.sender}\n{mail.body}"
    body = f"{_joined(context, texts)}\n\n{quoted}"
    return host.backend.draft_mail(
        kind="forward",
        recipients=recipients,
        cc=cc,
        subject=_prefixed("Fwd:", mail),
        body=body.lstrip(),
        attachments=files,
        source=mail.id,
    )


@tool(
    effect=Effect.OPEN,
    returns=Type.URL,
    app="maps",
    label=8,
    fields=("url", "location"),
    staged=True,
)
def maps_open_location(host: Host, location: Place) -> Result:
    """Open a place in Maps and give its link.

    Args:
        location: name or address of the place
    """
    url = f"{MAPS_URL}?{urlencode({'q': location})}"
    shown = host.backend.open_url(url, note=f"Map of {location}: {url}")
    if not isinstance(shown, Ok):
        return shown
    fields = {**shown.value.fields, "location": location}
    return replace(shown, value=replace(shown.value, fields=fields))


@tool(effect=Effect.OPEN, returns=Type.URL, app="maps", label=9, fields=("url",), staged=True)
def maps_show_directions(
    host: Host,
    start_location: MaybePlace,
    end_location: Place,
    transport: Literal["d", "w", "r"] = "d",
) -> Result:
    """Show directions in Maps and give their link.

    Args:
        start_location: "" means here
        end_location: where to
        transport: d drive, w walk, r public transit
    """
    query = {"saddr": start_location, "daddr": end_location, "dirflg": transport}
    url = f"{MAPS_URL}?{urlencode({key: value for key, value in query.items() if value})}"
    return host.backend.open_url(url, note=f"Directions to {end_location}: {url}")


@tool(effect=Effect.WRITE, app="notes", label=10, fields=("name", "folder"), staged=True)
def create_note(host: Host, name: Text, content: Template = "", folder: Span = "") -> Result:
    """Create a note.

    Args:
        name: its title
        content: what to write
        folder: only if the request names one
    """
    body = host.writer.note(request=host.request, name=name, content=content or "")
    return host.backend.create_note(name=name, body=body, folder=folder or "")


@tool(
    effect=Effect.READ, returns=Type.TEXT, app="notes", label=11, fields=("name", "folder", "body")
)
def open_note(host: Host, name: NoteName, folder: Span = "") -> Result:
    """Open a note and give its text.

    Args:
        name: its title
        folder: only if the request names one
    """
    found = find_note(host, name, folder or "")
    if not isinstance(found, Note):
        return found
    fields = {"name": found.name, "folder": found.folder, "body": found.body}
    value = Value(text=found.body, fields=fields, origin=Origin.UNTRUSTED)
    return Ok(value=value, note=f"Opened the note '{found.name}'.")


@tool(effect=Effect.WRITE, app="notes", label=12, fields=("name", "folder"), staged=True)
def append_note_content(host: Host, name: NoteName, content: Template, folder: Span = "") -> Result:
    """Add text to the end of a note; open_note is not needed first.

    Args:
        name: its title
        content: what to add
        folder: only if the request names one
    """
    found = find_note(host, name, folder or "")
    if not isinstance(found, Note):
        return found
    text = host.writer.note(request=host.request, name=found.name, content=content or "")
    return host.backend.append_note(note_id=found.id, text=text)


@tool(effect=Effect.WRITE, app="reminders", label=13, fields=("name", "due"), staged=True)
def create_reminder(
    host: Host,
    name: Text,
    due_date: MaybeWhen,
    notes: Template = "",
    list_name: Span = "",
    priority: int = 0,
    all_day: bool = False,
) -> Result:
    """Create a reminder.

    Args:
        name: what to be reminded of
        due_date: when; "" if nothing is said
        list_name: only if the request names a list
        priority: 1 high, 0 none
        all_day: True if no time of day is said
    """
    if not 0 <= priority <= 9:
        return Failed(reason=f"a reminder's priority is 0 to 9, not {priority}")
    return host.backend.create_reminder(
        name=name,
        due=due_date or "",
        notes=notes or "",
        list_name=list_name or "",
        priority=priority,
        all_day=all_day,
    )


@tool(effect=Effect.DRAFT, app="sms", label=14, staged=True)
def send_sms(host: Host, recipients: Sequence[Phone], message: Template) -> Result:
    """Prepare one text message to one or more people.

    Args:
        recipients: numbers from get_phone_number
        message: the whole text
    """
    return host.backend.queue_message(recipients=recipients, text=message)


@tool(
    effect=Effect.WRITE,
    returns=Type.URL,
    app="zoom",
    label=15,
    fields=("url", "topic", "start"),
    staged=True,
)
def get_zoom_meeting_link(
    host: Host,
    topic: Span,
    start_time: When,
    duration: int = MEETING_MINUTES,
    meeting_invitees: Sequence[Email] = (),
) -> Result:
    """Create a Zoom meeting and give its join link.

    Args:
        topic: what it is about
        start_time: when it starts
        duration: minutes
        meeting_invitees: addresses from get_email_address
    """
    if len(start_time) <= len("YYYY-MM-DD"):
        return Failed(reason="the meeting has no start time; say when it begins")
    if not 1 <= duration <= 1440:
        return Failed(reason=f"a meeting lasts 1 to 1440 minutes, not {duration}")
    return host.backend.create_meeting(
        topic=topic, start=start_time, minutes=duration, invitees=meeting_invitees
    )


TINYAGENT16 = ToolSet(
    "tinyagent16",
    [
        create_calendar_event,
        get_phone_number,
        get_email_address,
        open_and_get_file_path,
        summarize_pdf,
        compose_new_email,
        reply_to_email,
        forward_email,
        maps_open_location,
        maps_show_directions,
        create_note,
        open_note,
        append_note_content,
        create_reminder,
        send_sms,
        get_zoom_meeting_link,
    ],
)


def find_contacts(contacts: Sequence[Contact], name: str) -> list[Contact]:
    """Return the contacts a written name may mean, best first.

    One means a clear winner if ``names_person`` holds too; else it is only
    spelled alike. Addresses count for a written address alone: their words
    ("mail", a company) are no names of people.
    """
    found = candidates(name, contacts, lambda c: _person_names(c, name))
    return [contact for _, contact in found]


def names_person(contact: Contact, name: str) -> bool:
    """Whether every word of a written name is the contact's, not merely spelled like it."""
    return any(score(name, known) >= WHOLE for known in _person_names(contact, name))


def _person_names(contact: Contact, name: str) -> tuple[str, ...]:
    """Return what a contact may be called in a request."""
    return contact.emails if "@" in name else (contact.name, *contact.nicknames)


def contact_value(host: Host, name: str, what: Literal["email", "phone"]) -> Result:
    """Look up one person and give an address or number, or say why not."""
    found = find_contacts(host.backend.contacts(), name)
    if not found:
        return NotFound(what=f"contact '{name}'")
    if len(found) > 1 or not names_person(found[0], name):  # one letter makes another person
        options = tuple(
            Candidate(label=_distinct(c), value=next(iter(_values(c, what)), "")) for c in found
        )
        return Ambiguous(what=f"contact '{name}'", candidates=options)
    values = _values(found[0], what)
    if not values:
        return NotFound(what=f"{what} of {found[0].name}")
    fields = {"name": found[0].name, what: values[0]}
    return Ok(value=Value(text=values[0], fields=fields), note=f"{found[0].name}: {values[0]}")


def _values(contact: Contact, what: Literal["email", "phone"]) -> tuple[str, ...]:
    """Return a contact's addresses or numbers."""
    return contact.emails if what == "email" else contact.phones


def _distinct(contact: Contact) -> str:
    """Name a contact so that namesakes can be told apart."""
    detail = contact.company or next(iter(contact.emails + contact.phones), "")
    return f"{contact.name} ({detail})" if detail else contact.name


def find_note(host: Host, name: str, folder: str) -> Note | Result:
    """Find one note by title; a folder that is named must hold it."""
    found = candidates(
        name,
        host.backend.notes(folder),
        lambda note: (note.name, f"{note.folder}/{note.name}") if "/" in name else (note.name,),
    )
    where = f" in folder '{folder}'" if folder else ""
    if not found:
        return NotFound(what=f"note '{name}'{where}")
    if len(found) > 1:
        options = tuple(
            Candidate(label=f"{n.name} ({n.folder})", value=f"{n.folder}/{n.name}")
            for _, n in found
        )
        return Ambiguous(what=f"note '{name}'{where}", candidates=options)
    return found[0][1]


def _is_file(host: Host, path: str) -> bool:
    """Whether a value is the path of a known file."""
    return any(entry.path == path for entry in host.backend.files())


def _split_attachments(host: Host, values: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part files from texts: "attach the summary" puts the summary into the body."""
    files = [value for value in values if _is_file(host, value)]
    return files, [value for value in values if value not in files]


def _joined(context: str | None, texts: Sequence[str]) -> str:
    """Put context and further texts together, one per paragraph."""
    return "\n\n".join(text for text in (context, *texts) if text)


def _first_names(host: Host, addresses: Sequence[str]) -> str:
    """Name the people behind addresses, for a greeting; empty if one is unknown."""
    known = {address: c.name for c in host.backend.contacts() for address in c.emails}
    names = [_first_name(known.get(address, "")) for address in addresses]
    return ", ".join(names) if all(names) else ""


def _first_name(name: str) -> str:
    """Return the word to greet with; after a title ("Dr. Lee") that is the whole name."""
    first = name.split(" ")[0]
    return name if first.endswith(".") else first


def _prefixed(prefix: str, mail: Mail) -> str:
    """Put ``Re:`` or ``Fwd:`` before a subject once."""
    known = mail.subject.casefold().startswith(prefix.casefold())
    return mail.subject if known else f"{prefix} {mail.subject}"


def find_file(host: Host, name: str) -> FileEntry | Result:
    """Find one file by name or path, or say why not."""
    found = candidates(name, host.backend.files(), lambda entry: _file_names(entry, name))
    if not found:
        return NotFound(what=f"file '{name}'")
    if len(found) > 1:
        options = tuple(Candidate(label=entry.path, value=entry.path) for _, entry in found)
        return Ambiguous(what=f"file '{name}'", candidates=options)
    return found[0][1]


def _file_names(entry: FileEntry, written: str) -> tuple[str, ...]:
    """Return what a file may be called in a request; folders count in a written path alone."""
    names = (entry.name, _stem(entry.name))
    return (*names, entry.path) if "/" in written else names


def _stem(name: str) -> str:
    """Drop a file name's extension."""
    return name.rsplit(".", 1)[0]
