"""Reading GGUF headers: what is damaged is refused with a reason, and nothing crashes."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models.gguf_file import read_header


@pytest.fixture
def small(make_gguf: Callable[..., Path]) -> tuple[Path, int]:
    """A tiny file and the length of its header."""
    path = make_gguf(kind="Q4_0")
    first = min(tensor.offset for tensor in read_header(path).tensors.values())
    return path, first


def test_reads_metadata_and_tensor_table(make_gguf: Callable[..., Path]) -> None:
    """Values and shapes come out as the writer put them, rows first."""
    header = read_header(make_gguf(kind="Q8_0"))

    assert header.metadata["llama.embedding_length"] == 64
    assert header.metadata["tokenizer.ggml.tokens"][257] == "<|im_start|>"
    assert header.metadata["llama.rope.freq_base"] == 10000.0
    tensor = header.tensors["blk.1.ffn_down.weight"]
    assert (tensor.type, tensor.shape, tensor.row_bytes) == ("Q8_0", (64, 96), 3 * 34)
    assert header.tensors["output_norm.weight"].type == "F32"


def test_every_truncation_is_refused(small: tuple[Path, int]) -> None:
    """A file cut anywhere in the header or the data is never accepted."""
    path, header = small
    data = path.read_bytes()
    tail = data.rstrip(b"\0")
    cuts = {*range(64), *range(64, header, 97), header, header + 1, len(tail) - 1}
    for cut in sorted(cuts):
        path.write_bytes(data[:cut])
        with pytest.raises(ModelError, match=r"GGUF|tensor") as caught:
            read_header(path)
        assert "\n" not in str(caught.value)


def test_flipped_bits_give_a_reason_or_a_consistent_header(small: tuple[Path, int]) -> None:
    """Whatever bit of the header flips, tensors that are accepted lie inside the file."""
    path, header = small
    data = path.read_bytes()
    generator = random.Random(0)
    for _ in range(400):
        damaged = bytearray(data)
        damaged[generator.randrange(header)] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            tensors = read_header(path).tensors.values()
        except ModelError:
            continue
        assert all(t.offset + t.rows * t.row_bytes <= len(data) for t in tensors)
        assert all(t.rows == math.prod(t.shape[:-1]) for t in tensors)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04" + bytes(100), "starts with"),
        (b"GGUF" + struct.pack("<IQQ", 1, 1, 1), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 1, 1), "version 50331648"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 62, 1), "claims 4611686018427387904 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 1 << 40), "metadata pairs"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, 1 << 60) + bytes(64), "claims"),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, 1) + b"k" + struct.pack("<IIQ", 9, 0, 1 << 61),
            "more than fit",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, 1) + b"k" + struct.pack("<IIQ", 9, 9, 0),
            "ends at byte",
        ),
    ],
)
def test_impossible_headers_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    """Sizes are judged before anything of that size is read or allocated."""
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=reason):
        read_header(path)


def test_known_but_unsupported_types_are_named(small: tuple[Path, int]) -> None:
    """A K-quant is not called damage: the message names it and what would do."""
    path, _ = small
    data = path.read_bytes()
    name = b"blk.0.attn_q.weight"
    kind = data.index(name) + len(name) + 4 + 16
    path.write_bytes(data[:kind] + struct.pack("<I", 12) + data[kind + 4 :])
    with pytest.raises(ModelError, match=r"Q4_K.*Q4_0, Q4_1, Q8_0"):
        read_header(path)


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    """The operating system's reason is passed on."""
    with pytest.raises(ModelError, match="No such file"):
        read_header(tmp_path / "none.gguf")
