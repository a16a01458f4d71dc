"""The store as a file: migrations, permissions, locks, refusals, search."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_tinyagent.config import Paths
from mlx_tinyagent.errors import StoreError
from mlx_tinyagent.tools.local import LocalBackend, Store, content_hash, memory_world, user_store
from mlx_tinyagent.tools.local.migrate import Migration, migrate, packaged, statements


def python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def one_line(error: pytest.ExceptionInfo[StoreError], path: Path) -> str:
    """Check that a message is one line that names the path, and return it."""
    text = str(error.value)
    assert "\n" not in text
    assert str(path) in text
    return text


# Kills a fresh process at each statement of the migrations that a file still lacks, and
# checks that the file then has the old schema or the new one and opens without loss.
KILL = """
import os, shutil, signal, sqlite3, sys
from pathlib import Path
from mlx_tinyagent.tools.local import migrate as m

start, folder, second = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
steps = list(m.packaged())
if second:
    steps.append(m.Migration(version=steps[-1].version + 1, sql=second))
real = m.statements

def schema(path):
    with sqlite3.connect(path) as c:
        version = c.execute("PRAGMA user_version").fetchone()[0]
        names = sorted(r[0] for r in c.execute("SELECT name FROM sqlite_schema"))
        assert c.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    c.close()
    return version, names

def connect(path):
    c = sqlite3.connect(path, isolation_level=None)
    c.execute("PRAGMA journal_mode = WAL")
    c.execute("PRAGMA synchronous = OFF")  # a killed process is not a lost disk
    return c

whole = [schema(start)]  # what may be left: the schema of some version, never half of one
finished = folder / "finished.sqlite"
shutil.copy(start, finished)
for count in range(whole[0][0], len(steps)):
    c = connect(finished); m.migrate(c, where="x", steps=steps[: count + 1]); c.close()
    whole += [schema(finished)]
old, new = whole[0], whole[-1]
total = sum(1 for s in steps if s.version > old[0] for _ in real(s.sql))
for kill_at in range(total + 1):
    path = folder / f"{kill_at}.sqlite"
    shutil.copy(start, path)
    pid = os.fork()
    if pid == 0:
        seen = 0
        def dying(sql):
            global seen
            for statement in real(sql):
                yield statement
                seen += 1
                if seen > kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
        m.statements = dying
        m.migrate(connect(path), where="x", steps=steps)
        os._exit(0)
    os.waitpid(pid, 0)
    assert schema(path) in whole, (kill_at, schema(path))
    c = connect(path); m.migrate(c, where="x", steps=steps); c.close()
    assert schema(path) == new, kill_at
    for name in path, Path(f"{path}-wal"), Path(f"{path}-shm"):
        name.unlink(missing_ok=True)
