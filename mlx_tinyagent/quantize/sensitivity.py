"""What each matrix costs in few bits, measured on plans: one backward pass tells for all.

To second order, KL(model, changed model) is half the mean of (gradient . change)^2,
the gradient being that of the log-probability of tokens drawn from the model
itself. Rounding errors are as good as independent, so of the square only the
diagonal counts: half the sum of gradient^2 * error^2 per matrix, which needs
one backward pass per row for any number of formats. Blocks are visited from the last
to the first, one in memory at a time.

Source:
    Fisher information as the curvature of KL: Amari 1998, Neural Computation
    10(2); its diagonal for rounding as in Kim et al. 2024, SqueezeLLM
    (arXiv:2306.07629), there with gradients of the data's own tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.models import kernels
from mlx_tinyagent.models.adapters import base_only
from mlx_tinyagent.models.blockwise import linear_layers
from mlx_tinyagent.quantize.packing import Format
from mlx_tinyagent.quantize.walk import Context

if TYPE_CHECKING:
    import mlx.core as mx
    from mlx import nn

    from mlx_tinyagent.models.blockwise import Blockwise
    from mlx_tinyagent.quantize.rows import Rows
    from mlx_tinyagent.quantize.walk import Progress

Table = dict[str, dict[Format, float]]  # matrix -> format -> expected KL, nats per plan token
EMBEDDING, HEAD = "model.embed_tokens", "lm_head"


def measure(
    open_model: Callable[[], Blockwise],
    rows: Rows,
    formats: Sequence[Format],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Table:
    """Estimate what each matrix alone would cost in each format.

    Args:
        open_model: Opens the model; it is walked twice, forth and back.
        rows: Rows to measure on, each read as one text; an adapter that acts after
            the tool blocks acts on tail and plan.
        formats: Affine formats.
        seed: Decides the tokens that are drawn.
        progress: Told how far it is, in blocks of both directions.

    Returns:
        Expected KL per matrix and format, in nats per plan token.
    """
    import mlx.core as mx

    lines = [mx.array([*rows.prompt(row), *row.plan[:-1]]) for row in rows.rows]
    counts = [len(row.plan) for row in rows.rows]
    total = sum(counts)
    table: Table = {}
    model = open_model()
    cuts = [len(rows.prompt(row)) - len(row.tail) if model.after_blocks else 0 for row in rows.rows]
    with kernels.fast(model.module):
        inputs = _forward(model, lines, cuts, progress)
        model = open_model()
        head = _Head(model, inputs.pop(), counts, seed)
        if not model.tied:
            table[HEAD] = _costs(head.weight, head.squares(), formats, total)
        slopes = head.slopes()
        for index in reversed(range(model.layers)):
            block = model.take(index)
            squares: dict[str, mx.array] = {}
            slopes = _through(block, inputs.pop(), slopes, cuts, squares)
            for name, layer in linear_layers(block).items():
                full = f"model.layers.{index}.{name}"
                table[full] = _costs(_weight(layer), squares.pop(name), formats, total)
            del block
            if progress is not None:
                progress(2 * model.layers - index, 2 * model.layers)
        weight = _weight(model.embedding())
        square = mx.zeros_like(weight)
        for number, (line, slope) in enumerate(zip(lines, slopes, strict=True)):
            # a tied embedding is the head as well, and both gradients add up
            start = head.gradient(number) if model.tied else mx.zeros_like(weight)
            square = square + mx.square(start.at[line].add(slope[0]))
            mx.eval(square)
        table[EMBEDDING] = _costs(weight, square, formats, total)
    return table


def _pass(block: nn.Module, state: mx.array, cut: int) -> mx.array:
    """Pass one row [1, tokens, hidden] through a block; before ``cut`` without its adapter."""
    import mlx.core as mx

    run: Any = block
    if not cut:
        result: mx.array = run(state, "causal", None)
        return result
    before = Context(None, None, 0)
    with base_only(block):
        prefix = run(state[:, :cut], "causal", before)
    keys, values = before.own[0]
    rest = run(state[:, cut:], "causal", Context(keys, values, cut))
    return mx.concatenate([prefix, rest], axis=1)


def _forward(
    model: Blockwise, lines: list[mx.array], cuts: list[int], progress: Progress | None
) -> list[list[mx.array]]:
    """Return what went into each block, and the states after the last one."""
    import mlx.core as mx

    look_up: Any = model.embedding()
    states = [look_up(line[None]) for line in lines]
    inputs = [states]
    for index in range(model.layers):
        block = model.take(index)
        states = [_pass(block, state, cut) for state, cut in zip(states, cuts, strict=True)]
        mx.eval(states)
        inputs.append(states)
        del block
        if progress is not None:
            progress(index + 1, 2 * model.layers)
    return inputs


class _Head:
    """Draws tokens at the places of the plans, and has gradients of their log-probability.

    Args:
        model: The model.
        states: States after the last block, per row [1, tokens, hidden].
        counts: Plan tokens per row.
        seed: Decides the draws.
    """

    def __init__(
        self, model: Blockwise, states: list[mx.array], counts: list[int], seed: int
    ) -> None:
        import mlx.core as mx

        self._norm: Any = model.norm()
        self.weight = _weight(model.head())
        self._states, self._counts = states, counts
        self._drawn: list[mx.array] = []
        key = mx.random.key(seed)
        for number in range(len(states)):
            key, own = mx.random.split(key)
            drawn = mx.random.categorical(self._planned(number) @ self.weight.T, key=own)
            mx.eval(drawn)
            self._drawn.append(drawn)

    def slopes(self) -> list[mx.array]:
        """Return the gradients with respect to the states."""
        import mlx.core as mx

        found = []
        for number, state in enumerate(self._states):

            def likelihood(state: mx.array, number: int = number) -> mx.array:
                scores = self._norm(state[0, -self._counts[number] :]) @ self.weight.T
                chosen = mx.take_along_axis(scores, self._drawn[number][:, None], axis=-1)[:, 0]
                return mx.sum(chosen - mx.logsumexp(scores, axis=-1))

            found.append(mx.grad(likelihood)(state))
            mx.eval(found[-1])
        return found

    def gradient(self, number: int) -> mx.array:
        """Return a row's gradient with respect to the weight [vocab, hidden]."""
        import mlx.core as mx

        planned = self._planned(number)
        off = -mx.softmax(planned @ self.weight.T, axis=-1)
        places = mx.arange(planned.shape[0])
        off = off.at[places, self._drawn[number]].add(1.0)
        return off.T @ planned

    def squares(self) -> mx.array:
        """Return the sum over rows of squared gradients with respect to the weight."""
        import mlx.core as mx

        total = mx.zeros_like(self.weight)
        for number in range(len(self._states)):
            total = total + mx.square(self.gradient(number))
            mx.eval(total)
        return total

    def _planned(self, number: int) -> mx.array:
        planned: mx.array = self._norm(self._states[number][0, -self._counts[number] :])
        return planned


