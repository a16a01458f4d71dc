"""The tool set ``store``: what is planned, and changing or cancelling it.

It comes beside the 16 tools in ``chat`` and is evaluated apart, so that the
published figures stay those of the 16. Every tool takes a title or name, or the
key of a row (``event:12``) where it is known already which one is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Annotated, Any

from mlx_tinyagent.tools.agenda import Agenda, Item, Sort, line, moved, period, spoken
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import (
    Arg,
    Effect,
    Email,
    Kind,
    Place,
    Span,
    Text,
    ToolSet,
    Type,
    tool,
)
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import Store
from mlx_tinyagent.tools.results import Ambiguous, Candidate, Failed, NotFound, Ok, Result, Value

Day = Annotated[str, Arg(kind=Kind.WHEN, empty=True)]
Row = Annotated[str, Arg(kind=Kind.SPAN, accepts=frozenset({Type.TEXT}))]

MAX_LISTED = 30  # rows of one answer


@tool(effect=Effect.READ, returns=Type.TEXT, app="calendar")
def list_events(host: Host, day: Day = "", about: Span = "") -> Result:
    """Say what is in the calendar.

    Args:
        day: which day or week; "" for all that comes
        about: word of the title, only if the request names one
    """
    return _listed(host, "event", day, about)


@tool(effect=Effect.WRITE, app="calendar", staged=True, fields=("title", "start"))
def change_event(
    host: Host,
    event: Row,
    new_start: Day = "",
    new_title: Text = "",
    new_location: Place = "",
    add_invitees: Sequence[Email] = (),
) -> Result:
    """Move, rename or change an event that is in the calendar already.

    Args:
        event: its title
        new_start: when it starts from now on
        new_title: only if it gets another title
        new_location: only if it gets another place
        add_invitees: addresses of further people
    """
    item = _one(host, "event", event)
    if not isinstance(item, Item):
        return item
    values: dict[str, Any] = moved(item, new_start) if new_start else {}
    values |= {"title": new_title.strip()} if new_title.strip() else {}
    values |= {"location": new_location} if new_location else {}
    if not values and not add_invitees:
        return Failed(reason=f"nothing is to be changed about '{item.name}'")
    told = []
    if new_start:
        told.append(f"moved to {spoken(values['starts'])} (was {spoken(item.start)})")
    if "title" in values:
        told.append(f"renamed to '{values['title']}'")
    if "location" in values:
        told.append(f"now at {values['location']}")
    if add_invitees:
        count = len(dict.fromkeys(add_invitees))
        told.append(f"{count} invitee{'s' * (count > 1)} added; nobody was notified")
    return _change(host, item, values, f"'{item.name}': {', '.join(told)}.", add_invitees)


@tool(effect=Effect.DELETE, app="calendar", staged=True)
def cancel_event(host: Host, event: Row, day: Day = "") -> Result:
    """Delete an event from the calendar.

    Args:
        event: its title
        day: which day it is on, only if the request says so
    """
    return _deleted(host, "event", event, day)


@tool(effect=Effect.READ, returns=Type.TEXT, app="reminders")
def list_reminders(host: Host, day: Day = "", about: Span = "") -> Result:
    """Say which reminders are open.

    Args:
        day: which day or week; "" for all
        about: word of the name, only if the request names one
    """
    return _listed(host, "reminder", day, about)


@tool(effect=Effect.WRITE, app="reminders", staged=True, fields=("name", "due"))
def change_reminder(host: Host, reminder: Row, new_due: Day = "", new_name: Text = "") -> Result:
    """Move or rename a reminder that is there already.

    Args:
        reminder: its name
        new_due: when it is due from now on
        new_name: only if it gets another name
    """
    item = _one(host, "reminder", reminder)
    if not isinstance(item, Item):
        return item
    values: dict[str, Any] = {"name": new_name.strip()} if new_name.strip() else {}
    if new_due:
        due = _due(item, new_due)
        values |= {"due": due, "all_day": int(len(due) == len("YYYY-MM-DD"))}
    if not values:
        return Failed(reason=f"nothing is to be changed about '{item.name}'")
    told = [f"now due {spoken(values['due'])}"] if new_due else []
    told += [f"renamed to '{values['name']}'"] if "name" in values else []
    return _change(host, item, values, f"Reminder '{item.name}': {', '.join(told)}.")


@tool(effect=Effect.WRITE, app="reminders", staged=True)
def complete_reminder(host: Host, reminder: Row) -> Result:
    """Tick off a reminder.

    Args:
        reminder: its name
    """
    item = _one(host, "reminder", reminder)
    if not isinstance(item, Item):
        return item
    return _change(host, item, {"done": 1}, f"Ticked off the reminder '{item.name}'.")


@tool(effect=Effect.DELETE, app="reminders", staged=True)
def cancel_reminder(host: Host, reminder: Row, day: Day = "") -> Result:
    """Delete a reminder.

    Args:
        reminder: its name
        day: which day it is due, only if the request says so
    """
    return _deleted(host, "reminder", reminder, day)


@tool(effect=Effect.READ, returns=Type.TEXT, app="notes")
def list_notes(host: Host, about: Span = "") -> Result:
    """Say which notes there are.

    Args:
        about: words of the title or text; "" for all
    """
    agenda = _agenda(host)
    every = agenda.items("note")
    if about:
        wanted = about.casefold()
        named = agenda.find("note", about)
        inside = [i for i in every if wanted in f"{i.name}\n{i.values['body']}".casefold()]
        every = [*named, *(item for item in inside if item not in named)]
    return _told(every, "note", f" about '{about}'" if about else "")


@tool(effect=Effect.WRITE, app="notes", staged=True, fields=("name",))
def rename_note(host: Host, note: Row, new_name: Text) -> Result:
    """Give a note another title.

    Args:
        note: its title
        new_name: its new title
    """
    item = _one(host, "note", note)
    if not isinstance(item, Item):
        return item
    if not new_name.strip():
        return Failed(reason="the note has no new title")
    title = new_name.strip()
    return _change(host, item, {"name": title}, f"Renamed the note '{item.name}' to '{title}'.")


@tool(effect=Effect.DELETE, app="notes", staged=True)
def delete_note(host: Host, note: Row) -> Result:
    """Delete a note.

    Args:
        note: its title
    """
    return _deleted(host, "note", note, "")


STORE_TOOLS = (
    list_events,
    change_event,
    cancel_event,
    list_reminders,
    change_reminder,
    complete_reminder,
    cancel_reminder,
    list_notes,
    rename_note,
    delete_note,
)
STORE = ToolSet("store", STORE_TOOLS)
CHAT = ToolSet("chat", (*TINYAGENT16, *STORE_TOOLS))

# The argument of each tool that names a row, and what it is a row of.
ROW_ARGUMENTS: dict[str, tuple[str, Sort]] = {
    "change_event": ("event", "event"),
    "cancel_event": ("event", "event"),
    "change_reminder": ("reminder", "reminder"),
    "complete_reminder": ("reminder", "reminder"),
    "cancel_reminder": ("reminder", "reminder"),
    "rename_note": ("note", "note"),
    "delete_note": ("note", "note"),
}


def agenda_of(backend: object) -> Agenda | None:
    """Return what a backend's store holds; None where it has none."""
    store = getattr(backend, "store", None)
    return Agenda(store) if isinstance(store, Store) else None


