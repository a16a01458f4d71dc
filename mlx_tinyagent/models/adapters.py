"""Putting a trained adapter on a model, with nothing missing and nothing mixed up.

Adapters have mlx-lm's layout. mlx-lm itself accepts files with missing
tensors and leaves those layers untrained, so names and shapes are compared
here, and the base model's fingerprint where the adapter names one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models.folder import read_json, read_safetensors

if TYPE_CHECKING:
    import mlx.core as mx
    from mlx import nn

WEIGHTS, CONFIG = "adapters.safetensors", "adapter_config.json"
BASE_KEY = "base_fingerprint"  # in the configuration: the model it was trained on
ACTIVE_KEY = "active"  # where it acts: on "all" tokens, or "after_blocks"
SHIPPED = Path(__file__).parents[1] / "adapters"
_LEAVES = ("lora_a", "lora_b", "m")  # m: magnitudes of DoRA
_MERGED = "merged_by"  # attribute of a merged layer: what can take the adapter out again


def apply(model: nn.Module, folder: Path, *, base: str, dtype: str) -> dict[str, Any]:
    """Add an adapter's layers to a model in place and load their weights.

    Args:
        model: mlx-lm's module; its Linear layers become LoRA layers.
        folder: Adapter folder.
        base: Fingerprint of the model.
        dtype: Number format of the adapter's weights in memory.

    Returns:
        The adapter's configuration.

    Raises:
        ModelError: Damaged, incomplete, or made for another model.
    """
    config = read_config(folder)
    _check_base(folder, config, base)
    entries = read_safetensors(folder / WEIGHTS)
    import mlx.core as mx

    _add_layers(model, folder, config)
    expected = {name: value.shape for name, value in adapter_parameters(model).items()}
    found = {name: entry.shape for name, entry in entries.items()}
    _compare(folder / WEIGHTS, found, expected)
    try:
        weights = cast("dict[str, mx.array]", mx.load(str(folder / WEIGHTS)))
    except RuntimeError as error:
        raise ModelError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    target = getattr(mx, dtype)
    values = [(name, value.astype(target)) for name, value in weights.items()]
    model.load_weights(values, strict=False)
    model.eval()
    mx.eval(model.parameters())
    return config


def read_config(folder: Path) -> dict[str, Any]:
    """Read an adapter's configuration.

    Raises:
        ModelError: Missing, damaged, or a fine-tune of all weights, which is
            a model and not an adapter.
    """
    if not folder.is_dir():
        raise ModelError(f"the adapter folder {folder} does not exist")
    config = read_json(folder / CONFIG)
    kind = config.get("fine_tune_type", "lora")
    if kind not in ("lora", "dora"):
        raise ModelError(f"{folder / CONFIG}: fine_tune_type {kind!r}; expected lora or dora")
    lora = config.get("lora_parameters")
    if not isinstance(lora, dict) or not {"rank", "scale", "dropout"} <= lora.keys():
        raise ModelError(f"{folder / CONFIG}: lora_parameters needs rank, scale and dropout")
    return config


def adapter_parameters(model: nn.Module) -> dict[str, mx.array]:
    """Return the parameters that an adapter's file holds, by name."""
    from mlx.utils import tree_flatten

    flat = dict(tree_flatten(model.parameters()))
    return {name: value for name, value in flat.items() if name.rpartition(".")[2] in _LEAVES}


def add_layers(model: nn.Module, config: dict[str, Any]) -> None:
    """Turn linear layers into LoRA or DoRA layers whose effect is nothing yet.

    Args:
        model: mlx-lm's module, changed in place.
        config: ``fine_tune_type``, ``num_layers`` and ``lora_parameters`` as
            in an adapter's configuration.

    Raises:
        ValueError: A layer of that name cannot have an adapter.
        KeyError: ``lora_parameters`` lacks something.
    """
    from mlx_lm.tuner.utils import linear_to_lora_layers

    layers = config.get("num_layers", len(model.layers))
    dora = config.get("fine_tune_type") == "dora"
    linear_to_lora_layers(model, layers, config["lora_parameters"], use_dora=dora)


