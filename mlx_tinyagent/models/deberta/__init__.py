"""DeBERTa-v2/v3 in MLX, with the values and the weights of transformers' model.

``load_classifier`` and ``load_encoder`` read a Hugging Face folder, ``pack``
makes its input, ``save_classifier`` writes the same layout back.
"""

from mlx_tinyagent.models.deberta.activations import gelu
from mlx_tinyagent.models.deberta.config import DebertaConfig
from mlx_tinyagent.models.deberta.encoder import DebertaModel, Encoder, key_bias
from mlx_tinyagent.models.deberta.heads import ContextPooler, DebertaClassifier
from mlx_tinyagent.models.deberta.inputs import Batch, pack
from mlx_tinyagent.models.deberta.positions import (
    PositionTable,
    position_table,
    relative_buckets,
)
from mlx_tinyagent.models.deberta.weights import (
    load_classifier,
    load_encoder,
    new_classifier,
    quantizable,
    save_classifier,
)

__all__ = [
    "Batch",
    "ContextPooler",
    "DebertaClassifier",
    "DebertaConfig",
    "DebertaModel",
    "Encoder",
    "PositionTable",
    "gelu",
    "key_bias",
    "load_classifier",
    "load_encoder",
    "new_classifier",
    "pack",
    "position_table",
    "quantizable",
    "relative_buckets",
    "save_classifier",
]
