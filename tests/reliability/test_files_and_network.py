"""G23 and the network: nothing outside the user's folders is read, and nobody is called."""

from __future__ import annotations

import os
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.act.executor import Callbacks, run
from mlx_tinyagent.act.journal import Journal
from mlx_tinyagent.errors import PlanError
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import literal
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import LocalBackend, Store, index_roots
from mlx_tinyagent.tools.local.documents import document
from mlx_tinyagent.tools.results import Ok
from mlx_tinyagent.tools.writer import PlainWriter

NOW = datetime(2026, 3, 2, 9, 0)
YES = Callbacks(approve=lambda shown: True)
SECRET = "the secret outside"

_heard: list[tuple[str, Any]] = []
_listening = threading.Event()


def _hear(event: str, args: tuple[Any, ...]) -> None:
    """Note what Python asks the system for, while somebody listens."""
    if _listening.is_set() and (event == "open" or event.startswith("socket.")):
        _heard.append((event, args[0] if args else None))


@pytest.fixture
def heard() -> Iterator[list[tuple[str, Any]]]:
    """What was opened and called meanwhile; the hook stays for good, as hooks do."""
    if not getattr(sys, "_tinyagent_hears", False):
        sys.addaudithook(_hear)
        sys._tinyagent_hears = True  # type: ignore[attr-defined]
    _heard.clear()
    _listening.set()
    yield _heard
    _listening.clear()


def names(root: Path, outside: Path) -> Iterator[str]:
    """Yield texts that try to name a file outside the root, or something that is no file."""
    ups = ["../" * depth for depth in range(1, 12)] + ["..\\" * 3, "....//" * 3, "./.././../"]
    targets = [outside.name + "/secret.txt", "etc/passwd", "secret.txt", ".ssh/id_rsa", "dev/zero"]
    for up in ups:
        for target in targets:
            yield up + target
            yield f"{root}/{up}{target}"
    for target in ("/etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/environ", str(outside)):
        yield from (target, f"file://{target}", f"{target}\0.txt", f"~{target}", f"{target}/")
        yield from (f"%2e%2e{target}", f"\u202e{target}", f"{target}\n", f" {target} ")
    for name in ("link.txt", "folder-link/secret.txt", "pipe.txt", "run.command", "Evil.app"):
        yield from (name, f"{root}/{name}", name.upper(), name.replace(".", "\u2024"))
    for name in (
        "..",
        ".",
        "/",
        "~",
        "$HOME",
        "*",
        "?",
        "|id",
        "`id`",
        "$(id)",
        "-rf",
        "CON",
        "NUL",
    ):
        yield name
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        yield unicodedata.normalize(form, "résumé secret.txt")
    yield from ("secret", "secret.txt", "\uff0e\uff0e/secret.txt", "notes.txt/../../secret.txt")


def test_no_name_leads_outside(
    tmp_path: Path, heard: list[tuple[str, Any]], figure: Callable[[str, str], None]
) -> None:
    """Through every tool that takes a file, no text opens or attaches what is not indexed."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root, outside):
        folder.mkdir()
    (outside / "secret.txt").write_text(SECRET)
    (root / "notes.txt").write_text("harmless words of a note that may be read")
    (root / "résumé.txt").write_text("harmless too, and composed")
    (root / "run.command").write_text("#!/bin/sh")
    (root / "link.txt").symlink_to(outside / "secret.txt")
    (root / "folder-link").symlink_to(outside)
    os.mkfifo(root / "pipe.txt")
    tried = leaks = 0
    with Store.memory() as store:
        index_roots(store, [root])
        host = Host(backend=LocalBackend(store), writer=PlainWriter(), request="", now=NOW)
        heard.clear()
        for name in names(root, outside):
            for call in (
                f"open_and_get_file_path({literal(name)})",
                f"summarize_pdf({literal(name)})",
                f'compose_new_email([], [], "x", "y", [{literal(name)}])',
            ):
                tried += 1
                try:
                    plan = parse(f"1. {call}\n2. join()", TINYAGENT16)
                except PlanError:
                    continue
                (outcome,) = run(plan, TINYAGENT16, host, YES)
                value = outcome.result.value.text if isinstance(outcome.result, Ok) else ""
                leaks += SECRET in value
        attached = [row["path"] for row in store.rows("SELECT path FROM draft_attachments")]
        shown = [row["target"] for row in store.rows("SELECT target FROM opened")]
    opened = [target for target in shown if "run.command" in target]
    touched = [str(where) for event, where in heard if event == "open"]
    strays = [p for p in touched if str(outside) in p or p.startswith(("/etc", "/dev", "/proc"))]
    assert (leaks, opened, strays) == (0, [], [])
    assert all(Path(path).parent == root for path in attached + shown)
    assert tried >= 3 * 200
    figure("G23", f"{tried} calls with names that lead outside: {leaks} read, {len(strays)} opened")


def test_a_file_that_turns_into_a_link_is_not_followed(
    tmp_path: Path, cases: Callable[[str, int], int]
) -> None:
    """However the two are swapped while it is read."""
    secret, file, spare = tmp_path / "secret.txt", tmp_path / "notes.txt", tmp_path / "spare"
    secret.write_text(SECRET)
    file.write_text("harmless")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            spare.symlink_to(secret)
            os.replace(spare, file)
            spare.write_text("harmless")
            os.replace(spare, file)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        read = [document(str(file)) for _ in range(cases("G23", 1_000))]
    finally:
        stop.set()
        swapper.join()
    assert not any(isinstance(r, Ok) and SECRET in r.value.text for r in read)


def test_the_local_backend_calls_nobody(
    store: Store, host: Host, heard: list[tuple[str, Any]], figure: Callable[[str, str], None]
) -> None:
    """Every tool, journal and undo included, without one call of the network."""
    lines = [
        'get_email_address("Sarah")',
        'get_phone_number("Sarah")',
        'open_and_get_file_path("Lease Agreement")',
        'summarize_pdf("$3")',
        'open_note("Shopping List")',
        'maps_open_location("Rome")',
        'maps_show_directions("", "Rome")',
        'compose_new_email(["$1"], [], "x", "${4}", ["$3"])',
        'reply_to_email([], "yes")',
        'forward_email(["$1"])',
        'create_calendar_event("x", "friday at 3", "", "", ["$1"])',
        'create_note("n", "t")',
    ]
    more = [
        'append_note_content("Shopping List", "t")',
        'create_reminder("x", "tomorrow")',
        'send_sms(["Sarah"], "t")',
        'get_zoom_meeting_link("x", "friday at 3")',
    ]
    for part in (lines, more):
        numbered = [f"{n}. {line}" for n, line in enumerate([*part, "join()"], start=1)]
        plan = parse("\n".join(numbered), TINYAGENT16)
        results = run(plan, TINYAGENT16, host, YES, journal=Journal(store))
        assert all(outcome.result.status == "ok" for outcome in results), results
    calls = [event for event, _ in heard if event.startswith("socket.")]
    assert calls == []
    figure("44", f"all {len(lines) + len(more)} tools with journal: {len(calls)} network calls")
