"""One model under training: adapter layers, optimizer, update and evaluation.

Knows nothing of files, time or the terminal; every result is a function of
configuration, data and step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.decode.engine import Engine
from mlx_tinyagent.errors import ContextError, ModelError
from mlx_tinyagent.models import kernels
from mlx_tinyagent.models.adapters import adapter_parameters, add_layers
from mlx_tinyagent.train.aliases import Aliases, alias_sets
from mlx_tinyagent.train.batches import batches, chance, place
from mlx_tinyagent.train.cache import Exact, build_blocks
from mlx_tinyagent.train.checkpoint import adapter_config, save_adapter, serving_config
from mlx_tinyagent.train.loss import Inputs, plan_nats, prepare
from mlx_tinyagent.train.parts import Parts
from mlx_tinyagent.train.recompute import recomputed
from mlx_tinyagent.train.rows import Data, Drawn, Row, draw
from mlx_tinyagent.train.start import read_start
from mlx_tinyagent.train.success import solved
from mlx_tinyagent.train.through import ThroughBlocks
from mlx_tinyagent.train.workers import Workers

if TYPE_CHECKING:
    import mlx.core as mx

    from mlx_tinyagent.models.language import LanguageModel
    from mlx_tinyagent.tools.base import ToolSet
    from mlx_tinyagent.train.cache import Blocks
    from mlx_tinyagent.train.config import TrainConfig
    from mlx_tinyagent.train.loss import Before

EVALUATION = -1  # the epoch whose draws evaluation uses


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What one update did.

    Attributes:
        loss: Nats per plan token, before the update.
        norm: Norm of the gradient, before clipping.
        rate: Learning rate.
        examples: Examples it saw.
        tokens: Tokens that were computed.
        targets: Tokens the loss was over.
    """

    loss: float
    norm: float
    rate: float
    examples: int
    tokens: int
    targets: int


