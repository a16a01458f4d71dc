"""Language models, ready to run: the one module that knows mlx-lm.

A folder is judged first (``models.folder``), then built by mlx-lm, then
brought into the device's number format: packed as it is on a GPU, dense
float32 on a CPU, tensor by tensor so that the packed and the dense weights
are never in memory together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models import adapters
from mlx_tinyagent.models.device import Device, DtypeName, setup
from mlx_tinyagent.models.folder import fingerprint, read_config, read_entries
from mlx_tinyagent.models.info import kv_bytes_per_token, text_config
from mlx_tinyagent.models.registry import local_path
from mlx_tinyagent.models.tokenizer import Tokenizer

if TYPE_CHECKING:
    import mlx.core as mx
    from mlx import nn

CacheKind = Literal["full", "sliding", "recurrent"]
_DEFAULT_CONTEXT = 2048  # tokens, where a configuration names none
# what mlx-lm's classes raise when configuration and weights do not fit together
_MISFITS = (ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError)
NLL_TEXT = (
    "The Pacific Ocean is the largest and deepest of Earth's five oceanic divisions. "
    "It extends from the Arctic Ocean in the north to the Southern Ocean in the south."
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LanguageModel:
    """A model in memory with everything that is known about it.

    Args:
        name: As asked for.
        folder: Where it was loaded from.
        model: mlx-lm's module: (ids [batch, tokens], cache) -> logits
            [batch, tokens, vocab_size].
        tokenizer: Its tokenizer.
        config: ``config.json``.
        fingerprint: Identity of weights and configuration, the same on every
            device and for every ``dtype``.
        dtype: Number format of the activations.
        packed: Whether quantized weights stayed packed.
        context: Tokens the model was made for.
        kind: What its caches can do: "full" attention (cut anywhere),
            "sliding" window or "recurrent" (cannot be cut back).
        kv_bytes_per_token: Bytes one token takes in the cache.
        adapter: Folder of the adapter in use.
        adapter_config: Its ``adapter_config.json``; empty without an adapter.
        adapter_fingerprint: Identity of the adapter's weights; a cache made
            with one adapter is not valid with another.
    """

    name: str
    folder: Path
    model: nn.Module
    tokenizer: Tokenizer
    config: dict[str, Any]
    fingerprint: str
    dtype: DtypeName
    packed: bool
    context: int
    kind: CacheKind
    kv_bytes_per_token: int
    adapter: Path | None
    adapter_config: dict[str, Any]
    adapter_fingerprint: str | None

    @property
    def vocab_size(self) -> int:
        """Width of the logits."""
        return self.tokenizer.vocab_size

    @property
    def after_blocks(self) -> bool:
        """Whether the adapter acts only on what follows header and tool blocks."""
        return self.adapter_config.get(adapters.ACTIVE_KEY) == "after_blocks"

    @contextlib.contextmanager
    def prefix_weights(self) -> Iterator[None]:
        """Within the block the model computes as it does before the tail of a prompt.

        That is without an adapter that acts after the blocks only.
        """
        if not self.after_blocks:
            yield
            return
        with adapters.base_only(self.model):
            yield

    def new_cache(self) -> list[Any]:
        """Return empty caches, one per layer, as mlx-lm's model wants them."""
        return _new_cache(self.model)


def load(
    name_or_path: str | Path,
    *,
    adapter: Path | str | None = None,
    dtype: DtypeName | None = None,
    merge: bool = True,
) -> LanguageModel:
    """Load a model that is on this disk.

    Args:
        name_or_path: Alias, imported name, Hub id or folder.
        adapter: Adapter folder in mlx-lm's layout.
        dtype: Number format; None takes the device's: float32 on a CPU, else
            bfloat16, or float16 for packed models whose scales are float16.
        merge: Whether the adapter becomes part of the weights where they are dense
            float32, which makes passes faster; elsewhere it stays apart.

    Returns:
        The model, its weights in memory.

    Raises:
        ModelError: Not on this disk, damaged, incomplete, or of a kind that
            mlx-lm does not know; or the adapter does not fit.
        UsageError: The name means nothing.
    """
    folder = _find(name_or_path)
    config = read_config(folder)
    entries = read_entries(folder)
    _check_depth(folder, config, len(entries))
    device = setup()
    tokenizer = Tokenizer(folder, n_vocab=_vocab_size(folder, config))
    chosen = dtype or _default_dtype(device, config)
    model = _build(folder, device, chosen)
    adapter_config: dict[str, Any] = {}
    identity = fingerprint(folder)
    if adapter is not None:
        adapter = Path(adapter)
        adapter_config = adapters.apply(model, adapter, base=identity, dtype=chosen)
        if merge and device.name == "cpu" and chosen == "float32":
            adapters.merge(model, lambda: _build_again(folder, device, chosen, identity))
    return LanguageModel(
        name=str(name_or_path),
        folder=folder,
        model=model,
        tokenizer=tokenizer,
        config=config,
        fingerprint=identity,
        dtype=chosen,
        packed=device.name != "cpu" and any(name.endswith(".scales") for name in entries),
        context=int(text_config(config).get("max_position_embeddings") or _DEFAULT_CONTEXT),
        kind=_cache_kind(_new_cache(model)),
        kv_bytes_per_token=kv_bytes_per_token(config, bytes_per_value=_BYTES[chosen]),
        adapter=adapter,
        adapter_config=adapter_config,
        adapter_fingerprint=fingerprint(adapter, config=False) if adapter else None,
    )


