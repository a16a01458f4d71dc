"""G9 and G10: a process that dies, or a disk that refuses, loses and doubles nothing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent import files
from mlx_tinyagent.errors import StoreError
from mlx_tinyagent.files import atomic_write

# One process forks children that act until they are killed at a random moment, then others that
# find out about the cut-off run as ``resume`` does and are killed too; at last it does so itself,
# and counts. Forking spares a start of Python per kill.
KILLER = """
import os, random, select, signal, sqlite3, sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from mlx_tinyagent.act import recovery
from mlx_tinyagent.act.executor import Callbacks, run
from mlx_tinyagent.act.journal import Journal, at_work
from mlx_tinyagent.plan.graph import from_calls, parse
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import LocalBackend, Store, load_world
from mlx_tinyagent.tools.writer import PlainWriter

path, kills, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(9)
YES = Callbacks(approve=lambda shown: True)

def host(store):
    moment = datetime(2026, 3, 2, 9, 0)
    return Host(backend=LocalBackend(store), writer=PlainWriter(), request="", now=moment)

def act(number, pipe):
    with Store.open(path) as store:
        journal, step = Journal(store), 0
        while True:
            name = f"k{number}-{step}"
            text = (f'1. create_note("{name}", "{name * 50}", "Folder {name}")\\n'
                    f'2. send_sms(["Sarah"], "{name}")\\n'
                    f'3. append_note_content("Log", "{name}")\\n4. join()')
            results = run(parse(text, TINYAGENT16), TINYAGENT16, host(store), YES, journal=journal)
            assert [r.result.status for r in results] == ["ok"] * 3, results
            os.write(pipe, f"{name}\\n".encode())
            step += 1

with Store.open(path) as store:
    load_world(store)
    store.insert("notes", {"folder_id": 1, "name": "Log", "body": ""})

def recover(begun=lambda: None):  # find out and go on with some of it, as ``resume`` does
    resumed = 0
    with Store.open(path) as store:
        journal = Journal(store)
        lock = at_work(store, alone=True)
        begun()
        for cut in recovery.unfinished(journal.runs()):
            known = recovery.reconcile(journal, LocalBackend(store), cut)
            if recovery.remaining(known) and rng.random() < 0.7:
                plan = from_calls(list(known.details["calls"]), TINYAGENT16)
                run(plan, TINYAGENT16, host(store), YES, journal=journal, resumed=known)
                resumed += 1
            else:
                journal.append("end", run=known.run)
        lock.close()
    return resumed

def killed(work, lines, span_s):  # within so many seconds after so many lines of it
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        work(write)
        os._exit(0)
    os.close(write)
    data = b""
    while data.count(b"\\n") < lines and (chunk := os.read(read, 4096)):
        data += chunk
    select.select([read], [], [], rng.random() * span_s)
    os.kill(child, signal.SIGKILL)
    ended = os.waitpid(child, 0)[1]
    while chunk := os.read(read, 4096):
        data += chunk
    os.close(read)
    return data.decode().split(), os.WIFSIGNALED(ended)

acknowledged, cut, resumed, inside = [], 0, 0, 0
for number in range(kills):
    names, _ = killed(lambda pipe: act(number, pipe), rng.randrange(0, 3), 0.1)
    acknowledged += names
    with Store.open(path) as store:
        open_runs = recovery.unfinished(Journal(store).runs())
        cut += sum(step.is_open for r in open_runs for step in r.steps.values())
    for attempt in range(rng.randrange(0, 3) if open_runs else 0):  # dies while it recovers
        tell = lambda pipe: recover(lambda: os.write(pipe, b"begun\\n"))
        inside += killed(tell, 1, 0.05)[1]
    resumed += recover()

with Store.open(path) as store:
    journal = Journal(store)
    entries = journal.verify()
    runs = journal.runs()
    assert not recovery.unfinished(runs)
    done = Counter()
    for found in runs:
        for step in found.steps.values():
            assert step.status in ("ok", "failed"), step
            assert len(step.effects) == (step.status == "ok")
            done[step.tool] += step.status == "ok"
    notes = [r["name"] for r in store.rows("SELECT name FROM notes WHERE name LIKE 'k%-%'")]
    texts = [r["text"] for r in store.rows("SELECT text FROM outbox_messages")]
    log = store.rows("SELECT body FROM notes WHERE name = 'Log'")[0]["body"].split()
    torn = [r for r in store.rows("SELECT name, body FROM notes WHERE name LIKE 'k%-%'")
            if r["body"] != r["name"] * 50]
    lost = [n for n in acknowledged if n not in notes or n not in texts or n not in log]
    double = [n for rows in (notes, texts, log) for n, c in Counter(rows).items() if c > 1]
    counts = (len(notes), len(texts), len(log))
    assert counts == (done["create_note"], done["send_sms"], done["append_note_content"]), counts
    recipients = store.rows("SELECT count(*) AS n FROM outbox_recipients")[0]["n"]
    assert recipients == len(texts)
    assert store.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
