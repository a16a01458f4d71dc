"""The machine refuses: full disk, read-only home, a locked or damaged store, no output."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.config import HOME_VARIABLE, paths
from mlx_tinyagent.tools.local import snapshot, user_store

Cli = Callable[..., Any]

READ = b'1. get_email_address("Sarah")\n2. join()'
NOTE = b'1. create_note("n", "text", "")\n2. join()'


def small_files(limit: int) -> Callable[[], None]:
    """Return what keeps a child from writing files beyond a size: a disk that is full."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def state() -> Any:
    """Return the rows of the user's store."""
    with user_store(paths()) as store:
        return snapshot(store)


class TestFullDisk:
    """Whatever does not fit: one line, and what was there is still there."""

    @pytest.mark.parametrize("limit", [0, 512, 4096, 20_000])
    def test_a_fresh_store(self, program: Cli, limit: int) -> None:
        """It cannot be made; the next run starts afresh."""
        done = program("run", "-", "--yes", stdin=NOTE, preexec_fn=small_files(limit))

        assert (done.code, done.out) == (1, "")
        assert "store.sqlite" in done.line
        assert program("run", "-", "--yes", stdin=NOTE).code == 0

    def test_a_store_that_is_in_use(self, program: Cli, world: Path) -> None:
        """A change that does not fit is no change."""
        before = state()

        done = program("run", "-", "--yes", stdin=NOTE, preexec_fn=small_files(0))

        assert done.code in (1, 5)
        assert "Traceback" not in done.err
        assert "store.sqlite" in done.out + done.err
        assert state() == before

    def test_batch_output(self, program: Cli, tmp_path: Path) -> None:
        """Rows so far are kept, the target is not touched, and the run can go on."""
        source, target = tmp_path / "q.jsonl", tmp_path / "r.jsonl"
        rows = [json.dumps({"id": n, "query": "call mom"}) for n in range(40)]
        source.write_text("\n".join(rows) + "\n")
        target.write_text("old\n")

        done = program(
            "retrieve", "--input", str(source), "--output", str(target),
            preexec_fn=small_files(5000),
        )  # fmt: skip

        assert (done.code, done.out) == (1, "")
        assert done.err.splitlines()[-1].startswith(f"mlx-tinyagent: cannot write {target}.part")
        assert "Traceback" not in done.err
        assert target.read_text() == "old\n"
        assert program("retrieve", "--input", str(source), "--output", str(target)).code == 0
        assert [json.loads(line)["id"] for line in target.read_text().splitlines()] == [*range(40)]

    def test_demo_data(self, program: Cli) -> None:
        """The world is there or it is not."""
        done = program("demo-data", preexec_fn=small_files(2000))

        assert (done.code, done.out) == (1, "")
        assert "cannot" in done.line
        assert program("demo-data").code == 0

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
    @pytest.mark.parametrize("options", [[], ["--json"]])
    def test_standard_output(self, world: Path, options: list[str]) -> None:
        """An answer that cannot be written is an error, not a silence."""
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [sys.executable, "-m", "mlx_tinyagent", "run", "-", *options],
                input=READ,
                stdout=full,
                stderr=subprocess.PIPE,
                check=False,
            )

        assert done.returncode == 1
        assert done.stderr == (
            b"mlx-tinyagent: the answer could not be written: No space left on device\n"
        )


def test_a_reader_that_is_gone(world: Path) -> None:
    """``mlx-tinyagent ... | head`` ends quietly."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mlx_tinyagent", "tools", "list", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()

    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 1


_DROP_FROM_BOUNDING_SET, _WRITE_ANYWHERE = 24, 1  # prctl(2), capabilities(7)


def obey_permissions() -> None:
    """Take the right to write everywhere from a child of root; others never had it."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(_DROP_FROM_BOUNDING_SET, _WRITE_ANYWHERE, 0, 0, 0)


class TestReadOnlyHome:
    """Folders that may not be written: the path, and what would do."""

    @pytest.fixture
    def locked_home(self, tmp_path: Path) -> str:
        """A home that exists and may not be written."""
        home = tmp_path / "locked"
        home.mkdir()
        home.chmod(0o555)
        tried = subprocess.run(
            ["touch", home / "file"],
            preexec_fn=obey_permissions,
            capture_output=True,
            check=False,
        )
        if tried.returncode == 0:
            pytest.skip("this user may write everywhere and cannot give that up")
        return str(home)

    @pytest.mark.parametrize(
        "command", [("run", "-", "--yes"), ("demo-data",), ("models", "pull")], ids=" ".join
    )
    def test_it_is_named(self, program: Cli, locked_home: str, command: tuple[str, ...]) -> None:
        """Exit code 1, one line."""
        done = program(
            *command, stdin=NOTE, env={HOME_VARIABLE: locked_home}, preexec_fn=obey_permissions
        )

        assert (done.code, done.out) == (1, "")
        assert "Traceback" not in done.err
        last = done.err.splitlines()[-1]
        assert locked_home in last
        assert "permission denied" in last.lower()

    def test_doctor_says_so_and_goes_on(self, program: Cli, locked_home: str) -> None:
        """What is wrong is what it is for."""
        done = program("doctor", env={HOME_VARIABLE: locked_home}, preexec_fn=obey_permissions)

        assert done.code == 0
        assert "unusable" in done.out
        assert "permission denied" in done.out.lower()


class TestStore:
    """A store that another process holds, or that is none."""

    def test_locked_by_another_process(
        self, cli: Cli, world: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a wait, one line that says so; afterwards all is as it was."""
        from mlx_tinyagent.tools import local

        real = local.user_store
        monkeypatch.setattr(local, "user_store", lambda places: real(places, timeout_s=0.05))
        before = state()
        holder = sqlite3.connect(world)
        holder.execute("BEGIN EXCLUSIVE")

        done = cli("run", "-", "--yes", stdin=NOTE)
        holder.rollback()
        holder.close()

        assert done.code in (1, 5)
        assert "locked by another process" in done.out + done.err
        assert (done.out + done.err).count("\n") <= 2
        assert state() == before
        assert cli("run", "-", "--yes", stdin=NOTE).code == 0

    @pytest.mark.parametrize("content", [b"x" * 50, b"not a database at all " * 50])
    def test_damaged(self, cli: Cli, world: Path, content: bytes) -> None:
        """It is left alone."""
        world.write_bytes(content)

        done = cli("run", "-", "--yes", stdin=NOTE)

        assert (done.code, done.out) == (1, "")
        assert "is not a database" in done.line
        assert world.read_bytes() == content

    def test_a_store_of_ones_own_is_not_replaced(self, cli: Cli, user_home: Path) -> None:
        """Demo data does not overwrite what somebody wrote."""
        assert cli("run", "-", "--yes", stdin=NOTE).code == 0
        before = state()

        done = cli("demo-data")

        assert (done.code, done.out) == (1, "")
        assert "--force" in done.line
        assert state() == before


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_costs_a_warning(
    cli: Cli, tiny_model: Path, user_home: Path
) -> None:
    """A request needs no cache; the warning says what is not kept."""
    paths().cache.mkdir(parents=True)
    (paths().cache / "kv").write_text("in the way")

    done = cli("ask", "text mom that I am late", "--model", tiny_model, "--dry-run")

    assert done.code in (0, 4)  # random weights may never come to an end
    assert "Traceback" not in done.err
    assert "warning: " in done.err
    assert "internal error" not in done.err
