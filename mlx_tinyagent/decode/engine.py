"""The decode engine: reused prompt segments, drafts verified in one pass.

Every pass carries the tokens that are still pending and a draft after them:
what the grammar forces, and what a drafter guesses. The draft stands as far
as the masked argmax agrees, so the output is exactly the greedy constrained
output of a plain loop (``decode.reference``), whatever the drafter says.

One thread owns an engine, as MLX wants it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.decode import cost
from mlx_tinyagent.decode.constraint import PlanConstraint
from mlx_tinyagent.decode.drafts import Drafter
from mlx_tinyagent.decode.run import Run, RunOptions, trim
from mlx_tinyagent.decode.store import KVStore
from mlx_tinyagent.decode.tiers import TierName, compute, default_tier, make_tier
from mlx_tinyagent.errors import ContextError, ModelError
from mlx_tinyagent.models.forward import logits, serve
from mlx_tinyagent.prompt.render import FORMAT
from mlx_tinyagent.trace import Trace

if TYPE_CHECKING:
    from mlx_tinyagent.errors import TinyAgentError
    from mlx_tinyagent.models.language import LanguageModel
    from mlx_tinyagent.models.tokenizer import Tokenizer
    from mlx_tinyagent.prompt.render import Prompt, Segment

MAX_PLAN_TOKENS = 1024
KV_BUDGET = 1 << 29  # bytes of KV kept in memory between requests


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How an engine works; none of it changes what is written, except the tier.

    Attributes:
        tier: Where the prompt before the tail comes from.
        repair: For blocks: tokens at each block's start to compute anew.
        width: About how many draft tokens one pass verifies; 0 verifies forced ones only,
            None takes what the machine's cost curve says (``decode.cost``), else 10.
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
    width: int | None = None
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
        kv_bytes: Bytes of known KV that were put together for the prompt.
    """

    prompt_tokens: int
    prompt_tokens_computed: int
    plan_tokens: int
    forward_passes: int
    prefix_passes: int
    prompt_tokens_ahead: int = 0
    rows: int = 0
    redone: int = 0
    kv_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A written plan: text, token ids, cost and time."""

    text: str
    tokens: tuple[int, ...]
    counts: Counts
    trace: Trace


@dataclass(frozen=True, slots=True)
class Job:
    """One plan to be written.

    Attributes:
        prompt: Header, tools, tail.
        constraint: The plan grammar, at its start; advanced to the end.
        drafter: Guesses what may follow; None for none.
        max_tokens: Most tokens to write.
        script: For benchmarks: the tokens to write whatever the model says.
    """

    prompt: Prompt
    constraint: PlanConstraint
    drafter: Drafter | None = None
    max_tokens: int = field(default=MAX_PLAN_TOKENS, kw_only=True)
    script: Sequence[int] | None = field(default=None, kw_only=True)


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
        self.curve = cost.load(store.folder, model) if store is not None else None
        self._store = store
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
        job = Job(prompt, constraint, drafter, max_tokens=max_tokens, script=script)
        writing = self.begin(job)
        with writing.trace.span("decode"):
            while not writing.run.finished:
                writing.advance()
                if on_text is not None:
                    on_text(self.model.tokenizer.decode(writing.run.tokens))
        return writing.decoded()

    def plan_many(
        self, jobs: Iterable[Job], *, rows: int
    ) -> Iterator[tuple[int, Decoded | TinyAgentError]]:
        """Write many plans, several of them in every forward pass.

        Each is what ``plan`` would write. A request joins when its tail has been
        computed and leaves when its plan is over, so none waits for the slowest.

        Args:
            jobs: What to plan; taken one by one as there is room.
            rows: How many plans share a pass, at least 1.

        Yields:
            Each job's number and its plan, or why there is none, as they end.
        """
        from mlx_tinyagent.decode.many import plan_many

        return plan_many(self, jobs, rows=rows)

    def begin(self, job: Job, *, shared_by: int = 1, guard: float = 0.0) -> Writing:
        """Open a prompt's prefix and return the plan to be written, no token of it yet.

        Args:
            job: What to plan.
            shared_by: How many plans will share a pass; drafts are as wide as pays then.
            guard: As in the options; the larger of the two counts.

        Raises:
            ContextError: Prompt and plan do not fit the model's context.
        """
        trace = Trace()
        segments = job.prompt.segments
        ids = [segment.encode(self.model.tokenizer) for segment in segments]
        self._check_length(ids, job.max_tokens)
        with trace.span("prefill"):
            ahead = self._open(segments[:-1], ids[:-1])
            done = ahead.keep(ids[-1], leave=1)  # the next token is read off the last one
        options = RunOptions(
            width=self.width(plans=shared_by),
            forced=self.options.forced,
            narrow=self.options.narrow,
            guard=max(guard, self.options.guard),
            padded=self.options.padded,
            max_tokens=job.max_tokens,
            script=job.script,
        )
        run = Run(
            self.model, options, ahead.cache, job.constraint, job.drafter, pending=ids[-1][done:]
        )
        opened = Counts(
            prompt_tokens=sum(map(len, ids)),
            prompt_tokens_computed=ahead.computed + len(ids[-1]) - done,
            plan_tokens=0,
            forward_passes=0,
            prefix_passes=ahead.passes,
            prompt_tokens_ahead=done,
            kv_bytes=ahead.touched,
        )
        return Writing(run, opened, trace, self.model.tokenizer)

    def width(self, *, plans: int = 1) -> int:
        """Return about how many tokens a pass drafts.

        Args:
            plans: Plans that share a pass.
        """
        if self.options.width is not None:
            return self.options.width
        return self.curve.width(plans=plans) if self.curve else cost.DEFAULT_WIDTH

    def calibrate(self) -> cost.CostCurve | None:
        """Measure what a pass costs here, keep it, and draft as wide as pays from now on.

        Takes a second or so for a small model, so nothing that a user waits for
        calls it: ``cache build`` and ``bench latency`` do.

        Returns:
            The curve; None for a model that is served without drafts.
        """
        if self.model.kind != "full":
            return None
        self.curve = cost.measure(self.model)
        if self._store is not None:
            cost.save(self._store.folder, self.model, self.curve)
        return self.curve

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
        if self.tier.positions(ids) + len(words) >= self.model.context:
            return 0
        ahead = self._open(prefix, ids)
        done = ahead.keep(words, leave=0)
        fresh = words[done:]
        if fresh:
            compute(self.model, ahead.cache, fresh)
            ahead.tail += fresh
        opened = ahead.computed
        ahead.computed = ahead.passes = ahead.touched = 0
        self._ahead = ahead  # not before: a call cut short leaves a cache that nobody knows
        return opened + len(fresh)

    def _open(self, prefix: Sequence[Segment], ids: Sequence[Sequence[int]]) -> _Ahead:
        """Return a cache for a prefix: the one computed ahead if it fits, else a new one."""
        path = tuple(segment.digest for segment in prefix)
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.path == path:
            return ahead
        opened = self.tier.open(prefix, ids)
        return _Ahead(path, opened.cache, opened.computed, opened.passes, opened.touched)

    def _check_length(self, ids: Sequence[Sequence[int]], max_tokens: int) -> None:
        """Refuse what the model has no positions for; side by side, blocks share theirs."""
        size = self.tier.positions(ids[:-1]) + len(ids[-1])
        if size + max_tokens > self.model.context:
            raise ContextError(
                f"the prompt takes {size} positions; with {max_tokens} for the plan that is more "
                f"than the {self.model.context} of {self.model.name}: shorten the request or offer "
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
            hidden = serve(self.model.model, mx.array(pending)[None], cache)[:, -1]
            token = int(np.asarray(mx.argmax(logits(self.model.model, hidden)[0])))
            if token in self.model.tokenizer.eos_ids:
                break
            tokens.append(token)
            pending = [token]
        return self.model.tokenizer.decode(tokens)


@dataclass(slots=True)
class Writing:
    """A plan on its way: the run, what opening its prompt cost, the clock."""

    run: Run
    opened: Counts
    trace: Trace
    _tokenizer: Tokenizer

    def advance(self) -> None:
        """Make one pass for this plan alone.

        Raises:
            PlanError: The plan is not over after the most tokens it may have.
        """
        self.run.advance()
        self.trace.seconds.setdefault("first", self.trace.elapsed())

    def decoded(self) -> Decoded:
        """Return the finished plan."""
        run = self.run
        counts = dataclasses.replace(
            self.opened,
            plan_tokens=len(run.tokens),
            forward_passes=run.passes,
            rows=run.rows,
            redone=run.redone,
        )
        text = self._tokenizer.decode(run.tokens)
        return Decoded(text=text, tokens=tuple(run.tokens), counts=counts, trace=self.trace)


@dataclass(slots=True)
class _Ahead:
    """A prefix in a cache, and what of the tail has been computed after it."""

    path: tuple[str, ...]
    cache: list[Any]
    computed: int  # prefix tokens, not yet counted anywhere
    passes: int
    touched: int  # bytes, likewise
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
        trim(self.cache, len(self.tail) - same)
        del self.tail[same:]
        return same
