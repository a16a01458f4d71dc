"""World v1 is frozen, complete and loads quickly; demo data fills the user's store."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections import Counter
from datetime import date
from importlib.resources import files
from pathlib import Path
from time import perf_counter
from xml.etree import ElementTree

import pytest

from mlx_tinyagent.config import Paths
from mlx_tinyagent.errors import StoreError, UsageError
from mlx_tinyagent.tools.catalog import find_contacts, names_person
from mlx_tinyagent.tools.local import (
    LocalBackend,
    Store,
    content_hash,
    demo_data,
    memory_world,
    snapshot,
    user_store,
)
from mlx_tinyagent.tools.local.world import REFERENCE_DAY, load_world, world
from mlx_tinyagent.tools.results import Ok

# World v1 never changes: requests and their expected effects are written against it. The hash
# counts empty tables, so a new kind of row changes it and the world does not.
GOLDEN_CONTENT = "355c047ed84c290be482eff72df7067747e34ee3a8cf5f2b305958ae2df1e1b1"
GOLDEN_SOURCE = "16fa1e97ac82a92bcae1954b1d7a47bfb671145f7071b882b085ef0453c71042"


def test_world_v1_is_frozen() -> None:
    """Source file and loaded content have the bytes they were published with."""
    source = files("mlx_tinyagent.tools.local") / "world_v1.json"
    assert hashlib.sha256(source.read_bytes()).hexdigest() == GOLDEN_SOURCE
    with memory_world() as store:
        assert content_hash(store) == GOLDEN_CONTENT


def test_the_world_is_complete() -> None:
    """It has the promised numbers of everything."""
    with memory_world() as store:
        counts = {table: len(rows) for table, rows in snapshot(store).items()}
    assert counts["contacts"] >= 40
    assert {name: counts[name] for name in ("mails", "events", "files", "notes", "reminders")} == {
        "mails": 30,
        "events": 25,
        "files": 25,
        "notes": 15,
        "reminders": 12,
    }
    assert counts["calendars"] == counts["reminder_lists"] == 4
    assert sum(item["path"].endswith(".pdf") for item in world()["files"]) == 5


def test_there_are_three_pairs_of_namesakes() -> None:
    """Of all first names exactly three belong to two people; every other one is clear."""
    with memory_world() as store:
        people = LocalBackend(store).contacts()
    firsts = Counter(p.name.split()[0] for p in people if not p.name.split()[0].endswith("."))
    assert {name for name, count in firsts.items() if count > 1} == {"David", "Priya", "Ahmed"}
    for name, count in firsts.items():
        assert len(find_contacts(people, name)) == count, name
    for person in people:
        for nickname in person.nicknames:
            assert find_contacts(people, nickname) == [person]
            assert names_person(person, nickname)


def test_people_of_common_requests_are_there() -> None:
    """First names that requests often use mean one person each."""
    with memory_world() as store:
        people = LocalBackend(store).contacts()
    common = "John Sarah Jane Emily Alice Emma Mark Alex Michael James Bob Mary Tom Maria Kate Lisa"
    for name in f"{common} Peter Jennifer Rachel Daniel Olivia Mom Dad sister boss doctor".split():
        assert len(find_contacts(people, name)) == 1, name


def test_addresses_and_numbers_are_reserved() -> None:
    """No address or number of the world can belong to anyone."""
    reserved = r"\+1 \d{3} 555 01\d\d|\+353 20 91\d \d{4}|\+44 7700 900\d{3}|\+46 70 174 06 \d\d"
    reserved += r"|\+33 6 39 98 \d\d \d\d|\+49 30 23125 \d{3}"
    for contact in world()["contacts"]:
        assert all(re.fullmatch(r"[a-z.\-]+@[a-z\-]+\.example", e) for e in contact["emails"])
        assert all(re.fullmatch(reserved, phone) for phone in contact["phones"])
    assert all(mail["sender"].endswith(".example") for mail in world()["mails"])


def test_references_inside_the_world_hold() -> None:
    """Guests are contacts; most mails come from contacts, some from strangers."""
    known = {email for contact in world()["contacts"] for email in contact["emails"]}
    assert all(guest in known for event in world()["events"] for guest in event["invitees"])
    strangers = [mail for mail in world()["mails"] if mail["sender"] not in known]
    assert 4 <= len(strangers) <= 10
    assert sum(event["start"] < event["end"] for event in world()["events"]) == 25


def test_copies_are_quick_and_independent() -> None:
    """A fresh world takes about five milliseconds at most and does not see other copies."""
    memory_world().close()
    times = []
    for _ in range(11):
        start = perf_counter()
        with memory_world() as store:
            times.append(perf_counter() - start)
            LocalBackend(store).create_note(name="A", body="", folder="")
    assert sorted(times)[5] < 0.005
    with memory_world() as store:
        assert content_hash(store) == GOLDEN_CONTENT


def test_times_move_with_the_day() -> None:
    """Another reference day moves every time by as much, dates without a time too."""
    with Store.memory() as store:
        load_world(store, day=date(2026, 3, 12))
        moved = snapshot(store)
    with memory_world() as store:
        original = snapshot(store)
    assert moved["events"][0]["starts"] == "2026-02-26T10:00:00"
    assert moved["reminders"][0]["due"] == "2026-03-16"
    assert moved["reminders"][4]["due"] == ""
    assert moved["contacts"] == original["contacts"]
    assert REFERENCE_DAY.strftime("%A") == "Monday"


def test_an_unknown_world_is_named() -> None:
    """A version that does not exist says which do."""
    with pytest.raises(UsageError, match="v1"):
        memory_world("v9")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Empty user folders."""
    return Paths(config=tmp_path / "config", data=tmp_path / "data", cache=tmp_path / "cache")


