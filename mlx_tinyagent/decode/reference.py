"""The oracle: plain greedy constrained decoding, nothing reused and nothing drafted.

Every token takes one pass over the whole sequence, without a cache. It is
slow, and it is what the engine's output must equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlx_tinyagent.decode.constraint import PlanConstraint
from mlx_tinyagent.models.forward import hidden_states, logits

if TYPE_CHECKING:
    from mlx_tinyagent.models.language import LanguageModel
    from mlx_tinyagent.prompt.render import Prompt


def plan_tokens(model: LanguageModel, prompt: Prompt, constraint: PlanConstraint) -> list[int]:
    """Return the tokens of the greedy constrained plan after a prompt."""
    import mlx.core as mx
    import numpy as np

    sequence = [token for segment in prompt.segments for token in segment.encode(model.tokenizer)]
    tokens: list[int] = []
    while not constraint.finished:
        hidden = hidden_states(model.model, mx.array([*sequence, *tokens])[None], None)
        scores = logits(model.model, hidden[0, -1])
        masked = mx.where(mx.array(constraint.mask()), scores, -mx.inf)
        token = int(np.asarray(mx.argmax(masked)))
        constraint.accept(token)
        tokens.append(token)
    return tokens
