"""One plan being written: drafts, passes that verify them, and what that cost.

A pass has two halves, so that several plans can share one (``decode.many``):
``propose`` says which tokens it carries, ``settle`` reads the hidden states.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.decode.constraint import PlanConstraint
from mlx_tinyagent.decode.drafts import Drafter
from mlx_tinyagent.errors import PlanError
from mlx_tinyagent.models.forward import logits, logits_of, serve

if TYPE_CHECKING:
    import mlx.core as mx
    import numpy as np
    from numpy.typing import NDArray

    from mlx_tinyagent.models.language import LanguageModel

FEW = 512  # up to so many allowed tokens the head is run for them alone


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a plan is written; none of it changes what is written.

    Attributes:
        width: About how many draft tokens one pass verifies; 0 verifies forced ones only.
        forced: Whether to draft at all.
        narrow: Whether to run the head for the allowed tokens alone where they are few.
        guard: Redo a position alone if its best two tokens are nearer than this.
        padded: Rows that every pass of a single plan is filled up to.
        max_tokens: Most tokens to write.
        script: For benchmarks: the tokens to write whatever the model says, at
            the same cost, so that all contestants write the same plan.
    """

    width: int
    forced: bool
    narrow: bool
    guard: float
    padded: int
    max_tokens: int
    script: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One pass of one plan.

    Attributes:
        ids: Tokens it carries: those still pending, then the draft.
        draft: Tokens that are only guessed.
        masks: Which tokens may stand after each of the last ``len(masks)`` ids, [vocab] each.
    """

    ids: list[int]
    draft: list[int]
    masks: list[NDArray[np.bool_]]


class Run:
    """The state of one plan being written.

    Args:
        model: The model.
        options: How it is written.
        cache: KV of everything before ``pending``, one per layer.
        constraint: The plan grammar, advanced to the end.
        drafter: Guesses what may follow; None for none.
        pending: Tokens of the prompt that are not in the cache yet.
    """

    def __init__(
        self,
        model: LanguageModel,
        options: RunOptions,
        cache: list[Any],
        constraint: PlanConstraint,
        drafter: Drafter | None,
        pending: Sequence[int],
    ) -> None:
        self.tokens: list[int] = []
        self.passes = 0
        self.rows = 0
        self.redone = 0
        self.cache = cache
        self._model = model
        self._options = options
        self._constraint = constraint
        self._drafter = drafter
        self._pending = list(pending)  # in the sequence, not yet in the cache

    @property
    def finished(self) -> bool:
        """Whether the plan is over."""
        return self._constraint.finished

    def advance(self) -> None:
        """Make one pass: verify a draft and choose one token beyond what stands of it.

        Raises:
            PlanError: The plan is not over after the most tokens it may have.
        """
        step = self.propose()
        hidden = self._forward(step.ids, len(step.masks))
        # A single row is what a plain loop computes; only more of them round differently.
        gaps = self.guarded and len(step.masks) > 1
        self.settle(step, *choose(self._model, hidden, step.masks, narrow=self.narrow, gaps=gaps))

    @property
    def narrow(self) -> bool:
        """Whether the head is run for few tokens where few are allowed."""
        return self._options.narrow

    @property
    def guarded(self) -> bool:
        """Whether positions that are in doubt are asked again."""
        return self._options.guard > 0.0

    def propose(self) -> Step:
        """Return what the next pass carries."""
        draft = self._draft()
        masks = self._masks(draft)
        fed = draft[: len(masks) - 1]  # after the last token of a plan nothing is asked
        return Step([*self._pending, *fed], draft, masks)

    def settle(self, step: Step, chosen: list[int], gaps: Sequence[float]) -> None:
        """Take what a pass says: the draft stands as far as the masked argmax agrees.

        Args:
            step: What the pass carried; it is in the cache now.
            chosen: The best allowed token after each of the ids that have a mask.
            gaps: By how much it is better than the second; a nearer one than the
                guard is in doubt.

        Raises:
            PlanError: The plan is not over after the most tokens it may have.
        """
        masks, draft = step.masks, step.draft
        fed = len(masks) - 1
        self.passes += 1
        self.rows += len(masks)
        if self._options.script is not None:
            chosen = list(self._options.script[len(self.tokens) :][: len(masks)])
        agreed = 0
        while agreed < len(draft) and chosen[agreed] == draft[agreed]:
            agreed += 1
        asked = min(agreed + 1, len(masks))
        doubt = next((row for row in range(asked) if gaps[row] < self._options.guard), None)
        if doubt is None:
            accepted = chosen[: agreed + 1]
            kept = min(agreed, fed)
            trim(self.cache, fed - kept)
        else:  # nothing after the doubtful row counts, and the row is asked again alone
            kept = doubt
            trim(self.cache, len(masks) - doubt)
            last = step.ids[len(step.ids) - len(masks) + doubt]
            alone = self._forward([last], 1)
            again, _ = choose(self._model, alone, [masks[doubt]], narrow=self.narrow)
            accepted = [*chosen[:doubt], *again]
            self.redone += 1
            self.passes += 1
            self.rows += 1
        for token in accepted:
            self._constraint.accept(token)
        self.tokens += accepted
        self._pending = accepted[kept:]
        # Counted with the plan's last token, so that drafts cannot go over.
        if len(self.tokens) + (not self.finished) > self._options.max_tokens:
            raise PlanError(f"not over after {self._options.max_tokens} tokens", rule="cut")

    def _draft(self) -> list[int]:
        if self._model.kind != "full" or not self._options.forced:
            return []
        if self._drafter is None or self._options.width == 0:
            return self._constraint.forced()
        return self._constraint.extended(self._drafter, self._options.width)

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

        filling = max(0, self._options.padded - len(ids)) if self._model.kind == "full" else 0
        batch = mx.array([*ids, *([0] * filling)])[None]
        hidden = serve(self._model.model, batch, self.cache)
        trim(self.cache, filling)
        return hidden[0, len(ids) - rows : len(ids)]


def choose(
    model: LanguageModel,
    hidden: mx.array,
    masks: Sequence[NDArray[np.bool_]],
    *,
    narrow: bool,
    gaps: bool = False,
) -> tuple[list[int], list[float]]:
    """Return the best allowed token per row, and by how much it is better than the second.

    The head runs only where there is a choice, and where few tokens are
    allowed for those alone.

    Args:
        model: The model.
        hidden: Last hidden states [rows, hidden].
        masks: Allowed tokens, [vocab] per row.
        narrow: Whether the head may be run for few tokens.
        gaps: Whether to compare with the second best; else it is infinitely far.
    """
    import mlx.core as mx
    import numpy as np

    counts = [int(mask.sum()) for mask in masks]
    chosen = [int(mask.argmax()) for mask in masks]
    margins = [math.inf] * len(masks)
    few = [row for row, count in enumerate(counts) if 1 < count <= FEW] if narrow else []
    union = np.flatnonzero(np.any([masks[row] for row in few], axis=0)) if few else np.arange(0)
    if len(union) > FEW:
        few = []
    many = [row for row, count in enumerate(counts) if count > 1 and row not in few]
    found = []
    for rows, ids in ((few, union), (many, None)):
        if not rows:
            continue
        states = hidden[mx.array(rows)]
        if ids is None:
            allowed = np.stack([masks[row] for row in rows])
            scores = logits(model.model, states)
        else:
            allowed = np.stack([masks[row][ids] for row in rows])
            scores = logits_of(model.model, states, mx.array(ids))
        masked = mx.where(mx.array(allowed), scores.astype(mx.float32), -mx.inf)
        top = mx.topk(masked, 2, axis=-1) if gaps else None
        found.append((rows, ids, mx.argmax(masked, axis=-1), top))
    mx.eval(
        hidden, *[array for *_, best, top in found for array in (best, top) if array is not None]
    )
    for rows, ids, best, top in found:
        picks = np.asarray(best)
        for row, pick in zip(rows, picks.tolist(), strict=True):
            chosen[row] = int(pick if ids is None else ids[pick])
        if top is not None:
            pairs = np.asarray(top)
            for row, pair in zip(rows, pairs, strict=True):
                margins[row] = abs(float(pair[0] - pair[1]))
    return chosen, margins


def trim(cache: Sequence[Any], count: int) -> None:
    """Take the last tokens out of every layer's cache."""
    if count > 0:
        for layer in cache:
            layer.trim(count)
