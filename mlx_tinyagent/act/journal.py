"""The journal: what was approved, what was begun, what became of it; append-only and chained.

One run is a ``plan`` entry with an ``intent`` for each step that may change
something, all in one transaction before the first of them starts; then an
``effect`` (written by the store in the effect's own transaction) or an
``outcome`` per step, and an ``end``. A run without an end was cut off.

Each entry's hash covers its content and the hash before it, so that an edit
anywhere is found. Nothing here calls a backend.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import IO, Any

from mlx_tinyagent.act.resolve import Prepared
from mlx_tinyagent.errors import StoreError
from mlx_tinyagent.files import readable_errors
from mlx_tinyagent.tools.backend import Action, Change
from mlx_tinyagent.tools.local.store import Row, Store
from mlx_tinyagent.tools.results import Ok, Origin, Result, Value, explain

SUMMARY_CHARS = 200
LOCK_NAME = "journal.lock"
OPEN_STATES = ("begun", "unknown")  # of a step whose end is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the journal.

    Attributes:
        seq: Its number, from 1 without gaps.
        at: When it was written, UTC.
        run: Number of the run: that of the run's first entry.
        step: Number of the step in its plan; 0 for the run itself.
        kind: ``plan``, ``resume``, ``intent``, ``effect``, ``outcome``, ``end`` or ``undo``.
        status: How it ended, as in a result; empty where nothing ended.
        key: Idempotency key of the step.
        summary: One line for people.
        details: What resuming and undoing need.
        hash: sha256 of the content and of the entry before.
    """

    seq: int
    at: str
    run: int
    step: int
    kind: str
    status: str
    key: str
    summary: str
    details: Mapping[str, Any]
    hash: str


