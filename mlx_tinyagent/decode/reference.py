"""The oracle: plain greedy constrained decoding, nothing reused and nothing drafted.

Every token takes one pass over the whole sequence, without a cache. It is
slow, and it is what the engine's output must equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlx_tinyagent.decode.constraint import PlanConstraint
from mlx_tinyagent.models.forward import logits, serve

if TYPE_CHECKING:
    import mlx.core as mx

    from mlx_tinyagent.models.language import LanguageModel
    from mlx_tinyagent.prompt.render import Prompt


def plan_tokens(model: LanguageModel, prompt: Prompt, constraint: PlanConstraint) -> list[int]:
    """Return the tokens of the greedy constrained plan after a prompt."""
    import mlx.core as mx
    import numpy as np

    *before, tail = [segment.encode(model.tokenizer) for segment in prompt.segments]
    prefix = [token for ids in before for token in ids]
    tokens: list[int] = []
    while not constraint.finished:
        scores = logits(model.model, _last_state(model, prefix, [*tail, *tokens]))
        masked = mx.where(mx.array(constraint.mask()), scores, -mx.inf)
        token = int(np.asarray(mx.argmax(masked)))
        constraint.accept(token)
        tokens.append(token)
    return tokens


def _last_state(model: LanguageModel, prefix: Sequence[int], rest: Sequence[int]) -> mx.array:
    """Return the last hidden state of a whole sequence [hidden]."""
    import mlx.core as mx

    if not model.after_blocks:
        return serve(model.model, mx.array([*prefix, *rest])[None], None)[0, -1]
    cache = model.new_cache()  # for this one token: the prefix has other weights than the rest
    with model.prefix_weights():
        serve(model.model, mx.array(list(prefix))[None], cache)
    return serve(model.model, mx.array(list(rest))[None], cache)[0, -1]
