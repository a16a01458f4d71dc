"""Heads over known tools: evidence per label, and whether any tool is needed.

A request that asks for several things needs evidence per tool, not one vector
of the sentence: each label has a query that attends to the tokens, beside the
pooled first token that ``DebertaClassifier`` reads. A folder without these
heads, such as one trained by transformers, is that classifier alone.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_tinyagent.errors import ModelError, StoreError
from mlx_tinyagent.files import readable_errors
from mlx_tinyagent.models.deberta.encoder import key_bias
from mlx_tinyagent.models.deberta.heads import DebertaClassifier
from mlx_tinyagent.models.deberta.weights import load_classifier, save_classifier
from mlx_tinyagent.models.folder import read_safetensors

HEADS_FILE = "tool_heads.safetensors"


class LabelHeads(nn.Module):
    """One attention query per label over the tokens, and one logit for "any tool".

    Args:
        labels: Number of labels.
        hidden: Width of the hidden states.
    """

    def __init__(self, labels: int, hidden: int) -> None:
        super().__init__()
        self.queries = mx.zeros((labels, hidden))  # uniform attention at first
        self.outputs = mx.zeros((labels, hidden))
        self.any_tool = nn.Linear(hidden, 1)

    def __call__(self, states: mx.array, attention_mask: mx.array | None) -> mx.array:
        """Return what the tokens say for each label.

        Args:
            states: Hidden states, [batch, tokens, hidden].
            attention_mask: 1 for tokens, 0 for padding, [batch, tokens]; None for no padding.

        Returns:
            [batch, labels], to be added to the pooled logits.
        """
        scale = states.shape[-1] ** -0.5
        scores = (states @ self.queries.T).swapaxes(1, 2) * scale  # [batch, labels, tokens]
        if attention_mask is not None:
            scores = scores + key_bias(attention_mask, dtype=scores.dtype)[:, 0]
        evidence = mx.softmax(scores, axis=-1, precise=True) @ states  # [batch, labels, hidden]
        return mx.sum(evidence * self.outputs, axis=-1)


class ToolClassifier(nn.Module):
    """Logits per known tool and for "any tool".

    Args:
        base: Encoder, pooler and linear layer, in Hugging Face's layout.
        heads: The heads over tokens; None for ``base`` alone.
    """

    def __init__(self, base: DebertaClassifier, heads: LabelHeads | None) -> None:
        super().__init__()
        self.base = base
        self.heads = heads

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels, in order."""
        return self.base.config.labels

    def __call__(
        self, input_ids: mx.array, attention_mask: mx.array | None = None
    ) -> tuple[mx.array, mx.array]:
        """Score rows of tokens.

        Args:
            input_ids: [batch, tokens].
            attention_mask: 1 for tokens, 0 for padding, [batch, tokens]; None for no padding.

        Returns:
            Logits [batch, labels], and of "any tool" [batch]: the highest label's
            where there is no head for it.
        """
        states = self.base.deberta(input_ids, attention_mask)
        pooled = self.base.pooler(states)
        logits = self.base.classifier(self.base.dropout(pooled))
        if self.heads is None:
            return logits, mx.max(logits, axis=-1)
        return logits + self.heads(states, attention_mask), self.heads.any_tool(pooled)[:, 0]

    def save(self, folder: Path, *, dtype: mx.Dtype | None = None) -> None:
        """Write the classifier's folder and the heads beside it.

        Args:
            folder: Made where missing.
            dtype: Type on disk; None for the model's own.

        Raises:
            StoreError: The folder cannot be written.
        """
        save_classifier(self.base, folder, dtype=dtype)
        if self.heads is None:
            return
        named = cast("list[tuple[str, mx.array]]", tree_flatten(self.heads.parameters()))
        arrays = {name: value if dtype is None else value.astype(dtype) for name, value in named}
        with readable_errors(folder), tempfile.TemporaryDirectory(dir=folder) as beside:
            file = Path(beside) / HEADS_FILE
            try:
                mx.save_safetensors(str(file), arrays)
            except RuntimeError as error:  # how MLX reports a full disk
                raise StoreError(f"cannot write {folder}: {error}") from error
            os.replace(file, folder / HEADS_FILE)


def load_tool_classifier(folder: Path, *, labels: Sequence[str] | None = None) -> ToolClassifier:
    """Load a classifier over known tools, in float32 and evaluation mode.

    Args:
        folder: Hugging Face's layout, with ``tool_heads.safetensors`` or without.
        labels: Names of the outputs where the folder has none (``LABEL_0`` ...);
            otherwise they must be the folder's.

    Raises:
        ModelError: A missing, damaged or foreign file, or labels that do not match.
    """
    base = load_classifier(folder, labels=labels)
    path = folder / HEADS_FILE
    if not path.is_file():
        return ToolClassifier(base, None)
    heads = LabelHeads(len(base.config.labels), base.config.hidden_size)
    wanted = {
        name: tuple(value.shape)
        for name, value in cast("list[tuple[str, mx.array]]", tree_flatten(heads.parameters()))
    }
    found = {name: tuple(entry.shape) for name, entry in read_safetensors(path).items()}
    if found != wanted:
        raise ModelError(f"{path} has tensors {found}; {folder} needs {wanted}")
    arrays = cast("dict[str, mx.array]", mx.load(str(path)))
    heads.load_weights([(name, value.astype(mx.float32)) for name, value in arrays.items()])
    model = ToolClassifier(base, heads)
    model.eval()
    mx.eval(model.parameters())
    return model