def _through(
    block: nn.Module,
    inputs: list[mx.array],
    slopes: list[mx.array],
    cuts: list[int],
    squares: dict[str, mx.array],
) -> list[mx.array]:
    """Pass gradients back through a block; add each row's squared weight gradients up."""
    import mlx.core as mx

    layers: dict[str, Any] = linear_layers(block)
    passed = []
    for state, slope, cut in zip(inputs, slopes, cuts, strict=True):

        def inner(
            weights: dict[str, mx.array],
            state: mx.array,
            slope: mx.array = slope,
            cut: int = cut,
        ) -> mx.array:
            for key, value in weights.items():
                layers[key].weight = value
            return mx.sum(_pass(block, state, cut) * slope)

        weights = {key: layer.weight for key, layer in layers.items()}
        own, back = mx.grad(inner, argnums=(0, 1))(weights, state)
        for key, value in weights.items():
            layers[key].weight = value
        for key, value in own.items():
            square = mx.square(value)
            squares[key] = squares[key] + square if key in squares else square
        mx.eval(back, squares)
        passed.append(back)
    return passed


def _costs(
    weight: mx.array, square: mx.array, formats: Sequence[Format], tokens: int
) -> dict[Format, float]:
    """Return half the sum of squared gradient times squared rounding error, per token."""
    import mlx.core as mx
    import numpy as np

    found = {}
    for form in formats:
        groups = weight.reshape(weight.shape[0], -1, form.group_size)
        low = mx.min(groups, axis=-1, keepdims=True)
        scale = (mx.max(groups, axis=-1, keepdims=True) - low) / (2**form.bits - 1)
        scale = mx.maximum(scale, 1e-12)
        rounded = mx.round((groups - low) / scale) * scale + low
        error = mx.square(rounded - groups).reshape(weight.shape)
        found[form] = 0.5 * float(np.array(mx.sum(square * error))) / tokens
    return found


def _weight(layer: nn.Module) -> mx.array:
    weight: mx.array = layer["weight"]
    return weight
