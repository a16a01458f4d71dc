"""What a run that trains a tool classifier is: one frozen record, checked once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlx_tinyagent.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRagConfig:
    """Everything that decides what a run computes.

    Attributes:
        base: Folder of a DeBERTa-v2/v3 encoder to start from; empty for a small
            one of this shape with fresh weights and a vocabulary of its own.
        tools: Name or file of the tool declarations; their order is the label order.
        vocabulary: Pieces of a fresh vocabulary.
        hidden: Width of a fresh encoder.
        layers: Its blocks.
        heads: Its attention heads.
        buckets: Its relative-position buckets per direction.
        embeddings: Alias or folder of a language model whose token embeddings
            the fresh vocabulary starts from; empty for random ones.
        max_length: Tokens of a request at most; the end is cut.
        iters: Updates.
        batch: Requests per update.
        learning_rate: Peak learning rate.
        final_rate: Share of the peak that the cosine ends at.
        warmup: Updates until the peak.
        weight_decay: AdamW's.
        clip: Largest norm of a gradient; 0 for no limit.
        dropout: Of hidden states.
        unknown: Share of tokens read as unknown while training.
        hinge: Weight of the loss on the lowest needed score, which calibration uses.
        any_weight: Weight of the loss on "any tool".
        ngrams: Source whose long training rows an n-gram model is fitted on, to be
            mixed in for long requests; empty for none.
        seed: Decides weights, order and dropout.
        eval_every: Updates between evaluations; 0 for none but the last.
        eval_rows: Most validation rows.
        save_every: Updates between checkpoints.
        patience: Evaluations without a better loss that end the run; 0 for never.
    """

    base: str = ""
    tools: str = "tinyagent16"
    vocabulary: int = 6000
    hidden: int = 192
    layers: int = 4
    heads: int = 6
    buckets: int = 32
    embeddings: str = ""
    max_length: int = 128
    iters: int = 3000
    batch: int = 32
    learning_rate: float = 1e-3
    final_rate: float = 0.02
    warmup: int = 150
    weight_decay: float = 0.01
    clip: float = 1.0
    dropout: float = 0.1
    unknown: float = 0.03
    hinge: float = 0.3
    any_weight: float = 0.5
    ngrams: str = ""
    seed: int = 0
    eval_every: int = 250
    eval_rows: int = 1500
    save_every: int = 100
    patience: int = 0

    def __post_init__(self) -> None:
        for name, low in _AT_LEAST.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least {low}")
        for name in ("dropout", "unknown", "final_rate"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be from 0 to below 1")
        if not 0.0 < self.learning_rate < math.inf:
            raise ConfigError(f"learning_rate is {self.learning_rate}; it must be above 0")
        if self.hidden % self.heads:
            raise ConfigError(
                f"hidden is {self.hidden}; it must be a multiple of heads {self.heads}"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return dataclasses.asdict(self)

    @property
    def digest(self) -> str:
        """sha256 of the configuration."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any], *, where: str = "the configuration"
    ) -> ToolRagConfig:
        """Read it from plain data.

        Raises:
            ConfigError: A key is unknown, or a value is of another type or out of range.
        """
        known = {field.name: field for field in dataclasses.fields(cls)}
        for key, value in values.items():
            if key not in known:
                raise ConfigError(
                    f"{where} has the unknown key {key!r}; it may have {', '.join(known)}"
                )
            kind = type(known[key].default)
            kinds = (int, float) if kind is float else (kind,)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise ConfigError(f"{where}: {key} is {value!r}; expected {kind.__name__}")
        return cls(**values)

    def rate(self, step: int) -> float:
        """Return the learning rate of an update, counted from 0: warm-up, then cosine."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, self.iters - self.warmup))
        low = self.learning_rate * self.final_rate
        return low + (self.learning_rate - low) * 0.5 * (1.0 + math.cos(math.pi * done))


_AT_LEAST = {
    "vocabulary": 200,
    "hidden": 8,
    "layers": 1,
    "heads": 1,
    "buckets": 2,
    "max_length": 8,
    "iters": 1,
    "batch": 1,
    "warmup": 0,
    "weight_decay": 0,
    "clip": 0,
    "hinge": 0,
    "any_weight": 0,
    "seed": 0,
    "eval_every": 0,
    "eval_rows": 0,
    "save_every": 1,
    "patience": 0,
}
