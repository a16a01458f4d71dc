"""Isomorphism of labeled directed graphs, exact and bounded in time.

Plan graphs are small and mostly trees, yet a scorer must also survive ten
thousand calls. Three exact reductions do nearly all the work: interchangeable
nodes are contracted, components are compared one by one, and color refinement
leaves few candidates to the final search. Knows no plans.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

SEARCH_BUDGET = 200_000  # candidate pairs tried before a comparison is given up
REFINEMENT_ROUNDS = 32  # stopping early is sound: the search decides what is left


@dataclass(frozen=True, slots=True, kw_only=True)
class LabeledGraph:
    """A directed graph over nodes 0..n-1.

    Attributes:
        labels: One label per node; only nodes of equal label may be matched.
        edges: Pairs (from, to); parallel edges do not exist.
    """

    labels: tuple[Hashable, ...]
    edges: frozenset[tuple[int, int]]


class Interner:
    """Numbers values in order of first sight, so that equal values get equal numbers."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def __call__(self, value: Hashable) -> int:
        """Return the value's number."""
        return self._numbers.setdefault(value, len(self._numbers))

    def __len__(self) -> int:
        return len(self._numbers)


def isomorphic(
    first: LabeledGraph, second: LabeledGraph, *, budget: int = SEARCH_BUDGET
) -> bool | None:
    """Say whether a bijection of nodes keeps labels and edges.

    Args:
        first: One graph; may hold cycles and self-loops.
        second: The other.
        budget: Candidate pairs to try, over all components.

    Returns:
        The answer, or None if the budget ran out. Graphs on which that
        happens (large, regular, alike everywhere) do not come from plans.
    """
    if len(first.edges) != len(second.edges) or Counter(first.labels) != Counter(second.labels):
        return False
    left, right = (_Colored(_contract_twins(graph)) for graph in (first, second))
    if not _refine(left, right):
        return False
    return _match_components(left, right, _Budget(budget))


