"""Names of models, and what a folder says about itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mlx_tinyagent.errors import ModelError, UsageError
from mlx_tinyagent.models import info, registry
from mlx_tinyagent.models.registry import ALIASES, local_path, resolve


def test_default_is_pinned() -> None:
    """One wheel, one file, one hash."""
    spec = resolve(registry.DEFAULT_MODEL)
    assert spec.kind == "wheel"
    assert spec.wheel is not None
    assert spec.wheel.sha256.startswith("b179c9523d0e6a0f")
    assert (spec.wheel.size, spec.license) == (98_362_432, "Apache-2.0")


def test_aliases_have_a_source_and_a_title() -> None:
    """Every alias can be listed and fetched."""
    for name, spec in ALIASES.items():
        assert spec.name == name == name.lower()
        assert spec.title
        assert (spec.hub is None) != (spec.wheel is None)


def test_names_mean_alias_folder_file_or_repository(tmp_path: Path) -> None:
    """In this order; case does not matter for aliases."""
    file = tmp_path / "x.gguf"
    file.write_bytes(b"GGUF")
    assert resolve("SmolLM2-135M") is ALIASES["smollm2-135m"]
    assert resolve(str(tmp_path)).kind == "folder"
    assert resolve(str(file)).kind == "gguf"
    assert resolve("Qwen/Qwen3-0.6B").hub == "Qwen/Qwen3-0.6B"


def test_unknown_names_suggest_known_ones() -> None:
    """A typing error finds its alias; nonsense gets the list."""
    with pytest.raises(UsageError, match=r"did you mean qwen3-0\.6b"):
        resolve("qwen3-06b")
    with pytest.raises(UsageError, match="known: smollm2-135m"):
        resolve("zzzzzz")


def test_paths_that_are_no_models_are_named(tmp_path: Path) -> None:
    """A missing GGUF file and a file of another kind are told apart."""
    with pytest.raises(ModelError, match="does not exist"):
        resolve(str(tmp_path / "none.gguf"))
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ModelError, match="neither a model folder nor"):
        resolve(str(tmp_path / "notes.txt"))


def test_local_path_finds_imports_and_snapshots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not complete on this disk is None."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert local_path("smollm2-135m") is None
    assert local_path("qwen3-0.6b") is None

    folder = registry.imported("smollm2-135m")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert local_path("smollm2-135m") == folder

    repository = tmp_path / "hub" / "models--Qwen--Qwen3-0.6B"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert local_path("qwen3-0.6b") is None  # weights are still missing
    (snapshot / "model.safetensors").write_bytes(b"")
    assert local_path("qwen3-0.6b") == snapshot


def test_imported_names_resolve(tmp_path: Path) -> None:
    """A model imported under a name of its own is found by it."""
    folder = registry.imported("my-model")
    folder.mkdir(parents=True)
    assert resolve("my-model").path == folder


def test_describe_counts_weights(
    make_llama: Callable[..., Path], tiny_weights: dict[str, np.ndarray]
) -> None:
    """Parameters, bits and bytes of a dense folder."""
    found = info.describe(make_llama())
    count = sum(array.size for array in tiny_weights.values())
    assert (found.parameters, found.bits) == (count, 32)
    assert (found.dense_bytes, found.context) == (4 * count, 128)
    assert found.kv_bytes_per_token == 2 * 2 * 2 * 16 * 2
    assert found.smallest_mac == 8


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("group", [32, 64])
def test_describe_counts_packed_weights(
    make_llama: Callable[..., Path],
    tiny_weights: dict[str, np.ndarray],
    bits: int,
    group: int,
) -> None:
    """Packed matrices count as many weights as they stand for."""
    import mlx.core as mx

    name = "model.layers.0.mlp.up_proj.weight"
    packed = mx.quantize(mx.array(tiny_weights[name]), group_size=group, bits=bits)
    folder = make_llama(quantization={"group_size": group, "bits": bits, "mode": "affine"})
    leaves = ("weight", "scales", "biases")
    stem = name.removesuffix("weight")
    tensors = tiny_weights | {
        f"{stem}{leaf}": np.array(a) for leaf, a in zip(leaves, packed, strict=True)
    }
    save_file(tensors, folder / "model.safetensors")

    assert info.describe(folder).parameters == sum(array.size for array in tiny_weights.values())


def test_advice_follows_memory() -> None:
    """Seven billion weights in 4 bits need a bigger Mac than in a small model's case."""
    numbers = {"architecture": "llama", "bits": 4.5, "context": 4096, "kv_bytes_per_token": 131_072}
    seven = info.ModelInfo(
        parameters=7 * 10**9,
        disk_bytes=4 * 10**9,
        dense_bytes=28 * 10**9,
        packed_bytes=4 * 10**9,
        **numbers,  # type: ignore[arg-type]
    )
    assert seven.smallest_mac == 16
    assert "16 GB" in seven.advice
