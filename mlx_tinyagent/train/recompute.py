"""Gradient checkpointing: a layer keeps its inputs alone, and is computed again for its gradient.

mlx-lm has this for layers without a cache. Here what a layer finds in its cache
is an input like any other, so a gradient passes into a prefix too, and the
second time dropout leaves out what it left out the first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.train.cache import PrefixCache

if TYPE_CHECKING:
    import mlx.core as mx
    from mlx import nn


@contextlib.contextmanager
def recomputed(model: nn.Module) -> Iterator[None]:
    """Let a model's layers be computed twice instead of kept while the block runs.

    Args:
        model: mlx-lm's module.
    """
    inner: Any = model
    kinds = {type(layer) for layer in inner.model.layers}
    originals = {kind: kind.__call__ for kind in kinds}
    weights = model.trainable_parameters()
    for kind, original in originals.items():
        kind.__call__ = _twice(original)
    try:
        yield
    finally:
        for kind, original in originals.items():
            kind.__call__ = original
        model.update(weights)  # computing again left its own copies in the layers


def _twice(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a layer's call that keeps its inputs alone."""
    import mlx.core as mx

    def call(
        layer: nn.Module, x: mx.array, mask: Any = None, cache: PrefixCache | None = None
    ) -> Any:
        chance = _chance()

        def run(weights: Any, x: mx.array, before: list[mx.array]) -> tuple[mx.array, ...]:
            mx.random.seed(chance)
            layer.update(weights)
            if cache is None:
                return (original(layer, x, mask, None),)
            keys, values = before or (None, None)
            view = PrefixCache(keys, values, offset=cache.offset, mask=cache.mask)
            out = original(layer, x, mask, view)
            return (out, *(view.fresh or ()))

        before: list[mx.array] = []
        if cache is not None and cache.keys is not None and cache.values is not None:
            before = [cache.keys, cache.values]
        out, *fresh = mx.checkpoint(run)(layer.trainable_parameters(), x, before)
        if cache is not None and fresh:
            cache.fresh = (fresh[0], fresh[1])
        return out

    return call


def _chance() -> int:
    """Return the seed that makes MLX draw what it would draw next."""
    import mlx.core as mx
    import numpy as np

    key: Any = mx.random.state
    high, low = np.asarray(key[0]).tolist()
    return int(high) << 32 | int(low)
