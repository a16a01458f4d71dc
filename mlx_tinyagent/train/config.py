"""What a training run is: one frozen record, checked once, kept beside the result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from mlx_tinyagent.errors import ConfigError

if TYPE_CHECKING:
    from mlx_tinyagent.decode.tiers import TierName

Attention = Literal["after_blocks", "through_blocks", "full"]
Active = Literal["after_blocks", "all"]
FineTune = Literal["lora", "dora"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that decides what a run computes.

    Attributes:
        model: Alias, Hub id or folder of the base model.
        tools: Name or file of the tool declarations.
        attention: ``after_blocks``: header and tool blocks are the frozen base
            model's, the adapter acts on what follows them. ``through_blocks``: the
            adapter acts on header and blocks as well, computed once per update for
            all its examples. ``full``: it acts on the whole prompt, computed for
            every example.
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
        retrieved: Share of draws that offer what the package's retriever picks for the
            request, and what the plan needs.
        dates: Share of draws that give a row without a date one.
        eval_every: Updates between evaluations; 0 for none but the last.
        eval_rows: Most validation rows.
        save_every: Updates between checkpoints.
        patience: Evaluations without a better result that end the run; 0 for never.
        start: Fingerprint of the adapter that the run starts from; empty for a fresh one.
        exact_share: Share of draws whose prompt is one sequence instead of blocks.
        mask_names: Share of draws whose tools have made-up names.
        grad_checkpoint: Compute activations twice instead of keeping them.
        eval_plans: Validation rows that are planned at each evaluation; the best
            adapter is then the one that plans most of them right.
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
    retrieved: float = 0.0
    dates: float = 0.5
    eval_every: int = 200
    eval_rows: int = 64
    save_every: int = 50
    patience: int = 0
    start: str = ""
    exact_share: float = 0.0
    mask_names: float = 0.0
    grad_checkpoint: bool = False
    eval_plans: int = 0

    def __post_init__(self) -> None:
        for name, low in _AT_LEAST.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least {low}")
        for name in _SHARES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be from 0 to 1")
        for name in ("learning_rate", "scale"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.attention not in get_args(Attention):
            known = ", ".join(get_args(Attention))
            raise ConfigError(f"attention is {self.attention!r}; it is one of {known}")
        if self.fine_tune_type not in get_args(FineTune):
            raise ConfigError(f"fine_tune_type is {self.fine_tune_type!r}; it is lora or dora")
        if self.eval_plans > self.eval_rows:
            raise ConfigError(
                f"eval_plans is {self.eval_plans}; the validation rows are eval_rows, "
                f"{self.eval_rows}, at most"
            )

    @property
    def active(self) -> Active:
        """Where the adapter acts when it serves."""
        return "after_blocks" if self.attention == "after_blocks" else "all"

    @property
    def tier(self) -> TierName:
        """How the prompt before the tail is served to the adapter."""
        return "exact" if self.attention == "full" else "blocks"

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data.

        Settings that came later are left out at their defaults, so that the
        digests and checkpoints of runs from before them stay what they are.
        """
        values = {**dataclasses.asdict(self), "keys": list(self.keys)}
        return {
            name: value
            for name, value in values.items()
            if name not in _LATER or value != getattr(_DEFAULT, name)
        }

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


_SHARES = (
    "dropout",
    "all_tools",
    "retrieved",
    "dates",
    "final_rate",
    "exact_share",
    "mask_names",
)
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
    "eval_plans": 0,
}
_LATER = ("start", "exact_share", "mask_names", "grad_checkpoint", "eval_plans", "retrieved")
_DEFAULT = TrainConfig()
