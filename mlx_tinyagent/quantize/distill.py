"""After rounding, scales and biases learn to make the model say what the original says.

The packed numbers stay; scale and bias of every group are tuned by the KL from
the original's distribution before every plan token, under the served layout and
with the adapter that serves. Weights are unpacked inside the pass, so that the
products are dense: a CPU multiplies packed weights one number at a time. Only
what goes into each block is kept for the way back, on which the block is passed
again: memory is that of the weights and one block.

Source:
    mlx-lm's DWQ (``mlx_lm.quant.dwq``) learns the same numbers; here relative to
    each group's scale, so that one rate fits matrices of all sizes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlx_tinyagent.models import kernels
from mlx_tinyagent.models.blockwise import Blockwise, linear_layers, replace_layers
from mlx_tinyagent.models.folder import fingerprint
from mlx_tinyagent.quantize.packing import AFFINE_BITS
from mlx_tinyagent.quantize.walk import Layout, States, advance

if TYPE_CHECKING:
    import mlx.core as mx
    from mlx import nn

    from mlx_tinyagent.quantize.pipeline import Say
    from mlx_tinyagent.quantize.rows import Row, Rows
    from mlx_tinyagent.quantize.score import Reading
    from mlx_tinyagent.quantize.settings import QuantizeConfig

BATCH = 4  # rows per update
EVERY = 10  # updates between looks at the rows that decide
WARMUP = 10  # updates until the full rate: Adam's first steps move everything at once
SAVE = 5  # updates between checkpoints
VALID = 0.2  # share of the rows that decide which state is kept
STATE = "state.safetensors"
_WEIGHTS = "model.safetensors"


def distill(
    folder: Path,
    adapter: Path | None,
    rows: Rows,
    reference: Reading,
    config: QuantizeConfig,
    checkpoint: Path,
    say: Say,
    *,
    blocks: bool = False,
) -> list[float]:
    """Tune the scales and biases of a quantized folder in place.

    Args:
        folder: The quantized model; its weights are rewritten at the end.
        adapter: Adapter that serves it.
        rows: Rows to learn from; a fifth of them decides what is kept,
            the state before the first update included.
        reference: What the original thinks before every plan token of these rows.
        config: Updates, rate and seed.
        checkpoint: Folder of the state of a run that was cut off; goes on from
            there if everything else is the same.
        say: Told how far it is.
        blocks: Whether tool blocks stand side by side, adapter or not.

    Returns:
        KL on the deciding rows, nats per plan token: at the start, and at every look.

    Raises:
        OSError: The file system refuses.
    """
    run = _Run(folder, adapter, rows, reference, config, blocks=blocks)
    key = hashlib.sha256(
        repr((fingerprint(folder), rows.digest, config.as_dict())).encode()
    ).hexdigest()
    run.resume(checkpoint / STATE, key)
    if not run.seen:
        run.look()
    while run.step < config.distill:
        run.update()
        say("distilling", run.step, config.distill)
        if run.step % EVERY == 0 or run.step == config.distill:
            run.look()
        if run.step % SAVE == 0 and run.step < config.distill:
            run.save(checkpoint / STATE, key)
    run.write(folder / _WEIGHTS)
    return run.seen


class _Run:
    """The model with tunable groups, the optimizer, and what was best so far."""

    def __init__(
        self,
        folder: Path,
        adapter: Path | None,
        rows: Rows,
        reference: Reading,
        config: QuantizeConfig,
        *,
        blocks: bool,
    ) -> None:
        import mlx.core as mx
        from mlx import optimizers

        self.config = config
        self.rows, self.reference = rows, reference
        self.model = Blockwise(folder, adapter)
        self.side_by_side = blocks or self.model.after_blocks
        stored: Any = mx.load(str(folder / _WEIGHTS))
        self.blocks: list[Any] = []
        self.held: list[list[Any]] = []  # per block the layers whose groups are tuned
        self.groups: dict[str, Any] = {}
        for index in range(self.model.layers):
            block = self.model.take(index)
            layers: dict[str, nn.Module] = {}
            for name, layer in linear_layers(block).items():
                full = f"model.layers.{index}.{name}"
                bits = _bits(stored, full, layer)
                if bits < AFFINE_BITS[-1]:  # at 8 bits there is nothing to make up for
                    layers[name] = self.groups[full] = _tunable(stored, full, bits, layer)
            replace_layers(block, layers)
            self.blocks.append(block)
            self.held.append(list(layers.values()))
        self.optimizer: Any = optimizers.Adam(learning_rate=config.rate, bias_correction=True)
        self.optimizer.init(self._tree())
        order = np.random.default_rng(config.seed).permutation(len(rows.rows)).tolist()
        count = max(1, round(VALID * len(order)))
        self.valid, self.train = order[:count], order[count:] or order
        self.step = 0
        self.seen: list[float] = []
        self.best = self.parameters()

    def parameters(self) -> dict[str, mx.array]:
        """Return what is tuned, by matrix."""
        return {
            f"{name}.{leaf}": getattr(group, leaf)
            for name, group in self.groups.items()
            for leaf in ("by", "shift")
        }

    def _tree(self) -> dict[str, list[dict[str, mx.array]]]:
        """Return what is tuned, as the optimizer wants it."""
        return {"groups": [{"by": g.by, "shift": g.shift} for g in self.groups.values()]}

    def update(self) -> None:
        """Learn from a few rows."""
        import mlx.core as mx

        with kernels.fast(self.model.module):
            slopes = self._slopes(self._batch(self.step))
        self.optimizer.learning_rate = self.config.rate * min(1.0, (self.step + 1) / WARMUP)
        tuned = self.optimizer.apply_gradients({"groups": slopes}, self._tree())
        mx.eval(tuned, self.optimizer.state)
        for group, found in zip(self.groups.values(), tuned["groups"], strict=True):
            group.by, group.shift = found["by"], found["shift"]
        self.step += 1

    def _slopes(self, numbers: Sequence[int]) -> list[dict[str, mx.array]]:
        """Return the gradient of the mean KL of some rows, per matrix in the order of blocks."""
        import mlx.core as mx

        layout, inputs = self._forward(numbers, keep=True)
        final = inputs.pop()

        def loss(lines: list[mx.array]) -> mx.array:
            return self._kl(numbers, States(final.header, final.tools, lines), layout)

        slope = States(None, {}, mx.grad(loss)(final.rows))  # type: ignore[arg-type]
        mx.eval(slope.rows)
        found: list[dict[str, mx.array]] = []
        for index in reversed(range(len(self.blocks))):
            own, slope = self._back(index, inputs.pop(), slope, layout)
            found = own + found
        return found

    def _back(
        self, index: int, states: States, slope: States, layout: Layout
    ) -> tuple[list[dict[str, mx.array]], States]:
        """Pass one block again, and its gradient back."""
        import mlx.core as mx

        groups, names = self.held[index], list(states.tools)

        def inner(
            tuned: list[dict[str, mx.array]],
            header: mx.array,
            tools: list[mx.array],
            lines: list[mx.array],
        ) -> mx.array:
            for group, values in zip(groups, tuned, strict=True):
                group.hold(values["by"], values["shift"])
            before = States(header, dict(zip(names, tools, strict=True)), lines)
            after = advance(self.blocks[index], before, layout, adapted=self.model.after_blocks)
            pairs = list(zip(after.rows, slope.rows, strict=True))
            if slope.tools:
                pairs += [(after.tools[name], slope.tools[name]) for name in names]
            if slope.header is not None:
                pairs.append((after.header, slope.header))
            return sum((mx.sum(out * wanted) for out, wanted in pairs), mx.array(0.0))

        tuned = [{"by": group.by, "shift": group.shift} for group in groups]
        tools = [states.tools[name] for name in names]
        wanted = (0, 1, 2, 3) if tuned else (1, 2, 3)
        found: Any = mx.grad(inner, argnums=wanted)(tuned, states.header, tools, states.rows)
        own, header, before, rows = found if tuned else ([], *found)
        mx.eval(own, header, before, rows)
        for group in groups:
            group.release()
        return own, States(header, dict(zip(names, before, strict=True)), rows)

    def look(self) -> None:
        """Measure on the rows that decide, and keep the state if it is the best."""
        with kernels.fast(self.model.module):
            total = sum(
                self._measured(number) * len(self.rows.rows[number].plan) for number in self.valid
            )
        self.seen.append(total / sum(len(self.rows.rows[number].plan) for number in self.valid))
        if self.seen[-1] == min(self.seen):
            self.best = self.parameters()

    def _batch(self, step: int) -> list[int]:
        """Return the rows of an update: each once per epoch, in an order of its own."""
        places = range(step * BATCH, (step + 1) * BATCH)
        count = len(self.train)
        found = []
        for place in places:
            epoch = np.random.default_rng((self.config.seed, place // count))
            found.append(self.train[int(epoch.permutation(count)[place % count])])
        return found

    def _forward(self, numbers: Sequence[int], *, keep: bool) -> tuple[Layout, list[States]]:
        """Pass some rows; returns what went into each block if it is kept, and the last states."""
        chosen: list[Row] = [self.rows.rows[number] for number in numbers]
        layout = Layout(rows=self.rows.only(chosen), blocks=self.side_by_side)
        look_up: Any = self.model.embedding()
        states = layout.start(look_up)
        kept = [states]
        for block, groups in zip(self.blocks, self.held, strict=True):
            for group in groups:
                group.hold(group.by, group.shift)
            states = advance(block, states, layout, adapted=self.model.after_blocks)
            for group in groups:
                group.release()
            kept = [*kept, states] if keep else [states]
        return layout, kept

    def _kl(self, numbers: Sequence[int], states: States, layout: Layout) -> mx.array:
        """Return the mean KL before the plan tokens, from the states after the last block."""
        import mlx.core as mx

        norm: Any = self.model.norm()
        head: Any = self.model.head()
        total, tokens = mx.array(0.0), 0
        for number, line in zip(numbers, layout.planned(states), strict=True):
            wanted = _log_probabilities(self.reference.states[number], self.reference.head)
            found = _log_probabilities(norm(line), head.weight)
            total = total + mx.sum(mx.exp(wanted) * (wanted - found))
            tokens += line.shape[0]
        return total / tokens

    def _measured(self, number: int) -> float:
        """Return the KL of one row."""
        layout, kept = self._forward([number], keep=False)
        return float(np.array(self._kl([number], kept[-1], layout)))

    def save(self, path: Path, key: str) -> None:
        """Write the state, all of it or nothing."""
        import mlx.core as mx
        from mlx.utils import tree_flatten

        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {f"now.{name}": value for name, value in self.parameters().items()}
        arrays |= {f"best.{name}": value for name, value in self.best.items()}
        flat: Any = tree_flatten(self.optimizer.state)
        arrays |= {f"optimizer.{name}": value for name, value in flat}
        arrays["seen"] = mx.array(self.seen)
        beside = path.with_name(f".{path.name}")
        try:
            mx.save_safetensors(str(beside), arrays, {"key": key, "step": str(self.step)})
        except RuntimeError as error:
            raise OSError(None, str(error), str(path)) from error
        os.replace(beside, path)

    def resume(self, path: Path, key: str) -> None:
        """Go on from a state of the same run; of another one nothing is taken."""
        import mlx.core as mx
        from mlx.utils import tree_unflatten

        if not path.is_file():
            return
        loaded: Any = mx.load(str(path), return_metadata=True)
        arrays, said = loaded
        if said.get("key") != key:
            return
        self.step = int(said["step"])
        self.seen = np.array(arrays["seen"]).tolist()
        for name, group in self.groups.items():
            for leaf in ("by", "shift"):
                setattr(group, leaf, arrays[f"now.{name}.{leaf}"])
        self.best = {name: arrays[f"best.{name}"] for name in self.best}
        flat = [
            (name.removeprefix("optimizer."), value)
            for name, value in arrays.items()
            if name.startswith("optimizer.")
        ]
        self.optimizer.state = tree_unflatten(flat)

    def write(self, path: Path) -> None:
        """Put the best state's scales and biases into a weights file, as 16 bits."""
        import mlx.core as mx

        loaded: Any = mx.load(str(path))
        stored: dict[str, mx.array] = dict(loaded)
        for name, group in self.groups.items():
            by, shift = self.best[f"{name}.by"], self.best[f"{name}.shift"]
            scales, biases = group.affine(by, shift)
            stored[f"{name}.scales"] = scales.astype(mx.float16)
            stored[f"{name}.biases"] = biases.astype(mx.float16)
        mx.eval(stored)
        beside = path.with_name(f".{path.name}")
        try:
            mx.save_safetensors(str(beside), stored, {"format": "mlx"})
        except RuntimeError as error:
            raise OSError(None, str(error), str(path)) from error
        os.replace(beside, path)