print(total)
"""


@pytest.mark.parametrize(
    "second",
    [
        pytest.param("", marks=pytest.mark.slow),
        "ALTER TABLE notes ADD COLUMN pinned INTEGER;\nCREATE TABLE x (a);",
    ],
    ids=["empty", "between-versions"],
)
def test_a_migration_killed_anywhere_leaves_old_or_new(tmp_path: Path, second: str) -> None:
    """SIGKILL after each statement, on an empty file and between two versions with data."""
    start = tmp_path / "start.sqlite"
    if second:
        with Store.open(start) as store:
            store.insert("notes", {"folder_id": 1, "name": "kept", "body": ""})
    else:
        start.touch()
    work = tmp_path / "work"
    work.mkdir()
    done = python(KILL, start, work, second)
    assert done.returncode == 0, done.stderr
    expected = 2 if second else sum(1 for step in packaged() for _ in statements(step.sql))
    assert int(done.stdout) == expected


def test_a_failing_migration_leaves_the_old_version(tmp_path: Path) -> None:
    """A statement that fails undoes its whole step."""
    connection = sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)
    migrate(connection, where="a")
    newest = len(packaged())
    bad = Migration(version=newest + 1, sql="CREATE TABLE extra (a);\nCREATE TABLE extra (a);")
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, where="a", steps=[*packaged(), bad])
    assert connection.execute("PRAGMA user_version").fetchone() == (newest,)
    names = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'extra'")
    assert names.fetchone() == (0,)
    connection.close()


def test_the_script_is_split_at_its_statements() -> None:
    """Semicolons in comments and triggers do not end a statement."""
    sql = "-- a; b\nCREATE TABLE t (a, -- c; d\n b);\n\nCREATE TRIGGER g AFTER INSERT ON t BEGIN\n"
    sql += " SELECT 1;\nEND;\nSELECT 2"
    heads = [statement.split()[:2] for statement in statements(sql)]
    assert heads == [["CREATE", "TABLE"], ["CREATE", "TRIGGER"], ["SELECT", "2"]]


def test_settings_of_the_connection(tmp_path: Path) -> None:
    """Every commit reaches the disk, foreign keys hold, tables are strict."""
    with Store.open(tmp_path / "s.sqlite") as store:
        for pragma, value in {
            "journal_mode": "wal",
            "synchronous": 2,
            "foreign_keys": 1,
            "fullfsync": 1,
        }.items():
            assert store.rows(f"PRAGMA {pragma}")[0][pragma] == value
        with pytest.raises(sqlite3.IntegrityError):
            store.insert("notes", {"folder_id": 99, "name": "a"})
        with pytest.raises(sqlite3.IntegrityError):
            store.insert("mails", {"id": "x"})


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    """File and companions are 0600, the data folder 0700, whatever they and the umask were."""
    paths = Paths(config=tmp_path / "c", data=tmp_path / "d", cache=tmp_path / "x")
    paths.data.mkdir(mode=0o755)
    (paths.data / "store.sqlite").touch(mode=0o644)
    previous = os.umask(0)
    try:
        with user_store(paths) as store:
            store.set_setting("a", "b")
            modes = {p.name: p.stat().st_mode & 0o777 for p in paths.data.iterdir()}
        with Store.open(tmp_path / "new" / "s.sqlite"):
            assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(previous)
    assert paths.data.stat().st_mode & 0o777 == 0o700
    assert len(modes) == 3
    assert set(modes.values()) == {0o600}


def test_content_survives_closing(tmp_path: Path) -> None:
    """What was written is there after opening again."""
    with Store.open(tmp_path / "s.sqlite") as store:
        LocalBackend(store).create_note(name="A", body="B", folder="C")
        before = content_hash(store)
    with Store.open(tmp_path / "s.sqlite") as store:
        assert content_hash(store) == before


def test_a_lock_held_elsewhere_is_one_line_after_the_timeout(tmp_path: Path) -> None:
    """Writing waits for the timeout, then says who is in the way; nothing is changed."""
    path = tmp_path / "s.sqlite"
    with Store.open(path) as other, Store.open(path, timeout_s=0.05) as store:
        before = content_hash(store)
        with other.transaction(), pytest.raises(StoreError) as error:
            LocalBackend(store).create_note(name="A", body="", folder="")
        assert "locked by another process" in one_line(error, path)
        assert content_hash(store) == before
        LocalBackend(store).create_note(name="A", body="", folder="")


@pytest.mark.parametrize(
    "content", [b"not a database, but longer than a header" * 40, b"\0" * 4096, b"x"]
)
def test_a_file_that_is_no_store_is_one_line(tmp_path: Path, content: bytes) -> None:
    """Garbage is named with what would do, and left as it was."""
    path = tmp_path / "s.sqlite"
    path.write_bytes(content)
    with pytest.raises(StoreError) as error:
        Store.open(path)
    assert "move it away" in one_line(error, path)
    assert path.read_bytes() == content


def test_damage_inside_is_one_line(tmp_path: Path) -> None:
    """A store whose pages were overwritten is reported as damaged when they are read."""
    path = tmp_path / "s.sqlite"
    with Store.open(path) as store:
        for number in range(200):
            LocalBackend(store).create_note(name=f"n{number}", body="x" * 500, folder="")
    content = bytearray(path.read_bytes())
    for at in range(4096 * 4, len(content), 4096):
        content[at : at + 200] = b"\xff" * 200
    path.write_bytes(content)
    with pytest.raises(StoreError) as error, Store.open(path) as store:
        content_hash(store)
    assert "damaged" in one_line(error, path)


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    """A database that is not ours is left alone."""
    path = tmp_path / "s.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    with pytest.raises(StoreError) as error:
        Store.open(path)
    assert "another program" in one_line(error, path)


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    """A store of a later version is not touched."""
    path = tmp_path / "s.sqlite"
    with Store.open(path) as store:
        store.rows("PRAGMA user_version = 999")
    with pytest.raises(StoreError) as error:
        Store.open(path)
    assert "999" in one_line(error, path)


def test_a_folder_in_the_way_is_one_line(tmp_path: Path) -> None:
    """A path that is a folder, or goes through a file, is named."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "s.sqlite"):
        with pytest.raises(StoreError) as error:
            Store.open(path)
        assert str(tmp_path) in str(error.value)


