"""How wide drafts should be: what a pass over some rows costs here, against what it saves.

A wider draft makes a plan in fewer passes and every pass dearer. How much
dearer depends on the machine: where a pass over eight rows takes as long as
one over a single row drafts are free, and where rows cost their number they
do not pay. So a pass is timed at a few numbers of rows, once per model, device
and BLAS threads, and the curve is kept beside the KV files. The plan that is
written does not depend on any of it.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.decode.kv import SegmentKV, fill
from mlx_tinyagent.errors import StoreError
from mlx_tinyagent.files import atomic_write
from mlx_tinyagent.models.device import setup
from mlx_tinyagent.models.forward import logits, serve
from mlx_tinyagent.trace import now

if TYPE_CHECKING:
    from mlx_tinyagent.models.language import LanguageModel

DEFAULT_WIDTH = 10  # until a curve is known; near the best on every machine measured so far
ROWS = (1, 2, 4, 8, 12, 16, 24)
CONTEXT = 500  # tokens before the rows: header, five tools, a request
REPEATS = 3  # the fastest counts
CLOSE = 0.02  # of two widths whose cost differs by less than this share, the narrower one
_LAYOUT = "mlx-tinyagent-cost/2"
# What reading a file of any content can end in.
_UNUSABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What drafts of one width come to.

    Attributes:
        width: About how many tokens are drafted.
        passes: Passes per plan.
        rows: Mean rows of a pass, forced tokens included.
    """

    width: int
    passes: float
    rows: float


# 231 plans of TinyAgent's public training rows, 112 tokens each: scripts/count_passes.py.
EXPECTED = tuple(
    Expected(width=width, passes=passes, rows=rows)
    for width, passes, rows in (
        (0, 60.3, 1.9),
        (2, 47.9, 2.6),
        (4, 37.6, 3.5),
        (6, 33.1, 4.4),
        (8, 29.9, 5.2),
        (10, 28.1, 6.0),
        (12, 26.9, 6.7),
        (16, 25.3, 7.8),
        (20, 24.5, 9.0),
        (24, 23.9, 9.9),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CostCurve:
    """Seconds of a forward pass by its number of rows.

    Attributes:
        rows: Numbers of rows, ascending.
        seconds: One duration each.
    """

    rows: tuple[int, ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        fits = len(self.rows) == len(self.seconds) >= 2 and self.rows[0] >= 1
        ascending = all(a < b for a, b in zip(self.rows, self.rows[1:], strict=False))
        if not fits or not ascending or not all(0 < s < math.inf for s in self.seconds):
            raise ValueError(f"no cost curve: rows {self.rows}, seconds {self.seconds}")

    def at(self, rows: float) -> float:
        """Return the seconds of a pass over so many rows: on the line between the measured ones.

        Beyond the last one the line from the first to the last goes on.
        """
        if rows >= self.rows[-1]:
            slope = (self.seconds[-1] - self.seconds[0]) / (self.rows[-1] - self.rows[0])
            return self.seconds[-1] + max(0.0, slope) * (rows - self.rows[-1])
        right = max(1, bisect_right(self.rows, rows))
        (a, b), (low, high) = self.rows[right - 1 : right + 1], self.seconds[right - 1 : right + 1]
        return low + (high - low) * (max(rows, a) - a) / (b - a)

    def width(self, *, plans: int = 1) -> int:
        """Return the draft width whose passes take least time in all.

        Args:
            plans: Plans that share a pass; with more of them rows are dearer
                and passes cheaper.
        """
        costs = {e.width: e.passes * self.at(e.rows * plans) for e in EXPECTED}
        enough = (1 + CLOSE) * min(costs.values())
        return min(width for width, cost in costs.items() if cost <= enough)


def measure(model: LanguageModel, rows: Sequence[int] = ROWS) -> CostCurve:
    """Time passes over some numbers of rows after a usual context.

    Takes as long as about 30 passes. What the context holds does not matter,
    so it is not computed.

    Args:
        model: A model with full attention; others draft nothing.
        rows: Numbers of rows, ascending.
    """
    import mlx.core as mx

    cache = model.new_cache()
    mx.eval(serve(model.model, mx.zeros((1, 1), mx.int32), cache))  # for the KV's shape

    like = SegmentKV(*(tuple(getattr(one, name) for one in cache) for name in ("keys", "values")))
    cache = model.new_cache()
    fill(cache, [like.zeros(CONTEXT)])

    def run(count: int) -> float:
        start = now()
        ids = mx.zeros((1, count), mx.int32)
        mx.eval(logits(model.model, serve(model.model, ids, cache)))
        seconds = now() - start
        for layer in cache:
            layer.trim(count)
        return seconds

    seconds = [min(run(count) for _ in range(1 + REPEATS)) for count in rows]
    return CostCurve(rows=tuple(rows), seconds=tuple(round(value, 6) for value in seconds))


def load(folder: Path, model: LanguageModel) -> CostCurve | None:
    """Return the curve kept in a folder for this model on this machine; None if there is none.

    A damaged file counts as none: the curve is measured again.
    """
    try:
        raw = json.loads((folder / _name(model)).read_bytes())
        curve = CostCurve(rows=tuple(raw["rows"]), seconds=tuple(raw["seconds"]))
        return curve if raw["digest"] == _digest(model, curve) else None
    except _UNUSABLE:
        return None


def save(folder: Path, model: LanguageModel, curve: CostCurve) -> bool:
    """Keep a curve; returns whether the disk took it. Without it the default width serves."""
    content = {
        "rows": curve.rows,
        "seconds": curve.seconds,
        "for": _identity(model),
        "digest": _digest(model, curve),
    }
    try:
        atomic_write(folder / _name(model), json.dumps(content, indent=1) + "\n", private=True)
    except StoreError:
        return False
    return True


def _identity(model: LanguageModel) -> dict[str, Any]:
    """Return what the time of a pass depends on."""
    device = setup()
    return {
        "layout": _LAYOUT,
        "model": model.fingerprint,
        "adapter": model.adapter_fingerprint or "base",
        "dtype": model.dtype,
        "packed": model.packed,
        "platform": device.platform,
        "device": device.name,
        "blas": device.blas,
        "threads": device.threads,
        "mlx": device.mlx,
    }


def _name(model: LanguageModel) -> str:
    identity = json.dumps(_identity(model), sort_keys=True)
    return f"cost-{hashlib.sha256(identity.encode()).hexdigest()[:32]}.json"


def _digest(model: LanguageModel, curve: CostCurve) -> str:
    whole = json.dumps([_identity(model), curve.rows, curve.seconds], sort_keys=True)
    return hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()
