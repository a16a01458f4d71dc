"""Splits that do not leak: requests that say the same stay on one side."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_tinyagent.datasets.dedupe import THRESHOLD, Pair, duplicates, overlaps
from mlx_tinyagent.datasets.record import Example, load_examples, write_examples
from mlx_tinyagent.errors import InputError, UsageError

NAMES = ("train", "valid", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A request of one file that another file has as well.

    Attributes:
        file: The file that is checked.
        id: The example's id in it.
        query: Its request.
        other: The file it is compared with.
        other_id: The example's id there.
        score: Token Jaccard.
    """

    file: Path
    id: str
    query: str
    other: Path
    other_id: str
    score: float


def split(
    examples: Sequence[Example],
    *,
    valid: float,
    test: float,
    seed: int,
    threshold: float = THRESHOLD,
) -> dict[str, list[Example]]:
    """Part examples into ``train``, ``valid`` and ``test``.

    Groups of requests with token Jaccard at or above the threshold, directly
    or over others, are never parted. Which side a group goes to depends on
    the seed and the group's own first request, not on the other rows.

    Args:
        examples: All examples.
        valid: Share of the validation split, from 0 to below 1.
        test: Share of the test split, from 0 to below 1.
        seed: Another seed gives another split.
        threshold: Token Jaccard from which requests belong together.

    Returns:
        The three lists, each in the order of the input.

    Raises:
        UsageError: The shares make no sense.
        InputError: There are no examples.
    """
    if not (0 <= valid < 1 and 0 <= test < 1 and valid + test < 1):
        raise UsageError(f"valid={valid} and test={test}: shares are 0 to below 1, also together")
    if not examples:
        raise InputError("nothing to split: the file has no examples")
    groups = _groups([example.query for example in examples], threshold)
    sides: dict[str, list[int]] = {name: [] for name in NAMES}
    for members in groups:
        key = f"{seed}|{examples[members[0]].query}".encode()
        place = int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64
        name = "test" if place < test else "valid" if place < test + valid else "train"
        sides[name] += members
    return {name: [examples[n] for n in sorted(numbers)] for name, numbers in sides.items()}


def write_splits(folder: Path, sides: Mapping[str, Sequence[Example]]) -> dict[str, int]:
    """Write each split to ``<name>.jsonl`` in a folder and return the numbers of rows."""
    return {
        name: write_examples(folder / f"{name}.jsonl", examples) for name, examples in sides.items()
    }


def leaks(
    files: Sequence[Path], against: Sequence[Path], *, threshold: float = THRESHOLD
) -> list[Leak]:
    """Find requests of some files that other files have as well.

    Args:
        files: Files, or folders whose ``*.jsonl`` are taken.
        against: What to compare with; a file is never compared with itself.
        threshold: Token Jaccard from which a pair counts.

    Raises:
        InputError: A file cannot be read or a folder holds none.
    """
    read: dict[Path, list[Example]] = {}

    def examples(path: Path) -> list[Example]:
        if path not in read:
            read[path] = load_examples(path)
        return read[path]

    found: list[Leak] = []
    for path in expanded(files):
        for other in expanded(against):
            if path.resolve() == other.resolve():
                continue
            mine, theirs = examples(path), examples(other)
            pairs = overlaps(
                [e.query for e in theirs], [e.query for e in mine], threshold=threshold
            )
            found += [_leak(path, other, mine, theirs, pair) for pair in pairs]
    return found


def _leak(
    path: Path, other: Path, mine: Sequence[Example], theirs: Sequence[Example], pair: Pair
) -> Leak:
    example = mine[pair.second]
    return Leak(
        file=path,
        id=example.id,
        query=example.query,
        other=other,
        other_id=theirs[pair.first].id,
        score=pair.score,
    )


def expanded(paths: Sequence[Path]) -> list[Path]:
    """Replace folders by their ``*.jsonl`` files, in name order.

    Raises:
        InputError: A path is not there, or a folder has no such file.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(path.glob("*.jsonl"))
            if not inside:
                raise InputError(f"{path}: no .jsonl file in this folder")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise InputError(f"{path}: no such file or folder")
    return files


def _groups(texts: Sequence[str], threshold: float) -> list[list[int]]:
    """Return the positions of texts that belong together, groups in order of first member."""
    leader = list(range(len(texts)))

    def find(number: int) -> int:
        while leader[number] != number:
            leader[number] = leader[leader[number]]
            number = leader[number]
        return number

    for pair in duplicates(texts, threshold=threshold):
        first, second = sorted((find(pair.first), find(pair.second)))
        leader[second] = first
    groups: dict[int, list[int]] = defaultdict(list)
    for number in range(len(texts)):
        groups[find(number)].append(number)
    return [groups[key] for key in sorted(groups)]
