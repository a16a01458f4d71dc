"""Model folders: damage is found before loading, and fingerprints name functions."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models import folder as folders
from mlx_tinyagent.models.folder import fingerprint, read_config, read_entries

MakeLlama = Callable[..., Path]


def test_entries_name_shapes_and_places(
    make_llama: MakeLlama, tiny_weights: dict[str, np.ndarray]
) -> None:
    """Every tensor's bytes are where the entry says."""
    entries = read_entries(make_llama())

    assert entries.keys() == tiny_weights.keys()
    for name, array in tiny_weights.items():
        entry = entries[name]
        data = entry.file.read_bytes()[entry.start : entry.start + entry.size]
        np.testing.assert_array_equal(np.frombuffer(data, np.float32).reshape(entry.shape), array)


@pytest.mark.parametrize("kept", [0, 4, 8, 100, 5000, -1])
def test_truncated_weights_are_refused(make_llama: MakeLlama, kept: int) -> None:
    """The message names the file, on one line."""
    file = make_llama() / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"model\.safetensors") as caught:
        read_entries(file.parent)
    assert "\n" not in str(caught.value)


def test_appended_bytes_are_refused(make_llama: MakeLlama) -> None:
    """Two files glued together are no model."""
    file = make_llama() / "model.safetensors"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ModelError, match="1 bytes follow"):
        read_entries(file.parent)


@pytest.mark.parametrize("position", [0, 3, 8, 60])
def test_damaged_headers_are_refused(make_llama: MakeLlama, position: int) -> None:
    """A changed byte in the header is never loaded."""
    file = make_llama() / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[position] ^= 0x55
    file.write_bytes(data)
    with pytest.raises(ModelError, match=r"not a usable safetensors file|truncated"):
        read_entries(file.parent)


def test_missing_shard_is_named(make_llama: MakeLlama) -> None:
    """The index tells which files there should be."""
    folder = make_llama()
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"lacks model-00002\.safetensors"):
        read_entries(folder)


@pytest.mark.parametrize("key", ["model_file", "auto_map", "trust_remote_code"])
def test_folders_with_code_of_their_own_are_refused(make_llama: MakeLlama, key: str) -> None:
    """No file of a model is ever run."""
    folder = make_llama(**{key: "model.py"})
    with pytest.raises(ModelError, match=f"code of its own .{key}"):
        read_config(folder)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": NaN', "\x00"])
def test_broken_configurations_are_one_line(make_llama: MakeLlama, content: str) -> None:
    """Neither empty nor half a file passes."""
    folder = make_llama()
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json"):
        read_config(folder)


def test_other_weight_formats_are_named_and_not_read(make_llama: MakeLlama) -> None:
    """Pickles are not opened."""
    folder = make_llama()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is not read"):
        read_entries(folder)


def test_fingerprint_ignores_how_weights_are_split(make_llama: MakeLlama) -> None:
    """One file or two, the model is the same."""
    folder = make_llama()
    whole = fingerprint(folder)
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    (folder / "model.safetensors").unlink()
    save_file({k: weights[k] for k in names[::2]}, folder / "model-00001-of-00002.safetensors")
    save_file({k: weights[k] for k in names[1::2]}, folder / "model-00002-of-00002.safetensors")

    assert fingerprint(folder) == whole


def test_fingerprint_sees_weights_and_settings(
    make_llama: MakeLlama, tiny_weights: dict[str, np.ndarray]
) -> None:
    """One changed number or setting gives another identity, a comment does not."""
    norm = {"model.norm.weight": tiny_weights["model.norm.weight"] + np.float32(1e-6)}
    base = fingerprint(make_llama("a"))

    assert fingerprint(make_llama("b")) == base
    assert fingerprint(make_llama("c", transformers_version="9.9")) == base
    assert fingerprint(make_llama("d", rope_theta=50000.0)) != base
    assert fingerprint(make_llama("e", weights=norm)) != base


def test_fingerprint_is_computed_once(
    make_llama: MakeLlama, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The weights are not read again, not even after a move, until they change."""
    folder = make_llama()
    first = fingerprint(folder)
    moved = folder.rename(tmp_path / "moved")
    with monkeypatch.context() as patch:
        patch.delattr(folders, "_hash_tensors")
        assert fingerprint(moved) == first

    data = bytearray((moved / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (moved / "model.safetensors").write_bytes(data)
    os.utime(moved / "model.safetensors", ns=(1, 1))
    assert fingerprint(moved) != first


def test_fingerprint_needs_no_writable_cache(
    make_llama: MakeLlama, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The record is a shortcut; a read-only home costs time, not the answer."""
    (tmp_path / "file").write_text("")
    folder = make_llama()
    expected = fingerprint(folder)
    monkeypatch.setenv("MLX_TINYAGENT_HOME", str(tmp_path / "file"))
    assert fingerprint(folder) == expected