@dataclass(slots=True, kw_only=True)
class LoggedStep:
    """A step that was meant to change something, as the journal has it.

    Attributes:
        step: Number in the plan.
        tool: Tool name.
        key: Idempotency key.
        status: ``begun`` while nothing else is known, else that of its result.
        summary: One line for people.
        result: What it gave; None unless it is done.
        effects: Its effects on the store, in order, and whether each is undone.
        undone: Whether it was taken back.
        staged: Whether all its effects go through the backend.
        settled: Whether it was found out, or found out that it cannot be.
    """

    step: int
    tool: str
    key: str
    status: str = "begun"
    summary: str = ""
    result: Ok | None = None
    effects: list[Entry] = field(default_factory=list)
    undone: bool = False
    staged: bool = False
    settled: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it is still to be found out what became of it."""
        return self.status in OPEN_STATES and not self.settled


@dataclass(slots=True, kw_only=True)
class LoggedRun:
    """A run, as the journal has it.

    Attributes:
        run: Its number.
        at: When it was approved, UTC.
        summary: The request, or what the plan calls.
        details: Of its plan entry.
        steps: Its steps that change something, by number.
        ended: Whether it came to its end.
    """

    run: int
    at: str
    summary: str
    details: Mapping[str, Any]
    steps: dict[int, LoggedStep] = field(default_factory=dict)
    ended: bool = False

    @property
    def status(self) -> str:
        """``unfinished``, ``undone``, ``done``, ``partly done`` or ``not done``."""
        if not self.ended or any(step.is_open for step in self.steps.values()):
            return "unfinished"
        states = {step.status for step in self.steps.values()}
        done = [step for step in self.steps.values() if step.status == "ok"]
        if done and all(step.undone for step in done):
            return "undone"
        if states == {"ok"}:
            return "done"
        return "partly done" if done else "not done"


class Journal:
    """The journal of one store.

    Args:
        store: The store that holds it.
        clock: Gives the time, UTC.
    """

    def __init__(
        self, store: Store, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.store = store
        self._clock = clock

    def begin(
        self, steps: Iterable[Prepared], *, summary: str, details: Mapping[str, Any]
    ) -> RunLog:
        """Write down an approved plan and what it is about to do, before it does.

        Args:
            steps: The steps that will run and may change something.
            summary: One line for people.
            details: What resuming needs: plan, request, moment, digest of what was shown.

        Raises:
            StoreError: It cannot be written; nothing may run then.
        """
        nonce = secrets.token_hex(16)
        lock = at_work(self.store)
        with self.store.transaction():
            first = self.append("plan", summary=summary, details={**details, "nonce": nonce})
            log = RunLog(self, first.run, nonce, lock)
            log.intend(steps)
        return log

    def reopen(self, run: LoggedRun, steps: Iterable[Prepared]) -> RunLog:
        """Go on with a run that was cut off, while nobody else is at work; keys stay.

        Raises:
            StoreError: It cannot be written; nothing may run then.
        """
        with self.store.transaction():
            self.append("resume", run=run.run, summary=run.summary)
            log = RunLog(self, run.run, str(run.details.get("nonce", "")))
            log.intend(steps)
        return log

    def append(
        self,
        kind: str,
        *,
        run: int = 0,
        step: int = 0,
        status: str = "",
        key: str = "",
        summary: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Add an entry; inside a transaction it is part of that.

        Args:
            kind: What it is.
            run: Number of the run; 0 begins a new one.
            step: Number of the step.
            status: How it ended.
            key: Idempotency key.
            summary: One line for people, cut to ``SUMMARY_CHARS``.
            details: Plain data.

        Raises:
            StoreError: It cannot be written.
        """
        with self.store.transaction():
            last = self.store.rows("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1")
            seq = last[0]["seq"] + 1 if last else 1
            row: Row = {
                "seq": seq,
                "at": self._clock().isoformat(timespec="seconds"),
                "run": run or seq,
                "step": step,
                "kind": kind,
                "status": status,
                "key": key,
                "summary": _line(summary),
                "details": json.dumps(details or {}, sort_keys=True),
                "previous": last[0]["hash"] if last else "",
            }
            row["hash"] = chained(row)
            self.store.insert("journal", row)
        return _entry(row)

    def entries(self, *, run: int = 0) -> list[Entry]:
        """Return the entries in order, of one run or all.

        Raises:
            StoreError: The store cannot be read, or an entry is damaged.
        """
        where, values = ("WHERE run = ?", (run,)) if run else ("", ())
        return [
            _entry(row)
            for row in self.store.rows(f"SELECT * FROM journal {where} ORDER BY seq", values)
        ]

    def runs(self) -> list[LoggedRun]:
        """Return all runs in order, as far as the journal knows them.

        Raises:
            StoreError: The store cannot be read, or an entry is damaged.
        """
        runs: dict[int, LoggedRun] = {}
        for entry in self.entries():
            if entry.kind == "plan":
                runs[entry.run] = LoggedRun(
                    run=entry.run, at=entry.at, summary=entry.summary, details=entry.details
                )
            elif entry.run in runs:
                _tell(runs[entry.run], entry)
        return list(runs.values())

    def has_unfinished(self) -> bool:
        """Whether a run has no end: it was cut off, or is at work in another process.

        Raises:
            StoreError: The store cannot be read.
        """
        return bool(
            self.store.rows(
                "SELECT 1 FROM journal AS begun WHERE kind = 'plan' AND NOT EXISTS "
                "(SELECT 1 FROM journal WHERE run = begun.run AND kind = 'end') LIMIT 1"
            )
        )

    def verify(self) -> int:
        """Check every entry against its hash and the one before.

        Returns:
            How many entries there are.

        Raises:
            StoreError: An entry was changed, removed or added by others; it is named.
        """
        with self.store.transaction(write=False):
            found = self.store.rows("SELECT * FROM journal ORDER BY seq")
            counter = self.store.rows("SELECT seq FROM sqlite_sequence WHERE name = 'journal'")
            damage = self.store.rows("PRAGMA integrity_check(1)")
        previous = ""
        for expected, row in enumerate(found, start=1):
            if row["seq"] != expected:
                raise self._broken(f"entry {expected} is missing")
            if row["previous"] != previous or row["hash"] != chained(row):
                raise self._broken(f"entry {expected} is not what was written")
            previous = row["hash"]
        if counter and counter[0]["seq"] != len(found):
            raise self._broken(f"entry {len(found) + 1} is missing")
        if damage != [{"integrity_check": "ok"}]:
            raise self._broken(_line(next(iter(damage[0].values()))))
        return len(found)

    def _broken(self, reason: str) -> StoreError:
        where = self.store.path or "the store in memory"
        return StoreError(f"the journal in {where} was tampered with or is damaged: {reason}")


