"""Execution match: the same row-level difference in the store as the gold plan leaves.

Knows no store: it compares plain rows. Two plans that write, send and change
the same things score alike however they are written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_tinyagent.evaluate.assignment import best_pairs
from mlx_tinyagent.evaluate.wording import TEXT_F1, token_f1

Row = Mapping[str, Any]
Snapshot = Mapping[str, Sequence[Row]]  # rows per table
# Per table: {"added": [row], "removed": [row], "changed": [(old row, new row)]}.
Diff = Mapping[str, Mapping[str, Sequence[Any]]]

# Columns that hold free text: same if their token F1 is at least TEXT_F1.
FREE_TEXT: Mapping[str, frozenset[str]] = {
    "notes": frozenset({"body"}),
    "drafts": frozenset({"body"}),
    "outbox": frozenset({"text"}),
    "events": frozenset({"notes"}),
    "reminders": frozenset({"notes"}),
}
# Columns that the store fills in by itself, in an order that a plan may choose freely.
BOOKKEEPING = frozenset(
    {"id", "seq", "created", "created_at", "modified", "modified_at", "updated", "updated_at"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionScore:
    """Whether two differences are the same, and where they are not.

    Attributes:
        match: Whether they are the same.
        differences: One line per row without a counterpart.
    """

    match: bool
    differences: tuple[str, ...]


def execution_match(
    before: Snapshot, after_predicted: Snapshot, after_gold: Snapshot
) -> ExecutionScore:
    """Compare what two plans leave of the same store.

    Args:
        before: The store both started from.
        after_predicted: After the predicted plan.
        after_gold: After the gold plan.
    """
    return diff_match(diff(before, after_predicted), diff(before, after_gold))


def diff(before: Snapshot, after: Snapshot, *, key: str = "id") -> dict[str, dict[str, list[Any]]]:
    """Return what changed per table; rows without the key column are never ``changed``.

    Tables without a difference are left out.
    """
    result: dict[str, dict[str, list[Any]]] = {}
    for table in sorted({*before, *after}):
        old, new = _by_key(before.get(table, ()), key), _by_key(after.get(table, ()), key)
        kept = old.keys() & new.keys()
        change: dict[str, list[Any]] = {
            "added": [row for k, row in new.items() if k not in kept],
            "removed": [row for k, row in old.items() if k not in kept],
            "changed": [(row, new[k]) for k, row in old.items() if k in kept and row != new[k]],
        }
        if any(change.values()):
            result[table] = change
    return result


def diff_match(predicted: Diff, gold: Diff) -> ExecutionScore:
    """Compare two differences: every row of one has its counterpart in the other.

    Columns are compared exactly, those of ``FREE_TEXT`` by token F1, those of
    ``BOOKKEEPING`` not at all; lists (also written as JSON) in any order. A
    changed row must be the same row, and its new state must match.
    """
    differences: list[str] = []
    for table in sorted({*predicted, *gold}):
        mine, theirs = predicted.get(table, {}), gold.get(table, {})
        for change in ("added", "removed", "changed"):
            differences += _unpaired(table, change, mine.get(change, ()), theirs.get(change, ()))
    return ExecutionScore(match=not differences, differences=tuple(differences))


def _unpaired(table: str, change: str, mine: Sequence[Any], theirs: Sequence[Any]) -> list[str]:
    """Pair the rows of one kind of change and describe those left over."""
    compare = _same_change if change == "changed" else _same_row
    weights = [[1.0 if compare(table, a, b) else 0.0 for b in theirs] for a in mine]
    pairs = [(row, column) for row, column in best_pairs(weights) if weights[row][column] > 0]
    rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
    left = [
        f"{table}: {change}, not in gold: {a!r:.300}" for i, a in enumerate(mine) if i not in rows
    ]
    return left + [
        f"{table}: {change} in gold only: {b!r:.300}"
        for i, b in enumerate(theirs)
        if i not in columns
    ]


def _same_change(table: str, mine: tuple[Row, Row], theirs: tuple[Row, Row]) -> bool:
    return mine[0] == theirs[0] and _same_row(table, mine[1], theirs[1])


def _same_row(table: str, mine: Row, theirs: Row) -> bool:
    free = FREE_TEXT.get(table, frozenset())
    for column in sorted({*mine, *theirs} - BOOKKEEPING):
        left, right = mine.get(column), theirs.get(column)
        if column in free:
            if token_f1(str(left or ""), str(right or "")) < TEXT_F1:
                return False
        elif _unordered(left) != _unordered(right):
            return False
    return True


def _unordered(value: object) -> object:
    """Sort lists, also those written as JSON, so that recipients may stand in any order."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, list | tuple):
        return ("list", *sorted(map(repr, value)))
    return value


def _by_key(rows: Sequence[Row], key: str) -> dict[Any, Row]:
    """Index rows by key; rows without one by their whole content and repeat."""
    result: dict[Any, Row] = {}
    for row in rows:
        index: Any = row[key] if key in row else ("row", repr(sorted(row.items(), key=repr)))
        repeat = 0
        while (index, repeat) in result:
            repeat += 1
        result[index, repeat] = row
    return result
