"""Two runs on the same rows: paired differences, with intervals and an exact test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlx_tinyagent.errors import InputError
from mlx_tinyagent.evaluate.harness_summary import FIGURES, estimate
from mlx_tinyagent.evaluate.stats import mcnemar

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure in two runs, over the rows to which it applies in both.

    Attributes:
        figure: Its name.
        n: Rows.
        first: Mean in the first run.
        second: Mean in the second run.
        difference: Second minus first.
        low: Lower end of the difference's 95 % paired bootstrap interval.
        high: Upper end.
        only_first: Rows with 1 in the first and 0 in the second; None for
            figures that are not 0 or 1.
        only_second: The other way around.
        p: Two-sided exact McNemar p-value; None for figures that are not 0 or 1.
    """

    figure: str
    n: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    only_first: int | None
    only_second: int | None
    p: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        common: Rows that both have.
        only_first: Rows that only the first has.
        only_second: Rows that only the second has.
        figures: One difference per figure.
    """

    common: int
    only_first: int
    only_second: int
    figures: tuple[Difference, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def compare(first: Sequence[Row], second: Sequence[Row], *, seed: int = 0) -> Comparison:
    """Compare two runs on the rows that both have.

    Args:
        first: Items of one run.
        second: Items of the other.
        seed: Seed of the intervals.

    Raises:
        InputError: An id stands twice, they share no row, or a shared row is
            another request in one of them.
    """
    left, right = _by_id(first, "first"), _by_id(second, "second")
    common = [name for name in left if name in right]
    if not common:
        raise InputError("the two runs have no row in common; compare runs over the same data")
    for name in common:
        if left[name].get("query") != right[name].get("query"):
            raise InputError(
                f"row {name!r} is another request in the second run; compare runs of the same data"
            )
    pairs = [(left[name]["figures"], right[name]["figures"]) for name in common]
    names = {name for mine, theirs in pairs for name in mine.keys() & theirs.keys()}
    order = [name for name in FIGURES if name in names]
    order += sorted(names - set(order))
    return Comparison(
        common=len(common),
        only_first=len(left) - len(common),
        only_second=len(right) - len(common),
        figures=tuple(_difference(name, pairs, seed) for name in order),
    )


def _by_id(rows: Sequence[Row], which: str) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for row in rows:
        if row["id"] in found:
            raise InputError(f"the id {row['id']!r} stands twice in the {which} run")
        found[row["id"]] = row
    return found


def _difference(
    name: str, pairs: Sequence[tuple[Mapping[str, float], Mapping[str, float]]], seed: int
) -> Difference:
    both = [(mine[name], theirs[name]) for mine, theirs in pairs if name in mine and name in theirs]
    first, second = [a for a, _ in both], [b for _, b in both]
    found = estimate([(b - a, 1.0) for a, b in both], seed=seed)  # rows are drawn in pairs
    binary = all(value in (0, 1) for value in (*first, *second))
    test = mcnemar(first, second) if binary else None
    return Difference(
        figure=name,
        n=len(both),
        first=round(sum(first) / len(both), 6),
        second=round(sum(second) / len(both), 6),
        difference=round(found.value, 6),
        low=round(found.low, 6),
        high=round(found.high, 6),
        only_first=test.only_first if test else None,
        only_second=test.only_second if test else None,
        p=test.p if test else None,
    )
