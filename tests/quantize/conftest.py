"""A tiny random llama with a trained tokenizer, plans to read, and an adapter for it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mlx_tinyagent.models.folder import fingerprint
from mlx_tinyagent.quantize import rows as made
from mlx_tinyagent.quantize.pipeline import Source
from mlx_tinyagent.quantize.rows import Rows
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16

SIZES = {"intermediate_size": 128}  # divides into groups of 64


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tiny = _module(Path(__file__).resolve().parents[1] / "decode" / "tiny.py")


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a tiny random llama and returns its folder."""

    def make(name: str = "model", **settings: Any) -> Path:
        folder: Path = tiny.write_model(tmp_path / name, **{**SIZES, **settings})
        return folder

    return make


@pytest.fixture
def model(make_model: Callable[..., Path]) -> Path:
    """A tiny random llama."""
    return make_model()


@pytest.fixture(scope="session")
def few_tools() -> ToolSet:
    """Four tools: short prompts."""
    names = ("get_phone_number", "send_sms", "open_note", "maps_show_directions")
    return TINYAGENT16.subset(names)


@pytest.fixture
def plans(model: Path, few_tools: ToolSet) -> Rows:
    """Ten plans to read under the prompt of the tiny model's tokenizer."""
    tokenizer = Source(folder=model).open().tokenizer
    examples = made.synthetic(few_tools, 14, seed=3)
    return made.render(examples, few_tools, tokenizer, count=10)


@pytest.fixture
def make_adapter(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a random LoRA adapter for a model and returns its folder."""

    def make(
        model: Path, *, active: str = "after_blocks", size: float = 0.1, name: str = "adapter"
    ) -> Path:
        import mlx.core as mx

        from mlx_tinyagent.models import adapters
        from mlx_tinyagent.models.language import load

        folder = tmp_path / f"{name}-{active}"
        folder.mkdir()
        config = {
            "fine_tune_type": "lora",
            "num_layers": 2,
            "lora_parameters": {"rank": 4, "scale": 2.0, "dropout": 0.0},
            "active": active,
            "base_fingerprint": fingerprint(model),
            "prompt_format": "mlx-tinyagent/1",
        }
        (folder / adapters.CONFIG).write_text(json.dumps(config))
        module = load(model).model
        adapters.add_layers(module, config)
        key = mx.random.key(7)
        weights = {}
        for name, value in adapters.adapter_parameters(module).items():
            key, own = mx.random.split(key)
            weights[name] = size * mx.random.normal(value.shape, key=own)
        mx.save_safetensors(str(folder / adapters.WEIGHTS), weights)
        return folder

    return make


@pytest.fixture
def say() -> Callable[[str, int, int], None]:
    """Nobody to tell."""
    return lambda stage, done, total: None
