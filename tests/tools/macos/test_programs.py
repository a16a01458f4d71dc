"""Spotlight, Shortcuts, Zoom and the doctor."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.act.executor import Callbacks, run
from mlx_tinyagent.errors import ConfigError, RefusedError
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.external import BackendError
from mlx_tinyagent.tools.loading import load_tools
from mlx_tinyagent.tools.local import LocalBackend, Store, memory_world
from mlx_tinyagent.tools.macos import MacBackend, Runner, Zoom
from mlx_tinyagent.tools.macos.doctor import permissions
from mlx_tinyagent.tools.macos.runner import Finished, ScriptError
from mlx_tinyagent.tools.macos.shortcuts import run_shortcut, shortcut_names, shortcut_tools
from mlx_tinyagent.tools.macos.spotlight import find_files
from mlx_tinyagent.tools.results import Failed, NotFound, Ok, Origin, Unknown
from mlx_tinyagent.tools.writer import PlainWriter


def program(folder: Path, name: str, body: str) -> None:
    """Put a shell script into a folder."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o700)


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is searched for programs first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


# Spotlight


def test_only_plain_files_inside_the_folders_are_listed(tmp_path: Path, on_path: Path) -> None:
    """What runs code, hides, links or lies elsewhere is left out, whatever Spotlight says."""
    root = tmp_path.resolve() / "Documents"
    (root / "sub" / ".hidden").mkdir(parents=True)
    names = ["a.pdf", "sub/b.txt", "c.app", "d.command", "e.scpt", ".f.txt", "sub/.hidden/g.txt"]
    for name in names:
        (root / name).write_text("x")
    outside = tmp_path / "outside.txt"
    outside.write_text("x")
    (root / "link.txt").symlink_to(outside)
    os.mkfifo(root / "pipe.txt")
    listed = [str(root / name) for name in (*names, "link.txt", "pipe.txt", "gone.txt")]
    listed += [
        str(outside),
        str(root / ".." / "outside.txt"),
        "relative.txt",
        str(root / "x\ny.txt"),
    ]
    answer = tmp_path / "answer"
    answer.write_bytes(b"\0".join(path.encode() for path in listed))
    log = tmp_path / "log"
    program(on_path, "mdfind", f'printf "%s\\0" "$@" > {log}; cat {answer}')

    found = find_files(Runner(), [root])

    assert [entry.path for entry in found] == [str(root / "a.pdf"), str(root / "sub/b.txt")]
    arguments = log.read_bytes().split(b"\0")[:-1]
    assert arguments[:3] == [b"-0", b"-onlyin", str(root).encode()]
    assert len(arguments) == 4  # a constant question


def test_spotlight_without_an_answer_is_an_error(tmp_path: Path, on_path: Path) -> None:
    """A failing search is no empty folder."""
    program(on_path, "mdfind", "exit 1")
    with pytest.raises(BackendError, match="Spotlight"):
        find_files(Runner(), [tmp_path])


def test_finding_opens_nothing_and_opening_is_checked(mac: Any) -> None:
    """Listing and reading tell no application anything; a file that could run code stays shut."""
    for name in ("a.txt", "b.html"):
        (mac.root / name).write_text("text")
    mac.runner.files = [str(mac.root / "a.txt"), str(mac.root / "b.html")]
    assert [entry.name for entry in mac.backend.files()] == ["a.txt"]
    assert isinstance(mac.backend.read_document(str(mac.root / "a.txt")), Ok)
    assert mac.runner.calls == []
    assert isinstance(mac.backend.open_file(str(mac.root / "b.html")), NotFound)
    assert isinstance(mac.backend.open_file(str(mac.root / "a.txt")), Ok)
    assert mac.runner.calls == [("open", [{"path": str(mac.root / "a.txt")}])]


# Shortcuts

SHORTCUTS = """
if [ "$1" = list ]; then printf 'Resize Images\\n--help\\nTo do\\n\\nResize images\\n'; exit; fi
shift; printf "%s\\0" "$@" > "$LOG"
while [ $# -gt 0 ]; do
  case "$1" in --input-path) input="$2";; --output-path) output="$2";; esac; shift
done
[ "$FAIL" ] && exit 1
tr a-z A-Z < "$input" > "$output"
"""


