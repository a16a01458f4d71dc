"""TF-IDF of words and characters with one logistic regression per tool.

The trained baseline: words 1-2 and characters 3-5 within words, no encoder.
Fits a thousand examples in seconds and is stored as one safetensors file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlx_tinyagent.errors import ConfigError, InputError, ModelError
from mlx_tinyagent.files import atomic_write
from mlx_tinyagent.retrieval.base import Retrieved, keep
from mlx_tinyagent.retrieval.logistic import Floats, Ints, Sparse, fit_logistic, sigmoid
from mlx_tinyagent.retrieval.words import words
from mlx_tinyagent.tools.base import ToolSet

FORMAT = "mlx-tinyagent-tfidf-1"
MAX_QUERY_CHARS = 4_000  # of a query; what follows cannot change which tools it needs

Example = tuple[str, Sequence[str]]  # a request and the tools it needs


@dataclass(frozen=True, slots=True, kw_only=True)
class TfidfConfig:
    """How the model is fitted and used.

    Attributes:
        word_sizes: Shortest and longest run of words.
        character_sizes: Shortest and longest run of characters, blanks around words included.
        min_examples: A run that fewer examples hold is dropped.
        c: Weight of the loss against the penalty |w|^2 / 2.
        threshold: Tools of at least this probability are kept.
    """

    word_sizes: tuple[int, int] = (1, 2)
    character_sizes: tuple[int, int] = (3, 5)
    min_examples: int = 2
    c: float = 20.0
    threshold: float = 0.5

    def __post_init__(self) -> None:
        sizes = (self.word_sizes, self.character_sizes)
        if any(not 1 <= low <= high for low, high in sizes) or self.min_examples < 1:
            raise ConfigError(
                f"run sizes need 1 <= shortest <= longest and min_examples >= 1; got words "
                f"{self.word_sizes}, characters {self.character_sizes}, {self.min_examples}"
            )
        if self.c <= 0 or not 0 <= self.threshold <= 1:
            raise ConfigError(
                f"c must be above 0 and threshold in 0..1; got c={self.c}, "
                f"threshold={self.threshold}"
            )


class Vocabulary:
    """Turns texts into weighted terms.

    Args:
        terms: Runs of characters ("c...") and words ("w..."), sorted, one per column.
        idf: Weight per term, shape [terms].
        config: Which runs are taken.
    """

    def __init__(self, terms: Sequence[str], idf: Floats, config: TfidfConfig) -> None:
        self.terms, self.idf, self.config = tuple(terms), idf, config
        self._columns = {term: column for column, term in enumerate(self.terms)}
        self._first_word = bisect_left(self.terms, "w")

    @classmethod
    def build(cls, texts: Sequence[str], config: TfidfConfig) -> Vocabulary:
        """Collect the terms of texts, with idf = ln((1 + n) / (1 + holders)) + 1."""
        holders: Counter[str] = Counter()
        for text in texts:
            holders.update(set(_terms(text, config)))
        terms = sorted(term for term, count in holders.items() if count >= config.min_examples)
        counts = np.array([holders[term] for term in terms], dtype=np.float64)
        return cls(terms, np.log((1 + len(texts)) / (1 + counts)) + 1.0, config)

    def matrix(self, texts: Sequence[str]) -> Sparse:
        """Return [texts, terms]; a row's character part and word part have length 1 each."""
        return Sparse.from_rows([self._row(text) for text in texts], len(self.terms))

    def has_word(self, word: str) -> bool:
        """Whether a word, as ``words`` returns it, is a term."""
        return f"w{word}" in self._columns

    def _row(self, text: str) -> tuple[Ints, Floats]:
        known = (self._columns.get(term) for term in _terms(text, self.config))
        counts = Counter(column for column in known if column is not None)
        columns = np.array(sorted(counts), dtype=np.int64)
        values = np.array([counts[int(c)] for c in columns], dtype=np.float64) * self.idf[columns]
        cut = int(np.searchsorted(columns, self._first_word))
        for part in (values[:cut], values[cut:]):  # views: scaled in place
            length = float(np.sqrt(np.square(part).sum()))
            if length > 0:
                part /= length
        return columns, values


@dataclass(frozen=True, slots=True)
class TfidfModel:
    """A fitted model.

    Attributes:
        labels: Tool names.
        vocabulary: Terms; knows how the model was fitted.
        weights: float64, shape [terms, labels].
        bias: float64, shape [labels].
    """

    labels: tuple[str, ...]
    vocabulary: Vocabulary
    weights: Floats
    bias: Floats

    def logits(self, queries: Sequence[str]) -> Floats:
        """Return the log-odds of each tool, shape [queries, labels]."""
        return self.vocabulary.matrix(queries).dot(self.weights) + self.bias

    def probabilities(self, queries: Sequence[str]) -> Floats:
        """Return the probability of each tool, shape [queries, labels]."""
        return sigmoid(self.logits(queries))

    def save(self, path: Path) -> None:
        """Write the model as one safetensors file; weights in float32.

        Raises:
            StoreError: The file cannot be written.
        """
        from safetensors.numpy import save

        config = self.vocabulary.config
        tensors: dict[str, npt.NDArray[Any]] = {
            "terms": _bytes(self.vocabulary.terms),
            "labels": _bytes(self.labels),
            "idf": self.vocabulary.idf.astype(np.float32),
            "weights": self.weights.astype(np.float32),
            "bias": self.bias.astype(np.float32),
            "sizes": np.array([*config.word_sizes, *config.character_sizes], np.int64),
            "fit": np.array([config.min_examples, config.c, config.threshold], np.float64),
        }
        atomic_write(path, save(tensors, metadata={"format": FORMAT}))

    @classmethod
    def load(cls, path: Path) -> TfidfModel:
        """Read a model.

        Raises:
            ModelError: The file is missing, damaged or of another format.
        """
        tensors = _read_tensors(path)
        try:
            sizes = [int(size) for size in tensors["sizes"]]
            min_examples, c, threshold = (float(value) for value in tensors["fit"])
            config = TfidfConfig(
                word_sizes=(sizes[0], sizes[1]),
                character_sizes=(sizes[2], sizes[3]),
                min_examples=int(min_examples),
                c=c,
                threshold=threshold,
            )
            labels, terms = _texts(tensors["labels"]), _texts(tensors["terms"])
            idf, weights, bias = (
                tensors[name].astype(np.float64) for name in ("idf", "weights", "bias")
            )
        except (KeyError, IndexError, ValueError, ConfigError) as error:
            raise ModelError(f"{path} is no complete TF-IDF model: {error}") from error
        shape = (len(terms), len(labels))
        if (*idf.shape, *bias.shape) != shape or weights.shape != shape:
            raise ModelError(
                f"{path}: idf {idf.shape}, weights {weights.shape} and bias {bias.shape} do not "
                f"fit {shape[0]} terms and {shape[1]} labels"
            )
        return cls(labels, Vocabulary(terms, idf, config), weights, bias)


