"""Configurations and checkpoints: what is read, written and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from safetensors import safe_open

from mlx_tinyagent.errors import ModelError, StoreError
from mlx_tinyagent.models.deberta import (
    DebertaClassifier,
    DebertaConfig,
    load_classifier,
    load_encoder,
    new_classifier,
    save_classifier,
)

SMALL: dict[str, Any] = {
    "model_type": "deberta-v2",
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "relative_attention": True,
    "position_buckets": 4,
    "max_position_embeddings": 16,
    "position_biased_input": False,
    "pos_att_type": "p2c|c2p",
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "conv_kernel_size": 3,
    "id2label": {"0": "send_sms", "1": "open_note"},
}
IDS = mx.array([[1, 7, 8, 2]])


def saved(folder: Path, **changes: Any) -> DebertaClassifier:
    """Write a small model and return it."""
    model = new_classifier(DebertaConfig.from_dict({**SMALL, **changes}), seed=0)
    model.eval()
    save_classifier(model, folder)
    return model


def rewrite(folder: Path, change: Any) -> None:
    """Apply ``change`` to the weights of a folder."""
    path = folder / "model.safetensors"
    weights = {name: mx.array(np.array(value)) for name, value in mx.load(str(path)).items()}
    mx.save_safetensors(str(path), change(weights))


# --- config.json --------------------------------------------------------------------------


def test_absent_fields_have_transformers_defaults() -> None:
    """Declared and undeclared ones, as ``DebertaV2Config()`` and its model have them."""
    config = DebertaConfig.from_dict({})

    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (1536, 24, 128_100)
    assert (config.relative_attention, config.position_biased_input) == (False, True)
    assert (config.position_buckets, config.share_att_key, config.norm_rel_ebd) == (
        -1,
        False,
        "none",
    )
    assert (config.conv_kernel_size, config.conv_act, config.embedding_width) == (0, "tanh", 1536)
    assert config.labels == ("LABEL_0", "LABEL_1")


def test_v3_config_is_read() -> None:
    """The fields that microsoft/deberta-v3-xsmall states, its string form included."""
    config = DebertaConfig.from_dict(
        {
            "model_type": "deberta-v2",
            "hidden_size": 384,
            "num_attention_heads": 6,
            "max_relative_positions": -1,
            "position_buckets": 256,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": "p2c|c2p",
            "relative_attention": True,
            "position_biased_input": False,
            "pooler_dropout": 0,
            "some_other_key": 1,
        }
    )

    assert (config.head_dim, config.span, config.relative_limit) == (64, 256, 512)
    assert config.position_terms == ("c2p", "p2c")
    assert config.score_scale == pytest.approx((64 * 3) ** -0.5)
    assert config.normalizes_positions


def test_terms_scale_scores_even_without_relative_attention() -> None:
    """As transformers' model does."""
    config = DebertaConfig.from_dict({"pos_att_type": ["c2p", "p2c"]})

    assert config.position_terms == ()
    assert config.score_scale == pytest.approx((64 * 3) ** -0.5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "bert"}, "model_type is 'bert'"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish'"),
        ({"hidden_size": 17}, "no multiple of num_attention_heads 2"),
        ({"hidden_size": "16"}, "hidden_size is '16'; int"),
        ({"hidden_size": True}, "hidden_size is True; int"),
        ({"attention_head_size": 4}, "attention_head_size is 4; only 8"),
        ({"pooler_hidden_size": 4}, "pooler_hidden_size is 4; only 16"),
        ({"conv_kernel_size": 2}, "conv_kernel_size is 2"),
        ({"pos_att_type": "p2c|p2p"}, "pos_att_type holds 'p2p'"),
        ({"pos_att_type": 3}, "pos_att_type is 3"),
        ({"position_buckets": 64}, "position_buckets 64 does not fit"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob is 1.0"),
        ({"id2label": {"0": "a", "2": "b"}}, r"ids \[0, 2\]"),
        ({"id2label": {"0": "a", "1": "a"}}, "labels repeat"),
        ({"id2label": {"x": "a"}}, "no number"),
        ({"id2label": ["a"]}, "id2label is a list"),
        ({"id2label": None, "num_labels": "two"}, "num_labels is 'two'"),
        ({"pad_token_id": 30}, "pad_token_id is 30"),
    ],
)
def test_unusable_settings_are_refused(changes: dict[str, Any], reason: str) -> None:
    """The message carries source, name and value."""
    with pytest.raises(ModelError, match=reason) as caught:
        DebertaConfig.from_dict({**SMALL, **changes}, where="x/config.json")

    assert str(caught.value).startswith("x/config.json: ")


def test_config_survives_writing() -> None:
    """``from_dict(to_dict())`` is the identity."""
    config = DebertaConfig.from_dict({**SMALL, "embedding_size": 8, "cls_dropout": 0.3})

    assert DebertaConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


# --- model.safetensors --------------------------------------------------------------------


