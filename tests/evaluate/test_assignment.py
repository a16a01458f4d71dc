"""Best pairs, against every permutation and networkx."""

import itertools
import random

import networkx as nx
import pytest

from mlx_tinyagent.evaluate.assignment import EXACT_LIMIT, best_pairs


def total(weights, pairs):
    """Sum the weights of pairs."""
    return sum(weights[row][column] for row, column in pairs)


@pytest.mark.parametrize("seed", range(60))
def test_no_permutation_is_better(seed):
    """Small tables, square or not, with ties and negative weights."""
    rng = random.Random(seed)
    rows, columns = rng.randint(1, 5), rng.randint(1, 5)
    weights = [
        [rng.choice([-1.0, 0.0, 0.5, rng.random()]) for _ in range(columns)] for _ in range(rows)
    ]
    short, long = sorted((rows, columns))
    best = max(
        sum(weights[a][b] if rows <= columns else weights[b][a] for a, b in enumerate(order))
        for order in itertools.permutations(range(long), short)
    )

    pairs = best_pairs(weights)

    assert len(pairs) == len({r for r, _ in pairs}) == len({c for _, c in pairs}) == short
    assert total(weights, pairs) == pytest.approx(best)
    assert pairs == best_pairs(weights)


def test_agrees_with_networkx_at_the_size_of_plans():
    """Sixteen by sixteen: the same total as the blossom algorithm."""
    rng = random.Random(7)
    weights = [[rng.random() for _ in range(16)] for _ in range(16)]
    graph = nx.Graph()
    for row, line in enumerate(weights):
        for column, weight in enumerate(line):
            graph.add_edge(row, 16 + column, weight=weight)
    expected = sum(graph.edges[e]["weight"] for e in nx.max_weight_matching(graph, True))

    assert total(weights, best_pairs(weights)) == pytest.approx(expected)


def test_large_tables_are_paired_greedily():
    """Above the limit the best weights go first and ties follow the order."""
    size = EXACT_LIMIT + 1
    weights = [[1.0 if row == column else 0.0 for column in range(size)] for row in range(size)]

    assert best_pairs(weights) == [(i, i) for i in range(size)]


def test_empty_sides_have_no_pairs():
    """No rows or no columns."""
    assert best_pairs([]) == best_pairs([[], []]) == []
