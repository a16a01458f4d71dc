"""Whether a request needs any tool: the classifier's word and that of n-grams, mixed.

The encoder that is small enough to ship confuses "what is on my calendar" with
"put it on my calendar" more often than n-grams of the same rows do, and errs on
other requests than they do; logistic regression over both errs least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlx_tinyagent.errors import InputError, ModelError
from mlx_tinyagent.retrieval.logistic import Floats, Sparse, fit_logistic
from mlx_tinyagent.retrieval.ngrams import read_weights, write_weights
from mlx_tinyagent.retrieval.tfidf import TfidfConfig, TfidfModel, fit
from mlx_tinyagent.retrieval.words import words

NEEDS_FILE = "needs.safetensors"
NEEDS_MIX_FILE = "needs.json"
LABEL = "any_tool"
CONFIG = TfidfConfig(min_examples=3)

Need = tuple[str, bool]  # a request, and whether a tool serves it


@dataclass(frozen=True, slots=True)
class NeedsMix:
    """An n-gram model of one label with the weights of the mix.

    Attributes:
        model: Says whether a request needs a tool.
        weights: Of the classifier's logit of "any tool", of its highest tool's
            logit, of the n-grams' logit, and a constant.
    """

    model: TfidfModel
    weights: tuple[float, float, float, float]

    def mix(self, queries: Sequence[str], logits: Floats, needs: Floats) -> Floats:
        """Return logits of "any tool", [queries].

        Args:
            queries: The requests.
            logits: The classifier's per tool, [queries, labels].
            needs: The classifier's of "any tool", [queries].
        """
        *weights, constant = self.weights
        result: Floats = _features(self.model, queries, logits, needs) @ np.array(weights)
        return result + constant

    def known(self, query: str) -> float:
        """Return the share of a request's words that the n-grams were fitted on; 0 of none."""
        found = words(query)
        return sum(self.model.vocabulary.has_word(word) for word in found) / max(len(found), 1)

    def save(self, folder: Path) -> None:
        """Write the n-gram model and the weights.

        Raises:
            StoreError: The folder cannot be written.
        """
        self.model.save(folder / NEEDS_FILE)
        write_weights(folder / NEEDS_MIX_FILE, self.weights)

    @classmethod
    def load(cls, folder: Path) -> NeedsMix | None:
        """Read what ``save`` wrote; None where a classifier has none.

        Raises:
            ModelError: A file is damaged or says something else.
        """
        weights = read_weights(folder / NEEDS_MIX_FILE, 4)
        if weights is None:
            return None
        first, second, third, constant = weights
        model = TfidfModel.load(folder / NEEDS_FILE)
        if model.labels != (LABEL,):
            raise ModelError(f"{folder / NEEDS_FILE} has labels {model.labels}, not {LABEL!r}")
        return cls(model, (first, second, third, constant))


def fit_needs(
    examples: Sequence[Need], held_out: Sequence[Need], logits: Floats, needs: Floats
) -> NeedsMix:
    """Fit n-grams on some requests, and the mix on others.

    Args:
        examples: Requests, and whether each needs a tool.
        held_out: Likewise; neither the classifier nor the n-grams are fitted on them.
        logits: The classifier's per tool of the held-out ones, [requests, labels].
        needs: The classifier's of "any tool", [requests].

    Raises:
        InputError: One side lacks requests that need a tool, or ones that need none.
    """
    for side, rows in (("to train on", examples), ("held out", held_out)):
        if len({needed for _, needed in rows}) < 2:
            raise InputError(f"the rows {side} must hold requests with a tool and without one")
    model = fit([(text, [LABEL] if needed else []) for text, needed in examples], [LABEL], CONFIG)
    features = _features(model, [text for text, _ in held_out], logits, needs)
    columns = np.arange(features.shape[1])
    points = Sparse.from_rows([(columns, point) for point in features], len(columns))
    targets = np.array([[float(needed)] for _, needed in held_out])
    weights, bias = fit_logistic(points, targets, c=1.0)
    first, second, third = (float(weight) for weight in weights[:, 0])
    return NeedsMix(model, (first, second, third, float(bias[0])))


def _features(model: TfidfModel, queries: Sequence[str], logits: Floats, needs: Floats) -> Floats:
    """Return [queries, 3]."""
    return np.stack([needs, logits.max(axis=1), model.logits(queries)[:, 0]], axis=1)
