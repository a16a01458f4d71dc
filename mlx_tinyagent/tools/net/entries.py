"""Events and tasks on a CalDAV server: where they go, what they say, and finding them again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo

from mlx_tinyagent.tools.checks import EventRequest, done
from mlx_tinyagent.tools.interchange.ics import read_calendar
from mlx_tinyagent.tools.interchange.lines import made_uid
from mlx_tinyagent.tools.interchange.records import Event, InterchangeError, Todo
from mlx_tinyagent.tools.match import fold
from mlx_tinyagent.tools.net.dav import Collection, Dav
from mlx_tinyagent.tools.net.faults import NetError
from mlx_tinyagent.tools.results import Failed, Result


def place_of(dav: Dav, holds: str, name: str) -> Collection | Failed | None:
    """Return the collection of a name, or the first one; None if there is none."""
    try:
        every = [place for place in dav.collections() if holds in place.holds]
    except NetError as error:
        return Failed(reason=error.reason)
    return next((p for p in every if not name or fold(p.name) == fold(name)), None)


def new_list(dav: Dav, name: str) -> Collection | Result:
    """Make a list for tasks, unless an earlier call did."""
    try:
        return dav.make_list(name, made_uid(fold(name)))
    except NetError as error:
        return error.result


def find_entry(dav: Dav, name: str) -> Result | None:
    """Look for an event or task in every calendar; None if there surely is none."""
    for place in dav.collections():
        stored = dav.get(f"{place.url}{made_uid(name)}.ics")
        if stored is not None:
            kind = "reminder" if "BEGIN:VTODO" in stored.text else "event"
            return done(f"{kind}:{stored.url}", f"It is in {place.name}.", {})
    return None


def event_of(wanted: EventRequest, name: str) -> Event:
    """Return what is to be written for a request.

    Args:
        wanted: The request.
        name: The UID that carries its key.
    """
    return Event(
        uid=name,
        text="",
        title=wanted.title,
        starts=wanted.starts.isoformat(),
        ends=wanted.ends.isoformat(),
        location=wanted.location,
        notes=wanted.notes,
        invitees=wanted.invitees,
    )


def same(meant: Event | Todo, zone: tzinfo | None) -> Callable[[str], bool]:
    """Return a check whether stored text says what was meant: name and time."""

    def check(text: str) -> bool:
        try:
            found = read_calendar(text.encode(), zone).records
        except (InterchangeError, ValueError):
            return False
        return any(_said(item) == _said(meant) for item in found if item.uid == meant.uid)

    return check


def _said(entry: object) -> tuple[str, ...]:
    match entry:
        case Event():
            return (" ".join(entry.title.split()), entry.starts, entry.ends)
        case Todo():
            return (" ".join(entry.name.split()), entry.due)
    return ()
