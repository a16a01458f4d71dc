"""A second opinion on long requests: word and character n-grams, mixed in by logistic regression.

A few hundred real compound requests are too few for an encoder that starts
fresh, and enough for n-grams; their errors differ, so the mix of both keeps
fewer tools for the same share of complete requests.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlx_tinyagent.errors import InputError, ModelError
from mlx_tinyagent.files import atomic_write
from mlx_tinyagent.retrieval.groups import group_of
from mlx_tinyagent.retrieval.logistic import Floats, Sparse, fit_logistic
from mlx_tinyagent.retrieval.tfidf import Example, TfidfConfig, TfidfModel, fit

NGRAM_FILE = "ngrams.safetensors"
MIX_FILE = "ngrams.json"
CONFIG = TfidfConfig(min_examples=3)


def write_weights(path: Path, weights: Sequence[float]) -> None:
    """Write the weights of a mix.

    Raises:
        StoreError: The folder cannot be written.
    """
    atomic_write(path, json.dumps({"weights": list(weights)}) + "\n")


def read_weights(path: Path, count: int) -> list[float] | None:
    """Read the weights of a mix; None where there is no file.

    Raises:
        ModelError: The file is damaged or holds another number of weights.
    """
    if not path.is_file():
        return None
    try:
        weights = [float(weight) for weight in json.loads(path.read_text())["weights"]]
        if len(weights) != count:
            raise ValueError(f"{len(weights)} weights, not {count}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} cannot be read: {error!r}") from error
    return weights


@dataclass(frozen=True, slots=True)
class NgramMix:
    """An n-gram model with its weights in the mix.

    Attributes:
        model: The n-gram model; its labels are the classifier's.
        weights: Of the classifier's logit, of the n-grams' logit, and a constant.
    """

    model: TfidfModel
    weights: tuple[float, float, float]

    def mix(self, queries: Sequence[str], logits: Floats) -> Floats:
        """Return logits with the n-grams' mixed in where a request is long.

        Args:
            queries: The requests.
            logits: The classifier's, [queries, labels].
        """
        long = [place for place, query in enumerate(queries) if group_of(query) == "long"]
        result = logits.copy()
        if long:
            own, other, constant = self.weights
            found = self.model.logits([queries[place] for place in long])
            result[long] = own * logits[long] + other * found + constant
        return result

    def save(self, folder: Path) -> None:
        """Write the n-gram model and its weights.

        Raises:
            StoreError: The folder cannot be written.
        """
        self.model.save(folder / NGRAM_FILE)
        write_weights(folder / MIX_FILE, self.weights)

    @classmethod
    def load(cls, folder: Path, labels: Sequence[str]) -> NgramMix | None:
        """Read what ``save`` wrote; None where a classifier has no n-grams.

        Args:
            folder: The classifier's folder.
            labels: The classifier's labels.

        Raises:
            ModelError: A file is damaged, or the labels differ.
        """
        weights = read_weights(folder / MIX_FILE, 3)
        if weights is None:
            return None
        own, other, constant = weights
        model = TfidfModel.load(folder / NGRAM_FILE)
        if model.labels != tuple(labels):
            raise ModelError(f"{folder / NGRAM_FILE} has other labels than the classifier")
        return cls(model, (own, other, constant))


def fit_mix(
    examples: Sequence[Example],
    held_out: Sequence[Example],
    held_out_logits: Floats,
    labels: Sequence[str],
) -> NgramMix:
    """Fit n-grams on some requests, and the mix on others.

    Args:
        examples: Requests with the tools they need.
        held_out: Requests that neither the classifier nor the n-grams are fitted on.
        held_out_logits: The classifier's logits of these, [requests, labels].
        labels: Tool names in label order.

    Raises:
        InputError: There are no examples or no held-out ones.
    """
    if not held_out:
        raise InputError("n-grams can be mixed in only where held-out long requests say how much")
    model = fit(examples, labels, CONFIG)
    other = model.logits([query for query, _ in held_out])
    targets = np.array([[name in names for name in labels] for _, names in held_out], np.float64)
    columns = np.array([0, 1])
    pairs = np.stack([held_out_logits.ravel(), other.ravel()], axis=1)
    features = Sparse.from_rows([(columns, pair) for pair in pairs], 2)
    weights, bias = fit_logistic(features, targets.reshape(-1, 1), c=1.0)
    return NgramMix(model, (float(weights[0, 0]), float(weights[1, 0]), float(bias[0])))
