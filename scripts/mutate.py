"""Mutation testing: small faults put into the safety-critical modules, one at a time.

    python scripts/mutate.py --sample 200 --out mutants.jsonl
    python scripts/mutate.py --module act/gate.py --out mutants.jsonl --again
    python scripts/mutate.py --module plan/text.py --list

The package and its tests are copied to a scratch folder, and every fault is written there, never
into the checkout. The tests of the module run once to see which functions each of them enters; a
fault is then tried with the tests that enter its function, quickest first, until one fails. The
tests of a fault run in a forked process with a limit of CPU time each, so that a busy machine
changes no result and an endless loop counts as found.

Results go to a file of JSON lines: a run that was cut off goes on where it stopped, and
``--again`` tries those once more that no test found. The last lines printed are the faults that
nothing found, with their change, and a table.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutants import PACKAGE, Mutant, change, mutants, sampled  # beside this file

ROOT = Path(__file__).resolve().parents[1]
# Module, and the tests that must find a fault in it: few and quick.
MODULES: dict[str, tuple[str, ...]] = {
    "files.py": (
        "tests/test_files.py",
        "tests/reliability/test_kills.py::test_the_kth_failing_call_leaves_old_or_new",
    ),
    "act/journal.py": ("tests/act/test_journal.py",),
    "act/gate.py": (
        *("tests/act/test_gate.py", "tests/act/test_executor.py", "tests/act/test_journal.py"),
        "tests/act/test_outbox.py",
    ),
    "plan/schema.py": ("tests/plan",),
    "plan/graph.py": ("tests/plan",),
    "plan/text.py": ("tests/plan",),
}
CPU_FLOOR = 3  # seconds that a test may take at least
WALL_FACTOR = 60  # wall seconds per second of CPU, for a lock that never opens
MEMORY = 8 << 30  # bytes, for a list that never ends
TIMEOUT = 97  # exit code of a test that took too long
KILLED = ("killed", "timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A test as it ran without a fault: its CPU seconds and the lines of functions it entered."""

    node: str
    seconds: float
    entered: frozenset[tuple[str, int]]


def main() -> int:
    """Try the faults and print what was not found; exit code 1 if more than a tenth was not."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the scratch folder goes
    sources = {name: (ROOT / PACKAGE / name).read_bytes() for name in options.module}
    chosen = sampled(
        [m for name in options.module for m in mutants(name, sources[name])],
        options.sample,
        options.seed,
    )
    if options.list:
        for mutant in chosen:
            print(change(mutant, sources[mutant.module]))
        return 0
    rows = _known(options.out)
    with _scratch() as tree:
        for name in options.module:
            keys = {m: m.key(sources[name]) for m in chosen if m.module == name}
            open_ = [m for m, key in keys.items() if _is_open(rows.get(key), again=options.again)]
            for row in _tried(tree, name, sources[name], open_):
                rows[row["key"]] = row
                with options.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    results = [rows[m.key(sources[m.module])] for m in chosen]
    if options.json:
        print(json.dumps({"seed": options.seed, "modules": _counts(results), "rows": results}))
    else:
        print(report(results))
    return int(_share(results) < 0.9)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--module", action="append", choices=MODULES, help="default: all")
    parser.add_argument("--sample", type=int, default=0, help="so many faults; 0 is all")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--out", type=Path, default=Path("mutants.jsonl"), help="results so far")
    parser.add_argument("--again", action="store_true", help="try those not found once more")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--list", action="store_true", help="print the faults, run nothing")
    options = parser.parse_args()
    options.module = options.module or list(MODULES)
    return options


# Running tests.


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A copy of the package and its tests, from which everything here runs until the end."""
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        tree = Path(folder) / "tree"
        unwanted = shutil.ignore_patterns("__pycache__", "*.safetensors", ".hypothesis")
        for name in (PACKAGE, "tests"):
            shutil.copytree(ROOT / name, tree / name, ignore=unwanted)
        shutil.copy(ROOT / "pyproject.toml", tree)
        before = Path.cwd()
        os.chdir(tree)
        sys.path.insert(0, str(tree))
        os.environ["PYTHONPATH"] = str(tree)  # for tests that start processes
        try:
            yield tree
        finally:
            os.chdir(before)
            sys.path.remove(str(tree))