READ_ONLY = """
import os, sys
from pathlib import Path
from mlx_tinyagent.errors import StoreError
from mlx_tinyagent.tools.local import Store
path = Path(sys.argv[1])
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
try:
    Store.open(path)
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["s.sqlite", "new.sqlite", "folder/new.sqlite"])
def test_a_read_only_home_is_one_line(tmp_path: Path, name: str) -> None:
    """Without the right to write, opening an old or new store names the path and what to do."""
    home = tmp_path / "home"
    with Store.open(home / "s.sqlite"):
        pass
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to("/tmp") and os.getuid() == 0 and folder != Path("/tmp"):
            folder.chmod(0o755)
    (home / "s.sqlite").chmod(0o444)
    home.chmod(0o555)
    try:
        done = python(READ_ONLY, home / name)
    finally:
        home.chmod(0o755)
    (line,) = done.stdout.splitlines()
    assert str(home) in line
    assert "permission denied" in line
    assert not done.stderr


FULL = """
import resource, sys
from pathlib import Path
from mlx_tinyagent.errors import StoreError
from mlx_tinyagent.tools.local import LocalBackend, Store, content_hash
with Store.open(Path(sys.argv[1])) as store:
    store.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    limit = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    done = 0
    try:
        for number in range(1000):
            LocalBackend(store).create_note(name=str(number), body="x" * 3000, folder="New")
            done += 1
    except StoreError as error:
        print(error)
    print(done, len(store.rows("SELECT 1 FROM notes")))
"""


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    """When files may not grow, the first refused note is undone and the earlier ones stay."""
    path = tmp_path / "s.sqlite"
    with Store.open(path):
        pass
    done = python(FULL, path, 400_000)
    message, counts = done.stdout.splitlines()
    acknowledged, stored = map(int, counts.split())
    assert str(path) in message
    assert "disk" in message
    assert acknowledged == stored > 0
    with Store.open(path) as store:
        assert len(store.rows("SELECT 1 FROM notes")) == acknowledged
        assert store.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]


def test_a_full_database_undoes_the_transaction(tmp_path: Path) -> None:
    """SQLite ends the transaction itself when it is full; the store stays usable."""
    with Store.open(tmp_path / "s.sqlite") as store:
        pages = store.rows("PRAGMA page_count")[0]["page_count"]
        store.rows(f"PRAGMA max_page_count = {pages + 2}")
        before = content_hash(store)
        with pytest.raises(StoreError, match="disk is full"):
            LocalBackend(store).create_note(name="A", body="x" * 100_000, folder="New")
        assert content_hash(store) == before
        LocalBackend(store).create_note(name="A", body="small", folder="")


def test_reading_a_read_only_store_and_writing_is_one_line(store: Store) -> None:
    """A write that SQLite refuses is one line."""
    store.rows("PRAGMA query_only = 1")
    with pytest.raises(StoreError, match="read-only"):
        LocalBackend(store).create_note(name="A", body="", folder="")


KILLED = """
import sys
from pathlib import Path
from mlx_tinyagent.tools.local import LocalBackend, Store
with Store.open(Path(sys.argv[1])) as store:
    local, number = LocalBackend(store), 0
    while True:
        with store.transaction():  # two effects that belong together, as one change
            local.create_note(name=f"{sys.argv[2]}-{number}", body="x" * 2000, folder="New")
            local.queue_message(recipients=["111", "222"], text=f"{sys.argv[2]}-{number}")
        print(number, flush=True)
        number += 1