def found_row(agenda: Agenda, sort: Sort, name: str, day: str = "") -> Item | Result:
    """Find the one row a name or key means, or say why not."""
    found = agenda.find(sort, name, day)
    if not found:
        on = f" on {spoken(day[:10])}" if day else ""
        return NotFound(what=f"{sort} '{name}'{on}")
    if len(found) > 1:
        options = tuple(Candidate(label=item.label, value=item.key) for item in found)
        return Ambiguous(what=f"{sort} '{name}'", candidates=options)
    return found[0]


def _agenda(host: Host) -> Agenda:
    agenda = agenda_of(host.backend)
    if agenda is None:
        raise ValueError(f"the backend {host.backend.name} cannot list what is there")
    return agenda


def _one(host: Host, sort: Sort, name: str, day: str = "") -> Item | Result:
    return found_row(_agenda(host), sort, name, day)


def _listed(host: Host, sort: Sort, day: str, about: str) -> Result:
    agenda = _agenda(host)
    when = ""
    if day:
        first, last = period(day, host.request, host.now)
        found = agenda.between(sort, first, last)
        when = _when(first, last)
    elif sort == "event":
        found = agenda.between(sort, *period(day, host.request, host.now))
    else:
        found = agenda.items(sort)
    if about:
        wanted = about.casefold()
        named = agenda.find(sort, about)
        found = [item for item in found if item in named or wanted in item.name.casefold()]
        when += f" about '{about}'"
    return _told(found, sort, when)


def _when(first: datetime, last: datetime) -> str:
    end = date.fromordinal(last.toordinal() - 1)
    if end <= first.date():
        return f" on {spoken(first.date().isoformat())}"
    return f" from {spoken(first.date().isoformat())} to {spoken(end.isoformat())}"


def _told(found: Sequence[Item], sort: Sort, where: str) -> Result:
    """Say how many rows there are and list them."""
    if not found:
        return Ok(value=Value(text=""), note=f"There is no {sort}{where}.")
    count = len(found)
    more = f"\n... and {count - MAX_LISTED} more" if count > MAX_LISTED else ""
    text = "\n".join(f"  {line(item)}" for item in found[:MAX_LISTED]) + more
    return Ok(value=Value(text=text), note=f"{count} {sort}{'s' * (count > 1)}{where}:")


def _deleted(host: Host, sort: Sort, name: str, day: str) -> Result:
    item = _one(host, sort, name, day)
    if not isinstance(item, Item):
        return item
    note = f"Deleted the {sort} '{item.name}' ({line(item)})."
    backend = host.backend
    if not hasattr(backend, "delete_item"):
        return _cannot(host)
    result: Result = backend.delete_item(key=item.key, note=note)
    return result


def _change(
    host: Host, item: Item, values: dict[str, Any], note: str, invitees: Sequence[str] = ()
) -> Result:
    backend = host.backend
    if not hasattr(backend, "change_item"):
        return _cannot(host)
    result: Result = backend.change_item(key=item.key, values=values, invitees=invitees, note=note)
    if not isinstance(result, Ok):
        return result
    fields = {"title": item.name, "name": item.name}
    fields |= {"start": values.get("starts", item.start), "due": values.get("due", item.start)}
    return replace(result, value=Value(text=note, fields=fields))


def _cannot(host: Host) -> Failed:
    return Failed(reason=f"the backend {host.backend.name} cannot change what is there")


def _due(item: Item, new_due: str) -> str:
    """Return a reminder's new due date: a date alone keeps the time of day it had."""
    if len(new_due) > len("YYYY-MM-DD") or len(item.start) <= len("YYYY-MM-DD"):
        return new_due
    return f"{new_due}{item.start[len('YYYY-MM-DD') :]}"
