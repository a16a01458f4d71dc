"""The DeBERTa-v2/v3 encoder: embeddings, blocks and hidden states.

Knows nothing of heads: it returns hidden states, and its encoder takes any
bias and any position table, so that extra slots can be appended to a sequence.
Attribute names are those of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from mlx_tinyagent.errors import ContextError
from mlx_tinyagent.models.deberta.activations import activation
from mlx_tinyagent.models.deberta.attention import DisentangledSelfAttention, PositionProjections
from mlx_tinyagent.models.deberta.config import DebertaConfig
from mlx_tinyagent.models.deberta.positions import PositionTable, position_table

# Far below any score, yet finite: a row without any token then gives some
# number instead of NaN, which would spread to the gradients of the whole batch.
MASKED = -1e9


def key_bias(attention_mask: mx.array, *, dtype: mx.Dtype = mx.float32) -> mx.array:
    """Return the bias that hides padded keys.

    Rows of padding still attend, to the real keys; nobody reads them.

    Args:
        attention_mask: 1 for tokens and 0 for padding, [batch, tokens].
        dtype: Of the result.

    Returns:
        [batch, 1, 1, tokens].
    """
    return mx.where(attention_mask[:, None, None, :] > 0, 0.0, MASKED).astype(dtype)


class Embeddings(nn.Module):
    """Word (+ absolute position) (+ token type) embeddings, normalized and masked.

    Args:
        config: Shape and which parts exist.
    """

    def __init__(self, config: DebertaConfig) -> None:
        super().__init__()
        width = config.embedding_width
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        if config.position_biased_input:
            self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        if config.type_vocab_size > 0:
            self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        if width != config.hidden_size:
            self.embed_proj = nn.Linear(width, config.hidden_size, bias=False)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.config = config

    def __call__(
        self, input_ids: mx.array, attention_mask: mx.array | None, token_type_ids: mx.array | None
    ) -> mx.array:
        """Embed tokens.

        Args:
            input_ids: [batch, tokens].
            attention_mask: 1 for tokens, 0 for padding, [batch, tokens]; None for no padding.
            token_type_ids: [batch, tokens]; None for type 0 throughout.

        Returns:
            [batch, tokens, hidden]; zero at padding.

        Raises:
            ContextError: More tokens than absolute positions.
        """
        x = self.word_embeddings(input_ids)
        if self.config.position_biased_input:
            x = x + self._absolute_positions(input_ids.shape[1])
        if self.config.type_vocab_size > 0:
            kinds = mx.zeros_like(input_ids) if token_type_ids is None else token_type_ids
            x = x + self.token_type_embeddings(kinds)
        if self.config.embedding_width != self.config.hidden_size:
            x = self.embed_proj(x)
        x = self.LayerNorm(x)
        if attention_mask is not None:
            x = x * attention_mask[..., None].astype(x.dtype)
        return self.dropout(x)

    def _absolute_positions(self, length: int) -> mx.array:
        limit = self.config.max_position_embeddings
        if length > limit:
            raise ContextError(
                f"{length} tokens do not fit the model's {limit} absolute positions; truncate first"
            )
        return self.position_embeddings.weight[:length]


class ResidualOutput(nn.Module):
    """LayerNorm(dropout(dense(x)) + residual), which closes both halves of a block.

    Args:
        inputs: Width of what ``dense`` reads.
        config: Width of the result, epsilon and dropout.
    """

    def __init__(self, inputs: int, config: DebertaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def __call__(self, x: mx.array, residual: mx.array) -> mx.array:
        """Project ``x`` [..., inputs] and add it to ``residual`` [..., hidden]."""
        return self.LayerNorm(self.dropout(self.dense(x)) + residual)


class Attention(nn.Module):
    """Self-attention with its output projection.

    Args:
        config: Shape of the block.
    """

    def __init__(self, config: DebertaConfig) -> None:
        super().__init__()
        self.self = DisentangledSelfAttention(config)  # the name that checkpoints use
        self.output = ResidualOutput(config.hidden_size, config)

    def __call__(
        self,
        x: mx.array,
        bias: mx.array | None,
        positions: PositionProjections | None,
        table: PositionTable | None,
    ) -> mx.array:
        """Mix tokens; the arguments are those of ``DisentangledSelfAttention``."""
        return self.output(self.self(x, bias, positions, table), x)


class Intermediate(nn.Module):
    """Widening half of the feed-forward layer.

    Args:
        config: Widths and activation.
    """

    def __init__(self, config: DebertaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.act = activation(config.hidden_act)

    def __call__(self, x: mx.array) -> mx.array:
        """Map [..., hidden] to [..., intermediate]."""
        return self.act(self.dense(x))


class Layer(nn.Module):
    """One block: attention, then feed-forward, each closed by a layer normalization.

    Args:
        config: Shape of the block.
    """

    def __init__(self, config: DebertaConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Intermediate(config)
        self.output = ResidualOutput(config.intermediate_size, config)

    def __call__(
        self,
        x: mx.array,
        bias: mx.array | None,
        positions: PositionProjections | None,
        table: PositionTable | None,
    ) -> mx.array:
        """Map [batch, tokens, hidden] to the same; arguments as in ``Attention``."""
        mixed = self.attention(x, bias, positions, table)
        return self.output(self.intermediate(mixed), mixed)


class ConvLayer(nn.Module):
    """Convolution over tokens that v2-xlarge adds to its first block.

    Args:
        config: Kernel, groups, activation and dropout.
    """

    def __init__(self, config: DebertaConfig) -> None:
        super().__init__()
        width, kernel = config.hidden_size, config.conv_kernel_size
        self.conv = nn.Conv1d(
            width, width, kernel, padding=(kernel - 1) // 2, groups=config.conv_groups
        )
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.act = activation(config.conv_act)

    def __call__(
        self, embedded: mx.array, first: mx.array, attention_mask: mx.array | None
    ) -> mx.array:
        """Convolve the embeddings and add them to the first block's output.

        Args:
            embedded: Output of the embeddings, [batch, tokens, hidden].
            first: Output of the first block, same shape.
            attention_mask: 1 for tokens, 0 for padding, [batch, tokens]; None for no padding.
        """
        x = self.conv(embedded)
        if attention_mask is None:
            return self.LayerNorm(first + self.act(self.dropout(x)))
        keep = attention_mask[..., None].astype(x.dtype)
        return self.LayerNorm(first + self.act(self.dropout(x * keep))) * keep


@dataclass(frozen=True, slots=True)
class _PositionCache:
    """Projections of all blocks, with the weights that they were made from."""

    sources: tuple[mx.array, ...]
    layers: tuple[PositionProjections, ...]


class Encoder(nn.Module):
    """The blocks and what they share: relative embeddings and the convolution.

    Args:
        config: Shape of the encoder.
    """

    def __init__(self, config: DebertaConfig) -> None:
        super().__init__()
        self.layer = [Layer(config) for _ in range(config.num_hidden_layers)]
        if config.relative_attention:
            self.rel_embeddings = nn.Embedding(2 * config.span, config.hidden_size)
        if config.normalizes_positions:
            self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        if config.conv_kernel_size > 0:
            self.conv = ConvLayer(config)
        self.config = config
        self._cached: _PositionCache | None = None

    def __call__(
        self,
        x: mx.array,
        *,
        bias: mx.array | None = None,
        attention_mask: mx.array | None = None,
        table: PositionTable | None = None,
    ) -> list[mx.array]:
        """Run all blocks.

        Args:
            x: Embedded tokens, [batch, tokens, hidden].
            bias: Added to the scores, broadcastable to [batch, heads, tokens, tokens].
            attention_mask: Padding, for the convolution alone, [batch, tokens].
            table: Relative positions; None for those of a plain sequence.

        Returns:
            ``x`` and the output of every block, each [batch, tokens, hidden].
        """
        if not self.config.position_terms:
            table = None
        elif table is None:
            table = position_table(x.shape[1], self.config)
        states = [x]
        for index, (block, positions) in enumerate(
            zip(self.layer, self._positions(table), strict=True)
        ):
            output = block(states[-1], bias, positions, table)
            if index == 0 and self.config.conv_kernel_size > 0:
                output = self.conv(x, output, attention_mask)
            states.append(output)
        return states

    def cache_positions(self) -> None:
        """Project the relative embeddings once, for inference.

        The copies serve until a weight that they come from is replaced; then
        positions are projected per call again, until the next
        ``cache_positions``. Training never reads them.
        """
        if not self.config.position_terms:
            return
        embeddings = self._normalized(0, 2 * self.config.span)
        layers = tuple(block.attention.self.project_positions(embeddings) for block in self.layer)
        mx.eval([projections.arrays() for projections in layers])
        self._cached = _PositionCache(self._position_weights(), layers)

    def _positions(self, table: PositionTable | None) -> Iterator[PositionProjections | None]:
        """Yield each block's projections of the rows in use."""
        if table is None:
            yield from [None] * len(self.layer)
        elif (cache := self._fresh_cache()) is not None:
            yield from (layer.slice(table) for layer in cache.layers)
        else:
            embeddings = self._normalized(table.start, table.stop)
            for block in self.layer:
                yield block.attention.self.project_positions(embeddings)

    def _normalized(self, start: int, stop: int) -> mx.array:
        """Return rows of the relative embeddings as the blocks read them."""
        rows = self.rel_embeddings.weight[start:stop]
        return self.LayerNorm(rows) if self.config.normalizes_positions else rows

    def _fresh_cache(self) -> _PositionCache | None:
        """Return the cache if it exists and every weight is still the one it saw."""
        cache = self._cached
        if cache is None or self.training:
            return None
        weights = self._position_weights()
        same = all(old is new for old, new in zip(cache.sources, weights, strict=True))
        return cache if same else None

    def _position_weights(self) -> tuple[mx.array, ...]:
        """Return the weights that projected positions depend on."""
        modules: list[nn.Module] = [self.rel_embeddings]
        if self.config.normalizes_positions:
            modules.append(self.LayerNorm)
        names = (
            ("key_proj", "query_proj")
            if self.config.share_att_key
            else ("pos_key_proj", "pos_query_proj")
        )
        for block in self.layer:
            attention = block.attention.self
            modules.extend(attention[name] for name in names if name in attention)
        return tuple(value for module in modules for value in module.values())


