"""The demonstration world: frozen data, in memory for tests and synthesis, or on disk.

World v1 is a JSON file of this package. Its times stand around a reference
day and can be moved with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

from mlx_tinyagent.config import Paths
from mlx_tinyagent.errors import StoreError, UsageError
from mlx_tinyagent.files import atomic_write, readable_errors
from mlx_tinyagent.tools.local import demo_files
from mlx_tinyagent.tools.local.index import index_roots
from mlx_tinyagent.tools.local.rows import TABLES, content_hash
from mlx_tinyagent.tools.local.store import Store, user_store

VERSION = "v1"
VERSIONS = (VERSION,)
REFERENCE_DAY = date(2026, 3, 2)  # a Monday
MEMORY_ROOT = "/demo-files"  # where the files of a world in memory seem to lie
FOLDER = "demo-files"

World = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSummary:
    """What ``demo_data`` wrote.

    Attributes:
        store: The store's file.
        files: The folder of the demonstration files.
        counts: Numbers of contacts, mails, events, files, notes and reminders.
        reference_day: The day around which the world's times stand.
    """

    store: Path
    files: Path
    counts: Mapping[str, int]
    reference_day: date


@lru_cache(maxsize=len(VERSIONS))
def world(version: str = VERSION) -> World:
    """Return a world's data; do not change it.

    Raises:
        UsageError: There is no such version.
    """
    if version not in VERSIONS:
        raise UsageError(f"no world is called {version!r}; there is {', '.join(VERSIONS)}")
    source = files("mlx_tinyagent.tools.local") / f"world_{version}.json"
    found: World = json.loads(source.read_text("utf-8"))
    return found


def memory_world(version: str = VERSION) -> Store:
    """Return a fresh store in memory that holds the world; a copy takes about a millisecond.

    Raises:
        UsageError: There is no such version.
    """
    return _loaded(version).clone_to_memory()


@lru_cache(maxsize=len(VERSIONS))
def _loaded(version: str) -> Store:
    store = Store.memory()
    load_world(store, version)
    return store


def load_world(
    store: Store,
    version: str = VERSION,
    *,
    day: date = REFERENCE_DAY,
    embed_files: bool = True,
) -> None:
    """Replace everything in a store by the world, in one transaction.

    Args:
        store: The store.
        version: Which world.
        day: What the reference day becomes; all times move with it.
        embed_files: Put the files' texts into the index, under
            ``MEMORY_ROOT``, without files on disk; False leaves the index as
            it is, for ``index_roots`` to fill.

    Raises:
        UsageError: There is no such version.
        StoreError: The store cannot be written.
    """
    data, shift = world(version), day - REFERENCE_DAY
    with store.transaction():
        _empty(store, keep=() if embed_files else ("roots", "files"))
        for key, value in {**data["settings"], "world": version}.items():
            store.set_setting(key, value)
        _load_contacts(store, data["contacts"])
        _load_events(store, data, shift)
        _load_reminders(store, data, shift)
        _load_notes(store, data)
        for mail in data["mails"]:
            store.insert("mails", {**mail, "received": _moved(mail["received"], shift)})
        for item in data["files"] if embed_files else ():
            store.insert("files", _embedded(item, shift))


def demo_data(
    paths: Paths,
    *,
    day: date = REFERENCE_DAY,
    force: bool = False,
    progress: Callable[[str], None] | None = None,
) -> DemoSummary:
    """Fill the user's store with world v1 and write its files; can be repeated.

    Args:
        paths: The user folders.
        day: What the world's reference day becomes.
        force: Replace a store that holds the user's own data.
        progress: Called with each file's path.

    Raises:
        StoreError: The store holds other data, or something cannot be written.
    """
    folder = paths.data / FOLDER
    with user_store(paths) as store:
        _check_replaceable(store, force=force)
        for path, content, modified in _contents(folder, day - REFERENCE_DAY):
            atomic_write(path, content)
            with readable_errors(path):
                os.utime(path, (modified, modified))
        load_world(store, day=day, embed_files=False)
        index_roots(store, [folder], progress=progress)
        counted = ("contacts", "mails", "events", "files", "notes", "reminders")
        counts = {t: store.rows(f"SELECT count(*) AS n FROM {t}")[0]["n"] for t in counted}
        return DemoSummary(
            store=store.path or folder, files=folder, counts=counts, reference_day=day
        )


def _check_replaceable(store: Store, *, force: bool) -> None:
    """Refuse to replace what is neither empty nor a demonstration."""
    if force or store.setting("world"):
        return
    if content_hash(store) != content_hash(Store.memory()):
        raise StoreError(
            f"{store.path} holds your own data; demo data would replace it (--force does), "
            "or set MLX_TINYAGENT_HOME to another folder"
        )


def _empty(store: Store, *, keep: Collection[str]) -> None:
    """Delete all rows and start their numbers again, so that a world's ids are its own."""
    for table in reversed(TABLES):
        if table not in keep:
            store.rows(f"DELETE FROM {table}")
            store.rows("DELETE FROM sqlite_sequence WHERE name = ?", (table,))


