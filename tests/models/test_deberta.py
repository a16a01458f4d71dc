"""What holds of the encoder and classifier whatever the weights are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_tinyagent.errors import ContextError, InputError, ModelError
from mlx_tinyagent.models.deberta import (
    Batch,
    DebertaClassifier,
    DebertaConfig,
    PositionTable,
    gelu,
    key_bias,
    new_classifier,
    pack,
    position_table,
    quantizable,
    relative_buckets,
)

V3: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "relative_attention": True,
    "position_buckets": 8,
    "max_position_embeddings": 32,
    "position_biased_input": False,
    "pos_att_type": "p2c|c2p",
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "initializer_range": 0.3,  # far from linear
    "id2label": {"0": "one", "1": "two", "2": "three"},
}
ROW_LENGTHS = (3, 11, 7, 40)  # tokens; the last exceeds all buckets


def make(**changes: Any) -> DebertaClassifier:
    """Return a small model in evaluation mode."""
    model = new_classifier(DebertaConfig.from_dict({**V3, **changes}), seed=7)
    model.eval()
    return model


def rows(*lengths: int) -> list[list[int]]:
    """Return random rows without pad ids."""
    draw = np.random.default_rng(3)
    return [draw.integers(1, 50, length).tolist() for length in lengths]


def call(model: DebertaClassifier, batch: Batch) -> np.ndarray:
    """Return logits."""
    return np.array(model(batch.input_ids, batch.attention_mask))


# --- GELU ---------------------------------------------------------------------------------


def test_gelu_is_exact_to_a_millionth() -> None:
    """Value and derivative against the error function in float64, on a dense grid."""
    x = np.concatenate([np.linspace(-30, 30, 60_001), [-1e30, 1e30]]).astype(np.float32)
    cdf = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x.astype(float)])
    density = np.exp(-0.5 * np.square(np.clip(x.astype(float), -40, 40))) / math.sqrt(2 * math.pi)

    value = np.array(gelu(mx.array(x)))
    slope = np.array(mx.grad(lambda v: gelu(v).sum())(mx.array(x)))

    assert np.abs(value - x * cdf).max() < 4e-7
    assert np.abs(slope - (cdf + np.clip(x, -40, 40) * density)).max() < 1e-6


def test_gelu_keeps_type_and_compiles() -> None:
    """Low precision in, low precision out; gradients survive an outer compile."""
    x = mx.array([-3.0, -0.5, 0.0, 0.5, 3.0])
    slope = mx.grad(lambda v: gelu(v).sum())

    compiled = mx.compile(slope)(x)

    assert gelu(x.astype(mx.bfloat16)).dtype == mx.bfloat16
    assert slope(x.astype(mx.bfloat16)).dtype == mx.bfloat16
    np.testing.assert_allclose(np.array(compiled), np.array(slope(x)), atol=1e-7)
    assert math.isnan(gelu(mx.array(float("nan"))).item())


# --- Relative positions -------------------------------------------------------------------


@pytest.mark.parametrize(("buckets", "limit"), [(256, 512), (32, 128), (8, 32), (-1, 512)])
def test_buckets_are_odd_and_monotone(buckets: int, limit: int) -> None:
    """Swapping query and key flips the sign; farther is never lower."""
    table = relative_buckets(700, buckets=buckets, max_distance=limit)

    np.testing.assert_array_equal(table, -table.T)
    assert (np.diff(table[:, 0]) >= 0).all()


def test_near_distances_keep_buckets_of_their_own() -> None:
    """Hand-worked for 8 buckets up to 32 tokens: exact to 4, then logarithmic."""
    column = relative_buckets(33, buckets=8, max_distance=32)[:, 0]

    # 4 + ceil(3 ln(d / 4) / ln(31 / 4)): 5-7 -> 5, 8-15 -> 6, 16-31 -> 7
    expected = [0, 1, 2, 3, 4] + [5] * 3 + [6] * 8 + [7] * 16 + [8]
    np.testing.assert_array_equal(column, expected)


@pytest.mark.parametrize(("length", "count"), [(16, 31), (32, 63), (128, 255), (512, 511)])
def test_table_holds_only_reachable_rows(length: int, count: int) -> None:
    """Rows in use for v3's 256 buckets, and the same rows as without slicing."""
    config = DebertaConfig.from_dict(
        {**V3, "position_buckets": 256, "max_position_embeddings": 512}
    )

    table = position_table(length, config)

    whole = np.clip(relative_buckets(length, buckets=256, max_distance=512) + 256, 0, 511)
    assert table.stop - table.start == count
    np.testing.assert_array_equal(np.array(table.rows) + table.start, whole)


