"""What is in a data set: kinds, sources, tools, calls, lengths, arguments."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlx_tinyagent.datasets.dedupe import normalized
from mlx_tinyagent.datasets.record import Example, references
from mlx_tinyagent.plan.schema import parse_ref


@dataclass(slots=True)
class Stats:
    """Counts over examples; ``add`` takes one at a time.

    Attributes:
        rows: Number of examples.
        kinds: Examples per kind.
        sources: Examples per source.
        licences: Examples per licence.
        marks: Examples per mark.
        tools: Examples that call a tool, per tool.
        calls: Examples per number of calls.
        words: Words per request.
        offered: Tools on offer per example.
        edges: References, from the tool read to the tool reading.
        arguments: Filled text arguments: ``span`` (words of the request or
            history), ``reference``, or ``other``.
        history: Examples with earlier turns.
        distinct: Different normalized requests.
    """

    rows: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)
    tools: Counter[str] = field(default_factory=Counter)
    calls: Counter[int] = field(default_factory=Counter)
    words: Counter[int] = field(default_factory=Counter)
    offered: Counter[int] = field(default_factory=Counter)
    edges: Counter[tuple[str, str]] = field(default_factory=Counter)
    arguments: Counter[str] = field(default_factory=Counter)
    history: int = 0
    _seen: set[int] = field(default_factory=set)

    @property
    def distinct(self) -> int:
        """Number of different normalized requests."""
        return len(self._seen)

    def add(self, example: Example) -> None:
        """Count one example."""
        self.rows += 1
        self.kinds[example.kind] += 1
        self.sources[example.source] += 1
        self.licences[example.licence] += 1
        self.marks.update(example.marks)
        self.words[len(example.query.split())] += 1
        self.offered[len(example.tools)] += 1
        self.history += bool(example.history)
        self._seen.add(hash(normalized(example.query)))
        if example.kind != "tool":
            return
        self.calls[len(example.plan)] += 1
        self.tools.update({call.tool for call in example.plan})
        names = {call.id: call.tool for call in example.plan}
        said = normalized(" ".join([example.query, *(turn.query for turn in example.history)]))
        for call in example.plan:
            self.edges.update((names[k], call.tool) for k in set(references(call.args)))
            self.arguments.update(_origin(text, said) for text in _texts(call.args))

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as plain data, the most frequent first."""
        return {
            "rows": self.rows,
            "distinct_requests": self.distinct,
            "with_history": self.history,
            "kinds": ranked(self.kinds),
            "sources": ranked(self.sources),
            "licences": ranked(self.licences),
            "marks": ranked(self.marks),
            "tools": ranked(self.tools),
            "calls_per_plan": dict(sorted(self.calls.items())),
            "words_per_request": summary(self.words),
            "tools_on_offer": summary(self.offered),
            "arguments": ranked(self.arguments),
            "edges": {f"{a} -> {b}": n for (a, b), n in self.edges.most_common()},
        }


def collect(examples: Iterable[Example]) -> Stats:
    """Count a whole data set."""
    stats = Stats()
    for example in examples:
        stats.add(example)
    return stats


def ranked(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts, the largest first, ties by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def summary(counts: Counter[int]) -> dict[str, float]:
    """Return mean, quartiles and ends of a counted number; empty if there is none."""
    values = sorted(counts.elements())
    if not values:
        return {}
    low, middle, high = (
        statistics.quantiles(values, n=4) if len(values) > 1 else [float(values[0])] * 3
    )
    return {
        "mean": round(statistics.fmean(values), 2),
        "min": values[0],
        "p25": low,
        "median": middle,
        "p75": high,
        "max": values[-1],
    }


def _texts(args: Iterable[Any]) -> Iterable[str]:
    for arg in args:
        for item in arg if isinstance(arg, list | tuple) else (arg,):
            if isinstance(item, str) and item:
                yield item


def _origin(text: str, said: str) -> str:
    """Say where an argument's words come from."""
    if parse_ref(text) is not None or "${" in text:
        return "reference"
    return "span" if normalized(text) in said else "other"