def _bits(stored: dict[str, mx.array], name: str, layer: Any) -> int:
    """Return the bits of a packed matrix."""
    return int(stored[f"{name}.weight"].shape[1] * 32 // layer.weight.shape[1])


def _tunable(stored: dict[str, mx.array], name: str, bits: int, layer: Any) -> nn.Module:
    """Return a layer that computes as a packed one does, its groups tunable."""
    import mlx.core as mx
    from mlx import nn as kinds

    scales = stored[f"{name}.scales"].astype(mx.float32)
    biases = stored[f"{name}.biases"].astype(mx.float32)
    rows, columns = layer.weight.shape
    codes = mx.dequantize(
        stored[f"{name}.weight"],
        mx.ones_like(scales),
        mx.zeros_like(biases),
        group_size=columns // scales.shape[1],
        bits=bits,
    )
    codes = mx.round(codes).astype(mx.uint8).reshape(rows, scales.shape[1], -1)
    mx.eval(codes, scales, biases)

    @mx.custom_function
    def unpack(by: mx.array, shift: mx.array) -> mx.array:
        """Return the weight; nothing of its size but the codes is kept for the gradient."""
        scale, bias = scales * (1.0 + by), biases + scales * shift
        return (codes * scale[..., None] + bias[..., None]).reshape(rows, columns)

    @unpack.vjp
    def backward(
        primals: tuple[mx.array, mx.array], cotangent: mx.array, output: mx.array
    ) -> tuple[mx.array, mx.array]:
        slope = cotangent.reshape(codes.shape)
        return scales * mx.sum(codes * slope, axis=-1), scales * mx.sum(slope, axis=-1)

    class Groups(kinds.Module):
        """Attributes that begin with an underscore are no parameters."""

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self._bias = layer.get("bias")
            self.by = mx.zeros_like(scales)
            self.shift = mx.zeros_like(scales)

        def affine(self, by: mx.array, shift: mx.array) -> tuple[mx.array, mx.array]:
            """Return scales and biases: both move in units of the scale."""
            return scales * (1.0 + by), biases + scales * shift

        def hold(self, by: mx.array, shift: mx.array) -> None:
            """Unpack once for all that passes from here on."""
            self._weight = unpack(by, shift)

        def release(self) -> None:
            """Let go of what was unpacked."""
            self._weight = None

        def __call__(self, x: mx.array) -> mx.array:
            weight: Any = self._weight
            out: mx.array = x @ weight.T
            return out if self._bias is None else out + self._bias

    make: Any = Groups  # mlx-lm's base class has no annotations
    group: nn.Module = make()
    return group


def _log_probabilities(states: mx.array, head: mx.array) -> mx.array:
    import mlx.core as mx

    scores = states @ head.T
    return scores - mx.logsumexp(scores, axis=-1, keepdims=True)
