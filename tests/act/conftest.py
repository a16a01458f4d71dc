"""The demo world, and tools that record what happens to them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import Effect, Email, Template, Text, Tool, ToolSet, Type, When, tool
from mlx_tinyagent.tools.local import LocalBackend, Store, memory_world
from mlx_tinyagent.tools.results import Failed, Ok, Result, Value
from mlx_tinyagent.tools.writer import PlainWriter

NOW = datetime(2026, 3, 2, 9, 0)  # the world's reference day, a Monday


@pytest.fixture
def store() -> Iterator[Store]:
    """World v1 in memory."""
    with memory_world() as opened:
        yield opened


@pytest.fixture
def host(store: Store) -> Host:
    """What a tool reaches on that morning."""
    return Host(backend=LocalBackend(store), writer=PlainWriter(), request="", now=NOW)


@dataclass
class Recorder:
    """Tools that note when they begin and end, and what they were given."""

    events: list[tuple[str, str]] = field(default_factory=list)  # ("begin" | "end", name)
    received: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    meet: Callable[[str], object] = lambda name: None  # called inside, to meet other steps
    results: dict[str, Result] = field(default_factory=dict)  # by first argument
    lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, tool_name: str, name: str, **args: object) -> Result:
        """Note a call and give its result."""
        with self.lock:
            self.events.append(("begin", name))
            self.received.append((tool_name, {"name": name, **args}))
        try:
            self.meet(name)
        finally:
            with self.lock:
                self.events.append(("end", name))
        return self.results.get(name, Ok(value=Value(text=f"<{name}>", fields={"half": name[:1]})))

    def tools(self) -> ToolSet:
        """Return ``look`` (reads), ``show`` (opens), ``write``, ``tell`` (needs a person)."""

        @tool(effect=Effect.READ, returns=Type.TEXT, fields=("half",))
        def look(name: Text, other: Text = "") -> Result:
            """Look something up."""
            return self.call("look", name, other=other)

        @tool(effect=Effect.OPEN, returns=Type.TEXT)
        def show(name: Text) -> Result:
            """Show something."""
            return self.call("show", name)

        @tool(effect=Effect.WRITE, returns=Type.TEXT)
        def write(name: Text, text: Template = "", note: Text | None = None) -> Result:
            """Write something down."""
            return self.call("write", name, text=text, note=note)

        @tool(effect=Effect.SEND)
        def tell(
            name: Text, people: list[Email], when: When, extra: list[int] | None = None
        ) -> Result:
            """Tell people something."""
            return self.call("tell", name, people=people, when=when, extra=extra)

        @tool(effect=Effect.WRITE)
        def leave(name: Text) -> Result:
            """End the program, as a bad tool might."""
            raise SystemExit(name)

        tools: list[Tool] = [look, show, write, tell, leave]
        return ToolSet("recorded", tools)


@pytest.fixture
def recorder() -> Recorder:
    """A fresh recorder."""
    return Recorder()


FAILED = Failed(reason="it broke")
