"""One thread that owns the model: it answers calls, and works ahead while nobody calls.

MLX wants one thread per model. Whoever talks to the user stays on another one,
so typing never waits for a pass, and Ctrl-C returns at once.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

LOOK_S = 0.1  # how often a wait looks whether it was interrupted

T = TypeVar("T")
Check = Callable[[], None]


class Abandoned(Exception):  # noqa: N818 - not an error: nobody waits any more
    """Raised inside a call whose caller has stopped waiting."""


@dataclass(slots=True)
class _Job(Generic[T]):
    """A call, whether anyone still waits for it, and what came of it."""

    work: Callable[[Check], T]
    abandoned: threading.Event = field(default_factory=threading.Event)
    outcome: SimpleQueue[tuple[T | None, BaseException | None]] = field(default_factory=SimpleQueue)

    def check(self) -> None:
        if self.abandoned.is_set():
            raise Abandoned

    def wait(self) -> tuple[T | None, BaseException | None]:
        # Not one long wait: a signal that comes just before it begins would not end it.
        while True:
            with contextlib.suppress(Empty):
                return self.outcome.get(timeout=LOOK_S)

    def run(self) -> None:
        try:
            self.check()
            self.outcome.put((self.work(self.check), None))
        except BaseException as error:  # it is raised again where the call was made
            self.outcome.put((None, error))


class Worker:
    """Runs calls one after the other on a thread of its own.

    Attributes:
        error: What the last work ahead ended in; None if it ended well.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self._jobs: SimpleQueue[_Job[object] | None] = SimpleQueue()
        self._ahead: SimpleQueue[Callable[[], object]] = SimpleQueue()
        # A daemon: a pass that is under way must not keep the program from leaving.
        threading.Thread(target=self._loop, name="model", daemon=True).start()

    def call(self, work: Callable[[Check], T]) -> T:
        """Run something on the thread and wait for it.

        Args:
            work: Gets a function to call now and then: it raises once nobody
                waits any more, so that the thread is free for the next call.

        Raises:
            KeyboardInterrupt: Ctrl-C while waiting; the work ends at its next check.
            Exception: Whatever the work raised.
        """
        job = _Job(work)
        try:
            self._jobs.put(job)  # type: ignore[arg-type] # a queue of jobs of any kind
            value, error = job.wait()
        except BaseException:
            job.abandoned.set()
            raise
        if error is not None:
            raise error
        return value  # type: ignore[return-value] # None only where the work returned it

    def offer(self, work: Callable[[], object]) -> None:
        """Do something when nothing else is to be done; a newer offer replaces an older one."""
        self._ahead.put(work)
        self._jobs.put(None)

    def _loop(self) -> None:
        while True:
            job = self._jobs.get()
            if job is not None:
                job.run()
            elif self._jobs.empty() and (work := self._newest()) is not None:
                self._work_ahead(work)

    def _newest(self) -> Callable[[], object] | None:
        work = None
        while True:
            try:
                work = self._ahead.get_nowait()
            except Empty:
                return work

    def _work_ahead(self, work: Callable[[], object]) -> None:
        try:
            work()
            self.error = None
        except Exception as error:  # working ahead is a favor: a call will say what is wrong
            self.error = error
