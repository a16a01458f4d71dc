"""Requests in, scores of known tools out: a tool classifier that stays in memory.

Long requests are read in overlapping windows, so that what stands at their end
counts too.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.retrieval.logistic import Floats, sigmoid
from mlx_tinyagent.retrieval.needs import NEEDS_FILE, NEEDS_MIX_FILE, NeedsMix
from mlx_tinyagent.retrieval.ngrams import MIX_FILE, NGRAM_FILE, NgramMix
from mlx_tinyagent.retrieval.words import words
from mlx_tinyagent.tools.catalog import TINYAGENT16

if TYPE_CHECKING:
    from mlx_tinyagent.models.deberta.tool_heads import ToolClassifier
    from mlx_tinyagent.models.unigram import UnigramTokenizer

WINDOW = 128  # tokens read at once, special ones included
OVERLAP = 32
MAX_WINDOWS = 8  # of one request: the first ones and the last
BATCH = 32  # windows per forward pass
MULTIPLE = 8  # lengths are rounded up to it
UNKNOWN_PIECES = 8  # a run of unknown characters is one piece, however long
WEIGHT_FILES = (
    "config.json",
    "model.safetensors",
    "tool_heads.safetensors",
    "tokenizer.json",
    NGRAM_FILE,
    MIX_FILE,
    NEEDS_FILE,
    NEEDS_MIX_FILE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a classifier says about one request.

    Attributes:
        tools: Probability per label.
        any_tool: Probability that any tool is needed.
        pieces_per_word: How far its words fall apart in the vocabulary, an
            unknown piece counting as ``UNKNOWN_PIECES``: in another language, or
            in none, they fall far apart.
        known_words: Share of its words that the n-grams know; 0 without n-grams.
        whole: Whether all of the request was read.
    """

    tools: dict[str, float]
    any_tool: float
    pieces_per_word: float
    known_words: float
    whole: bool


