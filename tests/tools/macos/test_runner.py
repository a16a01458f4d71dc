"""Programs end: at their deadline, when cancelled, when they flood, with all their children."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from mlx_tinyagent.tools.macos.faults import AUTOMATION, result_of
from mlx_tinyagent.tools.macos.runner import MAX_OUTPUT, Runner, ScriptError
from mlx_tinyagent.tools.results import Failed, NotFound, PermissionNeeded, Unknown

STUBBORN = "trap '' TERM; (trap '' TERM; sleep 60 & echo $!; wait) & echo $$; wait"


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_gone(pids: list[int]) -> bool:
    """Whether processes end within two seconds."""
    deadline = time.monotonic() + 2
    while any(map(alive, pids)) and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    return not any(map(alive, pids))


@pytest.mark.parametrize("how", ["deadline", "cancelled"])
def test_a_stubborn_program_ends_with_its_children(how: str) -> None:
    """It ignores the request to end and has a grandchild that does too: both are gone."""
    stop = threading.Event()
    if how == "cancelled":
        threading.Timer(0.3, stop.set).start()
    runner = Runner(deadline_s=0.5 if how == "deadline" else 30, cancelled=stop.is_set)
    begun = time.monotonic()
    done = runner.run("/bin/sh", "-c", STUBBORN)
    seconds = time.monotonic() - begun
    pids = [int(line) for line in done.stdout.split()]
    assert done.ending == how
    assert len(pids) == 2
    assert wait_gone(pids)
    assert seconds < 3  # 0.3 to 0.5 s, and 0.2 s of grace; the rest is for busy machines


def test_a_flood_ends_the_program() -> None:
    """Output without end is cut off, and memory stays bounded."""
    done = Runner().run("/bin/sh", "-c", "yes")
    assert done.ending == "flood"
    assert len(done.stdout) < MAX_OUTPUT + 2**20


def test_a_program_that_closes_its_output_still_has_a_deadline() -> None:
    """The end of output is not the end of the program."""
    assert (
        Runner(deadline_s=0.3).run("/bin/sh", "-c", "exec >&- 2>&-; sleep 60").ending == "deadline"
    )


def test_a_missing_program_is_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without osascript nothing raises."""
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = Runner().script("probe", {"app": "Mail"}, writes=True)
    assert isinstance(answer, ScriptError)
    assert answer.ending == "missing"
    assert isinstance(result_of(answer, app="Mail", what="x"), Failed)


STDERR = {
    -1743: "execution error: Not authorized to send Apple events to Mail. (-1743)",
    -1728: "Ausführungsfehler: „missing“ kann nicht gelesen werden. (-1728)",
    -600: "执行错误:应用程序没有运行。 (-600)\n",
    -128: "erreur (12) pendant la lecture : annulé. (-128)",
    -1712: "execution error: AppleEvent timed out. (-1712)",
    0: "Segmentation fault",
}


@pytest.mark.parametrize("number", STDERR)
def test_errors_go_by_number_in_every_language(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number at the end of osascript's message is read, its words never."""
    program = tmp_path / "osascript"
    program.write_text(f"#!/bin/sh\ncat >&2 <<'X'\n{STDERR[number]}\nX\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    answer = Runner().script("probe", {"app": "Mail"}, writes=False)
    assert isinstance(answer, ScriptError)
    assert answer.number == number


@pytest.mark.parametrize("output", ["", "{}", "[]", "null", "{", '{"error": {}}', "\\0\\377"])
def test_an_answer_that_is_none_leaves_a_change_open(
    output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that ends well and says nothing usable may have changed something."""
    program = tmp_path / "osascript"
    program.write_text(f"#!/bin/sh\nprintf '{output}'\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    answer = Runner().script("probe", {"app": "Mail"}, writes=True)
    assert isinstance(answer, ScriptError)
    assert isinstance(result_of(answer, app="Mail", what="x"), Unknown)


def error(number: int, *, dispatched: bool = False) -> ScriptError:
    """Return a script's error."""
    return ScriptError(number=number, message="", dispatched=dispatched)


@pytest.mark.parametrize(
    ("number", "before", "after"),
    [
        (-1743, PermissionNeeded, PermissionNeeded),
        (-1744, PermissionNeeded, PermissionNeeded),
        (-10004, PermissionNeeded, PermissionNeeded),
        (-1728, NotFound, Unknown),
        (-1719, NotFound, Unknown),
        (-43, NotFound, Unknown),
        (-1712, Failed, Unknown),
        (-600, Failed, Unknown),
        (-609, Failed, Unknown),
        (-128, Failed, Unknown),
        (-2700, Failed, Unknown),
        (0, Failed, Unknown),
    ],
)
def test_every_number_has_its_result(number: int, before: type, after: type) -> None:
    """Refusals are refusals; whatever else comes after a change was asked for leaves it open."""
    assert type(result_of(error(number), app="Mail", what="x")) is before
    result = result_of(error(number, dispatched=True), app="Mail", what="x")
    assert type(result) is after
    if isinstance(result, PermissionNeeded):
        assert (result.app, result.pane) == ("Mail", AUTOMATION)
