"""N-grams for long requests: arithmetic of the mix, files, and how the weights are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlx_tinyagent.errors import InputError, ModelError
from mlx_tinyagent.retrieval.ngrams import MIX_FILE, NgramMix, fit_mix

LABELS = ("send_sms", "open_note")
LONG = "then please also do it all again for me and for them if that is fine today"
EXAMPLES = [
    (f"{text} {name} {LONG}", tools)
    for name in ("Ana", "Leo", "Dana", "Sam", "Mia", "Uma")
    for text, tools in (
        ("text", ["send_sms"]),
        ("open the note of", ["open_note"]),
        ("text and open the note of", ["send_sms", "open_note"]),
    )
]


def made(noise: float = 0.0) -> NgramMix:
    """Fit on four names, mix on the others, beside a classifier that is right up to noise."""
    train, held_out = EXAMPLES[:12], EXAMPLES[12:]
    rng = np.random.default_rng(0)
    right = np.array([[4.0 if name in tools else -4.0 for name in LABELS] for _, tools in held_out])
    return fit_mix(train, held_out, right + noise * rng.normal(size=right.shape), LABELS)


def test_only_long_requests_are_mixed() -> None:
    """A short one keeps its logits to the bit; a long one has the weighted sum."""
    mix = made()
    queries = ["text Ana", EXAMPLES[0][0]]
    logits = np.array([[1.0, -2.0], [0.5, -0.5]])

    found = mix.mix(queries, logits)

    np.testing.assert_array_equal(found[0], logits[0])
    own, other, constant = mix.weights
    wanted = own * logits[1] + other * mix.model.logits([queries[1]])[0] + constant
    np.testing.assert_allclose(found[1], wanted)
    np.testing.assert_array_equal(logits[1], [0.5, -0.5])  # the input is left alone


def test_a_worse_classifier_counts_less() -> None:
    """The weights follow what held-out requests say."""
    assert made(noise=0.5).weights[0] > made(noise=20.0).weights[0]


def test_the_files_read_back(tmp_path: Path) -> None:
    """What is read mixes as what was written, up to float32."""
    mix = made()
    mix.save(tmp_path)
    again = NgramMix.load(tmp_path, LABELS)

    assert again is not None
    assert again.weights == mix.weights
    queries, logits = [EXAMPLES[1][0]], np.zeros((1, 2))
    np.testing.assert_allclose(again.mix(queries, logits), mix.mix(queries, logits), atol=1e-4)


def test_no_files_are_no_mix_and_damaged_ones_an_error(tmp_path: Path) -> None:
    """Labels must be the classifier's."""
    assert NgramMix.load(tmp_path, LABELS) is None
    made().save(tmp_path)
    with pytest.raises(ModelError, match="other labels"):
        NgramMix.load(tmp_path, ("a", "b"))
    (tmp_path / MIX_FILE).write_text('{"weights": [1]}')
    with pytest.raises(ModelError, match=MIX_FILE):
        NgramMix.load(tmp_path, LABELS)


def test_someone_has_to_say_how_much() -> None:
    """Without held-out requests there are no weights."""
    with pytest.raises(InputError, match="held-out"):
        fit_mix(EXAMPLES, [], np.zeros((0, 2)), LABELS)
