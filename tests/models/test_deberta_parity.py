"""The model computes what transformers' DebertaV2 computes, values and gradients.

Two oracles: a golden file of tiny random models in float64, read by default,
and transformers itself where torch is installed.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from safetensors.numpy import save_file

from mlx_tinyagent.models.deberta import (
    DebertaClassifier,
    load_classifier,
    load_encoder,
    relative_buckets,
)

ROOT = Path(__file__).resolve().parents[2]


def _script() -> ModuleType:
    """Return ``scripts/make_deberta_golden.py``, which defines cases and weights."""
    path = ROOT / "scripts" / "make_deberta_golden.py"
    spec = importlib.util.spec_from_file_location("make_deberta_golden", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


MAKER = _script()
CASES = {case.name: case for case in MAKER.CASES}
every_case = pytest.mark.parametrize("name", CASES)


@cache
def golden() -> dict[str, np.ndarray]:
    """Return the golden file."""
    with np.load(MAKER.GOLDEN) as file:
        return dict(file)


def loaded(name: str, folder: Path) -> DebertaClassifier:
    """Write the case's checkpoint under Hugging Face's names and load it."""
    config = json.loads(str(golden()[f"{name}/config"]))
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    names = json.loads(str(golden()[f"{name}/gradient_names"]))
    weights = {key: MAKER.draw(key, shape(key, config), CASES[name].seed) for key in names}
    save_file(weights, folder / "model.safetensors")
    return load_classifier(folder)


def shape(name: str, config: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape of a weight as transformers has it, from the configuration alone."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    embedding = config.get("embedding_size", hidden)
    span = config.get("position_buckets", -1)
    if span < 1:
        span = config["max_relative_positions"]
    taps, groups = config.get("conv_kernel_size", 0), config.get("conv_groups", 1)
    ends = {
        "word_embeddings.weight": (config["vocab_size"], embedding),
        "position_embeddings.weight": (config["max_position_embeddings"], embedding),
        "token_type_embeddings.weight": (config["type_vocab_size"], embedding),
        "embed_proj.weight": (hidden, embedding),
        "rel_embeddings.weight": (2 * span, hidden),
        "conv.conv.weight": (hidden, hidden // groups, taps),
        "intermediate.dense.weight": (inner, hidden),
        "intermediate.dense.bias": (inner,),
        "LayerNorm.weight": (hidden,),
        "classifier.weight": (MAKER.LABELS, hidden),
        "classifier.bias": (MAKER.LABELS,),
        "bias": (hidden,),
    }
    for end, found in ends.items():
        if name.endswith(end):
            return found
    is_feed_forward = name.endswith("output.dense.weight") and "attention" not in name
    return (hidden, inner) if is_feed_forward else (hidden, hidden)


def given(name: str) -> tuple[list[mx.array | None], mx.array, np.ndarray]:
    """Return the model's arguments, the targets and the mask of a case."""
    arrays = MAKER.inputs(CASES[name])
    types = mx.array(arrays["types"]) if CASES[name].token_types else None
    arguments = [mx.array(arrays["ids"]), mx.array(arrays["mask"]), types]
    return arguments, mx.array(arrays["targets"]), arrays["mask"]


def bce_gradients(
    model: DebertaClassifier, arguments: list[mx.array | None], targets: mx.array
) -> dict[str, np.ndarray]:
    """Return the gradients of the mean binary cross-entropy, axes as in checkpoints."""

    def loss() -> mx.array:
        return nn.losses.binary_cross_entropy(model(*arguments), targets.astype(mx.float32))

    _, tree = nn.value_and_grad(model, loss)()
    found = {key: np.array(value) for key, value in tree_flatten(tree)}
    return {
        key: value.swapaxes(1, 2) if key.endswith("conv.conv.weight") else value
        for key, value in found.items()
    }


@every_case
def test_states_and_logits_equal_the_golden_ones(name: str, tmp_path: Path) -> None:
    """Real positions of the last block, and logits, of padded batches."""
    model = loaded(name, tmp_path)
    arguments, _, _ = given(name)

    states = np.array(model.deberta(*arguments))
    logits = np.array(model(*arguments))

    np.testing.assert_allclose(logits, golden()[f"{name}/logits"], rtol=0, atol=1e-5)
    for row, length in enumerate(CASES[name].lengths):
        np.testing.assert_allclose(
            states[row, MAKER.sampled(length)],
            golden()[f"{name}/states/{row}"],
            rtol=0,
            atol=1e-5,
        )


@every_case
def test_gradients_equal_the_golden_ones(name: str, tmp_path: Path) -> None:
    """Norm and two projections of the gradient of every weight, 1e-4 of the norm."""
    model = loaded(name, tmp_path)
    arguments, targets, _ = given(name)

    found = bce_gradients(model, arguments, targets)

    names = json.loads(str(golden()[f"{name}/gradient_names"]))
    assert sorted(found) == names
    largest = golden()[f"{name}/gradients"][:, 0].max()
    for key, wanted in zip(names, golden()[f"{name}/gradients"], strict=True):
        got = MAKER.projected(key, found[key], CASES[name].seed)
        # Biases of keys have no gradient but for rounding.
        np.testing.assert_allclose(
            got, wanted, rtol=0, atol=1e-4 * wanted[0] + 1e-7 * largest, err_msg=key
        )


