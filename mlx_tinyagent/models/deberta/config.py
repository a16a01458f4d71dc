"""What a DeBERTa-v2/v3 ``config.json`` says, with every default made explicit.

Knows no arrays. Field names are Hugging Face's, so a folder written here opens
in transformers and the other way round.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models.folder import read_json

Activation = Literal["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "tanh"]
"""The activations that exist here; ``gelu`` is the exact one, with erf."""

ACTIVATIONS: tuple[str, ...] = get_args(Activation)
POSITION_TERMS = ("c2p", "p2c")
MODEL_TYPE = "deberta-v2"  # v3 checkpoints carry it too
ARCHITECTURE = "DebertaV2ForSequenceClassification"


@dataclass(frozen=True, slots=True, kw_only=True)
class DebertaConfig:
    """Shape and behavior of one encoder and its classification head.

    The defaults are those of transformers' ``DebertaV2Config``, which describe
    v2-xlarge without relative attention; fields that class does not declare
    have the value its modeling code falls back to. A v3 checkpoint states what
    differs in its ``config.json``.

    Attributes:
        vocab_size: Rows of the word embedding.
        hidden_size: Width of the residual stream; a multiple of the heads.
        num_hidden_layers: Transformer blocks.
        num_attention_heads: Heads per block.
        intermediate_size: Width of the feed-forward layer.
        hidden_act: Activation of the feed-forward layer.
        hidden_dropout_prob: Dropout of embeddings, both dense outputs, the
            convolution and the relative embeddings.
        attention_probs_dropout_prob: Dropout of attention probabilities.
        max_position_embeddings: Absolute positions, in tokens; also the
            relative span where ``max_relative_positions`` is below 1.
        type_vocab_size: Rows of the token-type embedding; 0 for none.
        layer_norm_eps: Epsilon of every layer normalization.
        relative_attention: Whether scores get position terms.
        max_relative_positions: Distance, in tokens, that the table covers.
        position_buckets: Log buckets per direction; below 1 for raw distances.
        pos_att_type: Position terms of the score, of ``c2p`` and ``p2c``. They
            count in the scale of the scores even without relative attention.
        share_att_key: Whether positions use the content projections.
        norm_rel_ebd: ``layer_norm`` or ``none``, joined by ``|``.
        position_biased_input: Whether absolute positions join the input.
        embedding_size: Width of the embeddings; None for ``hidden_size``.
        conv_kernel_size: Taps of the convolution after the first block; 0 for none.
        conv_groups: Groups of that convolution.
        conv_act: Its activation.
        pad_token_id: Token that fills short rows.
        pooler_dropout: Dropout before the pooler's dense layer.
        pooler_hidden_act: Activation of the pooler.
        cls_dropout: Dropout before the classifier; None for ``hidden_dropout_prob``.
        initializer_range: Standard deviation of fresh weights.
        labels: Names of the classifier's outputs, in order.
    """

    vocab_size: int = 128_100
    hidden_size: int = 1536
    num_hidden_layers: int = 24
    num_attention_heads: int = 24
    intermediate_size: int = 6144
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 0
    layer_norm_eps: float = 1e-7
    relative_attention: bool = False
    max_relative_positions: int = -1
    position_buckets: int = -1
    pos_att_type: tuple[str, ...] = ()
    share_att_key: bool = False
    norm_rel_ebd: str = "none"
    position_biased_input: bool = True
    embedding_size: int | None = None
    conv_kernel_size: int = 0
    conv_groups: int = 1
    conv_act: str = "tanh"
    pad_token_id: int = 0
    pooler_dropout: float = 0.0
    pooler_hidden_act: str = "gelu"
    cls_dropout: float | None = None
    initializer_range: float = 0.02
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_types(self)
        _check_sizes(self)
        _check_choices(self)
        if self.relative_attention:
            _check_buckets(self)

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def embedding_width(self) -> int:
        """Width of the word embedding before any projection."""
        return self.hidden_size if self.embedding_size is None else self.embedding_size

    @property
    def relative_limit(self) -> int:
        """Distance, in tokens, from which on all positions look alike."""
        return (
            self.max_position_embeddings
            if self.max_relative_positions < 1
            else self.max_relative_positions
        )

    @property
    def span(self) -> int:
        """Relative positions per direction; the table has twice as many rows."""
        return self.position_buckets if self.position_buckets > 0 else self.relative_limit

    @property
    def position_terms(self) -> tuple[str, ...]:
        """Position terms that are added to the scores."""
        return self.pos_att_type if self.relative_attention else ()

    @property
    def score_scale(self) -> float:
        """Factor on the sum of the score's terms."""
        return 1.0 / math.sqrt(self.head_dim * (1 + len(self.pos_att_type)))

    @property
    def normalizes_positions(self) -> bool:
        """Whether relative embeddings pass through a layer normalization."""
        return "layer_norm" in [part.strip() for part in self.norm_rel_ebd.lower().split("|")]

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], *, where: str = "config") -> DebertaConfig:
        """Read the fields of a Hugging Face ``config.json``.

        Keys that do not change the computation are ignored.

        Args:
            raw: The parsed file.
            where: Name of the source, for messages.

        Raises:
            ModelError: Another model type, a value of the wrong kind, or a
                setting that is not implemented.
        """
        found = raw.get("model_type", MODEL_TYPE)
        if found != MODEL_TYPE:
            raise ModelError(f"{where}: model_type is {found!r}; only {MODEL_TYPE!r} can be loaded")
        fields = {field.name for field in dataclasses.fields(cls)} - {"labels"}
        given = {name: value for name, value in raw.items() if name in fields}
        if given.get("pad_token_id", 0) is None:
            del given["pad_token_id"]
        try:
            given["pos_att_type"] = _position_terms(raw.get("pos_att_type"))
            config = cls(**given, labels=_labels(raw))
            _check_undeclared(config, raw)
        except ModelError as error:
            raise ModelError(f"{where}: {error}") from error
        return config

    @classmethod
    def read(cls, path: Path) -> DebertaConfig:
        """Read ``config.json``.

        Args:
            path: The file.

        Raises:
            ModelError: The file is missing, is no JSON object, or
                ``from_dict`` refuses it.
        """
        raw = read_json(path)
        return cls.from_dict(raw, where=str(path))

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``config.json``, in a stable order."""
        body = dataclasses.asdict(self)
        labels = body.pop("labels")
        body["pos_att_type"] = list(self.pos_att_type)
        for optional in ("embedding_size", "cls_dropout"):
            if body[optional] is None:
                del body[optional]
        return {
            "architectures": [ARCHITECTURE],
            "model_type": MODEL_TYPE,
            **body,
            "pooler_hidden_size": self.hidden_size,
            "problem_type": "multi_label_classification",
            "id2label": {str(index): label for index, label in enumerate(labels)},
            "label2id": {label: index for index, label in enumerate(labels)},
        }


def _position_terms(value: object) -> tuple[str, ...]:
    """Return ``"p2c|c2p"``, a list or None as terms, in a fixed order."""
    if value is None:
        return ()
    if isinstance(value, str):
        value = [part.strip() for part in value.lower().split("|")]
    if not isinstance(value, list) or not all(isinstance(term, str) for term in value):
        raise ModelError(f"pos_att_type is {value!r}; a list of {POSITION_TERMS} is expected")
    unknown = [term for term in value if term and term not in POSITION_TERMS]
    if unknown:
        raise ModelError(f"pos_att_type holds {unknown[0]!r}; only {POSITION_TERMS} exist here")
    return tuple(term for term in POSITION_TERMS if term in value)


def _labels(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the classifier's labels from ``id2label``, in the order of their ids."""
    table = raw.get("id2label")
    if table is None:
        count = raw.get("num_labels", 2)
        if not isinstance(count, int) or count < 1:
            raise ModelError(f"num_labels is {count!r}; a number from 1 on is expected")
        return tuple(f"LABEL_{index}" for index in range(count))
    if not isinstance(table, Mapping):
        raise ModelError(f"id2label is a {type(table).__name__}; an object is expected")
    try:
        by_id = {int(key): str(label) for key, label in table.items()}
    except ValueError as error:
        raise ModelError(f"id2label has a key that is no number: {error}") from error
    if sorted(by_id) != list(range(len(by_id))):
        raise ModelError(f"id2label has the ids {sorted(by_id)[:20]}; 0 to n-1 are expected")
    return tuple(by_id[index] for index in range(len(by_id)))


