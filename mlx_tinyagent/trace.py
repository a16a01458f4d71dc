"""Timings and counts of one request; the only module that reads the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Trace:
    """Named durations of one request, added up where a name comes again.

    Attributes:
        seconds: Seconds by name, in order of first use.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    _start: float = field(default_factory=lambda: now())

    def elapsed(self) -> float:
        """Return the seconds since the trace was made."""
        return now() - self._start

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Time the block and add it under a name."""
        start = now()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + now() - start

    def rounded(self) -> dict[str, float]:
        """Return the durations in seconds, to a tenth of a millisecond."""
        return {name: round(value, 4) for name, value in self.seconds.items()}


def now() -> float:
    """Return a monotonic time in seconds."""
    return time.perf_counter()
