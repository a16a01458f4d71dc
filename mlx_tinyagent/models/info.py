"""What a model needs: parameters, disk, memory per token, and the Macs it fits.

Computed from ``config.json`` and file headers; nothing is loaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models.folder import Entry, read_config, read_entries

MAC_TIERS = (8, 16, 24, 32)  # GB of unified memory; the last stands for "and more"
_USABLE = 0.5  # share of memory a background assistant may take beside other apps
_ADVICE_TOKENS = 4096  # context counted in the advice
_OVERHEAD = 400_000_000  # bytes of Python, MLX and work space beside weights and cache


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model folder in numbers.

    Args:
        architecture: mlx-lm's model type.
        parameters: Number of weights, counted unpacked.
        bits: Average bits per weight on disk.
        disk_bytes: Bytes of the weight files.
        context: Tokens the model was made for; 0 where not stated.
        kv_bytes_per_token: Bytes of cache per token in 16 bits.
        dense_bytes: Bytes of the weights in float32, as on a CPU.
        packed_bytes: Bytes of the weights as stored, as on a GPU.
    """

    architecture: str
    parameters: int
    bits: float
    disk_bytes: int
    context: int
    kv_bytes_per_token: int
    dense_bytes: int
    packed_bytes: int

    def resident_bytes(self, tokens: int) -> int:
        """Return bytes in memory on a GPU with this many tokens in the cache, all told."""
        return self.packed_bytes + _OVERHEAD + tokens * self.kv_bytes_per_token

    def room(self, tier: int) -> int:
        """Return the tokens that fit beside other apps; 0 where the weights do not.

        Args:
            tier: GB of unified memory.
        """
        left = int(tier * 1e9 * _USABLE) - self.resident_bytes(0)
        tokens = max(0, left // max(1, self.kv_bytes_per_token))
        return min(tokens, self.context) if self.context else tokens

    @property
    def smallest_mac(self) -> int | None:
        """Least GB of unified memory this fits beside other apps; None if above the tiers."""
        need = self.resident_bytes(self._advised)
        return next((tier for tier in MAC_TIERS if need <= tier * 1e9 * _USABLE), None)

    @property
    def advice(self) -> str:
        """The same in words, with the tokens of context that each Mac has room for."""
        if self.smallest_mac is None:
            return f"needs a Mac with more than {MAC_TIERS[-1]} GB; quantize it to 4 bits first"
        resident = self.resident_bytes(self._advised) / 1e9
        rooms = ", ".join(f"{tier} GB {self.room(tier):,} tokens" for tier in MAC_TIERS)
        return (
            f"fits a Mac with {self.smallest_mac} GB of memory or more: {resident:.2f} GB with "
            f"{self._advised:,} tokens; room beside other apps: {rooms}"
        )

    @property
    def _advised(self) -> int:
        return min(self.context or _ADVICE_TOKENS, _ADVICE_TOKENS)


def describe(folder: Path) -> ModelInfo:
    """Read the numbers of a model folder.

    Raises:
        ModelError: The folder is not a usable model.
    """
    config = read_config(folder)
    entries = read_entries(folder)
    parameters = count_parameters(entries, config)
    stored = sum(entry.size for entry in entries.values())
    if not parameters:
        raise ModelError(f"{folder} holds no weights")
    return ModelInfo(
        architecture=str(config.get("model_type", "")),
        parameters=parameters,
        bits=8 * stored / parameters,
        disk_bytes=sum(file.stat().st_size for file in {e.file for e in entries.values()}),
        context=int(text_config(config).get("max_position_embeddings") or 0),
        kv_bytes_per_token=kv_bytes_per_token(config, bytes_per_value=2),
        dense_bytes=4 * parameters,
        packed_bytes=stored,
    )


def count_parameters(entries: dict[str, Entry], config: dict[str, Any]) -> int:
    """Count weights as if unpacked: a packed matrix has a group of weights per scale.

    Args:
        entries: Tensor name -> entry, mlx-lm's naming.
        config: ``config.json``; its ``quantization`` gives group sizes.

    Raises:
        ModelError: A packed tensor has no group size.
    """
    quantization = config.get("quantization") or {}
    total = 0
    for name, entry in entries.items():
        stem, _, leaf = name.rpartition(".")
        scales = entries.get(f"{stem}.scales")
        if leaf in ("scales", "biases") and f"{stem}.weight" in entries:
            continue
        if leaf == "weight" and scales is not None:
            total += math.prod(scales.shape) * _group_size(quantization, stem, entry)
        else:
            total += math.prod(entry.shape)
    return total


def kv_bytes_per_token(config: dict[str, Any], *, bytes_per_value: int) -> int:
    """Return the bytes that one token takes in the cache of a full-attention model.

    Two vectors (key, value) per layer and key/value head. For models with
    sliding or recurrent layers this is the upper bound.

    Args:
        config: ``config.json``.
        bytes_per_value: Bytes of a cached number: 4 in float32, 2 in 16 bits.

    Raises:
        ModelError: The configuration lacks a dimension.
    """
    inner = text_config(config)
    try:
        heads = int(inner["num_attention_heads"])
        kv_heads = int(inner.get("num_key_value_heads") or heads)
        layers = int(inner["num_hidden_layers"])
        return 2 * layers * kv_heads * head_dim(config) * bytes_per_value
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(f"config.json lacks a usable dimension ({error!r})") from error


def head_dim(config: dict[str, Any]) -> int:
    """Return the numbers in one head's key.

    Raises:
        ModelError: The configuration lacks a dimension.
    """
    inner = text_config(config)
    try:
        return int(inner.get("head_dim") or inner["hidden_size"] // inner["num_attention_heads"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(f"config.json lacks a usable dimension ({error!r})") from error


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the language model's part of a configuration that also covers other parts."""
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, dict) else config


def _group_size(quantization: dict[str, Any], stem: str, entry: Entry) -> int:
    own = quantization.get(stem)
    size = (own if isinstance(own, dict) else quantization).get("group_size")
    if not isinstance(size, int):
        raise ModelError(f"{entry.file}: {stem} is packed, but config.json names no group_size")
    return size
