"""Packed matrices in a classifier's file: unpacked when they are read.

A classifier is small and every device has room for it in floats, so packing
is for the disk: bits say how it was rounded, and what runs is dense.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models.folder import Entry, read_json

QUANTIZATION_KEY = "quantization"  # of config.json: bits and group_size of all packed matrices


def is_packed(entries: Mapping[str, Entry] | Mapping[str, mx.array], name: str) -> bool:
    """Say whether a name is part of a packed matrix.

    Args:
        entries: All names of the file.
        name: A tensor's.
    """
    stem, _, leaf = name.rpartition(".")
    return leaf in ("weight", "scales", "biases") and f"{stem}.scales" in entries


def unpacked_shapes(folder: Path, entries: Mapping[str, Entry]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of packed matrices as they are once unpacked, by ``weight``'s name.

    Raises:
        ModelError: ``config.json`` does not say how they are packed, or the parts do not fit.
    """
    found: dict[str, tuple[int, ...]] = {}
    for name, entry in entries.items():
        stem = name.removesuffix(".scales")
        if stem == name:
            continue
        bits, group = _format(folder)
        weight = entries.get(f"{stem}.weight")
        rows, columns = entry.shape[0], entry.shape[-1] * group
        if weight is None or weight.dtype != "U32" or weight.shape != (rows, columns * bits // 32):
            raise ModelError(
                f"{entry.file}: {stem} is not packed in {bits} bits and groups of {group}, as "
                "config.json says"
            )
        if f"{stem}.biases" not in entries or entries[f"{stem}.biases"].shape != entry.shape:
            raise ModelError(f"{entry.file}: {stem} has scales, but no biases of their shape")
        found[f"{stem}.weight"] = (rows, columns)
    return found


def unpack(folder: Path, arrays: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """Return the tensors of a file with its packed matrices as float32.

    Args:
        folder: Its folder.
        arrays: The tensors as stored; names and shapes have been checked.
    """
    dense = {name: value for name, value in arrays.items() if not is_packed(arrays, name)}
    for name in arrays:
        stem = name.removesuffix(".scales")
        if stem == name:
            continue
        bits, group = _format(folder)
        dense[f"{stem}.weight"] = mx.dequantize(
            arrays[f"{stem}.weight"],
            arrays[name].astype(mx.float32),
            arrays[f"{stem}.biases"].astype(mx.float32),
            group_size=group,
            bits=bits,
        )
    return dense


def _format(folder: Path) -> tuple[int, int]:
    """Return bits and group size."""
    named: Any = read_json(folder / "config.json").get(QUANTIZATION_KEY)
    if isinstance(named, dict):
        bits, group = named.get("bits"), named.get("group_size")
        if isinstance(bits, int) and isinstance(group, int) and bits > 0 and group > 0:
            return bits, group
    raise ModelError(
        f"{folder / 'config.json'}: {QUANTIZATION_KEY} is {named!r}; the weights are packed, so "
        "bits and group_size are expected"
    )
