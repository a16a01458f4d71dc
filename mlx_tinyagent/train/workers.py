"""Several processes that train one adapter: each takes a share of every batch.

Processes are joined by ``mx.distributed`` (started by ``mlx.launch``); alone, a
process is a group of one and nothing here costs anything. What all of them must
agree on goes through a sum over all, so no process decides for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_TEXT_ROOM = 4096  # bytes of a text that is handed to all


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Workers:
    """The processes of a run, seen from one of them.

    Attributes:
        rank: Number of this process; the one with 0 writes files and reports.
        size: How many there are.
        group: MLX's group; None for a process alone.
    """

    rank: int = 0
    size: int = 1
    group: Any = None

    @classmethod
    def join(cls) -> Workers:
        """Return the group this process was started in."""
        import mlx.core as mx

        group = mx.distributed.init()
        if group.size() == 1:
            return cls()
        return cls(rank=group.rank(), size=group.size(), group=group)

    def share(self, costs: Sequence[int]) -> list[int]:
        """Return which parts of a piece of work are this process's.

        Each part, the dearest first, goes to the process that has least to do
        so far, so that all take about the same time.

        Args:
            costs: Cost of each part.
        """
        order = sorted(range(len(costs)), key=lambda index: (-costs[index], index))
        load = [0] * self.size
        mine = []
        for index in order:
            least = load.index(min(load))
            load[least] += costs[index]
            if least == self.rank:
                mine.append(index)
        return sorted(mine)

    def add(self, tree: Any) -> Any:
        """Return the sum of a tree of float32 arrays over all processes."""
        if self.size == 1:
            return tree
        import mlx.core as mx
        from mlx.utils import tree_flatten, tree_unflatten

        flat: list[tuple[str, Any]] = list(dict(tree_flatten(tree)).items())
        joined = mx.concatenate([value.reshape(-1) for _, value in flat])
        total = mx.distributed.all_sum(joined, group=self.group)
        values, start = [], 0
        for name, value in flat:
            values.append((name, total[start : start + value.size].reshape(value.shape)))
            start += value.size
        return tree_unflatten(values)

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Return sums of some numbers over all processes; of several, in float32."""
        if self.size == 1:
            return list(numbers)
        import mlx.core as mx

        summed = mx.distributed.all_sum(mx.array(list(numbers), dtype=mx.float32), group=self.group)
        return [float(value) for value in summed.tolist()]  # type: ignore[union-attr, arg-type]

    def any(self, value: bool) -> bool:
        """Whether it is so in any process."""
        return self.total([float(value)])[0] > 0

    def hand_out(self, text: str) -> str:
        """Return the text that the first process has."""
        if self.size == 1:
            return text
        import mlx.core as mx

        data = text.encode() if self.rank == 0 else b""
        room = list(data.ljust(_TEXT_ROOM, b" ")) if self.rank == 0 else [0] * _TEXT_ROOM
        summed = mx.distributed.all_sum(mx.array(room, dtype=mx.int32), group=self.group)
        return bytes(summed.tolist()).decode().rstrip()  # type: ignore[arg-type]

    def only_first(self, tree: Any) -> Any:
        """Return the first process's tree of float32 arrays."""
        if self.size == 1:
            return tree
        import mlx.core as mx
        from mlx.utils import tree_map

        return self.add(tree if self.rank == 0 else tree_map(mx.zeros_like, tree))
