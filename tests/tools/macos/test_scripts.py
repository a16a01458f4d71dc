"""No data becomes source text: scripts are fixed files, and values reach applications unchanged."""

from __future__ import annotations

import ast
import hashlib
import html
import itertools
import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mlx_tinyagent.tools.macos import runner as runner_module
from mlx_tinyagent.tools.macos.apps import as_html
from mlx_tinyagent.tools.macos.runner import SCRIPTS, Runner, ScriptError

PACKAGE = SCRIPTS.parent
FROZEN = Path(__file__).with_name("scripts.sha256")
COMMON = "// The rest is the same in every script"
FRAGMENTS = [
    '"',
    '\\"',
    "'",
    "\\",
    "`${1}`",
    "\n",
    "\r",
    "\r\n",
    "\u2028",
    "\u2029",
    "\0",
    "«»",
    '" & (do shell script "id") & "',
    '"); Application("Finder").quit(); ("',
    "-e",
    "--",
    "</div><script>",
    "%s {0} $1 ${2}",
    "\ud800",
    "\udfff\ud800",
    "👩‍👩‍👧‍👦",
    "ﷺ\u202e\u0301",
]
PAYLOADS = 10_000
BEFORE = "<div><h1>N</h1></div><div>b</div>"  # the note that is there already
# Every script with its text fields: (payload, what of it must arrive, as recorded calls).
TEXT_FIELDS = {
    "mail_draft": ("subject", "body", "to", "cc", "attachments"),
    "note_create": ("html", "folder"),
    "note_append": ("html",),
    "messages_send": ("text",),
    "open_url": ("url",),
    "open_file": ("path",),
    "mail_find": ("subject", "body"),
}


def payload_of(script: str, text: Any) -> dict[str, Any]:
    """Return a payload whose text fields come from a function of their names."""
    match script:
        case "mail_draft":
            return {
                "kind": "new",
                "to": [text("to")],
                "cc": [text("cc")],
                "subject": text("subject"),
                "body": text("body"),
                "attachments": [text("attachments")],
                "source": None,
            }
        case "note_append":
            return {"id": "x-coredata://store/ICNote/p1", "html": text("html")}
        case "messages_send":
            return {"handle": "+12125550101", "text": text("text")}
    return {name: text(name) for name in TEXT_FIELDS[script]}


def expected(script: str, given: dict[str, Any], before: str) -> list[tuple[str, Any]]:
    """Return exactly the calls that applications may see."""
    match script:
        case "mail_draft":
            first = {"subject": given["subject"], "content": given["body"], "visible": True}
            return [
                ("push OutgoingMessage", first),
                ("push ToRecipient", {"address": given["to"][0]}),
                ("push CcRecipient", {"address": given["cc"][0]}),
                ("push Attachment", {"fileName": {"path": given["attachments"][0]}}),
            ]
        case "note_create":
            return [
                ("push Folder", {"name": given["folder"]}),
                ("push Note", {"body": given["html"]}),
            ]
        case "note_append":
            return [("set Note.body", before + given["html"])]
        case "messages_send":
            to = {"to": {"Participant": {"handle": given["handle"]}}}
            return [("send", [given["text"], to])]
        case "open_url":
            return [
                ("set Current.includeStandardAdditions", True),
                ("openLocation", [given["url"]]),
            ]
        case "open_file":
            return [("open", [{"path": given["path"]}])]
    return []


@pytest.fixture
def fresh(node: Any, mac_fakes: ModuleType) -> Callable[[], Any]:
    """Make a runner on new applications that hold one note."""

    def make() -> Any:
        world = {"notes": [{"name": "N", "folder": "Notes", "body": "b"}]}
        return mac_fakes.FakeRunner(node=node, world=node.world(world))

    return make


def run_and_compare(runner: Any, script: str, given: dict[str, Any]) -> None:
    """Run a script and compare what the applications saw with what was given."""
    runner.calls.clear()
    value = runner.script(script, given, writes=True)
    assert not isinstance(value, ScriptError), (script, given, value)
    assert runner.unknown == []
    units = json.loads(json.dumps(given))  # two halves side by side are one character in UTF-16
    assert runner.calls == expected(script, units, BEFORE), script


def test_scripts_are_those_that_were_read() -> None:
    """Every script has the hash that stands in the frozen list, and none is missing there."""
    listed = dict(reversed(line.split()) for line in FROZEN.read_text().splitlines())
    found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in SCRIPTS.glob("*")}
    assert found == listed


def test_scripts_share_their_end() -> None:
    """Reading the argument and writing the answer is the same text in each of them."""
    ends = {path.read_text("utf-8").partition(COMMON)[2] for path in SCRIPTS.glob("*.js")}
    assert len(ends) == 1
    assert next(iter(ends))


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.js")), ids=lambda p: p.name)
def test_scripts_run_no_text_and_press_no_keys(path: Path) -> None:
    """No script evaluates text, starts a shell, or drives another program's windows."""
    source = path.read_text("utf-8")
    banned = (
        r"\beval\b|\bFunction\b|doShellScript|System Events|keystroke|keyCode|runScript|include\b"
    )
    assert not re.search(banned, source)
    assert len(re.findall(r"Application\(", source)) <= 1