class _Budget:
    """Counts down candidate pairs."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self) -> bool:
        self.left -= 1
        return self.left >= 0


class _Colored:
    """A graph with neighbor lists and one color per node."""

    def __init__(self, graph: LabeledGraph) -> None:
        self.labels = graph.labels
        self.before: list[set[int]] = [set() for _ in graph.labels]
        self.after: list[set[int]] = [set() for _ in graph.labels]
        for source, target in graph.edges:
            self.before[target].add(source)
            self.after[source].add(target)
        self.colors: list[int] = []

    def components(self) -> Iterator[list[int]]:
        """Yield the nodes of each weakly connected component, in breadth-first order."""
        seen = [False] * len(self.labels)
        for start in range(len(self.labels)):
            if seen[start]:
                continue
            seen[start] = True
            nodes = [start]
            for node in nodes:  # grows while it is walked
                for other in sorted(self.before[node] | self.after[node]):
                    if not seen[other]:
                        seen[other] = True
                        nodes.append(other)
            yield nodes


def _contract_twins(graph: LabeledGraph) -> LabeledGraph:
    """Merge nodes of equal label and equal neighbors into one that carries their number.

    Twins are interchangeable, so two graphs are isomorphic exactly if their
    contractions are. One message to thousands of looked-up people shrinks to
    two nodes.
    """
    plain = _Colored(graph)
    groups: dict[Hashable, list[int]] = {}
    for node, label in enumerate(graph.labels):
        key = (label, frozenset(plain.before[node]), frozenset(plain.after[node]))
        groups.setdefault(key, []).append(node)
    home = {node: index for index, group in enumerate(groups.values()) for node in group}
    return LabeledGraph(
        labels=tuple((graph.labels[group[0]], len(group)) for group in groups.values()),
        edges=frozenset((home[source], home[target]) for source, target in graph.edges),
    )


def _refine(left: _Colored, right: _Colored) -> bool:
    """Color both graphs alike; False if their color counts show that they differ."""
    intern = Interner()
    for graph in (left, right):
        up = _walk(graph, [intern(label) for label in graph.labels], graph.before, intern)
        graph.colors = _walk(graph, up, graph.after, intern)
    known = 0
    for _ in range(REFINEMENT_ROUNDS):
        counts = Counter(left.colors)
        if counts != Counter(right.colors):
            return False
        if len(counts) == known:
            return True
        known = len(counts)
        for graph in (left, right):
            old = graph.colors
            graph.colors = [
                intern((old[node], _colors(old, before), _colors(old, after)))
                for node, (before, after) in enumerate(zip(graph.before, graph.after, strict=True))
            ]
    return Counter(left.colors) == Counter(right.colors)


def _walk(
    graph: _Colored, colors: list[int], sources: Sequence[set[int]], intern: Interner
) -> list[int]:
    """Fold every node's whole ancestry along ``sources`` into its color, in one pass.

    A chain of n steps needs this one pass instead of n rounds. Nodes behind a
    cycle keep their color, marked.
    """
    targets = graph.after if sources is graph.before else graph.before
    waiting = [len(before) for before in sources]
    ready = deque(node for node, count in enumerate(waiting) if count == 0)
    result: list[int | None] = [None] * len(colors)
    while ready:
        node = ready.popleft()
        folded = tuple(sorted(result[other] or 0 for other in sources[node]))
        result[node] = intern(("walk", colors[node], folded))
        for other in targets[node]:
            waiting[other] -= 1
            if waiting[other] == 0:
                ready.append(other)
    return [
        intern(("cycle", color)) if done is None else done
        for done, color in zip(result, colors, strict=True)
    ]


def _colors(colors: list[int], nodes: set[int]) -> tuple[int, ...]:
    return tuple(sorted(colors[node] for node in nodes))


def _match_components(left: _Colored, right: _Colored, budget: _Budget) -> bool | None:
    """Pair the components of both graphs; being isomorphic is an equivalence, so greedily."""
    classes: dict[tuple[int, ...], list[tuple[list[int], Counter[str]]]] = {}
    for graph, side in ((left, "left"), (right, "right")):
        for nodes in graph.components():
            key = tuple(sorted(graph.colors[node] for node in nodes))
            known = classes.setdefault(key, [])
            for representative, counts in known:
                owner = left if counts["left"] else right
                same = _search(owner, representative, graph, nodes, budget)
                if same is None:
                    return None
                if same:
                    counts[side] += 1
                    break
            else:
                known.append((nodes, Counter({side: 1})))
    return all(
        counts["left"] == counts["right"] for known in classes.values() for _, counts in known
    )


def _search(
    left: _Colored, left_nodes: list[int], right: _Colored, right_nodes: list[int], budget: _Budget
) -> bool | None:
    """Match two connected components of equal color counts by backtracking.

    Colors fix the degrees, hence equal edge counts: a color-keeping injection
    that keeps edges is an isomorphism.
    """
    order = _search_order(left, left_nodes)
    image: dict[int, int] = {}
    used: set[int] = set()
    stack = [_candidates(left, right, order[0], image, right_nodes)]
    while stack:
        node = order[len(stack) - 1]
        if node in image:  # back from a dead end below
            used.discard(image.pop(node))
        for candidate in stack[-1]:
            if not budget.spend():
                return None
            if candidate not in used and _fits(left, right, node, candidate, image):
                image[node] = candidate
                used.add(candidate)
                break
        else:
            stack.pop()
            continue
        if len(image) == len(order):
            return True
        stack.append(_candidates(left, right, order[len(stack)], image, right_nodes))
    return False


def _search_order(graph: _Colored, nodes: list[int]) -> list[int]:
    """Start at a node of the rarest color and stay connected."""
    counts = Counter(graph.colors[node] for node in nodes)
    start = min(nodes, key=lambda node: (counts[graph.colors[node]], node))
    order, seen = [start], {start}
    for node in order:  # grows while it is walked
        for other in sorted(graph.before[node] | graph.after[node]):
            if other not in seen:
                seen.add(other)
                order.append(other)
    return order


def _candidates(
    left: _Colored, right: _Colored, node: int, image: dict[int, int], right_nodes: list[int]
) -> Iterator[int]:
    """Yield the nodes of the right color that hang on the right place, lowest first."""
    pools: list[set[int]] = [
        right.after[image[other]] for other in left.before[node] if other in image
    ]
    pools += [right.before[image[other]] for other in left.after[node] if other in image]
    pool = right_nodes
    if pools:
        smallest = min(pools, key=len)
        pool = sorted(smallest)
    color = left.colors[node]
    return (other for other in pool if right.colors[other] == color)


def _fits(
    left: _Colored, right: _Colored, node: int, candidate: int, image: dict[int, int]
) -> bool:
    """Check that edges between a node and those already matched are kept."""
    if (node in left.after[node]) != (candidate in right.after[candidate]):
        return False
    return all(
        image[other] in right.before[candidate] for other in left.before[node] if other in image
    ) and all(
        image[other] in right.after[candidate] for other in left.after[node] if other in image
    )