_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "tuple[str, ...]": (tuple,),
    "int | None": (int, type(None)),
    "float | None": (int, float, type(None)),
}


def _check_types(config: DebertaConfig) -> None:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        expected = _KINDS[str(field.type)]
        misread_bool = isinstance(value, bool) and bool not in expected
        if not isinstance(value, expected) or misread_bool:
            raise ModelError(f"{field.name} is {value!r}; {field.type} is expected")


def _check_sizes(config: DebertaConfig) -> None:
    positive = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
        "embedding_width",
        "conv_groups",
    )
    for name in positive:
        if getattr(config, name) < 1:
            raise ModelError(f"{name} is {getattr(config, name)}; at least 1 is needed")
    for name in ("type_vocab_size", "conv_kernel_size"):
        if getattr(config, name) < 0:
            raise ModelError(f"{name} is {getattr(config, name)}; 0 or more is needed")
    if config.hidden_size % config.num_attention_heads:
        raise ModelError(
            f"hidden_size {config.hidden_size} is no multiple of "
            f"num_attention_heads {config.num_attention_heads}"
        )
    if config.conv_kernel_size and config.conv_kernel_size % 2 == 0:
        raise ModelError(
            f"conv_kernel_size is {config.conv_kernel_size}; an even one changes the length"
        )
    if config.hidden_size % config.conv_groups:
        raise ModelError(
            f"hidden_size {config.hidden_size} is no multiple of conv_groups {config.conv_groups}"
        )
    if not 0 <= config.pad_token_id < config.vocab_size:
        raise ModelError(
            f"pad_token_id is {config.pad_token_id}; 0 to {config.vocab_size - 1} are tokens"
        )


