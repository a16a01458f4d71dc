"""A tiny random classifier over TinyAgent's tools, with its own vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlx_tinyagent.tools.catalog import TINYAGENT16

TEXTS = [
    f"{verb} {what} {name}"
    for verb in ("send", "open", "create", "append", "show", "forward")
    for what in ("the note about", "a message to", "an email for", "the map of", "the meeting with")
    for name in ("Ana", "Leo Wu", "Dana", "the budget", "Lisbon")
]


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random classifier without a calibration; it must not be changed."""
    from mlx_tinyagent.models.deberta import DebertaConfig, new_classifier
    from mlx_tinyagent.models.deberta.tool_heads import LabelHeads, ToolClassifier
    from mlx_tinyagent.models.unigram import UnigramTokenizer

    folder = tmp_path_factory.mktemp("classifier")
    tokenizer = UnigramTokenizer.train(TEXTS, vocab_size=220)
    config = DebertaConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
        position_buckets=8,
        relative_attention=True,
        pos_att_type=("c2p", "p2c"),
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        position_biased_input=False,
        initializer_range=0.3,
        labels=TINYAGENT16.names,
    )
    model = ToolClassifier(new_classifier(config, seed=3), LabelHeads(16, 16))
    model.save(folder)
    tokenizer.save(folder)
    return folder
