"""Okapi BM25 over tool texts: the retrieval baseline that needs no training.

It serves tools that nobody has trained on from the first minute, and it is
the line that a trained retriever has to beat.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from mlx_tinyagent.errors import ConfigError
from mlx_tinyagent.retrieval.base import Retrieved, keep
from mlx_tinyagent.retrieval.words import stems
from mlx_tinyagent.tools.base import Tool, ToolSet


@dataclass(frozen=True, slots=True, kw_only=True)
class BM25Config:
    """How many tools are kept.

    Attributes:
        top: Tools kept before closure, by score, then by the set's order. 8 is
            the smallest that holds every needed tool for 90 % of the 1,007
            public TinyAgent training requests (9.0 of 16 tools after closure).
        floor: A tool needs at least this share of the best score. 0.1 costs
            nothing on the same requests and keeps short commands short.
        k1: Saturation of repeated words.
        b: Weight of a text's length.
    """

    top: int = 8
    floor: float = 0.1
    k1: float = 1.2
    b: float = 0.75

    def __post_init__(self) -> None:
        if self.top < 1 or not 0 <= self.floor <= 1 or self.k1 < 0 or not 0 <= self.b <= 1:
            raise ConfigError(
                f"BM25 takes top >= 1, floor and b in 0..1, k1 >= 0; got top={self.top}, "
                f"floor={self.floor}, k1={self.k1}, b={self.b}"
            )


class BM25Index:
    """Scores texts against queries.

    Args:
        texts: Text per name; the order breaks ties.
        k1: Saturation of repeated words.
        b: Weight of a text's length.

    Source:
        Robertson and Zaragoza 2009, The Probabilistic Relevance Framework,
        section 3.4, with idf ln(1 + (N - n + 0.5) / (n + 0.5)), which is never
        negative.
    """

    def __init__(self, texts: Mapping[str, str], *, k1: float = 1.2, b: float = 0.75) -> None:
        counts = {name: Counter(stems(text)) for name, text in texts.items()}
        lengths = {name: found.total() for name, found in counts.items()}
        mean = sum(lengths.values()) / max(len(lengths), 1) or 1.0
        holders = Counter(word for found in counts.values() for word in found)
        self._names = tuple(texts)
        self._weights: dict[str, dict[str, float]] = {}  # word -> name -> weight
        for name, found in counts.items():
            damping = k1 * (1 - b + b * lengths[name] / mean)
            for word, count in found.items():
                idf = math.log(1 + (len(texts) - holders[word] + 0.5) / (holders[word] + 0.5))
                weight = idf * count * (k1 + 1) / (count + damping)
                self._weights.setdefault(word, {})[name] = weight

    def scores(self, query: str) -> dict[str, float]:
        """Return the score of every text; 0 without a word in common."""
        total = dict.fromkeys(self._names, 0.0)
        for word in dict.fromkeys(stems(query)):  # a repeated word of the query counts once
            for name, weight in self._weights.get(word, {}).items():
                total[name] += weight
        return total


class BM25Retriever:
    """Keeps the tools whose texts fit a request best.

    A request without a word in common with any tool keeps every tool and
    abstains: words alone cannot tell a far miss from an unusual wording.

    Args:
        config: How many tools are kept.
    """

    def __init__(self, config: BM25Config | None = None) -> None:
        self.config = config or BM25Config()
        self._indexes: dict[tuple[str, ...], BM25Index] = {}

    def select(self, query: str, tools: ToolSet) -> Retrieved:
        """Return the best tools and those whose values they read."""
        scores = self._index(tools).scores(query)
        best = max(scores.values(), default=0.0)
        if best <= 0.0:
            return keep(tools, scores, chosen=tools.names, abstain=True)
        ranked = sorted(tools.names, key=lambda name: -scores[name])[: self.config.top]
        least = self.config.floor * best
        chosen = [name for name in ranked if scores[name] >= least and scores[name] > 0.0]
        return keep(tools, scores, chosen=chosen, abstain=False)

    def _index(self, tools: ToolSet) -> BM25Index:
        """Return the index of a tool set, built once per set of texts."""
        key = tuple(tool.fingerprint() for tool in tools)
        if key not in self._indexes:
            texts = {tool.name: index_text(tool) for tool in tools}
            self._indexes[key] = BM25Index(texts, k1=self.config.k1, b=self.config.b)
        return self._indexes[key]


def index_text(tool: Tool) -> str:
    """Return the words that stand for a tool: name, summary, app, arguments and meanings."""
    arguments = " ".join(f"{param.name} {param.meaning}" for param in tool.params)
    # The name says most in fewest words, so it counts twice.
    return f"{tool.name} {tool.name} {tool.app} {tool.summary} {arguments}".replace("_", " ")
