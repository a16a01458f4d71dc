"""Attention and SiLU for a CPU, where MLX's ``exp`` is what costs.

MLX 0.32 computes ``exp`` on x86-64 one value at a time, at 12 ns each; with
700 prompt tokens to look at, softmax then costs more than all matrix products
together. For training ``exp`` is a polynomial of plain arithmetic here (3 ns,
relative error 2e-7), attention keeps what its gradient needs instead of
computing it twice, and a fixed prefix costs no gradient. Serving has fewer
rows, so that the number of operations counts: there it is one power of two
(4 ns), the query heads that share keys are rows of one matrix product, and the
sines of RoPE are computed once for all layers. All of it is in float32.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import mlx.core as mx
    from mlx import nn

LOG2E = 1.4426950408889634
_LOWEST = -126.0  # the smallest normal exponent of float32
# Adding it rounds a float32 to an integer n, and its low bits then hold n + 127: the exponent
# field of 2^n.
_ROUNDING = 12582912.0 + 127.0
# 2^f for f from -0.5 to 0.5, best in relative error among polynomials of degree 5 (8e-8).
_POWER = (1.0000000710, 0.6931469492, 0.2402212175, 0.0555074262, 0.0096754597, 0.0013266970)


def exp2(x: mx.array) -> mx.array:
    """Return 2 to the power of a float32 array; where that is below 2^-126, it is 2^-126.

    Values of 128 and more overflow without notice. No gradient passes through it.
    """
    import mlx.core as mx

    power = mx.maximum(x, _LOWEST)
    shifted = power + _ROUNDING
    rest = power - (shifted - _ROUNDING)
    value = _POWER[5] * rest + _POWER[4]
    for factor in (_POWER[3], _POWER[2], _POWER[1], _POWER[0]):
        value = value * rest + factor
    return value * (shifted.view(mx.int32) << 23).view(mx.float32)


@contextlib.contextmanager
def fast(model: nn.Module) -> Iterator[None]:
    """Let a model of mlx-lm train with these kernels while the block runs.

    Where they do not apply (a GPU, another number format, a model whose module
    is built differently) nothing changes.

    Args:
        model: mlx-lm's module.
    """
    makers = {"scaled_dot_product_attention": _attention, "swiglu": _swiglu}
    module = sys.modules[type(model).__module__]
    with _swapped([(module, name, make) for name, make in makers.items()]):
        yield


@contextlib.contextmanager
def serving(model: nn.Module) -> Iterator[None]:
    """Let a model of mlx-lm compute with the kernels for serving while the block runs.

    No gradient passes through them. Where they do not apply nothing changes,
    as with ``fast``.

    Args:
        model: mlx-lm's module.
    """
    from mlx import nn as layers

    makers = {"scaled_dot_product_attention": _serving_attention, "swiglu": _serving_swiglu}
    module = sys.modules[type(model).__module__]
    swaps: list[_Swap] = [(module, name, make) for name, make in makers.items()]
    with _swapped([*swaps, (layers.RoPE, "__call__", _serving_rope)]):
        yield


_Swap = tuple[Any, str, Callable[[Callable[..., Any]], Callable[..., Any]]]


@contextlib.contextmanager
def _swapped(swaps: Sequence[_Swap]) -> Iterator[None]:
    """Replace functions of modules or classes by what is made of them, on a CPU."""
    import mlx.core as mx

    originals: list[tuple[Any, str, Callable[..., Any]]] = []
    if mx.default_device() == mx.Device(mx.cpu):
        for owner, name, make in swaps:
            if hasattr(owner, name):
                originals.append((owner, name, getattr(owner, name)))
                setattr(owner, name, make(getattr(owner, name)))
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def _attention(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return mlx-lm's attention function, faster where the mask is causal."""
    import mlx.core as mx

    attend = _attend()

    @functools.wraps(original)
    def attention(
        queries: mx.array,
        keys: mx.array,
        values: mx.array,
        cache: Any,
        scale: float,
        mask: Any,
        **others: Any,
    ) -> mx.array:
        plain = isinstance(mask, str) and all(other is None for other in others.values())
        if not plain or queries.dtype != mx.float32:
            result: mx.array = original(
                queries, keys, values, cache=cache, scale=scale, mask=mask, **others
            )
            return result
        fresh = getattr(cache, "fresh", None)
        if fresh is None:  # everything is new
            batch, heads, _, size = keys.shape
            before = mx.zeros((2, batch, heads, 0, size))
            return attend(queries * scale, before[0], before[1], keys, values)[0]
        return attend(queries * scale, cache.keys, cache.values, *fresh)[0]

    return attention


