"""Pairing things of two sides so that the summed weight is largest; deterministic."""

from __future__ import annotations

import math
from collections.abc import Sequence

EXACT_LIMIT = 64  # of either side; larger ones are paired greedily


def best_pairs(weights: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Pair rows with columns, as many as the smaller side has, for the largest total weight.

    Exact up to ``EXACT_LIMIT`` on the larger side (Kuhn-Munkres with
    potentials, O(n^3)), then greedy by weight, row and column.

    Args:
        weights: One row per left item, one column per right item, all finite.

    Returns:
        Pairs (row, column) by ascending row.
    """
    rows = len(weights)
    columns = len(weights[0]) if rows else 0
    if not rows or not columns:
        return []
    if max(rows, columns) > EXACT_LIMIT:
        return _greedy(weights)
    if rows > columns:
        turned = [[row[column] for row in weights] for column in range(columns)]
        return sorted((row, column) for column, row in _hungarian(turned))
    return _hungarian(weights)


def _hungarian(weights: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Solve the assignment problem for at most as many rows as columns.

    The successive shortest path form with row and column potentials; places
    are counted from 1, place 0 is the row being added.
    """
    rows, columns = len(weights), len(weights[0])
    row_price = [0.0] * (rows + 1)
    column_price = [0.0] * (columns + 1)
    owner = [0] * (columns + 1)  # row of each column, 0 while free
    for row in range(1, rows + 1):
        owner[0] = row
        column = 0
        slack = [math.inf] * (columns + 1)
        via = [0] * (columns + 1)
        done = [False] * (columns + 1)
        while owner[column]:
            done[column] = True
            current, step, nearest = owner[column], math.inf, 0
            for other in range(1, columns + 1):
                if done[other]:
                    continue
                cost = -weights[current - 1][other - 1] - row_price[current] - column_price[other]
                if cost < slack[other]:
                    slack[other], via[other] = cost, column
                if slack[other] < step:
                    step, nearest = slack[other], other
            for other in range(columns + 1):
                if done[other]:
                    row_price[owner[other]] += step
                    column_price[other] -= step
                else:
                    slack[other] -= step
            column = nearest
        while column:  # walk back and shift owners along the path
            owner[column] = owner[via[column]]
            column = via[column]
    return sorted(
        (owner[column] - 1, column - 1) for column in range(1, columns + 1) if owner[column]
    )


def _greedy(weights: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    order = sorted(
        (-weight, row, column)
        for row, line in enumerate(weights)
        for column, weight in enumerate(line)
    )
    rows: set[int] = set()
    columns: set[int] = set()
    pairs: list[tuple[int, int]] = []
    for _, row, column in order:
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            pairs.append((row, column))
    return sorted(pairs)
