"""The real command line with a planner that gives plans written beforehand.

Run as a program: ``python scripted.py chat``. The variable PLANS holds a JSON
object of request and plan; the plan BLOCK opens the pipe named by MARKER and
never comes, as of a model that is still at work.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from mlx_tinyagent.agent.planner import Planned
from mlx_tinyagent.decode.engine import Counts
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.prompt.render import Request
from mlx_tinyagent.retrieval.base import AllTools
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.trace import Trace


class ScriptedPlanner:
    """Gives each request the plan that was written for it; others get ``join()``."""

    def __init__(self, tools: ToolSet, plans: dict[str, str]) -> None:
        self.tools = tools
        self.plans = plans
        self.requests: list[Request] = []
        tokenizer = SimpleNamespace(
            chat_frame=lambda: SimpleNamespace(system_open="", user_open="", assistant_open=""),
            encode=lambda text, special=True: [0],
        )
        self.engine = SimpleNamespace(
            model=SimpleNamespace(tokenizer=tokenizer, adapter_config={}),
            complete=lambda ids, max_tokens: "I plan, I do not talk.",
        )

    def plan(
        self,
        request: Request,
        *,
        offered: tuple[str, ...] | None = None,
        on_text: Any = None,
    ) -> Planned:
        """Return the plan for a request."""
        self.requests.append(request)
        text = self.plans.get(request.query.strip(), "1. join()")
        if text == "BLOCK":
            Path(os.environ["MARKER"]).write_text("here")
            while not threading.Event().wait(0.02):  # a chat that no longer wants it says so here
                if on_text is not None:
                    on_text("")
        tools = self.tools if offered is None else self.tools.subset(offered)
        if on_text is not None:
            pause = float(os.environ.get("TOKEN_SECONDS", "0"))
            for end in range(1, len(text) + 1, 3):
                on_text(text[:end])
                threading.Event().wait(pause)
        return Planned(
            plan=parse(text, tools),
            text=text,
            retrieved=AllTools().select(request.query, tools),
            counts=Counts(
                prompt_tokens=100,
                prompt_tokens_computed=20,
                plan_tokens=30,
                forward_passes=10,
                prefix_passes=1,
            ),
            trace=Trace(),
        )


def scripted(stack: ExitStack, plans: dict[str, str]) -> None:
    """Replace the model and planner of every command that uses one."""
    from mlx_tinyagent.cli import ask, batch, chat

    for module in (ask, batch, chat):
        stack.enter_context(patch.object(module, "load_model", lambda name, adapter: name))
        stack.enter_context(
            patch.object(
                module,
                "make_planner",
                lambda model, tools, retrieval="on", classifier=None: ScriptedPlanner(tools, plans),
            )
        )


if __name__ == "__main__":
    from mlx_tinyagent.cli.main import main

    with ExitStack() as patches:
        scripted(patches, json.loads(os.environ["PLANS"]))
        main()