@pytest.mark.slow
def test_demo_data_fills_the_users_store(paths: Paths) -> None:
    """All files are real, the index is what the world in memory has, and a second run is equal."""
    summary = demo_data(paths)
    assert summary.counts["files"] == 25
    with user_store(paths) as store, memory_world() as memory:
        first = content_hash(store)
        local, virtual = LocalBackend(store), LocalBackend(memory)
        assert {f.name: f.size for f in local.files()} == {f.name: f.size for f in virtual.files()}
        assert {f.name: f.modified for f in local.files()} == {
            f.name: f.modified for f in virtual.files()
        }
        texts = {row["name"]: row for row in memory.rows("SELECT * FROM files")}
        for row in store.rows("SELECT * FROM files WHERE text <> ''"):
            assert row["text"] == texts[row["name"]]["text"], row["name"]
        pdf = next(f.path for f in local.files() if f.name == "Quarterly Report.pdf")
        read = local.read_document(pdf)
        assert isinstance(read, Ok)
        assert read.value.text == texts["Quarterly Report.pdf"]["text"]
        LocalBackend(store).create_note(name="Mine", body="", folder="")
    for name in ("Work/Agenda.docx", "Work/Budget.xlsx"):
        with zipfile.ZipFile(summary.files / name) as package:
            assert package.testzip() is None
            for part in package.namelist():
                ElementTree.fromstring(package.read(part))
    seen: list[str] = []
    demo_data(paths, progress=seen.append)
    assert not seen
    with user_store(paths) as store:
        assert content_hash(store) == first


def test_demo_data_never_replaces_other_data(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store with the user's own rows is refused, unless told otherwise."""
    monkeypatch.setattr("mlx_tinyagent.tools.local.index.document", lambda path: None)
    with user_store(paths) as store:
        LocalBackend(store).create_note(name="Mine", body="", folder="")
        before = content_hash(store)
        with pytest.raises(StoreError, match="your own data"):
            demo_data(paths)
        assert content_hash(store) == before
    assert not (paths.data / "demo-files").exists()
    demo_data(paths, force=True)
    with user_store(paths) as store:
        assert store.rows("SELECT 1 FROM notes WHERE name = 'Mine'") == []
