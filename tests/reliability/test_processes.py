"""G15: eight processes act on one store while some are killed; nothing is lost or done twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Forks the workers, kills one at a random moment for every few plans that were acknowledged and
# puts another in its place, which does the rest of its work. Then finds out about the cut-off runs
# as ``resume`` does, and holds the store against the journal and against what was acknowledged.
#   +NAME plan acknowledged   ?NAME its undo begins   -NAME its undo acknowledged   !TEXT a failure
WORKERS = """
import os, random, select, signal, sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from mlx_tinyagent.act import recovery
from mlx_tinyagent.act.executor import Callbacks, run
from mlx_tinyagent.act.journal import Journal, at_work
from mlx_tinyagent.errors import ToolError
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import LocalBackend, Store, load_world
from mlx_tinyagent.tools.writer import PlainWriter

path, workers, plans = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
YES = Callbacks(approve=lambda shown: True)
NOW = datetime(2026, 3, 2, 9, 0)

def act(worker, life, done, pipe):
    rng = random.Random(worker * 1000 + life)
    tell = lambda mark, text: os.write(pipe, f"{worker} {life} {mark}{text}\\n".encode())
    try:
        with Store.open(path) as store:
            journal, local = Journal(store), LocalBackend(store)
            host = Host(backend=local, writer=PlainWriter(), request="", now=NOW)
            for number in range(done, plans):
                name = f"w{worker}-{life}-{number}"
                third = rng.choice((
                    f'append_note_content("Log", "{name}")',
                    f'create_reminder("{name}", "tomorrow", "", "List {number}")',
                    f'create_calendar_event("{name}", "friday at 3", "", "", ["Sarah"])',
                ))
                text = (f'1. create_note("{name}", "{name * 50}", "Folder {number}")\\n'
                        f'2. send_sms(["Sarah"], "{name}")\\n3. {third}\\n4. join()')
                plan = parse(text, TINYAGENT16)
                results = run(plan, TINYAGENT16, host, YES, journal=journal)
                bad = [repr(r.result) for r in results if r.result.status != "ok"]
                tell("!" if bad else "+", "; ".join(bad) or name)
                if rng.random() < 0.2:
                    mine = [r for r in journal.runs() if name in str(r.details["calls"])][-1]
                    tell("?", name)
                    try:
                        recovery.undo(journal, local, recovery.choose_undo(journal, str(mine.run)))
                        tell("-", name)
                    except ToolError as refused:  # others have added to the log since
                        if "not undone" not in str(refused):
                            raise
        tell(".", "")
    except BaseException as error:
        tell("!", f"{type(error).__name__}: {error}".replace("\\n", " "))
    os._exit(0)

def start(worker, life, done):
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        act(worker, life, done, write)
    return pid

def opened():
    pid = os.fork()
    if pid == 0:
        Store.open(path, timeout_s=60).close()
        os._exit(0)
    return pid

# All of them open a file that is not there yet.
assert not any(os.waitpid(pid, 0)[1] for pid in [opened() for _ in range(workers)])
with Store.open(path) as store:
    load_world(store)
    store.insert("notes", {"folder_id": 1, "name": "Log", "body": ""})

read, write = os.pipe()  # one line is less than PIPE_BUF: lines do not mix
children = {worker: start(worker, 0, 0) for worker in range(workers)}
lives, done, marks = Counter(), Counter(), {}
kills, failures, text, rng = 0, [], b"", random.Random(15)
ended, since = set(), 0  # workers that are done; plans since the last kill
while len(ended) < workers:
    text += os.read(read, 65536)
    *lines, text = text.split(b"\\n")
    for line in lines:
        worker, life, said = line.decode().split(" ", 2)
        worker, mark, name = int(worker), said[0], said[1:]
        if mark == "+":
            done[worker] += 1
            since += 1
        if mark == "!":
            failures.append(name)
        if mark in ".!":
            ended |= {worker} if int(life) == lives[worker] else set()
        else:
            marks[name] = mark
    alive = [w for w in children if w not in ended]
    if since >= 4 and alive and not failures:
        since, worker = 0, rng.choice(alive)
        select.select([read], [], [], rng.random() * 0.05)
        os.kill(children[worker], signal.SIGKILL)
        os.waitpid(children[worker], 0)
        kills += 1
        lives[worker] += 1
        children[worker] = start(worker, lives[worker], done[worker])

