"""A quantized model as a folder that plain mlx-lm loads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mlx_tinyagent.models import adapters
from mlx_tinyagent.models.blockwise import DERIVED_KEY
from mlx_tinyagent.models.folder import fingerprint, read_config
from mlx_tinyagent.models.fuse import CARD, copy_companions

if TYPE_CHECKING:
    import mlx.core as mx

    from mlx_tinyagent.quantize.packing import Format
    from mlx_tinyagent.quantize.pipeline import Quantized, Source

TRAINED_KEY = "trained_on_fingerprint"  # in a copied adapter: the base it was trained on
_LARGEST = 6e4  # a parameter beyond what float16 holds stays float32


def write(
    folder: Path, source: Source, quantized: Quantized, *, fused: bool, license: str = ""
) -> None:
    """Write weights, configuration, tokenizer, card and license, and an adapter that stays apart.

    Args:
        folder: An empty folder.
        source: What was quantized.
        quantized: The packed model.
        fused: Whether the source's adapter is part of the weights.
        license: Named on the card where the source has none of its own.

    Raises:
        OSError: The file system refuses.
    """
    config = read_config(source.folder)
    formats = {name: packed.form for name, packed in quantized.packed.items()}
    _save(folder / "model.safetensors", _arrays(quantized))
    copy_companions(source.folder, folder)
    made: dict[str, Any] = {
        key: value
        for key, value in config.items()
        if key not in ("quantization", "quantization_config", "torch_dtype")
    }
    layout = quantization_config(formats)
    made |= {"dtype": "float16", "quantization": layout, "quantization_config": layout}
    if not fused:
        made[DERIVED_KEY] = fingerprint(source.folder)
    (folder / "config.json").write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    _write_card(folder, formats, license)
    if source.adapter is not None and not fused:
        copy_adapter(source.adapter, folder)


def quantization_config(formats: Mapping[str, Format]) -> dict[str, Any]:
    """Return mlx-lm's description: the usual format, and each matrix that has another."""
    usual = Counter(formats.values()).most_common(1)[0][0]
    layout = usual.as_dict()
    layout |= {name: form.as_dict() for name, form in sorted(formats.items()) if form != usual}
    return layout


def _arrays(quantized: Quantized) -> dict[str, mx.array]:
    import mlx.core as mx
    import numpy as np

    arrays = {
        f"{name}.{leaf}": array
        for name, packed in quantized.packed.items()
        for leaf, array in packed.arrays.items()
    }
    for name, value in quantized.others.items():
        fits = float(np.array(mx.max(mx.abs(value)))) < _LARGEST
        arrays[name] = value.astype(mx.float16) if fits else value
    return arrays


def _save(path: Path, arrays: dict[str, mx.array]) -> None:
    import mlx.core as mx

    try:
        mx.save_safetensors(str(path), arrays, {"format": "mlx"})
    except RuntimeError as error:
        raise OSError(None, str(error), str(path)) from error


def copy_adapter(adapter: Path, folder: Path) -> None:
    """Copy an adapter beside the weights it goes with, in float16; it then names them as its base.

    The folder is a model's and an adapter's at once, and both of its readers
    look at their own files only.

    Args:
        adapter: Adapter folder.
        folder: Folder of the quantized model, its configuration written.

    Raises:
        OSError: The file system refuses.
    """
    import mlx.core as mx

    weights = cast("dict[str, mx.array]", mx.load(str(adapter / adapters.WEIGHTS)))
    _save(folder / adapters.WEIGHTS, {k: v.astype(mx.float16) for k, v in weights.items()})
    config = adapters.read_config(adapter)
    config[TRAINED_KEY] = config.get(adapters.BASE_KEY)
    config[adapters.BASE_KEY] = fingerprint(folder)
    text = json.dumps(config, indent=2) + "\n"
    (folder / adapters.CONFIG).write_text(text, encoding="utf-8")


def _write_card(folder: Path, formats: Mapping[str, Format], license: str) -> None:
    """Add what was done to the source's card, or write a card."""
    path = folder / CARD
    counts = Counter(f"{form.mode} {form.bits} bits" for form in formats.values())
    widths = ", ".join(f"{number} x {name}" for name, number in sorted(counts.items()))
    own = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if not own:
        head = f"---\nlicense: {license.lower()}\nlibrary_name: mlx\n---\n\n" if license else ""
        own = f"{head}# Quantized model\n"
    note = (
        f"\n## Quantized\n\nWith mlx-tinyagent; matrices: {widths}. How far it is from the model "
        "it was made from stands in `quantization_report.json`.\n"
    )
    path.write_text(own.rstrip() + "\n" + note, encoding="utf-8")