def _is_open(row: dict[str, Any] | None, *, again: bool) -> bool:
    """Whether a fault is still to be tried."""
    return row is None or (again and row["status"] not in KILLED)


def _tried(
    tree: Path, name: str, source: bytes, faults: Sequence[Mutant]
) -> Iterator[dict[str, Any]]:
    """Try faults of one module; gives a row of the results file for each."""
    if not faults:
        return
    path = tree / PACKAGE / name
    tests = baseline(tree, MODULES[name])
    for stale in path.parent.glob(f"__pycache__/{path.stem}.*"):
        stale.unlink()  # to the second as old as the next fault
    print(f"{name}: {len(faults)} faults, {len(tests)} tests", file=sys.stderr, flush=True)
    spans = _functions(source)
    for count, mutant in enumerate(faults, start=1):
        nodes = covering(tests, name, spans, mutant.line)
        path.write_bytes(mutant.applied(source))
        started = time.monotonic()
        try:
            status = _status(tree, nodes)
        finally:
            path.write_bytes(source)
        seconds = round(time.monotonic() - started, 2)
        line = f"{count}/{len(faults)} {status} {name}:{mutant.line} {mutant.operator} {seconds} s"
        print(line, file=sys.stderr, flush=True)
        yield {
            "key": mutant.key(source),
            "module": name,
            "line": mutant.line,
            "operator": mutant.operator,
            "status": status,
            "tests": len(nodes),
            "seconds": seconds,
            "change": change(mutant, source),
        }


def _functions(source: bytes) -> list[tuple[int, int]]:
    """First and last lines of all functions, decorators included, outer ones first."""
    spans = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            spans.append((first, node.end_lineno or node.lineno))
    return spans


def covering(
    tests: Iterable[Timed], name: str, spans: Sequence[tuple[int, int]], line: int
) -> list[Timed]:
    """The tests that enter the function around a line, quickest first; all where none is."""
    around = [span for span in spans if span[0] <= line <= span[1]]
    first, last = max(around, default=(0, 0))
    found = [
        test
        for test in tests
        if not around or any(file == name and first <= at <= last for file, at in test.entered)
    ]
    return sorted(found, key=lambda test: test.seconds)


def baseline(tree: Path, nodes: Sequence[str]) -> list[Timed]:
    """Run tests without a fault, once per scratch folder, and see what each of them enters.

    Raises:
        SystemExit: They fail as it is.
    """
    seen = tree.parent / f"seen-{hashlib.sha256(' '.join(nodes).encode()).hexdigest()[:8]}.json"
    if not seen.exists():
        status = _forked(tree, lambda: _pytest(nodes, _Watch(tree, seen)), cpu=600)
        if status != 0:
            log = (tree.parent / "log").read_text()[-3000:]
            raise SystemExit(f"{' '.join(nodes)} fails without a fault ({status}):\n{log}")
    found = json.loads(seen.read_text())
    for module in found["imported"]:  # once here instead of in every child
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    return [
        Timed(node=node, seconds=seconds, entered=frozenset((f, n) for f, n in entered))
        for node, seconds, entered in found["tests"]
    ]