class Merged:
    """What puts merged layers and the base model's in each other's place.

    Only one of the two is in memory at a time: the base model is read again when it
    is asked for, and the adapter merged again afterwards.

    Args:
        build: Builds the base model.
        pairs: The adapter's layers by dotted path.
    """

    def __init__(self, build: Callable[[], nn.Module], pairs: dict[str, nn.Module]) -> None:
        self._build = build
        self._pairs = pairs

    def base(self, names: Collection[str]) -> dict[str, nn.Module]:
        """Return layers of the base model, their weights not read before they are used."""
        built = dict(self._build().named_modules())
        return {name: built[name] for name in names}

    def layer(self, name: str, base: nn.Module) -> nn.Module:
        """Return a layer with the adapter written into its weights."""
        import mlx.core as mx

        pair: Any = self._pairs[name]
        inner = _inner(pair)
        pair[inner] = base
        merged: nn.Module = pair.fuse(dequantize=True)
        pair[inner] = None  # the weights it acts on are not kept
        mx.eval(merged.parameters())
        object.__setattr__(merged, _MERGED, (self, name))  # beside the parameters, not among them
        return merged


def merge(model: nn.Module, build: Callable[[], nn.Module]) -> None:
    """Write adapters into the weights they act on, so that they cost a pass nothing.

    A pair of thin matrices beside every matrix costs little arithmetic but five more
    operations each. Prompt parts that are the base model's are on disk in all runs
    but the first, so its weights are not kept for them.

    Args:
        model: mlx-lm's module, its weights dense; changed in place.
        build: Builds the base model once more, for ``base_only``; its weights are best
            computed when they are used, since merged ones are there until then.
    """
    from mlx.utils import tree_unflatten

    adapted: dict[str, Any] = {
        name: module for name, module in model.named_modules() if "lora_a" in module
    }
    swap = Merged(build, adapted)
    for name, module in adapted.items():  # one by one, each freed before the next
        layer = swap.layer(name, module[_inner(module)])
        model.update_modules(tree_unflatten([(name, layer)]))


@contextlib.contextmanager
def base_only(model: nn.Module) -> Iterator[None]:
    """Take the adapter out while the block runs, merged or not: the base model alone.

    The original layers are put back in place, so what is computed is the base
    model's to the last bit. A merged adapter is merged again at the end, which takes
    part of a second; within the block this is free.
    """
    from mlx.utils import tree_unflatten

    apart = [(name, module) for name, module in model.named_modules() if "lora_a" in module]
    bare = [(name, module[_inner(module)]) for name, module in apart]
    merged = {
        name: getattr(module, _MERGED)
        for name, module in model.named_modules()
        if hasattr(module, _MERGED)
    }
    model.update_modules(tree_unflatten([*bare, *_base_layers(merged)]))
    try:
        yield
    finally:
        model.update_modules(tree_unflatten(apart))
        layers = dict(model.named_modules())
        for name, (swap, full) in merged.items():  # one by one, each freed before the next
            layer = swap.layer(full, layers.pop(name))
            model.update_modules(tree_unflatten([(name, layer)]))


def _base_layers(merged: dict[str, tuple[Merged, str]]) -> list[tuple[str, nn.Module]]:
    """Return the base model's layers in place of merged ones; a model is merged by one hand."""
    if not merged:
        return []
    swap, _ = next(iter(merged.values()))
    layers = swap.base([full for _, full in merged.values()])
    return [(name, layers[full]) for name, (_, full) in merged.items()]


def _inner(module: Any) -> str:
    """Return the name of the layer inside an adapter's."""
    return "linear" if "linear" in module else "embedding"


def shipped(base: str) -> Path | None:
    """Return the folder of the adapter that ships with the package for a model; None if none does.

    Args:
        base: Fingerprint of the model.
    """
    for config in sorted(SHIPPED.glob(f"*/{CONFIG}")):
        if read_json(config).get(BASE_KEY) == base:
            return config.parent
    return None


def _check_base(folder: Path, config: dict[str, Any], base: str) -> None:
    named = config.get(BASE_KEY)
    if named is not None and named != base:
        raise ModelError(
            f"the adapter {folder} was trained on another model: its base is "
            f"{str(named)[:12]}, this one is {base[:12]}"
        )


def _add_layers(model: nn.Module, folder: Path, config: dict[str, Any]) -> None:
    try:
        add_layers(model, config)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / CONFIG} does not fit the model: {error}") from error


def _compare(
    path: Path, found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]
) -> None:
    if missing := sorted(set(expected) - set(found)):
        raise ModelError(f"{path} lacks {len(missing)} of {len(expected)} tensors: {missing[0]}")
    if surplus := sorted(set(found) - set(expected)):
        raise ModelError(f"{path} has {len(surplus)} tensors the model lacks: {surplus[0]}")
    for name, shape in expected.items():
        if tuple(found[name]) != tuple(shape):
            raise ModelError(f"{path}: {name} has the shape {found[name]}, the model {shape}")