def test_the_runner_gets_no_text_made_of_data() -> None:
    """Script names are constants, and no argument of a program is put together from pieces."""
    calls = 0
    for path in PACKAGE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr == "script":
                assert isinstance(node.args[0], ast.Constant), f"{path.name}:{node.lineno}"
                calls += 1
            if node.func.attr == "run":
                assert_plain(node, path)
                calls += 1
            assert not any(k.arg == "shell" for k in node.keywords), f"{path.name}:{node.lineno}"
    assert calls >= 12


def assert_plain(node: ast.Call, path: Path) -> None:
    """No argument is an f-string, a concatenation, or a formatting call."""
    for argument in node.args:
        for part in ast.walk(argument):
            odd = isinstance(part, ast.JoinedStr | ast.BinOp) or (
                isinstance(part, ast.Attribute) and part.attr in ("format", "join", "replace")
            )
            assert not odd, f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("script", TEXT_FIELDS)
def test_each_fragment_in_each_field_arrives_unchanged(script: str, fresh: Any) -> None:
    """22 hostile fragments, one field at a time: equal values, no other call, no unknown name."""
    for field, fragment in itertools.product(TEXT_FIELDS[script], FRAGMENTS):
        text = f"a{fragment}b"
        given = payload_of(script, lambda name: text if name == field else f"plain {name}")  # noqa: B023
        run_and_compare(fresh(), script, given)


@pytest.mark.slow
def test_ten_thousand_hostile_payloads(node: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Random mixtures in all fields at once: 0 mismatches, 0 unknown calls."""
    random_ = random.Random(20260302)
    note = {"notes": [{"name": "N", "folder": "Notes", "body": "b"}]}
    count = 0
    while count < PAYLOADS:
        given, requests = [], []
        for _ in range(250):
            script = random_.choice(sorted(TEXT_FIELDS))
            payload = payload_of(
                script, lambda _: "".join(random_.choices(FRAGMENTS, k=random_.randint(1, 6)))
            )
            argument = json.dumps(payload)
            given.append((script, json.loads(argument)))
            world = node.new_world()
            requests.append({"world": world, "fill": note})
            path = str(SCRIPTS / f"{script}.js")
            requests.append({"world": world, "script": path, "argv": [argument], "drop": True})
        for (script, payload), answer in zip(given, node.ask_many(requests)[1::2], strict=True):
            assert "value" in json.loads(answer["output"]), (script, payload)
            assert answer["unknown"] == []
            calls = [tuple(call) for call in answer["calls"]]
            assert calls == expected(script, payload, BEFORE), script
            count += 1
    with capsys.disabled():
        print(f"\nhostile payloads: {count:,}, mismatches 0, unknown calls 0, seed 20260302")  # noqa: T201


@pytest.mark.parametrize("script", TEXT_FIELDS)
def test_osascript_gets_a_fixed_script_and_one_argument(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PATH stands a program that notes its arguments: file, language, and one JSON text."""
    log = tmp_path / "log"
    fake_osascript(tmp_path, f'printf "%s\\0" "$@" >> {log}; echo \'{{"value": {{}}}}\'')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for fragment in FRAGMENTS:
        given = payload_of(script, lambda _: f"{fragment} x")  # noqa: B023
        assert Runner().script(script, given, writes=True) == {}
    seen = log.read_bytes().split(b"\0")[:-1]
    runs = [seen[start : start + 4] for start in range(0, len(seen), 4)]
    assert len(runs) == len(FRAGMENTS)
    assert {tuple(run[:3]) for run in runs} == {
        (b"-l", b"JavaScript", str(SCRIPTS / f"{script}.js").encode())
    }
    for fragment, run in zip(FRAGMENTS, runs, strict=True):
        given = payload_of(script, lambda _: f"{fragment} x")  # noqa: B023
        assert json.loads(run[3]) == given
        assert run[3].isascii()


def test_a_large_payload_goes_through_a_private_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: Any, mac_fakes: ModuleType
) -> None:
    """More than an argument can hold lies in a file of mode 0600 that is gone afterwards."""
    log = tmp_path / "log"
    look = f'stat -c %a "$(echo "$4" | cut -d\\" -f4)" >> {log}; echo "$4" >> {log}'
    fake_osascript(tmp_path, f"{look}; echo '{{\"value\": {{}}}}'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    text = "ü" * 300_000
    assert Runner().script("open_url", {"url": text}, writes=True) == {}
    mode, argument = log.read_text().splitlines()
    path = json.loads(argument)["payloadFile"]
    assert mode == "600"
    assert not Path(path).exists()

    runner = mac_fakes.FakeRunner(node=node, world=node.world())
    with runner_module._argument({"url": text}) as argument:
        request = {
            "world": runner.world,
            "script": str(SCRIPTS / "open_url.js"),
            "argv": [argument],
        }
        assert ["openLocation", [text]] in node.ask(request)["calls"]


def fake_osascript(folder: Path, body: str) -> None:
    """Put a shell script called osascript into a folder."""
    program = folder / "osascript"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o700)


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_notes_are_text_not_markup(fragment: str) -> None:
    """What a note says is escaped: no tag, no attribute, no entity of it survives."""
    written = as_html(f"x{fragment}y")
    inner = re.sub(r"</?div>|<br>", "", written)
    assert "<" not in inner
    lines = f"x{fragment}y".replace("\r\n", "\n").split("\n")
    assert inner == "".join(html.escape(line) for line in lines)