# --- Batches ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{}, {"conv_kernel_size": 3}, {"share_att_key": False}, {"relative_attention": False}],
    ids=["v3", "conv", "unshared", "plain"],
)
def test_rows_do_not_depend_on_their_batch(changes: dict[str, Any]) -> None:
    """A padded row of a batch equals the same row alone, and more padding changes nothing."""
    model = make(**changes)
    given = rows(*ROW_LENGTHS)

    together = call(model, pack(given, model.config))
    wider = call(model, pack(given, model.config, multiple=64))
    alone = np.concatenate([call(model, pack([row], model.config, multiple=1)) for row in given])

    assert np.abs(together).max() > 0.1
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
    np.testing.assert_allclose(wider, alone, rtol=0, atol=1e-5)


def test_order_of_rows_is_only_order() -> None:
    """Position rows broadcast over the batch: no row sees another's heads."""
    model = make()
    given = rows(9, 9, 9)

    straight = call(model, pack(given, model.config))
    turned = call(model, pack(given[::-1], model.config))

    np.testing.assert_allclose(straight, turned[::-1], rtol=0, atol=1e-6)


def test_word_order_matters() -> None:
    """Without absolute positions, only the position terms can tell."""
    (row,) = rows(9)
    swapped = [row[0], row[2], row[1], *row[3:]]
    model, blind = make(), make(pos_att_type=None)

    def difference(of: DebertaClassifier) -> float:
        both = call(of, pack([row, swapped], of.config))
        return float(np.abs(both[0] - both[1]).max())

    assert difference(model) > 1e-3
    assert difference(blind) < 1e-5


def test_padded_row_is_refused_and_harms_no_other() -> None:
    """``pack`` refuses an empty row; in raw arrays its neighbors stay finite and equal."""
    model = make()
    given = rows(5, 5)
    ids = mx.array([*given, [0] * 5])

    with pytest.raises(InputError, match="row 1 has no tokens"):
        pack([given[0], []], model.config)
    logits = np.array(model(ids, mx.array([[1] * 5, [1] * 5, [0] * 5])))

    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits[:2], call(model, pack(given, model.config)), atol=1e-6)


def test_pack_rounds_up_and_masks() -> None:
    """Lengths become a multiple of 8; a batch without padding needs no mask."""
    config = make().config

    batch = pack(rows(3, 9), config)
    full = pack(rows(8, 8), config)

    assert batch.input_ids.shape == (2, 16)
    assert batch.attention_mask is not None
    assert batch.attention_mask.sum(axis=1).tolist() == [3, 9]
    assert batch.input_ids[0, 3:].tolist() == [0] * 13
    assert full.attention_mask is None


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([], "0 rows"),
        ([[1, 50]], "token 50; the model knows 0 to 49"),
        ([[1], [-1]], "row 1 holds token -1"),
    ],
)
def test_pack_refuses_what_the_model_cannot_read(given: list[list[int]], reason: str) -> None:
    """An id outside the table would read foreign memory."""
    with pytest.raises(InputError, match=reason):
        pack(given, make().config)


def test_absolute_positions_limit_the_length() -> None:
    """Padding stops at the limit; one token more is refused."""
    model = make(position_biased_input=True, max_position_embeddings=20)

    assert pack(rows(19), model.config).input_ids.shape == (1, 20)
    with pytest.raises(ContextError, match="row 0 has 21 tokens"):
        pack(rows(21), model.config)
    with pytest.raises(ContextError, match="21 tokens do not fit"):
        model(mx.array(rows(21)))


