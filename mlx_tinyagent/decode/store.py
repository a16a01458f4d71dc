"""KV segments on disk: checked before use, any doubt means a cold run.

A file is plain safetensors. Its metadata holds the key it was made for and a
digest over tensor table and data, so a flipped bit, a cut file or a file made
for another model, adapter, prompt format or library version is never used.
"""

from __future__ import annotations

import hashlib
import json
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.decode.kv import SegmentKV
from mlx_tinyagent.errors import StoreError
from mlx_tinyagent.files import atomic_write
from mlx_tinyagent.prompt.render import FORMAT

if TYPE_CHECKING:
    import mlx.core as mx

    from mlx_tinyagent.models.language import LanguageModel

# what reading a file of any content can end in
_UNUSABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
_LAYOUT = "mlx-tinyagent-kv/1"
_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a cache folder holds.

    Attributes:
        parts: Files of prompt parts.
        curves: Files of cost curves (``decode.cost``).
        leftovers: Temporary files of writers that were killed, or are at work.
        nbytes: Bytes of all of them.
    """

    parts: tuple[Path, ...]
    curves: tuple[Path, ...]
    leftovers: tuple[Path, ...]
    nbytes: int

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return (*self.parts, *self.curves, *self.leftovers)


def contents(folder: Path) -> Contents:
    """List what the cache has put into a folder; anything else there is not its own."""
    kinds = {
        name: tuple(sorted(folder.glob(pattern)))
        for name, pattern in (
            ("parts", "*.safetensors"),
            ("curves", "cost-*.json"),
            ("leftovers", ".*.new"),
        )
    }
    sizes = [_size(file) for files in kinds.values() for file in files]
    return Contents(**kinds, nbytes=sum(sizes))


def _size(file: Path) -> int:
    """Return a file's bytes; another process may delete it at any moment."""
    try:
        return file.stat().st_size
    except OSError:
        return 0


class CacheWarning(UserWarning):
    """A file of the KV cache could not be used; the run goes on without it."""


class KVStore:
    """Segments of one model in a folder, one file each.

    Args:
        folder: Where the files are; made on first use.
        model: The model they belong to.
    """

    def __init__(self, folder: Path, model: LanguageModel) -> None:
        self.folder = folder
        self._identity = {
            "layout": _LAYOUT,
            "model": model.fingerprint,
            "adapter": "base" if model.after_blocks else model.adapter_fingerprint or "base",
            "dtype": model.dtype,
            "packed": model.packed,
            "format": FORMAT,
            "mlx": version("mlx"),
            "mlx_lm": version("mlx-lm"),
        }
        self._warned = False

    def key(self, path: Sequence[str], tokens: Sequence[int]) -> str:
        """Return the key of a segment.

        Args:
            path: Digests of the segments up to and with this one.
            tokens: Token ids of all of them, which stand for the tokenizer.
        """
        ids = hashlib.sha256(json.dumps(list(tokens)).encode()).hexdigest()
        whole = json.dumps({**self._identity, "path": list(path), "tokens": ids}, sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()

    def has(self, key: str) -> bool:
        """Whether there is a file of that key; what is in it is seen when it is loaded."""
        return (self.folder / f"{key}.safetensors").is_file()

    def load(self, key: str) -> SegmentKV | None:
        """Return a segment, or None if there is none that can be trusted."""
        file = self.folder / f"{key}.safetensors"
        try:
            if file.is_symlink() or not file.is_file():
                if file.is_symlink() or file.exists():
                    raise ValueError("it is not a plain file")
                return None
            return _unpack(file.read_bytes(), key)
        except _UNUSABLE as error:
            self._warn(f"the cached prompt part {file.name[:12]} is not used: {error}")
            return None

    def save(self, key: str, kv: SegmentKV) -> None:
        """Write a segment; a disk that refuses costs one warning, not the request."""
        try:
            atomic_write(self.folder / f"{key}.safetensors", _pack(kv, key), private=True)
        except StoreError as error:
            self._warn(f"prompt parts are not kept on disk: {error}")

    def _warn(self, message: str) -> None:
        if not self._warned:
            warnings.warn(message, CacheWarning, stacklevel=3)
        self._warned = True


def _pack(kv: SegmentKV, key: str) -> bytes:
    """Serialize to safetensors with key and digest in the metadata."""
    table: dict[str, Any] = {}
    chunks: list[bytes] = []
    offset = 0
    for kind, arrays in (("k", kv.keys), ("v", kv.values)):
        for layer, array in enumerate(arrays):
            name, data = _to_bytes(array)
            span = [offset, offset + len(data)]
            table[f"{kind}.{layer}"] = {
                "dtype": name,
                "shape": list(array.shape),
                "data_offsets": span,
            }
            chunks.append(data)
            offset += len(data)
    body = b"".join(chunks)
    metadata = {"key": key, "digest": _digest(table, body)}
    header = json.dumps({"__metadata__": metadata, **table}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + body


def _unpack(raw: bytes, key: str) -> SegmentKV:
    """Check and read what ``_pack`` wrote; ValueError or KeyError where anything is off."""
    if len(raw) < 8:
        raise ValueError("it is cut short")
    (size,) = struct.unpack("<Q", raw[:8])
    if size > len(raw) - 8:
        raise ValueError("it is cut short")
    header = json.loads(raw[8 : 8 + size])
    metadata = header.pop("__metadata__")
    if metadata["key"] != key:
        raise ValueError("it was made for something else")
    body = raw[8 + size :]
    if metadata["digest"] != _digest(header, body):
        raise ValueError("its checksum is wrong")
    layers = len(header) // 2
    if not layers:
        raise ValueError("it holds no layer")
    arrays = {name: _from_bytes(entry, body) for name, entry in header.items()}
    return SegmentKV(
        tuple(arrays[f"k.{layer}"] for layer in range(layers)),
        tuple(arrays[f"v.{layer}"] for layer in range(layers)),
    )


def _digest(table: dict[str, Any], body: bytes) -> str:
    digest = hashlib.blake2b(json.dumps(table, sort_keys=True).encode(), digest_size=32)
    digest.update(body)
    return digest.hexdigest()


def _to_bytes(array: mx.array) -> tuple[str, bytes]:
    import mlx.core as mx
    import numpy as np

    if array.dtype == mx.bfloat16:
        return "BF16", np.array(array.view(mx.uint16)).tobytes()
    return ("F16" if array.dtype == mx.float16 else "F32"), np.array(array).tobytes()


def _from_bytes(entry: dict[str, Any], body: bytes) -> mx.array:
    import mlx.core as mx
    import numpy as np

    start, end = entry["data_offsets"]
    name = _DTYPES[entry["dtype"]]
    raw = np.frombuffer(body[start:end], dtype=np.uint16 if name == "bfloat16" else name)
    array = mx.array(raw.reshape(entry["shape"]))
    return array.view(mx.bfloat16) if name == "bfloat16" else array
