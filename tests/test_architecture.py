"""The layers hold: imports point down, and heavy or dangerous modules stay where they belong."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mlx_tinyagent"

# From the top down; names on one line may not import each other.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"server"},
    {"train", "quantize"},
    {"evaluate"},
    {"datasets"},
    {"agent"},
    {"act"},
    {"retrieval", "decode"},
    {"prompt"},
    {"plan"},
    {"tools", "models"},
    {"config", "files", "trace"},
    {"errors"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# The package's own __init__ fetches public names on first use, from any layer.
OPEN = {"__init__"}

ONLY = {
    "mlx_lm": {"models"},
    "mlx": {"models", "decode", "retrieval", "train", "quantize"},
    "transformers": set[str](),
    "torch": set[str](),
}
SUBPROCESS = {
    "models/child.py",  # GGUF import in a limited child
    "models/index.py",  # asks pip for its index
    "models/fetch.py",
    "tools/local/documents.py",  # documents of others, in a limited child
    "tools/interchange/child.py",  # files of others, in a limited child
    "tools/macos/runner.py",  # osascript, mdfind, shortcuts
}
HEAVY = {"mlx", "mlx_lm", "transformers", "llguidance", "pypdf", "icalendar"}
HEAVY |= {"rich", "prompt_toolkit"}


def modules() -> list[Path]:
    """Return every module of the package."""
    return sorted(path for path in PACKAGE.rglob("*.py"))


def top(path: Path) -> str:
    """Return the layer's name a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield every imported module, those inside functions too, targets of ``from`` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            assert node.module is not None
            yield node.module
            if node.module == "mlx_tinyagent":
                yield from (f"mlx_tinyagent.{alias.name}" for alias in node.names)


def runtime_imports(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Yield imported top-level packages and whether they load with the module."""
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    inside = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typing_only or not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
        for name in names:
            yield (name or "").split(".")[0], node not in inside


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    """A module imports only its own package and the layers below."""
    own = top(path)
    assert own in RANK or own in OPEN, f"{own} has no layer"
    if own in OPEN:
        return
    for name in imports(ast.parse(path.read_text())):
        parts = name.split(".")
        if parts[0] != "mlx_tinyagent" or len(parts) == 1:
            continue
        target = parts[1]
        if target in ("__version__", own):
            continue
        assert target in RANK, f"{path}: {name} has no layer"
        assert RANK[target] > RANK[own], f"{path} imports {name}, which is not below it"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_special_modules_stay_where_they_belong(path: Path) -> None:
    """mlx-lm, MLX and subprocess are imported in few places; heavy packages inside functions."""
    relative = str(path.relative_to(PACKAGE))
    for name, at_import in runtime_imports(ast.parse(path.read_text())):
        if name in ONLY:
            assert top(path) in ONLY[name], f"{relative} imports {name}"
        if name == "subprocess":
            assert relative in SUBPROCESS, f"{relative} imports subprocess"
        if name in HEAVY and not relative.startswith("models/deberta"):
            assert not at_import, f"{relative} imports {name} at module level"


def test_only_the_gate_runs_tools() -> None:
    """``Tool.invoke`` is called in ``act/gate.py`` and nowhere else."""
    callers = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "invoke"
    }
    assert callers == {"act/gate.py"}


def test_only_tools_and_their_hosts_touch_a_backend() -> None:
    """Outside the tools layer a backend's effects are never called."""
    effects = {
        "open_file",
        "open_url",
        "create_event",
        "create_reminder",
        "append_note",
        "draft_mail",
        "queue_message",
        "create_meeting",
    }
    for path in modules():
        if top(path) == "tools":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                assert node.attr not in effects, f"{path} uses {node.attr}"
