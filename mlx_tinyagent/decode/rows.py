"""A KV cache whose rows are different requests, each at its own length and position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import mlx.core as mx

_STEP = 256  # tokens by which a cache grows


class RowsCache:
    """One layer's KV of several requests.

    mlx-lm's models take it as a cache: ``offset`` is a vector here, and the mask
    hides what lies beyond each row's own tokens.

    Args:
        keys: [rows, kv_heads, room, head_dim].
        values: The same.
        lengths: Tokens of each row.
        positions: RoPE position of each row's next token.
    """

    def __init__(
        self, keys: mx.array, values: mx.array, lengths: Sequence[int], positions: Sequence[int]
    ) -> None:
        self.keys, self.values = keys, values
        self.lengths, self.positions = list(lengths), list(positions)

    @property
    def offset(self) -> mx.array:
        """RoPE positions of the next tokens [rows]."""
        import mlx.core as mx

        return mx.array(self.positions)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append new tokens to every row and return all rows as far as the longest goes."""
        for row in range(len(self.lengths)):
            self.append(row, keys[row], values[row])
        end = max(self.lengths)
        return self.keys[..., :end, :], self.values[..., :end, :]

    def append(self, row: int, keys: mx.array, values: mx.array) -> None:
        """Append new tokens [kv_heads, tokens, head_dim] to one row."""
        count = int(keys.shape[1])
        start = self.lengths[row]
        self._make_room(start + count)
        self.keys[row, :, start : start + count, :] = keys
        self.values[row, :, start : start + count, :] = values
        self.lengths[row] += count
        self.positions[row] += count

    def _make_room(self, end: int) -> None:
        import mlx.core as mx

        missing = end - self.keys.shape[2]
        if missing <= 0:
            return
        room = -(-missing // _STEP) * _STEP

        def grown(array: mx.array) -> mx.array:
            rows, heads, _, width = array.shape
            space = mx.zeros((rows, heads, room, width), array.dtype)
            return mx.concatenate([array, space], axis=2)

        self.keys, self.values = grown(self.keys), grown(self.values)

    def make_mask(
        self, count: int, return_array: bool = False, window_size: int | None = None
    ) -> mx.array:
        """Return which tokens each of ``count`` new ones sees [rows, 1, count, tokens].

        Raises:
            ValueError: A sliding window is asked for, which rows cannot have.
        """
        import mlx.core as mx

        if window_size is not None:
            raise ValueError("rows of one cache need full attention")
        lengths = mx.array(self.lengths)[:, None, None, None]
        columns = mx.arange(max(self.lengths) + count)
        return columns <= lengths + mx.arange(count)[:, None]

    @property
    def state(self) -> tuple[mx.array, mx.array]:
        """The arrays, for ``mx.eval``."""
        return self.keys, self.values


class RowView:
    """One row of a ``RowsCache`` as a request's own cache.

    Args:
        rows: The whole.
        index: Which row.
    """

    def __init__(self, rows: RowsCache, index: int) -> None:
        self.rows = rows
        self._index = index

    @property
    def length(self) -> int:
        """Tokens of the row."""
        return self.rows.lengths[self._index]

    @property
    def offset(self) -> int:
        """RoPE position of the next token."""
        return self.rows.positions[self._index]

    @property
    def keys(self) -> mx.array:
        """Keys of the row [1, kv_heads, room, head_dim]."""
        return self.rows.keys[self._index : self._index + 1]

    @property
    def values(self) -> mx.array:
        """Values of the row [1, kv_heads, room, head_dim]."""
        return self.rows.values[self._index : self._index + 1]

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append new tokens to this row alone and return its context."""
        self.rows.append(self._index, keys[0], values[0])
        return self.keys[..., : self.length, :], self.values[..., : self.length, :]

    def make_mask(
        self, count: int, return_array: bool = False, window_size: int | None = None
    ) -> Any:
        """Return the attention mask for ``count`` new tokens of this row alone."""
        if window_size is None and not return_array:
            return None if count == 1 else "causal"
        alone = RowsCache(self.keys, self.values, [self.length], [self.offset])
        return alone.make_mask(count, return_array, window_size)[0, 0]

    def trim(self, count: int) -> int:
        """Take the last tokens back; returns how many."""
        count = min(self.length, count)
        self.rows.lengths[self._index] -= count
        self.rows.positions[self._index] -= count
        return count

    @property
    def state(self) -> tuple[mx.array, mx.array]:
        """The arrays, for ``mx.eval``."""
        return self.rows.state


def stack(caches: Sequence[Sequence[Any]]) -> list[list[RowView]]:
    """Copy the caches of several requests into the rows of one.

    Args:
        caches: Per request, one full-attention cache per layer.

    Returns:
        Per request, its row of every layer.
    """
    import mlx.core as mx

    layers = []
    for parts in zip(*caches, strict=True):
        lengths = [_length(part) for part in parts]
        room = -(-(max(lengths) + 1) // _STEP) * _STEP

        def padded(array: mx.array, length: int, room: int = room) -> mx.array:
            _, heads, _, width = array.shape
            space = mx.zeros((1, heads, room - length, width), array.dtype)
            return mx.concatenate([array[..., :length, :], space], axis=2)

        keys, values = (
            mx.concatenate(
                [padded(getattr(p, name), n) for p, n in zip(parts, lengths, strict=True)], axis=0
            )
            for name in ("keys", "values")
        )
        mx.eval(keys, values)
        layers.append(RowsCache(keys, values, lengths, [part.offset for part in parts]))
    return [[RowView(layer, index) for layer in layers] for index in range(len(caches))]


def _length(cache: Any) -> int:
    """Return the tokens in a cache; mlx-lm's own have their position for a length."""
    return int(getattr(cache, "length", cache.offset))
