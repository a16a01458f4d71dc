"""Isomorphism of labeled directed graphs, against networkx."""

import random
import time

import networkx as nx
import pytest

from mlx_tinyagent.evaluate.graphs import LabeledGraph, isomorphic


def oracle(first, second):
    """Ask networkx."""
    graphs = []
    for graph in (first, second):
        drawn = nx.DiGraph(graph.edges)
        drawn.add_nodes_from((node, {"label": label}) for node, label in enumerate(graph.labels))
        graphs.append(drawn)
    return nx.is_isomorphic(*graphs, node_match=lambda a, b: a["label"] == b["label"])


def random_graph(rng, *, nodes, density, labels, acyclic):
    """Draw labels and edges at random."""
    edges = {
        (a, b)
        for a in range(nodes)
        for b in range(nodes)
        if (a < b or not acyclic) and rng.random() < density
    }
    return LabeledGraph(
        labels=tuple(rng.choice(labels) for _ in range(nodes)), edges=frozenset(edges)
    )


def renumbered(rng, graph):
    """Return the same graph under shuffled numbers."""
    order = list(range(len(graph.labels)))
    rng.shuffle(order)
    labels = [None] * len(order)
    for node, place in enumerate(order):
        labels[place] = graph.labels[node]
    edges = frozenset((order[a], order[b]) for a, b in graph.edges)
    return LabeledGraph(labels=tuple(labels), edges=edges)


def with_one_edge_moved(rng, graph):
    """Return a near copy, which may happen to be the same graph."""
    if not graph.edges:
        return graph
    size = len(graph.labels)
    edges = set(graph.edges)
    edges.discard(rng.choice(sorted(edges)))
    edges.add((rng.randrange(size), rng.randrange(size)))
    return LabeledGraph(labels=graph.labels, edges=frozenset(edges))


@pytest.mark.parametrize("acyclic", [True, False])
@pytest.mark.parametrize("labels", ["a", "ab", "abcd"])
def test_agrees_with_networkx(acyclic, labels):
    """Random pairs, renumbered copies and near copies get networkx's answer."""
    rng = random.Random(f"{acyclic}{labels}")
    seen = set()
    for _ in range(250):
        shape = {
            "nodes": rng.randint(0, 7),
            "density": rng.choice([0.1, 0.25, 0.5]),
            "labels": labels,
            "acyclic": acyclic,
        }
        graph = random_graph(rng, **shape)
        copy = renumbered(rng, graph)
        assert isomorphic(graph, copy) is True
        for other in (random_graph(rng, **shape), with_one_edge_moved(rng, copy)):
            expected = oracle(graph, other)
            assert isomorphic(graph, other) is expected
            seen.add(expected)
    assert seen == {True, False}


def directed(edges, size):
    """Return a graph whose nodes all carry one label."""
    return LabeledGraph(labels=("x",) * size, edges=frozenset(edges))


def test_one_ring_of_six_is_not_two_rings_of_three():
    """Color refinement alone cannot tell these apart; components can."""
    six = directed({(i, (i + 1) % 6) for i in range(6)}, 6)
    threes = directed({(i + 3 * k, (i + 1) % 3 + 3 * k) for i in range(3) for k in (0, 1)}, 6)

    assert isomorphic(six, threes) is False
    assert isomorphic(six, six) is True


def test_search_goes_back_from_dead_ends():
    """Regular connected graphs that only the search tells apart get networkx's answer."""
    wheel = {(i, (i + 1) % 8) for i in range(8)} | {(i, (i + 4) % 8) for i in range(8)}
    other = {(i, (i + 1) % 8) for i in range(8)} | {
        (0, 2), (2, 0), (1, 3), (3, 1), (4, 6), (6, 4), (5, 7), (7, 5)
    }  # fmt: skip
    first, second = directed(wheel, 8), directed(other, 8)

    assert isomorphic(first, second) is oracle(first, second) is False
    assert isomorphic(second, renumbered(random.Random(1), second)) is True


def test_a_comparison_beyond_the_budget_is_given_up():
    """None, not a guess, when the budget is spent."""
    rings = directed({(i, (i + 1) % 9) for i in range(9)}, 9)

    assert isomorphic(rings, rings, budget=3) is None


@pytest.mark.parametrize(
    ("name", "edges"),
    [
        ("chain", [(i, i + 1) for i in range(4999)]),
        ("star", [(i, 4999) for i in range(4999)]),
        ("ring", [(i, (i + 1) % 5000) for i in range(5000)]),
        ("pairs", [(i, i + 1) for i in range(0, 5000, 2)]),
        ("tree", [(i // 2, i) for i in range(1, 5000)]),
        ("nothing", []),
    ],
)
def test_five_thousand_nodes_take_seconds(name, edges):
    """Time grows about linearly, also where all nodes look alike."""
    graph = directed(edges, 5000)
    start = time.perf_counter()

    assert isomorphic(graph, renumbered(random.Random(name), graph)) is True
    assert time.perf_counter() - start < 20
