"""The kernels for serving on a CPU give what MLX's own give, and leave mlx-lm as it was."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_tinyagent.decode.kv import SplitCache
from mlx_tinyagent.models import kernels
from mlx_tinyagent.models.forward import hidden_states, serve
from mlx_tinyagent.models.language import LanguageModel, load
from tests.decode.tiny import write_model

SHAPES = [  # batch, heads, key heads, new tokens, all tokens
    (1, 4, 2, 7, 18),
    (1, 3, 3, 2, 2),
    (1, 9, 3, 16, 700),
    (2, 6, 2, 5, 9),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A tiny random llama."""
    return load(write_model(tmp_path_factory.mktemp("kernels") / "tiny"))


@pytest.fixture(scope="module")
def llama(tiny: LanguageModel) -> Any:
    """The module of mlx-lm whose functions are swapped."""
    return sys.modules[type(tiny.model).__module__]


def inputs(shape: tuple[int, ...], seed: int = 0) -> list[mx.array]:
    """Return queries, keys and values of these sizes, heads 8 wide."""
    batch, heads, groups, count, tokens = shape
    generator = np.random.default_rng(seed)
    sizes = (heads, count), (groups, tokens), (groups, tokens)
    return [mx.array(generator.normal(size=(batch, *two, 8)).astype("f4")) for two in sizes]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["causal", "rows", "array"])
def test_attention_equals_mlx(
    tiny: LanguageModel, llama: Any, shape: tuple[int, ...], kind: str
) -> None:
    """Causal, one mask for all, and one mask per row of the batch: equal to 2e-6."""
    queries, keys, values = inputs(shape)
    batch, _, _, count, tokens = shape
    mask: Any = "causal"
    if kind != "causal":
        seen = np.random.default_rng(1).random((batch, 1, count, tokens)) < 0.5
        seen[..., 0] = True  # something is always seen
        mask = mx.array(seen if kind == "rows" else seen[0, 0])
    wanted = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=0.35, mask=mask)

    with kernels.serving(tiny.model):
        found = llama.scaled_dot_product_attention(
            queries, keys, values, cache=None, scale=0.35, mask=mask
        )

    assert float(mx.max(mx.abs(found - wanted)).item()) < 2e-6


def test_scores_of_any_size_are_weighed(tiny: LanguageModel, llama: Any) -> None:
    """Scores of thousands, where a power of two alone would overflow or vanish."""
    queries, keys, values = inputs((1, 4, 2, 5, 40))
    wanted = mx.fast.scaled_dot_product_attention(
        queries * 1000, keys, values, scale=1.0, mask="causal"
    )

    with kernels.serving(tiny.model):
        found = llama.scaled_dot_product_attention(
            queries * 1000, keys, values, cache=None, scale=1.0, mask="causal"
        )

    assert np.allclose(np.asarray(found), np.asarray(wanted), atol=2e-3)


def test_what_it_does_not_know_is_left_to_mlx(tiny: LanguageModel, llama: Any) -> None:
    """One token, 16 bits, sinks, and masks that are added: MLX's own result to the bit."""
    queries, keys, values = inputs((1, 4, 2, 3, 6))
    half = [array.astype(mx.bfloat16) for array in (queries, keys, values)]
    added = mx.array(np.random.default_rng(2).normal(size=(3, 6)).astype("f4"))
    calls: list[tuple[tuple[mx.array, ...], dict[str, Any]]] = [
        ((queries[:, :, :1], keys, values), {"mask": None}),
        (tuple(half), {"mask": "causal"}),
        ((queries, keys, values), {"mask": added}),
        ((queries, keys, values), {"mask": "causal", "sinks": mx.zeros(4)}),
    ]
    wanted = [mx.fast.scaled_dot_product_attention(*a, scale=0.35, **kw) for a, kw in calls]

    with kernels.serving(tiny.model):
        found = [
            llama.scaled_dot_product_attention(*a, cache=None, scale=0.35, **kw) for a, kw in calls
        ]

    assert all(mx.array_equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_swiglu_equals_mlx(tiny: LanguageModel, llama: Any) -> None:
    """From -200 to 200, where a power of two alone overflows or vanishes."""
    gate, x = mx.linspace(-200.0, 200.0, 4001), mx.linspace(3.0, -5.0, 4001)
    wanted = llama.swiglu(gate, x)

    with kernels.serving(tiny.model):
        found = llama.swiglu(gate, x)
        half = llama.swiglu(gate.astype(mx.bfloat16), x.astype(mx.bfloat16))

    assert np.allclose(np.asarray(found), np.asarray(wanted), rtol=2e-6, atol=1e-30)
    assert half.dtype == mx.bfloat16


@pytest.mark.parametrize("heads", [1, 3])
def test_rope_equals_mlx_to_the_bit(tiny: LanguageModel, heads: int) -> None:
    """At one and at many positions; other kinds of it are MLX's own."""
    from mlx import nn

    x = mx.random.normal((2, heads, 7, 16), key=mx.random.key(0))
    ropes = [
        nn.RoPE(16, base=100000),
        nn.RoPE(16, base=100000, scale=0.25),
        nn.RoPE(8),
        nn.RoPE(16, traditional=True),
    ]
    offsets = [0, 650, mx.array([3, 40])]
    wanted = [rope(x, offset=offset) for rope in ropes for offset in offsets]

    with kernels.serving(tiny.model):
        found = [rope(x, offset=offset) for rope in ropes for offset in offsets]
        again = [rope(x, offset=offset) for rope in ropes for offset in offsets]

    assert all(mx.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert all(mx.array_equal(a, b) for a, b in zip(again, wanted, strict=True))


@pytest.mark.parametrize("count", [1, 2, 30])
def test_a_model_serves_as_mlx_computes(tiny: LanguageModel, count: int) -> None:
    """Hidden states after a prefix, and of a whole sequence without a cache: equal to 1e-5."""
    ids = mx.array(np.random.default_rng(count).integers(0, 600, (1, 50)))
    key = mx.random.key(1)
    caches = [
        [
            SplitCache(*mx.random.normal((2, 1, 2, 20, 16), key=key), position=33)
            for _ in tiny.model.layers
        ]
        for _ in range(2)
    ]
    for one, other in (
        (serve(tiny.model, ids, None), hidden_states(tiny.model, ids, None)),
        (
            serve(tiny.model, ids[:, :count], caches[0]),
            hidden_states(tiny.model, ids[:, :count], caches[1]),
        ),
    ):
        assert np.allclose(np.asarray(one), np.asarray(other), atol=1e-5)


def test_mlx_lm_gets_its_functions_back(tiny: LanguageModel, llama: Any) -> None:
    """After the block, and after an error inside it, baselines run mlx-lm's own code."""
    from mlx import nn

    before = llama.scaled_dot_product_attention, llama.swiglu, nn.RoPE.__call__

    def fail() -> None:
        with kernels.serving(tiny.model):
            assert llama.swiglu is not before[1]
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    serve(tiny.model, mx.array([[1, 2]]), None)

    assert (llama.scaled_dot_product_attention, llama.swiglu, nn.RoPE.__call__) == before


def test_a_module_without_these_functions_serves_too(tmp_path: Path) -> None:
    """A model class of another Python module computes as it is."""
    model = load(write_model(tmp_path / "other", seed=3)).model

    class Bare(type(model)):  # type: ignore[misc]
        """The same model, defined in this module, which has no such functions."""

    bare = Bare(model.args)
    bare.update(model.parameters())
    ids = mx.array([[5, 6, 7]])

    assert mx.array_equal(serve(bare, ids, None), hidden_states(model, ids, None))
