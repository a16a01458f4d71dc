"""Numbers in few bits: choosing scales, rounding, and MLX's packed layout.

MLX reads ``scale * q + bias`` per group of a row, q unsigned; here q is found
with NumPy so that a calibrated rounding can choose it, and packed as MLX does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import mlx.core as mx
    from numpy.typing import NDArray


Mode = Literal["affine", "mxfp4", "nvfp4", "mxfp8"]
AFFINE_BITS = (2, 3, 4, 5, 6, 8)
# per floating-point mode: group size and bits, which MLX fixes
FLOATS: dict[str, tuple[int, int]] = {"mxfp4": (32, 4), "nvfp4": (16, 4), "mxfp8": (32, 8)}
_SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.72)
_CHUNK = 4_000_000  # weights whose candidates are in memory together


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How one matrix is stored.

    Attributes:
        bits: Bits of a number.
        group_size: Numbers that share a scale.
        mode: MLX's name of the number format.
    """

    bits: int
    group_size: int
    mode: Mode = "affine"

    @property
    def cost(self) -> float:
        """Bits per weight on disk, scales included."""
        return self.bits + self.overhead

    @property
    def overhead(self) -> float:
        """Bits per weight that scales take: two of 16 bits per group, or one of 8."""
        return (32 if self.mode == "affine" else 8) / self.group_size

    def as_dict(self) -> dict[str, Any]:
        """Return it as ``config.json`` has it."""
        return {"group_size": self.group_size, "bits": self.bits, "mode": self.mode}


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Scales and biases of a matrix's groups, as they are stored.

    Attributes:
        scales: float16 [rows, groups].
        biases: float16 [rows, groups].
        bits: Bits of a number.
        group_size: Numbers per group.
    """

    scales: NDArray[np.float16]
    biases: NDArray[np.float16]
    bits: int
    group_size: int

    def column(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return scale and bias of every row for one column, float32."""
        group = index // self.group_size
        return self.scales[:, group].astype(np.float32), self.biases[:, group].astype(np.float32)

    def values(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the numbers that codes [rows, columns] stand for."""
        grouped = codes.reshape(*self.scales.shape, self.group_size).astype(np.float32)
        found = grouped * self.scales[..., None].astype(np.float32)
        found += self.biases[..., None].astype(np.float32)
        return found.reshape(codes.shape)


def choose_grid(
    weight: NDArray[np.float32],
    form: Format,
    importance: NDArray[np.float32] | None = None,
    *,
    search: bool = True,
) -> Grid:
    """Choose scale and bias of every group.

    The full range of a group is tried and narrower ones, which clip its
    extremes; the least squared error wins.

    Args:
        weight: float32 [rows, columns]; columns divide into groups.
        form: Bits and group size.
        importance: Weight of each column's error; None counts all alike.
        search: Whether narrower ranges are tried.
    """
    rows, columns = weight.shape
    groups = columns // form.group_size
    scales = np.empty((rows, groups), np.float16)
    biases = np.empty((rows, groups), np.float16)
    weights = None
    if importance is not None:
        weights = importance.reshape(1, groups, form.group_size)
    step = max(1, _CHUNK // columns)
    for start in range(0, rows, step):
        part = weight[start : start + step].reshape(-1, groups, form.group_size)
        found = _best_range(part, form.bits, weights, _SHRINKS if search else _SHRINKS[:1])
        scales[start : start + step], biases[start : start + step] = found
    return Grid(scales, biases, form.bits, form.group_size)


def _best_range(
    part: NDArray[np.float32],
    bits: int,
    importance: NDArray[np.float32] | None,
    shrinks: tuple[float, ...],
) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    low, high = part.min(axis=-1), part.max(axis=-1)
    best = np.full(low.shape, np.inf, np.float32)
    scales, biases = np.zeros(low.shape, np.float16), low.astype(np.float16)
    top = np.float32(2**bits - 1)
    for shrink in shrinks:
        middle, half = (high + low) / 2, (high - low) / 2 * np.float32(shrink)
        scale = (2 * half / top).astype(np.float16)
        bias = (middle - half).astype(np.float16)
        wide, shift = scale.astype(np.float32)[..., None], bias.astype(np.float32)[..., None]
        codes = _codes(part, wide, shift, top)
        error = np.square(codes * wide + shift - part)
        if importance is not None:
            error *= importance
        total = error.sum(axis=-1)
        better = total < best
        best = np.where(better, total, best)
        scales, biases = np.where(better, scale, scales), np.where(better, bias, biases)
    return scales, biases


def _codes(
    values: NDArray[np.float32],
    scale: NDArray[np.float32],
    bias: NDArray[np.float32],
    top: np.float32,
) -> NDArray[np.float32]:
    """Return the nearest codes as whole float32 numbers; a group of one value gets code 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        codes = np.rint((values - bias) / scale)
    codes = np.where(scale > 0, codes, 0)
    result: NDArray[np.float32] = np.clip(codes, 0, top)
    return result


def nearest(weight: NDArray[np.float32], grid: Grid) -> NDArray[np.uint8]:
    """Round every number to the nearest of its group's; returns codes [rows, columns]."""
    rows, columns = weight.shape
    groups = grid.scales.shape[1]
    codes = np.empty((rows, columns), np.uint8)
    step = max(1, _CHUNK // columns)
    top = np.float32(2**grid.bits - 1)
    for start in range(0, rows, step):
        part = weight[start : start + step].reshape(-1, groups, grid.group_size)
        scale = grid.scales[start : start + step, :, None].astype(np.float32)
        bias = grid.biases[start : start + step, :, None].astype(np.float32)
        codes[start : start + step] = _codes(part, scale, bias, top).reshape(-1, columns)
    return codes


def pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint32]:
    """Pack codes [rows, columns] as MLX does: one stream of bits per row, lowest first.

    Args:
        codes: Numbers below ``2**bits``; ``columns * bits`` is a multiple of 32.
        bits: Bits of a number.
    """
    rows, columns = codes.shape
    if bits == 8:
        return np.ascontiguousarray(codes).view(np.uint32)
    packed = np.empty((rows, columns * bits // 32), np.uint32)
    step = max(1, _CHUNK // columns)
    for start in range(0, rows, step):
        part = codes[start : start + step]
        stream = np.unpackbits(part[..., None], axis=-1, count=bits, bitorder="little")
        packed[start : start + step] = np.packbits(
            stream.reshape(len(part), -1), axis=-1, bitorder="little"
        ).view(np.uint32)
    return packed


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A matrix as it is written.

    Attributes:
        form: Its format.
        arrays: By leaf name: ``weight``, ``scales`` and, for affine, ``biases``.
    """

    form: Format
    arrays: dict[str, mx.array]

    def dense(self) -> mx.array:
        """Return the numbers it stands for, float32, as MLX unpacks them."""
        import mlx.core as mx

        affine = self.form.mode == "affine"
        scales = self.arrays["scales"]
        return mx.dequantize(
            self.arrays["weight"],
            scales.astype(mx.float32) if affine else scales,
            self.arrays["biases"].astype(mx.float32) if affine else None,
            group_size=self.form.group_size,
            bits=self.form.bits,
            mode=self.form.mode,
            dtype=mx.float32,
        )


def from_codes(codes: NDArray[np.uint8], grid: Grid) -> Packed:
    """Pack codes with their scales."""
    import mlx.core as mx

    form = Format(bits=grid.bits, group_size=grid.group_size)
    arrays = {
        "weight": mx.array(pack(codes, grid.bits)),
        "scales": mx.array(grid.scales),
        "biases": mx.array(grid.biases),
    }
    return Packed(form, arrays)


def round_to(weight: NDArray[np.float32], form: Format, *, search: bool = True) -> Packed:
    """Round a matrix without looking at data.

    Args:
        weight: float32 [rows, columns].
        form: The format.
        search: Whether ranges narrower than a group's are tried.
    """
    if form.mode == "affine":
        grid = choose_grid(weight, form, search=search)
        return from_codes(nearest(weight, grid), grid)
    import mlx.core as mx

    packed, scales = mx.quantize(  # type: ignore[misc]
        mx.array(weight), group_size=form.group_size, bits=form.bits, mode=form.mode
    )
    mx.eval(packed, scales)
    return Packed(form, {"weight": packed, "scales": scales})
