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

_STEP = 256  # tokens by which a cache grows


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

    def halved(self) -> SegmentKV:
        """Return it in 16 bits: float32 becomes float16, 16-bit formats stay."""
        import mlx.core as mx

        def half(array: mx.array) -> mx.array:
            return array.astype(mx.float16) if array.dtype == mx.float32 else array

        halves = SegmentKV(tuple(map(half, self.keys)), tuple(map(half, self.values)))
        mx.eval(*halves.keys, *halves.values)
        return halves

    def zeros(self, tokens: int) -> SegmentKV:
        """Return zeros of the same shape, but for the number of tokens."""
        import mlx.core as mx

        def empty(array: mx.array) -> mx.array:
            return mx.zeros((*array.shape[:2], tokens, array.shape[3]), array.dtype)

        return SegmentKV(tuple(map(empty, self.keys)), tuple(map(empty, self.values)))


class SplitCache:
    """One layer's KV cache whose RoPE position is not its length.

    mlx-lm's models read ``offset`` as the position of the next token and take
    what ``update_and_fetch`` returns as the context; nothing else. So blocks
    that all begin at the same position can stand side by side.

    Args:
        keys: [1, kv_heads, tokens, head_dim].
        values: The same.
        position: RoPE position of the next token.
    """

    def __init__(self, keys: mx.array, values: mx.array, *, position: int) -> None:
        self.keys, self.values = keys, values
        self.length = int(keys.shape[2])
        self.offset = position

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append new tokens and return the whole context."""
        import mlx.core as mx

        count = int(keys.shape[2])
        end = self.length + count
        if end > self.keys.shape[2]:
            room = -(-count // _STEP) * _STEP

            def grown(array: mx.array) -> mx.array:
                batch, heads, _, width = array.shape
                space = mx.zeros((batch, heads, room, width), array.dtype)
                return mx.concatenate([array[..., : self.length, :], space], axis=2)

            self.keys, self.values = grown(self.keys), grown(self.values)
        self.keys[..., self.length : end, :] = keys
        self.values[..., self.length : end, :] = values
        self.length = end
        self.offset += count
        return self.keys[..., :end, :], self.values[..., :end, :]

    def make_mask(
        self, count: int, return_array: bool = False, window_size: int | None = None
    ) -> Any:
        """Return the attention mask for ``count`` new tokens: all of the context, causal inside.

        Raises:
            ValueError: A sliding window is asked for, which blocks cannot have.
        """
        import mlx.core as mx

        if window_size is not None:
            raise ValueError("blocks need full attention")
        if not return_array:
            return None if count == 1 else "causal"
        columns = mx.arange(self.length + count)
        rows = mx.arange(self.length, self.length + count)
        return rows[:, None] >= columns[None]

    def is_trimmable(self) -> bool:
        """Whether tokens can be taken back: always."""
        return True

    def trim(self, count: int) -> int:
        """Take the last tokens back; returns how many."""
        count = min(self.length, count)
        self.length -= count
        self.offset -= count
        return count

    @property
    def state(self) -> tuple[mx.array, mx.array]:
        """The arrays, for ``mx.eval``."""
        return self.keys, self.values


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
        layer.keys = mx.concatenate([segment.keys[index] for segment in segments], axis=2)
        layer.values = mx.concatenate([segment.values[index] for segment in segments], axis=2)
        layer.offset = layer.keys.shape[2]


def side_by_side(segments: Sequence[SegmentKV], *, position: int) -> list[SplitCache]:
    """Put segments into fresh caches without moving them; the next token is at ``position``.

    The first segment's number format is that of the whole.
    """
    import mlx.core as mx

    dtype = segments[0].keys[0].dtype
    caches = []
    for index in range(len(segments[0].keys)):
        keys = [segment.keys[index].astype(dtype) for segment in segments]
        values = [segment.values[index].astype(dtype) for segment in segments]
        joined = mx.concatenate(keys, axis=2), mx.concatenate(values, axis=2)
        caches.append(SplitCache(*joined, position=position))
    return caches


def rotated(kv: SegmentKV, ropes: Sequence[Any], delta: int) -> SegmentKV:
    """Move a segment by ``delta`` positions: one constant rotation of every key.

    Args:
        kv: The segment, at the position it was computed at.
        ropes: The model's rotary embedding per layer, called as ``rope(x, offset=)``.
        delta: Positions to move by.
    """
    if delta == 0:
        return kv
    import mlx.core as mx

    keys = []
    for key, rope in zip(kv.keys, ropes, strict=True):
        batch, heads, tokens, width = key.shape
        # Each token as a sequence of its own, so that all get the same rotation.
        flat = key.reshape(batch, heads * tokens, 1, width)
        # YaRN and its like also multiply on every call; the keys have that behind them.
        gain = rope(mx.ones((1, 1, 1, width), key.dtype), offset=0)
        keys.append((rope(flat, offset=delta) / gain).reshape(key.shape))
    return SegmentKV(tuple(keys), kv.values)
