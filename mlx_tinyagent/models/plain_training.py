"""mlx-lm's own fine-tuning step: the baseline that training is measured against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.models.language import LanguageModel, import_mlx_lm

if TYPE_CHECKING:
    import mlx.core as mx

_PAD = 32  # mlx-lm pads a batch to one more than a multiple of it


class PlainTrainer:
    """Updates as ``mlx_lm.lora --mask-prompt`` makes them, on a model with an adapter's layers.

    The loss function is mlx-lm's, over whole sequences; padding, compiled step
    and optimizer are those of ``mlx_lm.tuner.trainer.train``.

    Args:
        model: The model; its adapter acts on all tokens here, and is changed.
        learning_rate: Adam's.
    """

    def __init__(self, model: LanguageModel, *, learning_rate: float) -> None:
        import_mlx_lm()
        import mlx.core as mx
        from mlx import nn
        from mlx.optimizers import Adam
        from mlx_lm.tuner.trainer import default_loss

        self._model = model.model
        self._optimizer = Adam(learning_rate=learning_rate)
        self._optimizer.init(model.model.trainable_parameters())
        self._gradient = nn.value_and_grad(model.model, default_loss)
        self._state = [model.model.state, self._optimizer.state, mx.random.state]
        self._step: Callable[..., Any] = mx.compile(
            self._once, inputs=self._state, outputs=self._state
        )
        self.compiled = True

    def update(self, rows: Sequence[tuple[Sequence[int], int]]) -> float:
        """Make one update.

        Args:
            rows: Per row its tokens and how many of them are the prompt.

        Returns:
            The loss, nats per plan token.
        """
        import mlx.core as mx
        import numpy as np

        width = 1 + _PAD * -(-max(len(ids) for ids, _ in rows) // _PAD)
        batch = mx.array([[*ids, *[0] * (width - len(ids))] for ids, _ in rows])
        lengths = mx.array([[start, len(ids)] for ids, start in rows])
        self._model.train()
        try:
            loss = self._step(batch, lengths)
            mx.eval(self._state, loss)
        except RuntimeError:
            if not self.compiled:
                raise
            # mlx compiles for a CPU with the system's C++ compiler, which may not be there
            self.compiled, self._step = False, self._once
            return self.update(rows)
        return float(np.asarray(loss))

    def _once(self, batch: mx.array, lengths: mx.array) -> mx.array:
        (loss, _), gradient = self._gradient(self._model, batch, lengths)
        self._optimizer.update(self._model, gradient)
        found: mx.array = loss
        return found
