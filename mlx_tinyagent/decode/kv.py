"""Keys and values of prompt segments: cut out of a cache, put back into one.

A segment's KV depends on everything before it (exact tier) or on the header
alone (block tier); which of the two is the caller's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import mlx.core as mx


@dataclass(frozen=True, slots=True, eq=False)
class SegmentKV:
    """Keys and values of a run of tokens in every layer.

    Attributes:
        keys: One array [1, kv_heads, tokens, head_dim] per layer, after RoPE.
        values: The same for values.
    """

    keys: tuple[mx.array, ...]
    values: tuple[mx.array, ...]

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return int(self.keys[0].shape[2])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in (*self.keys, *self.values))


def cut(cache: Sequence[Any], start: int, end: int) -> SegmentKV:
    """Copy the tokens ``start`` to ``end`` out of a full-attention cache."""
    import mlx.core as mx

    keys = tuple(mx.contiguous(layer.keys[..., start:end, :]) for layer in cache)
    values = tuple(mx.contiguous(layer.values[..., start:end, :]) for layer in cache)
    mx.eval(*keys, *values)
    return SegmentKV(keys, values)


def fill(cache: Sequence[Any], segments: Sequence[SegmentKV]) -> None:
    """Set an empty full-attention cache to these segments, one after the other."""
    import mlx.core as mx

    if not segments:
        return
    for index, layer in enumerate(cache):
        keys = [segment.keys[index] for segment in segments]
        values = [segment.values[index] for segment in segments]
        layer.keys = mx.concatenate(keys, axis=2)
        layer.values = mx.concatenate(values, axis=2)
        layer.offset = layer.keys.shape[2]
