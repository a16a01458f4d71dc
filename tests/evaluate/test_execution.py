"""Execution match: what two plans leave in the store."""

import copy

import pytest

from mlx_tinyagent.evaluate.execution import FREE_TEXT, diff_match, execution_match
from mlx_tinyagent.tools.local import LocalBackend, diff, memory_world, snapshot
from mlx_tinyagent.tools.local.rows import TABLES, Diff
from mlx_tinyagent.tools.results import Ok

NOTE = {"id": 1, "folder_id": 1, "name": "Trip", "body": " ".join(f"word{i}" for i in range(50))}
BEFORE = {"notes": [NOTE, {**NOTE, "id": 2, "name": "Home"}]}
SMS = {"id": 1, "state": "queued, no gateway", "text": "dinner is at seven tonight"}
TO = [
    {"id": 1, "message_id": 1, "position": 0, "phone": "+1 1"},
    {"id": 2, "message_id": 1, "position": 1, "phone": "+1 2"},
]
EVENT = {
    "id": 4,
    "calendar_id": 1,
    "title": "Review",
    "starts": "2026-03-06T15:00:00",
    "ends": "2026-03-06T16:00:00",
    "location": "",
    "notes": "bring figures",
}


def after(**tables):
    """Return BEFORE with rows added."""
    store = copy.deepcopy(BEFORE)
    for table, rows in tables.items():
        store.setdefault(table, []).extend(copy.deepcopy(rows))
    return store


def sent(text=SMS["text"], to=TO, event=EVENT):
    """Return BEFORE with a message to two people and an event."""
    return after(
        outbox_messages=[{**SMS, "text": text}],
        outbox_recipients=to,
        events=[event] if event else [],
    )


GOLD = sent()


@pytest.mark.parametrize(
    ("store", "match"),
    [
        pytest.param(GOLD, True, id="the same rows"),
        pytest.param(sent(event={**EVENT, "id": 9}), True, id="rows under other numbers"),
        pytest.param(
            sent(to=[{**TO[0], "phone": "+1 2"}, {**TO[1], "phone": "+1 1"}]),
            True,
            id="recipients in another order",
        ),
        pytest.param(sent("Dinner at seven, tonight!"), True, id="a reworded text"),
        pytest.param(sent("call me"), False, id="another text"),
        pytest.param(sent(to=TO[:1]), False, id="a person forgotten"),
        pytest.param(sent(to=[TO[0], {**TO[1], "phone": "+1 3"}]), False, id="another person"),
        pytest.param(
            sent(event={**EVENT, "starts": "2026-03-06T15:01:00"}), False, id="another minute"
        ),
        pytest.param(sent(event={**EVENT, "title": "review"}), False, id="another title"),
        pytest.param(sent(event={**EVENT, "notes": "slides"}), False, id="other words beside it"),
        pytest.param(sent(event=None), False, id="only half of it"),
        pytest.param(BEFORE, False, id="nothing"),
        pytest.param(
            after(
                outbox_messages=[SMS, {**SMS, "id": 2}],
                outbox_recipients=[*TO, *({**row, "id": 9, "message_id": 2} for row in TO)],
                events=[EVENT],
            ),
            False,
            id="sent twice",
        ),
    ],
)
def test_the_rows_decide(store, match):
    """Columns exactly, free text by words, numbers and order of rows not at all."""
    result = execution_match(BEFORE, store, GOLD)

    assert result.match is match
    assert bool(result.differences) is not match


def edited(note_id, body):
    """Return BEFORE with one note's body replaced."""
    rows = [
        {**row, "body": body if row["id"] == note_id else row["body"]} for row in BEFORE["notes"]
    ]
    return {"notes": rows}


@pytest.mark.parametrize(
    ("store", "match"),
    [
        (edited(1, NOTE["body"] + "\nbuy two tickets"), True),
        (edited(1, NOTE["body"] + "\n\nBuy two tickets!"), True),
        (edited(1, NOTE["body"] + "\ncall the bank"), False),
        (edited(2, NOTE["body"] + "\nbuy two tickets"), False),
        (edited(1, "buy two tickets"), True),
    ],
    ids=["same", "other blanks", "other words", "other note", "replaced by the same words"],
)
def test_of_a_text_that_grew_the_added_part_counts(store, match):
    """A long note does not hide a wrong line."""
    gold = edited(1, NOTE["body"] + "\nbuy two tickets")

    assert execution_match(BEFORE, store, gold).match is match


def test_removed_rows_count():
    """A deletion is matched by a deletion of the same row."""
    without_first, without_second = {"notes": BEFORE["notes"][1:]}, {"notes": BEFORE["notes"][:1]}

    assert execution_match(BEFORE, without_first, without_first).match
    assert not execution_match(BEFORE, without_second, without_first).match
    assert not execution_match(BEFORE, BEFORE, without_first).match


def test_tables_can_be_left_out():
    """What only shows something may not matter."""
    store = after(opened=[{"id": 1, "kind": "url", "target": "https://example.org"}])

    assert not execution_match(BEFORE, store, BEFORE).match
    assert execution_match(BEFORE, store, BEFORE, ignore=("opened",)).match


def test_similar_free_texts_are_paired_for_the_best():
    """A row that fits two gold rows leaves the other to the row that fits only one."""
    texts = ["a b c d e", "a b c d", "a b c"]

    def messages(*words):
        rows = [{"id": i, "state": "", "text": text} for i, text in enumerate(words)]
        return Diff(added={"outbox_messages": rows}, removed={}, changed={})

    assert diff_match(messages(*texts), messages(*reversed(texts))).match


def test_hundreds_of_rows_are_compared():
    """More rows than the exact pairing takes still pair with themselves."""
    store = after(opened=[{"id": i, "kind": "url", "target": str(i)} for i in range(200)])

    assert execution_match(BEFORE, store, store).match


def test_free_text_columns_exist():
    """The table of free texts names columns of the real store."""
    store = memory_world()
    for table, columns in FREE_TEXT.items():
        assert table in TABLES
        names = {row["name"] for row in store.rows(f"PRAGMA table_info({table})")}
        assert columns <= names


def test_real_stores_match_in_either_order():
    """Two messages and a note, sent in the other order by another run."""

    def run(*texts):
        store = memory_world()
        backend = LocalBackend(store)
        before = snapshot(store)
        for text in texts:
            numbers = [f"+120255501{len(text):02}", "+12025550199"]
            assert isinstance(backend.queue_message(recipients=numbers, text=text), Ok)
        backend.create_note(name="Trip", body="pack the bags", folder="Travel")
        return diff(before, snapshot(store))

    assert diff_match(run("hello you", "see you soon"), run("see you soon", "hello you")).match
    assert not diff_match(run("hello you"), run("see you soon", "hello you")).match
