"""The chat endpoint baseline, against a local server: what is sent, and what may come back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from mlx_tinyagent.datasets.endpoint import KEY_VARIABLE, ChatEndpoint
from mlx_tinyagent.errors import ModelError, UsageError
from mlx_tinyagent.evaluate.harness_endpoint import EndpointPlanner
from mlx_tinyagent.evaluate.harness_items import Item
from mlx_tinyagent.retrieval.base import AllTools
from mlx_tinyagent.tools.catalog import TINYAGENT16

ITEM = Item(id="a", raw_id="a", query="text Sophie hi", tools=("get_phone_number", "send_sms"))
PLAN = '1. get_phone_number("Sophie")\n2. send_sms(["$1"], "hi")\n3. join()<END_OF_PLAN> bye'


class Server(HTTPServer):
    """Answers every request with ``answer`` and keeps what it was sent."""

    answer: tuple[int, bytes] = (200, b"")
    seen: list[tuple[str, dict[str, str], Any]]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_POST(self) -> None:
        """Keep the request and answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), json.loads(body)))
        status, data = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on a free local port."""
    with Server(("127.0.0.1", 0), Handler) as found:
        found.seen = []
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def planner(server: Server, **more: Any) -> EndpointPlanner:
    """Return a planner that asks the server."""
    url = f"http://127.0.0.1:{server.server_port}/v1/"
    options: dict[str, Any] = {"tools": TINYAGENT16, "retriever": None, **more}
    return EndpointPlanner(endpoint=ChatEndpoint(url=url, model="m"), **options)


def said(text: Any) -> tuple[int, bytes]:
    """Return an answer with a message."""
    usage = {"prompt_tokens": 9, "completion_tokens": 4}
    answer = {"choices": [{"message": {"content": text}}], "usage": usage}
    return 200, json.dumps(answer).encode()


def test_a_plan_comes_back_as_calls(server: Server) -> None:
    """The text as far as its end mark is read; tokens are told; only offered tools are sent."""
    server.answer = said(PLAN)
    row = planner(server).plan(ITEM)
    assert [call["tool"] for call in row["calls"]] == ["get_phone_number", "send_sms"]
    assert (row["error"], row["tools"]) == (None, ["get_phone_number", "send_sms"])
    assert row["counts"] == {"prompt_tokens": 9, "plan_tokens": 4}
    path, headers, body = server.seen[0]
    assert path == "/v1/chat/completions"
    assert "Authorization" not in headers
    assert (body["model"], body["temperature"]) == ("m", 0)
    assert "text Sophie hi" in body["messages"][1]["content"]
    assert "create_note" not in body["messages"][0]["content"]


def test_the_key_is_sent_where_one_is_set(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the variable made for it is read."""
    monkeypatch.setenv(KEY_VARIABLE, "k1")
    monkeypatch.setenv("OPENAI_API_KEY", "k2")
    server.answer = said(f"```\n{PLAN}")
    assert planner(server, retriever=AllTools()).plan(ITEM)["error"] is None
    assert server.seen[0][1]["Authorization"] == "Bearer k1"


@pytest.mark.parametrize("text", ["", "Sure!", "1. fly()\n2. join()", "1. send_sms("])
def test_an_answer_that_is_no_plan_is_the_rows_error(server: Server, text: str) -> None:
    """The run goes on."""
    server.answer = said(text)
    row = planner(server).plan(ITEM)
    assert row["calls"] == []
    assert row["error"].startswith("no usable plan: ")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((404, b"no\nsuch model"), "refused with status 404: no such model"),
        ((200, b"<html>"), "no JSON"),
        ((200, b'{"choices": []}'), "answered without a message"),
        (said(None), "answered without a message"),
    ],
)
def test_an_endpoint_that_cannot_serve_ends_the_run(
    server: Server, answer: tuple[int, bytes], message: str
) -> None:
    """One line that says what was wrong."""
    server.answer = answer
    with pytest.raises(ModelError, match=message) as raised:
        planner(server).plan(ITEM)
    assert "\n" not in str(raised.value)


def test_an_endpoint_that_is_not_there_ends_the_run(server: Server) -> None:
    """Nobody listens at port 1 of this machine."""
    nobody = ChatEndpoint(url="http://127.0.0.1:1/v1", model="m", timeout_s=5)
    there = EndpointPlanner(endpoint=nobody, tools=TINYAGENT16, retriever=None)
    with pytest.raises(ModelError, match=r"http://127\.0\.0\.1:1/v1 cannot be used"):
        there.plan(ITEM)


def test_a_password_does_not_stand_in_an_address() -> None:
    """It would be written into the run's configuration; the message does not repeat it."""
    with pytest.raises(UsageError, match=f"put the key into {KEY_VARIABLE}") as raised:
        ChatEndpoint(url="http://a:s3@x/v1", model="m")
    assert "s3" not in str(raised.value)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:8080", ""])
def test_an_endpoint_is_a_web_address(url: str) -> None:
    """Nothing else is opened."""
    with pytest.raises(UsageError, match="expected an address such as"):
        ChatEndpoint(url=url, model="m")
