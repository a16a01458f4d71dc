"""The calibration that is stored beside a classifier, and when it still holds.

One threshold per group of requests (by their number of words: a compound
request needs five tools where a command needs one), one for "no tool", and
limits beyond which a request is unlike anything calibrated on.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from mlx_tinyagent.errors import ConfigError, ModelError
from mlx_tinyagent.files import atomic_write
from mlx_tinyagent.retrieval.calibration import (
    CONFIDENCE,
    Threshold,
    close_scores,
    least_score,
    pac_threshold,
    producers_of,
)
from mlx_tinyagent.retrieval.groups import GROUPS, SHORT_WORDS, group_of
from mlx_tinyagent.retrieval.scorer import Scores
from mlx_tinyagent.tools.base import ToolSet

FORMAT = "mlx-tinyagent-tool-calibration-1"
CALIBRATION_FILE = "calibration.json"

MISS = {"short": Fraction(1, 20), "long": Fraction(1, 20)}
"""Accepted share of incomplete requests: about as much as the labels allow, of which a few in
a hundred are wrong."""
NO_TOOL_MISS = Fraction(1, 20)
SILENT_MISS = Fraction(1, 25)
"""Accepted share of requests that need a tool and are not even planned: rarer than the hint,
since a needless plan is shown before it runs and a missing one is lost."""
STRANGE = Fraction(1, 200)  # of the calibration requests are called unlike the others
_DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was measured on calibration requests.

    Attributes:
        least: Sorted least scores per group, which any promise can be read off.
        needs: Sorted scores of "any tool" of requests that need one, per group.
        pieces: Pieces per word that more than ``STRANGE`` of the requests do not exceed.
        miss: Accepted share of incomplete requests per group.
        no_tool_miss: Accepted share of requests that are said to need no tool and do.
        confidence: Of all promises.
        weights: Fingerprint of the classifier.
        cards: Fingerprint per tool declaration.
        data: sha256 of the calibration requests.
    """

    least: Mapping[str, tuple[float, ...]]
    needs: Mapping[str, tuple[float, ...]]
    pieces: float
    miss: Mapping[str, Fraction]
    no_tool_miss: Fraction
    confidence: Fraction
    weights: str
    cards: Mapping[str, str]
    data: str

    def threshold(self, group: str, miss: Fraction | None = None) -> Threshold:
        """Return the threshold on closed scores for a group of requests.

        Args:
            group: One of ``GROUPS``.
            miss: Accepted share of incomplete requests; the stored one by default.
        """
        return pac_threshold(
            self.least[group], self.miss[group] if miss is None else miss, self.confidence
        )

    def no_tool(self) -> Threshold:
        """Return the threshold below which a request seems to need no tool.

        The lowest of the groups' thresholds, so that it keeps the promise for
        each: compound requests need a tool so plainly that a threshold of their
        own would call any other long request one that needs none.
        """
        return self._no_tool(self.no_tool_miss)

    def silent(self) -> Threshold:
        """Return the threshold below which a request is not planned at all."""
        return self._no_tool(min(self.no_tool_miss, SILENT_MISS))

    def _no_tool(self, miss: Fraction) -> Threshold:
        found = [pac_threshold(self.needs[group], miss, self.confidence) for group in GROUPS]
        enough = [one for one in found if one.n]
        return min(enough or found, key=lambda one: one.tau)

    def void(self, weights: str, tools: ToolSet) -> str | None:
        """Return why the promise does not hold for a classifier and tools; None if it does."""
        if weights != self.weights:
            return "the classifier's weights are not the ones that were calibrated"
        changed = [
            tool.name
            for tool in tools
            if tool.name in self.cards and self.cards[tool.name] != tool.fingerprint()
        ]
        if changed:
            return f"changed since calibration: {', '.join(changed)}"
        missing = [name for name in self.cards if name not in tools]
        return f"not offered at all: {', '.join(missing)}" if missing else None

    def save(self, folder: Path) -> None:
        """Write ``calibration.json``, with the thresholds spelled out.

        Raises:
            StoreError: The folder cannot be written.
        """
        spelled = {
            group: {
                name: {"tau": found.tau if found.promises else None, "n": found.n, "k": found.k}
                for name, found in (
                    ("complete", self.threshold(group)),
                    ("no_tool", self.no_tool()),
                )
            }
            for group in GROUPS
        }
        body = {
            "format": FORMAT,
            "alpha": {group: str(self.miss[group]) for group in GROUPS},
            "alpha_no_tool": str(self.no_tool_miss),
            "delta": str(1 - self.confidence),
            "short_words": SHORT_WORDS,
            "thresholds": spelled,
            "pieces_per_word": round(self.pieces, _DIGITS),
            "weights": self.weights,
            "cards": dict(self.cards),
            "data": self.data,
            "least": {group: list(self.least[group]) for group in GROUPS},
            "needs": {group: list(self.needs[group]) for group in GROUPS},
        }
        atomic_write(folder / CALIBRATION_FILE, json.dumps(body) + "\n")


