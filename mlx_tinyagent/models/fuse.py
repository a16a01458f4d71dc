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
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)


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
        for name in _TOKENIZER_FILES:
            if (model.folder / name).is_file():
                shutil.copyfile(model.folder / name, folder / name)
        text = json.dumps({**config, "dtype": dtype}, indent=2) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")


def _fused(name: str, module: object) -> object:
    """Return the dense layer that does what a layer and its adapter do."""
    make = getattr(module, "fuse", None)
    if make is None:
        raise ModelError(f"the layer {name} cannot be fused")
    return make(dequantize=True)