def check_nll(model: nn.Module, tokenizer: Tokenizer) -> float:
    """Return the mean negative log-likelihood of the next token over a fixed text.

    A model that was put together wrongly still writes words; this number
    shows it. SmolLM2 135M in 4 bits gives 2.129, with the rows of q and k in
    the wrong order 3.519.

    Args:
        model: mlx-lm's module.
        tokenizer: Its tokenizer.

    Returns:
        Nats per token.
    """
    import mlx.core as mx
    import numpy as np
    from mlx import nn as layers

    ids = mx.array(tokenizer.encode(NLL_TEXT))
    logits = model(ids[None, :-1]).astype(mx.float32)
    loss = layers.losses.cross_entropy(logits[0], ids[1:], reduction="mean")
    return float(np.asarray(loss))


def import_mlx_lm() -> ModuleType:
    """Import mlx-lm (about two seconds) after the device is set up.

    mlx-lm sets the limit of open files to (2048, 4096) on import; lowering
    the hard limit could not be undone. Within this import limits only rise.
    """
    setup()
    with _rising_file_limit():
        import mlx_lm
    module: ModuleType = mlx_lm
    return module


_BYTES: dict[DtypeName, int] = {"float32": 4, "bfloat16": 2, "float16": 2}


def _find(name_or_path: str | Path) -> Path:
    folder = local_path(str(name_or_path))
    if folder is None:
        raise ModelError(
            f"the model {str(name_or_path)!r} is not on this machine; "
            f"run: mlx-tinyagent models pull {name_or_path}"
        )
    return folder


def _vocab_size(folder: Path, config: dict[str, Any]) -> int:
    size = text_config(config).get("vocab_size")
    if not isinstance(size, int) or size < 1:
        raise ModelError(f"{folder / 'config.json'}: vocab_size is {size!r}, expected a number")
    return size


def _check_depth(folder: Path, config: dict[str, Any], tensors: int) -> None:
    """Refuse absurd depths before mlx-lm builds them layer by layer."""
    layers = text_config(config).get("num_hidden_layers")
    if isinstance(layers, int) and layers > tensors:
        raise ModelError(
            f"{folder / 'config.json'} names {layers} layers, the weights have {tensors} tensors"
        )


def _default_dtype(device: Device, config: dict[str, Any]) -> DtypeName:
    stored = config.get("dtype") or config.get("torch_dtype")
    if device.name != "cpu" and "quantization" in config and stored == "float16":
        return "float16"  # bfloat16 would round the scales
    return device.dtype


def _build(folder: Path, device: Device, dtype: DtypeName, *, lazy: bool = False) -> nn.Module:
    """Build the module and bring its weights into memory in their final format.

    Lazily, each is brought there when it is first used.
    """
    import_mlx_lm()
    import mlx.core as mx
    from mlx_lm.utils import load_model

    if dtype not in get_args(DtypeName):
        raise ModelError(f"dtype {dtype!r} is unknown; expected {', '.join(get_args(DtypeName))}")
    target = getattr(mx, dtype)
    try:
        model, _ = load_model(folder, lazy=True)
        if device.name == "cpu":
            unpack(model, target, lazy=lazy)
        _cast(model, target, lazy=lazy)
        if not lazy:
            mx.eval(model.parameters())
    except _MISFITS as error:
        raise ModelError(f"{folder} cannot be loaded: {_one_line(error)}") from error
    return model


