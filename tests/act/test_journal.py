"""The journal: in the effect's own transaction, chained, and enough to go on after a crash."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.act import recovery
from mlx_tinyagent.act.executor import Callbacks, StepResult, run
from mlx_tinyagent.act.journal import Journal, LoggedRun, LoggedStep, at_work
from mlx_tinyagent.act.resolve import Prepared, prepare
from mlx_tinyagent.errors import InputError, StoreError, ToolError
from mlx_tinyagent.plan.graph import from_calls, parse
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import Effect, Text, ToolSet, tool
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import LocalBackend, Store, content_hash, snapshot
from mlx_tinyagent.tools.results import Failed, NotFound, Ok, Result, Unknown, Value
from mlx_tinyagent.tools.writer import PlainWriter

YES = Callbacks(approve=lambda shown: True)
NOW = datetime(2026, 3, 2, 9, 0)
TWO = '1. create_note("n", "text", "New")\n2. send_sms(["Sarah"], "hi")\n3. join()'


@pytest.fixture
def journal(store: Store) -> Journal:
    """The journal of world v1."""
    return Journal(store)


def do(host: Host, journal: Journal, text: str = TWO, **options: Any) -> list[StepResult]:
    """Run a plan that is approved."""
    return run(parse(text, TINYAGENT16), TINYAGENT16, host, YES, journal=journal, **options)


class TestEntries:
    """What is written, and when."""

    def test_a_run_is_a_plan_its_intents_its_effects_and_an_end(
        self, host: Host, journal: Journal
    ) -> None:
        """In this order; steps run side by side, so effects come in either."""
        do(host, journal)

        kinds = [(entry.kind, entry.step) for entry in journal.entries()]
        assert kinds[:3] == [("plan", 0), ("intent", 1), ("intent", 2)]
        assert sorted(kinds[3:5]) == [("effect", 1), ("effect", 2)]
        assert kinds[5:] == [("end", 0)]
        assert [run.status for run in journal.runs()] == ["done"]

    def test_reads_and_refusals_write_nothing(self, host: Host, journal: Journal) -> None:
        """There is nothing to take back."""
        do(host, journal, '1. get_email_address("Sarah")\n2. join()')

        assert journal.entries() == []

    def test_keys_differ_between_runs_and_steps(self, host: Host, journal: Journal) -> None:
        """The same plan twice is two sets of effects."""
        do(host, journal)
        do(host, journal)

        keys = [entry.key for entry in journal.entries() if entry.kind == "intent"]
        assert len(set(keys)) == 4
        assert all(len(key) == 32 for key in keys)

    def test_what_was_shown_is_in_the_plan_entry(self, host: Host, journal: Journal) -> None:
        """By its digest."""
        shown: list[str] = []
        callbacks = Callbacks(approve=lambda preview: not shown.append(preview.digest))

        run(parse(TWO, TINYAGENT16), TINYAGENT16, host, callbacks, journal=journal)

        assert journal.entries()[0].details["shown"] == shown[0]

    @pytest.mark.parametrize(
        ("text", "kept"),
        [
            ("x" * 200, "x" * 200),
            ("x" * 201, "x" * 197 + "..."),
            ("two\n lines\t here", "two lines here"),
        ],
    )
    def test_a_summary_is_one_line_of_200_characters(
        self, journal: Journal, text: str, kept: str
    ) -> None:
        """Of a longer one the end is left out, and dots say so."""
        assert journal.append("plan", summary=text).summary == kept

    def test_a_step_that_is_meant_again_has_begun_unless_it_is_done(self, journal: Journal) -> None:
        """A run that is gone on with writes its intents a second time."""
        run = journal.append("plan", summary="x").run
        for step, status in ((1, "ok"), (2, "failed"), (3, "")):
            about = {"run": run, "step": step, "key": f"k{step}"}
            journal.append("intent", **about, details={"tool": "send_sms"})  # type: ignore[arg-type]
            if status:
                found_out = {"settled": True}
                journal.append("outcome", **about, status=status, details=found_out)  # type: ignore[arg-type]
            journal.append("intent", **about, details={"tool": "send_sms"})  # type: ignore[arg-type]

        (found,) = journal.runs()

        assert [step.status for step in found.steps.values()] == ["ok", "begun", "begun"]
        assert [step.is_open for step in found.steps.values()] == [False, True, True]

    def test_a_failed_step_is_an_outcome(self, host: Host, journal: Journal) -> None:
        """And the run is at its end."""
        do(host, journal, '1. send_sms([], "hi")\n2. create_note("n", "t")\n3. join()')

        (found,) = journal.runs()
        assert {step.status for step in found.steps.values()} == {"failed", "ok"}
        assert found.status == "partly done"

    def test_an_effect_that_cannot_be_journaled_does_not_happen(
        self, host: Host, journal: Journal, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both are one transaction."""
        before = snapshot(store)
        append = journal.append

        def full(kind: str, **values: Any) -> Any:
            if kind == "effect":
                raise StoreError("the disk is full")
            return append(kind, **values)

        monkeypatch.setattr(journal, "append", full)
        results = do(host, journal)

        assert {outcome.result.status for outcome in results} == {"failed"}
        assert snapshot(store) == before

    def test_without_a_journal_nothing_runs(
        self, host: Host, journal: Journal, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If the intent cannot be written, the plan is not begun."""

        def full(*args: object, **values: object) -> Any:
            raise StoreError("the disk is full")

        monkeypatch.setattr(journal, "append", full)
        before = snapshot(store)

        with pytest.raises(StoreError):
            do(host, journal)

        assert snapshot(store) == before

    def test_what_is_said_about_no_known_run_or_step_changes_nothing(
        self, journal: Journal
    ) -> None:
        """Entries of a run that was never begun, or of a step that was never meant."""
        run = journal.append("plan", summary="x").run
        journal.append("end", run=99)
        for kind in ("outcome", "undo", "effect"):
            journal.append(kind, run=run, step=7, status="ok")

        (found,) = journal.runs()

        assert (found.run, found.steps, found.ended) == (run, {}, False)

    def test_an_effect_stands_against_an_outcome_that_knows_nothing(self, journal: Journal) -> None:
        """A step that was given up after its effect was written is done."""
        about = {"run": journal.append("plan", summary="x").run, "step": 1, "key": "k"}
        journal.append("intent", **about, details={"tool": "send_sms"})  # type: ignore[arg-type]
        journal.append("effect", **about, status="ok", summary="did it")  # type: ignore[arg-type]
        journal.append("outcome", **about, status="unknown")  # type: ignore[arg-type]

        (step,) = journal.runs()[0].steps.values()

        assert (step.status, step.summary) == ("ok", "did it")

    def test_an_entry_that_is_no_json_is_named(self, journal: Journal, store: Store) -> None:
        """Damage is one line with the entry's number."""
        journal.append("plan", summary="x")
        store.rows("DROP TRIGGER journal_is_not_changed")
        store.rows("UPDATE journal SET details = '{' WHERE seq = 1")

        with pytest.raises(StoreError, match="entry 1 of the journal is damaged"):
            journal.runs()

    def test_the_effect_of_another_store_is_no_effect_of_this_one(
        self, host: Host, journal: Journal
    ) -> None:
        """Without a common transaction the outcome says it; a step that reads has no action."""
        (step,) = parse('1. create_note("n", "t")\n2. join()', TINYAGENT16).steps
        ready = prepare(step, TINYAGENT16["create_note"], host, {})
        assert isinstance(ready, Prepared)
        log = journal.begin([ready], summary="x", details={})
        action, done = log.action(1), Ok(value=Value(text=""))
        assert action is not None
        assert log.action(2) is None

        with Store.memory() as other:
            action.journal(other, done, [])
        log.outcome(1, done)
        log.outcome(2, done)
        log.end()

        kinds = [(entry.kind, entry.step) for entry in journal.entries()]
        assert kinds == [("plan", 0), ("intent", 1), ("outcome", 1), ("end", 0)]


class TestVerify:
    """An edit anywhere is found."""

    COLUMNS = (
        "at",
        "run",
        "step",
        "kind",
        "status",
        "key",
        "summary",
        "details",
        "previous",
        "hash",
    )

    def force(self, store: Store, sql: str) -> None:
        """Change the journal behind its own back."""
        store.rows("DROP TRIGGER journal_is_not_changed")
        store.rows("DROP TRIGGER journal_is_not_cut")
        store.rows(sql)

    def test_an_untouched_journal_is_whole(self, host: Host, journal: Journal) -> None:
        """It counts its entries."""
        assert journal.verify() == 0
        do(host, journal)
        assert journal.verify() == 6

    @pytest.mark.parametrize("column", COLUMNS)
    @pytest.mark.parametrize("seq", [1, 4, 6])
    def test_a_changed_column_is_named(
        self, host: Host, journal: Journal, store: Store, column: str, seq: int
    ) -> None:
        """Whatever it is; for most, one character is enough."""
        do(host, journal)
        value = {
            "run": "run + 1",
            "step": "step + 1",
            "kind": "CASE kind WHEN 'plan' THEN 'end' ELSE 'plan' END",
        }.get(column, f"{column} || ' '")
        self.force(store, f"UPDATE journal SET {column} = {value} WHERE seq = {seq}")

        with pytest.raises(StoreError, match="tampered"):
            journal.verify()

    @pytest.mark.parametrize("seq", [1, 3, 6])
    def test_a_missing_entry_is_found(
        self, host: Host, journal: Journal, store: Store, seq: int
    ) -> None:
        """The last one as well."""
        do(host, journal)
        self.force(store, f"DELETE FROM journal WHERE seq = {seq}")

        with pytest.raises(StoreError, match="missing"):
            journal.verify()

    @pytest.mark.parametrize("sql", ["UPDATE journal SET summary = ''", "DELETE FROM journal"])
    def test_it_is_append_only(self, host: Host, journal: Journal, store: Store, sql: str) -> None:
        """The database itself refuses."""
        do(host, journal)

        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            store.rows(sql)

    def test_every_flipped_byte_of_an_entry_in_the_file_is_found(self, tmp_path: Path) -> None:
        """All bytes of the stored key, status, words and hash, one at a time."""
        path = tmp_path / "s.sqlite"
        with Store.open(path) as store:
            journal = Journal(store)
            first = journal.append("plan", summary="a summary that stands nowhere else")
            journal.append("end", run=first.run)
        whole = path.read_bytes()
        places = [
            at + offset
            for text in (b"a summary that stands nowhere else", first.hash.encode())
            for at in [whole.find(text)]
            for offset in range(len(text))
        ]
        assert len(places) > 90
        for place in places:
            damaged = bytearray(whole)
            damaged[place] ^= 1
            path.write_bytes(damaged)
            with Store.open(path) as store, pytest.raises(StoreError):
                Journal(store).verify()

    def test_damage_of_the_store_besides_the_journal_is_found(
        self, journal: Journal, store: Store
    ) -> None:
        """With SQLite's own words."""
        journal.append("plan", summary="x")
        store.rows("PRAGMA ignore_check_constraints = ON")
        store.insert("drafts", {"kind": "none", "subject": "", "body": ""})
        store.rows("PRAGMA ignore_check_constraints = OFF")

        with pytest.raises(StoreError, match="CHECK constraint failed in drafts"):
            journal.verify()


class TestUndo:
    """Taking back; the state machine in tests/reliability has the rest."""

    def test_a_run_and_then_nothing(self, host: Host, journal: Journal, store: Store) -> None:
        """The store is as before, and a second time there is nothing to do."""
        before = content_hash(store)
        do(host, journal)
        undoing = recovery.choose_undo(journal, None)
        assert undoing is not None

        assert recovery.undo(journal, host.backend, undoing) == []

        assert content_hash(store) == before
        assert recovery.choose_undo(journal, None) is None
        assert recovery.choose_undo(journal, "1") is None
        assert journal.runs()[0].status == "undone"

    def test_one_step(self, host: Host, journal: Journal, store: Store) -> None:
        """The other one stays."""
        do(host, journal)
        undoing = recovery.choose_undo(journal, "1.1")
        assert undoing is not None

        recovery.undo(journal, host.backend, undoing)

        assert store.rows("SELECT 1 FROM notes WHERE name = 'n'") == []
        assert len(store.rows("SELECT 1 FROM outbox_messages")) == 1

    def test_what_was_changed_since_stays(self, host: Host, journal: Journal, store: Store) -> None:
        """All of it: one step that cannot be undone keeps the others."""
        do(host, journal)
        store.rows("UPDATE notes SET body = 'mine' WHERE name = 'n'")
        before = content_hash(store)
        undoing = recovery.choose_undo(journal, None)
        assert undoing is not None

        with pytest.raises(ToolError, match="has been changed since"):
            recovery.undo(journal, host.backend, undoing)

        assert content_hash(store) == before

    def test_what_is_in_use_stays(self, host: Host, journal: Journal) -> None:
        """A folder that a later note lies in."""
        do(host, journal)
        do(host, journal, '1. create_note("m", "x", "New")\n2. join()')
        undoing = recovery.choose_undo(journal, "1")
        assert undoing is not None

        with pytest.raises(ToolError, match="is in use"):
            recovery.undo(journal, host.backend, undoing)

    @pytest.mark.parametrize("which", ["2", "1.9", "x", "1.x", "-1"])
    def test_an_unknown_number_is_said(self, host: Host, journal: Journal, which: str) -> None:
        """With where to look."""
        do(host, journal)

        with pytest.raises(InputError, match="mlx-tinyagent log"):
            recovery.choose_undo(journal, which)


@dataclass
class Elsewhere:
    """A backend whose effects happen elsewhere: it keeps them by key, and can lose the line."""

    inner: LocalBackend
    kept: dict[str, str] = field(default_factory=dict)
    key: str = ""
    lost: bool = False  # whether the answer to the next effect gets lost
    blind: bool = False  # whether looking back fails
    name: str = "elsewhere"

    def with_key(self, key: str) -> Elsewhere:
        """Return a view that shares what is kept."""
        return replace(self, key=key)

    def create_note(self, *, name: str, body: str, folder: str) -> Result:
        """Keep a note, once per key."""
        self.kept[self.key] = name
        if self.lost:
            return Unknown(reason="the line went dead")
        return Ok(value=Value(text=name), note=f"Kept {name}.", record=f"note:{self.key}")

    def find(self, key: str) -> Result:
        """Look for a note."""
        if self.blind:
            return Failed(reason="no connection")
        if key not in self.kept:
            return NotFound(what="note")
        return Ok(value=Value(text=self.kept[key]), note="Kept.", record=f"note:{key}")

    def undo(self, record: str) -> Result:
        """Forget a note."""
        found = self.kept.pop(record.removeprefix("note:"), None)
        return Ok(value=Value(text="")) if found else NotFound(what="note")

    def __getattr__(self, name: str) -> Any:
        """Read from the store."""
        if name in ("with_action", "store"):
            raise AttributeError(name)
        return getattr(self.inner, name)


class TestElsewhere:
    """Effects outside the store: keys, reading back, taking back."""

    ONE = '1. create_note("n", "text")\n2. join()'

    @pytest.fixture
    def elsewhere(self, store: Store) -> Elsewhere:
        """A backend elsewhere."""
        return Elsewhere(LocalBackend(store))

    @pytest.fixture
    def outside(self, elsewhere: Elsewhere) -> Host:
        """A host on it."""
        return Host(backend=elsewhere, writer=PlainWriter(), request="", now=NOW)  # type: ignore[arg-type]

    def test_the_effect_carries_the_key_of_its_intent(
        self, outside: Host, journal: Journal, elsewhere: Elsewhere
    ) -> None:
        """By which it is taken back."""
        do(outside, journal, self.ONE)
        (intent,) = [entry for entry in journal.entries() if entry.kind == "intent"]
        assert elsewhere.kept == {intent.key: "n"}

        undoing = recovery.choose_undo(journal, None)
        assert undoing is not None
        assert recovery.undo(journal, outside.backend, undoing) == []
        assert elsewhere.kept == {}

    @pytest.mark.parametrize(
        ("record", "reason"),
        [
            (None, "it left nothing that could be taken back"),
            ("note:k", "it can be taken back in Notes alone"),
        ],
    )
    def test_what_cannot_be_taken_back_is_named(
        self,
        outside: Host,
        journal: Journal,
        elsewhere: Elsewhere,
        monkeypatch: pytest.MonkeyPatch,
        record: str | None,
        reason: str,
    ) -> None:
        """And stays as done as it was."""
        done = Ok(value=Value(text="n"), note="Kept n.", record=record)
        monkeypatch.setattr(Elsewhere, "create_note", lambda self, **values: done)
        refused = Failed(reason="it can be taken back in Notes alone")
        monkeypatch.setattr(Elsewhere, "undo", lambda self, record: refused)
        do(outside, journal, self.ONE)
        undoing = recovery.choose_undo(journal, None)
        assert undoing is not None

        assert recovery.undo(journal, outside.backend, undoing) == [f"Kept n.: {reason}"]

        assert [run.status for run in journal.runs()] == ["done"]

    def test_a_lost_answer_is_read_back_and_not_repeated(
        self, outside: Host, journal: Journal, elsewhere: Elsewhere
    ) -> None:
        """The run was cut off for all that is known; afterwards it is done, once."""
        elsewhere.lost = True
        (outcome,) = do(outside, journal, self.ONE)
        assert outcome.result.status == "unknown"
        (cut,) = recovery.unfinished(journal.runs())

        known = recovery.reconcile(journal, outside.backend, cut)

        assert known.status == "done"
        assert recovery.remaining(known) == ()
        assert list(elsewhere.kept.values()) == ["n"]

    def test_what_surely_did_not_happen_may_be_done_again(
        self, outside: Host, journal: Journal, elsewhere: Elsewhere
    ) -> None:
        """By the same plan, with the same key, once."""
        elsewhere.lost = True
        do(outside, journal, self.ONE)
        elsewhere.kept.clear()
        elsewhere.lost = False
        (cut,) = recovery.unfinished(journal.runs())
        known = recovery.reconcile(journal, outside.backend, cut)
        assert len(recovery.remaining(known)) == 1

        plan = from_calls(list(known.details["calls"]), TINYAGENT16)
        results = run(plan, TINYAGENT16, outside, YES, journal=journal, resumed=known)

        assert [outcome.result.status for outcome in results] == ["ok"]
        (intent, again) = [entry for entry in journal.entries() if entry.kind == "intent"]
        assert intent.key == again.key
        assert elsewhere.kept == {intent.key: "n"}
        assert journal.runs()[0].status == "done"

    def test_what_nobody_can_tell_is_not_repeated(
        self, outside: Host, journal: Journal, elsewhere: Elsewhere
    ) -> None:
        """It is said, and the run is over."""
        elsewhere.lost = elsewhere.blind = True
        do(outside, journal, self.ONE)
        (cut,) = recovery.unfinished(journal.runs())

        known = recovery.reconcile(journal, outside.backend, cut)

        assert [step.status for step in known.steps.values()] == ["unknown"]
        assert recovery.remaining(known) == ()
        assert recovery.unfinished(journal.runs()) == []


def test_a_function_that_was_cut_off_is_never_repeated(host: Host, journal: Journal) -> None:
    """What a foreign tool does by itself cannot be read back."""

    @tool(effect=Effect.WRITE)
    def act(name: Text) -> Result:
        """Do something."""
        return Unknown(reason="who knows")

    tools = ToolSet("own", [act])
    run(parse('1. act("x")\n2. join()', tools), tools, host, YES, journal=journal)
    (cut,) = recovery.unfinished(journal.runs())

    known = recovery.reconcile(journal, host.backend, cut)

    assert recovery.remaining(known) == ()


def test_resuming_waits_for_nobody(tmp_path: Path) -> None:
    """While another run is at work, one line says so; its end or death frees the lock."""
    with Store.open(tmp_path / "s.sqlite") as store:
        journal = Journal(store)
        log = journal.begin([], summary="x", details={})

        with pytest.raises(StoreError, match="another run"):
            at_work(store, alone=True)

        log.end()
        lock = at_work(store, alone=True)
        assert lock is not None
        with pytest.raises(StoreError, match="another run"):
            at_work(store)
        with pytest.raises(StoreError, match="another run"):
            journal.begin([], summary="y", details={})
        lock.close()
        first, second = at_work(store), at_work(store)  # runs stand beside each other
        assert first is not None
        assert second is not None
        first.close()
        second.close()


@pytest.fixture
def cut_off(host: Host, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Sequence[Any]:
    """A run of two steps of which the first was done when the process died."""
    real = LocalBackend.queue_message
    monkeypatch.setattr(LocalBackend, "queue_message", lambda self, **values: Unknown(reason="cut"))
    results = do(host, journal)
    monkeypatch.setattr(LocalBackend, "queue_message", real)
    return results


def test_a_run_goes_on_where_it_was_cut_off(
    cut_off: Sequence[Any], host: Host, journal: Journal, store: Store
) -> None:
    """What is done is not done again."""
    (cut,) = recovery.unfinished(journal.runs())
    known = recovery.reconcile(journal, host.backend, cut)
    assert [step.step for step in recovery.remaining(known)] == [2]

    plan = from_calls(list(known.details["calls"]), TINYAGENT16)
    results = run(plan, TINYAGENT16, host, YES, journal=journal, resumed=known)

    assert [outcome.result.status for outcome in results] == ["ok", "ok"]
    assert len(store.rows("SELECT 1 FROM notes WHERE name = 'n'")) == 1
    assert len(store.rows("SELECT 1 FROM outbox_messages")) == 1
    assert journal.runs()[0].status == "done"
    assert journal.verify() > 6


def test_what_nobody_has_told_about_is_neither_ended_nor_undone_nor_staged() -> None:
    """A run and a step as they are before any further entry is read."""
    step = LoggedStep(step=1, tool="write", key="k", status="ok")
    run_ = LoggedRun(run=1, at="", summary="", details={}, steps={1: step})

    assert (step.staged, step.undone, step.settled) == (False, False, False)
    assert run_.status == "unfinished"
