"""Files are written whole or not at all: who writes besides ``files.py``, and how."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "mlx_tinyagent"
WRITERS = {"write_text", "write_bytes", "save_safetensors", "savez", "replace", "rename", "move"}
WRITERS |= {"copyfile", "copy2", "copytree", "mkstemp", "NamedTemporaryFile"}
OF_MODULES = {"replace", "rename"}  # strings and dataclasses have these as well

# Modules that write with their own hands, and why that leaves nothing half written.
ALLOWED = {
    "files.py": "it is the writer",
    # into a folder that files.atomic_folder renames into place when it is whole
    "models/fuse.py": "atomic_folder",
    "models/gguf.py": "atomic_folder",
    "quantize/adopt.py": "atomic_folder",
    "quantize/encoder.py": "atomic_folder",
    "quantize/folder.py": "atomic_folder",
    "quantize/run.py": "atomic_folder",
    "train/checkpoint.py": "atomic_folder",
    # a temporary file that is renamed into place
    "datasets/jsonl.py": "renamed",
    "models/deberta/tool_heads.py": "renamed",
    "models/deberta/weights.py": "renamed",
    "models/fetch.py": "renamed, and a lock",
    "quantize/distill.py": "renamed",
    # nothing that is kept
    "act/journal.py": "a lock without content",
    "cli/common.py": "the null device",
    "cli/listen.py": "a temporary file for a program",
    "cli/speech.py": "in memory",
    "tools/macos/runner.py": "a temporary file for a program",
    "tools/macos/shortcuts.py": "a temporary file for a program",
    # logs that are added to, whose reader drops a last line that was cut off
    "datasets/paraphrase.py": "log",
    "train/loop.py": "log",
}


@functools.cache
def modules() -> tuple[tuple[str, tuple[ast.AST, ...]], ...]:
    """Every module of the package with its syntax tree's nodes."""
    return tuple(
        (
            path.relative_to(PACKAGE).as_posix(),
            tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8")))),
        )
        for path in sorted(PACKAGE.rglob("*.py"))
    )


def writes(call: ast.Call) -> bool:
    """Whether a call writes a file, or puts one in place of another."""
    match call.func:
        case ast.Attribute(value=ast.Name(id=owner), attr=name) if name in OF_MODULES:
            return owner in ("os", "shutil")
        case ast.Attribute(attr=name) | ast.Name(id=name) if name in WRITERS - OF_MODULES:
            return True
        case ast.Attribute(attr="open" | "fdopen") | ast.Name(id="open"):
            modes = [a.value for a in call.args if isinstance(a, ast.Constant)]
            modes += [k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)]
            return any(
                isinstance(mode, str) and len(mode) <= 3 and set(mode) & set("wax+")
                for mode in modes
            )
    return False


def test_only_known_modules_write_files() -> None:
    """A new one has to go through ``files.py`` or say here why it need not."""
    found = {
        name
        for name, nodes in modules()
        if any(isinstance(node, ast.Call) and writes(node) for node in nodes)
    }

    assert found == set(ALLOWED)


def test_those_that_rename_a_folder_into_place_call_the_function_for_it() -> None:
    """Or are called with the folder that it gives."""
    users = {
        name.rpartition("/")[0]
        for name, nodes in modules()
        for node in nodes
        if isinstance(node, ast.Name) and node.id == "atomic_folder"
    }

    assert {
        name.rpartition("/")[0] for name, how in ALLOWED.items() if how == "atomic_folder"
    } <= users


def test_nothing_runs_code_of_a_model() -> None:
    """No call anywhere may switch it on."""
    switched = [
        name
        for name, nodes in modules()
        for node in nodes
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code"
        if not (isinstance(node.value, ast.Constant) and node.value.value is False)
    ]

    assert switched == []


def test_nothing_is_unpickled() -> None:
    """Of the formats for weights and data only those without code are read."""
    imported = {
        (name, alias.name)
        for name, nodes in modules()
        for node in nodes
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if {alias.name, getattr(node, "module", "")} & {"pickle", "shelve", "marshal", "joblib"}
    }

    assert imported == set()
