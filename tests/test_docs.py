"""Commands that the documentation shows can be typed as they stand, and where quick, they are run.

A command of a shell block is either run here, in a folder of its own with the
files that its page speaks of, or stands in ``NOT_RUN`` with what it needs.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mlx_tinyagent.cli.main import cli
from tests.test_readme import DOCUMENTS, FENCE, LINK, ROOT, blocks

GENERATED = ROOT / "docs/cli.md"
SHELLS = ("sh", "bash", "console", "shell")
BREAKS = {"&&", "||", "|", ";", "&", "(", ")", "\n"}
ASSIGNMENT = re.compile(r"\w+=")
A_SCRIPT = re.compile(r"\b(?:scripts|recipes)/[\w.-]*\w")

# What is not run here, and why.
NOT_RUN = {
    "ask": "a model's weights",
    "plan": "a model's weights",
    "chat": "a terminal and a model's weights",
    "serve": "a model's weights; it ends when it is stopped",
    "mcp": "a model's weights; it ends when its client leaves",
    "listen": "a model that reads speech",
    "models pull": "the network",
    "models show": "a model's weights",
    "cache build": "a model's weights",
    "train planner": "a model's weights",
    "train tool-rag": "minutes",
    "train fuse": "a model's weights",
    "retrieve calibrate": "a trained classifier",
    "quantize": "a model's weights",
    "eval plans": "a model's weights",
    "bench latency": "a model's weights",
    "bench tools": "a model's weights",
    "bench train": "a model's weights",
    "data paraphrase": "a server with a model",
}
# Numbers that are made smaller, since only the time depends on them.
SMALLER = {"--count": "8", "--valid": "2", "--test": "2", "--limit": "2"}
# Commands that ask a person, who says yes.
ASKING = ("run", "undo")

in_every_document = pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if path != GENERATED],
    ids=lambda path: str(path.relative_to(ROOT)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A command of this program that a page shows.

    Attributes:
        name: The command, such as ``data synth``.
        leaf: What click runs for it.
        args: The words after its name.
    """

    name: str
    leaf: click.Command
    args: tuple[str, ...]


def simple_commands(script: str) -> Iterator[list[str]]:
    """Yield the words of every simple command of a shell script, assignments left out.

    The value of an assignment that begins with the program's name is a command too.
    """
    text = re.sub(r"\\\n\s*", " ", script)
    for line in text.splitlines():
        lexer = shlex.shlex(line.strip(), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, "\n"] if line.strip() else []:
            if word not in BREAKS:
                words.append(word)
                continue
            if len(words) == 1 and ASSIGNMENT.match(words[0]):
                yield words[0].split("=", 1)[1].split()
            while words and ASSIGNMENT.match(words[0]):
                words.pop(0)
            yield words
            words = []


def mentioned(document: Path) -> Iterator[Shown]:
    """Yield the commands in blocks that are not for a shell: indented, or marked as text."""
    text = document.read_text()
    lines = [line for block in blocks(document, "text") for line in block.splitlines()]
    lines += re.findall(r"^    (mlx-tinyagent .*)$", FENCE.sub("", text), re.MULTILINE)
    for line in lines:
        for words in simple_commands(line if line.startswith("mlx-tinyagent ") else ""):
            yield resolved(words[1:], document)


def shown(document: Path) -> list[Shown]:
    """Return the commands of this program in a page's shell blocks, in order."""
    found = []
    for shell in SHELLS:
        for block in blocks(document, shell):
            for words in simple_commands(block):
                if words and Path(words[0]).name == "mlx-tinyagent":
                    found.append(resolved(words[1:], document))
    return found


def resolved(words: list[str], document: Path) -> Shown:
    """Return what click runs for words; fails where there is no such command."""
    command: click.Command = cli
    name: list[str] = []
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        inner = command.get_command(click.Context(command), words[0])
        if inner is None and getattr(command, "invoke_without_command", False):
            break
        assert inner is not None, f"{document.name}: no command {' '.join(words)}"
        command = inner
        name.append(words[0])
        words = words[1:]
    return Shown(name=" ".join(name), leaf=command, args=tuple(words))


