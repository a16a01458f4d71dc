"""Request to plan: retrieve tools, render, decode under the grammar, check."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from mlx_tinyagent.decode.grammar import GrammarOptions
from mlx_tinyagent.errors import ModelError, PlanError, TinyAgentError
from mlx_tinyagent.plan.graph import parse, without_repeats
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.plan.text import write
from mlx_tinyagent.prompt.render import Request, render
from mlx_tinyagent.retrieval.base import Retrieved, Retriever
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.trace import Trace

if TYPE_CHECKING:
    from mlx_tinyagent.decode.drafts import Hints
    from mlx_tinyagent.decode.engine import Counts, Decoded, Engine, Job

# Tools that a plan may ask for beside the offered ones, the best by score: a grammar that
# named a thousand would cost every request, and a model can only guess names it was not shown.
MORE_TOOLS = 16
_ANY_MOMENT = datetime(2000, 1, 3)  # where phrases stand does not depend on it


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan with what it took.

    Attributes:
        plan: The checked plan.
        text: As written by the model, but for steps that it wrote twice.
        retrieved: The tools that were offered, and why.
        counts: Tokens and passes, of both plans where the first one asked for more tools.
        trace: Seconds for retrieve, prefill, decode.
    """

    plan: Plan
    text: str
    retrieved: Retrieved
    counts: Counts
    trace: Trace