class DebertaModel(nn.Module):
    """Tokens in, hidden states out.

    Args:
        config: Shape of the model.
    """

    def __init__(self, config: DebertaConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.config = config

    def __call__(
        self,
        input_ids: mx.array,
        attention_mask: mx.array | None = None,
        token_type_ids: mx.array | None = None,
    ) -> mx.array:
        """Return the last hidden states, [batch, tokens, hidden].

        Args:
            input_ids: [batch, tokens].
            attention_mask: 1 for tokens, 0 for padding, [batch, tokens]; None
                for no padding. States at padding mean nothing.
            token_type_ids: [batch, tokens]; None for type 0 throughout.
        """
        return self.hidden_states(input_ids, attention_mask, token_type_ids)[-1]

    def hidden_states(
        self,
        input_ids: mx.array,
        attention_mask: mx.array | None = None,
        token_type_ids: mx.array | None = None,
    ) -> list[mx.array]:
        """Return the embeddings and every block's output; arguments as in the call."""
        x = self.embeddings(input_ids, attention_mask, token_type_ids)
        bias = None if attention_mask is None else key_bias(attention_mask, dtype=x.dtype)
        return self.encoder(x, bias=bias, attention_mask=attention_mask)

    def cache_positions(self) -> None:
        """Project relative positions once; see ``Encoder.cache_positions``."""
        self.encoder.cache_positions()
