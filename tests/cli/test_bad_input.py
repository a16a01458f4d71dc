"""Bad input of every command: one readable line, the documented exit code, no traceback."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.config import paths

Cli = Callable[..., Any]

HUGE = "call mom " * 12_000  # over 100 kB


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        ("", 1, "the request is empty"),
        (" \n\t", 1, "the request is empty"),
        (HUGE, 4, "the request has 108000 characters, 16384 at most"),
        ("a\udc80b", 1, "the request is not UTF-8 text"),
    ],
    ids=["empty", "blank", "100 kB", "surrogate"],
)
def test_requests(cli: Cli, query: str, code: int, said: str) -> None:
    """A request is checked before anything is loaded or made."""
    done = cli("ask", query)

    assert (done.code, done.out) == (code, "")
    assert done.line.startswith(said)
    assert not paths().data.exists()


@pytest.mark.parametrize(
    ("data", "code", "said"),
    [
        (b"", 1, "the request is empty"),
        (b"caf\xe9 at 3", 1, "the request is not UTF-8 text (byte 3)"),
        (b"x" * (2 << 20), 4, "the request has more than 1,048,576 bytes"),
    ],
    ids=["empty", "latin-1", "2 MB"],
)
def test_requests_on_stdin(cli: Cli, data: bytes, code: int, said: str) -> None:
    """The same holds for what is piped in."""
    done = cli("ask", "-", stdin=data)

    assert (done.code, done.line) == (code, said)


def test_an_argument_that_is_not_utf8(program: Cli) -> None:
    """Bytes of another encoding on the command line are refused, not guessed."""
    done = program("ask", b"caf\xe9 at 3")

    assert (done.code, done.out) == (1, "")
    assert done.line == "the request is not UTF-8 text"


PLANS = {
    "empty": (b"", "plan"),
    "not a plan": (b"call mom please", "plan line 1"),
    "not UTF-8": (b'1. create_note("caf\xe9", "", "")\n2. join()', "is not UTF-8 text (byte 19)"),
    "unknown tool": (b"1. launch_rocket()\n2. join()", "no tool is called launch_rocket"),
    "forward reference": (
        b'1. send_sms(["$2"], "hi")\n2. get_phone_number("x")\n3. join()',
        "step 1 can read nothing, being the first",
    ),
    "no end": (b'1. create_note("n", "", "")', "join()"),
    "too many changes": (
        b"".join(b'%d. create_note("n", "", "")\n' % n for n in range(1, 7)) + b"7. join()",
        "6 steps change something, 5 at most",
    ),
    "arity": (b"1. send_sms()\n2. join()", "recipients, message missing"),
    "huge": (b"x" * (2 << 20), "more than 1,048,576 bytes"),
}


@pytest.mark.parametrize("name", PLANS)
def test_plans(cli: Cli, tmp_path: Path, name: str) -> None:
    """A plan that breaks a rule never gets as far as the store."""
    data, said = PLANS[name]
    file = tmp_path / "plan.txt"
    file.write_bytes(data)

    for done in (cli("run", file, "--yes"), cli("run", "-", "--yes", stdin=data)):
        assert (done.code, done.out) == (4 if name == "huge" else 1, "")
        assert said in done.line
    assert not paths().data.exists()


def test_a_plan_file_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    """Or is a folder."""
    assert "No such file" in cli("run", tmp_path / "none.txt").line
    assert "Is a directory" in cli("run", tmp_path).line


TOOL_FILES = {
    "syntax error": ("def f(:\n", 1, ":1: SyntaxError: "),
    "raises": ("x = 1\nraise ValueError('no\\nway')\n", 1, ":2: ValueError: no way"),
    "raises nothing to say": ("x = 1\nassert x == 2\n", 1, ":2: AssertionError"),
    "exits": ("import sys\n\nsys.exit(7)\n", 1, ":3: the file calls exit() when it is loaded"),
    "imports what is not there": ("import nothing_like_it\n", 1, ":1: ModuleNotFoundError: "),
    "declares nothing": ("x = 1\n", 1, "declares no tools"),
    "holds something else": ("TOOLS = [print]\n", 1, "TOOLS holds builtin_function_or_method"),
    "holds a number": ("TOOLS = 5\n", 1, "TOOLS holds int"),
    "has no docstring": (
        "from mlx_tinyagent import tool\n\n@tool\ndef f(a: str) -> str:\n    return a\n",
        1,
        ":3: tool f has no docstring",
    ),
    "not UTF-8": ("x = 'caf\udce9'\n", 1, "SyntaxError"),
}


@pytest.mark.parametrize("name", TOOL_FILES)
@pytest.mark.parametrize("command", [("ask", "hi"), ("tools", "list"), ("run", "-")])
def test_tool_files(cli: Cli, tmp_path: Path, name: str, command: tuple[str, ...]) -> None:
    """A file of tools that cannot be used names its line and the reason."""
    text, code, said = TOOL_FILES[name]
    file = tmp_path / "mine.py"
    file.write_bytes(text.encode(errors="surrogateescape"))

    done = cli(*command, "--tools", file)

    assert (done.code, done.out) == (code, "")
    assert done.line.startswith(str(file))
    assert said in done.line


JSON_TOOLS = {
    "broken": ('[{"name": "f",]', 1, ":1:15: "),
    "empty list": ("[]", 1, "holds no list of function schemas"),
    "a number": ("7", 1, "holds no list of function schemas"),
    "no name": ('[{"description": "x"}]', 1, "a function schema has no name"),
    "bad name": ('[{"name": "join"}]', 1, "tool name 'join' cannot be used"),
    "bad parameters": ('[{"name": "f", "parameters": 3}]', 1, "parameters is not an object"),
    "bad argument": (
        '[{"name": "f", "parameters": {"properties": {"a": 3}}}]',
        1,
        "tool f: argument a: a schema is an object, found int",
    ),
    "bad items": (
        '[{"name": "f", "parameters": {"properties": {"a": {"type": "array", "items": 3}}}}]',
        1,
        "a schema is an object, found int",
    ),
    "bad required": (
        '[{"name": "f", "parameters": {"required": "a"}}]',
        1,
        "parameters.required is not a list",
    ),
    "twice": ('[{"name": "f"}, {"name": "f"}]', 1, "two tools are called f"),
    "deep": ("[" * 100_000, 1, "is not readable JSON"),
}


@pytest.mark.parametrize("name", JSON_TOOLS)
def test_json_tools(cli: Cli, tmp_path: Path, name: str) -> None:
    """Schemas are read from a file or from the option itself."""
    text, code, said = JSON_TOOLS[name]
    file = tmp_path / "tools.json"
    file.write_text(text)

    done = cli("tools", "list", "--tools", file)
    assert done.code == code
    assert done.line.startswith(str(file))
    assert said in done.line
    if text[0] in "[{":
        inline = cli("tools", "list", "--tools", text)
        assert inline.code == code
        assert inline.line.startswith("--tools")
        assert said in inline.line


NAMES = [
    (("ask", "hi", "--tools", "tinyagent15"), "did you mean tinyagent16?"),
    (("ask", "hi", "--tools", "nowhere.py"), "no tools at 'nowhere.py'"),
    (("tools", "show", "send_sm"), "did you mean send_sms?"),
    (("ask", "hi", "--model", "smolm2-135m"), "did you mean smollm2-135m"),
    (("models", "show", "smolm2-135m"), "did you mean smollm2-135m"),
    (("models", "pull", "no such model"), "unknown model 'no such model'"),
    (("ask", "hi", "--backend", "cloud"), "no backend is called 'cloud'"),
    (("chat", "--backend", "cloud"), "no backend is called 'cloud'"),
]


@pytest.mark.parametrize(("command", "said"), NAMES, ids=[" ".join(name) for name, _ in NAMES])
def test_names_that_do_not_exist(cli: Cli, command: tuple[str, ...], said: str) -> None:
    """Exit code 2, and what might have been meant."""
    done = cli(*command)

    assert (done.code, done.out) == (2, "")
    assert said in done.line


@pytest.mark.parametrize(
    "command",
    [
        ("fly",),
        ("ask",),
        ("ask", "--fly", "hi"),
        ("plan", "--input", "x"),
        ("plan", "--input", "x", "--output", "y", "--retrieval", "maybe"),
        ("models", "fly"),
        ("tools", "show"),
    ],
    ids=" ".join,
)
def test_wrong_usage(cli: Cli, command: tuple[str, ...]) -> None:
    """Exit code 2 and where the help is."""
    done = cli(*command)

    assert (done.code, done.out) == (2, "")
    assert "Usage: " in done.err
    assert "Error: " in done.err


ROWS = {
    "not JSON": (b'{"id": 1, "query": "a"}\n{"id": 2, "query": \n', ":2:"),
    "no object": (b"[1]\n", ":1:1: "),
    "no query": (b'{"id": 1}\n', ":1:1: query is None, expected text"),
    "query is a number": (b'{"id": 1, "query": 7}\n', ":1:11: query is 7, expected text"),
    "bad now": (
        b'{"id": 1, "query": "a", "now": "yesterday"}\n',
        ":1:25: now is 'yesterday', expected ISO 8601 local time",
    ),
    "bad tools": (b'{"id": 1, "query": "a", "tools": "x"}\n', ":1:25: tools is not a list"),
    "bad history": (
        b'{"id": 1, "query": "a", "history": [7]}\n',
        ":1:25: history is not a list of objects",
    ),
    "empty": (b"", "the file is empty"),
    "not UTF-8": (b'{"id": 1, "query": "caf\xe9"}\n', ":1:24: "),
    "cut": (b'{"id": 1, "query": "a"}\n{"id": 2, "que', ":2:"),
    "empty line": (b'{"id": 1, "query": "a"}\n\n{"id": 2, "query": "b"}\n', ":2:1: "),
}


@pytest.mark.parametrize("command", ["plan", "retrieve"])
@pytest.mark.parametrize("name", ROWS)
def test_rows(cli: Cli, plans: dict[str, str], tmp_path: Path, command: str, name: str) -> None:
    """File, line, column and reason; nothing is written, not even a part."""
    data, said = ROWS[name]
    source = tmp_path / "rows.jsonl"
    source.write_bytes(data)

    done = cli(command, "--input", source, "--output", tmp_path / "out.jsonl")

    assert (done.code, done.out) == (1, "")
    assert done.line.startswith(str(source))
    assert said in done.line
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"id": 1, "query": "a"}', ":1:1: no tools, which gold needs"),
        ('{"id": 1, "query": "a", "tools": ["fly"]}', ":1:25: unknown tools: fly; known: "),
    ],
)
def test_gold_needs_tools(
    cli: Cli, plans: dict[str, str], tmp_path: Path, row: str, said: str
) -> None:
    """Before the model is loaded."""
    source = tmp_path / "rows.jsonl"
    source.write_text(f"{row}\n")

    done = cli("plan", "--input", source, "--output", tmp_path / "o.jsonl", "--retrieval", "gold")

    assert done.code == 1
    assert said in done.line


def test_outputs_that_cannot_be_written_to(cli: Cli, plans: dict[str, str], tmp_path: Path) -> None:
    """A folder, a device, the input itself: refused, and left as they were."""
    source = tmp_path / "rows.jsonl"
    source.write_text('{"id": 1, "query": "a"}\n')

    for target, said in [
        (tmp_path, "is not a file"),
        (Path("/dev/null"), "is not a file"),
        (source, "is the input"),
    ]:
        done = cli("retrieve", "--input", source, "--output", target)
        assert done.code == 1
        assert said in done.line
    assert source.read_text() == '{"id": 1, "query": "a"}\n'
    assert Path("/dev/null").is_char_device()


def gguf(version: int = 3, tensors: int = 0) -> bytes:
    """Return the head of a GGUF file without metadata."""
    return b"GGUF" + struct.pack("<IQQ", version, tensors, 0)


FILES = {
    "empty": b"",
    "text": b"not a model at all",
    "head only": b"GGUF",
    "old version": gguf(version=1),
    "nothing inside": gguf(),
    "promises too much": gguf(tensors=1 << 60),
    "cut": gguf(tensors=3) + b"\0" * 8,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", ["models import", "ask"])
def test_gguf_files(cli: Cli, tmp_path: Path, name: str, command: str) -> None:
    """A damaged file is refused with exit code 4, and no model is left behind."""
    file = tmp_path / "some.gguf"
    file.write_bytes(FILES[name])

    if command == "ask":
        done = cli("ask", "hi", "--model", file)
        assert "Traceback" not in done.err
        line = done.err.splitlines()[-1]
    else:
        done = cli("models", "import", file)
        line = done.line
    assert (done.code, done.out) == (4, "")
    assert "some.gguf" in line
    models = paths().models
    assert not models.exists() or [f for f in models.iterdir() if f.is_dir()] == []


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("model.safetensors", b"", "model.safetensors"),
        ("model.safetensors", b"\xff" * 64, "model.safetensors"),
        ("model.safetensors", struct.pack("<Q", 1 << 40) + b"{}", "model.safetensors"),
        ("config.json", b"{", "config.json"),
        ("tokenizer.json", b"[]", "tokenizer.json"),
    ],
)
def test_damaged_model_folders(
    cli: Cli, tmp_path: Path, tiny_model: Path, name: str, data: bytes, said: str
) -> None:
    """The file at fault is named, with exit code 4."""
    (tiny_model / name).write_bytes(data)

    done = cli("ask", "hi", "--model", tiny_model)

    assert (done.code, done.out) == (4, "")
    assert said in done.line


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_incomplete_model_folders(cli: Cli, tiny_model: Path, missing: str) -> None:
    """So is one that is not there."""
    (tiny_model / missing).unlink()

    done = cli("ask", "hi", "--model", tiny_model)

    assert done.code == 4
    assert missing.split(".")[0] in done.line


def test_adapters_that_are_not_there(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    """A folder without an adapter is named."""
    done = cli("ask", "hi", "--model", tiny_model, "--adapter", tmp_path / "none")

    assert done.code == 4
    assert "none" in done.line
