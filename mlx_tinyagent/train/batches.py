"""Which rows an update sees: pure functions of seed, epoch and step.

Where rows are padded to each other, rows of near length share a batch; order
and batches are new in every epoch, and the last, smaller batch counts as well.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

WINDOW = 16  # batches whose rows are sorted by length together


def chance(seed: int, *where: int | str) -> random.Random:
    """Return a source of chance for one place of a run."""
    return random.Random("/".join(map(str, (seed, *where))))


def batches(
    lengths: Sequence[int], *, batch: int, seed: int, epoch: int, padded: bool = True
) -> list[list[int]]:
    """Return an epoch's batches of row numbers.

    Args:
        lengths: Tokens per row.
        batch: Rows per batch.
        seed: The run's seed.
        epoch: Counted from 0.
        padded: Whether rows of a batch are padded to each other. Where they are not, a
            batch is a plain sample: one of short refusals alone would pull the adapter
            away from all else.
    """
    order = list(range(len(lengths)))
    dice = chance(seed, "order", epoch)
    dice.shuffle(order)
    made: list[list[int]] = []
    span = batch * (WINDOW if padded else 1)
    for start in range(0, len(order), span):
        window = sorted(order[start : start + span], key=lambda i: (lengths[i], i))
        made += [window[at : at + batch] for at in range(0, len(window), batch)]
    dice.shuffle(made)
    return made


def place(step: int, rows: int, batch: int) -> tuple[int, int]:
    """Return an update's epoch and its number there; every epoch has the same count."""
    return divmod(step, -(-rows // batch))
