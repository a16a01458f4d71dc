"""The decode engine: reused prompt segments, forced runs verified in one pass.

Every pass carries the tokens that are still pending and the run that the
grammar forces after them. The run is verified, not injected: it stands as far
as the masked argmax agrees, so the output is exactly the greedy constrained
output of a plain loop (``decode.reference``).

One thread owns an engine, as MLX wants it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.decode.constraint import PlanConstraint
from mlx_tinyagent.decode.kv import SegmentKV, cut, fill
from mlx_tinyagent.decode.store import KVStore
from mlx_tinyagent.decode.tree import SegmentTree
from mlx_tinyagent.errors import ContextError, PlanError
from mlx_tinyagent.models.forward import hidden_states, logits
from mlx_tinyagent.trace import Trace

if TYPE_CHECKING:
    import mlx.core as mx
    import numpy as np
    from numpy.typing import NDArray

    from mlx_tinyagent.models.language import LanguageModel
    from mlx_tinyagent.prompt.render import Prompt, Segment

MAX_PLAN_TOKENS = 1024
KV_BUDGET = 1 << 29  # bytes of KV kept in memory between requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one plan cost.

    Attributes:
        prompt_tokens: Tokens of the whole prompt.
        prompt_tokens_computed: Those that went through the model for this request.
        plan_tokens: Tokens written.
        forward_passes: Passes over tail and plan, the tail's included.
        prefix_passes: Passes over prompt segments before the tail that were not known.
    """

    prompt_tokens: int
    prompt_tokens_computed: int
    plan_tokens: int
    forward_passes: int
    prefix_passes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A written plan: text, token ids, cost and time."""

    text: str
    tokens: tuple[int, ...]
    counts: Counts
    trace: Trace


class Engine:
    """Writes plans with one model.

    Args:
        model: The model.
        store: Where prompt segments survive between processes; None for nowhere.
        budget: Bytes of KV to keep in memory between requests.
    """

    def __init__(
        self, model: LanguageModel, *, store: KVStore | None = None, budget: int = KV_BUDGET
    ) -> None:
        self.model = model
        self._store = store
        self._tree = SegmentTree(budget)

    def plan(
        self,
        prompt: Prompt,
        constraint: PlanConstraint,
        *,
        on_text: Callable[[str], None] | None = None,
        max_tokens: int = MAX_PLAN_TOKENS,
    ) -> Decoded:
        """Write the plan that follows a prompt.

        Args:
            prompt: Header, tools, tail.
            constraint: The plan grammar, at its start; advanced to the end.
            on_text: Called with the text so far after each pass.
            max_tokens: Most tokens to write.

        Raises:
            ContextError: Prompt and plan do not fit the model's context.
            PlanError: The plan is not over after ``max_tokens``.
        """
        trace = Trace()
        ids = [segment.encode(self.model.tokenizer) for segment in prompt.segments]
        total = sum(map(len, ids))
        if total + max_tokens > self.model.context:
            raise ContextError(
                f"the prompt has {total} tokens; with {max_tokens} for the plan that is more than "
                f"the {self.model.context} of {self.model.name}: shorten the request or offer "
                "fewer tools"
            )
        with trace.span("prefill"):
            cache, prefix = self._prefix(prompt.segments[:-1], ids[:-1])
        with trace.span("decode"):
            run = _Run(self.model, cache, constraint, ids[-1])
            while not constraint.finished:
                if len(run.tokens) >= max_tokens:
                    raise PlanError(f"not over after {max_tokens} tokens", rule="cut")
                run.advance()
                if on_text is not None:
                    on_text(self.model.tokenizer.decode(run.tokens))
        counts = Counts(
            prompt_tokens=total,
            prompt_tokens_computed=prefix.computed + len(ids[-1]),
            plan_tokens=len(run.tokens),
            forward_passes=run.passes,
            prefix_passes=prefix.passes,
        )
        text = self.model.tokenizer.decode(run.tokens)
        return Decoded(text=text, tokens=tuple(run.tokens), counts=counts, trace=trace)

    def complete(self, ids: Sequence[int], *, max_tokens: int) -> str:
        """Continue a prompt greedily in free text, up to an end token."""
        import mlx.core as mx
        import numpy as np

        cache = self.model.new_cache()
        tokens: list[int] = []
        pending = list(ids)
        while len(tokens) < max_tokens:
            hidden = hidden_states(self.model.model, mx.array(pending)[None], cache)[:, -1]
            token = int(np.asarray(mx.argmax(logits(self.model.model, hidden)[0])))
            if token in self.model.tokenizer.eos_ids:
                break
            tokens.append(token)
            pending = [token]
        return self.model.tokenizer.decode(tokens)

    def _prefix(
        self, segments: Sequence[Segment], ids: Sequence[Sequence[int]]
    ) -> tuple[list[Any], _PrefixCost]:
        """Return a cache that holds all segments, computing those not known."""
        cache = self.model.new_cache()
        path = [segment.digest for segment in segments]
        reusable = self.model.kind == "full"
        known = self._known(path, ids) if reusable else []
        fill(cache, known)
        offset = sum(kv.tokens for kv in known)
        computed = 0
        for index in range(len(known), len(segments)):
            self._compute(cache, ids[index])
            computed += len(ids[index])
            if reusable:
                kv = cut(cache, offset, offset + len(ids[index]))
                self._tree.insert(path[: index + 1], kv)
                if index == 0 and self._store is not None:
                    self._store.save(self._store.key(path[:1], ids[0]), kv)
            offset += len(ids[index])
        return cache, _PrefixCost(computed, len(segments) - len(known))

    def _known(self, path: Sequence[str], ids: Sequence[Sequence[int]]) -> list[SegmentKV]:
        """Return the longest known beginning, from memory or, for the header, from disk."""
        known = self._tree.match(path)
        if not known and path and self._store is not None:
            header = self._store.load(self._store.key(path[:1], ids[0]))
            if header is not None and header.tokens == len(ids[0]):
                self._tree.insert(path[:1], header)
                known = [header]
        return known

    def _compute(self, cache: list[Any], ids: Sequence[int]) -> None:
        import mlx.core as mx

        hidden = hidden_states(self.model.model, mx.array(list(ids))[None], cache)
        mx.eval(hidden, [layer.state for layer in cache])


@dataclass(frozen=True, slots=True)
class _PrefixCost:
    computed: int  # tokens
    passes: int


class _Run:
    """The state of one plan being written."""

    def __init__(
        self,
        model: LanguageModel,
        cache: list[Any],
        constraint: PlanConstraint,
        pending: Sequence[int],
    ) -> None:
        self.tokens: list[int] = []
        self.passes = 0
        self._model = model
        self._cache = cache
        self._constraint = constraint
        self._pending = list(pending)  # in the sequence, not yet in the cache

    def advance(self) -> None:
        """Make one pass: verify the forced run and choose one token beyond it."""
        draft = self._constraint.forced() if self._model.kind == "full" else []
        masks = self._masks(draft)
        fed = draft[: len(masks) - 1]  # after the last token of a plan nothing is asked
        chosen = self._choose(self._forward([*self._pending, *fed], len(masks)), masks)
        agreed = 0
        while agreed < len(draft) and chosen[agreed] == draft[agreed]:
            agreed += 1
        accepted = chosen[: agreed + 1]
        for token in accepted:
            self._constraint.accept(token)
        self._drop(len(fed) - agreed)
        self.tokens += accepted
        self._pending = accepted[-1:]

    def _masks(self, draft: Sequence[int]) -> list[NDArray[np.bool_]]:
        """Return the mask before each draft token, and after the last if the plan goes on."""
        state = self._constraint.copy()
        masks = []
        for token in draft:
            masks.append(state.mask())
            state.accept(token)
        if not state.finished:
            masks.append(state.mask())
        return masks

    def _forward(self, ids: Sequence[int], rows: int) -> mx.array:
        """Run the body over new tokens; returns the last hidden states [rows, hidden]."""
        import mlx.core as mx

        self.passes += 1
        hidden = hidden_states(self._model.model, mx.array(list(ids))[None], self._cache)
        return hidden[0, -rows:]

    def _choose(self, hidden: mx.array, masks: Sequence[NDArray[np.bool_]]) -> list[int]:
        """Return the best allowed token per row; the head runs only where there is a choice."""
        import mlx.core as mx
        import numpy as np

        chosen = [int(mask.argmax()) for mask in masks]
        open_rows = [row for row, mask in enumerate(masks) if mask.sum() > 1]
        if not open_rows:
            mx.eval(hidden)
            return chosen
        scores = logits(self._model.model, hidden[mx.array(open_rows)])
        allowed = mx.array(np.stack([masks[row] for row in open_rows]))
        best = mx.argmax(mx.where(allowed, scores, -mx.inf), axis=-1)
        for row, token in zip(open_rows, np.asarray(best).tolist(), strict=True):
            chosen[row] = int(token)
        return chosen

    def _drop(self, count: int) -> None:
        """Take rejected draft tokens back out of the cache."""
        if count > 0:
            for layer in self._cache:
                layer.trim(count)
