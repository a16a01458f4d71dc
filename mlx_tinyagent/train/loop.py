"""The training loop: updates, evaluations, checkpoints, and a clean end whatever happens."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mlx_tinyagent.errors import InputError
from mlx_tinyagent.files import atomic_write, readable_errors
from mlx_tinyagent.train import checkpoint
from mlx_tinyagent.train.checkpoint import Checkpoint, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    import mlx.core as mx

    from mlx_tinyagent.train.trainer import Update
    from mlx_tinyagent.train.workers import Workers

LOG = "log.jsonl"  # in the run's folder
Report = Callable[["Event"], None]


class Settings(Protocol):
    """What the loop reads of a run's settings."""

    @property
    def iters(self) -> int: ...  # noqa: D102
    @property
    def eval_every(self) -> int: ...  # noqa: D102
    @property
    def save_every(self) -> int: ...  # noqa: D102
    @property
    def patience(self) -> int: ...  # noqa: D102
    def as_dict(self) -> dict[str, Any]:
        """Return all settings as plain data."""
        ...


class Rows(Protocol):
    """What the loop reads of a run's data."""

    @property
    def digest(self) -> str: ...  # noqa: D102
    @property
    def valid(self) -> Sequence[Any]: ...  # noqa: D102


class Trainable(Protocol):
    """What the loop trains: a planner's adapter, or a tool classifier."""

    @property
    def config(self) -> Settings:
        """The run's settings."""
        ...

    @property
    def data(self) -> Rows:
        """The run's rows."""
        ...

    @property
    def workers(self) -> Workers:
        """The processes that share the work."""
        ...

    @property
    def base(self) -> str:
        """Fingerprint of what training starts from."""
        ...

    def update(self, step: int) -> Update:
        """Make one update, counted from 0."""
        ...

    def evaluate(self) -> float:
        """Return the loss on the validation rows."""
        ...

    def weights(self) -> dict[str, mx.array]:
        """Return what is trained, by name."""
        ...

    def optimizer_state(self) -> dict[str, mx.array]:
        """Return the optimizer's state by name."""
        ...

    def restore(self, weights: dict[str, mx.array], optimizer: dict[str, mx.array]) -> None:
        """Go back to a saved state."""
        ...

    def synchronize(self) -> None:
        """Give every process the first one's state."""
        ...

    def keep(self, out: Path, *, loss: float | None, step: int) -> None:
        """Write what is trained as it will be used."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something to tell while training.

    Attributes:
        progress: How far the run is.
        update: The update that was made; None for an evaluation.
        valid: Validation loss, for an evaluation.
        success: Share of validation rows planned right, for an evaluation that plans.
        seconds: What it took.
        iters: Updates the run will have.
    """

    progress: Progress
    update: Update | None
    valid: float | None
    seconds: float
    iters: int
    success: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a run ended.

    Attributes:
        progress: How far it came.
        reason: ``done``, ``patience``, ``minutes`` or ``interrupted``.
    """

    progress: Progress
    reason: str


def run(
    trainer: Trainable,
    out: Path,
    *,
    resume: bool = False,
    minutes: float | None = None,
    report: Report | None = None,
    stop_after: int | None = None,
    success: Callable[[], float] | None = None,
) -> Finished:
    """Train until the iterations, the time or the patience are used up.

    Args:
        trainer: What to train.
        out: Folder for adapter, checkpoint and log.
        resume: Go on from the folder's checkpoint.
        minutes: Stop after so much time; the schedule stays that of ``iters``.
        report: Called after every update and evaluation.
        stop_after: Stop after this update, as if time were up.
        success: Returns the share of validation rows that are solved now. With it, what
            is kept is what solves most of them; of equals, the one with the lowest loss.

    Raises:
        InputError: There is a checkpoint and ``resume`` is not set, or the reverse.
        ConfigError: The checkpoint belongs to another run.
        ModelError: The loss became NaN.
        StoreError: The file system refuses.
    """
    return _Run(trainer, out, report or (lambda event: None), success).go(
        resume=resume, minutes=minutes, stop_after=stop_after
    )


class _Run:
    """One call of ``run``."""

    def __init__(
        self,
        trainer: Trainable,
        out: Path,
        report: Report,
        success: Callable[[], float] | None,
    ) -> None:
        self.trainer, self.out, self.report, self.success = trainer, out, report, success
        self.config, self.workers = trainer.config, trainer.workers
        self.progress = Progress()
        self.saved = -1
        self.identity = checkpoint.identity(
            trainer.config, base=trainer.base, data=trainer.data.digest
        )

    def go(self, *, resume: bool, minutes: float | None, stop_after: int | None) -> Finished:
        """Train."""
        self._start(resume)
        end = math.inf if minutes is None else time.monotonic() + 60.0 * minutes
        last = self.config.iters if stop_after is None else min(stop_after, self.config.iters)
        reason = "done"
        try:
            while self.progress.step < last:
                self._update()
                if self._due(self.config.eval_every):
                    self._evaluate()
                if self.progress.step % self.config.save_every == 0:
                    self._save()
                if self.config.patience and self.progress.worse >= self.config.patience:
                    reason = "patience"
                    break
                if minutes is not None and self.workers.any(time.monotonic() >= end):
                    reason = "minutes"
                    break
        except KeyboardInterrupt:
            reason = "interrupted"
        if self.progress.step < self.config.iters and reason == "done":
            reason = "minutes"
        if reason in ("done", "patience"):
            self._finish()
        elif reason == "minutes":
            self._save()
            self._keep_any()
        return Finished(progress=self.progress, reason=reason)

    def _start(self, resume: bool) -> None:
        if self.workers.rank == 0:
            self._open(resume)
        if resume:
            told = self.workers.hand_out(json.dumps(dataclasses.asdict(self.progress)))
            self.progress = Progress(**json.loads(told))
            self.saved = self.progress.step
        self.trainer.synchronize()

    def _open(self, resume: bool) -> None:
        """Make the run's folder, or go back to its checkpoint."""
        if not resume:
            if checkpoint.exists(self.out):
                raise InputError(
                    f"{self.out} holds a run; go on with --resume or name another folder"
                )
            with readable_errors(self.out):
                self.out.mkdir(parents=True, exist_ok=True)
            text = json.dumps(self.config.as_dict(), indent=2) + "\n"
            atomic_write(self.out / "config.json", text)
            atomic_write(self.out / LOG, "")
            return
        found = checkpoint.load(self.out, run=self.identity)
        self.trainer.restore(found.adapter, found.optimizer)
        self.progress = found.progress
        self._rewind_log()

    def _update(self) -> None:
        began = time.monotonic()
        update = self.trainer.update(self.progress.step)
        seconds = time.monotonic() - began
        self.progress = dataclasses.replace(
            self.progress,
            step=self.progress.step + 1,
            examples=self.progress.examples + update.examples,
            seconds=self.progress.seconds + seconds,
        )
        self._log({"loss": update.loss, **dataclasses.asdict(update)}, seconds)
        self._tell(update, None, seconds)

    def _evaluate(self) -> None:
        """Evaluate, and keep the adapter if it is the best so far."""
        if not self.trainer.data.valid:
            return
        began = time.monotonic()
        loss = self.trainer.evaluate()
        success = self.success() if self.success is not None else None
        before = self.progress
        if self._better(loss, success):
            self.progress = dataclasses.replace(
                before, best=loss, best_success=success, best_step=before.step, worse=0
            )
            self._keep(loss)
        else:
            self.progress = dataclasses.replace(before, worse=before.worse + 1)
        seconds = time.monotonic() - began
        planned = {} if success is None else {"graph_match": success}
        self._log({"valid_loss": loss, **planned}, seconds)
        self._tell(None, loss, seconds, success=success)

    def _better(self, loss: float, success: float | None) -> bool:
        """Whether this is the best evaluation so far: by success, then by loss."""
        best, solved = self.progress.best, self.progress.best_success
        if best is None or (success or 0.0) > (solved or 0.0):
            return True
        return (success or 0.0) == (solved or 0.0) and loss < best

    def _finish(self) -> None:
        if not self._due(self.config.eval_every):
            self._evaluate()
        if self.saved != self.progress.step or not self.trainer.data.valid:
            self._save()
        self._keep_any()

    def _keep_any(self) -> None:
        """Without an evaluation the adapter is the last one."""
        if self.progress.best is None:
            self._keep(None)

    def _keep(self, loss: float | None) -> None:
        if self.workers.rank != 0:
            return
        self.trainer.keep(self.out, loss=loss, step=self.progress.step)

    def _save(self) -> None:
        self.saved = self.progress.step
        if self.workers.rank != 0:
            return
        checkpoint.save(
            self.out,
            Checkpoint(
                progress=self.progress,
                adapter=self.trainer.weights(),
                optimizer=self.trainer.optimizer_state(),
            ),
            run=self.identity,
        )

    def _due(self, every: int) -> bool:
        return every > 0 and self.progress.step % every == 0

    def _log(self, entry: dict[str, Any], seconds: float) -> None:
        if self.workers.rank != 0:
            return
        line = {"step": self.progress.step, **entry, "seconds": round(seconds, 3)}
        with readable_errors(self.out), open(self.out / LOG, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _rewind_log(self) -> None:
        """Drop what was logged after the checkpoint: it will be done again."""
        path = self.out / LOG
        if path.exists():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            kept = [line for line in lines if _step(line) <= self.progress.step]
            atomic_write(path, "".join(kept))

    def _tell(
        self,
        update: Update | None,
        valid: float | None,
        seconds: float,
        *,
        success: float | None = None,
    ) -> None:
        if self.workers.rank != 0:
            return
        self.report(
            Event(
                progress=self.progress,
                update=update,
                valid=valid,
                seconds=seconds,
                iters=self.config.iters,
                success=success,
            )
        )


def _step(line: str) -> float:
    """Return a log line's step; infinite for a line cut in the middle."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
