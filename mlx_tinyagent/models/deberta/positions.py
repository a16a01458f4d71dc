"""Relative positions: distance -> bucket -> row of the position table.

The tables are computed in NumPy float32, since the rounding of a logarithm
decides at bucket borders, and kept per length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_tinyagent.models.deberta.config import DebertaConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionTable:
    """Which row of the relative embeddings serves each pair of tokens.

    Only the rows from ``start`` to ``stop`` are reachable at this length, so
    only they need normalizing and projecting: 63 of 512 at 32 tokens.

    Attributes:
        rows: int32, shape [L, L]; entry [i, j] is the row of query i and key
            j, counted from ``start``. Its transpose serves the
            position-to-content term.
        start: First row in use.
        stop: Row after the last one in use.
    """

    rows: mx.array
    start: int
    stop: int

    @property
    def length(self) -> int:
        """Tokens L."""
        return self.rows.shape[0]


def relative_buckets(length: int, *, buckets: int, max_distance: int) -> NDArray[np.int32]:
    """Map every query-key distance to a relative-position bucket.

    Distances up to ``buckets // 2`` keep a bucket of their own; longer ones
    share logarithmically wider buckets.

    Args:
        length: Sequence length L, in tokens.
        buckets: Buckets per direction; below 1 for the distances themselves.
        max_distance: Distance, in tokens, near which the last bucket ends.

    Returns:
        int32, shape [L, L]; entry [i, j] is the bucket of i - j. Distances
        beyond ``max_distance`` exceed ``buckets``; callers clip.

    Source:
        He et al. 2021 (arXiv:2006.03654); ``make_log_bucket_position`` in
        transformers' ``modeling_deberta_v2.py``.
    """
    places = np.arange(length)
    distance = places[:, None] - places[None, :]
    if buckets < 1:
        return distance.astype(np.int32)
    middle = buckets // 2
    size = np.maximum(np.abs(distance), 1).astype(np.float32)
    whole = np.log(np.float32((max_distance - 1) / middle))
    share = np.log(size / np.float32(middle)) / whole
    far = np.sign(distance) * (np.ceil(share * np.float32(middle - 1)) + middle)
    return np.where(np.abs(distance) <= middle, distance, far).astype(np.int32)


def position_table(length: int, config: DebertaConfig) -> PositionTable:
    """Return the table of a sequence of ``length`` tokens.

    Args:
        length: Tokens L.
        config: Names the buckets, the limit and the span.
    """
    return _position_table(length, config.position_buckets, config.relative_limit, config.span)


@lru_cache(maxsize=64)  # one entry of L^2 int32 per padded length in use
def _position_table(length: int, buckets: int, limit: int, span: int) -> PositionTable:
    distances = relative_buckets(length, buckets=buckets, max_distance=limit)
    rows = np.clip(distances + span, 0, 2 * span - 1)
    start, stop = int(rows.min()), int(rows.max()) + 1
    return PositionTable(rows=mx.array(rows - start), start=start, stop=stop)