def _load_contacts(store: Store, contacts: Iterable[Mapping[str, Any]]) -> None:
    for contact in contacts:
        owner = store.insert("contacts", {"name": contact["name"], "company": contact["company"]})
        for what in ("email", "phone", "nickname"):
            _parts(store, f"contact_{what}s", {"contact_id": owner}, what, contact[f"{what}s"])


def _load_events(store: Store, data: World, shift: timedelta) -> None:
    calendars = {name: store.insert("calendars", {"name": name}) for name in data["calendars"]}
    for event in data["events"]:
        owner = store.insert(
            "events",
            {
                "calendar_id": calendars[event["calendar"]],
                "title": event["title"],
                "starts": _moved(event["start"], shift),
                "ends": _moved(event["end"], shift),
                "location": event["location"],
                "notes": event["notes"],
            },
        )
        _parts(store, "event_invitees", {"event_id": owner}, "email", event["invitees"])


def _load_reminders(store: Store, data: World, shift: timedelta) -> None:
    names = data["reminder_lists"]
    lists = {name: store.insert("reminder_lists", {"name": name}) for name in names}
    for reminder in data["reminders"]:
        store.insert(
            "reminders",
            {
                "list_id": lists[reminder["list"]],
                "name": reminder["name"],
                "due": _moved(reminder["due"], shift),
                "all_day": int(reminder["all_day"]),
                "priority": reminder["priority"],
                "notes": reminder["notes"],
                "done": int(reminder["done"]),
            },
        )


def _load_notes(store: Store, data: World) -> None:
    folders = {name: store.insert("note_folders", {"name": name}) for name in data["note_folders"]}
    for note in data["notes"]:
        values = {"folder_id": folders[note["folder"]], "name": note["name"], "body": note["body"]}
        store.insert("notes", values)


def _parts(
    store: Store, table: str, owner: Mapping[str, int], column: str, values: Iterable[str]
) -> None:
    for position, value in enumerate(values):
        store.insert(table, {**owner, "position": position, column: value})


def _moved(text: str, shift: timedelta) -> str:
    """Move a date or a date and time; an empty one stays empty."""
    if not text:
        return ""
    if len(text) == len("2026-03-02"):
        return (date.fromisoformat(text) + shift).isoformat()
    return (datetime.fromisoformat(text) + shift).isoformat()


def _embedded(item: Mapping[str, Any], shift: timedelta) -> dict[str, Any]:
    """Return the index row of a file that is not on disk."""
    path = PurePosixPath(item["path"])
    is_pdf = path.suffix == ".pdf"
    return {
        "path": f"{MEMORY_ROOT}/{path}",
        "name": path.name,
        "size": len(_content(item)),
        "modified": _moved(item["modified"], shift),
        "embedded": 1,
        "pages": len(demo_files.pdf_pages(item["text"])) if is_pdf else 1,
        "text": _text(item),
    }


def _text(item: Mapping[str, Any]) -> str:
    """Return what a reader finds in a file."""
    suffix = PurePosixPath(item["path"]).suffix
    if suffix == ".pdf":
        pages = demo_files.pdf_pages(item["text"])
        return "\n".join(line for lines in pages for line in lines if line)
    if "rows" in item:
        return demo_files.csv_text(item["rows"])
    return "".join(f"{line}\n" for line in item["text"])


def _content(item: Mapping[str, Any]) -> bytes:
    """Return a file's bytes."""
    match PurePosixPath(item["path"]).suffix:
        case ".pdf":
            return demo_files.pdf(item["text"])
        case ".docx":
            return demo_files.docx(item["text"])
        case ".xlsx":
            return demo_files.xlsx(item["rows"])
        case ".png":
            return demo_files.floor_plan_png()
        case _:
            return _text(item).encode()


def _contents(folder: Path, shift: timedelta) -> Iterable[tuple[Path, bytes, float]]:
    """Yield path, bytes and modification time of each demonstration file."""
    for item in world()["files"]:
        modified = datetime.fromisoformat(_moved(item["modified"], shift)).timestamp()
        yield folder / item["path"], _content(item), modified
