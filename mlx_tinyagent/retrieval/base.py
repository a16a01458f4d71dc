"""What every retriever does: score the tools, keep some, close over producers.

Knows no scorer. A planner that gets too few tools fails for certain, one that
gets too many only slows down, so whatever is kept is closed over the tools
whose values it reads, and small tool sets are offered whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from mlx_tinyagent.tools.base import ToolSet

# Below this many tools nothing is filtered: on six tools, retrieval cost a small planner
# 3 to 5 of 13 passes (inviti8/lupus, golden set of 22 requests).
SMALL_SET = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """The tools offered for one request.

    Attributes:
        tools: The tools, in the order of the set they come from.
        scores: Score of every tool of that set; comparable within one retriever.
        abstain: Whether the request seems to need no tool. A hint.
        none: Whether it needs none by a threshold calibrated on people's requests, all
            tools being known to the classifier: the planner then writes nothing.
        reasons: Why each kept tool was kept: ``score``, ``producer`` (another
            reads its value), ``always`` or ``small-set``.
    """

    tools: ToolSet
    scores: Mapping[str, float]
    abstain: bool
    reasons: Mapping[str, str]
    none: bool = False


class Retriever(Protocol):
    """Selects tools for requests."""

    def select(self, query: str, tools: ToolSet) -> Retrieved:
        """Return the tools to offer for a request.

        Args:
            query: The request.
            tools: The enabled tools.
        """
        ...


class AllTools:
    """Offers every tool: the baseline without retrieval."""

    def select(self, query: str, tools: ToolSet) -> Retrieved:
        """Return all tools, each with score 1."""
        return keep(tools, dict.fromkeys(tools.names, 1.0), chosen=tools.names, abstain=False)


def keep(
    tools: ToolSet,
    scores: Mapping[str, float],
    *,
    chosen: Collection[str],
    abstain: bool,
    always: Collection[str] = (),
) -> Retrieved:
    """Turn chosen tools into what is offered: closed over producers, or all of a small set.

    Args:
        tools: The enabled tools.
        scores: Score per tool.
        chosen: Names that the scores chose.
        abstain: Whether the request seems to need no tool.
        always: Names that are offered whatever the scores say.

    Raises:
        UsageError: A name is not in ``tools``.
    """
    reasons = dict.fromkeys(chosen, "score") | dict.fromkeys(always, "always")
    if len(tools) < SMALL_SET:
        offered, rest = tools, "small-set"
    else:
        offered, rest = tools.closure(reasons), "producer"
    return Retrieved(
        tools=offered,
        scores=MappingProxyType(dict(scores)),
        abstain=abstain,
        reasons=MappingProxyType({name: reasons.get(name, rest) for name in offered.names}),
    )