for pid in children.values():
    os.waitpid(pid, 0)
assert not failures, failures

with Store.open(path) as store:
    journal, local = Journal(store), LocalBackend(store)
    lock = at_work(store, alone=True)
    cut = recovery.unfinished(journal.runs())
    for run_ in cut:
        known = recovery.reconcile(journal, local, run_)
        journal.append("end", run=known.run)
    lock.close()
    entries = journal.verify()
    runs = journal.runs()
    assert not recovery.unfinished(runs)
    expected = Counter()
    actions = 0
    for found in runs:
        for step in found.steps.values():
            assert step.status in ("ok", "failed"), step
            assert len(step.effects) == (step.status == "ok")
            actions += step.status == "ok"
            expected[step.tool] += step.status == "ok" and not step.undone
    def column(sql):
        return [next(iter(row.values())) for row in store.rows(sql)]
    rows = {
        "create_note": column("SELECT name FROM notes WHERE name GLOB 'w[0-9]-*'"),
        "send_sms": column("SELECT text FROM outbox_messages"),
        "append_note_content": column("SELECT body FROM notes WHERE name = 'Log'")[0].split(),
        "create_reminder": column("SELECT name FROM reminders WHERE name GLOB 'w[0-9]-*'"),
        "create_calendar_event": column("SELECT title FROM events WHERE title GLOB 'w[0-9]-*'"),
    }
    counts = {tool: len(names) for tool, names in rows.items()}
    assert counts == {tool: expected[tool] for tool in rows}, (counts, expected)
    third = [*rows["append_note_content"], *rows["create_reminder"], *rows["create_calendar_event"]]
    places = (rows["create_note"], rows["send_sms"], third)
    lost = [n for n, mark in marks.items() if mark == "+" and any(n not in p for p in places)]
    back = [n for n, mark in marks.items() if mark == "-" and any(n in p for p in places)]
    double = [n for place in places for n, count in Counter(place).items() if count > 1]
    folders = column("SELECT name FROM note_folders")
    double += [n for n, count in Counter(folders).items() if count > 1]
    torn = column("SELECT name FROM notes WHERE name GLOB 'w[0-9]-*' AND body != replace("
                  "hex(zeroblob(25)), '0', name)")
    assert store.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
took_back = sum(mark == "-" for mark in marks.values())
print(actions, kills, len(cut), took_back, len(lost) + len(back), len(double), len(torn), entries)
"""


@pytest.mark.timeout(1800)
def test_many_processes_on_one_store(
    tmp_path: Path, cases: Callable[[str, int], int], figure: Callable[[str, str], None]
) -> None:
    """Eight act, append to the same note, undo, and die; the store equals the journal.

    All of them open the file before it exists. Nobody is told of a lock.
    """
    workers, wanted = 8, cases("G15", 100)

    done = subprocess.run(
        [
            sys.executable,
            "-c",
            WORKERS,
            str(tmp_path / "s.sqlite"),
            str(workers),
            str(-(-wanted // 24)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    actions, kills, cut, undone, lost, double, torn, entries = map(int, done.stdout.split())
    assert (lost, double, torn) == (0, 0, 0)
    assert actions >= wanted
    assert kills > 0
    figure(
        "G15",
        f"{workers} processes, {actions:,} actions, {kills} SIGKILLs, {cut} runs cut off, {undone} "
        f"undone: {lost} lost, {double} double, {torn} torn, 0 told of a lock; {entries:,} entries",
    )
