"""The decode engine: reused prompt segments, drafts verified in one pass.

Every pass carries the tokens that are still pending and a draft after them:
what the grammar forces, and what a drafter guesses. The draft stands as far
as the masked argmax agrees, so the output is exactly the greedy constrained
output of a plain loop (``decode.reference``), whatever the drafter says.

One thread owns an engine, as MLX wants it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.decode.constraint import PlanConstraint
from mlx_tinyagent.decode.drafts import Drafter
from mlx_tinyagent.decode.store import KVStore
from mlx_tinyagent.decode.tiers import TierName, compute, default_tier, make_tier
from mlx_tinyagent.errors import ContextError, ModelError, PlanError
from mlx_tinyagent.models.forward import hidden_states, logits, logits_of
from mlx_tinyagent.prompt.render import FORMAT
from mlx_tinyagent.trace import Trace

if TYPE_CHECKING:
    import mlx.core as mx
    import numpy as np
    from numpy.typing import NDArray

    from mlx_tinyagent.models.language import LanguageModel
    from mlx_tinyagent.prompt.render import Prompt, Segment

MAX_PLAN_TOKENS = 1024
KV_BUDGET = 1 << 29  # bytes of KV kept in memory between requests
FEW = 512  # up to so many allowed tokens the head is run for them alone


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How an engine works; none of it changes what is written, except the tier.

    Attributes:
        tier: Where the prompt before the tail comes from.
        repair: For blocks: tokens at each block's start to compute anew.
        width: About how many draft tokens one pass verifies; 0 verifies forced ones only.
        forced: Whether to draft what the grammar forces; without it and with
            width 0 every pass writes one token.
        narrow: Whether to run the head for the allowed tokens alone where they are few.
        guard: Redo a position alone if its best two tokens are nearer than this; for
            devices whose kernels round differently for one row and for many.
        padded: Rows that every decode pass is filled up to, so that the same kernels
            run for a plain loop and for drafts; 0 for no padding.
        budget: Bytes of KV kept in memory between requests.
    """

    tier: TierName = "exact"
    repair: int = 0
    width: int = 10
    forced: bool = True
    narrow: bool = True
    guard: float = 0.0
    padded: int = 0
    budget: int = KV_BUDGET


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one plan cost.

    Attributes:
        prompt_tokens: Tokens of the whole prompt.
        prompt_tokens_computed: Those that went through the model for this request.
        plan_tokens: Tokens written.
        forward_passes: Passes over tail and plan, the tail's included.
        prefix_passes: Passes over prompt segments before the tail that were not known.
        prompt_tokens_ahead: Tail tokens that had been computed while it was typed.
        rows: Rows of all passes over the plan, drafts included.
        redone: Positions computed again alone because two tokens were too near.
    """

    prompt_tokens: int
    prompt_tokens_computed: int
    plan_tokens: int
    forward_passes: int
    prefix_passes: int
    prompt_tokens_ahead: int = 0
    rows: int = 0
    redone: int = 0


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
        options: How it works; None takes the tier that the model's adapter was trained for.

    Raises:
        ModelError: The adapter was trained on another version of the prompt.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        store: KVStore | None = None,
        options: EngineOptions | None = None,
    ) -> None:
        trained = model.adapter_config.get("prompt_format", FORMAT)
        if trained != FORMAT:
            raise ModelError(
                f"the adapter {model.adapter} was trained on the prompt format {trained}, this "
                f"version writes {FORMAT}: train it anew or use the version it was made with"
            )
        self.model = model
        self.options = options or EngineOptions(tier=default_tier(model))
        self.tier = make_tier(
            self.options.tier,
            model,
            store=store,
            budget=self.options.budget,
            repair=self.options.repair,
        )
        self._ahead: _Ahead | None = None

    def plan(
        self,
        prompt: Prompt,
        constraint: PlanConstraint,
        *,
        drafter: Drafter | None = None,
        on_text: Callable[[str], None] | None = None,
        max_tokens: int = MAX_PLAN_TOKENS,
        script: Sequence[int] | None = None,
    ) -> Decoded:
        """Write the plan that follows a prompt.

        Args:
            prompt: Header, tools, tail.
            constraint: The plan grammar, at its start; advanced to the end.
            drafter: Guesses what may follow; None for none.
            on_text: Called with the text so far after each pass.
            max_tokens: Most tokens to write.
            script: For benchmarks: the tokens to write whatever the model says, at
                the same cost, so that all contestants write the same plan.

        Raises:
            ContextError: Prompt and plan do not fit the model's context.
            PlanError: The plan is not over after ``max_tokens``.
        """
        trace = Trace()
        ids = [segment.encode(self.model.tokenizer) for segment in prompt.segments]
        total = sum(map(len, ids))
        self._check_length(total, max_tokens)
        with trace.span("prefill"):
            ahead = self._open(prompt.segments[:-1], ids[:-1])
            done = ahead.keep(ids[-1], leave=1)  # the next token is read off the last one
        with trace.span("decode"):
            run = _Run(self.model, self.options, ahead.cache, constraint, drafter, ids[-1][done:])
            run.script = script
            while not constraint.finished:
                run.advance()
                # Counted with the plan's last token, so that drafts cannot go over.
                if len(run.tokens) + (not constraint.finished) > max_tokens:
                    raise PlanError(f"not over after {max_tokens} tokens", rule="cut")
                if "first" not in trace.seconds:
                    trace.seconds["first"] = trace.elapsed()
                if on_text is not None:
                    on_text(self.model.tokenizer.decode(run.tokens))
        counts = Counts(
            prompt_tokens=total,
            prompt_tokens_computed=ahead.computed + len(ids[-1]) - done,
            plan_tokens=len(run.tokens),
            forward_passes=run.passes,
            prefix_passes=ahead.passes,
            prompt_tokens_ahead=done,
            rows=run.rows,
            redone=run.redone,
        )
        text = self.model.tokenizer.decode(run.tokens)
        return Decoded(text=text, tokens=tuple(run.tokens), counts=counts, trace=trace)

    def extend(self, prompt: Prompt) -> int:
        """Compute ahead what a request being typed has so far.

        Called as the request grows; an edit takes tokens back, other tools
        start anew. The next ``plan`` of the same tools goes on from here.

        Args:
            prompt: The prompt as it would be if the request ended now.

        Returns:
            Tokens computed by this call.
        """
        if self.model.kind != "full":
            return 0
        *prefix, tail = prompt.segments
        ids = [segment.encode(self.model.tokenizer) for segment in prefix]
        # The closing frame is not part of what grows, and the last token may still change.
        words = [
            token for piece in tail.pieces[:-1] for token in piece.encode(self.model.tokenizer)
        ][:-1]
        if sum(map(len, ids)) + len(words) >= self.model.context:
            return 0
        ahead = self._open(prefix, ids)
        done = ahead.keep(words, leave=0)
        fresh = words[done:]
        if fresh:
            compute(self.model, ahead.cache, fresh)
            ahead.tail += fresh
        opened, ahead.computed, ahead.passes = ahead.computed, 0, 0
        self._ahead = ahead  # not before: a call cut short leaves a cache that nobody knows
        return opened + len(fresh)

    def _open(self, prefix: Sequence[Segment], ids: Sequence[Sequence[int]]) -> _Ahead:
        """Return a cache for a prefix: the one computed ahead if it fits, else a new one."""
        path = tuple(segment.digest for segment in prefix)
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.path == path:
            return ahead
        opened = self.tier.open(prefix, ids)
        return _Ahead(path, opened.cache, opened.computed, opened.passes)

    def _check_length(self, total: int, max_tokens: int) -> None:
        if total + max_tokens > self.model.context:
            raise ContextError(
                f"the prompt has {total} tokens; with {max_tokens} for the plan that is more than "
                f"the {self.model.context} of {self.model.name}: shorten the request or offer "
                "fewer tools"
            )

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


@dataclass(slots=True)
class _Ahead:
    """A prefix in a cache, and what of the tail has been computed after it."""

    path: tuple[str, ...]
    cache: list[Any]
    computed: int  # prefix tokens, not yet counted anywhere
    passes: int
    tail: list[int] = field(default_factory=list)

    def keep(self, ids: Sequence[int], *, leave: int) -> int:
        """Take back what a tail does not begin with; returns how many tokens stay.

        Args:
            ids: The tail.
            leave: How many of its last tokens are to be computed in any case.
        """
        same = 0
        most = min(len(self.tail), len(ids) - leave)
        while same < most and self.tail[same] == ids[same]:
            same += 1
        _trim(self.cache, len(self.tail) - same)
        del self.tail[same:]
        return same


def _trim(cache: Sequence[Any], count: int) -> None:
    """Take the last tokens out of every layer's cache."""
    if count > 0:
        for layer in cache:
            layer.trim(count)


