"""The assistant as an MCP server: plans, looks up, and never takes a program's word for a yes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from mlx_tinyagent.agent.agent import Agent
from mlx_tinyagent.agent.worker import Worker
from mlx_tinyagent.retrieval.bm25 import BM25Retriever
from mlx_tinyagent.server.desk import Desk
from mlx_tinyagent.server.mcp_server import make_server
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import LocalBackend, Store, content_hash
from mlx_tinyagent.tools.writer import PlainWriter
from tests.server.live import NOW, Script, Threaded

mcp = pytest.importorskip("mcp", reason="the extra mcp is not installed")

LOOK = '1. get_email_address("Noor van Dijk")\n2. join()'
CHANGE = '1. create_note("Agenda", "x", "")\n2. join()'

Call = Callable[..., tuple[bool, Any]]


@pytest.fixture
def script() -> Script:
    """Plans by request."""
    return Script({"look": LOOK, "change": CHANGE})


@pytest.fixture
def call(script: Script, store: Store) -> Call:
    """A function that calls a tool: whether it failed, and what it gave."""
    worker = Worker()
    planner: Any = Threaded(script.planner(TINYAGENT16), worker)

    def agent() -> Agent:
        backend = LocalBackend(store)
        made = {"tools": TINYAGENT16, "backend": backend, "writer": PlainWriter()}
        return Agent(**made, planner=planner, clock=lambda: NOW)

    server = make_server(
        Desk(worker, script.planner),
        TINYAGENT16,
        BM25Retriever(),
        agent,
        bug=lambda: "internal error",
        clock=lambda: NOW,
    )

    def calling(name: str, **args: Any) -> tuple[bool, Any]:
        async def talk() -> Any:
            async with mcp.Client(server) as client:
                return await client.call_tool(name, args)

        answer = anyio.run(talk)
        text = answer.content[0].text
        return answer.is_error, text if answer.is_error else json.loads(text)

    return calling


def test_three_tools_are_offered(script: Script, call: Call) -> None:
    """A request is planned, nothing runs; the row is that of ``plan``."""
    failed, row = call("plan", query="change", offered=["create_note"])

    assert not failed
    assert row["calls"] == [{"id": 1, "tool": "create_note", "args": ["Agenda", "x", ""]}]
    assert script.offered == [("create_note",)]


def test_lookups_are_answered(call: Call) -> None:
    """They change nothing, so nobody is asked."""
    failed, answer = call("ask", query="look")

    assert not failed
    assert "noor@atelier-noor.example" in answer["reply"]


def test_a_change_is_refused(call: Call, store: Store) -> None:
    """A client cannot approve; it is told who can."""
    before = content_hash(store)

    failed, text = call("ask", query="change")

    assert failed
    assert "create_note" in text
    assert "nothing was changed" in text
    assert content_hash(store) == before


def test_tools_are_retrieved(call: Call) -> None:
    """By the words of the request."""
    failed, found = call("retrieve", query="send an sms to Ana")

    assert not failed
    assert "send_sms" in found["tools"]


@pytest.mark.parametrize("name", ["plan", "ask", "retrieve"])
def test_an_empty_request_is_named(call: Call, name: str) -> None:
    """In one line."""
    failed, text = call(name, query=" ")

    assert failed
    assert "query is missing or empty" in text
    assert "Traceback" not in text
