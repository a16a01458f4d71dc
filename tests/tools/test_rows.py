"""Snapshots, differences and the content hash."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tinyagent.tools.local import (
    LocalBackend,
    Store,
    content_hash,
    diff,
    memory_world,
    snapshot,
)
from mlx_tinyagent.tools.local.rows import LINKS, PARTS, TABLES


def test_tables_and_keys_are_those_of_the_schema() -> None:
    """The lists in code name every table and foreign key; cascades are parts, others links."""
    with Store.memory() as store:
        names = {
            row["name"]
            for row in store.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")
            if not row["name"].startswith(("sqlite_", "search"))
        }
        assert names == {*TABLES, "journal"}  # the journal is no content: it tells of it
        keys = [
            (table, (key["from"], key["table"]), key["on_delete"])
            for table in TABLES
            for key in store.rows(f"PRAGMA foreign_key_list({table})")
        ]
    assert {t: key for t, key, action in keys if action == "CASCADE"} == PARTS
    assert {t: key for t, key, action in keys if action != "CASCADE"} == LINKS


def test_nothing_done_is_no_difference(store: Store) -> None:
    """Two snapshots of one state do not differ, and reads do not make them differ."""
    before = snapshot(store)
    local = LocalBackend(store)
    for read in (local.contacts, local.files, local.notes, local.selected_mail):
        read()
    assert not diff(before, snapshot(store))


def test_a_difference_holds_exact_rows(store: Store) -> None:
    """Added, removed and changed rows stand with their ids, enough to undo them."""
    before = snapshot(store)
    store.rows("UPDATE reminders SET done = 1 WHERE id = 3")
    store.rows("DELETE FROM events WHERE id = 5")
    note = store.insert("notes", {"folder_id": 1, "name": "A", "body": "B"})
    found = diff(before, snapshot(store))
    assert found.tables == {"reminders", "events", "event_invitees", "notes"}
    assert found.added["notes"] == [{"id": note, "folder_id": 1, "name": "A", "body": "B"}]
    assert found.removed["events"] == [before["events"][4]]
    assert len(found.removed["event_invitees"]) == 2
    ((old, new),) = found.changed["reminders"]
    assert (old, new) == (before["reminders"][2], {**before["reminders"][2], "done": 1})


Action = tuple[str, str]
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["note", "list", "event", "sms", "draft"]), st.sampled_from("abc")),
    max_size=6,
)


def do(store: Store, action: Action) -> None:
    """Do one of a few independent things."""
    kind, word = action
    local = LocalBackend(store)
    invitees = [f"{word}@mail.example", "z@mail.example"]
    common: dict[str, Any] = {"location": "", "notes": "", "calendar": ""}
    match kind:
        case "note":
            local.create_note(name=word, body="", folder=f"Folder {word}")
        case "list":
            local.create_reminder(
                name=word, due="", notes="", list_name=word, priority=0, all_day=False
            )
        case "event":
            times = {"start": "2026-03-05T10:00:00", "end": "2026-03-05T11:00:00"}
            local.create_event(title=word, invitees=invitees, **times, **common)
        case "sms":
            local.queue_message(recipients=["123", f"45{ord(word)}"], text="Hi")
        case "draft":
            local.draft_mail(
                kind="new", recipients=invitees, cc=[], subject=word, body="", attachments=[]
            )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(actions=ACTIONS, seed=st.randoms(use_true_random=False))
def test_the_canonical_difference_forgets_order(actions: list[Action], seed: Any) -> None:
    """The same actions in another order give other ids and the same canonical difference."""
    shuffled = list(actions)
    seed.shuffle(shuffled)
    found = []
    for order in (actions, shuffled):
        with memory_world() as store:
            before = snapshot(store)
            for action in order:
                do(store, action)
            found.append(diff(before, snapshot(store)).canonical())
    assert found[0] == found[1]
    assert bool(found[0]) == bool(actions)


def test_parts_stay_with_their_parent(store: Store) -> None:
    """Two equal events with different guests differ from the same guests shared out otherwise."""

    def run(*groups: list[str]) -> list[str]:
        with memory_world() as world:
            before = snapshot(world)
            for group in groups:
                LocalBackend(world).queue_message(recipients=group, text="Hi")
            return diff(before, snapshot(world)).canonical()

    assert run(["111", "222"], ["333"]) == run(["333"], ["222", "111"])
    assert run(["111", "222"], ["333"]) != run(["111"], ["222", "333"])


def test_tables_can_be_ignored(store: Store) -> None:
    """A comparison can leave out what was merely opened."""
    before = snapshot(store)
    LocalBackend(store).open_url("https://a.example", note="A")
    found = diff(before, snapshot(store))
    assert found.canonical()
    assert not found.canonical(ignore={"opened"})


def test_the_hash_sees_every_change(store: Store) -> None:
    """A change of any table changes the content hash; undoing it brings the hash back."""
    start = content_hash(store)
    store.rows("UPDATE notes SET body = body || ' ' WHERE id = 1")
    assert content_hash(store) != start
    store.rows("UPDATE notes SET body = substr(body, 1, length(body) - 1) WHERE id = 1")
    assert content_hash(store) == start
