"""``log``, ``undo``, ``resume`` and ``store``: what was done, taken back, taken along, erased."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.act.journal import Journal
from mlx_tinyagent.config import paths
from mlx_tinyagent.plan.graph import as_calls, parse
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import content_hash, user_store

Cli = Callable[..., Any]
TWO = b'1. create_note("n", "text", "New")\n2. send_sms(["Sarah"], "hi")\n3. join()'


def state() -> str:
    """Return the hash of the user's store."""
    with user_store(paths()) as store:
        return content_hash(store)


class TestLog:
    """What is shown, and what is found out."""

    def test_runs_and_steps_have_the_numbers_that_undo_takes(self, cli: Cli, world: Path) -> None:
        """One line each."""
        cli("run", "-", "--yes", stdin=TWO)

        lines = cli("log").out.splitlines()

        assert lines[0].split()[0] == "1"
        assert " done  " in lines[0]
        assert lines[1].split()[:2] == ["1.1", "done:"]
        assert "Saved the note 'n'" in lines[1]

    def test_json_is_one_document(self, cli: Cli, world: Path) -> None:
        """With the digest of what was shown and each step's key."""
        cli("run", "-", "--yes", stdin=TWO)

        document = json.loads(cli("log", "--json", "--verify").out)

        assert document["verified"] == 6
        (run,) = document["runs"]
        assert len(run["shown"]) == 64
        assert [step["id"] for step in run["steps"]] == ["1.1", "1.2"]

    def test_a_changed_entry_fails_the_check(self, cli: Cli, world: Path) -> None:
        """One line, exit code 1, the entry's number."""
        cli("run", "-", "--yes", stdin=TWO)
        assert cli("log", "--verify").out == "6 entries, none changed\n"
        with sqlite3.connect(world) as connection:
            connection.execute("DROP TRIGGER journal_is_not_changed")
            connection.execute("UPDATE journal SET summary = 'x' WHERE seq = 4")
        connection.close()

        done = cli("log", "--verify")

        assert (done.code, done.out) == (1, "")
        assert "entry 4 is not what was written" in done.line


class TestUndo:
    """Taking back at the command line."""

    def test_it_takes_back_the_last_run_and_then_nothing(self, cli: Cli, world: Path) -> None:
        """The store is as before."""
        before = state()
        cli("run", "-", "--yes", stdin=TWO)

        done = cli("undo", "--yes")

        assert (done.code, done.out) == (0, "Undone: 2 of 2 steps.\n")
        assert state() == before
        assert cli("undo", "--yes").out == "Nothing to undo.\n"
        assert cli("undo", "1", "--yes").out == "Nothing to undo.\n"

    def test_without_a_terminal_it_needs_yes(self, cli: Cli, world: Path) -> None:
        """And changes nothing."""
        cli("run", "-", "--yes", stdin=TWO)
        before = state()

        done = cli("undo")

        assert done.code == 3
        assert "no terminal" in done.line
        assert state() == before

    def test_one_step_and_an_unknown_one(self, cli: Cli, world: Path) -> None:
        """By number."""
        cli("run", "-", "--yes", stdin=TWO)

        assert cli("undo", "1.2", "--yes").out == "Undone: 1 of 1 steps.\n"
        done = cli("undo", "7", "--yes")
        assert done.code == 1
        assert "no 7 in the journal" in done.line

    def test_what_was_changed_since_stays(self, cli: Cli, world: Path) -> None:
        """Exit code 5 and the reason."""
        cli("run", "-", "--yes", stdin=TWO)
        with user_store(paths()) as store:
            store.rows("UPDATE notes SET body = 'mine' WHERE name = 'n'")

        done = cli("undo", "--yes")

        assert done.code == 5
        assert "changed since" in done.line


class TestResume:
    """After a crash."""

    @pytest.fixture
    def cut(self, world: Path) -> None:
        """A run that was approved, and died before its first effect."""
        plan = parse(TWO.decode(), TINYAGENT16)
        with user_store(paths()) as store:
            journal = Journal(store)
            details = {"calls": as_calls(plan), "now": "2026-03-02T09:00:00", "request": "do"}
            first = journal.append("plan", summary="do", details={**details, "nonce": "n"})
            for step in plan.steps:
                journal.append(
                    "intent",
                    run=first.run,
                    step=step.id,
                    key=f"k{step.id}",
                    details={"tool": step.tool, "staged": True},
                )

    def test_nothing_was_cut_off(self, cli: Cli, world: Path) -> None:
        """It says so."""
        assert cli("resume").out == "No run was cut off.\n"

    def test_it_goes_on_with_what_is_left(self, cli: Cli, cut: None) -> None:
        """Once: afterwards nothing is left."""
        done = cli("resume", "--yes")

        assert done.code == 0
        assert "was cut off before it changed anything" in done.out
        assert "Saved the note 'n'" in done.out
        assert cli("resume").out == "No run was cut off.\n"
        with user_store(paths()) as store:
            assert len(store.rows("SELECT 1 FROM notes WHERE name = 'n'")) == 1

    def test_without_a_yes_it_waits(self, cli: Cli, cut: None) -> None:
        """Nothing happens, and the run can still be resumed."""
        before = state()

        assert cli("resume").code == 3

        assert state() == before
        assert cli("resume", "--yes").code == 0

    def test_discarding_ends_it(self, cli: Cli, cut: None) -> None:
        """Without doing anything."""
        before = state()

        assert cli("resume", "--discard").code == 0

        assert state() == before
        assert cli("resume").out == "No run was cut off.\n"


class TestStore:
    """All of it, in one file or gone."""

    def test_export_has_everything_and_is_private(
        self, cli: Cli, world: Path, tmp_path: Path
    ) -> None:
        """Rows and journal."""
        cli("run", "-", "--yes", stdin=TWO)
        out = tmp_path / "all.json"

        assert cli("store", "export", out).code == 0

        document = json.loads(out.read_text())
        assert out.stat().st_mode & 0o777 == 0o600
        assert any(note["name"] == "n" for note in document["tables"]["notes"])
        assert len(document["journal"]) == 6
        assert json.loads(cli("store", "export", "-").out) == document

    def test_erase_leaves_nothing(self, cli: Cli, world: Path) -> None:
        """No file of the store, no history, no word of what was in them."""
        cli("run", "-", "--yes", stdin=TWO)
        (paths().data / "history").write_text("what I asked")
        (paths().data / "chats").mkdir()

        assert cli("store", "erase").code == 3
        assert cli("store", "erase", "--yes").code == 0

        assert list(paths().data.iterdir()) == []
        assert cli("store", "erase", "--yes").out == "There is nothing to erase.\n"


def test_yes_does_not_cover_what_needs_a_look(cli: Cli, world: Path) -> None:
    """Six recipients: one line that says why, exit code 3, nothing changed."""
    before = state()
    six = ", ".join(f'"a{n}@x.example"' for n in range(6))

    done = cli("run", "-", "--yes", stdin=f"1. compose_new_email([{six}])\n2. join()".encode())

    assert (done.code, done.out) == (3, "")
    assert "6 recipients" in done.line
    assert state() == before


def test_a_rule_denies(cli: Cli, world: Path) -> None:
    """Whatever --yes says."""
    paths().config.mkdir(parents=True)
    (paths().config / "config.toml").write_text('[[rules]]\nverdict = "deny"\ntool = "send_*"\n')

    done = cli("run", "-", "--yes", stdin=TWO)

    assert done.code == 3
    assert "a rule denies send sms" in done.line
