"""Requests with the tools they need, read from files and parted without leaks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_tinyagent.datasets.dedupe import Known, normalized
from mlx_tinyagent.datasets.record import Example
from mlx_tinyagent.datasets.split import split
from mlx_tinyagent.errors import InputError
from mlx_tinyagent.evaluate.harness_items import Item, read_items
from mlx_tinyagent.evaluate.harness_tools import query_of

if TYPE_CHECKING:
    from mlx_tinyagent.tools.base import ToolSet

SIDES = ("train", "valid", "calibration", "test")
# Shares of files that are not parted yet; the rest is for training.
VALID, CALIBRATION, TEST = 0.05, 0.15, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A request and which tools serve it.

    Attributes:
        text: The text that tools are retrieved for.
        any_of: Acceptable sets of tools; one empty set if none serves it.
        kind: ``tool``, ``none_near`` or ``none_far``.
        source: Where it comes from.
    """

    text: str
    any_of: tuple[frozenset[str], ...]
    kind: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The rows of a run.

    Attributes:
        train: Rows to learn from.
        valid: Rows that decide when to stop.
        calibration: Rows that decide the thresholds.
        test: Rows that nothing was chosen by.
        skipped: Rows left out, by reason.
        digest: sha256 over all rows.
    """

    train: tuple[Row, ...]
    valid: tuple[Row, ...]
    calibration: tuple[Row, ...]
    test: tuple[Row, ...]
    skipped: Counter[str] = field(default_factory=Counter)
    digest: str = ""


def load_data(sources: Sequence[Path], tools: ToolSet, *, eval_rows: int, seed: int) -> Data:
    """Read the rows of a run.

    A folder has ``train.jsonl`` and perhaps ``valid.jsonl``, ``calibration.jsonl``
    and ``test.jsonl``; without a calibration file its test rows calibrate. A
    file is parted by groups of near-duplicate requests. A training row that
    says the same as a row of another side is left out.

    Args:
        sources: Folders or files, in any format that ``eval tools`` reads.
        tools: Declarations.
        eval_rows: Most validation rows.
        seed: Decides the parting.

    Raises:
        InputError: A file cannot be read, or there is no usable row to train on.
        RecordError: A row is broken.
    """
    skipped: Counter[str] = Counter()
    sides: dict[str, list[Row]] = {side: [] for side in SIDES}
    for source in sources:
        for side, rows in _read(source, tools, skipped, seed).items():
            sides[side] += rows
    held_out = [row.text for side in SIDES[1:] for row in sides[side]]
    known = Known(held_out)
    train = [row for row in sides["train"] if known.closest(row.text) is None]
    skipped["says the same as a row held out"] += len(sides["train"]) - len(train)
    if not train:
        reasons = "; ".join(f"{count} {reason}" for reason, count in skipped.items() if count)
        raise InputError(f"{', '.join(map(str, sources))}: no usable row ({reasons or 'empty'})")
    train.sort(key=_chance)  # an order of its own, whatever the files' is
    valid = sorted(sides["valid"], key=_chance)[:eval_rows]
    digest = hashlib.sha256()
    for row in (*train, *valid, *sides["calibration"], *sides["test"]):
        line = f"{row.text}\t{[sorted(group) for group in row.any_of]}\n"
        digest.update(line.encode("utf-8", "surrogatepass"))
    return Data(
        train=tuple(train),
        valid=tuple(valid),
        calibration=tuple(sides["calibration"]),
        test=tuple(sides["test"]),
        skipped=+skipped,
        digest=digest.hexdigest(),
    )


def read_rows(path: Path, tools: ToolSet, skipped: Counter[str]) -> list[Row]:
    """Read one file; rows that say nothing about these tools are counted.

    Args:
        path: Examples, TinyAgent's items, or commands with acceptable sets.
        tools: Declarations.
        skipped: Counts what is left out, by reason.

    Raises:
        InputError: The file cannot be read or is empty.
        RecordError: A row is broken.
    """
    rows = []
    for item in read_items(path, skip_bad=True).items:
        row = _row(item, tools)
        if isinstance(row, str):
            skipped[row] += 1
        else:
            rows.append(row)
    return rows


def _row(item: Item, tools: ToolSet) -> Row | str:
    """Return the row of an item, or why there is none."""
    groups = item.acceptable()
    if groups is None:
        return "a question is right"
    usable = tuple(frozenset(group) for group in groups if all(name in tools for name in group))
    if not usable:
        return "needs a tool that is not declared"
    text = query_of(item)
    if not normalized(text):
        return "no words"
    return Row(text=text, any_of=usable, kind=item.kind, source=item.source)


def _read(
    source: Path, tools: ToolSet, skipped: Counter[str], seed: int
) -> Mapping[str, list[Row]]:
    if not source.is_dir():
        return _part(read_rows(source, tools, skipped), seed)
    found = {
        side: read_rows(source / f"{side}.jsonl", tools, skipped)
        for side in SIDES
        if side == "train" or (source / f"{side}.jsonl").is_file()
    }
    if "calibration" not in found and "test" in found:
        found["calibration"] = found.pop("test")
    return found


def _part(rows: Sequence[Row], seed: int) -> dict[str, list[Row]]:
    """Part rows by groups of near-duplicates."""
    if not rows:
        return {}
    shells = [_shell(number, row) for number, row in enumerate(rows)]
    held = split(shells, valid=VALID, test=CALIBRATION + TEST, seed=seed)
    again = (
        split(held["test"], valid=0.0, test=TEST / (CALIBRATION + TEST), seed=seed + 1)
        if (held["test"])
        else {"train": [], "test": []}
    )
    parts = {
        "train": held["train"],
        "valid": held["valid"],
        "calibration": again["train"],
        "test": again["test"],
    }
    return {side: [rows[int(shell.id)] for shell in found] for side, found in parts.items()}


def _shell(number: int, row: Row) -> Example:
    return Example(id=str(number), query=row.text, tools=(), source="", licence="", kind="none_far")


def _chance(row: Row) -> str:
    return hashlib.sha256(row.text.encode("utf-8", "surrogatepass")).hexdigest()
