"""The trained retriever: a calibrated classifier for the tools it knows, words for the others.

``select`` is what planning calls; ``explain`` says why. Nothing is loaded
before the first request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from mlx_tinyagent.errors import ConfigError
from mlx_tinyagent.retrieval.base import SMALL_SET, Retrieved, keep
from mlx_tinyagent.retrieval.bm25 import BM25Config, BM25Retriever
from mlx_tinyagent.retrieval.calibration import KEEP_ALL, Threshold, close_scores, producers_of
from mlx_tinyagent.retrieval.guarantee import Calibration, group_of, load_calibration
from mlx_tinyagent.retrieval.scorer import Scores, ToolScorer
from mlx_tinyagent.retrieval.words import words
from mlx_tinyagent.tools.base import ToolSet

SHIPPED = Path(__file__).parents[1] / "classifiers" / "tinyagent16"
ALWAYS_ON = 16  # unknown tools that are all offered; more of them compete by their words
UNCALIBRATED = 0.02  # probability that keeps a tool where nothing was calibrated


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a request is offered what it is offered.

    Attributes:
        retrieved: What is offered.
        closed: Score per known tool after closure: a producer counts at least as
            much as what reads its value.
        any_tool: Probability that any tool is needed.
        group: ``short`` or ``long``.
        threshold: Least closed score that is kept, with what it promises; None
            where nothing was calibrated.
        no_tool: Threshold of ``any_tool``; None likewise.
        edges: Per tool that was kept for another, that other tool.
        promise: What is promised for this request, or why nothing is.
    """

    retrieved: Retrieved
    closed: Mapping[str, float]
    any_tool: float
    group: str
    threshold: Threshold | None
    no_tool: Threshold | None
    edges: Mapping[str, str]
    promise: str


