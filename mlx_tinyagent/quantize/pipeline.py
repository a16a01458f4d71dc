"""From a model folder to packed matrices: check, share bits out, round block by block."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.errors import InputError, ModelError
from mlx_tinyagent.models.blockwise import (
    DERIVED_KEY,
    Blockwise,
    linear_layers,
    other_parameters,
    replace_layers,
)
from mlx_tinyagent.models.info import describe
from mlx_tinyagent.quantize import sensitivity
from mlx_tinyagent.quantize.gptq import calibrated
from mlx_tinyagent.quantize.packing import Format, Packed, round_to
from mlx_tinyagent.quantize.recipe import expected, mixed
from mlx_tinyagent.quantize.sensitivity import EMBEDDING, HEAD, Table
from mlx_tinyagent.quantize.walk import Layout, walk

if TYPE_CHECKING:
    import mlx.core as mx
    from mlx import nn

    from mlx_tinyagent.quantize.rows import Rows
    from mlx_tinyagent.quantize.settings import QuantizeConfig

Say = Callable[[str, int, int], None]  # what is being done, steps done, steps in all


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is quantized.

    Attributes:
        folder: The model.
        adapter: Its adapter; None for the model alone.
        blocks: Whether it is served with tool blocks side by side; with an adapter
            that acts after them it always is.
    """

    folder: Path
    adapter: Path | None = None
    blocks: bool = False

    def open(self) -> Blockwise:
        """Open the model for one pass."""
        return Blockwise(self.folder, self.adapter)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """How many bits each matrix gets, and why.

    Attributes:
        formats: Format per matrix.
        table: Expected KL per matrix and format; None where nothing was measured.
    """

    formats: dict[str, Format]
    table: Table | None

    @property
    def expected_kl(self) -> float | None:
        """KL that the measurement expects of plain rounding, nats per plan token."""
        return None if self.table is None else expected(self.table, self.formats)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantized:
    """A quantized model in memory.

    Attributes:
        packed: Packed matrices by path.
        others: All other parameters, float32.
    """

    packed: dict[str, Packed]
    others: dict[str, mx.array]


def check(source: Source, config: QuantizeConfig) -> dict[str, tuple[int, int]]:
    """Refuse what cannot be quantized; return rows and columns of every matrix.

    Raises:
        ModelError: Damaged, or of an unknown architecture.
        InputError: Quantized already, or a matrix does not divide into groups.
    """
    model = source.open()
    if DERIVED_KEY in model.config:
        raise InputError(
            f"{source.folder} was made by quantize already; start from the model it was made from"
        )
    info = describe(source.folder)
    # norms and the like are stored in 16 bits: a small model has a little more than its format
    planned = 1.02 * (config.bits + config.formats()[0].overhead)
    if model.config.get("quantization") and info.bits <= planned:
        raise InputError(
            f"{source.folder} is quantized already, to {info.bits:.2f} bits per weight; "
            f"{config.bits:g} bits and scales would not make it smaller. Ask for fewer bits, or "
            "start from the original weights"
        )
    for name, (_, columns) in model.matrices.items():
        if columns % config.group:
            fits = [size for size in (128, 64, 32, 16) if columns % size == 0]
            hint = f"groups of {fits[0]} would do" if fits else "no group size of MLX does"
            raise InputError(
                f"{name} has {columns} columns, which do not divide into groups of "
                f"{config.group}; {hint}"
            )
    return model.matrices


def choose(
    source: Source,
    rows: Rows,
    config: QuantizeConfig,
    shapes: dict[str, tuple[int, int]],
    say: Say,
) -> Choice:
    """Decide how many bits each matrix gets.

    Raises:
        ModelError: A weight is not finite.
        UsageError: The bits are too few.
    """
    if not config.mixes:
        (form,) = config.formats()
        return Choice(formats=dict.fromkeys(shapes, form), table=None)
    few = sorted(rows.rows, key=lambda row: (len(rows.prompt(row)) + len(row.plan), row.id))
    table = sensitivity.measure(
        source.open,
        rows.only(few[: config.sensitivity_rows]),
        config.formats(),
        seed=config.seed,
        progress=functools.partial(say, "measuring what bits cost"),
    )
    sizes = {name: rows_ * columns for name, (rows_, columns) in shapes.items()}
    for name, costs in table.items():
        if not all(cost < float("inf") for cost in costs.values()):
            raise ModelError(f"{source.folder}: the weights of {name} are not finite numbers")
    return Choice(formats=mixed(table, sizes, config.bits), table=table)


Moments = dict[str, "mx.array"]  # matrix -> sum of x x^T over its inputs x [inputs, inputs]


