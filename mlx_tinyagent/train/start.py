"""Starting from an adapter that is there: is it one of the same kind?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models.adapters import ACTIVE_KEY, BASE_KEY, CONFIG, WEIGHTS, read_config
from mlx_tinyagent.models.folder import fingerprint, read_safetensors
from mlx_tinyagent.prompt.render import FORMAT

if TYPE_CHECKING:
    import mlx.core as mx

    from mlx_tinyagent.train.config import TrainConfig


def identity(folder: Path) -> str:
    """Return the fingerprint of an adapter's weights, which a run's settings name.

    Raises:
        ModelError: The folder holds no adapter.
    """
    read_config(folder)
    return fingerprint(folder, config=False)


def read_start(
    folder: Path, config: TrainConfig, *, base: str, fresh: Mapping[str, mx.array]
) -> dict[str, mx.array]:
    """Read the weights that a run starts from.

    Args:
        folder: Adapter folder.
        config: The run's settings.
        base: Fingerprint of the model.
        fresh: The adapter that the settings ask for, by name.

    Raises:
        ModelError: It is damaged, was trained on another model or another prompt, acts
            elsewhere, has another factor, or has other layers or another rank.
    """
    import mlx.core as mx

    found = read_config(folder)
    for what, has, wants in _compared(found, config, base):
        if has is not None and has != wants:
            raise ModelError(
                f"the run cannot start from {folder / CONFIG}: {what} is {_short(has)}, this run "
                f"has {_short(wants)}"
            )
    path = folder / WEIGHTS
    shapes = {name: tuple(entry.shape) for name, entry in read_safetensors(path).items()}
    expected = {name: tuple(value.shape) for name, value in fresh.items()}
    for name in sorted({*shapes, *expected}):
        if shapes.get(name) != expected.get(name):
            raise ModelError(
                f"the run cannot start from {path}: {name} is {shapes.get(name, 'missing')}, this "
                f"run has {expected.get(name, 'no such tensor')}; --rank, --layers, --key and "
                "--fine-tune-type say what it has"
            )
    try:
        return cast("dict[str, mx.array]", mx.load(str(path)))
    except RuntimeError as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def _compared(
    found: Mapping[str, Any], config: TrainConfig, base: str
) -> list[tuple[str, object, object]]:
    """Return what must agree: name, the adapter's value (None where it says none), the run's."""
    return [
        (BASE_KEY, found.get(BASE_KEY), base),
        ("prompt_format", found.get("prompt_format"), FORMAT),
        (ACTIVE_KEY, found.get(ACTIVE_KEY), config.active),
        ("fine_tune_type", found.get("fine_tune_type", "lora"), config.fine_tune_type),
        ("scale", float(found["lora_parameters"]["scale"]), config.scale),
    ]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."
