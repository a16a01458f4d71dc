"""Plans written by a model, scored by the harness: the slow and final measure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.agent.planner import Planner
from mlx_tinyagent.decode.drafts import Drafter
from mlx_tinyagent.errors import TinyAgentError
from mlx_tinyagent.evaluate.harness import score_item
from mlx_tinyagent.plan.graph import as_calls
from mlx_tinyagent.prompt.render import Request
from mlx_tinyagent.retrieval.base import AllTools

if TYPE_CHECKING:
    from mlx_tinyagent.decode.engine import Job
    from mlx_tinyagent.decode.grammar import Written
    from mlx_tinyagent.evaluate.harness_items import Item
    from mlx_tinyagent.quantize.pipeline import Say
    from mlx_tinyagent.retrieval.base import Retrieved
    from mlx_tinyagent.tools.base import ToolSet

_WIDTH = 24  # tokens of a known plan that one pass verifies


@dataclass(slots=True)
class Follower(Drafter):
    """Guesses that a plan goes on as another model's did, as far as it does.

    A model that differs little from the one whose plan it is given has its own
    plan verified in a few passes; what it writes is the same without.

    Attributes:
        known: The other model's plan.
    """

    known: str = dataclasses.field(default="", kw_only=True)

    def complete(self, line: str, written: Sequence[Written], earlier: str, most: int) -> str:
        """Return how the known plan goes on; else what any drafter guesses."""
        so_far = earlier + line
        if self.known.startswith(so_far):
            return self.known[len(so_far) :]
        return Drafter.complete(self, line, written, earlier, most)


class FollowingPlanner(Planner):
    """A planner that guesses what another model planned.

    Attributes:
        known: The other model's plan of the next request; empty for none.
    """

    known = ""

    def job(self, request: Request, retrieved: Retrieved, *, more_tools: bool = True) -> Job:
        """Return the job with a drafter that follows the known plan."""
        job = Planner.job(self, request, retrieved, more_tools=more_tools)
        if not self.known or job.drafter is None:
            return job
        usual = job.drafter
        follower = Follower(usual.tools, usual.query, usual.hints, known=self.known)
        return dataclasses.replace(job, drafter=follower)


def written(
    folder: Path,
    adapter: Path | None,
    tools: ToolSet,
    items: Sequence[Item],
    say: Say,
    *,
    known: Sequence[str] = (),
    each: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Let a model plan every item with the tools it names, and score the plans.

    Args:
        folder: Model folder.
        adapter: Its adapter.
        tools: Declarations.
        items: The rows.
        say: Told how far it is.
        known: Per item the plan text of a similar model. It is what is guessed and
            verified; plans are the same without, and take longer.
        each: Given every line as soon as there is one.

    Returns:
        One line of the harness per item.
    """
    from mlx_tinyagent.decode.engine import Engine, EngineOptions
    from mlx_tinyagent.decode.tiers import default_tier
    from mlx_tinyagent.models.language import load

    model = load(folder, adapter=adapter)
    options = EngineOptions(tier=default_tier(model), width=_WIDTH if known else None)
    planner = FollowingPlanner(Engine(model, options=options), tools, AllTools())
    rows = []
    for number, item in enumerate(items, start=1):
        planner.known = known[number - 1] if known else ""
        rows.append(score_item(item, _predict(planner, item, tools), tools, execute=False))
        if each is not None:
            each(rows[-1])
        say("planning", number, len(items))
    return rows


def _predict(planner: Planner, item: Item, tools: ToolSet) -> dict[str, Any]:
    request = Request(query=item.query, now=item.now, history=item.history)
    named = item.tools is not None and all(name in tools for name in item.tools)
    offered = tools.closure(item.tools).names if named and item.tools else None
    try:
        planned = planner.plan(request, offered=offered)
    except TinyAgentError as error:
        return {"calls": [], "ask": None, "error": str(error)}
    return {
        "calls": as_calls(planned.plan),
        "ask": planned.plan.ask,
        "text": planned.text,
        "tools": list(planned.retrieved.tools.names),
        "error": None,
    }
