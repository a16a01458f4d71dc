"""An agent whose plans are written beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from mlx_tinyagent.agent.agent import Agent
from mlx_tinyagent.agent.planner import Planned
from mlx_tinyagent.decode.engine import Counts
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.prompt.render import Request
from mlx_tinyagent.retrieval.base import AllTools
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import LocalBackend, Store, memory_world
from mlx_tinyagent.tools.writer import PlainWriter
from mlx_tinyagent.trace import Trace


@dataclass
class Scripted:
    """Gives the next of some plans and keeps the requests."""

    texts: list[str]
    requests: list[Request] = field(default_factory=list)
    engine: Any = None

    def plan(self, request: Request, *, on_text: Any = None) -> Planned:
        """Return the next plan."""
        self.requests.append(request)
        text = self.texts.pop(0)
        if on_text is not None:
            on_text(text)
        return Planned(
            plan=parse(text, TINYAGENT16),
            text=text,
            retrieved=AllTools().select(request.query, TINYAGENT16),
            counts=Counts(
                prompt_tokens=10,
                prompt_tokens_computed=4,
                plan_tokens=3,
                forward_passes=2,
                prefix_passes=1,
            ),
            trace=Trace(),
        )


@pytest.fixture
def store() -> Iterator[Store]:
    """World v1 in memory."""
    with memory_world() as opened:
        yield opened


@pytest.fixture
def scripted(store: Store) -> Callable[..., tuple[Agent, Scripted]]:
    """A function that makes an agent with plans, and its planner."""

    def make(*texts: str) -> tuple[Agent, Scripted]:
        planner = Scripted(list(texts))
        planner.engine = SimpleNamespace()
        agent = Agent(
            tools=TINYAGENT16,
            backend=LocalBackend(store),
            writer=PlainWriter(),
            planner=planner,  # type: ignore[arg-type]
            clock=lambda: datetime(2026, 3, 2, 9, 0),
        )
        return agent, planner

    return make