def pack(
    source: Source,
    rows: Rows,
    choice: Choice,
    config: QuantizeConfig,
    say: Say,
    *,
    moments: Moments | None = None,
) -> Quantized:
    """Round all matrices; calibrated ones by what the source itself sends through them.

    Args:
        source: What is quantized.
        rows: Rows that calibrate.
        choice: Format per matrix.
        config: The settings.
        say: Told how far it is.
        moments: What ``observe`` found for these rows; None looks now, block by block.

    Raises:
        ModelError: A weight is not finite.
    """
    model = source.open()
    work = _Work(source, choice, config, moments)
    layout = Layout(rows=rows, blocks=source.blocks or model.after_blocks)

    done = functools.partial(say, "rounding")
    if config.calibrates and moments is None:
        walk(model, layout, before=work.watch, after=work.pack, progress=done, last=work.watch_head)
    else:
        for index in range(model.layers):
            work.pack(index, model.take(index))
            done(index + 1, model.layers)
    work.store(EMBEDDING, model.embedding())
    if not model.tied:
        work.store(HEAD, model.head())
    work.others |= {f"model.norm.{k}": v for k, v in other_parameters(model.norm()).items()}
    for name, value in work.others.items():
        _check_finite(source, name, value)
    return Quantized(packed=work.packed, others=work.others)


def observe(source: Source, rows: Rows, say: Say) -> Moments:
    """Return the second moments of all matrices' inputs; they need more memory than one block.

    Args:
        source: The model.
        rows: Rows that calibrate.
        say: Told how far it is.
    """
    model = source.open()
    layout = Layout(rows=rows, blocks=source.blocks or model.after_blocks)
    watch = Watch()
    walk(
        model,
        layout,
        before=watch.on,
        after=watch.off,
        progress=functools.partial(say, "observing"),
        last=watch.head,
    )
    return watch.moments


class _Work:
    """Packs one block after the other."""

    def __init__(
        self, source: Source, choice: Choice, config: QuantizeConfig, moments: Moments | None
    ) -> None:
        self.source, self.choice, self.config = source, choice, config
        self.packed: dict[str, Packed] = {}
        self.others: dict[str, mx.array] = {}
        self._watched = Watch(dict(moments or {}))

    def watch(self, index: int, block: nn.Module) -> None:
        """Look at what goes into a block's matrices from here on."""
        self._watched.on(index, block)

    def watch_head(self, states: mx.array) -> None:
        """Look at what goes into the head."""
        self._watched.head(states)

    def pack(self, index: int, block: nn.Module) -> None:
        """Pack a block's matrices by what was seen."""
        self._watched.off(index, block)
        for name, layer in linear_layers(block).items():
            self.store(f"model.layers.{index}.{name}", layer)
        self.others |= {
            f"model.layers.{index}.{name}": value for name, value in other_parameters(block).items()
        }

    def store(self, name: str, layer: nn.Module) -> None:
        """Pack one matrix."""
        import numpy as np

        _check_finite(self.source, f"{name}.weight", layer["weight"])
        weight = np.array(layer["weight"])
        form = self.choice.formats[name]
        moment = self._watched.moments.pop(name, None)
        if moment is not None and self.config.calibrates:
            self.packed[name] = calibrated(weight, form, np.array(moment))
        else:
            self.packed[name] = round_to(weight, form, search=self.config.calibrates)


class Watch:
    """Adds up second moments of what goes into matrices.

    Args:
        moments: What was seen before.
    """

    def __init__(self, moments: Moments | None = None) -> None:
        self.moments: Moments = moments if moments is not None else {}
        self._layers: dict[str, nn.Module] = {}

    def on(self, index: int, block: nn.Module) -> None:
        """Put taps before a block's matrices."""
        self._layers = linear_layers(block)
        last: list[Any] = [None, None]  # q, k and v have the same input, and so have gate and up
        taps = {
            name: _tap(self.moments, f"model.layers.{index}.{name}", layer, last)
            for name, layer in self._layers.items()
        }
        replace_layers(block, taps)

    def off(self, index: int, block: nn.Module) -> None:
        """Take the taps out again."""
        if self._layers:
            replace_layers(block, self._layers)
        self._layers = {}

    def head(self, states: mx.array) -> None:
        """Look at states before the head."""
        moment = _moment(states)
        self.moments[HEAD] = _sum(self.moments.get(HEAD), moment)


def _tap(moments: Moments, name: str, inner: nn.Module, last: list[Any]) -> nn.Module:
    """Return a layer that computes as another does and adds up what goes in."""
    from mlx import nn as kinds

    class Tap(kinds.Module):
        def __call__(self, x: mx.array) -> mx.array:
            if last[0] is not x:
                last[:] = [x, _moment(x)]
            moments[name] = _sum(moments.get(name), last[1])
            run: Any = inner
            result: mx.array = run(x)
            return result

    make: Any = Tap  # mlx-lm's base class has no annotations
    tap: nn.Module = make()
    return tap


def _moment(x: mx.array) -> mx.array:
    import mlx.core as mx

    flat = x.reshape(-1, x.shape[-1])
    moment = flat.T @ flat
    mx.eval(moment)
    return moment


def _sum(first: mx.array | None, second: mx.array) -> mx.array:
    """Add up at once: a sum that is put off would keep all its parts."""
    import mlx.core as mx

    if first is None:
        return second
    total = first + second
    mx.eval(total)
    return total


def _check_finite(source: Source, name: str, value: mx.array) -> None:
    import mlx.core as mx
    import numpy as np

    if not bool(np.array(mx.all(mx.isfinite(value)))):
        raise ModelError(f"{source.folder}: {name} holds numbers that are not finite")