print(len(acknowledged), cut, resumed, inside, len(lost), len(double), len(torn), entries)
"""


@pytest.mark.timeout(900)
def test_killed_at_any_moment(
    tmp_path: Path, cases: Callable[[str, int], int], figure: Callable[[str, str], None]
) -> None:
    """Nothing acknowledged is lost, nothing is done twice, nothing is torn, every intent ends."""
    kills = cases("G9", 60)

    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path / "s.sqlite"), str(kills)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    plans, cut, resumed, inside, lost, double, torn, entries = map(int, done.stdout.split())
    assert (lost, double, torn) == (0, 0, 0)
    assert cut > 0
    assert inside > 0
    figure(
        "G9",
        f"{kills} SIGKILLs and {inside} more while it recovered, {plans} acknowledged plans of 3 "
        f"effects, {cut} steps cut off, {resumed} runs resumed: {lost} lost, {double} double, "
        f"{torn} torn; {entries} entries",
    )


FAULTS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT)


class Failing:
    """Lets the k-th call of the operating system fail."""

    def __init__(self, k: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.code, self.hit = k, code, False
        for name in ("open", "fsync", "replace"):
            real = getattr(os, name)
            monkeypatch.setattr(files.os, name, self.wrap(real))
        real_fdopen = os.fdopen
        monkeypatch.setattr(
            files.os, "fdopen", lambda fd, mode: _Writing(real_fdopen(fd, mode), self)
        )

    def wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """Count a call, and let it fail if it is the k-th."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self.count()
            return real(*args, **kwargs)

        return call

    def count(self) -> None:
        """Fail at the k-th call."""
        self.left -= 1
        if self.left == 0:
            self.hit = True
            raise OSError(self.code, os.strerror(self.code))


class _Writing:
    """An open file whose writes count, and stop half-way when they fail."""

    def __init__(self, file: Any, failing: Failing) -> None:
        self._file, self._failing = file, failing

    def write(self, data: bytes) -> int:
        """Write all of it, or half of it and fail."""
        try:
            self._failing.count()
        except OSError:
            self._file.write(data[: len(data) // 2])
            raise
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Writing:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def test_the_kth_failing_call_leaves_old_or_new(
    tmp_path: Path, figure: Callable[[str, str], None]
) -> None:
    """For every k and every fault: old bytes or new ones, the path in the message, no leftovers."""
    tried = 0
    for old in (None, b"old" * 1000):
        for code in FAULTS:
            for k in range(1, 20):
                path = tmp_path / f"{old is None}-{code}-{k}" / "file"
                path.parent.mkdir()
                if old is not None:
                    path.write_bytes(old)
                with pytest.MonkeyPatch.context() as patch:
                    failing = Failing(k, code, patch)
                    try:
                        atomic_write(path, b"new" * 1000)
                        failed = None
                    except StoreError as error:
                        failed = str(error)
                if not failing.hit:
                    assert failed is None
                    assert path.read_bytes() == b"new" * 1000
                    break
                tried += 1
                content = path.read_bytes() if path.exists() else None
                assert content in (old, b"new" * 1000), (k, code)
                assert failed is None or (str(path) in failed and "\n" not in failed)
                assert failed is not None or content == b"new" * 1000
                assert {p.name for p in path.parent.iterdir()} <= {"file"}, (k, code)
            else:
                pytest.fail("there are more calls than were tried")
    assert tried >= 2 * len(FAULTS) * 4
    sizes = full_disks(tmp_path)
    figure(
        "G10",
        f"{tried} failing calls (k-th, {len(FAULTS)} errors) of a file write, a store on {sizes} "
        "disks that fill up: old or new state each time",
    )


FULL = """
import os, resource, sys
from datetime import datetime
from pathlib import Path
from mlx_tinyagent.act.executor import Callbacks, run
from mlx_tinyagent.act.journal import Journal
from mlx_tinyagent.errors import StoreError
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import LocalBackend, Store, content_hash, load_world
from mlx_tinyagent.tools.writer import PlainWriter
import shutil

folder = Path(sys.argv[1])
start = folder / "start.sqlite"
with Store.open(start) as store:
    load_world(store)
    before = content_hash(store)
TEXT = '1. create_note("n", "%s", "New")\\n2. send_sms(["Sarah"], "hi")\\n3. join()' % ("x" * 5000)

def act(path):
    with Store.open(path) as store:
        host = Host(backend=LocalBackend(store), writer=PlainWriter(), request="",
                    now=datetime(2026, 3, 2, 9, 0))
        return run(parse(TEXT, TINYAGENT16), TINYAGENT16, host,
                   Callbacks(approve=lambda shown: True), journal=Journal(store))

size, ends = start.stat().st_size, set()
for limit in range(0, 160_000, 4_000):
    path = folder / f"{limit}.sqlite"
    shutil.copy(start, path)
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            results = act(path)
        except StoreError as error:
            os._exit(11 if str(path) in str(error) else 12)
        os._exit(20 + sum(r.result.status == "ok" for r in results))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with Store.open(path) as store:
        Journal(store).verify()
        steps = [s for r in Journal(store).runs() for s in r.steps.values()]
        done = sum(s.status == "ok" for s in steps)
        changed = content_hash(store) != before
        notes = len(store.rows("SELECT 1 FROM notes WHERE name = 'n'"))
        texts = len(store.rows("SELECT 1 FROM outbox_messages"))
        assert store.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert code != 12, limit
    assert changed == bool(done) and notes + texts == done, (limit, code, done)
    if code >= 20:
        assert code - 20 == done, (limit, code, done)
    else:
        assert code == 11 and not done, (limit, code)
    ends.add(code)
assert {11, 22} <= ends, ends
print(len(range(0, 160_000, 4_000)))
"""


def full_disks(tmp_path: Path) -> int:
    """Let a plan run on ever larger disks that fill up; return how many."""
    folder = tmp_path / "full"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout)
