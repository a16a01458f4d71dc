"""Disentangled attention: content with content, with positions, and back.

Per query i and key j, with r the row of their relative position and s the
scale:

    score(i, j) = s * (q_i . k_j + q_i . PK[r] + k_j . PQ[r])

The two position terms form an additive mask of the fused attention, which is
differentiable through it.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from mlx_tinyagent.models.deberta.config import DebertaConfig
from mlx_tinyagent.models.deberta.positions import PositionTable


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionProjections:
    """Projected relative embeddings of one block, scaled.

    Attributes:
        keys: PK for the content-to-position term, [heads, rows, head_dim]; None without it.
        queries: PQ for the position-to-content term, same shape; None without it.
    """

    keys: mx.array | None
    queries: mx.array | None

    def slice(self, table: PositionTable) -> PositionProjections:
        """Return the rows in use at the table's length."""
        rows = slice(table.start, table.stop)
        return PositionProjections(
            keys=None if self.keys is None else self.keys[:, rows],
            queries=None if self.queries is None else self.queries[:, rows],
        )

    def arrays(self) -> list[mx.array]:
        """Return the terms that exist."""
        return [term for term in (self.keys, self.queries) if term is not None]


class DisentangledSelfAttention(nn.Module):
    """Multi-head attention whose scores see content and relative position.

    Weights: ``query_proj``, ``key_proj``, ``value_proj`` of [hidden, hidden]
    with bias; ``pos_key_proj`` and ``pos_query_proj`` too where positions have
    projections of their own.

    Args:
        config: Shape, terms and dropout.
    """

    def __init__(self, config: DebertaConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.scale = config.score_scale
        self.terms = frozenset(config.position_terms)
        self.query_proj = nn.Linear(width, width)
        self.key_proj = nn.Linear(width, width)
        self.value_proj = nn.Linear(width, width)
        self.shared = config.share_att_key
        if not self.shared and "c2p" in self.terms:
            self.pos_key_proj = nn.Linear(width, width)
        if not self.shared and "p2c" in self.terms:
            self.pos_query_proj = nn.Linear(width, width)
        self.pos_dropout = nn.Dropout(config.hidden_dropout_prob)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.drops_probabilities = config.attention_probs_dropout_prob > 0

    def project_positions(self, embeddings: mx.array) -> PositionProjections:
        """Project relative embeddings, biases included, and fold the scale in.

        Args:
            embeddings: Normalized relative embeddings, [rows, hidden].
        """
        embeddings = self.pos_dropout(embeddings)
        keys = queries = None
        if "c2p" in self.terms:
            project = self.key_proj if self.shared else self.pos_key_proj
            keys = self._split(project(embeddings) * self.scale)
        if "p2c" in self.terms:
            project = self.query_proj if self.shared else self.pos_query_proj
            queries = self._split(project(embeddings) * self.scale)
        return PositionProjections(keys=keys, queries=queries)

    def __call__(
        self,
        x: mx.array,  # [batch, tokens, hidden]
        bias: mx.array | None,  # broadcastable to [batch, heads, tokens, tokens]
        positions: PositionProjections | None,
        table: PositionTable | None,
    ) -> mx.array:
        """Attend within each row.

        Args:
            x: Hidden states, [batch, tokens, hidden].
            bias: Added to the scores, such as the mask of padded keys;
                broadcastable to [batch, heads, tokens, tokens].
            positions: Projections of the table's rows; None without position terms.
            table: Rows of every pair of tokens; None without position terms.

        Returns:
            [batch, tokens, hidden].
        """
        queries = self._split(self.query_proj(x))  # [batch, heads, tokens, head_dim]
        keys = self._split(self.key_proj(x))
        values = self._split(self.value_proj(x))
        mask = bias
        if positions is not None and table is not None:
            score = position_scores(queries, keys, positions, table)
            mask = score if bias is None else score + bias
            mask = mask.astype(queries.dtype)
        if self.training and self.drops_probabilities:
            mixed = self._attend_with_dropout(queries, keys, values, mask)
        else:
            mixed = mx.fast.scaled_dot_product_attention(
                queries, keys, values, scale=self.scale, mask=mask
            )
        return mixed.swapaxes(1, 2).flatten(-2)

    def _attend_with_dropout(
        self, queries: mx.array, keys: mx.array, values: mx.array, mask: mx.array | None
    ) -> mx.array:
        """Attend step by step: the fused kernel has no dropout."""
        scores = (queries * self.scale) @ keys.swapaxes(-1, -2)
        if mask is not None:
            scores = scores + mask
        return self.dropout(mx.softmax(scores, axis=-1, precise=True)) @ values

    def _split(self, x: mx.array) -> mx.array:
        """Split heads: [..., tokens, hidden] -> [..., heads, tokens, head_dim]."""
        return mx.unflatten(x, -1, (self.heads, -1)).swapaxes(-2, -3)


def position_scores(
    queries: mx.array, keys: mx.array, positions: PositionProjections, table: PositionTable
) -> mx.array:
    """Return the two position terms of the scores, summed in float32.

    Args:
        queries: [batch, heads, tokens, head_dim].
        keys: Same shape.
        positions: Scaled projections of the table's rows, at least one term.
        table: Row of every pair of tokens.

    Returns:
        [batch, heads, tokens, tokens]. Position rows broadcast over the batch.
    """
    terms = []
    if positions.keys is not None:
        by_row = queries @ positions.keys.swapaxes(-1, -2)  # [batch, heads, i, rows]
        terms.append(_pick(by_row, table.rows))
    if positions.queries is not None:
        by_row = keys @ positions.queries.swapaxes(-1, -2)  # [batch, heads, j, rows]
        terms.append(_pick(by_row, table.rows.T).swapaxes(-1, -2))
    first, *rest = (term.astype(mx.float32) for term in terms)
    return first + rest[0] if rest else first


def _pick(by_row: mx.array, rows: mx.array) -> mx.array:
    """Pick one table row per pair: out[b, h, x, y] = by_row[b, h, x, rows[x, y]]."""
    return mx.take_along_axis(by_row, rows[None, None], axis=-1)
