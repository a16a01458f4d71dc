"""The whole way with the real weights: a request is planned and run on the demo world."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from mlx_tinyagent.config import paths
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.tools.catalog import TINYAGENT16

Cli = Callable[..., Any]
pytestmark = [pytest.mark.slow, pytest.mark.weights]

REQUEST = "what is Sarah's email address?"
PEAK_MB = 1200


@pytest.fixture
def home(home_with_model: Path, filled_home: Path) -> Path:
    """A user with the default model and the demo world."""
    paths().data.mkdir(parents=True, mode=0o700)
    (paths().data / "store.sqlite").write_bytes(
        (filled_home / "data" / "store.sqlite").read_bytes()
    )
    return home_with_model


def test_a_request_is_planned_and_run(home: Path, tmp_path: Path) -> None:
    """A valid plan of offered tools, a result for each step, an answer, within the memory goal."""
    command = [sys.executable, "-m", "mlx_tinyagent", "ask", REQUEST, "--json", "--yes"]
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        child = subprocess.Popen(command, stdout=stdout, stderr=stderr)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)

    # What a small untuned model plans may not work out, but it is a plan and it is run.
    assert child.returncode in (0, 5, 6), err.read_text()
    document = json.loads(out.read_text())
    plan = parse(document["plan"]["text"], TINYAGENT16)
    assert len(document["results"]) == len(plan.steps)
    assert document["reply"]
    assert 0 < document["counts"]["prompt_tokens_computed"] <= document["counts"]["prompt_tokens"]
    assert 0 < document["counts"]["forward_passes"] <= document["counts"]["plan_tokens"] + 1
    scale = 1 if sys.platform == "darwin" else 1024  # bytes there, kB elsewhere
    assert usage.ru_maxrss * scale / 1e6 <= PEAK_MB


ROWS = [
    {"id": 1, "query": REQUEST, "now": "2026-03-02T09:00:00", "tools": ["get_email_address"]},
    {
        "id": 2,
        "query": "remind me to buy milk tomorrow at 5pm",
        "now": "2026-03-02T09:00:00",
        "tools": ["create_reminder"],
    },
    {
        "id": 3,
        "query": "and her phone number",
        "tools": ["get_phone_number"],
        "history": [{"query": REQUEST, "plan": '1. get_email_address("Sarah")\n2. join()'}],
    },
]


def test_a_batch_of_plans(cli: Cli, home: Path, tmp_path: Path) -> None:
    """Gold and all tools, a cut run that goes on, dates against each row's own now."""
    source = tmp_path / "q.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    gold, every = tmp_path / "gold.jsonl", tmp_path / "off.jsonl"

    assert cli("plan", "--input", source, "--output", gold, "--retrieval", "gold").code == 0
    lines = gold.read_text().splitlines(keepends=True)
    rows = [json.loads(line) for line in lines]
    assert [row["id"] for row in rows] == [1, 2, 3]
    assert [row["error"] for row in rows] == [None] * 3
    assert [row["tools"] for row in rows] == [row["tools"] for row in ROWS]
    for row in rows:
        parse(row["text"], TINYAGENT16)
        assert all(
            isinstance(value, str)
            for call in row["calls"]
            for value in call.get("resolved", {}).values()
        )

    cut = tmp_path / "again.jsonl"
    cut.with_name("again.jsonl.part").write_text(lines[0] + lines[1][:30])
    command = ("plan", "--input", source, "--output", cut, "--retrieval", "gold", "--resume")
    assert cli(*command).code == 0
    again = [json.loads(line) for line in cut.read_text().splitlines()]
    assert cut.read_text().splitlines(keepends=True)[0] == lines[0]
    assert [row["text"] for row in again] == [row["text"] for row in rows]  # greedy: the same plan

    source.write_text(json.dumps(ROWS[0]) + "\n")
    assert cli("plan", "--input", source, "--output", every, "--retrieval", "off").code == 0
    (row,) = map(json.loads, every.read_text().splitlines())
    assert row["tools"] == list(TINYAGENT16.names)
    parse(row["text"], TINYAGENT16)


def test_chat_at_a_terminal(home: Path) -> None:
    """Two requests are planned; whatever is asked is answered with no; the loop goes on."""
    child: Any = pexpect.spawn(
        sys.executable,
        ["-m", "mlx_tinyagent", "chat"],
        env={**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
        encoding="utf-8",
        timeout=120,
        dimensions=(40, 160),
    )
    questions = [r"Do this\? \[y/N\] ", r"number, empty for none\) "]
    ends = [r"(\d+)/(\d+) prompt tokens computed", "not approved: nothing was changed"]
    child.expect("/help or /quit.")
    for _ in range(2):
        child.sendline(REQUEST)
        while child.expect([*questions, *ends]) < len(questions):
            child.sendline("")
    child.sendline("/quit")
    child.expect(pexpect.EOF)
    child.close()

    assert child.exitstatus == 0
