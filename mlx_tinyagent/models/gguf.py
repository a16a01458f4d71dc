"""Importing a GGUF file (llama architecture) into a model folder, bit for bit.

Quantized blocks are repacked into MLX's layout and never requantized: the
folder computes exactly what the file says. The work runs in a child process
with limited memory and time.

Source: block formats as in ggml (ggml-common.h: block_q4_0, block_q4_1,
block_q8_0); tensor names and the row permutation of q and k as in llama.cpp
(convert_hf_to_gguf.py).
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.errors import InputError, ModelError, StoreError, TinyAgentError
from mlx_tinyagent.files import atomic_folder, readable_errors
from mlx_tinyagent.models.child import limit_self, run_module
from mlx_tinyagent.models.folder import fingerprint
from mlx_tinyagent.models.gguf_file import Header, Tensor, read_header
from mlx_tinyagent.models.registry import MARKER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 1  # of the imported folder; raise it when the same file would import differently
_GROUP = 32  # elements per scale in every supported quantized type
_QUANTIZED_BITS = {"Q4_0": 4, "Q4_1": 4, "Q8_0": 8}
_DTYPES = {"F32": "F32", "F16": "F16"}
_GIGABYTE = 1 << 30

_LAYER_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
_OTHER_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaShape:
    """Dimensions of a llama model, checked for consistency.

    Args:
        layers: Number of blocks.
        hidden: Width of the residual stream.
        ffn: Width of the feed-forward layer.
        heads: Query heads.
        kv_heads: Key and value heads.
        head_dim: Width of a head.
        vocab: Rows of the embedding.
        context: Tokens the model was trained for.
        rope_theta: Base of the rotary embedding.
        norm_eps: Epsilon of the RMS norms.
    """

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    rope_theta: float
    norm_eps: float


def import_gguf(path: Path, out: Path) -> Path:
    """Import a GGUF file into an mlx-lm model folder.

    Args:
        path: The GGUF file.
        out: The folder to make: ``config.json``, ``model.safetensors``,
            ``tokenizer.json``, ``tokenizer_config.json`` and our marker. A
            folder made by an earlier import is replaced, any other refused.

    Returns:
        ``out``.

    Raises:
        InputError: ``out`` exists and is not an imported model.
        ModelError: The file is damaged or holds what cannot be imported.
        StoreError: The folder cannot be written.
    """
    if out.exists() and not (out / MARKER).exists():
        raise InputError(f"{out} exists and is not an imported model; choose another folder")
    if not path.is_file():
        raise ModelError(f"{path} does not exist" if not path.exists() else f"{path} is no file")
    with atomic_folder(out) as folder:
        digest = _convert_in_child(path, folder)
        marker = {
            "format": FORMAT,
            "source": {"name": path.name, "bytes": path.stat().st_size, "sha256": digest},
            "fingerprint": fingerprint(folder),
        }
        (folder / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
    return out


def read_shape(path: Path, header: Header) -> LlamaShape:
    """Read the model's dimensions from the metadata.

    Raises:
        ModelError: Not the llama architecture, a value is missing or
            impossible, or the positions are scaled in a way that is not read.
    """
    meta = header.metadata
    if (architecture := meta.get("general.architecture")) != "llama":
        raise ModelError(f"{path} holds a {architecture!r} model; only 'llama' can be imported")

    def number(key: str, low: int, high: int, default: int | None = None) -> int:
        value = meta.get(f"llama.{key}", default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ModelError(f"{path}: llama.{key} is {value!r}, expected {low} to {high}")
        return value

    if (scaling := meta.get("llama.rope.scaling.type", "none")) != "none":
        raise ModelError(f"{path}: rope scaling {scaling!r} cannot be imported")
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise ModelError(f"{path} has no token_embd.weight matrix")
    hidden = number("embedding_length", 1, 1 << 20)
    heads = number("attention.head_count", 1, 4096)
    kv_heads = number("attention.head_count_kv", 1, heads, default=heads)
    head_dim = number("attention.key_length", 2, 1 << 16, default=max(hidden // heads, 2))
    rotated = number("rope.dimension_count", 2, 1 << 16, default=head_dim)
    if rotated != head_dim or heads % kv_heads or head_dim % 2:
        raise ModelError(
            f"{path}: {heads} heads over {kv_heads} of width {head_dim}, {rotated} rotated, "
            "is not a layout that can be imported"
        )
    return LlamaShape(
        layers=number("block_count", 1, 1024),
        hidden=hidden,
        ffn=number("feed_forward_length", 1, 1 << 20),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=embedding.shape[0],
        context=number("context_length", 1, 1 << 24),
        rope_theta=float(meta.get("llama.rope.freq_base", 10_000.0)),
        norm_eps=float(meta.get("llama.attention.layer_norm_rms_epsilon", 1e-5)),
    )


def check_tensors(path: Path, header: Header, shape: LlamaShape) -> None:
    """Check that the tensor table is exactly a llama model's.

    Raises:
        ModelError: A tensor is missing, surplus or of the wrong shape.
    """
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    layer = {
        "attn_q": (q, shape.hidden),
        "attn_k": (kv, shape.hidden),
        "attn_v": (kv, shape.hidden),
        "attn_output": (shape.hidden, q),
        "ffn_gate": (shape.ffn, shape.hidden),
        "ffn_up": (shape.ffn, shape.hidden),
        "ffn_down": (shape.hidden, shape.ffn),
        "attn_norm": (shape.hidden,),
        "ffn_norm": (shape.hidden,),
    }
    expected: dict[str, tuple[int, ...]] = {
        f"blk.{i}.{name}.weight": dims for i in range(shape.layers) for name, dims in layer.items()
    }
    expected["token_embd.weight"] = (shape.vocab, shape.hidden)
    expected["output_norm.weight"] = (shape.hidden,)
    if "output.weight" in header.tensors:
        expected["output.weight"] = (shape.vocab, shape.hidden)
    for name, dims in expected.items():
        tensor = header.tensors.get(name)
        if tensor is None:
            raise ModelError(f"{path} lacks the tensor {name}")
        if tensor.shape != dims:
            raise ModelError(f"{path}: {name} has the shape {tensor.shape}, expected {dims}")
        if len(dims) == 1 and tensor.type not in _DTYPES:
            raise ModelError(f"{path}: {name} is {tensor.type}, a norm must be F32 or F16")
    if surplus := sorted(set(header.tensors) - set(expected)):
        raise ModelError(f"{path} has a tensor no plain llama model has: {surplus[0]}")


def build_config(header: Header, shape: LlamaShape) -> dict[str, Any]:
    """Return the mlx-lm configuration of the model, per-tensor quantization included."""
    bits = {
        _mlx_name(name).removesuffix(".weight"): _QUANTIZED_BITS[tensor.type]
        for name, tensor in header.tensors.items()
        if tensor.type in _QUANTIZED_BITS
    }
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.context,
        "rope_theta": shape.rope_theta,
        # float32 in the file: 1e-5 would otherwise read 9.999999747378752e-06
        "rms_norm_eps": float(f"{shape.norm_eps:.7g}"),
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "attention_bias": False,
        "mlp_bias": False,
        "dtype": "float16",
    }
    for key in ("bos", "eos"):
        if (token := header.metadata.get(f"tokenizer.ggml.{key}_token_id")) is not None:
            config[f"{key}_token_id"] = token
    if bits:
        usual = Counter(bits.values()).most_common(1)[0][0]
        quantization: dict[str, Any] = {"group_size": _GROUP, "bits": usual, "mode": "affine"}
        for name in sorted(name for name, count in bits.items() if count != usual):
            quantization[name] = {"group_size": _GROUP, "bits": bits[name], "mode": "affine"}
        config["quantization"] = quantization
    return config


def write_weights(path: Path, header: Header, shape: LlamaShape, out: Path) -> None:
    """Write the tensors in MLX's layout, one at a time, in name order.

    Args:
        path: The GGUF file.
        header: Its header, checked.
        shape: Its dimensions.
        out: The safetensors file to write.
    """
    import numpy as np

    file = np.memmap(path, dtype=np.uint8, mode="r")
    tensors = sorted(header.tensors.values(), key=lambda tensor: _mlx_name(tensor.name))
    layout: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    end = 0
    for tensor in tensors:
        for name, dtype, dims, size in _outputs(tensor):
            layout[name] = {"dtype": dtype, "shape": dims, "data_offsets": [end, end + size]}
            end += size
    text = json.dumps(layout, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(out, "wb") as target:
        target.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            rows = file[tensor.offset : tensor.offset + tensor.rows * tensor.row_bytes]
            rows = _unpermute(tensor.name, rows.reshape(tensor.rows, tensor.row_bytes), shape)
            for array in _repack(tensor.type, rows):
                target.write(np.ascontiguousarray(array).tobytes())


def _outputs(tensor: Tensor) -> list[tuple[str, str, list[int], int]]:
    """Return (name, type, shape, bytes) of the arrays a tensor becomes, as ``_repack`` orders."""
    name = _mlx_name(tensor.name)
    count = tensor.rows * tensor.shape[-1]
    if tensor.type in _DTYPES:
        return [(name, tensor.type, list(tensor.shape), tensor.rows * tensor.row_bytes)]
    bits = _QUANTIZED_BITS[tensor.type]
    stem = name.removesuffix(".weight")
    groups = [tensor.rows, tensor.shape[-1] // _GROUP]
    size = count // _GROUP * 2
    return [
        (name, "U32", [tensor.rows, tensor.shape[-1] * bits // 32], count * bits // 8),
        (f"{stem}.scales", "F16", groups, size),
        (f"{stem}.biases", "F16", groups, size),
    ]


def _repack(kind: str, rows: NDArray[np.uint8]) -> list[NDArray[Any]]:
    """Split rows of ggml blocks into MLX's packed weights, scales and biases.

    MLX computes ``scale * q + bias`` with unsigned q, lowest bits first.
    ggml's 4-bit blocks hold element i in the low half of byte i and element
    i + 16 in the high half; Q4_0 means ``d * (q - 8)``, Q4_1 ``d * q + m``,
    Q8_0 ``d * q`` with signed q.

    Args:
        kind: A supported type.
        rows: uint8, shape [rows, row_bytes].

    Returns:
        [rows] for a float type, else [weights, scales, biases].
    """
    import numpy as np

    if kind in _DTYPES:
        return [rows]
    head = 4 if kind == "Q4_1" else 2  # bytes of the scale and, for Q4_1, the minimum
    size = head + _GROUP * _QUANTIZED_BITS[kind] // 8
    blocks = rows.reshape(rows.shape[0], -1, size)
    scales = blocks[:, :, :2].copy().view(np.float16)[..., 0]
    body = blocks[:, :, head:]
    if kind == "Q8_0":
        return [body ^ np.uint8(0x80), scales, scales * np.float16(-128)]
    quants = np.concatenate([body & 0x0F, body >> 4], axis=-1)
    packed = quants[..., 0::2] | quants[..., 1::2] << 4
    if kind == "Q4_1":
        return [packed, scales, blocks[:, :, 2:4].copy().view(np.float16)[..., 0]]
    return [packed, scales, scales * np.float16(-8)]


def _unpermute(name: str, rows: NDArray[np.uint8], shape: LlamaShape) -> NDArray[np.uint8]:
    """Put the rows of q and k back into the order that half-split rotation expects.

    llama.cpp stores the two halves of each head interleaved; only rows move,
    so packed rows can be moved as they are.
    """
    heads = {"attn_q": shape.heads, "attn_k": shape.kv_heads}.get(name.split(".")[-2])
    if heads is None:
        return rows
    halves = rows.reshape(heads, shape.head_dim // 2, 2, -1)
    return halves.swapaxes(1, 2).reshape(rows.shape)


def _mlx_name(name: str) -> str:
    if match := re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name):
        return f"model.layers.{match[1]}.{_LAYER_NAMES[match[2]]}.weight"
    return f"{_OTHER_NAMES[name.removesuffix('.weight')]}.weight"


def _convert_in_child(path: Path, folder: Path) -> str:
    """Run the conversion apart; return the sha256 of the source."""
    outcome = run_module("mlx_tinyagent.models.gguf", [str(path.absolute()), str(folder)])
    if outcome.code == 0:
        return outcome.stdout.strip()
    if outcome.code == ModelError.exit_code:
        raise ModelError(outcome.stderr.strip())
    if outcome.code == StoreError.exit_code:
        raise StoreError(outcome.stderr.strip().splitlines()[-1])
    raise ModelError(f"{path} cannot be imported: its reader was {outcome.ending}")


def _convert(path: Path, folder: Path) -> str:
    """Convert a file into a prepared folder; return the sha256 of the source."""
    from mlx_tinyagent.models.gguf_tokenizer import build_tokenizer

    header = read_header(path)
    shape = read_shape(path, header)
    check_tensors(path, header, shape)
    tokenizer, tokenizer_config = build_tokenizer(path, header, rows=shape.vocab)
    documents = {
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": json.dumps(tokenizer_config, indent=2, ensure_ascii=False) + "\n",
        "config.json": json.dumps(build_config(header, shape), indent=2) + "\n",
    }
    with readable_errors(folder):
        for name, text in documents.items():
            (folder / name).write_text(text, encoding="utf-8")
        write_weights(path, header, shape, folder / "model.safetensors")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _main() -> int:
    """Entry point of the child: source and folder in, sha256 out."""
    path, folder = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        size = path.stat().st_size
        limit_self(memory=2 * _GIGABYTE + 2 * size, seconds=60 + 60 * size // _GIGABYTE)
        sys.stdout.write(_convert(path, folder))
    except TinyAgentError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except MemoryError:
        sys.stderr.write(f"{path} cannot be imported: it needs more memory than its size allows\n")
        return ModelError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main())
