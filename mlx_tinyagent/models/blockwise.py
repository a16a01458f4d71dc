"""A model that is in memory one block at a time: for work on models larger than memory.

``language.load`` brings everything into memory and is what serves. Here
weights stay on the disk until their block's turn, are then dense float32, and
are dropped when the caller lets go of the block.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models import adapters
from mlx_tinyagent.models.device import setup
from mlx_tinyagent.models.folder import fingerprint, read_config, read_entries, read_safetensors
from mlx_tinyagent.models.language import import_mlx_lm, unpack
from mlx_tinyagent.models.tokenizer import Tokenizer

if TYPE_CHECKING:
    import mlx.core as mx
    from mlx import nn

# Block after block, every block over the whole context, and nothing else between them.
ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")
_MISFITS = (ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError)


class Blockwise:
    """A model folder, opened for one pass from its first block to its last.

    Args:
        folder: Model folder.
        adapter: Adapter folder. One that acts on all tokens is fused into each block
            that is taken, in float32; one that acts after the tool blocks stays apart.

    Attributes:
        config: ``config.json``.
        tokenizer: Its tokenizer.
        fingerprint: Identity of weights and configuration.
        layers: Number of blocks.
        tied: Whether the head is the embedding.
        module: mlx-lm's module; its blocks are taken out one by one.
        after_blocks: Whether there is an adapter that acts only after the tool blocks.
        fused: Whether there is one that acts on all tokens.
        matrices: Rows and columns of every matrix that can be quantized, by path.

    Raises:
        ModelError: Damaged, of another architecture, or the adapter does not fit.
    """

    def __init__(self, folder: Path, adapter: Path | None = None) -> None:
        self.folder = folder
        self.config = read_config(folder)
        check_architecture(folder, self.config)
        read_entries(folder)
        setup()
        self.tokenizer = Tokenizer(folder, n_vocab=int(self.config["vocab_size"]))
        self.fingerprint = fingerprint(folder)
        self.module: Any = _open(folder)
        self.matrices = _shapes(self.module)
        self.after_blocks = adapter is not None and self._adapt(adapter)
        self.fused = adapter is not None and not self.after_blocks
        self._blocks: list[nn.Module | None] = list(self.module.model.layers)
        self.layers = len(self._blocks)
        self.tied = getattr(self.module, "lm_head", None) is None
        if any(getattr(block, "use_sliding", False) for block in self._blocks):
            raise ModelError(f"{folder} has sliding-window layers; full attention is needed")

    def take(self, index: int) -> nn.Module:
        """Return a block, dense float32, and forget it: each is taken once."""
        block = self._blocks[index]
        if block is None:
            raise ValueError(f"block {index} was taken already")
        self._blocks[index] = None
        self.module.model.layers[index] = None
        _materialize(block)
        if self.fused:
            fuse_layers(block)
        return block

    def embedding(self) -> nn.Module:
        """Return the embedding, dense float32."""
        if not hasattr(self, "_embedding"):
            _unpack_children(self.module.model, "embed_tokens")
            self._embedding: nn.Module = self.module.model.embed_tokens
        return self._embedding

    def norm(self) -> nn.Module:
        """Return the last norm."""
        return _materialize(self.module.model.norm)

    def head(self) -> nn.Module:
        """Return the module whose weight [vocab, hidden] makes the logits, dense float32."""
        if self.tied:
            return self.embedding()
        if not hasattr(self, "_head"):
            _unpack_children(self.module, "lm_head")
            self._head: nn.Module = self.module.lm_head
        return self._head

    def _adapt(self, folder: Path) -> bool:
        """Put an adapter's layers on, its weights unread; return whether it acts after blocks."""
        import mlx.core as mx

        config = adapters.read_config(folder)
        named = config.get(adapters.BASE_KEY)
        if named is not None and named not in (
            self.fingerprint,
            self.config.get(DERIVED_KEY),
        ):
            raise ModelError(
                f"the adapter {folder} was trained on another model: its base is "
                f"{str(named)[:12]}, this one is {self.fingerprint[:12]}"
            )
        try:
            adapters.add_layers(self.module, config)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{folder} does not fit the model: {error}") from error
        path = folder / adapters.WEIGHTS
        found = {name: entry.shape for name, entry in read_safetensors(path).items()}
        shapes = adapters.adapter_parameters(self.module)
        expected = {name: tuple(value.shape) for name, value in shapes.items()}
        if found != expected:
            odd = sorted(set(found.items()) ^ set(expected.items()))[0][0]
            raise ModelError(f"{path} does not fit the model: see its tensor {odd}")
        weights: Any = mx.load(str(path))
        values = [(name, value.astype(mx.float32)) for name, value in weights.items()]
        self.module.load_weights(values, strict=False)
        return config.get(adapters.ACTIVE_KEY) == "after_blocks"