def calibrate(
    queries: Sequence[str],
    any_of: Sequence[Sequence[Collection[str]]],
    scores: Sequence[Scores],
    *,
    tools: ToolSet,
    weights: str,
    data: str,
    miss: Mapping[str, Fraction] = MISS,
    no_tool_miss: Fraction = NO_TOOL_MISS,
    confidence: Fraction = CONFIDENCE,
) -> Calibration:
    """Measure on requests that neither training nor its end has seen.

    Args:
        queries: The requests.
        any_of: Acceptable sets of tools of each; a request with an empty one is left out.
        scores: What the classifier says of each.
        tools: The tools that the classifier's labels name.
        weights: Fingerprint of the classifier.
        data: sha256 of the requests.
        miss: Accepted share of incomplete requests per group.
        no_tool_miss: Accepted share of requests wrongly said to need no tool.
        confidence: Of all promises.

    Raises:
        ConfigError: No request needs a tool.
    """
    producers = producers_of(tools)
    least: dict[str, list[float]] = {group: [] for group in GROUPS}
    needs: dict[str, list[float]] = {group: [] for group in GROUPS}
    pieces = []
    for query, groups, found in zip(queries, any_of, scores, strict=True):
        if not all(groups):
            continue
        group = group_of(query)
        closed = close_scores(found.tools, producers)
        least[group].append(_floor(least_score(closed, groups)))
        needs[group].append(_floor(found.any_tool))
        pieces.append(found.pieces_per_word)
    if not pieces:
        raise ConfigError("no calibration request needs a tool: nothing can be promised")
    pieces.sort()
    return Calibration(
        least={group: tuple(sorted(found)) for group, found in least.items()},
        needs={group: tuple(sorted(found)) for group, found in needs.items()},
        pieces=pieces[-1 - int(STRANGE * len(pieces))],
        miss=dict(miss),
        no_tool_miss=no_tool_miss,
        confidence=confidence,
        weights=weights,
        cards={tool.name: tool.fingerprint() for tool in tools},
        data=data,
    )


def load_calibration(folder: Path) -> Calibration | None:
    """Read ``calibration.json``; None where a classifier has none.

    Raises:
        ModelError: The file is damaged or of another format.
    """
    path = folder / CALIBRATION_FILE
    if not path.is_file():
        return None
    try:
        body: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if body.get("format") != FORMAT:
            raise ModelError(f"{path} has format {body.get('format')!r}; {FORMAT!r} is expected")
        if body["short_words"] != SHORT_WORDS:
            raise ModelError(f"{path} parts requests at {body['short_words']} words")
        return Calibration(
            least={group: tuple(map(float, body["least"][group])) for group in GROUPS},
            needs={group: tuple(map(float, body["needs"][group])) for group in GROUPS},
            pieces=float(body["pieces_per_word"]),
            miss={group: Fraction(body["alpha"][group]) for group in GROUPS},
            no_tool_miss=Fraction(body["alpha_no_tool"]),
            confidence=1 - Fraction(body["delta"]),
            weights=str(body["weights"]),
            cards={str(name): str(card) for name, card in body["cards"].items()},
            data=str(body["data"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is no complete calibration: {error!r}") from error


def rank_of(calibration: Calibration, group: str, score: float) -> int:
    """Return how many calibration requests of a group had a lower least score."""
    return bisect_left(calibration.least[group], score)


def _floor(score: float) -> float:
    """Round down to few digits: a stored threshold never exceeds the one that was measured."""
    text = f"{score:.{_DIGITS - 1}e}"
    rounded = float(text)
    if rounded <= score:
        return rounded
    mantissa, exponent = text.split("e")
    return float(f"{float(mantissa) - 10.0 ** (1 - _DIGITS):.{_DIGITS - 1}f}e{exponent}")