def fit(
    examples: Sequence[Example], labels: Sequence[str], config: TfidfConfig | None = None
) -> TfidfModel:
    """Fit a model from requests and the tools they need; deterministic.

    Args:
        examples: Requests with tool names; no names means that no tool fits.
        labels: Tool names to learn, in label order.
        config: How to fit.

    Raises:
        InputError: There are no examples, or one names a tool that is no label.
    """
    config = config or TfidfConfig()
    if not examples:
        raise InputError("a TF-IDF model needs at least one example, got none")
    place = {name: index for index, name in enumerate(labels)}
    targets = np.zeros((len(examples), len(labels)))
    for row, (query, names) in enumerate(examples):
        unknown = [name for name in names if name not in place]
        if unknown:
            raise InputError(f"example {row + 1} ({query!r:.60}) needs {unknown[0]}, no label")
        targets[row, [place[name] for name in names]] = 1.0
    queries = [query for query, _ in examples]
    vocabulary = Vocabulary.build(queries, config)
    weights, bias = fit_logistic(vocabulary.matrix(queries), targets, c=config.c)
    return TfidfModel(tuple(labels), vocabulary, weights, bias)


class TfidfRetriever:
    """Keeps the tools that a fitted model finds likely enough.

    Tools without a label are always offered: nothing is known of them. A
    request for which no tool is likely enough abstains.

    Args:
        model: The fitted model.
        threshold: Least probability of a kept tool; the model's own by default.
    """

    def __init__(self, model: TfidfModel, threshold: float | None = None) -> None:
        self.model = model
        self.threshold = model.vocabulary.config.threshold if threshold is None else threshold

    def select(self, query: str, tools: ToolSet) -> Retrieved:
        """Return the likely tools and those whose values they read."""
        found = self.model.probabilities([query])[0]
        known = dict(zip(self.model.labels, (float(p) for p in found), strict=True))
        scores = {name: known.get(name, 1.0) for name in tools.names}
        always = [name for name in tools.names if name not in known]
        chosen = [name for name in tools.names if known.get(name, -1.0) >= self.threshold]
        return keep(tools, scores, chosen=chosen, always=always, abstain=not chosen)


def marginal_threshold(least: Sequence[float], miss_rate: Fraction) -> float:
    """Return the threshold at which the expected share of incomplete tool sets is ``miss_rate``.

    Split conformal: with ``least[i]`` the lowest score among the needed tools
    of calibration request i, the k-th smallest, k = floor(miss_rate * (n + 1)).
    The promise holds on average over calibration sets, not for each.

    Args:
        least: Lowest needed score per request; requests that need no tool are left out.
        miss_rate: Accepted share, exact ("1/20"), so that k is.

    Returns:
        The threshold; 0 (keep all) where n is too small for the promise.

    Source:
        Angelopoulos et al. 2022, Conformal Risk Control (arXiv:2208.02814).
    """
    k = int(miss_rate * (len(least) + 1))
    return sorted(least)[k - 1] if k else 0.0


def _terms(query: str, config: TfidfConfig) -> Iterator[str]:
    """Yield the runs of words, then those of characters within blank-separated words."""
    text = query[:MAX_QUERY_CHARS].casefold()
    found = words(text)
    low, high = config.word_sizes
    for size in range(low, high + 1):
        for start in range(len(found) - size + 1):
            yield "w" + " ".join(found[start : start + size])
    yield from _character_runs(text.split(), config.character_sizes)


def _character_runs(parts: Iterable[str], sizes: tuple[int, int]) -> Iterator[str]:
    for part in parts:
        padded = f" {part} "
        for size in range(sizes[0], sizes[1] + 1):
            if size >= len(padded):  # the whole word, once
                yield "c" + padded
                break
            for start in range(len(padded) - size + 1):
                yield "c" + padded[start : start + size]


def _bytes(texts: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Write texts, one a line; terms and names hold no line break."""
    return np.frombuffer("\n".join(texts).encode(errors="surrogatepass"), dtype=np.uint8)


def _texts(data: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    text = data.tobytes().decode(errors="surrogatepass")
    return tuple(text.split("\n")) if text else ()


def _read_tensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            found = (file.metadata() or {}).get("format")
            if found != FORMAT:
                raise ModelError(f"{path} has format {found!r}; a TF-IDF model has {FORMAT!r}")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read the TF-IDF model {path}: {error}") from error
