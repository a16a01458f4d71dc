"""G25: what the user says and has lies in the store, in what they save, and nowhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.act.executor import Callbacks
from mlx_tinyagent.agent.session import Exchange
from mlx_tinyagent.cli import chat_file
from mlx_tinyagent.config import paths
from mlx_tinyagent.tools.local import index_roots, load_world, user_store
from mlx_tinyagent.tools.local.demo_files import pdf
from tests.decode.tiny import write_model

Cli = Callable[..., Any]

# One word per place that text can come from; no word of the program or of its world.
PLACES = """contact email company note-body mail-body mail-subject file-text request chat place way
subject reply event location invitation note-name note-text folder appended reminder list sms
meeting recipient crash outcome""".split()
CANARY = {place: f"quokka{place.replace('-', '')}" for place in PLACES}

READING = """
1. get_email_address("{contact}")
2. get_phone_number("{contact}")
3. open_and_get_file_path("{file-text}.pdf")
4. summarize_pdf("$3")
5. open_note("Shopping List")
6. maps_open_location("{place}")
7. maps_show_directions("{place}", "{way}")
8. compose_new_email(["$1", "{recipient}@x.example"], [], "{subject}", "${{4}} ${{5}}", ["$3"])
9. reply_to_email([], "{reply}")
10. forward_email(["$1"])
11. create_calendar_event("{event}", "friday at 3", "", "{location}", ["$1"], "{invitation}")
12. create_note("{note-name}", "{note-text}", "{folder}")
13. join()
"""
WRITING = """
1. append_note_content("Shopping List", "{appended}")
2. create_reminder("{reminder}", "tomorrow", "", "{list}")
3. send_sms(["{contact}"], "{sms}")
4. get_zoom_meeting_link("{meeting}", "friday at 3")
5. join()
"""
FAILING = """
1. create_reminder("{outcome}", "tomorrow", "", "", 12)
2. join()
"""


@pytest.fixture
def filled(user_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folders and store with a word in every place; nothing here has a safe umask."""
    documents, temporary = tmp_path / "documents", tmp_path / "temporary"
    for folder in (documents, temporary):
        folder.mkdir()
    (documents / f"{CANARY['file-text']}.pdf").write_bytes(pdf([CANARY["file-text"]]))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = os.umask(0)
    with user_store(paths()) as store:
        load_world(store)
        index_roots(store, [documents])
        person = store.insert(
            "contacts", {"name": CANARY["contact"].title(), "company": CANARY["company"]}
        )
        owned = {"contact_id": person, "position": 0}
        store.insert("contact_emails", {**owned, "email": f"{CANARY['email']}@x.example"})
        store.insert("contact_phones", {**owned, "phone": "+12125550999"})
        store.rows("UPDATE notes SET body = ? WHERE name = 'Shopping List'", (CANARY["note-body"],))
        store.insert(
            "mails",
            {
                "sender": "a@x.example",
                "sender_name": "A",
                "subject": CANARY["mail-subject"],
                "body": CANARY["mail-body"],
                "received": "2036-01-01T09:00:00",
            },
        )
    yield user_home
    os.umask(before)


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments and environment of every process that is started."""
    seen: list[str] = []
    start = subprocess.Popen.__init__

    def started(self: Any, args: Any, *others: Any, **options: Any) -> None:
        seen.append(f"{args} {options.get('env')}")
        start(self, args, *others, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", started)
    return seen


def hits(root: Path) -> dict[str, set[str]]:
    """Return the words found in the names or bytes of files under a folder, by file."""
    found: dict[str, set[str]] = {}
    for path in [root, *root.rglob("*")]:
        content = path.read_bytes().lower() if path.is_file() else b""
        for word in CANARY.values():
            forms = (word.encode(), word.encode("utf-16-le"))
            if word in path.name.lower() or any(form in content for form in forms):
                found.setdefault(str(path.relative_to(root)), set()).add(word)
    return found


def modes(root: Path) -> set[tuple[str, int]]:
    """Return kind and mode of everything under a folder."""
    every = [path for path in [root, *root.rglob("*")] if not path.is_symlink()]
    return {("folder" if p.is_dir() else "file", p.stat().st_mode & 0o777) for p in every}


def use(cli: Cli, plans: dict[str, str], monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    """Do everything that could write something down."""
    from mlx_tinyagent.cli import ask, talk

    monkeypatch.setattr(talk, "callbacks", lambda **_: Callbacks(approve=lambda shown: True))
    request = f"do what {CANARY['request']} says"
    plans[request] = READING.format(**CANARY).strip()
    assert cli("ask", request).code == 0
    assert cli("run", "-", stdin=WRITING.format(**CANARY).encode()).code == 0
    assert cli("run", "-", stdin=FAILING.format(**CANARY).encode()).code == 5
    assert cli("log", "--verify").code == 0
    assert CANARY["subject"] in cli("log").out
    assert cli("undo", "--yes").code == 0
    assert cli("resume").code == 0
    chat_file.save("trip", [Exchange(query=CANARY["chat"], plan="", state="done")])
    assert cli("store", "export", out / "store.json").code == 0
    assert cli("interchange", "export", out / "files").code == 0
    with monkeypatch.context() as patch:

        def broken(*_: object) -> None:
            raise KeyError(CANARY["crash"])

        patch.setattr(ask, "make_agent", broken)
        assert cli("ask", request).code == 1


def test_nothing_of_the_user_lies_about(
    filled: Path,
    children: list[str],
    cli: Cli,
    plans: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    figure: Callable[[str, str], None],
) -> None:
    """Every tool, the journal, undo, a crash and exports: the words are in the store and exports.

    All that holds one is the owner's alone, whatever the umask is, and erasing
    leaves none of them behind.
    """
    out = tmp_path / "out"
    out.mkdir()
    use(cli, plans, monkeypatch, out)

    places = paths()
    found = hits(filled)
    data = places.data.relative_to(filled)
    kept = {str(data / "store.sqlite"), str(data / "chats" / "trip.json")}
    strays = {file: words for file, words in found.items() if file.removesuffix("-wal") not in kept}
    assert strays == {}
    in_store = {word for file, words in found.items() if "store" in file for word in words}
    assert in_store >= {*CANARY.values()} - {CANARY[p] for p in ("chat", "crash", "outcome")}
    exported = hits(out)
    assert len(exported["store.json"]) >= 20
    assert hits(tmp_path / "temporary") == {}
    assert [child for child in children if any(word in child for word in CANARY.values())] == []
    assert modes(places.data) == {("folder", 0o700), ("file", 0o600)}
    (report,) = (places.cache / "crashes").iterdir()
    assert report.stat().st_mode & 0o777 == 0o600
    assert {mode for path in out.iterdir() for mode in modes(path)} == {
        ("folder", 0o700),
        ("file", 0o600),
    }
    files = sum(path.is_file() for path in filled.rglob("*"))

    assert cli("store", "erase", "--yes").code == 0
    assert hits(filled) == {}
    figure(
        "G25",
        f"{len(CANARY)} words through 16 tools, journal, undo, crash, chat, 2 exports; {files} "
        f"files, {len(children)} child processes: {len(strays)} found outside the store and what "
        "was saved; all 0600 and 0700; 0 left after erasing",
    )


def test_the_cache_of_the_model_holds_nothing_of_a_request(
    user_home: Path, tmp_path: Path, cli: Cli
) -> None:
    """It is the same for another request: only the parts that all requests share are kept."""
    cache, model = paths().cache / "kv", write_model(tmp_path / "tiny")

    def asked(request: str) -> dict[str, bytes]:
        shutil.rmtree(cache, ignore_errors=True)
        cli("ask", request, "--dry-run", "--model", model)
        parts = sorted(cache.glob("*.safetensors"))
        assert parts
        return {path.name: path.read_bytes() for path in parts}

    assert asked(f"note {CANARY['request']}") == asked("note something else")
    assert hits(user_home) == {}
