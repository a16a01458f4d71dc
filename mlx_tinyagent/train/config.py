"""What a training run is: one frozen record, checked once, kept beside the result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from mlx_tinyagent.errors import ConfigError

Attention = Literal["after_blocks", "full"]
Active = Literal["after_blocks", "all"]
FineTune = Literal["lora", "dora"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that decides what a run computes.

    Attributes:
        model: Alias, Hub id or folder of the base model.
        tools: Name or file of the tool declarations.
        attention: ``after_blocks``: header and tool blocks are the frozen base
            model's, the adapter acts on what follows them. ``full``: the adapter
            acts on the whole prompt, computed for every example.
        fine_tune_type: ``lora`` or ``dora``.
        rank: Rank of the adapter's matrices.
        scale: Factor of the adapter's output (alpha / rank).
        dropout: Share of the adapter's inputs left out in training.
        layers: Layers with an adapter, from the last; 0 for all.
        keys: Names of the linear layers inside a layer; empty for all.
        iters: Updates.
        batch: Examples per update.
        rows: Examples per forward pass; the rest of a batch is accumulated.
        learning_rate: Peak learning rate.
        final_rate: Share of the peak that the cosine ends at.
        warmup: Updates until the peak.
        weight_decay: AdamW's.
        clip: Largest norm of a gradient; 0 for no limit.
        seed: Decides the initial weights, order, drawn tools and dropout.
        distractors: Most tools drawn beside those that a plan needs.
        all_tools: Share of draws that offer every tool.
        dates: Share of draws that give a row without a date one.
        eval_every: Updates between evaluations; 0 for none but the last.
        eval_rows: Most validation rows.
        save_every: Updates between checkpoints.
        patience: Evaluations without a better loss that end the run; 0 for never.
    """

    model: str = "smollm2-135m"
    tools: str = "tinyagent16"
    attention: Attention = "after_blocks"
    fine_tune_type: FineTune = "lora"
    rank: int = 16
    scale: float = 4.0
    dropout: float = 0.0
    layers: int = 0
    keys: tuple[str, ...] = ()
    iters: int = 1000
    batch: int = 8
    rows: int = 1
    learning_rate: float = 4e-4
    final_rate: float = 0.05
    warmup: int = 50
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
    distractors: int = 4
    all_tools: float = 0.1
    dates: float = 0.5
    eval_every: int = 200
    eval_rows: int = 64
    save_every: int = 50
    patience: int = 0

    def __post_init__(self) -> None:
        for name, low in _AT_LEAST.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least {low}")
        for name in ("dropout", "all_tools", "dates", "final_rate"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        for name in ("learning_rate", "scale"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.attention not in get_args(Attention):
            raise ConfigError(f"attention is {self.attention!r}; it is after_blocks or full")
        if self.fine_tune_type not in get_args(FineTune):
            raise ConfigError(f"fine_tune_type is {self.fine_tune_type!r}; it is lora or dora")

    @property
    def active(self) -> Active:
        """Where the adapter acts when it serves."""
        return "all" if self.attention == "full" else "after_blocks"

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**dataclasses.asdict(self), "keys": list(self.keys)}

    @property
    def digest(self) -> str:
        """sha256 of the configuration."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any], *, where: str = "the configuration"
    ) -> TrainConfig:
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
            kinds = (int, float) if kind is float else (list, tuple) if kind is tuple else (kind,)
            if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
                raise ConfigError(f"{where}: {key} is {value!r}; expected {kind.__name__}")
        made = dict(values)
        if "keys" in made:
            made["keys"] = tuple(made["keys"])
        return cls(**made)

    def rate(self, step: int) -> float:
        """Return the learning rate of an update, counted from 0: warm-up, then cosine."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, self.iters - self.warmup))
        low = self.learning_rate * self.final_rate
        return low + (self.learning_rate - low) * 0.5 * (1.0 + math.cos(math.pi * done))


_AT_LEAST = {
    "rank": 1,
    "layers": 0,
    "iters": 1,
    "batch": 1,
    "rows": 1,
    "warmup": 0,
    "weight_decay": 0,
    "clip": 0,
    "seed": 0,
    "distractors": 0,
    "eval_every": 0,
    "eval_rows": 0,
    "save_every": 1,
    "patience": 0,
}
