"""Writing an adapter into its base: one model folder, in full precision.

Rounding the sum back into the base's 4-bit groups would wipe a light adapter
out (mlx-lm issue #1564), so packed weights are unpacked and stay so.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_tinyagent.errors import ModelError, UsageError
from mlx_tinyagent.files import atomic_folder
from mlx_tinyagent.models.language import LanguageModel, unpack

if TYPE_CHECKING:
    from mlx_tinyagent.models.device import DtypeName

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)
_TERMS = ("LICENSE*", "LICENCE*", "NOTICE*", "COPYING*", "USE_POLICY*")
CARD = "README.md"


def fuse(model: LanguageModel, out: Path, *, dtype: DtypeName = "float32") -> None:
    """Write a model with its adapter fused in as an mlx-lm folder.

    Args:
        model: A model with an adapter that acts on all tokens; its layers are
            replaced by the fused ones.
        out: Folder to write, replaced if it exists.
        dtype: Number format of the weights; 16 bits round light adapters.

    Raises:
        UsageError: There is no adapter, or one that acts after the blocks only:
            a fused model would change how the blocks are computed.
        ModelError: A layer cannot be fused.
        StoreError: The file system refuses.
    """
    if model.adapter is None:
        raise UsageError(f"{model.name} has no adapter to fuse")
    if model.after_blocks:
        raise UsageError(
            f"the adapter {model.adapter} acts after the tool blocks only; fused, it would change "
            "the blocks as well. Serve it unfused, with --adapter"
        )
    import mlx.core as mx
    from mlx.utils import tree_flatten, tree_unflatten

    fused = [
        (name, _fused(name, module))
        for name, module in model.model.named_modules()
        if "lora_a" in module
    ]
    model.model.update_modules(tree_unflatten(fused))
    target = getattr(mx, dtype)
    unpack(model.model, target)
    weights = {
        name: value.astype(target) if mx.issubdtype(value.dtype, mx.floating) else value
        for name, value in dict(tree_flatten(model.model.parameters())).items()
    }
    config = {
        key: value
        for key, value in model.config.items()
        if key not in ("quantization", "quantization_config")
    }
    with atomic_folder(out) as folder:
        try:
            mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
        except RuntimeError as error:
            raise OSError(None, str(error), str(out)) from error
        copy_companions(model.folder, folder)
        text = json.dumps({**config, "dtype": dtype}, indent=2) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")


def copy_companions(source: Path, target: Path) -> None:
    """Copy what belongs to a model beside its weights: tokenizer, card and license.

    Args:
        source: Model folder.
        target: Folder of a model made from it.
    """
    names = [*_TOKENIZER_FILES, CARD]
    names += sorted(file.name for pattern in _TERMS for file in source.glob(pattern))
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _fused(name: str, module: object) -> object:
    """Return the dense layer that does what a layer and its adapter do."""
    make = getattr(module, "fuse", None)
    if make is None:
        raise ModelError(f"the layer {name} cannot be fused")
    return make(dequantize=True)