class Planner:
    """Plans requests with one model and one set of enabled tools.

    Args:
        engine: The decode engine.
        tools: Enabled tools.
        retriever: Chooses which of them are offered.
    """

    def __init__(self, engine: Engine, tools: ToolSet, retriever: Retriever) -> None:
        self.engine = engine
        self.tools = tools
        self._retriever = retriever

    def plan(
        self,
        request: Request,
        *,
        offered: tuple[str, ...] | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Planned:
        """Plan one request.

        Args:
            request: The request.
            offered: Names of the tools to offer; None lets the retriever choose.
            on_text: Called with the plan text so far.

        Raises:
            ContextError: The prompt does not fit.
            ModelError: The model wrote no usable plan: it was cut by a limit.
            UsageError: An offered name is unknown.
        """
        trace = Trace()
        with trace.span("retrieve"):
            retrieved = self.retrieve(request, offered)
        if _needs_nothing(request, retrieved):
            return _nothing(retrieved, trace)
        plan, decoded = self._write(request, retrieved, on_text, trace)
        return self._complete(request, retrieved, plan, decoded, on_text, trace)

    def retrieve(self, request: Request, offered: tuple[str, ...] | None = None) -> Retrieved:
        """Choose the tools that a request is offered: those named, or else the retriever's."""
        if offered is not None:
            chosen = self.tools.subset(offered)
            reasons = dict.fromkeys(chosen.names, "given")
            return Retrieved(tools=chosen, scores={}, abstain=False, reasons=reasons)
        return self._retriever.select(retrieval_query(request), self.tools)

    def plan_many(
        self, requests: Iterable[tuple[Request, tuple[str, ...] | None]], *, rows: int
    ) -> Iterator[tuple[int, Planned | TinyAgentError]]:
        """Plan many requests, several of them in every forward pass.

        Each gets the plan that ``plan`` gives it. Header and tool blocks are
        shared either way; what rows save is the reading of the weights, at the
        price of latency.

        Args:
            requests: Requests with the names of the tools to offer, or None.
            rows: How many plans share a pass, at least 1.

        Yields:
            Each request's number and its plan, or why there is none, as they end.
        """
        begun: list[tuple[int, Request, Retrieved, Trace]] = []
        at_once: deque[tuple[int, Planned | TinyAgentError]] = deque()

        def jobs() -> Iterator[Job]:
            for number, (request, offered) in enumerate(requests):
                trace = Trace()
                try:
                    with trace.span("retrieve"):
                        retrieved = self.retrieve(request, offered)
                    if _needs_nothing(request, retrieved):
                        at_once.append((number, _nothing(retrieved, trace)))
                        continue
                    job = self.job(request, retrieved)
                except TinyAgentError as error:
                    at_once.append((number, error))
                    continue
                begun.append((number, request, retrieved, trace))
                yield job

        for place, written in self.engine.plan_many(jobs(), rows=rows):
            while at_once:
                yield at_once.popleft()
            number, request, retrieved, trace = begun[place]
            try:
                plan, decoded = self._checked(written, retrieved, trace)
                yield number, self._complete(request, retrieved, plan, decoded, None, trace)
            except TinyAgentError as error:
                yield number, error
        yield from at_once

    def _write(
        self,
        request: Request,
        retrieved: Retrieved,
        on_text: Callable[[str], None] | None,
        trace: Trace,
        *,
        more_tools: bool = True,
    ) -> tuple[Plan, Decoded]:
        """Write and check one plan."""
        job = self.job(request, retrieved, more_tools=more_tools)
        written: Decoded | TinyAgentError
        try:
            written = self.engine.plan(
                job.prompt, job.constraint, drafter=job.drafter, on_text=on_text
            )
        except PlanError as error:
            written = error
        return self._checked(written, retrieved, trace)

    def _complete(
        self,
        request: Request,
        retrieved: Retrieved,
        plan: Plan,
        decoded: Decoded,
        on_text: Callable[[str], None] | None,
        trace: Trace,
    ) -> Planned:
        """Where a plan asks for more tools, offer those as well and write again, once."""
        counts = decoded.counts
        if plan.more_tools:
            names = (*retrieved.tools.names, *plan.more_tools)
            more = self.tools.closure(names)
            retrieved = Retrieved(
                tools=more,
                scores=retrieved.scores,
                abstain=False,
                reasons={name: retrieved.reasons.get(name, "asked for") for name in more.names},
            )
            plan, decoded = self._write(request, retrieved, on_text, trace, more_tools=False)
            counts = _sum(counts, decoded.counts)
        return Planned(
            plan=plan, text=decoded.text, retrieved=retrieved, counts=counts, trace=trace
        )

    def job(self, request: Request, retrieved: Retrieved, *, more_tools: bool = True) -> Job:
        """Return what the engine needs to write the plan of one request."""
        from mlx_tinyagent.decode.constraint import PlanConstraint
        from mlx_tinyagent.decode.drafts import Drafter
        from mlx_tinyagent.decode.engine import Job

        tools = retrieved.tools
        tokenizer = self.engine.model.tokenizer
        hidden = [name for name in self.tools.names if name not in tools]
        if len(hidden) > MORE_TOOLS:
            hidden = sorted(hidden, key=lambda name: -retrieved.scores.get(name, 0.0))[:MORE_TOOLS]
        options = GrammarOptions(
            more_tools=tuple(hidden) if more_tools else (), dates=date_phrases(request)
        )
        constraint = PlanConstraint(
            tokenizer.llguidance_tokenizer(), tools, request.sources(), options
        )
        prompt = render(request, tools, tokenizer.chat_frame())
        drafter = Drafter(tools, request.query, draft_hints(request, retrieved.scores))
        return Job(prompt, constraint, drafter)

    def _checked(
        self, written: Decoded | TinyAgentError, retrieved: Retrieved, trace: Trace
    ) -> tuple[Plan, Decoded]:
        """Parse what was written and add its seconds.

        Raises:
            ModelError: It is no usable plan.
            TinyAgentError: What kept it from being written.
        """
        try:
            if isinstance(written, TinyAgentError):
                raise written
            plan = parse(written.text, retrieved.tools)
            once = without_repeats(plan)
        except PlanError as error:
            raise ModelError(
                f"{self.engine.model.name} wrote no usable plan ({error.reason}); "
                "put the request in fewer or other words"
            ) from error
        for name, seconds in written.trace.seconds.items():
            trace.seconds[name] = trace.seconds.get(name, 0.0) + seconds
        if once is not plan:
            written = dataclasses.replace(written, text=write(once))
        return once, written


def _needs_nothing(request: Request, retrieved: Retrieved) -> bool:
    """Whether no plan is to be written; what a follow-up needs, earlier turns tell."""
    return retrieved.none and not request.history


def _nothing(retrieved: Retrieved, trace: Trace) -> Planned:
    """Return the plan of a request that needs no tool; the model is not asked."""
    from mlx_tinyagent.decode.engine import Counts

    counts = Counts(
        prompt_tokens=0,
        prompt_tokens_computed=0,
        plan_tokens=0,
        forward_passes=0,
        prefix_passes=0,
    )
    plan = Plan()
    return Planned(plan=plan, text=write(plan), retrieved=retrieved, counts=counts, trace=trace)


def retrieval_query(request: Request) -> str:
    """Return the text that tools are retrieved for: the last turn counts too ("and Ana")."""
    earlier = " ".join(turn.query for turn in request.history[-1:])
    return f"{earlier} {request.query}".strip()


def date_phrases(request: Request) -> tuple[str, ...]:
    """Return what a date may be copied from: the phrases that say when, in request and history.

    Of neighbors ("friday with Ana at 3") also the stretch from the first to the
    second, since one argument takes it all.
    """
    from mlx_tinyagent.act.dates import find

    moment = request.now or _ANY_MOMENT
    phrases = []
    for source in request.sources():
        found = find(source, moment)
        phrases += [date.text for date in found]
        phrases += [source[a.span[0] : b.span[1]] for a, b in itertools.pairwise(found)]
    return tuple(dict.fromkeys(phrases))


def counts_json(counts: Counts) -> dict[str, int]:
    """Return the documented counts of one request."""
    return {
        "prompt_tokens": counts.prompt_tokens,
        "prompt_tokens_computed": counts.prompt_tokens_computed,
        "plan_tokens": counts.plan_tokens,
        "forward_passes": counts.forward_passes,
    }


def _sum(first: Counts, second: Counts) -> Counts:
    """Add up what two plans cost."""
    one, two = dataclasses.asdict(first), dataclasses.asdict(second)
    return dataclasses.replace(first, **{name: value + two[name] for name, value in one.items()})


def draft_hints(request: Request, scores: Mapping[str, float]) -> Hints:
    """Say what a drafter may know: the request's date phrases and the retrieval scores."""
    from mlx_tinyagent.act.dates import find
    from mlx_tinyagent.decode.drafts import Hints

    dates = tuple(found.text for found in find(request.query, request.now or _ANY_MOMENT))
    return Hints(dates=dates, scores=scores)
