"""The heads over tokens: values, padding, files."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models.deberta import DebertaConfig, new_classifier, save_classifier
from mlx_tinyagent.models.deberta.tool_heads import (
    HEADS_FILE,
    LabelHeads,
    ToolClassifier,
    load_tool_classifier,
)

LABELS = ("send_sms", "open_note", "create_note")
CONFIG = DebertaConfig(
    vocab_size=40,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=32,
    position_buckets=8,
    relative_attention=True,
    pos_att_type=("c2p", "p2c"),
    share_att_key=True,
    norm_rel_ebd="layer_norm",
    position_biased_input=False,
    labels=LABELS,
)


def made() -> ToolClassifier:
    """Return a classifier with random heads."""
    heads = LabelHeads(len(LABELS), 16)
    heads.queries = mx.random.normal((3, 16), key=mx.random.key(1))
    heads.outputs = mx.random.normal((3, 16), key=mx.random.key(2))
    model = ToolClassifier(new_classifier(CONFIG, seed=0), heads)
    model.eval()
    return model


def test_the_heads_compute_attention_per_label() -> None:
    """Against the same in numpy."""
    heads = made().heads
    assert heads is not None
    states = mx.random.normal((2, 5, 16), key=mx.random.key(3))
    mask = mx.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])

    found = np.array(heads(states, mask))

    queries, outputs = np.array(heads.queries), np.array(heads.outputs)
    for row, length in ((0, 5), (1, 2)):
        tokens = np.array(states)[row, :length]
        scores = queries @ tokens.T / 4.0
        weights = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(
            found[row], ((weights @ tokens) * outputs).sum(axis=1), rtol=2e-5, atol=2e-6
        )


def test_padding_changes_nothing() -> None:
    """A row alone has the logits that it has beside a longer one."""
    model = made()
    short, long = [1, 7, 2], [1, 9, 8, 7, 6, 5, 4, 2]
    ids = mx.array([[*short, 0, 0, 0, 0, 0], long])
    mask = mx.array([[1] * 3 + [0] * 5, [1] * 8])

    together, any_together = model(ids, mask)
    alone, any_alone = model(mx.array([short]))

    np.testing.assert_allclose(np.array(together)[0], np.array(alone)[0], atol=1e-5)
    assert float(any_together[0]) == pytest.approx(float(any_alone[0]), abs=1e-5)


def test_a_folder_reads_back(tmp_path: Path) -> None:
    """What is written in float32 gives the same logits."""
    model = made()
    model.save(tmp_path)
    again = load_tool_classifier(tmp_path)

    ids = mx.array([[1, 5, 6, 2]])
    assert again.labels == LABELS
    np.testing.assert_array_equal(np.array(again(ids)[0]), np.array(model(ids)[0]))
    np.testing.assert_array_equal(np.array(again(ids)[1]), np.array(model(ids)[1]))


def test_a_plain_classifier_serves_too(tmp_path: Path) -> None:
    """Without heads the logits are the classifier's, and "any tool" is the highest."""
    base = new_classifier(CONFIG, seed=0)
    base.eval()
    save_classifier(base, tmp_path)
    ids = mx.array([[1, 5, 6, 2]])

    logits, any_tool = load_tool_classifier(tmp_path)(ids)

    np.testing.assert_array_equal(np.array(logits), np.array(base(ids)))
    assert float(any_tool[0]) == np.array(logits).max()


def test_unnamed_labels_are_given_names(tmp_path: Path) -> None:
    """A checkpoint with LABEL_0 ... takes the caller's names, and only as many as it has."""
    unnamed = DebertaConfig.from_dict({**CONFIG.to_dict(), "id2label": {
        str(index): f"LABEL_{index}" for index in range(3)
    }})  # fmt: skip
    save_classifier(new_classifier(unnamed, seed=0), tmp_path)

    assert load_tool_classifier(tmp_path, labels=LABELS).labels == LABELS
    with pytest.raises(ModelError, match="has 3 labels, 2 were asked for"):
        load_tool_classifier(tmp_path, labels=LABELS[:2])


def test_heads_of_another_model_are_refused(tmp_path: Path) -> None:
    """Shapes are compared before anything is computed; damage is one line."""
    made().save(tmp_path)
    mx.save_safetensors(str(tmp_path / HEADS_FILE), {"queries": mx.zeros((2, 16))})
    with pytest.raises(ModelError, match="has tensors"):
        load_tool_classifier(tmp_path)

    (tmp_path / HEADS_FILE).write_bytes(b"no safetensors")
    with pytest.raises(ModelError):
        load_tool_classifier(tmp_path)
