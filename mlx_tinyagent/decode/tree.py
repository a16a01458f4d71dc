"""The exact tier: a radix tree of prompt segments that own their KV.

Prompts that begin alike share segments: header, then tools in canonical
order. A node holds the KV of one segment as computed after the segments on
the path to it, so a composed cache equals one computed from scratch in the
same chunks. Least recently used leaves go first when a byte budget is full.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mlx_tinyagent.decode.kv import SegmentKV


@dataclass(slots=True, eq=False)
class _Node:
    kv: SegmentKV | None
    used: int = 0
    children: dict[str, _Node] = field(default_factory=dict)


class SegmentTree:
    """KV segments by the path of segment digests that leads to them.

    Args:
        budget: Most bytes of KV to keep.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.nbytes = 0
        self._clock = 0
        self._root = _Node(None)

    def match(self, path: Sequence[str]) -> list[SegmentKV]:
        """Return the longest known beginning of a path; refreshes its recency."""
        self._clock += 1
        found: list[SegmentKV] = []
        node = self._root
        for digest in path:
            child = node.children.get(digest)
            if child is None or child.kv is None:
                break
            child.used = self._clock
            found.append(child.kv)
            node = child
        return found

    def insert(self, path: Sequence[str], kv: SegmentKV) -> None:
        """Keep the KV of the last segment of a path whose beginning is known.

        A path whose beginning has been evicted meanwhile is ignored.
        """
        self._clock += 1
        node = self._root
        for digest in path[:-1]:
            child = node.children.get(digest)
            if child is None:
                return
            child.used = self._clock
            node = child
        known = node.children.get(path[-1])
        if known is not None:
            known.used = self._clock
            return
        node.children[path[-1]] = _Node(kv, self._clock)
        self.nbytes += kv.nbytes
        self._evict()

    def clear(self) -> None:
        """Forget everything."""
        self._root.children.clear()
        self.nbytes = 0

    def __len__(self) -> int:
        return sum(1 for _ in self._edges())

    def _evict(self) -> None:
        """Drop least recently used leaves until the budget holds; inner nodes are in use."""
        while self.nbytes > self.budget:
            leaves = [edge for edge in self._edges() if not edge[0].children[edge[1]].children]
            if not leaves:
                return
            parent, digest = min(leaves, key=lambda edge: edge[0].children[edge[1]].used)
            kv = parent.children.pop(digest).kv
            self.nbytes -= kv.nbytes if kv else 0

    def _edges(self) -> Iterator[tuple[_Node, str]]:
        """Yield every parent with the digest of each child."""
        stack = [self._root]
        while stack:
            node = stack.pop()
            for digest, child in node.children.items():
                yield node, digest
                stack.append(child)
