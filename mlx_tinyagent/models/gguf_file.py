"""Reading a GGUF file's header: metadata and tensor table, checked before use.

Pure Python and no MLX: every count, length, type and offset is checked
against the file before it is believed, so a truncated or damaged file gives a
reason and not a crash. What the tensors mean is ``models.gguf``'s business.

Source: GGUF specification, versions 2 and 3
(github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_tinyagent.errors import ModelError

_VERSIONS = (2, 3)
_MAX_ENTRIES = 65_536  # metadata pairs, and tensors; real files have dozens and hundreds
_MAX_NAME = 65_535  # bytes of a key or tensor name, the specification's limit
_MAX_DIM = 1 << 31
_SCALARS = {  # value type -> struct code
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9

# type number -> (name, elements per block, bytes per block); None: known, but not read
_TYPES: dict[int, tuple[str, int, int] | str] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    8: ("Q8_0", 32, 34),
    6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K",
    15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL",
    21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64",
    28: "F64", 29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
SUPPORTED = tuple(entry[0] for entry in _TYPES.values() if isinstance(entry, tuple))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One entry of the tensor table.

    Args:
        name: As in the file, such as ``blk.0.attn_q.weight``.
        type: One of ``SUPPORTED``.
        shape: Rows first: (rows, columns) of a matrix, (columns,) of a vector.
        offset: First byte, from the start of the file.
        row_bytes: Bytes of one row.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    row_bytes: int

    @property
    def rows(self) -> int:
        """Number of rows; 1 for a vector."""
        return math.prod(self.shape[:-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A checked GGUF header.

    Args:
        metadata: Key -> number, bool, str or list of those.
        tensors: Name -> entry; every tensor lies inside the file.
    """

    metadata: dict[str, Any]
    tensors: dict[str, Tensor]


