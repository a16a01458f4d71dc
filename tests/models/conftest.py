"""Small models for the tests of this folder: a random llama, and GGUF files written by hand."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 272,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "eos_token_id": 258,
}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def byte_chars() -> list[str]:
    """Return byte-level BPE's 256 characters in byte order, from the tokenizers library."""
    from tokenizers.pre_tokenizers import ByteLevel

    level = ByteLevel(add_prefix_space=False, use_regex=False)
    chars = {}
    for point in range(256):
        text = chr(point)
        for byte, char in zip(text.encode(), level.pre_tokenize_str(text)[0][0], strict=True):
            chars[byte] = char
    rest = sorted(set(level.alphabet()) - set(chars.values()))  # bytes UTF-8 never uses
    for byte in sorted(set(range(256)) - set(chars)):
        chars[byte] = chr(byte) if chr(byte) in rest else rest[0]
        rest.remove(chars[byte])
    return [chars[byte] for byte in range(256)]


def random_weights(config: dict[str, Any] = CONFIG, seed: int = 0) -> dict[str, np.ndarray]:
    """Return random float32 weights of a llama under mlx-lm's names."""
    generator = np.random.default_rng(seed)
    hidden, ffn, dim = (config[k] for k in ("hidden_size", "intermediate_size", "head_dim"))
    q, kv = config["num_attention_heads"] * dim, config["num_key_value_heads"] * dim
    shapes = {"model.embed_tokens": (config["vocab_size"], hidden)}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        shapes |= {
            f"{layer}.self_attn.q_proj": (q, hidden),
            f"{layer}.self_attn.k_proj": (kv, hidden),
            f"{layer}.self_attn.v_proj": (kv, hidden),
            f"{layer}.self_attn.o_proj": (hidden, q),
            f"{layer}.mlp.gate_proj": (ffn, hidden),
            f"{layer}.mlp.up_proj": (ffn, hidden),
            f"{layer}.mlp.down_proj": (hidden, ffn),
        }
    weights = {
        f"{name}.weight": (generator.standard_normal(shape) / shape[1] ** 0.5).astype(np.float32)
        for name, shape in shapes.items()
    }
    norms = ["model.norm"] + [
        f"model.layers.{i}.{name}"
        for i in range(config["num_hidden_layers"])
        for name in ("input_layernorm", "post_attention_layernorm")
    ]
    for name in norms:
        weights[f"{name}.weight"] = generator.uniform(0.5, 1.5, hidden).astype(np.float32)
    return weights


def write_tokenizer(folder: Path) -> None:
    """Write a byte-level tokenizer with three special tokens and a ChatML template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    vocab = {char: index for index, char in enumerate(byte_chars())}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"eos_token": "<|im_end|>", "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.fixture
def make_llama(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a tiny random llama and returns its folder.

    Changed weights, dropped names and changed settings can be passed.
    """
    from safetensors.numpy import save_file

    def make(
        name: str = "tiny",
        *,
        weights: dict[str, np.ndarray] | None = None,
        drop: tuple[str, ...] = (),
        **settings: Any,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        config = {**CONFIG, **settings}
        (folder / "config.json").write_text(json.dumps(config))
        tensors = {**random_weights(), **(weights or {})}
        tensors = {k: v for k, v in tensors.items() if k not in drop}
        save_file(tensors, str(folder / "model.safetensors"))
        write_tokenizer(folder)
        return folder

    return make


@pytest.fixture
def tiny_weights() -> dict[str, np.ndarray]:
    """The tiny llama's weights, float32, under mlx-lm's names."""
    return random_weights()


# GGUF, written from the specification

_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8}
_GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "embed_tokens": "token_embd",
    "norm": "output_norm",
}


def string(text: str) -> bytes:
    """Return a GGUF string."""
    return struct.pack("<Q", len(text.encode())) + text.encode()


def value(item: Any) -> bytes:
    """Return a typed GGUF value."""
    if isinstance(item, bool):
        return struct.pack("<I?", 7, item)
    if isinstance(item, int):
        return struct.pack("<II", 4, item)
    if isinstance(item, float):
        return struct.pack("<If", 6, item)
    if isinstance(item, str):
        return struct.pack("<I", 8) + string(item)
    kind = {int: 5, float: 6, str: 8}[type(item[0])]
    head = struct.pack("<IIQ", 9, kind, len(item))
    if kind == 8:
        return head + b"".join(string(entry) for entry in item)
    return head + struct.pack(f"<{len(item)}{'i' if kind == 5 else 'f'}", *item)


