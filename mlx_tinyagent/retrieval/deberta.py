"""The trained retriever: a calibrated classifier for the tools it knows, words for the others.

``select`` is what planning calls; ``explain`` says why. Nothing is loaded
before the first request, and everything stays for the next ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from weakref import WeakKeyDictionary

from mlx_tinyagent.errors import ConfigError
from mlx_tinyagent.retrieval.base import SMALL_SET, Retrieved, keep
from mlx_tinyagent.retrieval.bm25 import BM25Config, BM25Retriever
from mlx_tinyagent.retrieval.calibration import KEEP_ALL, Threshold, close_scores, producers_of
from mlx_tinyagent.retrieval.groups import GROUPS, group_of
from mlx_tinyagent.retrieval.guarantee import Calibration, load_calibration
from mlx_tinyagent.retrieval.scorer import Scores, ToolScorer
from mlx_tinyagent.retrieval.words import words
from mlx_tinyagent.tools.base import ToolSet

SHIPPED = Path(__file__).parents[1] / "classifiers" / "tinyagent16"
ALWAYS_ON = 16  # unknown tools that are all offered; more of them compete by their words
KNOWN_WORDS = 0.5  # of a request's words, that make it readable however its pieces fall
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What does not depend on the request.

    Attributes:
        names: Tools that the classifier knows.
        others: Tools that it does not.
        producers: Per known tool, the known tools whose values it needs.
        void: Why nothing is promised for this tool set; None if something is.
    """

    names: tuple[str, ...]
    others: tuple[str, ...]
    producers: Mapping[str, tuple[str, ...]]
    void: str | None


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
        self._lexical = BM25Retriever()
        self._best_words = BM25Retriever(BM25Config(top=ALWAYS_ON))
        self._tool_sets: WeakKeyDictionary[ToolSet, _Known] = WeakKeyDictionary()

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
        known = self._about(tools)
        if not known.names:
            return self._by_words(query, tools)
        found = self.scorer.score(query)
        group = group_of(query)
        closed = close_scores({name: found.tools[name] for name in known.names}, known.producers)
        threshold, no_tool = self._thresholds.get(group, (None, None))
        strange = self._strange(query, found)
        least = KEEP_ALL if strange else threshold.tau if threshold else UNCALIBRATED
        chosen = [name for name in known.names if closed[name] >= least]
        if not chosen:  # the planner still decides, so it sees the likeliest tool
            chosen = [max(known.names, key=lambda name: closed[name])]
        offered = self._others(query, tools, known)
        abstain = not strange and found.any_tool < (no_tool.tau if no_tool else UNCALIBRATED)
        retrieved = keep(
            tools,
            {name: found.tools.get(name, float(name in offered)) for name in tools.names},
            chosen=chosen,
            always=offered,
            abstain=abstain,
        )
        silent = abstain and self._silent is not None and found.any_tool < self._silent.tau
        if silent and not known.others and not known.void:
            retrieved = replace(retrieved, none=True)
        return Explanation(
            retrieved=retrieved,
            closed=MappingProxyType(closed),
            any_tool=found.any_tool,
            group=group,
            threshold=threshold,
            no_tool=no_tool,
            edges=MappingProxyType(_edges(retrieved, found, closed, known)),
            promise=_promise(len(tools), known, threshold, strange),
        )

    @cached_property
    def _thresholds(self) -> dict[str, tuple[Threshold, Threshold]]:
        """Thresholds of completeness and of "no tool" per group; empty without a calibration."""
        found = self.calibration
        if found is None:
            return {}
        no_tool = found.no_tool()
        return {group: (found.threshold(group, self.miss), no_tool) for group in GROUPS}

    @cached_property
    def _silent(self) -> Threshold | None:
        """Threshold below which nothing is planned; None without a calibration."""
        found = self.calibration
        return None if found is None else found.silent()

    def _about(self, tools: ToolSet) -> _Known:
        """Return what the classifier knows of a tool set, found out once."""
        if tools not in self._tool_sets:
            labels = set(self.scorer.labels)
            names = tuple(name for name in tools.names if name in labels)
            calibration = self.calibration
            if calibration is None:
                void: str | None = "the classifier was not calibrated"
            else:
                void = calibration.void(self.scorer.fingerprint, tools)
            self._tool_sets[tools] = _Known(
                names=names,
                others=tuple(name for name in tools.names if name not in labels),
                producers=producers_of(tools.subset(names)),
                void=void,
            )
        return self._tool_sets[tools]

    def _strange(self, query: str, found: Scores) -> str | None:
        """Return why a request is unlike those calibrated on; None if it is not."""
        if not words(query):
            return "the request has no words"
        if not found.whole:
            return "the request is too long to be read whole"
        odd = self.calibration is not None and found.pieces_per_word > self.calibration.pieces
        if odd and found.known_words < KNOWN_WORDS:
            return "its words are unlike those calibrated on"
        return None

    def _others(self, query: str, tools: ToolSet, known: _Known) -> tuple[str, ...]:
        """Return the unknown tools to offer."""
        if len(known.others) <= ALWAYS_ON:
            return known.others
        best = self._best_words.select(query, tools.subset(known.others))
        return best.tools.names[:ALWAYS_ON]

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


def _promise(count: int, known: _Known, threshold: Threshold | None, strange: str | None) -> str:
    """Say what is promised for a request, or why nothing is.

    Args:
        count: Number of enabled tools.
        known: What the classifier knows of them.
        threshold: The threshold that was used.
        strange: Why the request is unlike those calibrated on.
    """
    if count < SMALL_SET:
        return f"every tool is offered: fewer than {SMALL_SET} are enabled"
    if strange is not None:
        return f"every known tool is offered: {strange}"
    if known.void is not None or threshold is None:
        return f"nothing is promised: {known.void}"
    if len(known.others) > ALWAYS_ON:
        unknown = f"nothing is promised for the {len(known.others)} unknown tools"
        return f"{threshold.line()}; {unknown}"
    return threshold.line()


def _edges(
    retrieved: Retrieved, found: Scores, closed: Mapping[str, float], known: _Known
) -> dict[str, str]:
    """Return, for each tool whose score is another's, that other tool."""
    edges = {}
    for name in retrieved.tools.names:
        if name in closed and closed[name] > found.tools[name]:
            readers = [other for other in known.names if name in known.producers[other]]
            edges[name] = max(readers, key=lambda other: found.tools[other])
    return edges