class _Watch:
    """Plugin of the run without a fault: what each test takes and enters."""

    def __init__(self, tree: Path, out: Path) -> None:
        self.prefix, self.out = f"{tree / PACKAGE}/", out
        self.entered: set[tuple[str, int]] = set()
        self.tests: list[tuple[str, float, list[tuple[str, int]]]] = []

    def pytest_runtest_protocol(self, item: Any, nextitem: Any) -> bool:
        """Run one test as pytest does, watched."""
        from _pytest.runner import runtestprotocol

        self.entered = set()
        before = time.process_time()
        threading.setprofile(self._enter)
        sys.setprofile(self._enter)
        try:
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # as at the start
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        if not any(report.skipped for report in reports):
            self.tests.append((item.nodeid, time.process_time() - before, sorted(self.entered)))
        return True

    def _enter(self, frame: Any, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(self.prefix):
            self.entered.add((code.co_filename[len(self.prefix) :], code.co_firstlineno))

    def pytest_sessionfinish(self) -> None:
        """Write down what was seen."""
        own = (PACKAGE, "mlx", "tests", "conftest", "test_", "__main__", "_pytest", "hypothesis")
        imported = [name for name in sys.modules if not name.startswith(own)]
        self.out.write_text(json.dumps({"tests": self.tests, "imported": imported}))


def _status(tree: Path, tests: Sequence[Timed]) -> str:
    """What came of a fault: killed, timeout, survived, or untested."""
    if not tests:
        return "untested"
    cpu = 20 + 5 * round(sum(test.seconds for test in tests))
    code = _forked(tree, lambda: _pytest([test.node for test in tests], _Limit(tests)), cpu=cpu)
    if code in (TIMEOUT, -signal.SIGXCPU, -signal.SIGKILL):
        return "timeout"
    if code in (98, 99):
        raise SystemExit(f"the tests could not be run; see {tree.parent / 'log'}")
    return "survived" if code == 0 else "killed"


class _Limit:
    """Plugin of a run with a fault: ends the process when a test takes much longer than usual."""

    def __init__(self, tests: Sequence[Timed]) -> None:
        self.seconds = {test.node: CPU_FLOOR + 5 * test.seconds for test in tests}
        sys.dont_write_bytecode = True  # a fault leaves no compiled files behind
        signal.signal(signal.SIGPROF, lambda *_: os._exit(TIMEOUT))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Start the clock."""
        signal.setitimer(signal.ITIMER_PROF, self.seconds.get(nodeid, 60.0))

    def pytest_runtest_logfinish(self) -> None:
        """Stop it."""
        signal.setitimer(signal.ITIMER_PROF, 0)


def _pytest(nodes: Sequence[str], plugin: object) -> int:
    """Run tests in this process; a failing property is not made smaller first."""
    import hypothesis
    import pytest

    hypothesis.settings.register_profile(
        "mutate",
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),  # being watched is slow
        database=None,
        deadline=None,
    )
    hypothesis.settings.load_profile("mutate")
    arguments = [
        "-x",
        "-q",
        "--no-header",
        "--tb=no",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore",
        "--timeout=0",
    ]
    code = int(pytest.main([*arguments, *nodes], plugins=[plugin]))
    package = sys.modules.get(PACKAGE)
    if package is None or not str(package.__file__).startswith(str(Path.cwd())):
        return 99  # the checkout's package was tested instead of the copy
    return code


def _forked(tree: Path, run: Callable[[], int], *, cpu: int) -> int:
    """Exit code of a function run in a child; negative is the signal that ended it."""
    import hypothesis  # noqa: F401  # before the fork, so that children need not load them
    import pytest  # noqa: F401

    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 98
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 2))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            log = os.open(tree.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = run()
        finally:
            os._exit(code)
    deadline = time.monotonic() + cpu * WALL_FACTOR
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what a test left running
    return os.waitstatus_to_exitcode(status)


# Results.


def _known(path: Path) -> dict[str, dict[str, Any]]:
    """Results of earlier runs by fault; a line that was cut off counts for nothing."""
    rows: dict[str, dict[str, Any]] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            row = json.loads(line)
            rows[row["key"]] = row
    return rows


def _counts(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        counts.setdefault(row["module"], Counter())[row["status"]] += 1
    return {name: dict(counter) for name, counter in counts.items()}


def _share(rows: Sequence[dict[str, Any]]) -> float:
    """Share of the faults that were found; 1 where there are none."""
    return sum(row["status"] in KILLED for row in rows) / len(rows) if rows else 1.0


def report(rows: Sequence[dict[str, Any]]) -> str:
    """The faults that nothing found, and a table of all."""
    lines = [row["change"] for row in rows if row["status"] not in KILLED]
    lines += ["", "| module | faults | found | share |", "|---|---|---|---|"]
    for name in dict.fromkeys(row["module"] for row in rows):
        own = [row for row in rows if row["module"] == name]
        found = sum(row["status"] in KILLED for row in own)
        lines.append(f"| {name} | {len(own)} | {found} | {100 * _share(own):.1f} % |")
    found = sum(row["status"] in KILLED for row in rows)
    return "\n".join([*lines, f"| all | {len(rows)} | {found} | {100 * _share(rows):.1f} % |"])


if __name__ == "__main__":
    sys.exit(main())
