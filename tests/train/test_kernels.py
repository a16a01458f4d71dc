"""The kernels for CPU training give what MLX's own give, gradients included."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlx_tinyagent.models import kernels
from mlx_tinyagent.models.language import load
from mlx_tinyagent.train.cache import PrefixCache

SHAPES = [  # batch, heads, key heads, new tokens, prefix tokens
    (1, 4, 2, 7, 11),
    (1, 3, 3, 1, 5),
    (2, 6, 2, 5, 0),
]


@pytest.fixture(scope="module")
def llama(base: Path) -> Any:
    """The module of mlx-lm whose functions are swapped."""
    import sys

    return sys.modules[type(load(base).model).__module__]


def test_exp2_is_exact_to_rounding() -> None:
    """Against NumPy in float64 the relative error stays below 3e-7 over all normal numbers."""
    import mlx.core as mx

    x = np.linspace(-126.0, 127.0, 200_001).astype(np.float32)
    found = np.asarray(kernels.exp2(mx.array(x)))

    assert np.max(np.abs(found / 2.0 ** x.astype(np.float64) - 1.0)) < 3e-7
    assert np.allclose(np.asarray(kernels.exp2(mx.array([-1e30, -200.0]))), 2.0**-126, rtol=3e-7)


@pytest.mark.parametrize("shape", SHAPES)
def test_attention_and_its_gradient_equal_mlx(
    llama: Any, base: Path, shape: tuple[int, int, int, int, int]
) -> None:
    """Output and gradients, the prefix's too, agree with MLX's attention over both joined."""
    import mlx.core as mx

    batch, heads, groups, count, before = shape
    key = mx.random.key(3)
    names = ((heads, count), (groups, count), (groups, count), (groups, before), (groups, before))
    q, k, v, past_k, past_v = (
        mx.random.normal((batch, number, length, 8), key=mx.random.split(key, 6)[index])
        for index, (number, length) in enumerate(names)
    )
    weight = mx.random.normal((batch, heads, count, 8), key=mx.random.split(key, 6)[5])

    def loss(q: mx.array, k: mx.array, v: mx.array, past_k: mx.array, past_v: mx.array) -> mx.array:
        cache = PrefixCache(past_k, past_v, offset=0) if before else None
        keys, values = cache.update_and_fetch(k, v) if cache else (k, v)
        out = llama.scaled_dot_product_attention(
            q, keys, values, cache=cache, scale=0.35, mask="causal"
        )
        return mx.sum(out * weight)

    arrays = (q, k, v, past_k, past_v)
    wanted = mx.value_and_grad(loss, argnums=(0, 1, 2, 3, 4))(*arrays)
    with kernels.fast(load(base).model):
        found = mx.value_and_grad(loss, argnums=(0, 1, 2, 3, 4))(*arrays)
        mx.eval(found)

    assert np.allclose(np.asarray(found[0]), np.asarray(wanted[0]), rtol=1e-5)
    for one, other in zip(found[1], wanted[1], strict=True):
        assert np.allclose(np.asarray(one), np.asarray(other), rtol=1e-4, atol=1e-6)


def test_swiglu_and_its_gradient_equal_mlx(llama: Any, base: Path) -> None:
    """Values and gradients agree from -100 to 100, where exp alone would overflow."""
    import mlx.core as mx

    gate = mx.array([-100.0, -20.0, -1.0, 0.0, 0.5, 20.0, 100.0])
    x = mx.array([1.0, -2.0, 3.0, 4.0, -5.0, 6.0, 7.0])

    def loss(gate: mx.array, x: mx.array) -> mx.array:
        return mx.sum(llama.swiglu(gate, x) * mx.arange(7))

    wanted = mx.value_and_grad(loss, argnums=(0, 1))(gate, x)
    with kernels.fast(load(base).model):
        found = mx.value_and_grad(loss, argnums=(0, 1))(gate, x)
        mx.eval(found)

    for one, other in zip((found[0], *found[1]), (wanted[0], *wanted[1]), strict=True):
        assert np.allclose(np.asarray(one), np.asarray(other), rtol=1e-5, atol=1e-6)


def test_mlx_lm_gets_its_functions_back(llama: Any, base: Path) -> None:
    """After the block, and after an error inside it, the module is as it was."""
    model = load(base).model
    before = SimpleNamespace(a=llama.scaled_dot_product_attention, b=llama.swiglu)

    def fail() -> None:
        with kernels.fast(model):
            assert llama.swiglu is not before.b
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()

    assert llama.scaled_dot_product_attention is before.a
    assert llama.swiglu is before.b
