"""Nothing but the gate reaches a backend's effects: read from the source itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import mlx_tinyagent

PACKAGE = Path(mlx_tinyagent.__file__).parent
VIEWS = {"with_action", "with_key", "deliver"}  # ways to a backend that performs


def used(names: set[str]) -> Iterator[tuple[str, str]]:
    """Yield module and name where an attribute of one of these names is used outside of tools."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = str(path.relative_to(PACKAGE))
        if module.startswith("tools/"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in names:
                yield module, node.attr


def importers(module: str, name: str) -> set[str]:
    """Return the modules that import a name from a module."""
    return {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and node.module == module
        and name in {alias.name for alias in node.names}
    }


def test_only_the_gate_takes_a_view_that_performs() -> None:
    """The view that carries a key, or tells the journal, and the sending."""
    places = set(used(VIEWS))

    assert {name for module, name in places if module == "act/gate.py"} == VIEWS
    assert {module for module, _ in places} <= {"act/gate.py", "act/outbox.py"}
    assert importers("mlx_tinyagent.act.guard", "Guard") == {"act/gate.py"}


def test_a_tool_gets_a_guard_in_place_of_the_backend() -> None:
    """Each call of a tool with a host is given one whose backend was replaced."""
    tree = ast.parse((PACKAGE / "act" / "gate.py").read_text())
    hosts = [
        node.args[1]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "_invoke"
    ]

    names = [ast.unparse(host) for host in hosts]
    assert sorted(names) == ["host", "seen", "seen"]  # "host" only where it is none of ours


def test_only_the_journal_writes_the_journal() -> None:
    """No other module names its table in a statement that writes."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        for verb in ("INSERT INTO journal", "UPDATE journal", "DELETE FROM journal"):
            assert verb not in text, path
    assert 'insert("journal"' in (PACKAGE / "act" / "journal.py").read_text()
