"""What the documentation says is so: links, files, commands, examples and their output."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import pytest

from mlx_tinyagent.errors import PlanError
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.loading import load_tools

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
TOOLS = ROOT / "docs/tools.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))

FENCE = re.compile(r"^```([\w-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FOLDERS = "act|agent|cli|data|datasets|decode|docs|evaluate|models|plan|prompt|recipes|retrieval"
A_PATH = re.compile(rf"(mlx_tinyagent|tests|scripts|tools|\.ci|{FOLDERS})/[\w./-]*|\w+\.(py|md)")
EXAMPLES = {"lights.py"}  # names that an example gives to a file of the reader's own
A_DATE = re.compile(r"\w+day \d{1,2} \w+ \d{4}|\w+day \d{4}-\d\d-\d\d")

in_every_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def blocks(document: Path, language: str) -> list[str]:
    """Return the code blocks of a language, in order."""
    return [body for name, body in FENCE.findall(document.read_text()) if name == language]


def inline(document: Path) -> list[str]:
    """Return what stands in backticks outside of code blocks."""
    return INLINE.findall(FENCE.sub("", document.read_text()))


def command_lines(document: Path) -> Iterator[list[str]]:
    """Yield every mentioned ``mlx-tinyagent ...`` as words, from shell blocks and backticks."""
    lines = [line for block in blocks(document, "sh") for line in block.splitlines()]
    for text in [*lines, *inline(document)]:
        for part in re.split(r"&&|\|\s", text):
            words = part.split()
            if words and Path(words[0]).name == "mlx-tinyagent":
                yield words[1:]


def plan_blocks(language: str) -> list[Any]:
    """Return the plan examples of all documents as test parameters."""
    return [
        pytest.param(path, body, id=f"{path.name}-{number}")
        for path in DOCUMENTS
        for number, body in enumerate(blocks(path, language), start=1)
    ]


@in_every_document
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link names a file of the checkout."""
    targets = [link.split("#")[0] for link in LINK.findall(document.read_text())]
    missing = [
        target
        for target in targets
        if target and "://" not in target and not (document.parent / target).exists()
    ]

    assert missing == []


@in_every_document
def test_named_files_exist(document: Path) -> None:
    """A path in backticks is one of the checkout, of the package or beside the document.

    A bare file name may be that of any module or test: the text around it says where.
    """
    if document.name == "LOG.md":  # names what was there once
        return
    named = {text for text in inline(document) if A_PATH.fullmatch(text)} - EXAMPLES
    places = (ROOT, ROOT / "mlx_tinyagent", document.parent)
    bare = {
        file.name for part in ("mlx_tinyagent", "tests") for file in (ROOT / part).rglob("*.py")
    }
    missing = [
        name for name in named - bare if not any((place / name).exists() for place in places)
    ]

    assert missing == []


@in_every_document
def test_commands_exist(document: Path) -> None:
    """Every mentioned command and option is one the command line has."""
    from mlx_tinyagent.cli.main import cli

    for words in command_lines(document):
        command: click.Command = cli
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            found = command.get_command(click.Context(command), words[0])
            assert found is not None, f"{document.name}: no command {' '.join(words)}"
            command, words = found, words[1:]
        context = click.Context(command)
        known = {name for param in command.get_params(context) for name in param.opts}
        given = {word.split("=")[0] for word in words if word.startswith("--")}
        assert given <= known, f"{document.name}: {command.name} has no {given - known}"


@in_every_document
def test_scripts_exist(document: Path) -> None:
    """Every ``sh scripts/...`` names a script that can be run."""
    for name in re.findall(r"\bsh (scripts/\w+)", document.read_text()):
        assert os.access(ROOT / name, os.X_OK), f"{document.name}: {name}"


def test_the_file_tree_is_true() -> None:
    """Every entry of the README's tree is there, and no folder of the package is left out."""
    (tree,) = [block for block in blocks(README, "") if block.startswith("mlx_tinyagent/")]
    named, top = set[Path](), ROOT
    for line in tree.splitlines():
        name = line.split()[0].rstrip("/")
        top = ROOT if not line.startswith(" ") else top
        path = (top if line.startswith(" ") else ROOT) / name
        top = top if line.startswith(" ") else path
        assert path.is_dir(), name
        named.add(path)
    package = ROOT / "mlx_tinyagent"
    folders = {path.parent for path in package.glob("*/__init__.py")}

    assert folders <= named


def test_the_layers_are_the_tested_ones() -> None:
    """The architecture page shows the layers of the architecture test, as far as they exist."""
    source = (ROOT / "tests/test_architecture.py").read_text()
    (layers,) = [
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LAYERS"
    ]
    package = ROOT / "mlx_tinyagent"
    there = {path.stem for path in package.iterdir()}
    (shown,) = blocks(ROOT / "docs/architecture.md", "layers")

    expected = [layer & there for layer in layers if layer & there]
    assert [set(line.split()) for line in shown.splitlines()] == expected


