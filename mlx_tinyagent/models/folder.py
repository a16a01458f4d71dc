"""Model folders on disk: checked safetensors headers, and the fingerprint of a model.

Knows no MLX: a folder is read as JSON and bytes, so it can be judged before
anything is loaded from it.

Source: safetensors format (github.com/huggingface/safetensors, README).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_tinyagent.config import paths
from mlx_tinyagent.errors import ModelError, StoreError
from mlx_tinyagent.files import atomic_write

_MAX_HEADER = 100_000_000  # bytes, the format's own limit
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "U16": 16, "I16": 16,
    "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip
_CODE_KEYS = ("model_file", "auto_map", "trust_remote_code")
# what a config says about files and versions, not about the function computed
_VOLATILE_KEYS = {"_name_or_path", "architectures", "transformers_version", "torch_dtype", "dtype"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One tensor of a safetensors file.

    Args:
        file: The file it lies in.
        dtype: The format's name, such as ``F16``.
        shape: Dimensions.
        start: First byte, from the start of the file.
        size: Bytes.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` and refuse folders that ask for code of their own.

    Args:
        folder: A model folder.

    Returns:
        The configuration.

    Raises:
        ModelError: Missing, not JSON, or it names a Python file to run.
    """
    config = read_json(folder / "config.json")
    if named := [key for key in _CODE_KEYS if config.get(key)]:
        raise ModelError(
            f"{folder / 'config.json'} asks to run code of its own ({named[0]}), "
            "which is never done; use a model whose architecture mlx-lm knows"
        )
    return config


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: The file is missing, unreadable or not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path.parent} is not a model folder: no {path.name} in it") from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds a JSON {type(value).__name__}, expected an object")
    return value


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a folder, sorted by name.

    Raises:
        ModelError: There are none; other formats are named and not read.
    """
    files = sorted(folder.glob("model*.safetensors"))
    if files:
        return files
    others = sorted(
        p.name for p in folder.glob("*") if p.suffix in (".bin", ".pt", ".gguf", ".npz")
    )
    found = f"; {others[0]} is not read, weights come from safetensors only" if others else ""
    raise ModelError(f"{folder} has no model*.safetensors{found}")


def read_entries(folder: Path) -> dict[str, Entry]:
    """Read and check the headers of all weight files of a folder.

    Returns:
        Tensor name -> entry.

    Raises:
        ModelError: A file is truncated or damaged, a name occurs twice, or a
            file that the index names is missing.
    """
    files = weight_files(folder)
    _check_index(folder, files)
    entries: dict[str, Entry] = {}
    for file in files:
        for name, entry in read_safetensors(file).items():
            if name in entries:
                raise ModelError(f"tensor {name!r} is in both {entries[name].file} and {file}")
            entries[name] = entry
    return entries


def read_safetensors(path: Path) -> dict[str, Entry]:
    """Read and check the header of one safetensors file.

    Returns:
        Tensor name -> entry.

    Raises:
        ModelError: The header is damaged, or the data is shorter or longer
            than it says.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            prefix = file.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if not 2 <= length <= min(_MAX_HEADER, size - 8):
                raise _damaged(path, f"a header of {length} bytes in a file of {size}")
            header = json.loads(file.read(length).decode("utf-8"))
        return _entries(path, header, start=8 + length, size=size)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"its header cannot be read ({error})") from error


def fingerprint(folder: Path, *, config: bool = True) -> str:
    """Return what identifies a model's function: weights, configuration, quantization.

    The weights' hash covers names, types, shapes and bytes in name order, so
    it does not depend on the order or number of files. It is kept in the cache
    folder and read from there as long as sizes and times stay the same.

    Args:
        folder: A model folder, or an adapter folder without ``config.json``.
        config: Whether ``config.json`` takes part.

    Returns:
        64 hexadecimal digits.

    Raises:
        ModelError: The folder is not a usable model.
    """
    files = weight_files(folder) if config else [folder / "adapters.safetensors"]
    digest = hashlib.sha256(_weights_hash(folder, files).encode())
    if config:
        settings = {k: v for k, v in read_config(folder).items() if k not in _VOLATILE_KEYS}
        digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()


def _weights_hash(folder: Path, files: list[Path]) -> str:
    """Return the hash of the weights, from the cache where nothing changed."""
    try:
        stats = [(file.name, file.stat()) for file in files]
    except OSError as error:
        raise ModelError(f"cannot read {error.filename}: {error.strerror}") from error
    # no paths: the record holds for a folder that was moved as well
    state = [[name, stat.st_size, stat.st_mtime_ns, stat.st_ino] for name, stat in stats]
    key = hashlib.sha256(json.dumps(state).encode()).hexdigest()[:32]
    cached = paths().cache / "fingerprints" / f"{key}.json"
    with contextlib.suppress(ModelError, KeyError):
        return str(read_json(cached)["weights"])
    weights = _hash_tensors(files)
    record = {"folder": folder.name, "files": state, "weights": weights}
    with contextlib.suppress(StoreError):  # only a shortcut: a read-only cache is no failure
        atomic_write(cached, json.dumps(record, indent=1) + "\n")
    return weights


def _hash_tensors(files: list[Path]) -> str:
    entries = {name: entry for file in files for name, entry in read_safetensors(file).items()}
    digest = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        handles = {file: stack.enter_context(open(file, "rb")) for file in files}
        for name, entry in sorted(entries.items()):
            digest.update(f"{name}\0{entry.dtype}\0{list(entry.shape)}\0".encode())
            handle = handles[entry.file]
            handle.seek(entry.start)
            left = entry.size
            while left and (piece := handle.read(min(left, 1 << 20))):
                digest.update(piece)
                left -= len(piece)
    return digest.hexdigest()


def _entries(path: Path, header: dict[str, Any], *, start: int, size: int) -> dict[str, Entry]:
    entries = {}
    end = start
    for name, item in header.items():
        if name == "__metadata__":
            continue
        shape = tuple(int(dim) for dim in item["shape"])
        low, high = (int(offset) for offset in item["data_offsets"])
        if item["dtype"] not in _BITS:
            raise _damaged(path, f"tensor {name!r} has the unknown type {item['dtype']!r}")
        expected = math.prod(shape) * _BITS[item["dtype"]] // 8
        if min(shape, default=0) < 0 or low < 0 or high - low != expected:
            raise _damaged(path, f"tensor {name!r} has {high - low} bytes, expected {expected}")
        if start + high > size:
            raise ModelError(
                f"{path} is truncated: tensor {name!r} ends at byte {start + high}, "
                f"the file at {size}; get it again"
            )
        end = max(end, start + high)
        entries[name] = Entry(
            file=path, dtype=item["dtype"], shape=shape, start=start + low, size=expected
        )
    if end != size:
        raise _damaged(path, f"{size - end} bytes follow the last tensor")
    return entries


def _check_index(folder: Path, files: list[Path]) -> None:
    """Check that every shard the index names is there."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return
    named = read_json(index).get("weight_map", {})
    missing = sorted(set(named.values()) - {file.name for file in files})
    if missing:
        raise ModelError(f"{folder} lacks {missing[0]}, which {index.name} names; get it again")


def _damaged(path: Path, reason: str) -> ModelError:
    return ModelError(f"{path} is not a usable safetensors file: {reason}")