class ToolScorer:
    """A classifier folder, loaded on first use and kept.

    Args:
        folder: Hugging Face's layout, with the tool heads or without. Sixteen
            outputs without names are TinyAgent's tools in label order.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()

    @cached_property
    def _loaded(self) -> tuple[ToolClassifier, UnigramTokenizer]:
        from mlx_tinyagent.models.deberta.config import DebertaConfig
        from mlx_tinyagent.models.deberta.tool_heads import load_tool_classifier
        from mlx_tinyagent.models.device import setup
        from mlx_tinyagent.models.unigram import UnigramTokenizer

        setup()
        tokenizer = UnigramTokenizer.load(self.folder)
        found = DebertaConfig.read(self.folder / "config.json").labels
        unnamed = found == tuple(f"LABEL_{index}" for index in range(len(TINYAGENT16)))
        labels = TINYAGENT16.names if unnamed else None
        model = load_tool_classifier(self.folder, labels=labels)
        if tokenizer.vocab_size > model.base.config.vocab_size:
            raise ModelError(
                f"{self.folder}: the tokenizer has {tokenizer.vocab_size} pieces, the model "
                f"{model.base.config.vocab_size}"
            )
        return model, tokenizer

    @cached_property
    def _mix(self) -> NgramMix | None:
        return NgramMix.load(self.folder, self._loaded[0].labels)

    @cached_property
    def _needs_mix(self) -> NeedsMix | None:
        return NeedsMix.load(self.folder)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the known tools."""
        return self._loaded[0].labels

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over weights, n-grams, configuration and tokenizer."""
        digest = hashlib.sha256()
        for name in WEIGHT_FILES:
            path = self.folder / name
            if path.is_file():
                digest.update(name.encode())
                digest.update(path.read_bytes())
        return digest.hexdigest()

    def score(self, query: str) -> Scores:
        """Score one request."""
        return self.score_all([query])[0]

    def logits(self, queries: Sequence[str]) -> tuple[Floats, Floats]:
        """Return what the classifier alone says: [queries, labels], and of "any tool" [queries].

        Args:
            queries: Anything, empty texts included.
        """
        logits, needs, _, _ = self._encode(queries)
        return logits, needs

    def score_all(self, queries: Sequence[str]) -> list[Scores]:
        """Score requests, in batches of near length.

        Args:
            queries: Anything, empty texts included.
        """
        queries = [_spoken(query) for query in queries]
        logits, needs, encoded, parts = self._encode(queries)
        model, tokenizer = self._loaded
        if self._needs_mix is not None:
            needs = self._needs_mix.mix(queries, logits, needs)
        if self._mix is not None:
            logits = self._mix.mix(queries, logits)
        found, likely = sigmoid(logits), sigmoid(needs)
        return [
            Scores(
                tools=dict(zip(model.labels, map(float, found[number]), strict=True)),
                any_tool=float(likely[number]),
                pieces_per_word=(
                    _pieces(encoded[number], tokenizer.unk_id) / max(len(words(query)), 1)
                ),
                known_words=self._needs_mix.known(query) if self._needs_mix else 0.0,
                whole=_is_whole(parts[number], encoded[number]),
            )
            for number, query in enumerate(queries)
        ]

    def _encode(
        self, queries: Sequence[str]
    ) -> tuple[Floats, Floats, list[list[int]], list[list[list[int]]]]:
        """Return logits per label and of "any tool", tokens, and the windows they were read in."""
        with self._lock:  # one forward pass at a time; loading too
            model, tokenizer = self._loaded
            encoded = tokenizer.encode_batch(queries, max_length=1 << 30)
            parts = [_windows(ids) for ids in encoded]
            flat = [(number, ids) for number, found in enumerate(parts) for ids in found]
            logits = np.full((len(queries), len(model.labels)), -np.inf)
            needs = np.full(len(queries), -np.inf)
            order = sorted(range(len(flat)), key=lambda place: len(flat[place][1]))
            for start in range(0, len(order), BATCH):
                chosen = [flat[place] for place in order[start : start + BATCH]]
                by_tool, any_tool = _forward(model, [ids for _, ids in chosen])
                for row, (number, _) in enumerate(chosen):
                    logits[number] = np.maximum(logits[number], by_tool[row])
                    needs[number] = max(needs[number], any_tool[row])
        return logits, needs, encoded, parts


def _spoken(query: str) -> str:
    """Return what is written in capitals alone in small letters, as others write it."""
    return query.lower() if query.isupper() else query


def _pieces(ids: Sequence[int], unknown: int) -> int:
    return len(ids) - 2 + ids.count(unknown) * (UNKNOWN_PIECES - 1)


def _windows(ids: list[int]) -> list[list[int]]:
    """Part a row of tokens into overlapping windows, each between the special tokens."""
    if len(ids) <= WINDOW:
        return [ids]
    first, *inner, last = ids
    size = WINDOW - 2
    starts = range(0, max(len(inner) - OVERLAP, 1), size - OVERLAP)
    found = [[first, *inner[start : start + size], last] for start in starts]
    return found if len(found) <= MAX_WINDOWS else [*found[: MAX_WINDOWS - 1], found[-1]]


def _is_whole(parts: Sequence[Sequence[int]], ids: Sequence[int]) -> bool:
    return len(ids) - 2 <= len(parts) * (WINDOW - 2 - OVERLAP) + OVERLAP


def _forward(model: ToolClassifier, rows: Sequence[Sequence[int]]) -> tuple[Floats, Floats]:
    import mlx.core as mx

    from mlx_tinyagent.models.deberta.inputs import pack

    batch = pack(rows, model.base.config, multiple=MULTIPLE)
    logits, any_tool = model(batch.input_ids, batch.attention_mask)
    mx.eval(logits, any_tool)
    return np.array(logits, dtype=np.float64), np.array(any_tool, dtype=np.float64)