class _Run:
    """The state of one plan being written."""

    def __init__(
        self,
        model: LanguageModel,
        options: EngineOptions,
        cache: list[Any],
        constraint: PlanConstraint,
        drafter: Drafter | None,
        pending: Sequence[int],
    ) -> None:
        self.tokens: list[int] = []
        self.passes = 0
        self.rows = 0
        self.redone = 0
        self.script: Sequence[int] | None = None
        self._model = model
        self._options = options
        self._cache = cache
        self._constraint = constraint
        self._drafter = drafter
        self._pending = list(pending)  # in the sequence, not yet in the cache

    def advance(self) -> None:
        """Make one pass: verify a draft and choose one token beyond what stands of it."""
        draft = self._draft()
        masks = self._masks(draft)
        fed = draft[: len(masks) - 1]  # after the last token of a plan nothing is asked
        hidden = self._forward([*self._pending, *fed], len(masks))
        chosen, near = self._choose(hidden, masks)
        if self.script is not None:
            chosen = list(self.script[len(self.tokens) :][: len(masks)])
        agreed = 0
        while agreed < len(draft) and chosen[agreed] == draft[agreed]:
            agreed += 1
        doubt = next((row for row in near if row <= agreed), None)
        if doubt is None:
            accepted = chosen[: agreed + 1]
            kept = min(agreed, len(fed))
            _trim(self._cache, len(fed) - kept)
        else:  # nothing after the doubtful row counts, and the row is asked again alone
            self.redone += 1
            kept = doubt
            _trim(self._cache, len(masks) - doubt)
            last = [*self._pending, *fed][len(self._pending) - 1 + doubt]
            again, _ = self._choose(self._forward([last], 1), [masks[doubt]])
            accepted = [*chosen[:doubt], *again]
        for token in accepted:
            self._constraint.accept(token)
        self.tokens += accepted
        self._pending = accepted[kept:]

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

        self.passes += 1
        self.rows += rows
        filling = max(0, self._options.padded - len(ids)) if self._model.kind == "full" else 0
        batch = mx.array([*ids, *([0] * filling)])[None]
        hidden = hidden_states(self._model.model, batch, self._cache)
        _trim(self._cache, filling)
        return hidden[0, len(ids) - rows : len(ids)]

    def _choose(
        self, hidden: mx.array, masks: Sequence[NDArray[np.bool_]]
    ) -> tuple[list[int], list[int]]:
        """Return the best allowed token per row, and the rows where two are too near.

        The head runs only where there is a choice, and for few tokens if few
        are allowed.
        """
        import mlx.core as mx
        import numpy as np

        chosen = [int(mask.argmax()) for mask in masks]
        open_rows = [row for row, mask in enumerate(masks) if mask.sum() > 1]
        if not open_rows:
            mx.eval(hidden)
            return chosen, []
        states = hidden[mx.array(open_rows)]
        allowed = np.stack([masks[row] for row in open_rows])
        union = np.flatnonzero(allowed.any(axis=0))
        if self._options.narrow and len(union) <= FEW:
            scores = logits_of(self._model.model, states, mx.array(union))
            allowed = allowed[:, union]
        else:
            union = np.arange(allowed.shape[1])
            scores = logits(self._model.model, states)
        masked = mx.where(mx.array(allowed), scores.astype(mx.float32), -mx.inf)
        best = np.asarray(mx.argmax(masked, axis=-1))
        for row, index in zip(open_rows, best.tolist(), strict=True):
            chosen[row] = int(union[index])
        near = []
        if self._options.guard > 0.0 and len(masks) > 1:
            top = np.asarray(mx.topk(masked, 2, axis=-1))
            gap = np.abs(top[:, 0] - top[:, 1])
            near = [row for row, g in zip(open_rows, gap, strict=True) if g < self._options.guard]
        return chosen, near
