"""A request that is run while somebody watches: its plan, its approval, its steps, as events.

A run lives on a thread of its own and as long as its client listens. When the
client is gone, what is asked counts as refused and no further step starts.
The approval names the hash of what was shown, so that a yes to one plan can
never become a yes to another.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from mlx_tinyagent.act.executor import Callbacks, StepResult
from mlx_tinyagent.act.gate import Preview, PreviewStep
from mlx_tinyagent.agent.joiner import problem, words
from mlx_tinyagent.agent.session import Question, Session
from mlx_tinyagent.agent.worker import Abandoned
from mlx_tinyagent.errors import InputError, TinyAgentError
from mlx_tinyagent.plan.graph import as_calls
from mlx_tinyagent.plan.schema import Plan, Step
from mlx_tinyagent.server.desk import BusyError
from mlx_tinyagent.tools.results import Ambiguous, Candidate, Ok, Result, explain

CONVERSATIONS = 16  # remembered; the one that was quiet longest is forgotten first
RUNS = 4  # at a time
_HARMLESS = "\n\t\u200c\u200d"  # joiners are part of words and emoji

Event = dict[str, Any]


class _Left(KeyboardInterrupt):
    """Raised in a run whose client is gone: the executor ends as at Ctrl-C."""


@dataclass(slots=True)
class _Asked:
    """What a run waits for: its number, the hash of what was shown, and where the answer goes."""

    number: int
    digest: str
    answers: SimpleQueue[Any] = field(default_factory=SimpleQueue)


class Run:
    """One request under way.

    Args:
        session: The conversation it belongs to.
        query: The request.
        bug: Reports an unexpected error; returns one line for the user.
    """

    def __init__(self, session: Session, query: str, bug: Callable[[], str]) -> None:
        self.id = secrets.token_hex(16)
        self._session = session
        self._query = query
        self._bug = bug
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._lock = threading.Lock()
        self._asked: _Asked | None = None
        self._count = 0
        self._gone = threading.Event()

    async def events(self) -> AsyncIterator[Event]:
        """Start the run and yield what happens; leaving the loop ends it."""
        thread = threading.Thread(target=self._work, name=f"run-{self.id[:8]}", daemon=True)
        thread.start()
        try:
            yield {"event": "run", "run": self.id}
            while (event := await self._events.get()) is not None:
                yield event
        finally:
            self.leave()

    def leave(self) -> None:
        """Say that nobody listens any more."""
        self._gone.set()
        with self._lock:
            if self._asked is not None:
                self._asked.answers.put(_Left())

    def approve(self, digest: str, *, yes: bool) -> None:
        """Answer the approval that is asked for.

        Args:
            digest: Of what was shown.
            yes: The answer.

        Raises:
            InputError: No approval is asked for, or something else was shown.
        """
        with self._lock:
            asked = self._asked
            if asked is None or not asked.digest:
                raise InputError("this run asks for no approval now")
            if not secrets.compare_digest(asked.digest.encode(), digest.encode()):
                raise InputError("something else was shown than what is approved; look again")
            self._asked = None
        asked.answers.put(yes)

    def answer(self, number: int, value: Any) -> None:
        """Answer a question.

        Args:
            number: Of the question.
            value: Text, or the place of a candidate from 0; None for no answer.

        Raises:
            InputError: This question is not asked now.
        """
        with self._lock:
            asked = self._asked
            if asked is None or asked.digest or asked.number != number:
                raise InputError("this run does not ask that question now")
            self._asked = None
        asked.answers.put(value)

    # On the run's own thread

    def _work(self) -> None:
        try:
            self._emit("reply", **self._reply())
        except (_Left, Abandoned):
            self._session.stopped(self._query)
        except KeyboardInterrupt:  # of the executor, which says what became of each step
            self._session.stopped(self._query)
        except TinyAgentError as error:
            self._tell({"event": "error", "message": visible(str(error)), "code": error.exit_code})
        except Exception:  # a bug: one line for the user
            self._tell({"event": "error", "message": self._bug(), "code": 1})
        self._tell(None)

    def _reply(self) -> dict[str, Any]:
        callbacks = Callbacks(
            approve=self._approve,
            choose=self._choose,
            started=self._started,
            finished=self._finished,
        )
        reply = self._session.answer(
            self._query, callbacks, ask=self._ask, on_text=self._text, on_plan=self._plan
        )
        done = reply.as_json()
        return {
            "reply": visible(reply.text),
            "plan": visible(reply.plan_text),
            "code": reply.exit_code,
            "timings": done["timings"],
            "counts": done["counts"],
        }

    def _text(self, text: str) -> None:
        if self._gone.is_set():  # this is the model's thread
            raise Abandoned
        self._tell({"event": "text", "text": visible(text)})

    def _plan(self, plan: Plan) -> None:
        calls = as_calls(plan)
        for call, step in zip(calls, plan.steps, strict=True):
            call["words"] = words(step.tool)
            call["needs"] = list(step.dependencies)
            call["args"] = [visible(str(value)) for value in call["args"]]
        self._emit("plan", calls=calls)

    def _started(self, step: Step) -> None:
        self._emit("started", id=step.id)

    def _finished(self, outcome: StepResult) -> None:
        self._emit(
            "finished",
            id=outcome.id,
            status=outcome.result.status,
            text=visible(_told(outcome.id, outcome.tool, outcome.result)),
            seconds=round(outcome.seconds, 3),
        )

    def _approve(self, shown: Preview) -> bool:
        steps = [_step(step) for step in shown.steps]
        said = self._wait("approval", shown.digest, steps=steps)
        return said is True

    def _choose(self, unclear: Ambiguous) -> Candidate | None:
        labels = [visible(candidate.label) for candidate in unclear.candidates]
        said = self._wait("question", "", text=f"Which {visible(unclear.what)}?", candidates=labels)
        in_range = isinstance(said, int) and 0 <= said < len(unclear.candidates)
        return unclear.candidates[said] if in_range else None

    def _ask(self, question: Question) -> str | None:
        choices = [visible(choice) for choice in question.choices]
        said = self._wait("question", "", text=visible(question.text), choices=choices)
        return said if isinstance(said, str) else None

    def _wait(self, name: str, digest: str, **data: Any) -> Any:
        """Ask something and wait for the answer, as long as somebody listens."""
        with self._lock:
            self._count += 1
            asked = self._asked = _Asked(self._count, digest)
        self._emit(name, number=asked.number, digest=digest, **data)
        said = asked.answers.get()
        if isinstance(said, _Left) or self._gone.is_set():
            raise _Left
        return said

    def _emit(self, name: str, **data: Any) -> None:
        if self._gone.is_set():
            raise _Left
        self._tell({"event": name, **data})

    def _tell(self, event: Event | None) -> None:
        with contextlib.suppress(RuntimeError):  # the server has ended: nobody listens
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)


class Runs:
    """The conversations and the runs under way.

    Args:
        session: Makes a new conversation.
        bug: Reports an unexpected error; returns one line for the user.
    """

    def __init__(self, session: Callable[[], Session], bug: Callable[[], str]) -> None:
        self._session = session
        self._bug = bug
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._running: dict[str, Run] = {}  # by conversation

    async def run(self, conversation: str, query: str) -> AsyncIterator[Event]:
        """Run a request; yields its events.

        Args:
            conversation: Its name, chosen by the client; nobody else should guess it.
            query: The request.

        Raises:
            BusyError: The conversation, or the server, has enough to do.
        """
        self.check(conversation)
        run = self._running[conversation] = self._begin(conversation, query)
        try:
            async for event in run.events():
                yield event
        finally:
            run.leave()
            self._running.pop(conversation, None)

    def check(self, conversation: str) -> None:
        """Refuse a request that there is no room for.

        Raises:
            BusyError: The conversation, or the server, has enough to do.
        """
        if conversation in self._running:
            raise BusyError("this conversation has a request under way; wait for its end")
        if len(self._running) >= RUNS:
            raise BusyError(f"{RUNS} requests are under way already; wait for one of them")

    def _begin(self, conversation: str, query: str) -> Run:
        session = self._sessions.pop(conversation, None) or self._session()
        self._sessions[conversation] = session
        while len(self._sessions) > CONVERSATIONS:
            oldest = next(name for name in self._sessions if name not in self._running)
            del self._sessions[oldest]
        return Run(session, query, self._bug)

    def find(self, number: str) -> Run:
        """Return a run that is under way.

        Raises:
            InputError: There is none of that identifier.
        """
        found = next((run for run in self._running.values() if run.id == number), None)
        if found is None:
            raise InputError("no such run is under way")
        return found


def _step(step: PreviewStep) -> Mapping[str, Any]:
    """Return a step of a preview as plain data."""
    result = step.result if step.result is not None else step.problem
    return {
        "id": step.id,
        "words": words(step.tool),
        "effect": step.effect,
        "changes": step.changes,
        "asks": step.asks,
        "runs": step.prepared is not None,
        "args": [[words(name), visible(value)] for name, value in step.args],
        "warnings": [visible(warning) for warning in step.warnings],
        "told": "" if result is None else visible(_told(step.id, step.tool, result)),
    }


def _told(number: int, tool: str, result: Result) -> str:
    if isinstance(result, Ok):
        return explain(result)
    return problem(StepResult(id=number, tool=tool, args={}, result=result, seconds=0))


def visible(text: str) -> str:
    """Show characters that would hide or turn around text; newlines and tabs stay."""
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(
        char
        if char in _HARMLESS or unicodedata.category(char) not in hidden
        else f"\\u{ord(char):04x}"
        for char in text
    )
