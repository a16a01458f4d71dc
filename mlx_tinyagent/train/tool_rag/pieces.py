"""First embeddings of a fresh vocabulary, taken from a language model's.

A piece gets the mean of the language model's embeddings of its tokens, reduced
to the encoder's width by principal components. Words that mean alike then start
alike, which a few ten thousand requests cannot teach.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from mlx_tinyagent.errors import ModelError

if TYPE_CHECKING:
    from mlx_tinyagent.models.language import LanguageModel
    from mlx_tinyagent.models.unigram import UnigramTokenizer

Floats = npt.NDArray[np.float32]
SIZE = 0.1  # root mean square of an entry


def piece_embeddings(model: LanguageModel, tokenizer: UnigramTokenizer, width: int) -> Floats:
    """Return embeddings of all pieces; special ones are zero.

    Args:
        model: The language model.
        tokenizer: The fresh vocabulary.
        width: Entries per piece.

    Returns:
        [pieces, width].

    Raises:
        ModelError: The language model's embeddings are narrower than ``width``.
    """
    table = _table(model)
    if table.shape[1] < width:
        raise ModelError(
            f"{model.name} has embeddings of width {table.shape[1]}; {width} were asked for"
        )
    names = tokenizer.pieces(range(tokenizer.vocab_size))
    made = np.zeros((len(names), table.shape[1]), np.float32)
    for number, name in enumerate(names):
        text = name.replace("▁", " ")
        if (name.startswith("[") and name.endswith("]") and len(name) > 2) or not text.strip():
            continue
        made[number] = table[model.tokenizer.encode(text, special=False)].mean(axis=0)
    used = np.abs(made).sum(axis=1) > 0
    centered = made[used] - made[used].mean(axis=0)
    _, vectors = np.linalg.eigh(centered.T @ centered)  # ascending
    reduced = centered @ vectors[:, : -width - 1 : -1]
    lengths = np.sqrt(np.square(reduced).mean(axis=1, keepdims=True))
    result = np.zeros((len(names), width), np.float32)
    result[used] = SIZE * reduced / np.maximum(lengths, 1e-6)
    return result


def _table(model: LanguageModel) -> Floats:
    """Return a language model's embedding of every token."""
    import mlx.core as mx

    module = cast(Any, model.model)
    ids = mx.arange(module.model.embed_tokens.weight.shape[0])
    return np.array(module.model.embed_tokens(ids).astype(mx.float32))
