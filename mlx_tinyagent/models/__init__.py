"""Language models, tokenizers, their files and the device they run on.

Importing the package loads neither MLX nor mlx-lm: names are fetched from
their modules on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlx_tinyagent.models.device import Device, setup
    from mlx_tinyagent.models.language import LanguageModel, load
    from mlx_tinyagent.models.registry import ModelSpec, local_path, resolve
    from mlx_tinyagent.models.tokenizer import ChatFrame, Tokenizer

_HOMES = {
    "ChatFrame": "tokenizer",
    "Device": "device",
    "LanguageModel": "language",
    "ModelSpec": "registry",
    "Tokenizer": "tokenizer",
    "load": "language",
    "local_path": "registry",
    "resolve": "registry",
    "setup": "device",
}

__all__ = [
    "ChatFrame",
    "Device",
    "LanguageModel",
    "ModelSpec",
    "Tokenizer",
    "load",
    "local_path",
    "resolve",
    "setup",
]


def __getattr__(name: str) -> Any:
    """Fetch a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
