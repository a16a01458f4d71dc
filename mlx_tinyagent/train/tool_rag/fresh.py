"""What a run starts from: a small fresh encoder with its own vocabulary, or a checkpoint."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_tinyagent.errors import ConfigError

if TYPE_CHECKING:
    from mlx_tinyagent.models.deberta.config import DebertaConfig
    from mlx_tinyagent.models.deberta.tool_heads import ToolClassifier
    from mlx_tinyagent.models.language import LanguageModel
    from mlx_tinyagent.models.unigram import UnigramTokenizer
    from mlx_tinyagent.train.tool_rag.config import ToolRagConfig


def small_config(config: ToolRagConfig, vocabulary: int, labels: Sequence[str]) -> DebertaConfig:
    """Return the shape of a fresh encoder.

    Args:
        config: Width, depth and dropout.
        vocabulary: Number of pieces.
        labels: Tool names.
    """
    from mlx_tinyagent.models.deberta.config import DebertaConfig

    return DebertaConfig(
        vocab_size=vocabulary,
        hidden_size=config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=4 * config.hidden,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=0.0,  # the fused attention has none
        max_position_embeddings=max(config.max_length, 2 * config.buckets),
        position_buckets=config.buckets,
        relative_attention=True,
        pos_att_type=("c2p", "p2c"),
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        position_biased_input=False,
        labels=tuple(labels),
    )


def new_tool_classifier(
    config: ToolRagConfig,
    tokenizer: UnigramTokenizer,
    labels: Sequence[str],
    priors: Sequence[float],
    *,
    language: LanguageModel | None = None,
) -> ToolClassifier:
    """Return the classifier that a run starts from.

    Args:
        config: The run's settings.
        tokenizer: The tokenizer.
        labels: Tool names in label order.
        priors: How often each tool is needed; the first outputs.
        language: Where the first embeddings come from; None for random ones.

    Raises:
        ModelError: The base checkpoint is damaged or foreign.
    """
    import mlx.core as mx

    from mlx_tinyagent.models.deberta.tool_heads import (
        LabelHeads,
        ToolClassifier,
        load_tool_classifier,
    )
    from mlx_tinyagent.models.deberta.weights import new_classifier
    from mlx_tinyagent.train.tool_rag.pieces import piece_embeddings

    if config.base:
        found = load_tool_classifier(Path(config.base).expanduser(), labels=labels)
        heads = found.heads or LabelHeads(len(labels), found.base.config.hidden_size)
        return ToolClassifier(found.base, heads)
    shape = small_config(config, tokenizer.vocab_size, labels)
    mx.random.seed(config.seed)
    base = new_classifier(shape, seed=config.seed)
    base.classifier.bias = mx.array([math.log(p / (1 - p)) for p in priors])
    if language is not None:
        table = piece_embeddings(language, tokenizer, config.hidden)
        base.deberta.embeddings.word_embeddings.weight = mx.array(table)
    heads = LabelHeads(len(labels), config.hidden)
    heads.queries = mx.random.normal(heads.queries.shape, scale=0.02)
    heads.outputs = mx.random.normal(heads.outputs.shape, scale=0.02)
    return ToolClassifier(base, heads)


def make_tokenizer(config: ToolRagConfig, texts: Sequence[str]) -> UnigramTokenizer:
    """Return the base's tokenizer, or learn a vocabulary from the training texts.

    Raises:
        ModelError: The base has no readable tokenizer.
        InputError: The texts hold too little to learn from.
    """
    from mlx_tinyagent.models.unigram import UnigramTokenizer

    if config.base:
        return UnigramTokenizer.load(Path(config.base).expanduser())
    return UnigramTokenizer.train(texts, vocab_size=config.vocabulary)


def base_identity(config: ToolRagConfig, tokenizer: UnigramTokenizer) -> str:
    """Return a fingerprint of what a run starts from.

    Raises:
        ConfigError: The base folder does not exist.
    """
    from mlx_tinyagent.models.folder import fingerprint

    if not config.base:
        return hashlib.sha256(
            repr(tokenizer.pieces(range(tokenizer.vocab_size))).encode()
        ).hexdigest()
    folder = Path(config.base).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"the base folder {folder} does not exist")
    return fingerprint(folder)