class DebertaRetriever:
    """Keeps the tools whose calibrated score is high enough.

    Tools the classifier does not know are offered always, since nothing was
    measured on them; where there are many, the best by their words are. A
    request unlike those calibrated on is offered everything.

    Args:
        folder: The classifier; the one in the package by default.
        miss: Accepted share of requests that lack a tool; the calibration's own by default.

    Raises:
        ConfigError: ``miss`` is not above 0 and below 1.
    """

    def __init__(self, folder: Path = SHIPPED, *, miss: Fraction | None = None) -> None:
        if miss is not None and not 0 < miss < 1:
            raise ConfigError(f"the share of misses is {float(miss):g}; above 0 and below 1 works")
        self.scorer = ToolScorer(folder)
        self.miss = miss
        self._words = BM25Retriever(BM25Config(top=ALWAYS_ON))
        self._lexical = BM25Retriever()

    @cached_property
    def calibration(self) -> Calibration | None:
        """What was measured for this classifier; None if nothing was."""
        return load_calibration(self.scorer.folder)

    def select(self, query: str, tools: ToolSet) -> Retrieved:
        """Return the tools to offer for a request."""
        return self.explain(query, tools).retrieved

    def explain(self, query: str, tools: ToolSet) -> Explanation:
        """Return the tools to offer for a request, and why.

        Args:
            query: The request; anything, an empty text included.
            tools: The enabled tools; none is an answer too.

        Raises:
            ModelError: The classifier's folder is damaged.
        """
        known = [name for name in tools.names if name in self.scorer.labels]
        if len(known) < 2:  # another tool set: the classifier has nothing to say
            return self._by_words(query, tools)
        found = self.scorer.score(query)
        group = group_of(query)
        closed = close_scores(
            {name: found.tools[name] for name in known}, producers_of(tools.subset(known))
        )
        threshold, no_tool = self._thresholds(group)
        strange = self._strange(query, found)
        least = threshold.tau if threshold else UNCALIBRATED
        least = KEEP_ALL if strange else least
        chosen = [name for name in known if closed[name] >= least]
        abstain = not strange and found.any_tool < (no_tool.tau if no_tool else UNCALIBRATED)
        if not chosen:  # the planner still decides, so it sees the likeliest tool
            chosen = [max(known, key=lambda name: closed[name])]
        others = self._others(query, tools, known)
        retrieved = keep(
            tools,
            {
                **dict.fromkeys(others, 1.0),
                **{n: found.tools[n] for n in known},
                **_rest(tools, known, others),
            },
            chosen=chosen,
            always=others,
            abstain=abstain,
        )
        return Explanation(
            retrieved=retrieved,
            closed=MappingProxyType(closed),
            any_tool=found.any_tool,
            group=group,
            threshold=threshold,
            no_tool=no_tool,
            edges=MappingProxyType(_edges(retrieved, found, closed, tools)),
            promise=self._promise(tools, known, threshold, strange),
        )

    def _thresholds(self, group: str) -> tuple[Threshold | None, Threshold | None]:
        calibration = self.calibration
        if calibration is None:
            return None, None
        key = (group, self.miss)
        if key not in self._kept:
            self._kept[key] = (
                calibration.threshold(group, self.miss),
                calibration.no_tool(group),
            )
        return self._kept[key]

    @cached_property
    def _kept(self) -> dict[tuple[str, Fraction | None], tuple[Threshold, Threshold]]:
        return {}

    def _strange(self, query: str, found: Scores) -> str | None:
        """Return why a request is unlike those calibrated on; None if it is not."""
        if not words(query):
            return "the request has no words"
        if not found.whole:
            return "the request is too long to be read whole"
        if self.calibration is not None and found.pieces_per_word > self.calibration.pieces:
            return "its words are unlike those calibrated on"
        return None

    def _others(self, query: str, tools: ToolSet, known: list[str]) -> list[str]:
        """Return the unknown tools to offer."""
        unknown = [name for name in tools.names if name not in set(known)]
        if len(unknown) <= ALWAYS_ON:
            return unknown
        return list(self._words.select(query, tools.subset(unknown)).tools.names)[:ALWAYS_ON]

    def _by_words(self, query: str, tools: ToolSet) -> Explanation:
        return Explanation(
            retrieved=self._lexical.select(query, tools),
            closed=MappingProxyType({}),
            any_tool=1.0,
            group=group_of(query),
            threshold=None,
            no_tool=None,
            edges=MappingProxyType({}),
            promise="nothing is promised: the classifier knows none of these tools",
        )

    def _promise(
        self,
        tools: ToolSet,
        known: list[str],
        threshold: Threshold | None,
        strange: str | None,
    ) -> str:
        if len(tools) < SMALL_SET:
            return f"every tool is offered: fewer than {SMALL_SET} are enabled"
        if strange is not None:
            return f"every known tool is offered: {strange}"
        if threshold is None or self.calibration is None:
            return "nothing is promised: the classifier was not calibrated"
        void = self.calibration.void(self.scorer.fingerprint, tools)
        if void is not None:
            return f"nothing is promised: {void}"
        unknown = len(tools) - len(known)
        if unknown > ALWAYS_ON:
            return f"{threshold.line()}; nothing is promised for the {unknown} unknown tools"
        return threshold.line()


def _rest(tools: ToolSet, known: list[str], others: list[str]) -> dict[str, float]:
    """Score the unknown tools that are not offered."""
    seen = {*known, *others}
    return {name: 0.0 for name in tools.names if name not in seen}


def _edges(
    retrieved: Retrieved, found: Scores, closed: Mapping[str, float], tools: ToolSet
) -> dict[str, str]:
    """Return, for each tool whose score is another's, that other tool."""
    producers = producers_of(tools)
    edges = {}
    for name in retrieved.tools.names:
        if name not in closed or closed[name] <= found.tools[name]:
            continue
        readers = [other for other in closed if name in producers[other]]
        edges[name] = max(readers, key=lambda other: found.tools[other])
    return edges
