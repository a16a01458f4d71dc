"""Classification over fixed labels: pooled first token, then one linear layer."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models.deberta.activations import activation
from mlx_tinyagent.models.deberta.config import DebertaConfig
from mlx_tinyagent.models.deberta.encoder import DebertaModel


class ContextPooler(nn.Module):
    """Dense layer and activation over the state of the first token.

    Args:
        config: Width, activation and dropout.
    """

    def __init__(self, config: DebertaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.pooler_dropout)
        self.act = activation(config.pooler_hidden_act)

    def __call__(self, states: mx.array) -> mx.array:
        """Map hidden states [batch, tokens, hidden] to [batch, hidden]."""
        return self.act(self.dense(self.dropout(states[:, 0])))


class DebertaClassifier(nn.Module):
    """Encoder, pooler and one logit per label; weights of ``DebertaV2ForSequenceClassification``.

    Labels are independent: the probability of each is the sigmoid of its logit.

    Args:
        config: Shape of the model, with at least one label.

    Raises:
        ModelError: The configuration names no labels.
    """

    def __init__(self, config: DebertaConfig) -> None:
        super().__init__()
        if not config.labels:
            raise ModelError("a classifier needs at least one label; the configuration has none")
        drop = config.hidden_dropout_prob if config.cls_dropout is None else config.cls_dropout
        self.deberta = DebertaModel(config)
        self.pooler = ContextPooler(config)
        self.dropout = nn.Dropout(drop)
        self.classifier = nn.Linear(config.hidden_size, len(config.labels))
        self.config = config

    def __call__(
        self,
        input_ids: mx.array,
        attention_mask: mx.array | None = None,
        token_type_ids: mx.array | None = None,
    ) -> mx.array:
        """Return logits, [batch, labels]; arguments as in ``DebertaModel``."""
        return self.head(self.deberta(input_ids, attention_mask, token_type_ids))

    def head(self, states: mx.array) -> mx.array:
        """Return logits, [batch, labels], of hidden states [batch, tokens, hidden]."""
        return self.classifier(self.dropout(self.pooler(states)))

    def cache_positions(self) -> None:
        """Project relative positions once; see ``Encoder.cache_positions``."""
        self.deberta.cache_positions()