class Trainer:
    """Trains an adapter.

    Args:
        model: The base model; it gets the adapter's layers.
        tools: Declarations.
        data: Rows.
        config: The run's settings.
        workers: The processes that share the work; None for this one alone.
        start: Folder of an adapter whose weights the run starts from; None for fresh ones.

    Raises:
        ModelError: The model cannot be trained this way, the keys name no layer, or the
            adapter to start from is another's.
        ContextError: A row does not fit the model's context.
    """

    def __init__(
        self,
        model: LanguageModel,
        tools: ToolSet,
        data: Data,
        config: TrainConfig,
        workers: Workers | None = None,
        start: Path | None = None,
    ) -> None:
        from mlx import nn
        from mlx.optimizers import AdamW

        if model.kind != "full":
            raise ModelError(f"{model.name} has {model.kind} layers; training needs full attention")
        self.model, self.tools, self.data, self.config = model, tools, data, config
        self.workers = workers or Workers()
        self._frame = model.tokenizer.chat_frame()
        self._aliases: tuple[Aliases, ...] = ()
        if config.mask_names:
            self._aliases = alias_sets(tools, seed=config.seed)
        self.parts = Parts(model, [tools, *(aliases.tools for aliases in self._aliases)])
        self._check_lengths()
        frozen = config.attention == "after_blocks"
        self.blocks = build_blocks(model, self.parts) if frozen else None
        self._adapt(start)
        # The model as it serves: what is before the tail is computed as this says.
        self._served = dataclasses.replace(model, adapter_config=serving_config(config))
        self._exact = Exact(self._served, self.parts) if frozen else None
        self._engine: Engine | None = None
        self.optimizer = AdamW(
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            bias_correction=True,
        )
        self.optimizer.init(model.model.trainable_parameters())
        self._gradient = nn.value_and_grad(model.model, plan_nats)
        self._lengths = [
            len(draw_.plan) + len(draw_.tail) for draw_ in map(self._plain, data.train)
        ]

    def _adapt(self, start: Path | None) -> None:
        """Give the model the adapter's layers, fresh or with the weights of another adapter."""
        import mlx.core as mx

        model, config = self.model, self.config
        model.model.freeze()
        mx.random.seed(config.seed)
        layers = len(getattr(model.model, "layers", ()))
        try:
            add_layers(model.model, adapter_config(config, layers=layers))
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{model.name} cannot take this adapter: {error}") from error
        if not adapter_parameters(model.model):
            raise ModelError(f"no layer of {model.name} is called {', '.join(config.keys)}")
        if start is not None:
            weights = read_start(start, config, base=self.base, fresh=self.adapter())
            model.model.load_weights(list(weights.items()), strict=False)
        self._widen()

    # State

    def adapter(self) -> dict[str, mx.array]:
        """Return the adapter's parameters by name, float32."""
        return adapter_parameters(self.model.model)

    @property
    def base(self) -> str:
        """Fingerprint of the base model."""
        return self.model.fingerprint

    def weights(self) -> dict[str, mx.array]:
        """Return what is trained: the adapter."""
        return self.adapter()

    def keep(self, out: Path, *, loss: float | None, step: int) -> None:
        """Write the adapter as it is now.

        Args:
            out: The run's folder.
            loss: Validation loss in nats per plan token; None without an evaluation.
            step: Updates made.

        Raises:
            StoreError: The file system refuses.
        """
        save_adapter(
            out,
            self.adapter(),
            config=self.config,
            model=self.model,
            data=self.data.digest,
            loss=loss,
            step=step,
        )

    def optimizer_state(self) -> dict[str, mx.array]:
        """Return the optimizer's state by name."""
        from mlx.utils import tree_flatten

        return dict(tree_flatten(self.optimizer.state))

    def restore(self, adapter: dict[str, mx.array], optimizer: dict[str, mx.array]) -> None:
        """Go back to a saved state.

        Raises:
            ModelError: It belongs to other layers.
        """
        import mlx.core as mx
        from mlx.utils import tree_unflatten

        expected = {name: value.shape for name, value in self.adapter().items()}
        if {name: value.shape for name, value in adapter.items()} != expected:
            raise ModelError("the checkpoint's adapter does not fit the model's layers")
        self.model.model.load_weights(list(adapter.items()), strict=False)
        self.optimizer.state = tree_unflatten(list(optimizer.items()))
        mx.eval(self.model.model.parameters(), self.optimizer.state)

    def synchronize(self) -> None:
        """Give every process the first one's adapter and optimizer."""
        if self.workers.size == 1:
            return
        step = self.optimizer.state["step"]
        state = {key: value for key, value in self.optimizer.state.items() if key != "step"}
        first = self.workers.only_first(
            {"adapter": self.model.model.trainable_parameters(), "optimizer": state}
        )
        (count,) = self.workers.total([_number(step) if self.workers.rank == 0 else 0.0])
        self.model.model.update(first["adapter"])
        self.optimizer.state = {**first["optimizer"], "step": step * 0 + int(count)}

    # Work

    def update(self, step: int) -> Update:
        """Make one update.

        Args:
            step: Its number, counted from 0.

        Raises:
            ModelError: Loss or gradient is no finite number; nothing was changed.
        """
        return self.learn(self.batch(step), step)

    def learn(self, drawn: Sequence[Drawn], step: int) -> Update:
        """Make an update on given rows; otherwise as ``update``."""
        import mlx.core as mx
        from mlx.optimizers import clip_grad_norm
        from mlx.utils import tree_map

        parts = together(drawn, self.config.rows)
        targets = sum(len(row.plan) for row in drawn)
        gradient = tree_map(mx.zeros_like, self.model.model.trainable_parameters())
        total = 0.0
        mine = self.workers.share([self._cost(part) for part in parts])
        self.model.model.train()
        through = self._through([row for number in mine for row in parts[number]], step)
        for number in mine:
            mx.random.seed(chance(self.config.seed, "dropout", step, number).getrandbits(63))
            nats, slope = self._slope(parts[number], through)
            gradient = tree_map(mx.add, gradient, slope)
            mx.eval(nats, gradient)
            total += _number(nats)
        if through is not None:
            with self._lean():
                gradient = tree_map(mx.add, gradient, through.backward())
        gradient = self.workers.add(gradient)
        (total,) = self.workers.total([total])
        gradient = tree_map(lambda a: a / targets, gradient)
        norm = mx.array(0.0)
        if self.config.clip:
            gradient, norm = clip_grad_norm(gradient, self.config.clip)
        size = _number(norm)
        if not math.isfinite(total) or not math.isfinite(size):
            raise ModelError(
                f"update {step + 1}: the loss is {total / targets}, its gradient's norm {size}; "
                "the last checkpoint is intact, a lower --learning-rate may help"
            )
        rate = self.config.rate(step)
        self.optimizer.learning_rate = mx.array(rate)
        self.optimizer.update(self.model.model, gradient)
        mx.eval(self.model.model.trainable_parameters(), self.optimizer.state)
        return Update(
            loss=total / targets,
            norm=size,
            rate=rate,
            examples=len(drawn),
            tokens=sum(row.tokens for row in drawn),
            targets=targets,
        )

    def evaluate(self) -> float:
        """Return the loss on the validation rows in nats per plan token; NaN without rows."""
        self.model.model.eval()
        drawn = [self._draw(row, EVALUATION, i) for i, row in enumerate(self.data.valid)]
        mine = [drawn[number] for number in self.workers.share([row.tokens for row in drawn])]
        total = 0.0
        through = self._through(mine, EVALUATION)
        for row in mine:
            blocks = self.blocks if through is None else through.blocks(row.tools)
            inputs = self.inputs([row], blocks)
            with kernels.fast(self.model.model):
                total += _number(plan_nats(self.model.model, inputs))
        (total,) = self.workers.total([total])
        count = sum(len(row.plan) for row in drawn)
        return total / count if count else math.nan

    def batch(self, step: int) -> list[Drawn]:
        """Return the rows of an update as they are drawn there."""
        epoch, number = place(step, len(self.data.train), self.config.batch)
        return [
            self._draw(self.data.train[index], epoch, index) for index in self._epoch(epoch)[number]
        ]

    def success(self) -> float:
        """Return the share of the validation rows to be planned whose plans are right.

        They are planned as they would be served: greedily, under the grammar.
        """
        rows = self.data.valid[: self.config.eval_plans]
        self.model.model.eval()
        if self._engine is None or self.blocks is None:  # else its blocks are the base model's
            self._engine = Engine(self._served)
        mine = [rows[number] for number in self.workers.share([1] * len(rows))]
        (right,) = self.workers.total([float(sum(solved(self._engine, self.tools, mine)))])
        return right / len(rows)

    def inputs(self, rows: Sequence[Drawn], blocks: Blocks | None = None) -> Inputs:
        """Put rows into arrays.

        Args:
            rows: Rows that can share a pass.
            blocks: Blocks to use; None takes the frozen ones, where there are any.
        """
        before: Before | None = blocks or self.blocks
        if rows[0].exact:
            before = self._exact
        if before is not None:
            return prepare(rows, before=before)
        return prepare(rows, before=None, prompts=[self.parts.tokens(row.tools) for row in rows])

    def _through(self, rows: Sequence[Drawn], step: int) -> ThroughBlocks | None:
        """Return header and blocks under the adapter, for rows that it is trained through."""
        if self.config.attention != "through_blocks":
            return None
        names = {name for row in rows if not row.exact for name in row.tools}
        seed = chance(self.config.seed, "blocks", step).getrandbits(63)
        with kernels.fast(self.model.model):
            return ThroughBlocks(self.model.model, self.parts, names, seed=seed)

    def _slope(
        self, rows: Sequence[Drawn], through: ThroughBlocks | None
    ) -> tuple[mx.array, dict[str, Any]]:
        """Return the loss of rows that share a pass, in nats, and its gradient."""
        if through is not None and not rows[0].exact:
            with self._lean():
                return through.gradient(rows)
        inputs = self.inputs(rows)
        with self._lean():
            return self._gradient(self.model.model, inputs)

    @contextlib.contextmanager
    def _lean(self) -> Iterator[None]:
        """Compute gradients with the kernels for it, and with little memory if that is wanted."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(kernels.fast(self.model.model))
            if self.config.grad_checkpoint:
                stack.enter_context(recomputed(self.model.model))
            yield

    def _cost(self, rows: Sequence[Drawn]) -> int:
        """Return about how many tokens rows compute; those of a frozen prefix cost a third."""
        cost = sum(row.tokens for row in rows)
        if rows[0].exact:
            prefix = len(self.parts.tokens(rows[0].tools))
            cost += prefix if self.blocks is None else prefix // 3
        return cost

    def _epoch(self, epoch: int) -> list[list[int]]:
        settings = self.config
        return _epoch_batches(
            tuple(self._lengths), settings.batch, settings.seed, epoch, settings.rows > 1
        )

    def _draw(self, row: Row, epoch: int, number: int) -> Drawn:
        config = self.config
        # Apart from the rest, so that the other draws are the same with and without.
        dice = chance(config.seed, "ways", epoch, number)
        masked = dice.random() < config.mask_names and epoch != EVALUATION
        aliases = dice.choice(self._aliases) if masked else None
        return draw(
            row,
            chance(config.seed, "draw", epoch, number),
            tools=self.tools,
            tokenizer=self.model.tokenizer,
            frame=self._frame,
            config=config,
            aliases=aliases,
            exact=dice.random() < config.exact_share and epoch != EVALUATION,
        )

    def _plain(self, row: Row) -> Drawn:
        return self._draw(row, EVALUATION, 0)

    def _check_lengths(self) -> None:
        sets = [self.tools, *(aliases.tools for aliases in self._aliases)]
        prefix = max(len(self.parts.tokens(tools.names)) for tools in sets)
        for row in (*self.data.train, *self.data.valid):
            total = prefix + len(row.plan) + len(row.example.query)
            if total <= self.model.context:
                continue
            total = prefix + self._plain(row).tokens
            if total > self.model.context:
                raise ContextError(
                    f"{row.example.id} has {total} tokens with all tools, {self.model.name} was "
                    f"made for {self.model.context}: leave the row out or declare fewer tools"
                )

    def _widen(self) -> None:
        """Keep the adapter in float32, whatever the model's number format is."""
        import mlx.core as mx
        from mlx.utils import tree_unflatten

        wide = [(name, value.astype(mx.float32)) for name, value in self.adapter().items()]
        self.model.model.update(tree_unflatten(wide))
        mx.eval(self.model.model.parameters())


def together(rows: Sequence[Drawn], count: int) -> list[list[Drawn]]:
    """Split an update's rows into those that share a pass; a prompt of one sequence is alone.

    Args:
        rows: The rows.
        count: Most rows of a pass.
    """
    blocks = [row for row in rows if not row.exact]
    passes = [blocks[start : start + count] for start in range(0, len(blocks), count)]
    return [*passes, *([row] for row in rows if row.exact)]


def _number(value: mx.array) -> float:
    """Compute a scalar."""
    import numpy as np

    return float(np.asarray(value))


@functools.lru_cache(maxsize=2)
def _epoch_batches(
    lengths: tuple[int, ...], batch: int, seed: int, epoch: int, padded: bool
) -> list[list[int]]:
    return batches(lengths, batch=batch, seed=seed, epoch=epoch, padded=padded)
