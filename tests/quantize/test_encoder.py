"""A tool classifier in fewer bits: what is on the disk, what runs, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from click.testing import CliRunner

from mlx_tinyagent.cli.main import cli
from mlx_tinyagent.errors import InputError, ModelError, RefusedError, UsageError
from mlx_tinyagent.evaluate.harness_items import Item
from mlx_tinyagent.models.deberta import DebertaConfig, load_classifier, new_classifier
from mlx_tinyagent.models.deberta.tool_heads import LabelHeads, ToolClassifier
from mlx_tinyagent.models.unigram import UnigramTokenizer
from mlx_tinyagent.quantize import gate
from mlx_tinyagent.quantize.encoder import EncoderJob, quantize_classifier
from mlx_tinyagent.quantize.packing import Format
from mlx_tinyagent.retrieval.deberta import DebertaRetriever
from mlx_tinyagent.retrieval.guarantee import load_calibration
from mlx_tinyagent.retrieval.scorer import ToolScorer
from mlx_tinyagent.tools.catalog import TINYAGENT16

Say = Callable[[str, int, int], None]
TEXTS = [
    f"{verb} {what} {name}"
    for verb in ("send", "open", "create", "append", "show", "forward")
    for what in ("the note about", "a message to", "an email for", "the map of")
    for name in ("Ana", "Leo Wu", "Dana", "the budget")
]
QUERY = "deberta.encoder.layer.0.attention.self.query_proj"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random classifier whose matrices divide into groups of 32."""
    folder = tmp_path_factory.mktemp("classifier")
    tokenizer = UnigramTokenizer.train(TEXTS, vocab_size=200)
    config = DebertaConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
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
    base = new_classifier(config, seed=3)
    base.classifier.bias = base.classifier.bias - 4.0  # scores about what keeps a tool
    ToolClassifier(base, LabelHeads(16, 32)).save(folder)
    tokenizer.save(folder)
    return folder


@pytest.fixture
def job(classifier: Path, tmp_path: Path) -> EncoderJob:
    """A job in 8 bits; every third request needs a tool, the others none."""
    rows = [
        Item(id=f"r{number}", raw_id="", query=text, kind="tool", any_of=(("send_sms",),))
        if number % 3 == 0
        else Item(id=f"r{number}", raw_id="", query=text, kind="none_near", any_of=((),))
        for number, text in enumerate(TEXTS)
    ]
    return EncoderJob(
        source=classifier,
        out=tmp_path / "small",
        form=Format(bits=8, group_size=32),
        tools=TINYAGENT16,
        calibration=rows[::2],
        held=rows[1::2],
    )


def test_matrices_are_packed_and_read_as_their_values(job: EncoderJob, say: Say) -> None:
    """MLX's own unpacking of the stored parts is what runs; heads and norms are untouched."""
    found = quantize_classifier(job, say)

    stored: Any = mx.load(str(job.out / "model.safetensors"))
    weight, scales, biases = (stored[f"{QUERY}.{leaf}"] for leaf in ("weight", "scales", "biases"))
    floats = scales.astype(mx.float32), biases.astype(mx.float32)
    expected = mx.dequantize(weight, *floats, group_size=32, bits=8)
    before, after = load_classifier(job.source), load_classifier(job.out)
    ran: Any = after.deberta.encoder.layer[0].attention.self
    np.testing.assert_array_equal(np.array(ran.query_proj.weight), np.array(expected))
    for name in ("pooler", "classifier"):
        assert f"{name}.scales" not in stored
    np.testing.assert_array_equal(
        np.array(after.classifier.weight), np.array(before.classifier.weight)
    )
    assert found["bytes"]["after"] < 0.6 * found["bytes"]["before"]
    assert found["matrices"]["packed"] == 7


def test_scores_are_near_at_eight_bits_and_farther_at_three(job: EncoderJob, say: Say) -> None:
    """The error of the logits grows as bits fall."""
    quantize_classifier(job, say)
    low = replace(job, form=Format(bits=3, group_size=32), out=job.out.with_name("low"))
    quantize_classifier(low, say)
    wanted, _ = ToolScorer(job.source).logits(TEXTS)
    errors = [
        float(np.abs(ToolScorer(folder).logits(TEXTS)[0] - wanted).max())
        for folder in (job.out, low.out)
    ]

    assert errors[0] < 0.05 * float(np.abs(wanted).max())
    assert errors[1] > 5 * errors[0]


def test_thresholds_are_of_its_own_scores(job: EncoderJob, say: Say) -> None:
    """The new calibration holds for the packed weights, on the rows that were given."""
    quantize_classifier(job, say)
    found = load_calibration(job.out)
    assert found is not None

    assert found.weights == ToolScorer(job.out).fingerprint
    assert sum(map(len, found.least.values())) == sum(i.kind == "tool" for i in job.calibration)
    assert found.void(found.weights, TINYAGENT16) is None


def test_a_worse_one_is_refused(job: EncoderJob, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the source's own choice is right, two bits lose tools; what was there stays."""
    own = DebertaRetriever(job.source)
    held = [
        replace(item, kind="tool", any_of=(own.select(item.query, TINYAGENT16).tools.names,))
        for item in job.held
    ]
    plain = replace(job, held=held, calibration=())
    monkeypatch.setattr(gate, "NEEDED", 1)
    same = quantize_classifier(plain, say)
    before = (job.out / "model.safetensors").read_bytes()

    with pytest.raises(RefusedError, match="not published: full_recall is -"):
        quantize_classifier(replace(plain, form=Format(bits=2, group_size=32)), say)
    assert same["checks"][0]["reference"] == 1.0
    assert (job.out / "model.safetensors").read_bytes() == before


def test_bad_input(job: EncoderJob, say: Say, tmp_path: Path) -> None:
    """One line each, nothing written."""
    quantize_classifier(job, say)
    with pytest.raises(InputError, match="is quantized already"):
        quantize_classifier(replace(job, source=job.out, out=tmp_path / "again"), say)
    with pytest.raises(InputError, match="name another folder"):
        quantize_classifier(replace(job, out=job.source), say)
    with pytest.raises(InputError, match=r"no matrix divides into groups of 128"):
        quantize_classifier(
            replace(job, form=Format(bits=8, group_size=128), out=tmp_path / "wide"), say
        )
    with pytest.raises(InputError, match="7 bits in groups of 64"):
        replace(job, form=Format(bits=7, group_size=64))
    config = json.loads((job.out / "config.json").read_text())
    config["quantization"] = {"bits": 4, "group_size": 32}
    (job.out / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="is not packed in 4 bits and groups of 32"):
        load_classifier(job.out)
    del config["quantization"]
    (job.out / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="bits and group_size are expected"):
        load_classifier(job.out)


def test_the_command(job: EncoderJob, tmp_path: Path) -> None:
    """From files; without rows to calibrate or judge on it says what is missing."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(
            json.dumps(
                {"id": i.id, "source": "x", "text": i.query, "kind": i.kind, "any_of": i.any_of}
            )
            + "\n"
            for i in (*job.calibration, *job.held)
        )
    )
    base = ["quantize-classifier", "--classifier", str(job.source), "--group-size", "32"]
    base += ["--out", str(job.out)]
    full = [*base, "--calibrate", str(rows), "--gate-data", str(rows), "--json"]

    done = CliRunner().invoke(cli, full)

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verdict"] == "passed"
    assert "MB" in done.stderr
    assert isinstance(CliRunner().invoke(cli, base).exception, UsageError)