class RunLog:
    """Writes the entries of one run.

    Args:
        journal: Where to.
        run: Its number.
        nonce: What makes its keys differ from those of any other run, anywhere.
        lock: Held open until the run ends: it says that the run is at work.
    """

    def __init__(self, journal: Journal, run: int, nonce: str, lock: IO[str] | None = None) -> None:
        self.run = run
        self._journal = journal
        self._nonce = nonce
        self._lock = lock
        self._keys: dict[int, str] = {}
        self._told: dict[int, Ok] = {}  # steps whose effect is in the journal already

    def intend(self, steps: Iterable[Prepared]) -> None:
        """Write down which steps are about to run.

        Raises:
            StoreError: It cannot be written.
        """
        for step in steps:
            plain = [[name, repr(value)] for name, value in step.args.items()]
            seed = json.dumps([self._nonce, step.step, step.tool.name, plain])
            key = hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()[:32]
            self._keys[step.step] = key
            self._journal.append(
                "intent",
                run=self.run,
                step=step.step,
                key=key,
                summary=step.tool.name,
                details={"tool": step.tool.name, "staged": step.tool.staged},
            )

    def action(self, step: int) -> Action | None:
        """Return the action of a step that is about to run; None for one that only reads."""
        key = self._keys.get(step)
        if key is None:
            return None

        def told(store: object, result: Ok, changes: Sequence[Change]) -> None:
            if store is not self._journal.store:  # no common transaction: the outcome follows
                return
            self._journal.append(
                "effect",
                run=self.run,
                step=step,
                status=result.status,
                key=key,
                summary=explain(result),
                details={"result": ok_json(result), "changes": [asdict(c) for c in changes]},
            )
            self._told[step] = result

        return Action(key=key, journal=told)

    def outcome(self, step: int, result: Result) -> None:
        """Write down how a step ended, unless its effect says so already.

        Raises:
            StoreError: It cannot be written.
        """
        if step not in self._keys or (step in self._told and isinstance(result, Ok)):
            return
        self._journal.append(
            "outcome",
            run=self.run,
            step=step,
            status=result.status,
            key=self._keys[step],
            summary=explain(result),
            details={"result": ok_json(result)} if isinstance(result, Ok) else {},
        )

    def end(self) -> None:
        """Write down that the run is over.

        Raises:
            StoreError: It cannot be written.
        """
        self._journal.append("end", run=self.run)
        if self._lock is not None:
            self._lock.close()


def at_work(store: Store, *, alone: bool = False) -> IO[str] | None:
    """Say that a run is at work, until the returned file is closed or the process ends.

    Args:
        store: The store it works on.
        alone: Whether no other run may be at work meanwhile.

    Returns:
        The lock; None for a store in memory.

    Raises:
        StoreError: Another run is at work, or the lock cannot be made.
    """
    if store.path is None:
        return None
    path = store.path.with_name(LOCK_NAME)
    with readable_errors(path):
        file = open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")  # noqa: SIM115
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise StoreError(
            f"{store.path} is being worked on by another run; wait for its end, or end it"
        ) from None
    return file


def chained(row: Mapping[str, Any]) -> str:
    """Return the hash that an entry must have: of its content and the hash before it."""
    content = [row[name] for name in _HASHED]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


_HASHED = (
    *("previous", "seq", "at", "run", "step", "kind", "status", "key", "summary", "details"),
)


def ok_json(result: Ok) -> dict[str, Any]:
    """Return a result as plain data."""
    value = {**asdict(result.value), "fields": dict(result.value.fields)}
    return {"value": value, "note": result.note, "record": result.record}


def ok_from(data: Mapping[str, Any]) -> Ok:
    """Return the result that ``ok_json`` made plain."""
    value = {**data["value"], "origin": Origin(data["value"]["origin"])}
    return Ok(value=Value(**value), note=data["note"], record=data["record"])


def changes_of(entry: Entry) -> list[Change]:
    """Return the rows that an effect changed."""
    return [Change(**change) for change in entry.details.get("changes", ())]


def _tell(run: LoggedRun, entry: Entry) -> None:
    """Add what one entry says about a run."""
    step = run.steps.get(entry.step)
    match entry.kind:
        case "intent":
            tool = str(entry.details.get("tool", entry.summary))
            if step is None:
                step = LoggedStep(step=entry.step, tool=tool, key=entry.key, summary=entry.summary)
                run.steps[entry.step] = step
            step.key, step.staged = entry.key, bool(entry.details.get("staged"))
            step.status, step.settled = "begun" if step.status != "ok" else "ok", False
        case "effect" | "outcome" if step is not None:
            if entry.kind == "effect":
                step.effects.append(entry)
            if not (entry.kind == "outcome" and step.effects and entry.status == "unknown"):
                step.status, step.summary = entry.status, entry.summary
                step.settled = bool(entry.details.get("settled"))
            if "result" in entry.details:
                step.result = ok_from(entry.details["result"])
        case "resume":
            run.ended = False
        case "end":
            run.ended = True
        case "undo" if step is not None:
            step.undone = entry.status == "ok"


def _entry(row: Row) -> Entry:
    try:
        details = json.loads(row["details"])
    except ValueError as error:
        raise StoreError(f"entry {row['seq']} of the journal is damaged: {error}") from error
    kept = {name: row[name] for name in Entry.__slots__ if name not in ("details",)}
    return Entry(**kept, details=details)


def _line(text: str) -> str:
    """Return text as one short line."""
    line = " ".join(text.split())
    return line if len(line) <= SUMMARY_CHARS else f"{line[: SUMMARY_CHARS - 3]}..."
