"""Whether a tool is needed: arithmetic of the mix, files, and how the weights are found."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from mlx_tinyagent.errors import InputError, ModelError
from mlx_tinyagent.retrieval.needs import NEEDS_FILE, NEEDS_MIX_FILE, NeedsMix, fit_needs
from mlx_tinyagent.retrieval.scorer import ToolScorer
from mlx_tinyagent.retrieval.tfidf import fit

ROWS = [
    (f"{text} {name}", needed)
    for name in ("Ana", "Leo", "Dana", "Sam", "Mia", "Uma", "Zoe", "Noor")
    for text, needed in (
        ("put it on my calendar with", True),
        ("what is on the calendar of", False),
        ("text", True),
        ("how old is", False),
    )
]


def made(noise: float = 0.0) -> NeedsMix:
    """Fit on six names, mix on the others, beside a classifier that is right up to noise."""
    train, held_out = ROWS[:24], ROWS[24:]
    rng = np.random.default_rng(0)
    right = np.array([3.0 if needed else -3.0 for _, needed in held_out])
    needs = right + noise * rng.normal(size=right.shape)
    return fit_needs(train, held_out, rng.normal(size=(len(right), 3)), needs)


def test_the_mix_is_the_weighted_sum() -> None:
    """Of the logit of "any tool", the highest tool's and the n-grams'."""
    mix = made()
    logits, needs = np.array([[1.0, -2.0], [0.5, 4.0]]), np.array([0.25, -1.0])
    queries = ["text Ana", "how old is Leo"]

    first, second, third, constant = mix.weights
    words = mix.model.logits(queries)[:, 0]
    wanted = first * needs + second * np.array([1.0, 4.0]) + third * words + constant
    np.testing.assert_allclose(mix.mix(queries, logits, needs), wanted)


def test_n_grams_tell_what_the_classifier_does_not() -> None:
    """Beside a classifier that knows nothing, n-grams part the two kinds of new requests."""
    mix = made(noise=100.0)
    queries = ["put it on my calendar with Kofi", "what is on the calendar of Kofi"]

    does, does_not = mix.mix(queries, np.zeros((2, 3)), np.zeros(2))

    assert does > 0 > does_not


def test_a_worse_classifier_counts_less() -> None:
    """The weights follow what held-out requests say."""
    assert made(noise=0.1).weights[0] > made(noise=30.0).weights[0]


def test_the_files_read_back(tmp_path: Path) -> None:
    """What is read mixes as what was written, up to float32."""
    mix = made()
    mix.save(tmp_path)
    again = NeedsMix.load(tmp_path)

    assert again is not None
    assert again.weights == mix.weights
    given = (["text Mia"], np.zeros((1, 2)), np.zeros(1))
    np.testing.assert_allclose(again.mix(*given), mix.mix(*given), atol=1e-4)


def test_no_files_are_no_mix_and_damaged_ones_an_error(tmp_path: Path) -> None:
    """The one label says what the model is for."""
    assert NeedsMix.load(tmp_path) is None
    made().save(tmp_path)
    fit([("text Ana", ["send_sms"])], ["send_sms"]).save(tmp_path / NEEDS_FILE)
    with pytest.raises(ModelError, match="any_tool"):
        NeedsMix.load(tmp_path)
    (tmp_path / NEEDS_MIX_FILE).write_text('{"weights": [1, 2]}')
    with pytest.raises(ModelError, match=NEEDS_MIX_FILE):
        NeedsMix.load(tmp_path)


def test_both_kinds_of_requests_must_be_there() -> None:
    """Otherwise nothing parts them."""
    only = [row for row in ROWS if row[1]]
    with pytest.raises(InputError, match="to train on"):
        fit_needs(only, ROWS, np.zeros((len(ROWS), 1)), np.zeros(len(ROWS)))
    with pytest.raises(InputError, match="held out"):
        fit_needs(ROWS, only, np.zeros((len(only), 1)), np.zeros(len(only)))


def test_a_classifier_folder_with_the_files_scores_with_them(
    tiny_classifier: Path, tmp_path: Path
) -> None:
    """What it says of any tool changes, the tools' scores stay, and the fingerprint is another."""
    shutil.copytree(tiny_classifier, tmp_path / "mixed")
    made().save(tmp_path / "mixed")
    before, after = ToolScorer(tiny_classifier), ToolScorer(tmp_path / "mixed")
    query = "what is on the calendar of Ana"

    assert after.score(query).tools == before.score(query).tools
    assert after.score(query).any_tool != before.score(query).any_tool
    assert after.fingerprint != before.fingerprint
