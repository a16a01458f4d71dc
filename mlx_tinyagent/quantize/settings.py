"""What a quantization is: one frozen record, checked once, kept in the report."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from mlx_tinyagent.errors import UsageError
from mlx_tinyagent.quantize.packing import AFFINE_BITS, FLOATS, Format, Mode

Recipe = Literal["mixed", "uniform"]
Method = Literal["gptq", "round"]
GROUPS = (32, 64, 128)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeConfig:
    """Everything that decides the result.

    Attributes:
        bits: Bits per weight, scales not counted; between two widths a mean.
        group_size: Weights that share a scale; 0 for what the mode has.
        mode: MLX's name of the number format.
        recipe: ``mixed``: matrices get bits by what they cost, measured on plans.
            ``uniform``: all the same.
        method: ``gptq``: rounding calibrated on plans; ``round``: to the nearest.
        rows: Rows that calibrate.
        sensitivity_rows: Rows that the recipe is measured on; their gradients cost most.
        gate_rows: Rows that judge, none of which calibrates.
        max_kl: Largest upper 95 % bound of the mean KL, nats per plan token.
        max_drop: Points that a share of right plans may fall: the lower 95 % bound of
            the paired difference must stay above minus this.
        distill: Updates that tune scales and biases after rounding; 0 for none.
        rate: Learning rate of these, in shares of a group's scale.
        seed: Decides drawn tokens, made-up rows and intervals.
    """

    bits: float = 4
    group_size: int = 0
    mode: Mode = "affine"
    recipe: Recipe = "mixed"
    method: Method = "gptq"
    rows: int = 32
    sensitivity_rows: int = 8
    gate_rows: int = 40
    max_kl: float = 0.05
    max_drop: float = 1.5
    distill: int = 0
    rate: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise UsageError(
                f"no number format is called {self.mode!r}; there are {', '.join(get_args(Mode))}"
            )
        for name, kinds in (("recipe", Recipe), ("method", Method)):
            if getattr(self, name) not in get_args(kinds):
                raise UsageError(
                    f"no {name} is called {getattr(self, name)!r}; there are "
                    f"{', '.join(get_args(kinds))}"
                )
        if self.mode == "affine":
            self._check_affine()
        else:
            self._check_float()
        for name in ("rows", "sensitivity_rows", "gate_rows"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.distill < 0:
            raise UsageError(f"distill is {self.distill}; it is a number of updates, or 0")
        for name in ("max_kl", "max_drop", "rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be above 0")

    def _check_affine(self) -> None:
        low, high = AFFINE_BITS[0], AFFINE_BITS[-1]
        if not low <= self.bits <= high:
            raise UsageError(f"{self.bits:g} bits; affine numbers have {low} to {high}")
        if self.recipe == "uniform" and self.bits not in AFFINE_BITS:
            raise UsageError(
                f"{self.bits:g} bits for every matrix; MLX has {', '.join(map(str, AFFINE_BITS))}, "
                "means between them need --recipe mixed"
            )
        if self.group_size and self.group_size not in GROUPS:
            raise UsageError(f"groups of {self.group_size}; MLX has {', '.join(map(str, GROUPS))}")

    def _check_float(self) -> None:
        if self.distill:
            raise UsageError(f"{self.mode} has no scales that could be tuned; affine has")
        group, bits = FLOATS[self.mode]
        if self.bits != bits or self.group_size not in (0, group):
            raise UsageError(
                f"{self.mode} has {bits} bits in groups of {group}, not {self.bits:g} in groups of "
                f"{self.group_size or group}"
            )

    @property
    def group(self) -> int:
        """Weights that share a scale."""
        if self.mode != "affine":
            return FLOATS[self.mode][0]
        return self.group_size or 64

    @property
    def mixes(self) -> bool:
        """Whether matrices get different bits."""
        return self.mode == "affine" and self.recipe == "mixed"

    @property
    def calibrates(self) -> bool:
        """Whether rounding looks at data."""
        return self.mode == "affine" and self.method == "gptq"

    def formats(self) -> list[Format]:
        """Return the formats on offer, by rising bits."""
        if self.mode != "affine":
            return [Format(bits=int(self.bits), group_size=self.group, mode=self.mode)]
        widths = AFFINE_BITS if self.mixes else (int(self.bits),)
        return [Format(bits=bits, group_size=self.group) for bits in widths]

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return dataclasses.asdict(self)
