"""A planner on a thread of its own, which also reads along while a request is typed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.agent.planner import Planned, Planner, retrieval_query
from mlx_tinyagent.agent.worker import Check, Worker
from mlx_tinyagent.prompt.render import Request, render
from mlx_tinyagent.retrieval.base import Retriever
from mlx_tinyagent.tools.base import ToolSet

if TYPE_CHECKING:
    from pathlib import Path

    from mlx_tinyagent.models.language import LanguageModel
    from mlx_tinyagent.models.second import SecondAdapter


class ThreadedEngine:
    """What others than the planner may ask of an engine that lives on another thread.

    Args:
        engine: The engine.
        worker: Its thread.
        second: Adapter for free text; None for the base model.
    """

    def __init__(self, engine: Any, worker: Worker, second: SecondAdapter | None = None) -> None:
        self.model: LanguageModel = engine.model
        self._engine = engine
        self._worker = worker
        self._second = second

    def wearing(self, folder: Path) -> ThreadedEngine:
        """Return the same engine with another adapter for free text.

        Args:
            folder: Adapter folder.

        Raises:
            ModelError: It does not fit the model.
        """

        def work(check: Check) -> ThreadedEngine:
            from mlx_tinyagent.models.second import SecondAdapter

            return ThreadedEngine(self._engine, self._worker, SecondAdapter(self.model, folder))

        return self._worker.call(work)

    def complete(self, ids: Sequence[int], *, max_tokens: int) -> str:
        """Continue a prompt in free text, without the planner's adapter, which writes plans."""

        def work(check: Check) -> str:
            from mlx_tinyagent.models.adapters import base_only

            worn = base_only(self.model.model) if self._second is None else self._second.worn()
            with worn:
                return str(self._engine.complete(ids, max_tokens=max_tokens))

        return self._worker.call(work)


class ThreadedPlanner:
    """A planner whose model is used on one thread only.

    Args:
        make: Makes the planner; runs on that thread.
        retriever: Chooses tools for a request that is being typed; None takes the planner's own.
        worker: The thread.

    Raises:
        TinyAgentError: The model cannot be loaded.
    """

    def __init__(
        self, make: Callable[[], Planner], retriever: Retriever | None, worker: Worker
    ) -> None:
        self._worker = worker
        self._planner = worker.call(lambda check: make())
        self._retriever = retriever
        self.tools: ToolSet = self._planner.tools
        self.engine = ThreadedEngine(self._planner.engine, worker)

    def plan(
        self,
        request: Request,
        *,
        offered: tuple[str, ...] | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Planned:
        """Plan one request; see ``Planner.plan``.

        ``on_text`` is called on the other thread. Ctrl-C ends the wait at once
        and the work at its next token.
        """

        def work(check: Check) -> Planned:
            def told(text: str) -> None:
                check()
                if on_text is not None:
                    on_text(text)

            return self._planner.plan(request, offered=offered, on_text=told)

        return self._worker.call(work)

    def read_along(self, request: Request) -> None:
        """Compute ahead what is typed so far, when the thread has nothing else to do."""
        self._worker.offer(lambda: self._extend(request))

    def _extend(self, request: Request) -> int:
        engine = self._planner.engine
        if self._retriever is None:
            tools = self._planner.retrieve(request, None).tools
        else:
            tools = self._retriever.select(retrieval_query(request), self.tools).tools
        return engine.extend(render(request, tools, engine.model.tokenizer.chat_frame()))
