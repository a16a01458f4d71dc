"""One tool classifier under training: weights, optimizer, update and evaluation.

Knows nothing of files but the classifier's own; ``train.loop`` does the rest.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.train.batches import batches, chance, place
from mlx_tinyagent.train.tool_rag.loss import Targets, batch_loss, make_targets
from mlx_tinyagent.train.tool_rag.rows import Data, Row
from mlx_tinyagent.train.trainer import Update
from mlx_tinyagent.train.workers import Workers

if TYPE_CHECKING:
    import mlx.core as mx

    from mlx_tinyagent.models.deberta.tool_heads import ToolClassifier
    from mlx_tinyagent.models.unigram import UnigramTokenizer
    from mlx_tinyagent.train.tool_rag.config import ToolRagConfig

MULTIPLE = 8  # lengths are rounded up to it, so that few shapes are compiled
EVAL_ROWS = 64  # per forward pass
_FLOOR = 1e-3  # of a label's prior


class ToolRagTrainer:
    """Trains a classifier over known tools.

    Args:
        model: The classifier; see ``new_tool_classifier``.
        tokenizer: Its tokenizer.
        data: Rows; its labels are the model's.
        config: The run's settings.
        base: Fingerprint of what training starts from; a run goes on from the same only.
    """

    def __init__(
        self,
        model: ToolClassifier,
        tokenizer: UnigramTokenizer,
        data: Data,
        config: ToolRagConfig,
        *,
        base: str,
    ) -> None:
        import mlx.core as mx
        from mlx.optimizers import AdamW

        self.model, self.tokenizer = model, tokenizer
        self.data, self.config, self.base = data, config, base
        self.workers = Workers()
        rows = (*data.train, *data.valid)
        ids = tokenizer.encode_batch([row.text for row in rows], max_length=config.max_length)
        self._train_ids, self._valid_ids = ids[: len(data.train)], ids[len(data.train) :]
        self._lengths = tuple(map(len, self._train_ids))
        self.optimizer = AdamW(
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            bias_correction=True,
        )
        self.optimizer.init(model.trainable_parameters())
        self._state = [model.state, self.optimizer.state, mx.random.state]
        self._step = self._compiled()

    # State

    def weights(self) -> dict[str, mx.array]:
        """Return all parameters by name."""
        from mlx.utils import tree_flatten

        return dict(tree_flatten(self.model.parameters()))

    def optimizer_state(self) -> dict[str, mx.array]:
        """Return the optimizer's state by name."""
        from mlx.utils import tree_flatten

        return dict(tree_flatten(self.optimizer.state))

    def restore(self, weights: dict[str, mx.array], optimizer: dict[str, mx.array]) -> None:
        """Go back to a saved state.

        Raises:
            ModelError: It belongs to another classifier.
        """
        import mlx.core as mx
        from mlx.utils import tree_unflatten

        expected = {name: value.shape for name, value in self.weights().items()}
        if {name: value.shape for name, value in weights.items()} != expected:
            raise ModelError("the checkpoint's weights do not fit the classifier")
        self.model.load_weights(list(weights.items()))
        self.optimizer.state = tree_unflatten(list(optimizer.items()))
        mx.eval(self.model.parameters(), self.optimizer.state)
        self._state = [self.model.state, self.optimizer.state, mx.random.state]
        self._step = self._compiled()

    def synchronize(self) -> None:
        """Do nothing: one process trains."""

    def keep(self, out: Path, *, loss: float | None, step: int) -> None:
        """Write the classifier as it is now, in float16, with its tokenizer.

        Args:
            out: The run's folder.
            loss: Validation loss; None without an evaluation.
            step: Updates made.

        Raises:
            StoreError: The file system refuses.
        """
        import json

        import mlx.core as mx

        from mlx_tinyagent.files import atomic_write

        folder = out / "classifier"
        self.model.save(folder, dtype=mx.float16)
        self.tokenizer.save(folder)
        trained = {
            "step": step,
            "valid_loss": loss,
            "data": self.data.digest,
            "config": self.config.as_dict(),
        }
        atomic_write(folder / "training.json", json.dumps(trained, indent=2) + "\n")

    # Work

    def update(self, step: int) -> Update:
        """Make one update.

        Args:
            step: Its number, counted from 0.

        Raises:
            ModelError: The loss is no finite number.
        """
        import mlx.core as mx

        config = self.config
        epoch, number = place(step, len(self.data.train), config.batch)
        chosen = _epoch_batches(self._lengths, config.batch, config.seed, epoch)[number]
        ids = [self._noisy(self._train_ids[index], epoch, index) for index in chosen]
        rows = [self.data.train[index] for index in chosen]
        self.model.train()
        rate = config.rate(step)
        self.optimizer.learning_rate = mx.array(rate)
        mx.random.seed(chance(config.seed, "dropout", step).getrandbits(63))
        input_ids, mask = self._pack(ids)
        targets = make_targets(rows, self.model.labels)
        loss, norm = self._step(input_ids, mask, targets.groups, targets.union, targets.needs)
        mx.eval(loss, norm, self.model.parameters(), self.optimizer.state)
        value = float(np.asarray(loss))
        if not math.isfinite(value):
            raise ModelError(
                f"update {step + 1}: the loss is {value}; the last checkpoint is intact, a lower "
                "--learning-rate may help"
            )
        return Update(
            loss=value,
            norm=float(np.asarray(norm)),
            rate=rate,
            examples=len(rows),
            tokens=sum(map(len, ids)),
            targets=len(rows) * len(self.model.labels),
        )

    def evaluate(self) -> float:
        """Return the loss on the validation rows; NaN without rows."""
        self.model.eval()
        order = sorted(range(len(self._valid_ids)), key=lambda i: len(self._valid_ids[i]))
        total = 0.0
        for start in range(0, len(order), EVAL_ROWS):
            part = order[start : start + EVAL_ROWS]
            input_ids, mask = self._pack([self._valid_ids[i] for i in part])
            targets = make_targets([self.data.valid[i] for i in part], self.model.labels)
            loss = batch_loss(
                self.model,
                input_ids,
                mask,
                targets,
                hinge=self.config.hinge,
                any_weight=self.config.any_weight,
            )
            total += float(np.asarray(loss)) * len(part)
        return total / len(order) if order else math.nan

    def _compiled(self) -> Callable[..., tuple[mx.array, mx.array]]:
        """Return one update as a compiled function of arrays."""
        import mlx.core as mx
        from mlx import nn
        from mlx.optimizers import clip_grad_norm

        config, model, optimizer = self.config, self.model, self.optimizer

        def loss_of(
            model: ToolClassifier,
            input_ids: mx.array,
            mask: mx.array,
            groups: mx.array,
            union: mx.array,
            needs: mx.array,
        ) -> mx.array:
            targets = Targets(groups=groups, union=union, needs=needs)
            return batch_loss(
                model, input_ids, mask, targets, hinge=config.hinge, any_weight=config.any_weight
            )

        gradient_of = nn.value_and_grad(model, loss_of)

        @functools.partial(mx.compile, inputs=self._state, outputs=self._state)
        def step(*arrays: mx.array) -> tuple[mx.array, mx.array]:
            loss, gradient = gradient_of(model, *arrays)
            norm = mx.array(0.0)
            if config.clip:
                gradient, norm = clip_grad_norm(gradient, config.clip)
            optimizer.update(model, gradient)
            return loss, norm

        return cast(Any, step)

    def _pack(self, rows: Sequence[Sequence[int]]) -> tuple[mx.array, mx.array]:
        """Return ids and mask; the mask is always there, so that it is no other function."""
        import mlx.core as mx

        from mlx_tinyagent.models.deberta.inputs import pack

        batch = pack(rows, self.model.base.config, multiple=MULTIPLE)
        mask = batch.attention_mask
        return batch.input_ids, mx.ones_like(batch.input_ids) if mask is None else mask

    def _noisy(self, ids: Sequence[int], epoch: int, number: int) -> list[int]:
        """Read some tokens as unknown: names of people, files and places often are."""
        share = self.config.unknown
        if not share:
            return list(ids)
        dice = chance(self.config.seed, "unknown", epoch, number)
        last = len(ids) - 1
        unknown = self.tokenizer.unk_id
        return [
            unknown if 0 < place_ < last and dice.random() < share else one
            for place_, one in enumerate(ids)
        ]


def label_priors(rows: Sequence[Row], labels: Sequence[str]) -> list[float]:
    """Return the share of rows whose first acceptable set has each label, never 0 or 1."""
    count = [sum(name in row.any_of[0] for row in rows) for name in labels]
    return [min(max(one / len(rows), _FLOOR), 1 - _FLOOR) for one in count]


@functools.lru_cache(maxsize=2)
def _epoch_batches(lengths: tuple[int, ...], batch: int, seed: int, epoch: int) -> list[list[int]]:
    return batches(lengths, batch=batch, seed=seed, epoch=epoch)