# --- Inference and training ----------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"share_att_key": False}, {"norm_rel_ebd": "none"}])
def test_cached_positions_change_nothing_and_never_go_stale(changes: dict[str, Any]) -> None:
    """Cached equals uncached, also after each weight that the cache comes from was replaced."""
    model = make(**changes)
    batch = pack(rows(*ROW_LENGTHS), model.config)
    plain = call(model, batch)

    model.cache_positions()
    np.testing.assert_allclose(call(model, batch), plain, rtol=0, atol=1e-6)
    for name, value in tree_flatten(model.parameters()):
        if (
            "rel_embeddings" in name
            or "key_proj" in name
            or name.endswith("encoder.LayerNorm.bias")
        ):
            before = call(model, batch)
            model.load_weights([(name, value + 0.05 * mx.random.normal(value.shape))], strict=False)
            after = call(model, batch)
            model.cache_positions()
            np.testing.assert_allclose(call(model, batch), after, rtol=0, atol=1e-6)
            if not name.endswith("key_proj.bias"):  # adds equally to all keys
                assert np.abs(before - after).max() > 1e-5, name


@pytest.mark.slow
def test_compiled_equals_plain() -> None:
    """Under ``mx.compile``, with cached positions."""
    model = make()
    model.cache_positions()
    batch = pack(rows(*ROW_LENGTHS), model.config)

    compiled = mx.compile(lambda ids, mask: model(ids, mask))

    np.testing.assert_allclose(
        np.array(compiled(batch.input_ids, batch.attention_mask)), call(model, batch), atol=1e-6
    )


