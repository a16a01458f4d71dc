"""The commands, as programs with a tiny random model: started, asked, ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import anyio
import pytest

from mlx_tinyagent.config import paths
from tests.decode.tiny import write_model
from tests.server.live import Live, Script, parse_answer

PING = {"type": "function", "function": {"name": "ping", "description": "Ping."}}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random llama."""
    return write_model(tmp_path_factory.mktemp("serve") / "tiny")


Start = Callable[..., tuple["subprocess.Popen[str]", str]]


@pytest.fixture
def serve(tiny: Path) -> Iterator[Start]:
    """A function that starts ``serve``; returns the process and the line that says where."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: str) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "mlx_tinyagent", "serve", "--model", str(tiny), *args]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process, _line(process.stderr, "Serving ")

    yield start
    for process in started:
        process.kill()
        process.wait(60)


def _line(stream: IO[str] | None, beginning: str) -> str:
    """Return the first line that begins so."""
    assert stream is not None
    told = ""
    for line in stream:
        told += line
        if line.startswith(beginning):
            return line
    raise AssertionError(told)


@pytest.mark.slow
def test_a_socket_is_served_until_the_end(serve: Start, tiny: Path) -> None:
    """A real model plans a client's tools on its own thread; afterwards nothing is left."""
    process, line = serve()
    path = paths().cache / "serve" / "http.sock"
    assert str(path) in line
    live = Live(Script(), 0, path, None)
    body = {"model": str(tiny), "messages": [{"role": "user", "content": "ping it"}]}

    assert json.loads(live.request("GET", "/v1/models")[2])["data"][0]["id"] == str(tiny)
    for _ in range(2):
        status, answer = live.post("/v1/chat/completions", {**body, "tools": [PING]})
        assert status == 200, answer
        assert answer["usage"]["prompt_tokens"] > 50
        calls = answer["choices"][0]["message"].get("tool_calls", [])
        assert {call["function"]["name"] for call in calls} <= {"ping"}
    status, answer = live.post("/v1/chat/completions", body)
    assert status == 200
    assert isinstance(answer["choices"][0]["message"]["content"], str)

    process.terminate()
    assert process.wait(200) == 0
    assert not path.exists()


@pytest.mark.slow
def test_a_port_wants_the_token_of_its_start(serve: Start) -> None:
    """It stands in a private file, not in what is printed where nobody looks."""
    process, line = serve("--port", "0")
    file = paths().cache / "serve" / "token"
    token = file.read_text().strip()
    port = int(line.split("http://127.0.0.1:")[1].split(";")[0])

    assert token not in line
    assert Live(Script(), port, None, token).request("GET", "/health")[0] == 200
    assert Live(Script(), port, None, "x" * 43).request("GET", "/health")[0] == 401
    raw = f"GET / HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n"
    assert parse_answer(Live(Script(), port, None, None).send(raw.encode()))[0] == 200

    process.send_signal(signal.SIGINT)
    assert process.wait(200) == 0
    assert not file.exists()


def _run(*args: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "mlx_tinyagent", *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    return done.returncode, done.stderr


@pytest.mark.slow
def test_what_cannot_be_served_is_said_in_a_line(tiny: Path, tmp_path: Path) -> None:
    """Before a model is loaded."""
    code, told = _run("serve", "--socket", str(tmp_path / "s"), "--port", "0")

    assert code == 2
    assert told == "mlx-tinyagent: --socket and --port exclude each other\n"


@pytest.mark.slow
def test_an_mcp_client_starts_the_command(tiny: Path) -> None:
    """As any MCP client does, over stdio; what is offered are three tools."""
    mcp = pytest.importorskip("mcp", reason="the extra mcp is not installed")
    args = ["-m", "mlx_tinyagent", "mcp", "--model", str(tiny)]
    env = {"MLX_TINYAGENT_HOME": os.environ["MLX_TINYAGENT_HOME"]}
    started = mcp.StdioServerParameters(command=sys.executable, args=args, env=env)

    async def talk() -> tuple[list[str], Any]:
        async with mcp.Client(started) as client:
            tools = await client.list_tools()
            found = await client.call_tool("retrieve", {"query": "send an sms to Ana"})
            return [tool.name for tool in tools.tools], json.loads(found.content[0].text)

    names, found = anyio.run(talk)

    assert names == ["plan", "retrieve", "ask"]
    assert "send_sms" in found["tools"]