@in_every_document
def test_shown_commands_can_be_typed(document: Path) -> None:
    """Each parses as it stands: the options exist, values have their type, arguments their number.

    A group of commands alone would only print its help.
    """
    for command in [*shown(document), *mentioned(document)]:
        where = f"{document.name}: mlx-tinyagent {command.name} {' '.join(command.args)}"
        if isinstance(command.leaf, click.Group):
            assert command.leaf.invoke_without_command, f"{where}: a command is missing"
        try:
            command.leaf.make_context(command.name, list(command.args))
        except click.ClickException as error:
            pytest.fail(f"{where}: {error.format_message()}")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that pages speak of: tools, requests, a log, a calendar."""
    home = tmp_path / "someone"
    desk = tmp_path / "desk"
    (desk / "runs" / "first").mkdir(parents=True)
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(desk)
    for name in ("tools.py", "phrases.json"):
        (source,) = (ROOT / "mlx_tinyagent" / "templates").glob(f"{name}*")
        shutil.copy(source, desk / name)
    (desk / "recipes").symlink_to(ROOT / "recipes", target_is_directory=True)
    (desk / "q.jsonl").write_text('{"id": "1", "query": "text Ana that the train is late"}\n')
    log = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5}, {"step": 2, "valid_loss": 1.6}]
    (desk / "runs" / "first" / "log.jsonl").write_text("".join(f"{json.dumps(x)}\n" for x in log))
    package = ROOT / "mlx_tinyagent"
    (desk / "runs" / "tools").mkdir()
    (desk / "runs" / "tools" / "classifier").symlink_to(package / "classifiers" / "tinyagent16")
    (desk / "run").symlink_to("runs/first")
    (desk / "model").mkdir()
    adapter = package / "adapters" / "smollm2-135m-planner" / "adapter_config.json"
    shutil.copy(adapter, desk / "model")
    (desk / "model" / "config.json").write_text("{}")
    (desk / "holidays.ics").write_text(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//someone//EN\r\nBEGIN:VEVENT\r\nUID:1\r\n"
        "DTSTAMP:20260101T000000Z\r\nDTSTART;VALUE=DATE:20260501\r\nSUMMARY:May Day\r\n"
        "END:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    return desk


def typed(command: Shown) -> list[str]:
    """Return a command's words with the numbers made smaller and the home folder put in."""
    words = [*command.name.split(), *command.args]
    words += ["--yes"] if command.name in ASKING else []
    return [
        SMALLER.get(words[place - 1], os.path.expanduser(word)) if place else word
        for place, word in enumerate(words)
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
@in_every_document
def test_quick_commands_run(document: Path, desk: Path) -> None:
    """Every command that needs neither weights nor much time ends well, in the page's order."""
    quick = [command for command in shown(document) if command.name not in NOT_RUN]
    if not quick:
        return
    runner = CliRunner()
    first = runner.invoke(cli, ["demo-data"])
    assert first.exit_code == 0, first.output
    for command in quick:
        done = runner.invoke(cli, typed(command), input="y\n")

        assert done.exit_code == 0, f"{document.name}: {command.name}: {done.output}"


def test_what_is_not_run_exists() -> None:
    """Each name in the list of exceptions is a command, and some page shows it or may."""
    for name in NOT_RUN:
        resolved(name.split(), ROOT / "tests/test_docs.py")


@in_every_document
def test_named_scripts_exist(document: Path) -> None:
    """Every ``scripts/...`` and ``recipes/...`` in a page is there."""
    if document.name == "LOG.md":  # names what was there once
        return
    named = set(A_SCRIPT.findall(document.read_text()))

    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@in_every_document
def test_links_to_headings_lead_to_one(document: Path) -> None:
    """The part after ``#`` is a heading of the page that the link names."""
    for target in LINK.findall(document.read_text()):
        if "://" in target or "#" not in target:
            continue
        file, heading = target.split("#", 1)
        page = document.parent / file if file else document
        assert heading in headings(page), f"{document.name}: {target}"


def headings(page: Path) -> set[str]:
    """Return the anchors of a page, made as code hosts make them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", title.lower()) for title in titles)
    return {title.strip().replace(" ", "-") for title in plain}


def test_pages_can_be_reached_from_the_readme() -> None:
    """Following links from the README finds every page of the documentation."""
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen:
            continue
        seen.add(page)
        targets = [link.split("#")[0] for link in LINK.findall(page.read_text())]
        inside = [target for target in targets if target.endswith(".md") and "://" not in target]
        waiting += [(page.parent / target).resolve() for target in inside]

    assert [str(path.relative_to(ROOT)) for path in DOCUMENTS if path not in seen] == []
