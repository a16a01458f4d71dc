"""Draw success against examples seen, and say how many more a goal would take.

    python scripts/scaling_curve.py 4800=results/a 9600=results/b --out curve.svg \
        [--figure tinyagent_success] [--goal 0.8]

Each folder is one of ``eval plans``, with the number of examples its adapter had
seen. The line is the least-squares fit of success on the logarithm of that number,
each point weighted by its rows. A line through two or three points is a guess, and
one that leaves the range of the points even more so.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_tinyagent.errors import InputError, TinyAgentError
from mlx_tinyagent.files import atomic_write
from mlx_tinyagent.train.plot import SMOOTH, TRAIN, VALID, Series, picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One result: examples seen, the share that is right with its interval, rows."""

    examples: int
    value: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A line over the logarithm of examples: success = start + slope * ln(examples)."""

    start: float
    slope: float

    def at(self, examples: float) -> float:
        """Return the success after so many examples."""
        return self.start + self.slope * math.log(examples)

    def needed(self, goal: float) -> float | None:
        """Return the examples after which the line reaches a goal; None if it never does."""
        if self.slope <= 0:
            return None
        power = (goal - self.start) / self.slope
        return math.exp(power) if power < 100 else None


def read(argument: str, figure: str) -> Measured:
    """Read one ``EXAMPLES=FOLDER``.

    Raises:
        InputError: It is not of that form, or the folder holds no such figure.
    """
    count, _, folder = argument.partition("=")
    if not count.isdigit() or not int(count) or not folder:
        raise InputError(f"{argument!r} is not EXAMPLES=FOLDER, such as 4800=results/a")
    path = Path(folder) / "summary.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["figures"][figure]
        return Measured(
            examples=int(count),
            value=float(found["value"]),
            low=float(found["low"]),
            high=float(found["high"]),
            rows=int(found["n"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} has no figure {figure!r}: {error!r}") from error


def fit(points: Sequence[Measured]) -> Fit:
    """Return the weighted least-squares line.

    Raises:
        InputError: All points have the same number of examples.
    """
    weight = sum(point.rows for point in points)
    mean_x = sum(point.rows * math.log(point.examples) for point in points) / weight
    mean_y = sum(point.rows * point.value for point in points) / weight
    spread = sum(point.rows * (math.log(point.examples) - mean_x) ** 2 for point in points)
    if spread == 0:
        raise InputError("a line needs results for two different numbers of examples")
    together = sum(
        point.rows * (math.log(point.examples) - mean_x) * (point.value - mean_y)
        for point in points
    )
    slope = together / spread
    return Fit(start=mean_y - slope * mean_x, slope=slope)


def draw(points: Sequence[Measured], line: Fit, figure: str) -> str:
    """Return the picture: results with their intervals, and the line through them."""
    first, last = points[0].examples, points[-1].examples
    steps = [first * (last / first) ** (number / 40) for number in range(41)]
    whiskers = [
        Series(
            name="",
            points=((math.log(point.examples), point.low), (math.log(point.examples), point.high)),
            color=TRAIN,
        )
        for point in points
    ]
    fitted = tuple((math.log(step), line.at(step)) for step in steps)
    measured = tuple((math.log(point.examples), point.value) for point in points)
    return picture(
        [
            *whiskers,
            Series(name="fit", points=fitted, color=SMOOTH),
            Series(name="measured", points=measured, color=VALID, width=0, dots=True),
        ],
        title=f"{figure} against examples seen",
        across="examples seen (logarithmic)",
        up=figure,
        marks=[(math.log(point.examples), f"{point.examples:,}") for point in points],
    )


def main() -> int:
    """Draw the curve and print the line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", nargs="+", metavar="EXAMPLES=FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figure", default="tinyagent_success")
    parser.add_argument("--goal", type=float, default=0.8)
    options = parser.parse_args()
    try:
        points = [read(argument, options.figure) for argument in options.results]
        points.sort(key=lambda point: point.examples)
        line = fit(points)
        atomic_write(options.out, draw(points, line, options.figure))
    except TinyAgentError as error:
        print(error, file=sys.stderr)
        return 1
    for point in points:
        print(
            f"{point.examples:>9,} examples: {point.value:.1%} ({point.low:.1%} to "
            f"{point.high:.1%}, n = {point.rows})"
        )
    print(f"fit: {line.slope * math.log(2):+.1%} for every doubling")
    needed = line.needed(options.goal)
    print(
        f"{options.goal:.0%} would be reached "
        + (f"after about {needed:,.0f} examples" if needed else "never, by this line")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
