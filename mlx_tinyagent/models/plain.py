"""mlx-lm's own generation loop and prompt cache: the baselines of benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mlx_tinyagent.models.language import LanguageModel, import_mlx_lm
from mlx_tinyagent.trace import now

if TYPE_CHECKING:
    import mlx.core as mx
    import numpy as np
    from numpy.typing import NDArray

Processor = Callable[["mx.array", "mx.array"], "mx.array"]  # (tokens, logits) -> logits


class Constraint(Protocol):
    """What a grammar offers: the mask before the next token, and taking a token."""

    finished: bool

    def mask(self) -> NDArray[np.bool_]:
        """Return which tokens may follow."""

    def accept(self, token: int) -> None:
        """Take the next token."""


def scripted(constraint: Constraint, script: Sequence[int]) -> Processor:
    """Return a processor that pays for the grammar's mask and then writes a given text.

    Args:
        constraint: The grammar, at its start.
        script: The tokens to write whatever the model says.
    """
    written = 0

    def processor(tokens: mx.array, logits: mx.array) -> mx.array:
        import mlx.core as mx

        nonlocal written
        if written:
            constraint.accept(script[written - 1])
        if constraint.finished:  # one token is computed beyond the last
            return logits
        masked = mx.where(mx.array(constraint.mask())[None], logits, -mx.inf)
        chosen = mx.array([[script[min(written, len(script) - 1)]]])
        written += 1
        return mx.put_along_axis(masked, chosen, mx.array(mx.inf, masked.dtype), axis=-1)

    return processor


class PlainGenerator:
    """Greedy generation by ``mlx_lm.generate.generate_step``.

    Args:
        model: The model.
        reuse: Whether to use mlx-lm's ``LRUPromptCache`` between calls.
        entries: How many prompts that cache keeps.
    """

    def __init__(self, model: LanguageModel, *, reuse: bool = False, entries: int = 10) -> None:
        import_mlx_lm()
        from mlx_lm.models.cache import LRUPromptCache

        self._model = model
        self._kept = LRUPromptCache(max_size=entries) if reuse else None

    def generate(
        self, ids: Sequence[int], processor: Processor, count: int
    ) -> tuple[list[int], int, float, float]:
        """Generate tokens after a prompt.

        Args:
            ids: The prompt.
            processor: Constrains the logits of each step.
            count: Tokens to generate.

        Returns:
            The tokens, prompt tokens computed, seconds to the first token, seconds in all.
        """
        import mlx.core as mx
        from mlx_lm.generate import generate_step

        start = now()
        cache, rest = self._fetch(list(ids))
        first = 0.0
        tokens: list[int] = []
        steps = generate_step(
            mx.array(rest),
            self._model.model,
            max_tokens=count,
            logits_processors=[processor],
            prompt_cache=cache,
        )
        for token, _ in steps:
            first = first or now() - start
            tokens.append(int(token))
        total = now() - start
        if self._kept is not None:
            used = [*ids, *tokens][: cache[0].offset]
            self._kept.insert_cache("model", used, cache)
        return tokens, len(rest), first, total

    def _fetch(self, ids: list[int]) -> tuple[list[Any], list[int]]:
        if self._kept is not None:
            cache, rest = self._kept.fetch_nearest_cache("model", ids)
            if cache is not None and rest:  # an exact hit leaves nothing to generate from
                return cache, rest
        return self._model.new_cache(), ids