@pytest.mark.parametrize(("buckets", "limit"), MAKER.BUCKETS)
def test_buckets_equal_the_golden_ones(buckets: int, limit: int) -> None:
    """All distances up to 1,200 tokens, both signs."""
    table = relative_buckets(1201, buckets=buckets, max_distance=limit)

    found = np.concatenate([table[0, :0:-1], table[:, 0]])

    np.testing.assert_array_equal(found, golden()[f"buckets/{buckets}/{limit}"])


def test_golden_file_names_its_maker() -> None:
    """Provenance lies in the file itself."""
    made = json.loads(str(golden()["provenance"]))

    assert made["by"] == "scripts/make_deberta_golden.py"
    assert {"torch", "transformers", "numpy", "computed_in"} <= set(made)


@every_case
def test_equals_transformers(name: str, tmp_path: Path) -> None:
    """All states, logits and whole gradients, on a checkpoint that transformers names."""
    pytest.importorskip("torch", reason="torch is in the extra `reference`")
    wanted = MAKER.reference(CASES[name])
    (tmp_path / "config.json").write_text(json.dumps(wanted.config), encoding="utf-8")
    save_file(wanted.weights, tmp_path / "model.safetensors")
    model = load_classifier(tmp_path)
    arguments, targets, mask = given(name)

    states = model.deberta.hidden_states(*arguments)
    gradients = bce_gradients(model, arguments, targets)

    real = mask.astype(bool)
    for found, state in zip(states, wanted.states, strict=True):
        np.testing.assert_allclose(np.array(found)[real], state[real], rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.array(model(*arguments)), wanted.logits, rtol=0, atol=2e-6)
    assert sorted(gradients) == sorted(wanted.gradients)
    largest = max(np.abs(value).max() for value in wanted.gradients.values())
    for key, gradient in wanted.gradients.items():
        bound = 1e-5 * np.abs(gradient).max() + 1e-7 * largest
        np.testing.assert_allclose(gradients[key], gradient, rtol=0, atol=bound, err_msg=key)


def test_transformers_reads_what_is_written(tmp_path: Path) -> None:
    """A folder written here loads in transformers without a missing or extra weight."""
    torch = pytest.importorskip("torch", reason="torch is in the extra `reference`")
    from transformers import DebertaV2ForSequenceClassification

    from mlx_tinyagent.models.deberta import save_classifier

    (source := tmp_path / "source").mkdir()
    model = loaded("conv_default", source)
    save_classifier(model, tmp_path / "written")
    theirs, report = DebertaV2ForSequenceClassification.from_pretrained(
        tmp_path / "written", output_loading_info=True
    )
    arguments, _, _ = given("conv_default")

    logits = theirs.eval()(*(torch.tensor(np.array(value)).long() for value in arguments[:2]))

    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys"))
    np.testing.assert_allclose(
        np.array(model(*arguments)), logits.logits.detach().numpy(), rtol=0, atol=1e-5
    )


class _Scaled(nn.Module):
    """Stands where a dropout stands and scales by a factor of its own."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def __call__(self, x: mx.array) -> mx.array:
        return x * self.factor


def test_dropout_stands_where_transformers_has_it(tmp_path: Path) -> None:
    """With each dropout a factor of its own, both models still agree."""
    torch = pytest.importorskip("torch", reason="torch is in the extra `reference`")
    from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

    class Scaled(torch.nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x: Any) -> Any:
            return x * self.factor

    case = CASES["conv_gelu"]
    config = DebertaV2Config(**case.config)
    theirs = DebertaV2ForSequenceClassification(config)
    model = loaded("conv_gelu", tmp_path)
    theirs.load_state_dict(
        {
            key: torch.tensor(MAKER.draw(key, tuple(value.shape), case.seed))
            for key, value in theirs.state_dict().items()
        }
    )
    names = [key for key, part in theirs.named_modules() if isinstance(part, torch.nn.Dropout)]
    ours = dict(model.named_modules())
    assert sorted(names) == sorted(key for key, part in ours.items() if type(part) is nn.Dropout)
    for index, key in enumerate(names):
        parent, _, leaf = key.rpartition(".")
        factor = 1 - 0.01 * (index + 1)
        setattr(theirs.get_submodule(parent), leaf, Scaled(factor))
        setattr(ours[parent], leaf, _Scaled(factor))
    arguments, _, _ = given("conv_gelu")

    model.train()
    logits = theirs.train()(*(torch.tensor(np.array(value)).long() for value in arguments[:2]))

    np.testing.assert_allclose(
        np.array(model(*arguments)), logits.logits.detach().numpy(), rtol=0, atol=1e-5
    )


def test_encoder_alone_gives_the_classifiers_states(tmp_path: Path) -> None:
    """``load_encoder`` leaves the head out and changes nothing else."""
    model = loaded("v3", tmp_path)
    arguments, _, _ = given("v3")

    encoder = load_encoder(tmp_path)

    assert mx.array_equal(encoder(*arguments), model.deberta(*arguments))
