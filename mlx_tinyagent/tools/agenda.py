"""What is in the store: reading, changing and deleting events, reminders and notes.

Rows go by a key, such as ``event:12``, once it is known which one is meant. A
change and a deletion say what was there before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Literal, get_args

from mlx_tinyagent.tools.backend import Action
from mlx_tinyagent.tools.local.backend import LocalBackend, in_one_transaction
from mlx_tinyagent.tools.local.store import Row, Store
from mlx_tinyagent.tools.match import candidates
from mlx_tinyagent.tools.results import NotFound, Ok, Result, Value

Sort = Literal["event", "reminder", "note"]
_TABLES = {"event": "events", "reminder": "reminders", "note": "notes"}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A row as people know it.

    Attributes:
        key: ``event:12``.
        name: Title or name.
        label: What tells it from others of that name.
        start: Local ISO 8601 text; a date alone for a whole day, empty where there is none.
        values: The row's columns.
    """

    key: str
    name: str
    label: str
    start: str
    values: Row


class AgendaBackend(LocalBackend):
    """The local backend with two more effects: changing a row and deleting one."""

    def with_action(self, action: Action) -> AgendaBackend:
        """Return a view whose effects are journaled as those of ``action``."""
        view = AgendaBackend(self.store, self._opener)
        view._action = action
        return view

    @in_one_transaction
    def change_item(
        self: LocalBackend, *, key: str, values: Row, invitees: Sequence[str], note: str
    ) -> Result:
        """Change columns of a row; further invitees come behind those of an event.

        Args:
            key: The row's key.
            values: New values by column.
            invitees: Addresses; those that are invited already are left out.
            note: What the user is told when it is done.
        """
        table, number = _place(key)
        columns = ", ".join(f"{name} = ?" for name in values)
        with self.store.transaction():
            if not self.store.rows(f"SELECT 1 FROM {table} WHERE id = ?", (number,)):
                return NotFound(what=key.replace(":", " "))
            if values:
                parameters = (*values.values(), number)
                self.store.rows(f"UPDATE {table} SET {columns} WHERE id = ?", parameters)
            known = Agenda(self.store).invitees(key)
            for email in dict.fromkeys(invitees):
                if email not in known:
                    place = {"event_id": number, "position": len(known), "email": email}
                    self.store.insert("event_invitees", place)
                    known.append(email)
        return Ok(value=Value(text=note), note=note, record=key)

    @in_one_transaction
    def delete_item(self: LocalBackend, *, key: str, note: str) -> Result:
        """Delete a row and its parts.

        Args:
            key: The row's key.
            note: What the user is told when it is done.
        """
        table, number = _place(key)
        with self.store.transaction():
            if not self.store.rows(f"SELECT 1 FROM {table} WHERE id = ?", (number,)):
                return NotFound(what=key.replace(":", " "))
            if table == "events":  # parts first, so that taking it back can begin with the whole
                self.store.rows("DELETE FROM event_invitees WHERE event_id = ?", (number,))
            self.store.rows(f"DELETE FROM {table} WHERE id = ?", (number,))
        return Ok(value=Value(text=note), note=note, record=key)


