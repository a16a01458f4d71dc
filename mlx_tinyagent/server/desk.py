"""Where requests wait for the model: one thread, a short queue, and nobody waits for the gone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mlx_tinyagent.agent.talker import complete
from mlx_tinyagent.agent.worker import Abandoned, Check, Worker
from mlx_tinyagent.errors import TinyAgentError
from mlx_tinyagent.prompt.render import Request
from mlx_tinyagent.tools.base import ToolSet

if TYPE_CHECKING:
    from mlx_tinyagent.agent.planner import Planned

QUEUE = 8  # requests that may wait beside the one that is planned

T = TypeVar("T")


class Plans(Protocol):
    """What the server needs of a planner."""

    engine: Any
    tools: ToolSet

    def plan(
        self,
        request: Request,
        *,
        offered: tuple[str, ...] | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Planned:
        """Plan one request; see ``Planner.plan``."""
        ...


class BusyError(TinyAgentError):
    """More requests wait already than will be answered soon."""


class Desk:
    """Gives the model's thread one request after the other.

    Args:
        worker: The thread that owns the model.
        planner: Makes a planner for a tool set; runs on that thread.
        queue: How many requests may wait.
    """

    def __init__(
        self, worker: Worker, planner: Callable[[ToolSet], Plans], *, queue: int = QUEUE
    ) -> None:
        self.worker = worker
        self._planner = planner
        self._queue = queue
        self._waiting = 0

    async def plan(
        self, tools: ToolSet, request: Request, *, offered: tuple[str, ...] | None = None
    ) -> Planned:
        """Plan one request.

        Args:
            tools: Enabled tools.
            request: The request.
            offered: Names of the tools to offer; None lets the retriever choose.

        Raises:
            BusyError: Too many requests wait.
            TinyAgentError: See ``Planner.plan``.
            asyncio.CancelledError: The caller is gone; the work ends at its next token.
        """

        def work(check: Check) -> Planned:
            return self._planner(tools).plan(request, offered=offered, on_text=lambda text: check())

        return await self._run(work)

    async def talk(self, system: str, text: str, *, max_tokens: int) -> str:
        """Let the model answer in free text; errors as of ``plan``."""
        none = ToolSet("none", [])

        def work(check: Check) -> str:
            return complete(self._planner(none).engine, system, text, max_tokens=max_tokens)

        return await self._run(work)

    async def do(self, work: Callable[[], T]) -> T:
        """Run something else on the model's thread; errors as of ``plan``."""
        return await self._run(lambda check: work())

    async def _run(self, work: Callable[[Check], T]) -> T:
        import anyio.to_thread

        if self._waiting > self._queue:
            raise BusyError(
                f"{self._queue} requests wait already; try again in a moment, or start the "
                "server with a longer --queue"
            )
        gone = threading.Event()

        def job(check: Check) -> T:
            def still_wanted() -> None:
                check()
                if gone.is_set():
                    raise Abandoned

            still_wanted()
            return work(still_wanted)

        self._waiting += 1
        try:
            return await anyio.to_thread.run_sync(self.worker.call, job, abandon_on_cancel=True)
        except BaseException:
            gone.set()
            raise
        finally:
            self._waiting -= 1
