"""The thread that owns a model: calls, work ahead, giving up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import pytest

from mlx_tinyagent.agent.worker import Abandoned, Worker


def test_calls_run_on_one_other_thread() -> None:
    """Always the same one, whoever calls."""
    worker = Worker()
    names = {worker.call(lambda check: threading.get_ident()) for _ in range(3)}
    assert len(names) == 1
    assert threading.get_ident() not in names


def test_what_a_call_raises_is_raised_to_its_caller() -> None:
    """And the thread goes on."""
    worker = Worker()
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda check: 1 / 0)
    assert worker.call(lambda check: 7) == 7


def test_the_newest_offer_is_done_when_nothing_else_is_to_be_done() -> None:
    """Older ones are dropped, a call goes first."""
    worker, go = Worker(), threading.Event()
    done: list[str] = []
    ended = threading.Event()

    def busy(check: Callable[[], None]) -> None:
        go.wait()

    caller = threading.Thread(target=lambda: worker.call(busy))
    caller.start()
    for name in "abc":
        worker.offer(lambda name=name: (done.append(name), ended.set()))  # type: ignore[misc]
    go.set()
    caller.join()
    ended.wait()
    worker.call(lambda check: None)
    assert done == ["c"]


def test_work_ahead_that_fails_is_no_harm() -> None:
    """The error is kept for who asks; a good one clears it."""
    worker, begun = Worker(), threading.Event()

    def work() -> None:
        begun.set()
        if worker.error is None:
            raise ZeroDivisionError

    for expected in (ZeroDivisionError, type(None)):
        begun.clear()
        worker.offer(work)
        begun.wait()
        worker.call(lambda check: None)  # begins when that has ended
        assert isinstance(worker.error, expected)


def test_ctrl_c_ends_the_wait_and_then_the_work() -> None:
    """The caller is free at once, the thread at the next check."""
    worker = Worker()
    stopped = threading.Event()

    def work(check: Callable[[], None]) -> None:
        signal.raise_signal(signal.SIGINT)  # handled on the main thread, which waits
        try:
            while True:
                check()
                threading.Event().wait(0.01)
        except Abandoned:
            stopped.set()
            raise

    with pytest.raises(KeyboardInterrupt):
        worker.call(work)
    assert stopped.wait(10)
    assert worker.call(lambda check: "free") == "free"