def test_loading_gives_back_what_was_saved(tmp_path: Path) -> None:
    """Every weight bit for bit, the same logits, in evaluation mode."""
    model = saved(tmp_path)

    loaded = load_classifier(tmp_path, labels=["send_sms", "open_note"])

    assert not loaded.training
    assert loaded.config == model.config
    for (name, a), (_, b) in zip(
        tree_flatten(model.parameters()), tree_flatten(loaded.parameters()), strict=True
    ):
        assert mx.array_equal(a, b), name
    np.testing.assert_allclose(np.array(loaded(IDS)), np.array(model(IDS)), atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_file_has_hugging_face_names_and_axes(tmp_path: Path) -> None:
    """The convolution's weight is [out, in, taps] on disk."""
    saved(tmp_path)

    with safe_open(tmp_path / "model.safetensors", framework="np") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118

    assert shapes["deberta.encoder.conv.conv.weight"] == [16, 16, 3]
    assert shapes["deberta.encoder.rel_embeddings.weight"] == [8, 16]
    assert shapes["deberta.encoder.layer.0.attention.self.query_proj.weight"] == [16, 16]
    assert shapes["classifier.weight"] == [2, 16]


def test_half_precision_file_loads_in_float32(tmp_path: Path) -> None:
    """Stored in float16, computed in float32."""
    model = saved(tmp_path / "whole")
    save_classifier(model, tmp_path / "half", dtype=mx.float16)

    loaded = load_classifier(tmp_path / "half")

    size = {
        kind: (tmp_path / kind / "model.safetensors").stat().st_size for kind in ("whole", "half")
    }
    assert size["half"] < 0.65 * size["whole"]
    assert {value.dtype for _, value in tree_flatten(loaded.parameters())} == {mx.float32}
    np.testing.assert_allclose(np.array(loaded(IDS)), np.array(model(IDS)), atol=1e-3)


def test_pretraining_leftovers_are_dropped(tmp_path: Path) -> None:
    """Heads of the language model, position ids, and a table that v3 never reads."""
    model = saved(tmp_path)
    extra = {
        "lm_predictions.lm_head.dense.weight": mx.zeros((2, 2)),
        "mask_predictions.dense.weight": mx.zeros((2, 2)),
        "cls.predictions.bias": mx.zeros((2,)),
        "deberta.embeddings.position_ids": mx.arange(16)[None],
        "deberta.embeddings.position_embeddings.weight": mx.zeros((16, 16)),
    }
    rewrite(tmp_path, lambda weights: weights | extra)

    np.testing.assert_allclose(
        np.array(load_classifier(tmp_path)(IDS)), np.array(model(IDS)), atol=1e-6
    )


def test_bare_encoder_gets_a_fresh_head(tmp_path: Path) -> None:
    """A checkpoint of ``DebertaV2Model``, whose names lack the prefix, needs labels."""
    model = saved(tmp_path)
    rewrite(
        tmp_path,
        lambda weights: {
            name.removeprefix("deberta."): value
            for name, value in weights.items()
            if name.startswith("deberta.")
        },
    )

    with pytest.raises(ModelError, match="has no classification head"):
        load_classifier(tmp_path)
    first, again, other = (
        load_classifier(tmp_path, labels=["a", "b", "c"], seed=seed) for seed in (1, 1, 2)
    )

    assert mx.array_equal(first.deberta(IDS), load_encoder(tmp_path)(IDS))
    np.testing.assert_allclose(
        np.array(first.deberta(IDS)), np.array(model.deberta(IDS)), atol=1e-6
    )
    assert first(IDS).shape == (1, 3)
    assert mx.array_equal(first(IDS), again(IDS))
    assert not mx.array_equal(first(IDS), other(IDS))


def test_unnamed_labels_take_names(tmp_path: Path) -> None:
    """A checkpoint that says LABEL_0 accepts as many names."""
    saved(tmp_path, id2label=None)

    assert load_classifier(tmp_path, labels=["a", "b"]).config.labels == ("a", "b")


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["open_note", "send_sms"], "label 0 is 'send_sms', 'open_note' was asked for"),
        (["send_sms"], "has 2 labels, 1 were asked for"),
    ],
)
def test_foreign_labels_are_refused(labels: list[str], reason: str, tmp_path: Path) -> None:
    """Order counts: logits would name the wrong tools."""
    saved(tmp_path)

    with pytest.raises(ModelError, match=reason):
        load_classifier(tmp_path, labels=labels)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: {k: v for k, v in w.items() if "value_proj" not in k}, "2 weights are missing"),
        (lambda w: w | {"deberta.encoder.layer.1.x": mx.zeros(1)}, "1 weights have no place"),
        (
            lambda w: w | {"classifier.bias": mx.zeros(3)},
            r"shape \[3\]; config.json asks for \[2\]",
        ),
        (lambda w: w | {"classifier.bias": mx.zeros(2, mx.int8)}, "classifier.bias is I8"),
    ],
)
def test_foreign_weights_are_refused(change: Any, reason: str, tmp_path: Path) -> None:
    """Missing, extra, misshapen or integer weights; nothing is loaded in part."""
    saved(tmp_path)
    rewrite(tmp_path, change)

    with pytest.raises(ModelError, match=reason):
        load_classifier(tmp_path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    """A cut file, noise, no file, and a pickle that is never opened."""
    saved(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()

    for content in (whole[:-100], b"\x00" * 64, b""):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"model\.safetensors"):
            load_classifier(tmp_path)
    path.unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is not read"):
        load_classifier(tmp_path)
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ModelError, match="expected an object"):
        load_classifier(tmp_path)


def test_float16_computation_is_refused(tmp_path: Path) -> None:
    """Scores leave its range."""
    saved(tmp_path)

    with pytest.raises(ModelError, match="float16 is not supported"):
        load_encoder(tmp_path, dtype=mx.float16)


def test_an_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "taken").write_text("x", encoding="utf-8")

    with pytest.raises(StoreError, match="taken"):
        saved(tmp_path / "taken")