def test_dropout_acts_in_training_alone() -> None:
    """Two training passes differ, two evaluations do not; rate 0 trains like evaluation."""
    model, still = make(), make(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    batch = pack(rows(*ROW_LENGTHS), model.config)
    quiet = call(model, batch)

    np.testing.assert_array_equal(call(model, batch), quiet)
    model.train()
    assert np.abs(call(model, batch) - call(model, batch)).max() > 1e-3
    still.train()
    np.testing.assert_allclose(call(still, batch), quiet, rtol=0, atol=1e-6)


def test_attention_with_dropout_averages_to_attention_without() -> None:
    """The step-by-step path computes the same scores: its mean over masks converges."""
    model = make(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.2)
    attention = model.deberta.encoder.layer[0].attention.self
    table = position_table(6, model.config)
    positions = attention.project_positions(
        model.deberta.encoder.rel_embeddings.weight[table.start : table.stop]
    )
    mx.random.seed(0)
    x = mx.random.normal((1, 6, 32))
    bias = key_bias(mx.array([[1, 1, 1, 1, 1, 0]]))
    wanted = np.array(attention(x, bias, positions, table))

    attention.train()
    many = mx.broadcast_to(x, (6000, 6, 32))
    mean = np.array(attention(many, bias, positions, table).mean(axis=0))

    assert np.abs(mean - wanted[0]).max() < 0.05 * np.abs(wanted).max()


@pytest.mark.slow
def test_learns_a_label_from_one_word() -> None:
    """A compiled training step with dropout brings the loss down."""
    config = DebertaConfig.from_dict({**V3, "initializer_range": 0.02})
    model = new_classifier(config, seed=1)
    mx.random.seed(0)
    draw = np.random.default_rng(0)
    ids = draw.integers(1, 50, (32, 8))
    targets = mx.array(np.stack([(ids == word).any(1) for word in (5, 6, 7)], 1), mx.float32)
    optimizer = optim.AdamW(3e-3)
    state = [model.state, optimizer.state, mx.random.state]
    step = nn.value_and_grad(
        model, lambda given: nn.losses.binary_cross_entropy(model(given), targets)
    )

    def update(given: mx.array) -> mx.array:
        loss, gradients = step(given)
        optimizer.update(model, gradients)
        return loss

    compiled: Callable[[mx.array], mx.array] = mx.compile(update, inputs=state, outputs=state)
    model.train()
    losses = []
    for _ in range(60):
        losses.append(compiled(mx.array(ids)).item())
        mx.eval(state)

    assert losses[0] > 0.5
    assert min(losses[-5:]) < 0.15


def test_bfloat16_stays_close() -> None:
    """Logits within 3 % of their range."""
    model = make(initializer_range=0.1)
    batch = pack(rows(*ROW_LENGTHS), model.config)
    wanted = call(model, batch)

    model.apply(lambda value: value.astype(mx.bfloat16))
    model.cache_positions()
    found = np.array(model(batch.input_ids, batch.attention_mask).astype(mx.float32))

    assert np.abs(found - wanted).max() < 0.03 * np.abs(wanted).max()


def test_eight_bits_keep_the_order_of_labels() -> None:
    """Quantized as ``quantizable`` says, with heads and position rows left exact."""
    labels = {str(index): f"tool {index}" for index in range(16)}
    model = make(initializer_range=0.1, intermediate_size=64, id2label=labels)
    batch = pack(rows(*ROW_LENGTHS), model.config)
    wanted = call(model, batch)

    nn.quantize(model, group_size=32, bits=8, class_predicate=quantizable)
    model.cache_positions()
    found = call(model, batch)

    kinds = {name: type(part).__name__ for name, part in model.named_modules()}
    assert kinds["deberta.embeddings.word_embeddings"] == "QuantizedEmbedding"
    assert kinds["deberta.encoder.layer.0.attention.self.key_proj"] == "QuantizedLinear"
    assert kinds["deberta.encoder.rel_embeddings"] == "Embedding"
    assert kinds["classifier"] == "Linear"
    assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()
    np.testing.assert_array_equal(found.argmax(axis=1), wanted.argmax(axis=1))


def test_appended_slots_can_share_a_position() -> None:
    """With a position table of one's own, permuting slots permutes their states."""
    model = make()
    encoder = model.deberta.encoder
    words, slots = 6, 3
    plain = position_table(words, model.config)
    centre = model.config.span
    table = np.full((words + slots, words + slots), centre)  # slot to slot: distance 0
    table[:words, :words] = np.array(plain.rows) + plain.start
    table[:words, words:] = 0  # one row each way between words and slots
    table[words:, :words] = 2 * centre - 1
    shared = PositionTable(rows=mx.array(table.astype(np.int32)), start=0, stop=2 * centre)
    blocked = np.zeros((words + slots, words + slots), np.float32)
    blocked[:words, words:] = -1e9  # words do not see slots
    x = mx.random.normal((1, words + slots, 32), key=mx.random.key(0))
    order = [*range(words), words + 2, words, words + 1]

    states = np.array(encoder(x, bias=mx.array(blocked), table=shared)[-1])
    permuted = np.array(encoder(x[:, order], bias=mx.array(blocked), table=shared)[-1])
    without = np.array(encoder(x[:, :words])[-1])

    np.testing.assert_allclose(permuted, states[:, order], rtol=0, atol=1e-5)
    np.testing.assert_allclose(states[:, :words], without, rtol=0, atol=1e-5)


def test_equal_seeds_give_equal_weights() -> None:
    """And leave the global random state alone."""
    config = make().config
    mx.random.seed(5)
    expected = mx.random.normal((3,)).tolist()
    mx.random.seed(5)

    first, second = (tree_flatten(new_classifier(config, seed=1).parameters()) for _ in range(2))
    other = dict(tree_flatten(new_classifier(config, seed=2).parameters()))

    assert mx.random.normal((3,)).tolist() == expected
    assert all(mx.array_equal(a, b) for (_, a), (_, b) in zip(first, second, strict=True))
    assert not mx.array_equal(other["classifier.weight"], dict(first)["classifier.weight"])


def test_a_classifier_needs_labels() -> None:
    """An encoder's configuration may lack them."""
    with pytest.raises(ModelError, match="at least one label"):
        DebertaClassifier(dataclasses.replace(make().config, labels=()))
