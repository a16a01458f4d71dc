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

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.models import kernels
from mlx_tinyagent.models.blockwise import linear_layers
from mlx_tinyagent.quantize.packing import Format

if TYPE_CHECKING:
    import mlx.core as mx
    from mlx import nn

    from mlx_tinyagent.models.blockwise import Blockwise
    from mlx_tinyagent.quantize.rows import Rows
    from mlx_tinyagent.quantize.walk import Progress

Table = dict[str, dict[Format, float]]  # matrix -> format -> expected KL, nats per plan token
EMBEDDING, HEAD = "model.embed_tokens", "lm_head"


def measure(
    model: Blockwise,
    rows: Rows,
    formats: Sequence[Format],
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Table:
    """Estimate what each matrix alone would cost in each format.

    Args:
        model: The model, not walked yet; consumed.
        rows: Rows to measure on, each read as one text.
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
    with kernels.fast(model.module):
        blocks, inputs, states = _forward(model, lines, progress)
        slopes, wide = _head_gradients(model, states, counts, seed)
        squares: dict[str, mx.array] = {}
        if not model.tied:
            squares[HEAD] = mx.zeros_like(_weight(model.head()))
            for part in wide:
                squares[HEAD] = squares[HEAD] + mx.square(part)
                mx.eval(squares)
            table[HEAD] = _costs(_weight(model.head()), squares[HEAD], formats, total)
        for index in reversed(range(model.layers)):
            block = blocks.pop()
            slopes = _through(block, inputs.pop(), slopes, f"model.layers.{index}", squares)
            for name, layer in linear_layers(block).items():
                full = f"model.layers.{index}.{name}"
                table[full] = _costs(_weight(layer), squares.pop(full), formats, total)
            if progress is not None:
                progress(2 * model.layers - index, 2 * model.layers)
        table[EMBEDDING] = _embedding(model, lines, slopes, wide, formats, total)
    return table


def _forward(
    model: Blockwise, lines: list[mx.array], progress: Progress | None
) -> tuple[list[nn.Module], list[list[mx.array]], list[mx.array]]:
    """Return the blocks, what went into each, and the last states."""
    import mlx.core as mx

    look_up: Any = model.embedding()
    states = [look_up(line[None]) for line in lines]
    blocks, inputs = [], []
    for index in range(model.layers):
        block: Any = model.take(index)
        inputs.append(states)
        states = [block(state, "causal", None) for state in states]
        mx.eval(states)
        blocks.append(block)
        if progress is not None:
            progress(index + 1, 2 * model.layers)
    return blocks, inputs, states


def _head_gradients(
    model: Blockwise, states: list[mx.array], counts: list[int], seed: int
) -> tuple[list[mx.array], list[mx.array]]:
    """Draw tokens and return the gradients of their log-probability, per row.

    Returns:
        With respect to the states before the last norm [1, tokens, hidden], and
        to the head's weight [vocab, hidden].
    """
    import mlx.core as mx

    norm: Any = model.norm()
    weight = _weight(model.head())
    key = mx.random.key(seed)
    slopes, wide = [], []
    for state, count in zip(states, counts, strict=True):
        key, own = mx.random.split(key)
        logits = norm(state[0, -count:]) @ weight.T
        drawn = mx.random.categorical(logits, key=own)

        def likelihood(
            state: mx.array, weight: mx.array, count: int = count, drawn: mx.array = drawn
        ) -> mx.array:
            scores = norm(state[0, -count:]) @ weight.T
            chosen = mx.take_along_axis(scores, drawn[:, None], axis=-1)[:, 0]
            return mx.sum(chosen - mx.logsumexp(scores, axis=-1))

        slope, to_head = mx.grad(likelihood, argnums=(0, 1))(state, weight)
        mx.eval(slope, to_head)
        slopes.append(slope)
        wide.append(to_head)
    return slopes, wide


def _through(
    block: nn.Module,
    inputs: list[mx.array],
    slopes: list[mx.array],
    name: str,
    squares: dict[str, mx.array],
) -> list[mx.array]:
    """Pass gradients back through a block; add each row's squared weight gradients up."""
    import mlx.core as mx

    layers: dict[str, Any] = linear_layers(block)
    passed = []
    for state, slope in zip(inputs, slopes, strict=True):

        def inner(
            weights: dict[str, mx.array], state: mx.array, slope: mx.array = slope
        ) -> mx.array:
            for key, value in weights.items():
                layers[key].weight = value
            run: Any = block
            return mx.sum(run(state, "causal", None) * slope)

        weights = {key: layer.weight for key, layer in layers.items()}
        own, back = mx.grad(inner, argnums=(0, 1))(weights, state)
        for key, value in weights.items():
            layers[key].weight = value
        for key, value in own.items():
            full = f"{name}.{key}"
            square = mx.square(value)
            squares[full] = squares[full] + square if full in squares else square
        mx.eval(back, squares)
        passed.append(back)
    return passed


def _embedding(
    model: Blockwise,
    lines: list[mx.array],
    slopes: list[mx.array],
    wide: list[mx.array],
    formats: Sequence[Format],
    total: int,
) -> dict[Format, float]:
    """Return the embedding's costs; a tied one has the head's gradients as well."""
    import mlx.core as mx

    weight = _weight(model.embedding())
    square = mx.zeros_like(weight)
    for number, (line, slope) in enumerate(zip(lines, slopes, strict=True)):
        start = wide[number] if model.tied else mx.zeros_like(weight)
        square = square + mx.square(start.at[line].add(slope[0]))
        mx.eval(square)
    return _costs(weight, square, formats, total)


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