def test_shortcuts_become_tools(
    on_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each name that is no option is a tool that writes; its text goes in and out by file."""
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    program(on_path, "shortcuts", SHORTCUTS)
    assert shortcut_names(Runner()) == ["Resize Images", "To do", "Resize images"]
    tools = shortcut_tools(Runner())
    assert [tool.name for tool in tools] == ["shortcut_resize_images", "shortcut_to_do"]
    assert all(tool.effect.changes for tool in tools)

    backend = LocalBackend(Store.memory())
    host = Host(backend=backend, writer=PlainWriter(), request="", now=datetime(2026, 3, 2))
    result = tools[1].invoke(host, {"text": 'a "$(id)" ü\n-x'})
    assert isinstance(result, Ok)
    assert result.value.text == 'A "$(ID)" ü\n-X'
    assert result.value.origin is Origin.UNTRUSTED
    assert (tmp_path / "log").read_bytes().split(b"\0")[0] == b"To do"


def test_shortcuts_are_a_tool_set_beside_the_default_one(
    on_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--tools shortcuts``: a plan may use both, and a Shortcut runs after a yes alone."""
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    program(on_path, "shortcuts", SHORTCUTS)
    tools = load_tools("shortcuts")
    assert [tool.name for tool in tools] == [
        *(tool.name for tool in TINYAGENT16),
        "shortcut_resize_images",
        "shortcut_to_do",
    ]
    plan = parse('1. get_email_address("Sarah")\n2. shortcut_to_do("$1")\n3. join()', tools)
    with memory_world() as store:
        host = Host(
            backend=LocalBackend(store), writer=PlainWriter(), request="", now=datetime(2026, 3, 2)
        )
        with pytest.raises(RefusedError):
            run(plan, tools, host, Callbacks())
        assert not (tmp_path / "log").exists()
        results = run(plan, tools, host, Callbacks(approve=lambda shown: True))
    assert isinstance(results[1].result, Ok)
    assert results[1].result.value.text == "SARAH.SMITH@HARBOR.EXAMPLE"


def test_without_shortcuts_the_set_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, and no set that looks like the default one."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="macOS 12"):
        load_tools("shortcuts")


def test_a_shortcut_that_fails_leaves_its_effect_open(
    on_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell what it did; a name that would be an option never runs."""
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv("FAIL", "1")
    program(on_path, "shortcuts", SHORTCUTS)
    assert isinstance(run_shortcut(Runner(), "To do", "x"), Unknown)
    assert isinstance(run_shortcut(Runner(), "--help", "x"), Failed)
    assert isinstance(run_shortcut(Runner(), "To do", "\ud800"), Failed)


def test_without_the_program_there_are_no_shortcuts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No program, no tools, and a clear failure."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shortcut_tools(Runner()) == []
    assert isinstance(run_shortcut(Runner(), "To do", "x"), Failed)


# Zoom


@dataclass
class ZoomServer:
    """What a stand-in for the API holds, and the faults it has."""

    api: str = ""
    meetings: list[dict[str, Any]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    status: int = 0  # of the next change
    acts: bool = True  # whether that change takes place all the same
    drop: bool = False  # whether its answer is lost


@pytest.fixture
def zoom_server() -> Iterator[ZoomServer]:
    """A small server that speaks the part of Zoom's API that is used."""
    state = ZoomServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, {"meetings": state.meetings, "next_page_token": ""})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            item = {**body, "id": 100 + len(state.meetings)}
            item["join_url"] = f"https://zoom.example/j/{item['id']}"
            if state.acts:
                state.meetings.append(item)
            if state.drop:
                self.close_connection = True
                return
            self._answer(state.status or 201, item)

        def do_DELETE(self) -> None:
            number = int(self.path.rpartition("/")[2])
            found = [item for item in state.meetings if item["id"] == number]
            for item in found:
                state.meetings.remove(item)
            self._answer(204 if found else 404, None)

        def _answer(self, status: int, body: object) -> None:
            state.tokens.add(self.headers["Authorization"])
            content = json.dumps(body).encode() if body is not None else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.api = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


def meeting(zoom: Zoom, key: str = "k") -> Any:
    """Make a meeting through the backend."""
    backend = MacBackend(LocalBackend(Store.memory()), roots=[], zoom=zoom)
    return backend.with_key(key).create_meeting(
        topic="Sync", start="2026-07-01T10:00:00", minutes=30, invitees=[]
    )


def test_a_meeting_is_made_once_and_taken_back(
    zoom_server: ZoomServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same key is one meeting; its start is UTC; undo deletes it."""
    zoom = Zoom(token="t0k", api=zoom_server.api)
    first, again = meeting(zoom), meeting(zoom)
    assert isinstance(first, Ok)
    assert first.value.text == "https://zoom.example/j/100"
    assert again.value.text == first.value.text
    (item,) = zoom_server.meetings
    assert (
        datetime.fromisoformat(item["start_time"]).timestamp()
        == datetime(2026, 7, 1, 10).timestamp()
    )
    assert zoom_server.tokens == {"Bearer t0k"}
    assert "t0k" not in repr(zoom)
    backend = MacBackend(LocalBackend(Store.memory()), roots=[], zoom=zoom)
    assert isinstance(backend.undo(first.record), Ok)
    assert zoom_server.meetings == []
    assert isinstance(backend.undo(first.record), NotFound)


@pytest.mark.parametrize(
    ("status", "acts", "drop", "kind"),
    [
        (401, False, False, Failed),
        (403, False, False, Failed),
        (429, False, False, Failed),
        (500, False, False, Unknown),
        (500, True, False, Ok),
        (0, True, True, Ok),
        (0, False, True, Unknown),
    ],
)
def test_what_zoom_does_not_say_is_looked_for(
    zoom_server: ZoomServer, status: int, acts: bool, drop: bool, kind: type
) -> None:
    """A lost answer is read back by key; a second try never makes a second meeting."""
    zoom_server.status, zoom_server.acts, zoom_server.drop = status, acts, drop
    zoom = Zoom(token="t", api=zoom_server.api)
    assert isinstance(meeting(zoom), kind)
    zoom_server.status, zoom_server.acts, zoom_server.drop = 0, True, False
    assert isinstance(meeting(zoom), Ok)
    assert len(zoom_server.meetings) == 1


def test_the_token_goes_nowhere_in_the_open() -> None:
    """Plain HTTP is for this machine alone, and no server at all is a clean failure."""
    with pytest.raises(ValueError, match="open"):
        Zoom(token="t", api="http://zoom.example")
    assert isinstance(meeting(Zoom(token="t", api="http://127.0.0.1:9", timeout_s=2)), Failed)


# Doctor


@dataclass
class OneAnswer(Runner):
    """A runner whose every script gives the same answer."""

    answer: Any = None

    def script(self, name: str, payload: Any, *, writes: bool) -> Any:
        """Give the answer."""
        return self.answer

    def run(self, *argv: str, deadline_s: float = 0) -> Finished:
        """Run nothing."""
        raise AssertionError(argv)


@pytest.mark.parametrize(
    ("number", "words"), [(-1743, "Automation"), (-600, "open Mail once"), (0, "no answer")]
)
def test_the_doctor_names_the_pane(mac: Any, number: int, words: str) -> None:
    """Each missing permission comes with the settings pane, each application with its state."""
    mac.data.status = {0: 2, 1: 0}
    error = ScriptError(number=number, message="", dispatched=False)
    found = {name: (ok, text) for name, ok, text in permissions(OneAnswer(answer=error))}
    assert set(found) == {
        *("Calendar", "Reminders", "Contacts", "Mail", "Notes", "Messages", "Finder")
    }
    assert not found["Calendar"][0]
    assert "Privacy & Security > Calendars" in found["Calendar"][1]
    assert "not asked yet" in found["Reminders"][1]
    assert found["Contacts"] == (True, "allowed")
    assert not found["Mail"][0]
    assert words in found["Mail"][1]
    allowed = {name: ok for name, ok, _ in permissions(OneAnswer(answer={"version": "1"}))}
    assert allowed["Mail"]