def test_decisions_are_numbered_and_complete() -> None:
    """Records have numbers without gaps, and each says why, what, and what follows."""
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    for path in DECISIONS:
        text = path.read_text()
        assert text.startswith(f"# {int(path.name[:4])}. "), path.name
        for part in ("Context", "Choice", "Consequence", "What would change it"):
            assert f"**{part}.**" in text, f"{path.name} has no {part}"


@pytest.fixture(scope="module")
def lights(tmp_path_factory: pytest.TempPathFactory) -> ToolSet:
    """The tool set that the tools page declares, loaded as a user's file is."""
    (code,) = blocks(TOOLS, "python")
    file = tmp_path_factory.mktemp("tools") / "lights.py"
    file.write_text(code)
    return load_tools(str(file))


@pytest.mark.parametrize(("document", "text"), plan_blocks("plan"))
def test_shown_plans_are_valid(document: Path, text: str, lights: ToolSet) -> None:
    """Every plan in the documentation passes the check."""
    parse(text, lights if document == TOOLS else TINYAGENT16)


@pytest.mark.parametrize(("document", "text"), plan_blocks("plan-error"))
def test_shown_errors_are_the_real_ones(document: Path, text: str) -> None:
    """A plan shown as wrong is refused with the line below it."""
    *plan, message = text.rstrip().splitlines()

    with pytest.raises(PlanError) as caught:
        parse("\n".join(plan), TINYAGENT16)
    assert str(caught.value) == message


def test_declared_tools_run(lights: ToolSet) -> None:
    """The tools of the tools page run through the gate, and the one that writes asks first."""
    from mlx_tinyagent.act.executor import Callbacks, run
    from mlx_tinyagent.tools.backend import Host
    from mlx_tinyagent.tools.local import LocalBackend, memory_world
    from mlx_tinyagent.tools.results import explain
    from mlx_tinyagent.tools.writer import PlainWriter

    (text,) = blocks(TOOLS, "plan")
    shown = []
    host = Host(
        backend=LocalBackend(memory_world()),
        writer=PlainWriter(),
        request="",
        now=datetime(2026, 3, 2, 9),
    )
    callbacks = Callbacks(approve=lambda preview: not shown.append(preview))
    results = run(parse(text, lights), lights, host, callbacks)

    assert [explain(outcome.result) for outcome in results] == [
        "The light in the kitchen is off.",
        "Switched the light in the kitchen on at 40 %.",
    ]
    assert len(shown) == 1


def test_setup_names_an_unknown_argument() -> None:
    """``scripts/setup`` with a word it does not know is a usage error and installs nothing."""
    done = subprocess.run(
        ["sh", str(ROOT / "scripts/setup"), "everything"], capture_output=True, text=True
    )

    assert done.returncode == 2
    assert "everything" in done.stderr


@pytest.mark.slow
def test_the_shown_run_is_real(user_home: Path) -> None:
    """The README's given plan shows, asks and tells what the README says, dates aside."""
    import pexpect

    command = [sys.executable, "-m", "mlx_tinyagent"]
    subprocess.run([*command, "demo-data"], check=True, capture_output=True)
    child = pexpect.spawn(
        command[0],
        [*command[1:], "run", str(ROOT / "recipes/lunch.plan")],
        env={**os.environ, "TZ": "UTC"},
        encoding="utf-8",
        dimensions=(50, 200),
        timeout=30,
    )
    child.expect_exact("[y/N] ")
    before = child.before + child.after
    child.sendline("y")
    child.expect(pexpect.EOF)
    child.close()
    seen = (before + child.before).replace("\r\n", "\n")
    (shown,) = [block for block in blocks(README, "") if "[y/N]" in block]

    assert child.exitstatus == 0
    assert undated(seen) == undated(shown)


def undated(text: str) -> list[str]:
    """Return the lines with every date replaced, since they follow the day of the run."""
    return [A_DATE.sub("DATE", line.rstrip()) for line in text.splitlines() if line.strip()]


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.usefixtures("home_with_model")
def test_the_shown_answer_is_real() -> None:
    """The README's Python lines give, with the real weights, the answer its first command shows."""
    (code,) = blocks(README, "python")
    answer = code.rstrip().rsplit("# ", 1)[1]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, str(README), "exec"), {})

    assert out.getvalue().strip() == answer
    first = next(block for block in blocks(README, "") if "demo-files" in block)
    assert first.splitlines()[-1] == answer
