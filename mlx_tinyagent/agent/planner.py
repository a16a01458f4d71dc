"""Request to plan: retrieve tools, render, decode under the grammar, check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlx_tinyagent.decode.grammar import GrammarOptions
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.prompt.render import Request, render
from mlx_tinyagent.retrieval.base import Retrieved, Retriever
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.trace import Trace

if TYPE_CHECKING:
    from mlx_tinyagent.decode.engine import Counts, Decoded, Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan with what it took.

    Attributes:
        plan: The checked plan.
        text: As written by the model.
        retrieved: The tools that were offered, and why.
        counts: Tokens and passes.
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
            PlanError: The plan was cut by a limit.
            UsageError: An offered name is unknown.
        """
        trace = Trace()
        with trace.span("retrieve"):
            retrieved = self._retrieve(request, offered)
        plan, decoded = self._write(request, retrieved.tools, on_text, trace)
        if plan.more_tools:  # once: offer what was asked for as well, and write again
            names = (*retrieved.tools.names, *plan.more_tools)
            more = self.tools.closure(names)
            retrieved = Retrieved(
                tools=more,
                scores=retrieved.scores,
                abstain=False,
                reasons={name: retrieved.reasons.get(name, "asked for") for name in more.names},
            )
            plan, decoded = self._write(request, more, on_text, trace, more_tools=False)
        return Planned(
            plan=plan,
            text=decoded.text,
            retrieved=retrieved,
            counts=decoded.counts,
            trace=trace,
        )

    def _retrieve(self, request: Request, offered: tuple[str, ...] | None) -> Retrieved:
        if offered is not None:
            chosen = self.tools.subset(offered)
            reasons = dict.fromkeys(chosen.names, "given")
            return Retrieved(tools=chosen, scores={}, abstain=False, reasons=reasons)
        earlier = " ".join(turn.query for turn in request.history[-1:])
        return self._retriever.select(f"{earlier} {request.query}".strip(), self.tools)

    def _write(
        self,
        request: Request,
        tools: ToolSet,
        on_text: Callable[[str], None] | None,
        trace: Trace,
        *,
        more_tools: bool = True,
    ) -> tuple[Plan, Decoded]:
        from mlx_tinyagent.decode.constraint import PlanConstraint

        tokenizer = self.engine.model.tokenizer
        hidden = tuple(name for name in self.tools.names if name not in tools)
        options = GrammarOptions(more_tools=hidden if more_tools else ())
        constraint = PlanConstraint(
            tokenizer.llguidance_tokenizer(), tools, request.sources(), options
        )
        prompt = render(request, tools, tokenizer.chat_frame())
        decoded = self.engine.plan(prompt, constraint, on_text=on_text)
        for name, seconds in decoded.trace.seconds.items():
            trace.seconds[name] = trace.seconds.get(name, 0.0) + seconds
        return parse(decoded.text, tools), decoded
