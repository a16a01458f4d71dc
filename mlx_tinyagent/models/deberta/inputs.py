"""Token rows -> one checked, padded batch.

The model itself computes on arrays that may be traced and checks nothing; what
comes from outside passes here first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from mlx_tinyagent.errors import ContextError, InputError
from mlx_tinyagent.models.deberta.config import DebertaConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows of tokens, padded to one length.

    Attributes:
        input_ids: int32, [batch, tokens].
        attention_mask: int32, 1 for tokens and 0 for padding, [batch, tokens];
            None where no row is padded.
    """

    input_ids: mx.array
    attention_mask: mx.array | None


def pack(rows: Sequence[Sequence[int]], config: DebertaConfig, *, multiple: int = 8) -> Batch:
    """Pad rows to a shared length.

    Args:
        rows: Token ids of each row, special tokens included.
        config: Names the vocabulary, the pad token and the longest row.
        multiple: The length is rounded up to a multiple of it, so that few
            distinct shapes occur; never beyond the absolute positions.

    Raises:
        InputError: No rows, a row without tokens, or an id outside the vocabulary.
        ContextError: A row longer than the absolute positions, where the model has them.
    """
    if not rows:
        raise InputError("a batch of 0 rows cannot be encoded; at least 1 row is needed")
    for index, row in enumerate(rows):
        _check_row(row, index, config)
    length = -(-max(map(len, rows)) // multiple) * multiple
    if config.position_biased_input:
        length = min(length, config.max_position_embeddings)
    ids = np.full((len(rows), length), config.pad_token_id, np.int32)
    mask = np.zeros((len(rows), length), np.int32)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    padded = not mask.all()
    return Batch(input_ids=mx.array(ids), attention_mask=mx.array(mask) if padded else None)


def _check_row(row: Sequence[int], index: int, config: DebertaConfig) -> None:
    if not row:
        raise InputError(f"row {index} has no tokens; every row needs at least its first token")
    if min(row) < 0 or max(row) >= config.vocab_size:
        bad = min(row) if min(row) < 0 else max(row)
        raise InputError(
            f"row {index} holds token {bad}; the model knows 0 to {config.vocab_size - 1}"
        )
    if config.position_biased_input and len(row) > config.max_position_embeddings:
        raise ContextError(
            f"row {index} has {len(row)} tokens; the model has "
            f"{config.max_position_embeddings} absolute positions"
        )
