"""Taking back what was done, and finding out what became of a run that was cut off.

Effects on the store are taken back in one transaction, all of a run or none;
effects elsewhere one by one, by their record. Nothing is tried again before
its key was looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlx_tinyagent.act.gate import find_effect, take_back
from mlx_tinyagent.act.journal import Journal, LoggedRun, LoggedStep, changes_of, ok_json
from mlx_tinyagent.errors import InputError, ToolError
from mlx_tinyagent.tools.backend import Backend, Transactional
from mlx_tinyagent.tools.local.changes import revert
from mlx_tinyagent.tools.results import NotFound, Ok, Result, explain


@dataclass(frozen=True, slots=True, kw_only=True)
class Undoing:
    """What is to be taken back.

    Attributes:
        run: The run.
        steps: Its steps that are done and not undone yet, in order.
    """

    run: LoggedRun
    steps: tuple[LoggedStep, ...]

    def describe(self) -> list[str]:
        """Return one line per step: what was done, and whether it can be taken back."""
        return [
            f"{self.run.run}.{step.step}  {step.summary}"
            + ("" if _can_undo(step) else "  [cannot be undone]")
            for step in reversed(self.steps)
        ]


def choose_undo(journal: Journal, which: str | None) -> Undoing | None:
    """Find what ``undo`` means.

    Args:
        journal: The journal.
        which: ``12`` for a run, ``12.2`` for one step of it; None for the last
            run that is not undone.

    Returns:
        What is to be taken back; None if that is nothing.

    Raises:
        InputError: There is no such run or step.
        StoreError: The journal cannot be read.
    """
    runs = journal.runs()
    if which is None:
        for run in reversed(runs):
            if steps := _live(run):
                return Undoing(run=run, steps=steps)
        return None
    number, _, step = which.partition(".")
    chosen = next((run for run in runs if str(run.run) == number), None)
    if chosen is None or (step and step not in map(str, chosen.steps)):
        raise InputError(f"there is no {which} in the journal; mlx-tinyagent log lists all")
    steps = tuple(s for s in _live(chosen) if not step or str(s.step) == step)
    return Undoing(run=chosen, steps=steps) if steps else None


def undo(journal: Journal, backend: Backend, undoing: Undoing) -> list[str]:
    """Take steps back, the last one first.

    Args:
        journal: The journal.
        backend: Where effects outside the store happened.
        undoing: What is to be taken back.

    Returns:
        One line for each step that cannot be taken back; the others are as before.

    Raises:
        ToolError: Something that was changed has been changed again since, or is in
            use; nothing was taken back.
        StoreError: The store cannot be written; nothing was taken back.
    """
    kept: list[str] = []
    inside = [step for step in undoing.steps if step.effects]
    with journal.store.transaction():
        for step in reversed(inside):
            _revert(journal, undoing.run, step)
    for step in reversed([step for step in undoing.steps if not step.effects]):
        record = step.result.record if step.result else None
        if record is None:
            kept.append(f"{step.summary}: it left nothing that could be taken back")
            continue
        result = take_back(backend, record)
        if isinstance(result, Ok | NotFound):
            _log_undo(journal, undoing.run, step)
        else:
            kept.append(f"{step.summary}: {explain(result)}")
    return kept


def reconcile(journal: Journal, backend: Backend, run: LoggedRun) -> LoggedRun:
    """Find out what became of the open steps of a run, and write it down.

    To be called while nobody else is at work. Nothing is done again.

    Args:
        journal: The journal.
        backend: Where the run's effects happen.
        run: A run that was cut off.

    Returns:
        The run as it is known now.

    Raises:
        StoreError: The journal cannot be written.
    """
    for step in run.steps.values():
        if not step.is_open:
            continue
        status, summary, result = _found_out(backend, step)
        journal.append(
            "outcome",
            run=run.run,
            step=step.step,
            status=status,
            key=step.key,
            summary=summary,
            details={"settled": True, **({"result": ok_json(result)} if result else {})},
        )
    return next(known for known in journal.runs() if known.run == run.run)


def remaining(run: LoggedRun) -> tuple[LoggedStep, ...]:
    """Return the steps of a reconciled run that have not been done and may be."""
    return tuple(s for s in run.steps.values() if s.status not in ("ok", "unknown"))


def _found_out(backend: Backend, step: LoggedStep) -> tuple[str, str, Ok | None]:
    """Return status, words and result of a step that was cut off."""
    if isinstance(backend, Transactional):  # an effect would be in the journal
        found: Result = NotFound(what="effect of it")
    else:
        found = find_effect(backend, step.key)
    if isinstance(found, Ok):
        return "ok", explain(found), found
    if isinstance(found, NotFound) and step.staged:
        return "failed", f"{step.tool} was cut off before it changed anything", None
    reason = "" if isinstance(found, NotFound) else f": {explain(found)}"
    return "unknown", f"nobody can tell whether {step.tool} was done{reason}", None


def _live(run: LoggedRun) -> tuple[LoggedStep, ...]:
    return tuple(s for s in run.steps.values() if (s.status == "ok" or s.effects) and not s.undone)


def _can_undo(step: LoggedStep) -> bool:
    return bool(step.effects) or bool(step.result and step.result.record)


def _revert(journal: Journal, run: LoggedRun, step: LoggedStep) -> None:
    """Take the effects of one step on the store back; raises if that cannot be."""
    changes = [change for effect in step.effects for change in changes_of(effect)]
    if reason := revert(journal.store, changes):
        raise ToolError(f"{run.run}.{step.step} was not undone: {reason}; nothing was changed")
    _log_undo(journal, run, step)


def _log_undo(journal: Journal, run: LoggedRun, step: LoggedStep) -> None:
    journal.append(
        "undo",
        run=run.run,
        step=step.step,
        status="ok",
        key=step.key,
        summary=f"undone: {step.summary}",
    )


def unfinished(runs: Sequence[LoggedRun]) -> list[LoggedRun]:
    """Return the runs that were cut off."""
    return [run for run in runs if run.status == "unfinished"]
