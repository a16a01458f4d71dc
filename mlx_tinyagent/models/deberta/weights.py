"""Checkpoints in Hugging Face layout: ``config.json`` and ``model.safetensors``.

Weight names are the module's own, so nothing is mapped but the axes of the
convolution. Every name and shape is checked before any weight is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_tinyagent.errors import ModelError, StoreError
from mlx_tinyagent.files import atomic_write, readable_errors
from mlx_tinyagent.models.deberta.config import DebertaConfig
from mlx_tinyagent.models.deberta.encoder import DebertaModel
from mlx_tinyagent.models.deberta.heads import DebertaClassifier
from mlx_tinyagent.models.deberta.packed import is_packed, unpack, unpacked_shapes
from mlx_tinyagent.models.folder import read_entries, weight_files

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

_PREFIX = "deberta."
_HEAD = re.compile(r"(pooler|classifier)\.")
# Language-model heads of pretraining, and a buffer that old files carry.
_UNUSED = re.compile(r"(lm_predictions|mask_predictions|cls)\.|.*\bposition_ids$")
_ABSOLUTE = "deberta.embeddings.position_embeddings.weight"
_CONV = "encoder.conv.conv.weight"
_FLOATS = ("F16", "BF16", "F32", "F64")
_COMPUTE = (mx.float32, mx.bfloat16)


def new_classifier(config: DebertaConfig, *, seed: int) -> DebertaClassifier:
    """Return a classifier with fresh weights, drawn as transformers does.

    Args:
        config: Shape, labels and ``initializer_range``.
        seed: Of the weights; the global random state is left alone.
    """
    with _own_random_state():
        model = DebertaClassifier(config)
    _initialize(model, config, seed)
    mx.eval(model.parameters())
    return model


def load_classifier(
    folder: Path,
    *,
    labels: Sequence[str] | None = None,
    dtype: mx.Dtype = mx.float32,
    seed: int = 0,
) -> DebertaClassifier:
    """Load a classifier, or an encoder under a fresh head.

    Args:
        folder: Holds ``config.json`` and ``model.safetensors``.
        labels: The outputs, in order. Needed for a checkpoint without a head,
            whose head is then drawn from ``seed``; otherwise they must equal
            the checkpoint's, which may also be unnamed (``LABEL_0`` ...).
        dtype: Type to compute in: float32 or bfloat16.
        seed: Of a fresh head.

    Returns:
        The model in evaluation mode, positions cached.

    Raises:
        ModelError: A missing, damaged or foreign file, or labels that do not match.
    """
    config = DebertaConfig.read(folder / CONFIG_FILE)
    shapes = _read_shapes(folder)
    has_head = any(_HEAD.match(name) for name in shapes)
    if not has_head and labels is None:
        raise ModelError(f"{folder}: has no classification head; name the labels of a new one")
    if labels is not None:
        if has_head:
            _check_labels(folder, config.labels, tuple(labels))
        config = dataclasses.replace(config, labels=tuple(labels))
    with _own_random_state():
        model = DebertaClassifier(config)
    if not has_head:
        _initialize(model, config, seed)
    _load(model, folder, shapes, prefix="", partial=not has_head, dtype=dtype)
    model.cache_positions()
    return model


def load_encoder(folder: Path, *, dtype: mx.Dtype = mx.float32) -> DebertaModel:
    """Load the encoder alone; a head in the file is left out.

    Args:
        folder: Holds ``config.json`` and ``model.safetensors``.
        dtype: Type to compute in: float32 or bfloat16.

    Returns:
        The model in evaluation mode, positions cached.

    Raises:
        ModelError: A missing, damaged or foreign file.
    """
    config = DebertaConfig.read(folder / CONFIG_FILE)
    shapes = {name: shape for name, shape in _read_shapes(folder).items() if not _HEAD.match(name)}
    with _own_random_state():
        model = DebertaModel(config)
    _load(model, folder, shapes, prefix=_PREFIX, partial=False, dtype=dtype)
    model.cache_positions()
    return model


def save_classifier(
    model: DebertaClassifier, folder: Path, *, dtype: mx.Dtype | None = None
) -> None:
    """Write ``config.json`` and ``model.safetensors``; each appears whole or not at all.

    Args:
        model: What to write; not quantized.
        folder: Made where missing.
        dtype: Type on disk; None for the model's own.

    Raises:
        StoreError: The folder cannot be written.
    """
    weights = {}
    for name, value in _named_arrays(model):
        if name.endswith(_CONV):
            value = mx.contiguous(value.swapaxes(1, 2))  # [out, taps, in] -> [out, in, taps]
        weights[name] = value if dtype is None else value.astype(dtype)
    text = json.dumps(model.config.to_dict(), indent=2, ensure_ascii=False) + "\n"
    with readable_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".save-", dir=folder) as beside:
            file = Path(beside) / WEIGHTS_FILE
            _save(file, weights)
            os.replace(file, folder / WEIGHTS_FILE)
    atomic_write(folder / CONFIG_FILE, text)


def _save(file: Path, weights: dict[str, mx.array]) -> None:
    try:
        mx.save_safetensors(str(file), weights, metadata={"format": "pt"})
    except RuntimeError as error:  # how MLX reports a full disk
        raise StoreError(f"cannot write {file.parent.parent}: {error}") from error


def quantizable(path: str, module: nn.Module) -> bool:
    """Say whether ``mlx.nn.quantize`` should take a module of this model.

    Pooler and classifier stay exact, being small and last; the relative
    embeddings do too, since they are normalized before use.

    Args:
        path: Dotted name of the module.
        module: The module.
    """
    exact = ("rel_embeddings", "pooler", "classifier")
    return hasattr(module, "to_quantized") and not any(part in exact for part in path.split("."))


def _read_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return full name -> shape of the weights in use."""
    entries = read_entries(folder)
    unpacked = unpacked_shapes(folder, entries)
    shapes = {_full_name(name): shape for name, shape in unpacked.items()}
    for name, entry in entries.items():
        if _UNUSED.match(name) or is_packed(entries, name):
            continue
        if entry.dtype not in _FLOATS:
            raise ModelError(
                f"{entry.file}: {name} is {entry.dtype}; one of {', '.join(_FLOATS)} is expected"
            )
        shapes[_full_name(name)] = entry.shape
    return shapes