def _check_choices(config: DebertaConfig) -> None:
    for name in ("hidden_act", "conv_act", "pooler_hidden_act"):
        if getattr(config, name) not in ACTIVATIONS:
            raise ModelError(
                f"{name} is {getattr(config, name)!r}; implemented are {', '.join(ACTIVATIONS)}"
            )
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "pooler_dropout"):
        if not 0 <= getattr(config, name) < 1:
            raise ModelError(f"{name} is {getattr(config, name)}; 0 <= p < 1 is needed")
    if config.cls_dropout is not None and not 0 <= config.cls_dropout < 1:
        raise ModelError(f"cls_dropout is {config.cls_dropout}; 0 <= p < 1 is needed")
    if len(set(config.labels)) != len(config.labels):
        raise ModelError(f"labels repeat: {sorted(config.labels)[:20]}")


def _check_buckets(config: DebertaConfig) -> None:
    """Refuse tables whose logarithm has no meaning."""
    if config.position_buckets < 1:
        return
    middle = config.position_buckets // 2
    if middle < 1 or config.relative_limit - 1 <= middle:
        raise ModelError(
            f"position_buckets {config.position_buckets} does not fit a relative limit of "
            f"{config.relative_limit} tokens: buckets >= 2 and buckets // 2 < limit - 1 are needed"
        )


def _check_undeclared(config: DebertaConfig, raw: Mapping[str, Any]) -> None:
    """Refuse widths that transformers reads but whose model does not run."""
    for name, only in (
        ("attention_head_size", config.head_dim),
        ("pooler_hidden_size", config.hidden_size),
    ):
        if raw.get(name, only) != only:
            raise ModelError(f"{name} is {raw[name]!r}; only {only} is implemented")