def read_header(path: Path) -> Header:
    """Read and check the header of a GGUF file.

    Args:
        path: The file.

    Returns:
        Metadata and tensor table.

    Raises:
        ModelError: The file cannot be read, is not GGUF of a known version,
            is truncated or damaged, or uses a tensor type that is not
            supported; the message names the file and the place.
    """
    try:
        with open(path, "rb") as file:
            if not file.read(1):
                raise ModelError(f"{path} is empty, not a GGUF file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
                return _Reader(path, image).header()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error


class _Reader:
    """A cursor over the mapped file; every step checks what is left."""

    def __init__(self, path: Path, image: mmap.mmap) -> None:
        self.path, self.image, self.at = path, image, 0

    def header(self) -> Header:
        if self.image[:4] != b"GGUF":
            raise self.damaged(f"it starts with {self.image[:4]!r}, a GGUF file with b'GGUF'")
        self.at = 4
        version = self.scalar("I", "version")
        if version not in _VERSIONS:
            raise self.damaged(f"GGUF version {version}; versions 2 and 3 can be read")
        tensors = self.count("tensors")
        pairs = self.count("metadata pairs")
        metadata: dict[str, Any] = {}
        for index in range(pairs):
            key = self.string(f"metadata key {index}", _MAX_NAME)
            if key in metadata:
                raise self.damaged(f"metadata key {key!r} occurs twice")
            metadata[key] = self.value(self.scalar("I", f"type of {key!r}"), key)
        return Header(metadata=metadata, tensors=self.table(tensors, self.alignment(metadata)))

    def alignment(self, metadata: dict[str, Any]) -> int:
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 8 or alignment & (alignment - 1):
            raise self.damaged(f"general.alignment is {alignment!r}, expected a power of two >= 8")
        return alignment

    def table(self, count: int, alignment: int) -> dict[str, Tensor]:
        entries = [self.entry(index) for index in range(count)]
        start = -(-self.at // alignment) * alignment  # data follows the table, aligned
        tensors: dict[str, Tensor] = {}
        for name, kind, dims, offset in entries:
            if name in tensors:
                raise self.damaged(f"tensor {name!r} occurs twice")
            if offset % alignment:
                raise self.damaged(f"tensor {name!r} starts at {offset}, not aligned")
            tensors[name] = self.tensor(name, kind, dims, start + offset)
        return tensors

    def entry(self, index: int) -> tuple[str, int, tuple[int, ...], int]:
        name = self.string(f"name of tensor {index}", _MAX_NAME)
        rank = self.scalar("I", f"rank of tensor {name!r}")
        if not 1 <= rank <= 4:
            raise self.damaged(f"tensor {name!r} has {rank} dimensions, expected 1 to 4")
        dims = tuple(self.scalar("Q", f"shape of {name!r}") for _ in range(rank))
        kind = self.scalar("I", f"type of tensor {name!r}")
        return name, kind, dims, self.scalar("Q", f"offset of tensor {name!r}")

    def tensor(self, name: str, kind: int, dims: tuple[int, ...], offset: int) -> Tensor:
        entry = _TYPES.get(kind)
        if entry is None:
            raise self.damaged(f"tensor {name!r} has the unknown type {kind}")
        if isinstance(entry, str):
            raise ModelError(
                f"{self.path}: tensor {name!r} has type {entry}, which cannot be imported; "
                f"use a file with {', '.join(SUPPORTED)}"
            )
        type_name, block, block_bytes = entry
        if any(not 1 <= dim < _MAX_DIM for dim in dims) or dims[0] % block:
            raise self.damaged(f"tensor {name!r} of type {type_name} has the shape {dims}")
        row_bytes = dims[0] // block * block_bytes
        size = math.prod(dims[1:]) * row_bytes
        if offset + size > len(self.image):
            raise self.damaged(
                f"tensor {name!r} ends at byte {offset + size}, the file at {len(self.image)}: "
                "it is truncated; download it again"
            )
        return Tensor(
            name=name, type=type_name, shape=dims[::-1], offset=offset, row_bytes=row_bytes
        )

    def value(self, kind: int, key: str, depth: int = 0) -> Any:
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind], key)
        if kind == _STRING:
            return self.string(key, len(self.image))
        if kind == _ARRAY and depth == 0:  # nested arrays occur in no model file
            return self.array(key)
        raise self.damaged(f"metadata {key!r} has the unknown type {kind}")

    def array(self, key: str) -> list[Any]:
        kind = self.scalar("I", key)
        length = self.scalar("Q", key)
        smallest = struct.calcsize(f"<{_SCALARS[kind]}") if kind in _SCALARS else 8
        if length * smallest > len(self.image) - self.at:
            raise self.damaged(f"metadata {key!r} claims {length} entries, more than fit the file")
        if kind in _SCALARS:
            raw = self.take(length * smallest, key)
            return list(struct.unpack(f"<{length}{_SCALARS[kind]}", raw))
        return [self.value(kind, key, depth=1) for _ in range(length)]

    def count(self, what: str) -> int:
        count = self.scalar("Q", f"number of {what}")
        if not 0 < count <= _MAX_ENTRIES:
            raise self.damaged(f"it claims {count} {what}, expected 1 to {_MAX_ENTRIES}")
        return count

    def string(self, what: str, limit: int) -> str:
        length = self.scalar("Q", what)
        if length > limit:
            raise self.damaged(f"{what} claims {length} bytes, the limit is {limit}")
        try:
            return self.take(length, what).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged(f"{what} is not UTF-8 ({error.reason})") from error

    def scalar(self, code: str, what: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}"), what))[0]

    def take(self, size: int, what: str) -> bytes:
        if size > len(self.image) - self.at:
            raise self.damaged(f"the file ends at byte {len(self.image)} within {what}")
        self.at += size
        return self.image[self.at - size : self.at]

    def damaged(self, reason: str) -> ModelError:
        return ModelError(f"{self.path} is not a usable GGUF file: {reason}")