def _read_arrays(folder: Path) -> dict[str, mx.array]:
    """Return full name -> weight, not yet read from the disk."""
    arrays = {}
    for path in weight_files(folder):
        stored = cast("dict[str, mx.array]", mx.load(str(path)))
        for name, value in unpack(folder, stored).items():
            arrays[_full_name(name)] = value
    return arrays


def _full_name(name: str) -> str:
    """Return the name as a classifier has it; a bare encoder's lack the prefix."""
    return _PREFIX + name if name.startswith(("embeddings.", "encoder.")) else name


def _load(
    model: nn.Module,
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    prefix: str,
    partial: bool,
    dtype: mx.Dtype,
) -> None:
    """Fill the model from a file whose names and shapes have been read.

    Args:
        model: What to fill.
        folder: Where the file lies.
        shapes: Full name -> shape of the weights to take.
        prefix: Part of the full names that the model's own lack.
        partial: Whether the head may be missing.
        dtype: Type to convert to.
    """
    if dtype not in _COMPUTE:
        raise ModelError(f"dtype {dtype} is not supported; float32 and bfloat16 are")
    wanted = {prefix + name: _file_shape(name, value.shape) for name, value in _named_arrays(model)}
    found = dict(shapes)
    if _ABSOLUTE not in wanted:
        found.pop(_ABSOLUTE, None)  # v3 files may carry a table that v3 never reads
    _check_names(folder, wanted, found, partial=partial)
    arrays = _read_arrays(folder)
    pairs = []
    for name in found:
        value = arrays[name].astype(dtype)
        own = name.removeprefix(prefix)
        pairs.append((own, value.swapaxes(1, 2) if own.endswith(_CONV) else value))
    model.load_weights(pairs, strict=not partial)
    model.apply(lambda value: value.astype(dtype))
    model.eval()
    mx.eval(model.parameters())


def _file_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape that a parameter has on disk."""
    if name.endswith(_CONV):
        out, taps, inputs = shape
        return out, inputs, taps
    return tuple(shape)


def _check_names(
    folder: Path,
    wanted: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    *,
    partial: bool,
) -> None:
    """Refuse missing or extra weights and shapes that contradict the configuration."""
    missing = [name for name in wanted if name not in found and not (partial and _HEAD.match(name))]
    extra = [name for name in found if name not in wanted]
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} weights are missing, such as {missing[0]}; "
            f"is {CONFIG_FILE} of the same model?"
        )
    if extra:
        raise ModelError(
            f"{folder}: {len(extra)} weights have no place, such as {extra[0]}; "
            f"is {CONFIG_FILE} of the same model?"
        )
    for name, shape in found.items():
        if shape != wanted[name]:
            raise ModelError(
                f"{folder}: {name} has shape {list(shape)}; "
                f"{CONFIG_FILE} asks for {list(wanted[name])}"
            )


def _check_labels(folder: Path, own: tuple[str, ...], asked: tuple[str, ...]) -> None:
    """Refuse labels that are not the checkpoint's."""
    unnamed = own == tuple(f"LABEL_{index}" for index in range(len(own)))
    if len(own) != len(asked):
        raise ModelError(f"{folder}: has {len(own)} labels, {len(asked)} were asked for")
    if not unnamed and own != asked:
        index = next(i for i, pair in enumerate(zip(own, asked, strict=True)) if len(set(pair)) > 1)
        raise ModelError(
            f"{folder}: label {index} is {own[index]!r}, {asked[index]!r} was asked for"
        )


def _named_arrays(model: nn.Module) -> list[tuple[str, mx.array]]:
    """Return every parameter with its dotted name."""
    return cast("list[tuple[str, mx.array]]", tree_flatten(model.parameters()))


@contextlib.contextmanager
def _own_random_state() -> Iterator[None]:
    """Undo what making modules, whose weights are then replaced, does to the global state."""
    (key,) = cast("list[mx.array]", mx.random.state)
    high, low = cast("list[int]", key.tolist())
    yield
    mx.random.seed((high << 32) | low)  # a seed is the key, read as one number


def _initialize(model: nn.Module, config: DebertaConfig, seed: int) -> None:
    """Draw weights from a normal distribution, biases 0, normalizations 1."""
    named = _named_arrays(model)
    keys = mx.random.split(mx.random.key(seed), len(named))
    fresh = []
    for key, (name, value) in zip(keys, named, strict=True):
        if name.endswith("bias"):
            value = mx.zeros_like(value)
        elif not name.endswith("LayerNorm.weight"):
            value = mx.random.normal(value.shape, scale=config.initializer_range, key=key)
        if name.endswith("word_embeddings.weight"):
            value[config.pad_token_id] = 0.0
        fresh.append((name, value))
    model.load_weights(fresh)
