"""Gradients through blocks that the examples of an update share.

Header and blocks are computed once per update, under the adapter as it is.
Every example then takes them as inputs, like weights, and leaves a gradient at
their keys and values. When all examples are done, one pass back through header
and blocks turns the summed gradients into the adapter's. So an example costs
its tail and plan alone, and the gradient is that of computing everything anew
for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.decode.kv import SegmentKV
from mlx_tinyagent.models.forward import hidden_states
from mlx_tinyagent.train.batches import chance
from mlx_tinyagent.train.cache import Blocks, PrefixCache
from mlx_tinyagent.train.loss import plan_nats, prepare
from mlx_tinyagent.train.parts import HEADER, Parts

if TYPE_CHECKING:
    import mlx.core as mx
    from mlx import nn

    from mlx_tinyagent.train.rows import Drawn

KV = list[list[Any]]  # keys and values, one array per layer each: a tree that MLX derives by


class ThroughBlocks:
    """Header and blocks under the adapter as it is at one update.

    Args:
        model: mlx-lm's module.
        parts: Header and blocks.
        names: Tools that the examples are offered.
        seed: Decides what dropout leaves out; the way back leaves out the same.
    """

    def __init__(self, model: nn.Module, parts: Parts, names: Iterable[str], *, seed: int) -> None:
        wanted = set(names)
        self._model, self._parts, self._seed = model, parts, seed
        self._names = [name for name in parts.tools if name in wanted]
        self._weights = model.trainable_parameters()
        self._header = self._forward(HEADER, None)
        self._blocks = {name: _rounded(self._forward(name, self._header)) for name in self._names}
        self._slopes: dict[str, KV] = {}

    def blocks(self, names: Iterable[str]) -> Blocks:
        """Return header and some of the blocks, as they are served."""
        wanted = set(names)
        return _blocks(self._header, {n: kv for n, kv in self._blocks.items() if n in wanted})

    def gradient(self, rows: Sequence[Drawn]) -> tuple[mx.array, Any]:
        """Return the loss of rows in nats, and its gradient past the blocks.

        What reaches header and blocks is added up for ``backward``.
        """
        import mlx.core as mx
        from mlx.utils import tree_map

        wanted = {name for row in rows for name in row.tools}
        used = {name: kv for name, kv in self._blocks.items() if name in wanted}

        def loss(weights: Any, header: KV, blocks: dict[str, KV]) -> mx.array:
            self._model.update(weights)
            return plan_nats(self._model, prepare(rows, before=_blocks(header, blocks)))

        nats, (slope, to_header, to_blocks) = mx.value_and_grad(loss, argnums=(0, 1, 2))(
            self._weights, self._header, used
        )
        for name, kv in {HEADER: to_header, **to_blocks}.items():
            known = self._slopes.get(name)
            self._slopes[name] = kv if known is None else tree_map(mx.add, known, kv)
        mx.eval(nats, slope, self._slopes)
        return nats, slope

    def backward(self) -> Any:
        """Return the gradient of everything that ``gradient`` was given through the blocks."""
        import mlx.core as mx
        from mlx.utils import tree_map

        total = tree_map(mx.zeros_like, self._weights)
        if not self._slopes:
            return total
        to_header = self._slopes[HEADER]
        for name in self._names:
            if name in self._slopes:
                slope, more = self._back(name, self._slopes[name], self._header)
                total = tree_map(mx.add, total, slope)
                to_header = tree_map(mx.add, to_header, more)
                mx.eval(total, to_header)
        total = tree_map(mx.add, total, self._back(HEADER, to_header, None)[0])
        mx.eval(total)
        self._model.update(self._weights)
        return total

    def _forward(self, name: str, header: KV | None) -> KV:
        import mlx.core as mx

        kv = self._compute(name, header)
        mx.eval(kv)
        return kv

    def _back(self, name: str, slopes: KV, header: KV | None) -> tuple[Any, Any]:
        """Return what gradients at one part's keys and values are at the weights and the header."""
        import mlx.core as mx

        def pulled(weights: Any, header: KV | None) -> mx.array:
            self._model.update(weights)
            total = mx.array(0.0)
            for arrays, wanted in zip(self._compute(name, header), slopes, strict=True):
                for array, slope in zip(arrays, wanted, strict=True):
                    total = total + mx.sum(array.astype(mx.float32) * slope.astype(mx.float32))
            return total

        if header is None:
            return mx.grad(lambda weights: pulled(weights, None))(self._weights), None
        both: tuple[Any, Any] = mx.grad(pulled, argnums=(0, 1))(self._weights, header)
        return both

    def _compute(self, name: str, header: KV | None) -> KV:
        """Run one part through the model; a block stands after the header and sees no other."""
        import mlx.core as mx

        mx.random.seed(chance(self._seed, "block", name).getrandbits(63))
        inner: Any = self._model
        length = len(self._parts.header.ids)
        caches = [
            PrefixCache(
                header[0][layer] if header else None,
                header[1][layer] if header else None,
                offset=length if header else 0,
            )
            for layer in range(len(inner.model.layers))
        ]
        hidden_states(self._model, mx.array([self._parts[name].ids]), list(caches))
        fresh = [cache.fresh for cache in caches if cache.fresh is not None]
        return [[keys for keys, _ in fresh], [values for _, values in fresh]]


def _rounded(kv: KV) -> KV:
    """Return keys and values as blocks are kept, in 16 bits; gradients pass as if they were not."""
    half = SegmentKV(tuple(kv[0]), tuple(kv[1])).halved()
    kinds = kv[0][0].dtype
    return [[array.astype(kinds) for array in arrays] for arrays in (half.keys, half.values)]


def _blocks(header: KV, tools: dict[str, KV]) -> Blocks:
    return Blocks(
        header=SegmentKV(tuple(header[0]), tuple(header[1])),
        tools={name: SegmentKV(tuple(kv[0]), tuple(kv[1])) for name, kv in tools.items()},
    )
