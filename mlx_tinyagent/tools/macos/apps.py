"""Mail, Notes, Messages and Finder through the package's scripts.

Each function gives a script one JSON argument and makes a typed result of its
answer. After an unclear outcome it looks before it says so.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parseaddr
from time import time
from typing import Any

from mlx_tinyagent.tools.backend import Mail, Note
from mlx_tinyagent.tools.external import BackendError
from mlx_tinyagent.tools.macos.faults import result_of
from mlx_tinyagent.tools.macos.runner import Runner, ScriptError
from mlx_tinyagent.tools.results import NotFound, Result, Unknown

CLOCKS_S = 2.0  # by how much two clocks of one machine may differ
_NOTE_NUMBER = re.compile(r"/p(\d+)$")  # x-coredata://.../ICNote/p12


def selected_mail(runner: Runner) -> Mail | None:
    """Return the selected message, else the newest of the inbox.

    Raises:
        BackendError: Mail gives no answer.
    """
    answer = runner.script("mail_selected", {"source": None}, writes=False)
    return _mail(_read(answer, "Mail", "selected mail"))


def draft(runner: Runner, payload: Mapping[str, Any]) -> Result | int:
    """Open a draft in Mail; returns its number, else why there is none.

    No field of a draft can carry a key, so equal drafts are counted before and
    after: one more, and it took place.
    """
    same = {"subject": payload["subject"], "body": payload["body"]}
    before = runner.script("mail_find", same, writes=False)
    if isinstance(before, ScriptError):
        return result_of(before, app="Mail", what="drafts")
    answer = runner.script("mail_draft", payload, writes=True)
    result = _outcome(answer, "Mail", f"mail {payload['source']}")
    if isinstance(result, Unknown):
        after = runner.script("mail_find", same, writes=False)
        if isinstance(after, dict) and after["count"] == before["count"] + 1:
            return 0
    return int(result["id"]) if isinstance(result, dict) else result


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNote:
    """A note, and what Notes knows it by.

    Attributes:
        note: The note.
        own: Its identifier there.
        made: When it was made, in seconds since 1970.
    """

    note: Note
    own: str
    made: float


def notes(runner: Runner) -> list[KnownNote]:
    """Return all notes.

    Raises:
        BackendError: Notes gives no answer.
    """
    answer = _read(runner.script("notes_list", {}, writes=False), "Notes", "notes")
    found: dict[str, KnownNote] = {}
    for folder in answer:
        columns = (folder["ids"], folder["names"], folder["bodies"], folder["made"])
        for own, name, body, made in zip(*columns, strict=True):
            text = _without_title(str(body), str(name))
            number = _note_number(str(own), len(found))
            note = Note(id=number, name=str(name), folder=str(folder["folder"]), body=text)
            found[str(own)] = KnownNote(note=note, own=str(own), made=float(made))
    return list(found.values())


def add_note(
    runner: Runner, *, name: str, body: str, folder: str
) -> Result | tuple[str, str, bool]:
    """Add a note; returns identifier, folder and whether that is new, else why there is none."""
    begun = time()
    page = f"<div><h1>{html.escape(name)}</h1></div>{as_html(body)}"
    answer = runner.script("note_create", {"html": page, "folder": folder}, writes=True)
    result = _outcome(answer, "Notes", f"folder '{folder}'")
    if isinstance(result, dict):
        return str(result["id"]), str(result["folder"]), bool(result["made"])
    if isinstance(result, Unknown):
        for known in _notes_now(runner):
            same = (known.note.name, known.note.body.strip()) == (name, body.strip())
            if same and known.made >= begun - CLOCKS_S:
                return known.own, known.note.folder, False
    return result


def append_note(runner: Runner, own: str, text: str) -> Result | None:
    """Add text to the end of a note; returns None if it was done, else why not."""
    answer = runner.script("note_append", {"id": own, "html": as_html(text)}, writes=True)
    result = _outcome(answer, "Notes", "note")
    if isinstance(result, Unknown):
        bodies = [known.note.body for known in _notes_now(runner) if known.own == own]
        ends = [body.rstrip().endswith(text.strip()) for body in bodies]
        return None if any(ends) else result
    return None if isinstance(result, dict) else result


def delete_note(runner: Runner, own: str) -> Result | None:
    """Move a note to the deleted ones; returns None if it was done, else why not."""
    answer = runner.script("note_delete", {"id": own}, writes=True)
    result = _outcome(answer, "Notes", "note")
    return None if isinstance(result, dict) else result


def send_text(runner: Runner, handle: str, text: str) -> Result | None:
    """Send one text for good; returns None if Messages took it, else why not."""
    answer = runner.script("messages_send", {"handle": handle, "text": text}, writes=True)
    result = _outcome(answer, "Messages", f"{handle} in Messages")
    return None if isinstance(result, dict) else result


def open_url(runner: Runner, url: str) -> Result | None:
    """Show a link; returns None if it was done, else why not."""
    result = _outcome(runner.script("open_url", {"url": url}, writes=True), "macOS", "application")
    return None if isinstance(result, dict) else result


def open_file(runner: Runner, path: str) -> Result | None:
    """Open a file; returns None if it was done, else why not."""
    answer = runner.script("open_file", {"path": path}, writes=True)
    result = _outcome(answer, "Finder", f"file '{path}'")
    return None if isinstance(result, dict) else result


def as_html(text: str) -> str:
    """Write text as Notes keeps it: a block for each line."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "".join(f"<div>{html.escape(line) or '<br>'}</div>" for line in lines)


def _outcome(answer: Any | ScriptError, app: str, what: str) -> Any | Result:
    """Return what a script that changes something gave, else what came of it."""
    if isinstance(answer, ScriptError):
        return result_of(answer, app=app, what=what)
    if not isinstance(answer, dict):
        return Unknown(reason=f"{app} did not say what was done; look there")
    return NotFound(what=what) if "missing" in answer else answer


def _read(answer: Any | ScriptError, app: str, what: str) -> Any:
    """Return what a script that only reads gave.

    Raises:
        BackendError: It gave nothing.
    """
    if isinstance(answer, ScriptError):
        raise BackendError(result_of(answer, app=app, what=what))
    return answer


def _mail(answer: Mapping[str, Any]) -> Mail | None:
    if not answer["found"]:
        return None
    name, address = parseaddr(str(answer["sender"]))
    received = datetime.fromtimestamp(int(answer["received"]))
    return Mail(
        id=int(answer["id"]),
        sender=address or str(answer["sender"]),
        sender_name=name,
        subject=str(answer["subject"]),
        body=str(answer["body"]),
        received=received.isoformat(),
    )


def _notes_now(runner: Runner) -> Sequence[KnownNote]:
    try:
        return notes(runner)
    except BackendError:
        return ()


def _without_title(body: str, name: str) -> str:
    """Return a note's text without its first line, which is its title."""
    first, _, rest = body.partition("\n")
    return rest if first.strip() == name.strip() else body


def _note_number(own: str, count: int) -> int:
    """Return a number for a note: the one in its identifier, else one that is not used there."""
    found = _NOTE_NUMBER.search(own)
    return int(found[1]) if found else 10**9 + count
