"""The one place where this backend starts programs: ``osascript``, ``mdfind``, ``shortcuts``.

Programs get arguments, never source text: scripts are files of this package,
and what a user or a model wrote travels as one JSON argument. Each runs in a
process group of its own, with a deadline, and can be cancelled.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Literal

Ending = Literal["exit", "deadline", "cancelled", "flood", "missing"]

DEADLINE_S = 30.0
FIRST_S = 120.0  # of the first call of a script: macOS may be asking for consent
MAX_OUTPUT = 32 * 2**20  # bytes
MAX_ARGUMENT = 96 * 2**10  # bytes of one argument; larger ones go through a private file
SCRIPTS = Path(__file__).with_name("scripts")
_POLL_S = 0.05
_GRACE_S = 0.2  # between asking a program to end and ending it
_NUMBER = re.compile(r"\((-?\d+)\)\s*$")  # error texts are localized, the number behind them is not


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a program ended.

    Attributes:
        ending: ``exit``, or why it was ended: ``deadline``, ``cancelled``,
            ``flood`` (too much output), ``missing`` (there is no such program).
        code: Exit code, if it ended by itself.
        stdout: What it printed.
        stderr: What it printed there.
    """

    ending: Ending
    code: int = 0
    stdout: bytes = b""
    stderr: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptError:
    """A script that gave no value.

    Attributes:
        number: macOS error number; 0 where there is none.
        message: For the trace; localized, never interpreted.
        dispatched: Whether it may have changed something.
        ending: How its program ended.
    """

    number: int
    message: str
    dispatched: bool
    ending: Ending = "exit"


@dataclass(slots=True)
class Runner:
    """Runs programs.

    Args:
        deadline_s: How long a program may take, in seconds.
        first_s: How long the first run of each script may take.
        cancelled: Asked again and again; True ends the program.
    """

    deadline_s: float = DEADLINE_S
    first_s: float = FIRST_S
    cancelled: Callable[[], bool] = bool
    used: set[str] = field(default_factory=set)  # scripts that have run

    def script(self, name: str, payload: Mapping[str, Any], *, writes: bool) -> Any | ScriptError:
        """Run one of the package's scripts.

        Args:
            name: Its file name without ``.js``.
            payload: What it gets, as one JSON argument.
            writes: Whether it changes something; if it is cut off then, it may have.

        Returns:
            The value it gave, or what went wrong.
        """
        deadline_s = self.deadline_s if name in self.used else self.first_s
        self.used.add(name)
        with _argument(payload) as argument:
            script = str(SCRIPTS / f"{name}.js")
            done = self.run(
                "osascript", "-l", "JavaScript", script, argument, deadline_s=deadline_s
            )
        return _read(done, writes=writes)

    def run(self, *argv: str, deadline_s: float = 0) -> Finished:
        """Run a program and wait for it.

        Args:
            argv: Program and arguments; no shell sees them.
            deadline_s: How long it may take; the runner's own deadline if 0.
        """
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:  # ValueError: an argument with NUL
            return Finished(ending="missing", stderr=str(error).encode("utf-8", "replace"))
        try:
            return self._wait(process, monotonic() + (deadline_s or self.deadline_s))
        finally:
            _end_group(process)

    def _wait(self, process: subprocess.Popen[bytes], deadline: float) -> Finished:
        """Collect what a program prints until it ends or has to be ended."""
        assert process.stdout is not None
        assert process.stderr is not None
        output: dict[Any, bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
        ending: Ending = "exit"
        with selectors.DefaultSelector() as selector:
            for stream in output:
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map() and ending == "exit":
                for key, _ in selector.select(_POLL_S):
                    if data := os.read(key.fd, 65536):
                        output[key.fileobj] += data
                    else:
                        selector.unregister(key.fileobj)
                if sum(map(len, output.values())) > MAX_OUTPUT:
                    ending = "flood"
                elif self.cancelled():
                    ending = "cancelled"
                elif monotonic() > deadline:
                    ending = "deadline"
        if ending == "exit":
            try:
                process.wait(max(_GRACE_S, deadline - monotonic()))
            except subprocess.TimeoutExpired:  # it closed its output and goes on
                ending = "deadline"
        stdout, stderr = (bytes(text) for text in output.values())
        return Finished(ending=ending, code=process.returncode or 0, stdout=stdout, stderr=stderr)


@contextlib.contextmanager
def _argument(payload: Mapping[str, Any]) -> Iterator[str]:
    """Yield a payload as one argument: itself, or the path of a private file that holds it."""
    text = json.dumps(payload)  # ASCII: no argument can be cut or refused for what it holds
    if len(text) <= MAX_ARGUMENT:
        yield text
        return
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="ascii") as file:  # mode 0600
        file.write(text)
        file.flush()
        yield json.dumps({"payloadFile": file.name})


def _read(done: Finished, *, writes: bool) -> Any | ScriptError:
    """Make a value or an error of what ``osascript`` printed."""
    text = done.stderr.decode("utf-8", "replace").strip()
    if done.ending != "exit" or done.code:
        found = _NUMBER.search(text)
        return ScriptError(
            number=int(found[1]) if found else 0,
            message=text[-300:],
            dispatched=writes and done.ending != "missing",
            ending=done.ending,
        )
    try:
        answer = json.loads(done.stdout)
        if "error" in answer:
            error = answer["error"]
            return ScriptError(
                number=int(error["number"]),
                message=str(error["message"])[:300],
                dispatched=writes and bool(error["dispatched"]),
            )
        return answer["value"]
    except (ValueError, KeyError, TypeError):
        return ScriptError(number=0, message="no answer", dispatched=writes)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a program that still runs, with everything that it started."""
    if process.poll() is None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            if number == signal.SIGTERM:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_GRACE_S)
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