"""


@pytest.mark.slow
def test_killed_at_any_moment_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """After SIGKILL every acknowledged change is there whole, at most one more, none torn."""
    path = tmp_path / "s.sqlite"
    for run in range(12):
        arguments = [sys.executable, "-c", KILLED, str(path), str(run)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout
            for _ in range(1 + 3 * run):
                child.stdout.readline()
            child.kill()
            rest = child.stdout.read().splitlines()
        acknowledged = 1 + 3 * run + sum(line.isdigit() for line in rest)
        with Store.open(path) as store:
            mine = (f"{run}-%",)
            notes = store.rows("SELECT name FROM notes WHERE name LIKE ? ORDER BY id", mine)
            texts = store.rows("SELECT id, text FROM outbox_messages WHERE text LIKE ?", mine)
            assert acknowledged <= len(notes) <= acknowledged + 1
            assert [n["name"] for n in notes] == [t["text"] for t in texts]
            recipients = store.rows("SELECT count(*) AS n FROM outbox_recipients")[0]["n"]
            every = store.rows("SELECT count(*) AS n FROM outbox_messages")[0]["n"]
            assert recipients == 2 * every
            assert store.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]


WRITER = """
import sys
from pathlib import Path
from mlx_tinyagent.tools.local import LocalBackend, Store
with Store.open(Path(sys.argv[1]), timeout_s=60) as store:
    for number in range(40):
        name = f"{sys.argv[2]}-{number}"
        LocalBackend(store).create_note(name=name, body="", folder=f"F{number}")
"""


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    """Both opened an empty file together; every note is there once, every folder once."""
    path = tmp_path / "s.sqlite"
    arguments = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*arguments, name], stderr=subprocess.PIPE) for name in "ab"]
    errors = [writer.communicate(timeout=120)[1] for writer in writers]
    assert errors == [b"", b""]
    with Store.open(path) as store:
        names = {row["name"] for row in store.rows("SELECT name FROM notes")}
        assert names == {f"{who}-{number}" for who in "ab" for number in range(40)}
        assert len(store.rows("SELECT 1 FROM notes")) == 80
        assert len(store.rows("SELECT 1 FROM note_folders WHERE name LIKE 'F%'")) == 40


def test_two_processes_that_make_the_same_file_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite refuses the switch to WAL at once while another begins to write; opening goes on."""
    path = tmp_path / "s.sqlite"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waited = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if other.in_transaction:
            other.execute("COMMIT")

    monkeypatch.setattr(time, "sleep", wait)
    with Store.open(path, timeout_s=60) as store:
        assert store.rows("PRAGMA journal_mode") == [{"journal_mode": "wal"}]
    other.close()
    assert waited


