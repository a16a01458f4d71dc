"""Execution match: what two plans leave in the store."""

import copy

import pytest

from mlx_tinyagent.evaluate.execution import diff, diff_match, execution_match

BEFORE = {
    "events": [{"id": 1, "title": "Standup", "start": "2026-03-02T09:00:00", "notes": ""}],
    "notes": [{"id": 1, "name": "Trip", "body": "Pack."}],
    "outbox": [],
}
SMS = {"id": 1, "recipients": '["+1 1", "+1 2"]', "text": "dinner is at seven tonight"}
EVENT = {"id": 2, "title": "Review", "start": "2026-03-06T15:00:00", "notes": "bring figures"}


def after(**tables):
    """Return BEFORE with rows added."""
    store = copy.deepcopy(BEFORE)
    for table, rows in tables.items():
        store.setdefault(table, []).extend(copy.deepcopy(rows))
    return store


GOLD = after(outbox=[SMS], events=[EVENT])


@pytest.mark.parametrize(
    ("name", "store", "match"),
    [
        ("the same rows", GOLD, True),
        ("rows numbered in another order", after(events=[{**EVENT, "id": 9}], outbox=[SMS]), True),
        ("recipients in another order",
         after(outbox=[{**SMS, "recipients": '["+1 2","+1 1"]'}], events=[EVENT]), True),
        ("a reworded text",
         after(outbox=[{**SMS, "text": "Dinner at seven, tonight!"}], events=[EVENT]), True),
        ("another text", after(outbox=[{**SMS, "text": "call me"}], events=[EVENT]), False),
        ("another person",
         after(outbox=[{**SMS, "recipients": '["+1 1"]'}], events=[EVENT]), False),
        ("another minute",
         after(outbox=[SMS], events=[{**EVENT, "start": "2026-03-06T15:01:00"}]), False),
        ("another title", after(outbox=[SMS], events=[{**EVENT, "title": "review"}]), False),
        ("other words beside an event",
         after(outbox=[SMS], events=[{**EVENT, "notes": "the slides"}]), False),
        ("sent twice", after(outbox=[SMS, {**SMS, "id": 2}], events=[EVENT]), False),
        ("only half of it", after(outbox=[SMS]), False),
        ("nothing", BEFORE, False),
        ("one thing more", after(outbox=[SMS], events=[EVENT], reminders=[{"id": 1}]), False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_rows_decide(name, store, match):
    """Columns exactly, free text by words, numbers and order of rows not at all."""
    result = execution_match(BEFORE, store, GOLD)

    assert result.match is match
    assert bool(result.differences) is not match


def test_a_change_must_hit_the_same_row():
    """The same text added to another note is another effect."""
    two = {"notes": [{"id": 1, "name": "A", "body": "x"}, {"id": 2, "name": "B", "body": "x"}]}
    first = {"notes": [{"id": 1, "name": "A", "body": "x y z"}, two["notes"][1]]}
    second = {"notes": [two["notes"][0], {"id": 2, "name": "B", "body": "x y z"}]}

    assert execution_match(two, first, first).match
    assert not execution_match(two, second, first).match


def test_removed_rows_count():
    """A deletion is matched by a deletion of the same row."""
    empty = {**BEFORE, "notes": []}

    assert execution_match(BEFORE, empty, empty).match
    assert not execution_match(BEFORE, BEFORE, empty).match


def test_a_difference_lists_what_was_added_removed_and_changed():
    """Tables without a difference are left out; rows without numbers are added or removed."""
    changed = {"id": 1, "name": "Trip", "body": "Pack. Go."}
    store = {"events": [], "notes": [changed], "outbox": [], "log": [{"x": 1}, {"x": 1}]}

    assert diff(BEFORE, store) == {
        "events": {"added": [], "removed": BEFORE["events"], "changed": []},
        "notes": {"added": [], "removed": [], "changed": [(BEFORE["notes"][0], changed)]},
        "log": {"added": [{"x": 1}, {"x": 1}], "removed": [], "changed": []},
    }
    assert diff(BEFORE, BEFORE) == {}


def test_similar_free_texts_are_paired_for_the_best():
    """A row that fits two gold rows leaves the other to the row that fits only one."""
    texts = ["a b c d e", "a b c d", "a b c"]

    def rows(*words):
        added = [{"text": w, "to": "x"} for w in words]
        return {"outbox": {"added": added, "removed": [], "changed": []}}

    assert diff_match(rows(*texts), rows(*reversed(texts))).match


def test_hundreds_of_rows_are_compared():
    """More rows than the exact pairing takes still pair with themselves."""
    store = after(outbox=[{**SMS, "id": i, "recipients": f'["{i}"]'} for i in range(200)])

    assert execution_match(BEFORE, store, store).match