class Agenda:
    """Events, reminders and notes of one store, to read.

    Args:
        store: The store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def items(self, sort: Sort) -> list[Item]:
        """Return all rows of a sort: events and open reminders by time, notes by name."""
        read = {"event": self._events, "reminder": self._reminders, "note": self._notes}
        return sorted(read[sort](), key=lambda item: (not item.start, item.start, item.name))

    def between(self, sort: Sort, first: datetime, last: datetime) -> list[Item]:
        """Return what touches a span of time, its end excluded."""
        found = []
        for item in self.items(sort):
            if not item.start:
                continue
            start = datetime.fromisoformat(item.start)
            end = datetime.fromisoformat(item.values.get("ends") or item.start)
            if sort == "reminder" and len(item.start) == len("YYYY-MM-DD"):
                end = start + timedelta(days=1)
            if start < last and (end > first or start >= first):
                found.append(item)
        return found

    def find(self, sort: Sort, name: str, day: str = "") -> list[Item]:
        """Return the rows a name, or a key, may mean; one means a clear winner.

        Args:
            sort: What is looked for.
            name: Title, name, or key.
            day: Local ISO 8601 date or moment it must be on; empty for any.
        """
        every = self.items(sort)
        if known := self.item(name, every):
            return [known]
        if day:
            every = [item for item in every if item.start[:10] == day[:10]]
        found = [item for _, item in candidates(name, every, lambda item: (item.name,))]
        if not found and day and not name.strip():
            return every
        return found

    def item(self, key: str, every: Sequence[Item] | None = None) -> Item | None:
        """Return the row of a key; None if there is none."""
        sort = key.partition(":")[0]
        if sort not in get_args(Sort):
            return None
        rows = self.items(sort) if every is None else every  # type: ignore[arg-type]
        return next((item for item in rows if item.key == key), None)

    def invitees(self, key: str) -> list[str]:
        """Return the addresses invited to an event; none for anything else."""
        if not key.startswith("event:"):
            return []
        sql = "SELECT email FROM event_invitees WHERE event_id = ? ORDER BY position"
        return [row["email"] for row in self._store.rows(sql, (_place(key)[1],))]

    def _events(self) -> list[Item]:
        return [
            _item("event", row, "title", f"{spoken(row['starts'])}", row["starts"])
            for row in self._store.rows("SELECT * FROM events")
        ]

    def _reminders(self) -> list[Item]:
        rows = self._store.rows(
            "SELECT reminders.*, reminder_lists.name AS list FROM reminders "
            "JOIN reminder_lists ON reminder_lists.id = list_id WHERE done = 0"
        )
        return [
            _item("reminder", row, "name", spoken(row["due"]) if row["due"] else "open", row["due"])
            for row in rows
        ]

    def _notes(self) -> list[Item]:
        rows = self._store.rows(
            "SELECT notes.*, note_folders.name AS folder FROM notes "
            "JOIN note_folders ON note_folders.id = folder_id"
        )
        return [_item("note", row, "name", row["folder"], "") for row in rows]


def spoken(moment: str) -> str:
    """Write local ISO 8601 text for people, the same in every locale: ``Tue 3 Mar 15:00``."""
    when = datetime.fromisoformat(moment)
    day = f"{_DAYS[when.weekday()]} {when.day} {_MONTHS[when.month - 1]}"
    return day if len(moment) == len("YYYY-MM-DD") else f"{day} {when:%H:%M}"


def line(item: Item) -> str:
    """Write one row on one line: when, what, where."""
    row = item.values
    if item.key.startswith("event:"):
        where = f" ({row['location']})" if row["location"] else ""
        return f"{_span(row['starts'], row['ends'])}  {item.name}{where}"
    if item.key.startswith("reminder:"):
        due = spoken(item.start) if item.start else "no date"
        return f"{due}  {item.name}"
    return f"{item.name} ({row['folder']})"


def period(day: str, words: str, now: datetime) -> tuple[datetime, datetime]:
    """Return the span of time a request asks about, its end excluded.

    Args:
        day: Local ISO 8601 date or moment that a phrase was read as; empty for from now on.
        words: The request; a week, weekend or month that it names is taken whole.
        now: The moment that the request refers to.

    Returns:
        A whole day for a date, the rest of the day for a moment, a year for nothing.
    """
    if not day:
        return now, now + timedelta(days=366)
    start = datetime.fromisoformat(day)
    first = start.date()
    said = f" {words.casefold()} "
    if any(part in said for part in (" week ", " week?", " week,", " week.", "weekend")):
        last = first + timedelta(days=7 - first.weekday())
    elif " month" in said:
        last = (first.replace(day=1) + timedelta(days=32)).replace(day=1)
    else:
        last = first + timedelta(days=1)
    return start, datetime.combine(last, time())


def _place(key: str) -> tuple[str, int]:
    """Return the table and number of a key."""
    sort, _, number = key.partition(":")
    return _TABLES[sort], int(number)


def _item(sort: Sort, row: Row, name: str, label: str, start: str) -> Item:
    title = str(row[name])
    key = f"{sort}:{row['id']}"
    return Item(key=key, name=title, label=f"{title} ({label})", start=start, values=row)


def _span(starts: str, ends: str) -> str:
    first, last = datetime.fromisoformat(starts), datetime.fromisoformat(ends)
    if first.time() == last.time() == time():
        if last - first <= timedelta(days=1):
            return f"{spoken(first.date().isoformat())}, all day"
        return f"{spoken(_date(first))} to {spoken(_date(last - timedelta(days=1)))}"
    end = f"{last:%H:%M}" if first.date() == last.date() else spoken(ends)
    return f"{spoken(starts)}-{end}" if len(end) == len("HH:MM") else f"{spoken(starts)} to {end}"


def _date(moment: datetime) -> str:
    return moment.date().isoformat()


def moved(item: Item, start: str) -> dict[str, Any]:
    """Return the columns of an event moved to another start; its length stays.

    Args:
        item: An event.
        start: Local ISO 8601; a date alone keeps the time of day.
    """
    before = datetime.fromisoformat(item.values["starts"])
    length = datetime.fromisoformat(item.values["ends"]) - before
    begins = datetime.fromisoformat(start)
    if len(start) == len("YYYY-MM-DD"):
        begins = datetime.combine(date.fromisoformat(start), before.time())
    return {"starts": begins.isoformat(), "ends": (begins + length).isoformat()}