def blocks(array: np.ndarray, kind: str) -> bytes:
    """Quantize a matrix the simple way into ggml's blocks."""
    if kind in ("F32", "F16"):
        return array.astype(np.float32 if kind == "F32" else np.float16).tobytes()
    out = []
    for block in array.reshape(-1, 32).astype(np.float32):
        if kind == "Q8_0":
            scale = np.float16(np.abs(block).max() / 127)
            quants = np.clip(np.round(block / np.float32(scale)), -127, 127).astype(np.int8)
            out.append(scale.tobytes() + quants.tobytes())
            continue
        low = block.min()
        scale = np.float16((block.max() - low) / 15 if kind == "Q4_1" else np.abs(block).max() / 7)
        shifted = block - low if kind == "Q4_1" else block + 8 * np.float32(scale)
        quants = np.clip(np.round(shifted / np.float32(scale)), 0, 15).astype(np.uint8)
        head = scale.tobytes() + (np.float16(low).tobytes() if kind == "Q4_1" else b"")
        out.append(head + (quants[:16] | quants[16:] << 4).astype(np.uint8).tobytes())
    return b"".join(out)


def permute(array: np.ndarray, heads: int) -> np.ndarray:
    """Interleave the halves of each head, as llama.cpp's converter does to q and k."""
    return array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)


def gguf_metadata(**changes: Any) -> dict[str, Any]:
    """Return the metadata of the tiny llama; None drops a key."""
    tokens = byte_chars() + SPECIAL
    tokens += [f"unused{i}" for i in range(CONFIG["vocab_size"] - len(tokens))]
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": CONFIG["num_hidden_layers"],
        "llama.context_length": CONFIG["max_position_embeddings"],
        "llama.embedding_length": CONFIG["hidden_size"],
        "llama.feed_forward_length": CONFIG["intermediate_size"],
        "llama.attention.head_count": CONFIG["num_attention_heads"],
        "llama.attention.head_count_kv": CONFIG["num_key_value_heads"],
        "llama.attention.layer_norm_rms_epsilon": CONFIG["rms_norm_eps"],
        "llama.rope.freq_base": CONFIG["rope_theta"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * 256 + [3] * 3 + [1] * (len(tokens) - 259),
        "tokenizer.ggml.merges": ["u n", "un u"],
        "tokenizer.ggml.eos_token_id": 258,
        "tokenizer.chat_template": TEMPLATE,
    }
    metadata["tokenizer.ggml.tokens"][259:261] = ["un", "unu"]
    metadata |= changes
    return {key: item for key, item in metadata.items() if item is not None}


@pytest.fixture
def make_gguf(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes the tiny llama as a GGUF file and returns its path."""

    def make(
        name: str = "tiny.gguf",
        *,
        kind: str = "F32",
        weights: dict[str, np.ndarray] | None = None,
        extra: dict[str, np.ndarray] | None = None,
        **metadata: Any,
    ) -> Path:
        pairs = gguf_metadata(**{key.replace("__", "."): item for key, item in metadata.items()})
        infos, data = b"", b""
        tensors = _gguf_tensors(weights or random_weights()) | (extra or {})
        for tensor, array in tensors.items():
            used = kind if array.ndim == 2 else "F32"
            infos += string(tensor) + struct.pack("<I", array.ndim)
            infos += struct.pack(f"<{array.ndim}Q", *array.shape[::-1])
            infos += struct.pack("<IQ", _TYPES[used], len(data))
            data += blocks(array, used)
            data += b"\0" * (-len(data) % 32)
        head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
        head += b"".join(string(key) + value(item) for key, item in pairs.items()) + infos
        path = tmp_path / name
        path.write_bytes(head + b"\0" * (-len(head) % 32) + data)
        return path

    return make


def _gguf_tensors(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    heads = {"attn_q": CONFIG["num_attention_heads"], "attn_k": CONFIG["num_key_value_heads"]}
    tensors = {}
    for name, array in weights.items():
        parts = name.removeprefix("model.").removesuffix(".weight").split(".")
        layer, inner = (parts[1], parts[2:]) if parts[0] == "layers" else (None, parts)
        short = _GGUF_NAMES[".".join(inner)]
        if short in heads:
            array = permute(array, heads[short])
        tensors[f"blk.{layer}.{short}.weight" if layer else f"{short}.weight"] = array
    return tensors