DERIVED_KEY = "derived_from"  # in config.json: fingerprint of the model this one stands in for


def check_architecture(folder: Path, config: dict[str, Any]) -> None:
    """Refuse models that are not simply one full-attention block after the other.

    Raises:
        ModelError: The architecture is unknown here, or ``vocab_size`` is unusable.
    """
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise ModelError(
            f"{folder} is of the architecture {kind!r}; quantizing with a gate knows "
            f"{', '.join(ARCHITECTURES)}. For others: mlx_lm.convert -q"
        )
    size = config.get("vocab_size")
    if not isinstance(size, int) or size < 1:
        raise ModelError(f"{folder / 'config.json'}: vocab_size is {size!r}, expected a number")


def fuse_layers(block: nn.Module) -> None:
    """Replace a block's adapter layers by dense ones that do the same, in place.

    Raises:
        ModelError: A layer cannot be fused.
    """
    import mlx.core as mx
    from mlx.utils import tree_unflatten

    fused = []
    for name, module in block.named_modules():
        if "lora_a" not in module:
            continue
        if not hasattr(module, "fuse"):
            raise ModelError(f"the layer {name} cannot be fused")
        fused.append((name, module.fuse(dequantize=True)))
    block.update_modules(tree_unflatten(fused))
    mx.eval(block.parameters())


def linear_layers(block: nn.Module) -> dict[str, nn.Module]:
    """Return a block's matrices by dotted name, those under adapter layers included."""
    from mlx import nn as kinds

    return {
        name.removesuffix(".linear"): module  # mlx-lm's name of what an adapter layer wraps
        for name, module in block.named_modules()
        if type(module) is kinds.Linear
    }


def replace_layers(block: nn.Module, layers: dict[str, nn.Module]) -> None:
    """Put modules in the place of a block's matrices, by the names of ``linear_layers``."""
    from mlx.utils import tree_unflatten

    modules = dict(block.named_modules())
    places = [
        (f"{name}.linear" if "lora_a" in modules[name] else name, layer)
        for name, layer in layers.items()
    ]
    block.update_modules(tree_unflatten(places))


def other_parameters(block: nn.Module) -> dict[str, mx.array]:
    """Return a block's parameters that are neither its matrices' nor an adapter's weights."""
    from mlx.utils import tree_flatten

    apart = {f"{name}.weight" for name in linear_layers(block)}
    found = {
        name.replace(".linear.", "."): value
        for name, value in dict(tree_flatten(block.parameters())).items()
    }
    adapted = adapters.adapter_parameters(block)
    return {k: v for k, v in found.items() if k not in apart and k not in adapted}


def _shapes(module: Any) -> dict[str, tuple[int, int]]:
    """Return the shapes of all matrices as if unpacked."""
    from mlx import nn as kinds

    found = {}
    for name, layer in module.named_modules():
        if not isinstance(
            layer, kinds.Linear | kinds.Embedding | kinds.QuantizedLinear | kinds.QuantizedEmbedding
        ):
            continue
        rows, columns = layer.weight.shape
        found[name] = (rows, columns * 32 // layer.bits if "scales" in layer else columns)
    return found


def _open(folder: Path) -> Any:
    import_mlx_lm()
    from mlx_lm.utils import load_model

    try:
        module, _ = load_model(folder, lazy=True)
    except _MISFITS as error:
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder} cannot be loaded: {text}") from error
    return module


def _materialize(block: nn.Module) -> nn.Module:
    import mlx.core as mx

    unpack(block, mx.float32)
    block.set_dtype(mx.float32)
    mx.eval(block.parameters())
    block.eval()
    return block


def _unpack_children(parent: Any, name: str) -> None:
    """Make one submodule dense float32, in place; ``unpack`` replaces a module's children only."""
    import mlx.core as mx
    from mlx import nn as kinds

    shell = kinds.Module()
    shell[name] = parent[name]
    unpack(shell, mx.float32)
    shell.set_dtype(mx.float32)
    mx.eval(shell.parameters())
    parent[name] = shell[name]
