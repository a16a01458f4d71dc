"""This assistant as an MCP server over stdio: ``plan``, ``ask`` and ``retrieve``.

An MCP client is a program, often a model: it cannot approve anything. So
``ask`` looks things up, and does what the user's own rules allow; whatever would
be asked about is not done, and the answer says how the user can do it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.act.executor import Callbacks
from mlx_tinyagent.act.gate import Preview
from mlx_tinyagent.errors import ConfigError, RefusedError, TinyAgentError
from mlx_tinyagent.server.desk import Desk
from mlx_tinyagent.server.planning import plan_row, read_plan_request
from mlx_tinyagent.tools.base import ToolSet

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from mlx_tinyagent.agent.agent import Agent, Reply
    from mlx_tinyagent.retrieval.base import Retriever


def check_installed() -> None:
    """Raise where the extra is missing.

    Raises:
        ConfigError: It is; the message says how to install it.
    """
    from importlib.util import find_spec

    if find_spec("mcp") is None:
        raise ConfigError("MCP needs an extra: pip install 'mlx-tinyagent[mcp]'")


def make_server(
    desk: Desk,
    tools: ToolSet,
    retriever: Retriever,
    agent: Callable[[], Agent],
    *,
    bug: Callable[[], str],
    clock: Callable[[], datetime] = datetime.now,
) -> MCPServer:
    """Return the MCP server; ``run("stdio")`` serves.

    Args:
        desk: Plans.
        tools: The tools that are planned with.
        retriever: Chooses tools.
        agent: Makes an agent, for one request.
        bug: Reports an unexpected error; returns one line for the user.
        clock: Gives the moment a request refers to; local time.
    """
    import anyio.to_thread
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("mlx-tinyagent", instructions="Plans and answers requests of one user.")

    @server.tool()
    async def plan(
        query: str, now: str | None = None, offered: list[str] | None = None
    ) -> dict[str, Any]:
        """Plan a request in plain words as calls of tools; nothing is executed.

        Args:
            query: The request.
            now: Local ISO 8601 moment that dates count from; left out, this moment.
            offered: Names of the tools that may be used; left out, they are chosen.
        """
        body = {"query": query, "now": now, "tools": offered}
        with _told(bug):
            wanted = read_plan_request(body, clock())
            planned = await desk.plan(tools, wanted.request, offered=wanted.tools)
            return plan_row(planned, wanted.request, tools)

    @server.tool()
    async def retrieve(query: str) -> dict[str, Any]:
        """Choose the tools that a request may need.

        Args:
            query: The request.
        """
        with _told(bug):
            text = read_plan_request({"query": query}, clock()).request.query
            found = await desk.do(lambda: retriever.select(text, tools))
            scores = {name: round(value, 6) for name, value in found.scores.items()}
            return {"tools": list(found.tools.names), "scores": scores, "abstain": found.abstain}

    @server.tool()
    async def ask(query: str) -> dict[str, Any]:
        """Answer a request by looking things up; what would change something is not done.

        Args:
            query: The request.
        """

        def run() -> Reply:
            return agent().ask(query, Callbacks(approve=_refuse, partial=False))

        with _told(bug):
            read_plan_request({"query": query}, clock())
            reply = await anyio.to_thread.run_sync(run)
            return reply.as_json()

    return server


def _refuse(shown: Preview) -> bool:
    """Refuse what needs a yes, and say how the user can give it."""
    steps = ", ".join(step.tool for step in shown.steps if step.asks)
    raise RefusedError(
        f"this needs the user's own approval ({steps}), which no program can give; nothing was "
        "changed. The user can run it with 'mlx-tinyagent ask'"
    )


class _told:  # noqa: N801 - used like a function
    """Turns errors into those that an MCP client shows: one readable line."""

    def __init__(self, bug: Callable[[], str]) -> None:
        self._bug = bug

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from mcp.server.mcpserver.exceptions import ToolError

        if isinstance(error, TinyAgentError):
            raise ToolError(str(error)) from None
        if isinstance(error, Exception):
            raise ToolError(self._bug()) from None
