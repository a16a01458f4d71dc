"""Execution match: the same row-level difference in the store as the gold plan leaves.

Two plans that write, send and change the same things score alike however they
are written and in whatever order they run: new rows are compared by content,
with their parts (recipients, attachments) inside and without their ids.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_tinyagent.evaluate.assignment import best_pairs
from mlx_tinyagent.evaluate.wording import TEXT_F1, token_f1
from mlx_tinyagent.tools.local.rows import Diff, Snapshot, diff, key

# Columns that hold free text, by table; all others are compared exactly.
FREE_TEXT: Mapping[str, frozenset[str]] = {
    "notes": frozenset({"body"}),
    "drafts": frozenset({"body"}),
    "outbox_messages": frozenset({"text"}),
    "events": frozenset({"notes"}),
    "reminders": frozenset({"notes"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionScore:
    """Whether two differences are the same, and where they are not.

    Attributes:
        match: Whether they are the same.
        differences: One line per change without a counterpart.
    """

    match: bool
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Change:
    """A row that was added, removed or changed.

    Attributes:
        place: What happened, to which table, and to which row unless it is new.
        values: New values by column; of a changed row only those that changed.
    """

    place: tuple[Any, ...]
    values: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{' '.join(map(str, self.place))} {json.dumps(self.values)[:300]}"


def execution_match(
    before: Snapshot,
    after_predicted: Snapshot,
    after_gold: Snapshot,
    *,
    ignore: Collection[str] = (),
) -> ExecutionScore:
    """Compare what two plans leave of the same store.

    Args:
        before: Rows by table, as both plans found them.
        after_predicted: After the predicted plan.
        after_gold: After the gold plan.
        ignore: Tables left out.
    """
    return diff_match(diff(before, after_predicted), diff(before, after_gold), ignore=ignore)


def diff_match(predicted: Diff, gold: Diff, *, ignore: Collection[str] = ()) -> ExecutionScore:
    """Compare two differences: every change of one has its counterpart in the other.

    Columns are compared exactly, those of ``FREE_TEXT`` by token F1 >= 0.6;
    of a text that was added to, the added part. A changed or removed row must
    be the same row.
    """
    mine, theirs = _changes(predicted, ignore), _changes(gold, ignore)
    weights = [[1.0 if _same(a, b) else 0.0 for b in theirs] for a in mine]
    pairs = [(row, column) for row, column in best_pairs(weights) if weights[row][column] > 0]
    rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
    differences = (
        *(f"not in gold: {change}" for i, change in enumerate(mine) if i not in rows),
        *(f"in gold only: {change}" for i, change in enumerate(theirs) if i not in columns),
    )
    return ExecutionScore(match=not differences, differences=differences)


def _changes(difference: Diff, ignore: Collection[str]) -> Sequence[_Change]:
    """Read a difference's canonical form; of texts that grew, keep what was added."""
    before = {
        (table, key(table, old)): old
        for table, pairs in difference.changed.items()
        for old, _ in pairs
    }
    changes: list[_Change] = []
    for what, table, *rest in map(json.loads, difference.canonical(ignore=ignore)):
        if what == "added":
            changes.append(_Change((what, table), rest[0]))
        elif what == "removed":
            changes.append(_Change((what, table, rest[0]), {}))
        else:
            old = before[table, rest[0]]
            values = {name: _added_part(old.get(name), value) for name, value in rest[1].items()}
            changes.append(_Change((what, table, rest[0]), values))
    return changes


def _added_part(old: object, new: object) -> object:
    """Return the end of a text that begins with the old one; else the new value."""
    if isinstance(old, str) and isinstance(new, str) and new.startswith(old):
        return new[len(old) :]
    return new


def _same(mine: _Change, theirs: _Change) -> bool:
    if mine.place != theirs.place or mine.values.keys() != theirs.values.keys():
        return False
    free = FREE_TEXT.get(mine.place[1], frozenset())
    return all(
        token_f1(str(value), str(theirs.values[name])) >= TEXT_F1
        if name in free
        else value == theirs.values[name]
        for name, value in mine.values.items()
    )