def _attend() -> Any:
    """Return attention over a prefix and causally over new tokens, with its gradient."""
    import mlx.core as mx

    @mx.custom_function
    def attend(
        queries: mx.array,
        before_keys: mx.array,
        before_values: mx.array,
        keys: mx.array,
        values: mx.array,
    ) -> tuple[mx.array, ...]:
        """Return output, weights before normalization (prefix, new), and their inverse sum."""
        heads, count = queries.shape[1], queries.shape[2]
        q = _grouped(queries, keys) * LOG2E
        beyond = mx.where(mx.tri(count, dtype=mx.float32) > 0, 0.0, -1e30)
        causal = mx.tile(beyond, (heads // keys.shape[1], 1))
        near = q @ keys.swapaxes(-1, -2) + causal
        top = mx.max(near, axis=-1, keepdims=True)
        if before_keys.shape[2]:
            far = q @ before_keys.swapaxes(-1, -2)
            top = mx.maximum(top, mx.max(far, axis=-1, keepdims=True))
            far = exp2(far - top)
        else:
            far = mx.zeros((*near.shape[:-1], 0))
        near = exp2(near - top)
        total = mx.sum(near, axis=-1, keepdims=True)
        out = near @ values
        if before_keys.shape[2]:
            total = total + mx.sum(far, axis=-1, keepdims=True)
            out = out + far @ before_values
        inverse = 1.0 / total
        return (out * inverse).reshape(queries.shape), far, near, inverse

    @attend.vjp
    def backward(
        primals: tuple[mx.array, ...],
        cotangents: tuple[mx.array, ...],
        outputs: tuple[mx.array, ...],
    ) -> tuple[mx.array, ...]:
        queries, before_keys, before_values, keys, values = primals
        out, far, near, inverse = outputs
        q = _grouped(queries, keys)
        wanted = _grouped(cotangents[0], keys) * inverse
        level = mx.sum(wanted * _grouped(out, keys), axis=-1, keepdims=True)
        slope = near * (wanted @ values.swapaxes(-1, -2) - level)
        to_queries = slope @ keys
        to_before = mx.zeros_like(before_keys), mx.zeros_like(before_values)
        if before_keys.shape[2]:
            beyond = far * (wanted @ before_values.swapaxes(-1, -2) - level)
            to_queries = to_queries + beyond @ before_keys
            # nothing computes these two where the prefix is fixed
            to_before = beyond.swapaxes(-1, -2) @ q, far.swapaxes(-1, -2) @ wanted
        return (
            to_queries.reshape(queries.shape),
            *to_before,
            slope.swapaxes(-1, -2) @ q,
            near.swapaxes(-1, -2) @ wanted,
        )

    return attend


def _grouped(queries: mx.array, keys: mx.array) -> mx.array:
    """Put the query heads that share a key head below each other."""
    batch, _, _, size = queries.shape
    return queries.reshape(batch, keys.shape[1], -1, size)


def _swiglu(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``silu(gate) * x`` with a faster sigmoid, kept for the gradient."""
    import mlx.core as mx

    @mx.custom_function
    def gated(gate: mx.array, x: mx.array) -> tuple[mx.array, mx.array]:
        open_ = 1.0 / (1.0 + exp2(mx.minimum(gate * -LOG2E, 120.0)))
        return gate * open_ * x, open_

    @gated.vjp
    def backward(
        primals: tuple[mx.array, mx.array],
        cotangents: tuple[mx.array, mx.array],
        outputs: tuple[mx.array, mx.array],
    ) -> tuple[mx.array, mx.array]:
        gate, x = primals
        open_ = outputs[1]
        passed = cotangents[0] * open_
        return passed * x * (1.0 + gate * (1.0 - open_)), passed * gate

    @functools.wraps(original)
    def swiglu(gate: mx.array, x: mx.array) -> mx.array:
        if gate.dtype != mx.float32:
            result: mx.array = original(gate, x)
            return result
        value: mx.array = cast(Any, gated)(gate, x)[0]
        return value

    return swiglu


def _serving_attention(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return mlx-lm's attention function, faster for more than one new token."""
    import mlx.core as mx

    biases = _Biases()

    @functools.wraps(original)
    def attention(
        queries: mx.array,
        keys: mx.array,
        values: mx.array,
        cache: Any,
        scale: float,
        mask: Any,
        **others: Any,
    ) -> mx.array:
        plain = isinstance(keys, mx.array) and all(other is None for other in others.values())
        bias = biases.of(mask, queries, keys) if plain else None
        if bias is None:
            result: mx.array = original(
                queries, keys, values, cache=cache, scale=scale, mask=mask, **others
            )
            return result
        scores = (_grouped(queries, keys) * (scale * LOG2E)) @ keys.swapaxes(-1, -2) + bias
        weights = mx.power(2.0, scores - mx.max(scores, axis=-1, keepdims=True))
        out = (weights @ values) / mx.sum(weights, axis=-1, keepdims=True)
        return out.reshape(queries.shape)

    return attention


class _Biases:
    """What is added to the scores of grouped heads; one mask serves all layers of a pass."""

    def __init__(self) -> None:
        self._last: tuple[Any, tuple[int, ...], mx.array] | None = None

    def of(self, mask: Any, queries: mx.array, keys: mx.array) -> mx.array | None:
        """Return the bias of a mask, [..., groups * new tokens, tokens].

        None where there is nothing to be gained, or another number format: one new
        token sees everything and is sooner served by MLX's own attention.

        Args:
            mask: "causal", or which tokens are seen [..., new tokens, tokens].
            queries: [batch, heads, new tokens, head_dim].
            keys: [batch, key heads, tokens, head_dim].
        """
        import mlx.core as mx

        if mask is None or not queries.dtype == keys.dtype == mx.float32:
            return None
        count, tokens = queries.shape[2], keys.shape[2]
        shape = (count, tokens, queries.shape[1] // keys.shape[1])
        if self._last is not None and self._last[0] is mask and self._last[1] == shape:
            return self._last[2]
        if isinstance(mask, str):
            seen = mx.arange(tokens) <= mx.arange(tokens - count, tokens)[:, None]
        elif mask.dtype == mx.bool_ and mask.shape[-2:] == (count, tokens):
            seen = mask
        else:
            return None
        bias = mx.tile(mx.where(seen, 0.0, -1e30), (*[1] * (seen.ndim - 2), shape[2], 1))
        self._last = mask, shape, bias
        return bias


def _serving_swiglu(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``silu(gate) * x`` with a faster sigmoid."""
    import mlx.core as mx

    @functools.wraps(original)
    def swiglu(gate: mx.array, x: mx.array) -> mx.array:
        if gate.dtype != mx.float32:
            result: mx.array = original(gate, x)
            return result
        return gate * x / (1.0 + mx.power(2.0, gate * -LOG2E))

    return swiglu


def _serving_rope(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``nn.RoPE``'s call with its sines kept for the layers to come, else equal to the bit.

    A layer's own take a dozen operations on a CPU, for queries and keys each.
    """
    import mlx.core as mx

    tables: dict[tuple[Any, ...], tuple[mx.array, mx.array]] = {}

    @functools.wraps(original)
    def rope(self: Any, x: mx.array, offset: Any = 0) -> mx.array:
        count, width = x.shape[-2:]
        plain = isinstance(offset, int) and not self.traditional and self.dims == width
        if not plain or x.dtype != mx.float32:
            result: mx.array = original(self, x, offset=offset)
            return result
        half = width // 2
        key = (width, self.base, self.scale, count, offset)
        if key not in tables:  # what becomes of ones and zeros tells cosines and sines
            unit = mx.concatenate([mx.ones((1, 1, count, half)), mx.zeros((1, 1, count, half))], -1)
            turned = original(self, unit, offset=offset)
            cosines, sines = turned[..., :half], turned[..., half:]
            tables[key] = (
                mx.concatenate([cosines, cosines], axis=-1),
                mx.concatenate([-sines, sines], axis=-1),
            )
        cosines, sines = tables[key]
        return x * cosines + mx.concatenate([x[..., half:], x[..., :half]], axis=-1) * sines

    return rope