def _build_again(folder: Path, device: Device, dtype: DtypeName, identity: str) -> nn.Module:
    """Build a model once more, if its folder still holds the same one."""
    if fingerprint(folder) != identity:
        raise ModelError(f"{folder} has changed since the model was loaded; start anew")
    return _build(folder, device, dtype, lazy=True)


def unpack(model: nn.Module, dtype: mx.Dtype, *, lazy: bool = False) -> None:
    """Replace quantized layers by dense ones, one after the other, in place.

    Scales are widened before the product, so the dense weights are what the
    packed ones mean and not their rounding to 16 bits.
    """
    import mlx.core as mx
    from mlx import nn as layers
    from mlx.utils import tree_unflatten
    from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear

    dense: dict[type[nn.Module], type[nn.Module]] = {
        layers.QuantizedLinear: layers.Linear,
        layers.QuantizedEmbedding: layers.Embedding,
        QuantizedSwitchLinear: SwitchLinear,
    }
    names = [name for name, module in model.named_modules() if type(module) in dense]
    for name in names:
        packed = _module_at(model, name)
        weight = _dequantize(packed, dtype)
        options = {} if "Embedding" in type(packed).__name__ else {"bias": "bias" in packed}
        replacement = dense[type(packed)](*weight.shape[::-1], **options)
        replacement.weight = weight
        if "bias" in packed:
            replacement.bias = packed.bias
        if not lazy:
            mx.eval(replacement.parameters())
        model.update_modules(tree_unflatten([(name, replacement)]))


def _dequantize(packed: nn.Module, dtype: mx.Dtype) -> mx.array:
    import mlx.core as mx

    affine = packed.mode == "affine"
    return mx.dequantize(
        packed.weight,
        packed.scales.astype(mx.float32) if affine else packed.scales,
        packed.biases.astype(mx.float32) if affine else None,
        group_size=packed.group_size,
        bits=packed.bits,
        mode=packed.mode,
        global_scale=packed.get("global_scale"),
        dtype=mx.float32,
    ).astype(dtype)


def _module_at(model: nn.Module, name: str) -> nn.Module:
    """Return the submodule of a dotted path."""
    module: Any = model
    for part in name.split("."):
        module = module[int(part)] if isinstance(module, list) else module[part]
    return module


def _cast(model: nn.Module, dtype: mx.Dtype, *, lazy: bool = False) -> None:
    """Bring floating-point parameters into one format; buffers (``_name``) stay as they are."""
    import mlx.core as mx

    for module in model.modules():
        for name, value in module.items():
            if not isinstance(value, mx.array) or name.startswith("_"):
                continue
            if mx.issubdtype(value.dtype, mx.floating) and value.dtype != dtype:
                module[name] = value.astype(dtype)
                if not lazy:
                    mx.eval(module[name])


def _new_cache(model: nn.Module) -> list[Any]:
    from mlx_lm.models.cache import make_prompt_cache

    caches: list[Any] = make_prompt_cache(model)
    return caches


def _cache_kind(caches: list[Any]) -> CacheKind:
    """Judge by the cache classes a model asks for; the weakest layer decides."""
    from mlx_lm.models.cache import CacheList, KVCache, RotatingKVCache

    flat: list[Any] = []
    for cache in caches:
        flat += cache.caches if isinstance(cache, CacheList) else [cache]
    if all(type(cache) is KVCache for cache in flat):
        return "full"
    attention = (KVCache, RotatingKVCache)
    return "sliding" if all(isinstance(cache, attention) for cache in flat) else "recurrent"


@contextlib.contextmanager
def _rising_file_limit() -> Iterator[None]:
    """Let the limit of open files rise but not fall while the block runs."""
    import resource

    original = resource.setrlimit

    def rise(which: int, limits: tuple[int, int]) -> None:
        if which == resource.RLIMIT_NOFILE:
            soft, hard = resource.getrlimit(which)
            if soft == resource.RLIM_INFINITY or soft >= limits[0]:
                return
            limits = (limits[0] if hard < 0 else min(limits[0], hard), hard)
        original(which, limits)

    resource.setrlimit = rise
    try:
        yield
    finally:
        resource.setrlimit = original


def _one_line(error: Exception, *, limit: int = 300) -> str:
    """Return an error's text on one line, cut where it lists hundreds of names."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]}..."
