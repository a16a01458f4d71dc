"""A llama written out in plain MLX: explicit positions, explicit mask, no cache, nothing shared.

The adapter's product is added where ``adapted`` says so; keys and values of the
tokens in ``rounded`` are seen in 16 bits by the tokens in ``active``, as blocks
are kept. Gradients pass as if nothing were rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

Weights = Mapping[str, mx.array]


def rotate(x: mx.array, positions: mx.array, base: float) -> mx.array:
    """Apply rotary embedding to x [heads, tokens, size] at the given positions."""
    half = x.shape[-1] // 2
    rates = mx.power(base, -mx.arange(half).astype(mx.float32) / half)
    angles = positions[:, None].astype(mx.float32) * rates
    one, two = x[..., :half], x[..., half:]
    cos, sin = mx.cos(angles), mx.sin(angles)
    return mx.concatenate([one * cos - two * sin, one * sin + two * cos], axis=-1)


def norm(x: mx.array, weight: mx.array) -> mx.array:
    """RMS norm."""
    return x * mx.rsqrt(mx.mean(x * x, axis=-1, keepdims=True) + 1e-5) * weight


def hidden(
    config: Mapping[str, Any],
    weights: Weights,
    lora: Weights,
    ids: mx.array,
    *,
    positions: mx.array,
    mask: mx.array,
    active: mx.array,
    rounded: mx.array,
    scale: float,
    adapted: mx.array | None = None,
) -> mx.array:
    """Return the hidden states after the last norm [tokens, hidden]."""
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    size = config["head_dim"]
    on = (active if adapted is None else adapted)[:, None].astype(mx.float32)

    def linear(name: str, x: mx.array) -> mx.array:
        y = x @ weights[f"{name}.weight"].T
        return y + on * (scale * ((x @ lora[f"{name}.lora_a"]) @ lora[f"{name}.lora_b"]))

    def split(x: mx.array, count: int) -> mx.array:
        return x.reshape(-1, count, size).transpose(1, 0, 2)

    def kept(x: mx.array) -> mx.array:
        less = mx.stop_gradient(x.astype(mx.float16).astype(mx.float32) - x)
        return x + mx.where(rounded[:, None], less, 0.0)

    x = weights["model.embed_tokens.weight"][ids]
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        inner = norm(x, weights[f"{layer}.input_layernorm.weight"])
        at = f"{layer}.self_attn"
        q = rotate(split(linear(f"{at}.q_proj", inner), heads), positions, config["rope_theta"])
        k = rotate(split(linear(f"{at}.k_proj", inner), groups), positions, config["rope_theta"])
        v = split(linear(f"{at}.v_proj", inner), groups)
        k, v = mx.repeat(k, heads // groups, axis=0), mx.repeat(v, heads // groups, axis=0)
        outs = []
        for keys, values in ((k, v), (kept(k), kept(v))):
            scores = q @ keys.swapaxes(-1, -2) * size**-0.5
            shares = mx.softmax(mx.where(mask, scores, -1e30), axis=-1)
            outs.append((shares @ values).transpose(1, 0, 2).reshape(len(ids), -1))
        x = x + linear(f"{at}.o_proj", mx.where(active[:, None], outs[1], outs[0]))
        inner = norm(x, weights[f"{layer}.post_attention_layernorm.weight"])
        gate = linear(f"{layer}.mlp.gate_proj", inner)
        up = linear(f"{layer}.mlp.up_proj", inner)
        x = x + linear(f"{layer}.mlp.down_proj", gate * mx.sigmoid(gate) * up)
    return norm(x, weights["model.norm.weight"])
