"""Ctrl-C at every stage of a real process: exit code 130, one line, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.config import paths
from mlx_tinyagent.tools.local import snapshot, user_store

HERE = Path(__file__).resolve().parent
BLOCKING = '''
import os, threading
from mlx_tinyagent import tool

def block() -> None:
    with open(os.environ["MARKER"], "w") as marker:
        marker.write("here")
    threading.Event().wait()

@tool(effect="read")
def look(text: str) -> str:
    """Look something up."""
    block()
    return text

@tool(effect="write")
def write(text: str) -> str:
    """Write something down."""
    if text == "block":
        block()
    return f"Wrote {text}."
'''


class Child:
    """A command that says through a pipe when it has come to the place in question."""

    def __init__(self, marker: Path, *command: str | Path, plans: dict[str, str] | None = None):
        self.marker = marker
        program = [str(HERE / "scripted.py")] if plans is not None else ["-m", "mlx_tinyagent"]
        self.process = subprocess.Popen(
            [sys.executable, *program, *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "MARKER": str(marker), "PLANS": json.dumps(plans or {})},
        )

    def interrupt_at_marker(self) -> None:
        """Wait until the child is there, and press Ctrl-C."""
        with open(self.marker) as pipe:  # opens when the child opens its end
            assert pipe.read() == "here"
        self.process.send_signal(signal.SIGINT)

    def finish(self, stdin: bytes = b"") -> tuple[int, str, list[str]]:
        """Return exit code, stdout and the lines of stderr."""
        out, err = self.process.communicate(stdin, timeout=60)
        assert b"Traceback" not in err, err.decode()
        return self.process.returncode, out.decode(), err.decode().strip().splitlines()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """A function that starts a child; it is ended with the test."""
    children: list[Child] = []
    marker = tmp_path / "marker"
    os.mkfifo(marker)

    def make(*command: str | Path, **options: Any) -> Child:
        children.append(Child(marker, *command, **options))
        return children[-1]

    yield make
    for child in children:
        child.process.kill()
        child.process.communicate()


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A file of tools that hang."""
    file = tmp_path / "hanging.py"
    file.write_text(BLOCKING)
    return file


def state() -> Any:
    """Return the rows of the user's store."""
    with user_store(paths()) as store:
        return snapshot(store)


def test_while_loading(start: Callable[..., Child], tmp_path: Path, user_home: Path) -> None:
    """Nothing has been made yet."""
    file = tmp_path / "slow.py"
    file.write_text(f"{BLOCKING}\nblock()\n")
    child = start("ask", "hi", "--tools", file)

    child.interrupt_at_marker()

    code, out, err = child.finish()
    assert (code, out, err) == (130, "", ["mlx-tinyagent: interrupted"])
    assert not paths().data.exists()


def test_while_planning(start: Callable[..., Child], world: Path) -> None:
    """No part of a plan runs."""
    before = state()
    child = start("ask", "slow", "--yes", plans={"slow": "BLOCK"})

    child.interrupt_at_marker()

    code, out, err = child.finish()
    assert (code, out, err) == (130, "", ["mlx-tinyagent: interrupted"])
    assert state() == before


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ('1. look("x")\n2. write("$1")\n3. join()', "interrupted; nothing was changed"),
        (
            '1. write("a")\n2. write("block")\n3. join()',
            "interrupted; done: Wrote a.; still running, so perhaps done: write",
        ),
    ],
    ids=["reading", "writing"],
)
def test_while_running(
    start: Callable[..., Child], user_home: Path, tools: Path, tmp_path: Path, plan: str, said: str
) -> None:
    """It leaves at once, with what was done and what may have been."""
    file = tmp_path / "plan.txt"
    file.write_text(plan)
    child = start("run", file, "--yes", "--tools", tools)

    child.interrupt_at_marker()

    code, out, err = child.finish()
    assert (code, out, err) == (130, "", [f"mlx-tinyagent: {said}"])


def test_in_the_middle_of_a_batch(start: Callable[..., Child], tmp_path: Path) -> None:
    """The rows so far are kept, and ``--resume`` goes on."""
    source, target = tmp_path / "q.jsonl", tmp_path / "p.jsonl"
    source.write_text('{"id": 1, "query": "quick"}\n{"id": 2, "query": "slow"}\n')
    command = ("plan", "--input", source, "--output", target)
    child = start(*command, plans={"slow": "BLOCK"})

    child.interrupt_at_marker()

    code, _, err = child.finish()
    assert (code, err[-1]) == (130, "mlx-tinyagent: interrupted")
    assert not target.exists()
    assert start(*command, "--resume", plans={}).finish()[0] == 0
    assert [json.loads(line)["id"] for line in target.read_text().splitlines()] == [1, 2]


def test_chat_survives_one_and_goes_on(start: Callable[..., Child], world: Path) -> None:
    """The request is stopped; the next line is answered."""
    plan = '1. get_email_address("Sarah")\n2. join()'
    child = start("chat", plans={"slow": "BLOCK", "next": plan})
    assert child.process.stdin is not None
    child.process.stdin.write(b"slow\n")
    child.process.stdin.flush()

    child.interrupt_at_marker()

    code, out, err = child.finish(b"next\n/quit\n")
    assert code == 0
    assert out == "Sarah Smith: sarah.smith@harbor.example\n"
    assert "interrupted" in err


def test_chat_that_waits_for_a_line_leaves(start: Callable[..., Child], world: Path) -> None:
    """Where nobody types, Ctrl-C is the end."""
    child = start("chat", plans={})
    assert child.process.stderr is not None
    assert child.process.stderr.readline() == b"Type a request, /help or /quit.\n"
    child.process.send_signal(signal.SIGINT)

    code, out, err = child.finish()
    assert (code, out, err) == (130, "", ["mlx-tinyagent: interrupted"])
