"""Tools of an MCP server are planned with, asked about and called like any other."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.act.executor import Callbacks, run
from mlx_tinyagent.act.gate import Preview
from mlx_tinyagent.errors import InputError, RefusedError, ToolError
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.server.mcp_tools import connect, is_servers_file
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import Effect, ToolSet
from mlx_tinyagent.tools.local import LocalBackend, memory_world
from mlx_tinyagent.tools.results import Failed, Ok, Origin, Unknown
from mlx_tinyagent.tools.writer import PlainWriter

pytest.importorskip("mcp", reason="the extra mcp is not installed")

TOY = Path(__file__).resolve().parent / "toy_mcp.py"


def servers(folder: Path, *args: str, **more: Any) -> Path:
    """Write a file that names the toy server."""
    path = folder / "mcp.json"
    entry = {"command": sys.executable, "args": [str(TOY), *args], **more}
    path.write_text(json.dumps({"mcpServers": {"toy": entry}}))
    return path


@pytest.fixture(scope="module")
def warnings() -> list[str]:
    """What was left out."""
    return []


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory, warnings: list[str]) -> ToolSet:
    """The toy server's tools; one of them is marked by the user as reading only."""
    path = servers(tmp_path_factory.mktemp("mcp"), effects={"find_person": "read"})
    return connect(path, warn=warnings.append)


@pytest.fixture
def host() -> Iterator[Host]:
    """World v1 in memory."""
    with memory_world() as store:
        now = datetime(2026, 3, 2, 9, 0)
        backend = LocalBackend(store)
        yield Host(backend=backend, writer=PlainWriter(), request="", now=now)


def results(toy: ToolSet, host: Host, plan: str, yes: Callable[[Preview], bool]) -> list[Any]:
    """Run a plan; returns the results in order."""
    done = run(parse(plan, toy), toy, host, Callbacks(approve=yes))
    return [outcome.result for outcome in done]


def test_schemas_become_declarations(toy: ToolSet, warnings: list[str]) -> None:
    """With names, types and choices; every tool asks unless the user says otherwise."""
    assert {tool.name: tool.effect for tool in toy} == {
        "find_person": Effect.READ,
        "send": Effect.WRITE,
        "leave": Effect.WRITE,
        "environment": Effect.WRITE,
    }
    assert toy["send"].signature() == (
        'send(to: text, text: text, urgency: low|high = "low", copies: int = 1) -> text'
    )
    assert len(warnings) == 1
    assert "tool tree: argument node is a nested value" in warnings[0]


def test_a_plan_runs_over_the_server(toy: ToolSet, host: Host) -> None:
    """One result goes into the next call; the change is asked about once, before it happens."""
    plan = '1. find_person("Ana")\n2. send("$1", "hello", "high", 1)\n3. join()'
    shown: list[Preview] = []

    found, sent = results(toy, host, plan, lambda preview: not shown.append(preview))

    assert [step.asks for step in shown[0].steps] == [False, True]
    assert found.value.text == "ana@toy.example"
    assert found.value.origin is Origin.UNTRUSTED
    assert isinstance(sent, Ok)
    assert sent.value.text.startswith("Sent 'hello' to ana@toy.example (high, 1,")


def test_nothing_is_called_without_a_yes(toy: ToolSet, host: Host) -> None:
    """The server's own count says so."""
    plan = '1. send("x", "y", "low", 1)\n2. join()'
    (before,) = results(toy, host, plan, lambda preview: True)
    with pytest.raises(RefusedError):
        results(toy, host, plan, lambda preview: False)
    (after,) = results(toy, host, plan, lambda preview: True)

    counts = [int(one.value.text.split(", ")[-1].split()[0]) for one in (before, after)]
    assert counts[1] == counts[0] + 1


def test_an_error_of_a_tool_is_a_result(toy: ToolSet, host: Host) -> None:
    """What waits for it is not called."""
    plan = '1. find_person("Nobody")\n2. send("$1", "y", "low", 1)\n3. join()'

    failed, skipped = results(toy, host, plan, lambda preview: True)

    assert isinstance(failed, Failed)
    assert not isinstance(skipped, Ok)


def test_a_server_gets_few_variables(
    toy: ToolSet, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets of this process's environment are not passed on."""
    (told,) = results(toy, host, "1. environment()\n2. join()", lambda preview: True)

    assert "MLX_TINYAGENT_HOME" not in told.value.text


def test_a_server_that_dies_leaves_an_unknown_outcome(tmp_path: Path, host: Host) -> None:
    """Whether it was done cannot be told; the program goes on."""
    toy = connect(servers(tmp_path), warn=lambda reason: None)

    (gone,) = results(toy, host, "1. leave()\n2. join()", lambda preview: True)

    assert isinstance(gone, Unknown | Failed)


def test_a_server_that_does_not_start_is_named(tmp_path: Path) -> None:
    """Also a program that does not exist."""
    with pytest.raises(ToolError, match="the MCP server toy"):
        connect(servers(tmp_path, "--broken"), warn=lambda reason: None)
    with pytest.raises(ToolError, match="no/such/program"):
        connect(servers(tmp_path, command="no/such/program"), warn=lambda reason: None)


@pytest.mark.parametrize(
    ("servers", "words"),
    [
        ([], "not an object"),
        ({}, "not an object"),
        ({"a": 5}, "no command"),
        ({"a": {}}, "no command"),
        ({"a": {"command": "x", "url": "http://y"}}, "or both"),
        ({"a": {"command": 5}}, "text"),
        ({"a": {"command": "x", "args": "y"}}, "list of texts"),
        ({"a": {"command": "x", "env": {"y": 1}}}, "env"),
        ({"a": {"command": "x", "shell": True}}, "shell is unknown"),
        ({"a": {"url": "file:///etc"}}, "url"),
        ({"a": {"command": "x", "effects": {"f": "harmless"}}}, "effects"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, servers: Any, words: str) -> None:
    """Before anything is started."""
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}))

    assert is_servers_file(str(path))
    with pytest.raises(InputError, match=words):
        connect(path, warn=lambda reason: None)


def test_other_files_are_not_servers(tmp_path: Path) -> None:
    """Schemas, missing files, folders, names."""
    schemas = tmp_path / "tools.json"
    schemas.write_text('[{"name": "f"}]')

    for source in (str(schemas), str(tmp_path / "none.json"), str(tmp_path), "tinyagent16", "[{}]"):
        assert not is_servers_file(source)
