"""Mutation testing: which faults are made, which tests are chosen, and what is found."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "mutate.py"

SOURCE = b'''"""Text."""
from typing import TYPE_CHECKING
LIMIT = 3
if TYPE_CHECKING:
    import os
    SIZE = 4


def check(value: int, open: bool = True) -> str | None:
    """Text."""
    if value < LIMIT and not open:
        raise ValueError(f"{value + 1}")
    value += 2
    return str(value)
'''


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """The script as a module."""
    sys.path.insert(0, str(SCRIPT.parent))  # as when it is run
    yield importlib.import_module("mutate")
    sys.path.remove(str(SCRIPT.parent))


def test_each_kind_of_fault_is_made_where_it_can_be(script: ModuleType) -> None:
    """Worked out by hand; nothing in docstrings, annotations, f-strings or type imports."""
    found = [(m.line, m.operator, m.text) for m in script.mutants("x.py", SOURCE)]

    assert sorted(found) == [
        (3, "constant + 1", "4"),
        (3, "constant - 1", "(2)"),
        (9, "boolean", "False"),
        (11, "and/or", "(value < LIMIT or not open)"),
        (11, "comparison", "(value <= LIMIT)"),
        (11, "condition negated", "(not (value < LIMIT and (not open)))"),
        (11, "not removed", "(open)"),
        (12, "statement removed", "pass"),
        (13, "constant + 1", "3"),
        (13, "constant - 1", "(1)"),
        (13, "statement removed", "pass"),
        (14, "return None", "return None"),
    ]


def test_a_fault_changes_its_own_place_only(script: ModuleType) -> None:
    """Bytes before and after stay; names outside ASCII do not move it."""
    source = "ä = 'é'; b = ä == 'é'\n".encode()
    (fault,) = script.mutants("x.py", source)

    assert fault.applied(source).decode() == "ä = 'é'; b = (ä != 'é')\n"
    assert script.change(fault, source).splitlines() == [
        "mlx_tinyagent/x.py:1: comparison",
        "    -ä = 'é'; b = ä == 'é'",
        "    +ä = 'é'; b = (ä != 'é')",
    ]


def test_every_fault_in_a_module_can_be_compiled(script: ModuleType) -> None:
    """More than fifty in this one, all different, none equal to the module itself."""
    source = (ROOT / "mlx_tinyagent/files.py").read_bytes()
    faults = script.mutants("files.py", source)

    assert len({fault.key(source) for fault in faults}) == len(faults) > 50
    for fault in faults:
        assert fault.applied(source) != source
        compile(fault.applied(source), "files.py", "exec")


def test_a_sample_depends_on_its_seed_alone(script: ModuleType) -> None:
    """The same faults for the same seed, in their order; all where fewer are there."""
    everything = script.mutants("x.py", SOURCE)
    first, again, other = (script.sampled(everything, 5, seed) for seed in (1, 1, 2))

    assert first == again != other
    assert [everything.index(m) for m in first] == sorted(everything.index(m) for m in first)
    assert script.sampled(everything, 0, 1) == script.sampled(everything, 99, 1) == everything


def test_a_fault_is_tried_with_the_tests_that_enter_its_function(script: ModuleType) -> None:
    """The innermost function counts, quickest test first; outside of functions every test."""
    spans = [(1, 9), (3, 5), (20, 30)]
    tests = [
        script.Timed(node="slow", seconds=2.0, entered=frozenset({("x.py", 3)})),
        script.Timed(node="outer", seconds=0.1, entered=frozenset({("x.py", 1)})),
        script.Timed(node="quick", seconds=0.5, entered=frozenset({("x.py", 4)})),
        script.Timed(node="other", seconds=0.2, entered=frozenset({("y.py", 3)})),
    ]

    def nodes(line: int) -> list[str]:
        return [test.node for test in script.covering(tests, "x.py", spans, line)]

    assert nodes(4) == ["quick", "slow"]
    assert nodes(8) == ["outer", "quick", "slow"]
    assert nodes(25) == []
    assert nodes(12) == ["outer", "other", "quick", "slow"]


def test_the_report_shows_what_was_not_found(script: ModuleType) -> None:
    """Survivors with their change, then a table; a timeout counts as found."""
    rows = [
        {"module": "a.py", "status": "killed", "change": "a:1"},
        {"module": "a.py", "status": "timeout", "change": "a:2"},
        {"module": "b.py", "status": "survived", "change": "b:3"},
        {"module": "b.py", "status": "untested", "change": "b:4"},
    ]

    lines = script.report(rows).splitlines()

    assert lines[:2] == ["b:3", "b:4"]
    assert lines[-3:] == ["| a.py | 2 | 2 | 100.0 % |", "| b.py | 2 | 0 | 0.0 % |",
                          "| all | 4 | 2 | 50.0 % |"]  # fmt: skip


@pytest.mark.slow
def test_faults_are_tried_in_a_copy_and_not_tried_twice(tmp_path: Path) -> None:
    """Three faults of one module: the checkout stays as it is, and a second run tries none."""
    before = (ROOT / "mlx_tinyagent/files.py").read_bytes()
    out = tmp_path / "rows.jsonl"
    command = [sys.executable, str(SCRIPT), "--module", "files.py", "--sample", "3"]
    runs = [
        subprocess.run(
            [*command, "--json", "--out", str(out)], capture_output=True, text=True, cwd=tmp_path
        )
        for _ in range(2)
    ]

    assert (ROOT / "mlx_tinyagent/files.py").read_bytes() == before
    assert [run.returncode in (0, 1) for run in runs] == [True, True], runs[0].stderr
    assert json.loads(runs[0].stdout) == json.loads(runs[1].stdout)
    assert len(out.read_text().splitlines()) == 3
    assert "3/3" in runs[0].stderr
    assert runs[1].stderr == ""
