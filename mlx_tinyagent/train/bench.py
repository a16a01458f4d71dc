"""Training measured against mlx-lm's: same rows, model, adapter, BLAS and threads, one process.

Both make whole updates, taking turns. What is compared is the time per example
and the most memory MLX held.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.errors import InputError
from mlx_tinyagent.models.plain_training import PlainTrainer

if TYPE_CHECKING:
    from mlx_tinyagent.train.rows import Drawn
    from mlx_tinyagent.train.trainer import Trainer

OURS, PLAIN = "mlx-tinyagent", "mlx-lm"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One update.

    Attributes:
        contestant: Whose.
        batch: Examples.
        tokens: Tokens that went through the model, padding not counted.
        seconds: What it took.
        peak_bytes: The most memory MLX held meanwhile, model included.
        loss: Nats per plan token before it.
    """

    contestant: str
    batch: int
    tokens: int
    seconds: float
    peak_bytes: int
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was measured.

    Attributes:
        trials: Updates in the order they were made.
        probes: The baseline's peak by batch size, from which its largest was reckoned.
        largest: Largest batch the baseline makes within the limit.
        limit_bytes: That limit.
        compiled: Whether the baseline's step was compiled, as mlx-lm does.
    """

    trials: tuple[Trial, ...]
    probes: dict[int, int]
    largest: int
    limit_bytes: int
    compiled: bool


class Bench:
    """Lets both make updates on the same rows.

    Args:
        trainer: Ours; the baseline trains the same adapter on the same model.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._plain = PlainTrainer(trainer.model, learning_rate=trainer.config.learning_rate)
        blocks = trainer.blocks
        kept = () if blocks is None else (blocks.header, *blocks.tools.values())
        self._kept = sum(kv.nbytes for kv in kept)  # which the baseline does not need

    def run(
        self, *, batch: int, repeats: int, limit_bytes: int, progress: Progress | None = None
    ) -> Report:
        """Measure at a batch size and at the largest that the baseline makes.

        Args:
            batch: Examples per update; left out where the baseline would pass the limit.
            repeats: Updates of each, per size.
            limit_bytes: Most memory the baseline may take.
            progress: Told how many of all updates were made.

        Raises:
            InputError: A single example takes the baseline past the limit, or there are
                too few rows.
        """
        probes: dict[int, int] = {}
        largest = self._largest(limit_bytes, probes)
        sizes = sorted({size for size in (batch, largest) if size <= largest})
        trials: list[Trial] = []
        count = 2 * repeats * len(sizes)
        for size in sizes:
            for repeat in range(repeats):
                rows = self._rows(size, repeat)
                turns = (self._ours, self._theirs)
                for turn in turns if repeat % 2 == 0 else turns[::-1]:
                    trials.append(turn(rows, repeat))
                    if progress is not None:
                        progress(len(trials), count)
        return Report(
            trials=tuple(trials),
            probes=probes,
            largest=largest,
            limit_bytes=limit_bytes,
            compiled=self._plain.compiled,
        )

    def _largest(self, limit: int, probes: dict[int, int]) -> int:
        """Return how many examples the baseline's memory is enough for.

        Memory grows by the same for every example of a length, so one and two tell.
        The longest rows are taken.
        """
        rows = sorted(self._pool(), key=lambda row: len(self._sequence(row)[0]), reverse=True)
        probes[1] = self._theirs(rows[:1], 0).peak_bytes
        if probes[1] > limit:
            raise InputError(
                f"mlx-lm takes {probes[1] / 1e9:.1f} GB for one example; the limit is "
                f"{limit / 1e9:.1f} GB, --memory sets it"
            )
        if 2 * probes[1] > limit or len(rows) < 2:
            return 1
        probes[2] = self._theirs(rows[:2], 0).peak_bytes
        more = max(1, probes[2] - probes[1])
        return max(1, min(len(rows), 1 + (limit - probes[1]) // more))

    def _pool(self) -> list[Drawn]:
        """Return every training row as it is drawn first."""
        steps = -(-len(self._trainer.data.train) // self._trainer.config.batch)
        return [row for step in range(steps) for row in self._trainer.batch(step)]

    def _rows(self, size: int, repeat: int) -> list[Drawn]:
        pool = self._pool()
        start = repeat * size % len(pool)
        return [*pool, *pool][start : start + size]

    def _ours(self, rows: Sequence[Drawn], step: int) -> Trial:
        def update() -> float:
            return self._trainer.learn(rows, step).loss

        return self._measured(OURS, rows, self._computed(rows), update, spare=0)

    def _computed(self, rows: Sequence[Drawn]) -> int:
        """Return the tokens of our update: tails and plans, and what it computes before them."""
        parts, tokens = self._trainer.parts, sum(row.tokens for row in rows)
        if self._trainer.config.attention == "full":
            return tokens + sum(len(parts.tokens(row.tools)) for row in rows)
        if self._trainer.config.attention == "through_blocks":
            return tokens + len(parts.tokens({name for row in rows for name in row.tools}))
        return tokens

    def _theirs(self, rows: Sequence[Drawn], step: int) -> Trial:
        sequences = [self._sequence(row) for row in rows]
        tokens = sum(len(ids) - 1 for ids, _ in sequences)
        return self._measured(
            PLAIN, rows, tokens, lambda: self._plain.update(sequences), spare=self._kept
        )

    def _sequence(self, row: Drawn) -> tuple[list[int], int]:
        """Return a row as one sequence, and how much of it comes before the plan."""
        before = [*self._trainer.parts.tokens(row.tools), *row.tail]
        return [*before, *row.plan], len(before)

    def _measured(
        self,
        contestant: str,
        rows: Sequence[Drawn],
        tokens: int,
        update: Callable[[], float],
        *,
        spare: int,
    ) -> Trial:
        import mlx.core as mx

        mx.clear_cache()
        mx.reset_peak_memory()
        began = time.monotonic()
        loss = update()
        return Trial(
            contestant=contestant,
            batch=len(rows),
            tokens=tokens,
            seconds=time.monotonic() - began,
            peak_bytes=mx.get_peak_memory() - spare,
            loss=loss,
        )


def summarize(report: Report) -> dict[str, Any]:
    """Return medians by batch size and contestant, and what ours is to the baseline."""
    sizes: dict[str, Any] = {}
    for size in sorted({trial.batch for trial in report.trials}):
        found = {name: _medians(report, name, size) for name in (OURS, PLAIN)}
        ours, plain = found[OURS], found[PLAIN]
        sizes[str(size)] = {
            **found,
            "speed": ours["examples_per_second"] / plain["examples_per_second"],
            "memory": ours["peak_bytes"] / plain["peak_bytes"],
        }
    return {
        "batches": sizes,
        "largest_batch": report.largest,
        "memory_limit_bytes": report.limit_bytes,
        "probes": {str(size): peak for size, peak in report.probes.items()},
        "baseline_compiled": report.compiled,
        "trials": [asdict(trial) for trial in report.trials],
    }


def _medians(report: Report, contestant: str, size: int) -> dict[str, float]:
    trials = [t for t in report.trials if t.contestant == contestant and t.batch == size]
    return {
        "examples_per_second": statistics.median(t.batch / t.seconds for t in trials),
        "tokens_per_example": statistics.mean(t.tokens / t.batch for t in trials),
        "peak_bytes": max(t.peak_bytes for t in trials),
        "updates": len(trials),
    }


def table(summary: dict[str, Any]) -> str:
    """Return a summary as lines of text."""
    lines = ["batch  who            examples/s  tokens/example  peak GB"]
    for size, found in summary["batches"].items():
        for name in (OURS, PLAIN):
            row = found[name]
            lines.append(
                f"{size:>5}  {name:<13}  {row['examples_per_second']:>10.3f}  "
                f"{row['tokens_per_example']:>14.0f}  {row['peak_bytes'] / 1e9:>7.2f}"
            )
        lines.append(f"       {found['speed']:.1f}x the speed, {found['memory']:.2f}x the memory")
    lines.append(
        f"mlx-lm's largest batch within {summary['memory_limit_bytes'] / 1e9:.1f} GB: "
        f"{summary['largest_batch']}"
    )
    return "\n".join(lines)