def test_who_had_to_wait_lets_the_others_try_before_it_writes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that of many busy processes none waits for ever; alone, nobody pauses."""
    path, paused = tmp_path / "s.sqlite", []
    real = time.sleep
    monkeypatch.setattr(time, "sleep", paused.append)
    with Store.open(path) as other, Store.open(path) as store:
        store.set_setting("a", "1")
        with store.transaction():
            store.set_setting("a", "2")
        assert paused == []
        held = threading.Event()

        def hold() -> None:
            with other.transaction():
                held.set()
                while not store._had_to_wait:
                    real(0.001)

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(60)
        with store.transaction():
            store.set_setting("a", "3")
        thread.join()
    assert len(paused) == 1
    assert 0.01 <= paused[0] <= 0.1


def test_threads_share_a_store(store: Store) -> None:
    """Changes from several threads never mix."""

    def write(who: int) -> None:
        for number in range(20):
            LocalBackend(store).create_note(name=f"{who}-{number}", body="", folder=f"F{number}")

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.rows("SELECT 1 FROM note_folders WHERE name LIKE 'F%'")) == 20
    assert len(store.rows("SELECT 1 FROM notes WHERE id > 15")) == 80


@pytest.mark.parametrize("fail", ["inner", "outer", "no"])
def test_transactions_nest(store: Store, fail: str) -> None:
    """An inner block that raises undoes its part; an outer one undoes all."""

    def attempt(block: Callable[[], None]) -> None:
        try:
            block()
        except RuntimeError:
            return

    def inner() -> None:
        with store.transaction():
            store.set_setting("inner", "1")
            if fail == "inner":
                raise RuntimeError

    def outer() -> None:
        with store.transaction():
            store.set_setting("outer", "1")
            attempt(inner)
            if fail == "outer":
                raise RuntimeError

    attempt(outer)
    assert store.setting("inner") == ("1" if fail == "no" else "")
    assert store.setting("outer") == ("" if fail == "outer" else "1")


def test_a_copy_in_memory_is_independent(tmp_path: Path) -> None:
    """A copy of a file equals it, and neither sees the other's changes."""
    with Store.open(tmp_path / "s.sqlite") as store:
        LocalBackend(store).create_note(name="A", body="", folder="")
        copy = store.clone_to_memory()
        start = content_hash(store)
        assert content_hash(copy) == start
        LocalBackend(copy).create_note(name="B", body="", folder="")
        assert content_hash(store) == start
        assert content_hash(copy) != start
        with pytest.raises(sqlite3.IntegrityError):
            copy.insert("notes", {"folder_id": 99, "name": "a"})


@pytest.mark.parametrize(
    ("text", "kinds", "first"),
    [
        ("travel budget", (), ("mail", "Travel budget Sarah Smith")),
        ("eigenval", ("note",), ("note", "Midterm Prep")),
        ("GRANDMA birthday", ("event",), ("event", "Grandma's Birthday")),
        ("deposit rent", ("file",), ("file", "Lease Agreement.pdf")),
        ("maria", ("mail",), ("mail", "Hotel in Lisbon María Fernanda Rojas")),
    ],
)
def test_search_finds_words_and_beginnings(
    store: Store, text: str, kinds: tuple[str, ...], first: tuple[str, str]
) -> None:
    """Notes, mails, events and files are found by their words, accents aside."""
    hit = store.search(text, kinds=kinds)[0]  # type: ignore[arg-type]
    assert (hit.kind, hit.title) == first
    assert store.rows(f"SELECT 1 FROM {hit.kind}s WHERE id = ?", (hit.id,))


@pytest.mark.parametrize(
    "text", ["", '"', "a AND", "NEAR(", "title:x", "* -", "x\0y", "'; DROP TABLE"]
)
def test_search_takes_any_text(store: Store, text: str) -> None:
    """Nothing in the words is query language."""
    assert isinstance(store.search(text), list)


def test_search_follows_changes() -> None:
    """Changed and deleted rows are found as they are now, or not at all."""
    with memory_world() as store:
        store.rows("UPDATE notes SET body = 'zeppelin' WHERE id = 1")
        assert [hit.id for hit in store.search("zeppelin")] == [1]
        store.rows("DELETE FROM notes WHERE id = 1")
        assert store.search("zeppelin") == []
        store.rows("INSERT INTO search (search) VALUES ('integrity-check')")
