"""Training a tool classifier: data without leaks, the loss, a whole run, going on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections import Counter
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_tinyagent.errors import ConfigError, InputError, ModelError
from mlx_tinyagent.models.deberta.tool_heads import load_tool_classifier
from mlx_tinyagent.models.unigram import UnigramTokenizer
from mlx_tinyagent.retrieval.guarantee import load_calibration
from mlx_tinyagent.retrieval.scorer import ToolScorer
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.train import checkpoint
from mlx_tinyagent.train.loop import Event, run
from mlx_tinyagent.train.tool_rag.config import ToolRagConfig
from mlx_tinyagent.train.tool_rag.finish import CLASSIFIER, finish
from mlx_tinyagent.train.tool_rag.fresh import base_identity, make_tokenizer, new_tool_classifier
from mlx_tinyagent.train.tool_rag.loss import MARGIN, batch_loss, chosen_sets, make_targets
from mlx_tinyagent.train.tool_rag.plots import (
    average_precision,
    calibration_error,
    kept_curve,
    precision_recall,
)
from mlx_tinyagent.train.tool_rag.rows import Row, load_data
from mlx_tinyagent.train.tool_rag.trainer import ToolRagTrainer, label_priors

SMALL = {
    "vocabulary": 230,
    "hidden": 16,
    "layers": 1,
    "heads": 2,
    "buckets": 4,
    "max_length": 32,
    "batch": 8,
    "iters": 6,
    "warmup": 1,
    "save_every": 4,
    "eval_every": 5,
    "dropout": 0.1,
}
PEOPLE = ("Ana", "Leo", "Dana Wu", "Sam", "Mia", "Noor", "Ida", "Kofi", "Uma", "Zoe")
SAYINGS = (
    ("text {} that the train is late", ["get_phone_number", "send_sms"]),
    ("open the note about {}", ["open_note"]),
    ("show me the way to the house of {}", ["maps_show_directions"]),
    ("who is the tallest of {} and the others", []),
)


def line(number: int, text: str, any_of: list[list[str]]) -> str:
    """Return one row in the format of commands with acceptable sets."""
    kind = "tool" if all(any_of) else "none_far"
    row = {"id": number, "source": "made-up", "text": text, "kind": kind, "any_of": any_of}
    return json.dumps(row) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder with all four sides."""
    rows = [
        (saying.format(f"{one} {two}"), tools)
        for saying, tools in SAYINGS
        for one in PEOPLE
        for two in PEOPLE
    ]
    sides: dict[str, list[str]] = {"train": [], "valid": [], "calibration": [], "test": []}
    for number, (text, tools) in enumerate(rows):
        place = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10
        side = ("valid", "test", *["calibration"] * 3)[place] if place < 5 else "train"
        sides[side].append(line(number, f"{text} {number}", [tools]))
    out = tmp_path / "data"
    out.mkdir()
    for side, lines in sides.items():
        (out / f"{side}.jsonl").write_text("".join(lines))
    return out


def trainer(folder: Path, **changes: object) -> ToolRagTrainer:
    """Return a fresh trainer."""
    config = ToolRagConfig.from_dict({**SMALL, **changes})
    data = load_data([folder], TINYAGENT16, eval_rows=config.eval_rows, seed=config.seed)
    tokenizer = make_tokenizer(config, [row.text for row in data.train])
    priors = label_priors(data.train, TINYAGENT16.names)
    model = new_tool_classifier(config, tokenizer, TINYAGENT16.names, priors)
    base = base_identity(config, tokenizer)
    return ToolRagTrainer(model, tokenizer, data, config, base=base)


# --- data ---------------------------------------------------------------------------------


def test_no_training_row_says_what_a_held_out_row_says(tmp_path: Path) -> None:
    """Near-duplicates of other sides are left out and counted."""
    (tmp_path / "train.jsonl").write_text(
        line(1, "please open the note about green tea now", [["open_note"]])
        + line(2, "play some jazz", [[]])
    )
    (tmp_path / "test.jsonl").write_text(
        line(3, "Please, open the note about green tea NOW!", [["open_note"]])
    )

    data = load_data([tmp_path], TINYAGENT16, eval_rows=10, seed=0)

    assert [row.text for row in data.train] == ["play some jazz"]
    assert data.skipped == Counter({"says the same as a row held out": 1})
    assert len(data.calibration) == 1  # without a calibration file the test rows calibrate


def test_a_file_is_parted_by_groups(tmp_path: Path) -> None:
    """All sides get rows, near-duplicates stay together, and a seed decides."""
    texts = [f"request {n} about {PEOPLE[n % 10]} and topic number{n}" for n in range(200)]
    lines = [line(n, text, [["open_note"]]) for n, text in enumerate(texts)]
    lines += [line(1000 + n, text.upper(), [["open_note"]]) for n, text in enumerate(texts)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(lines))

    data = load_data([path], TINYAGENT16, eval_rows=100, seed=0)
    sides = [data.train, data.valid, data.calibration, data.test]

    assert all(sides)
    for number, side in enumerate(sides):
        for other in sides[number + 1 :]:
            assert not {r.text.lower() for r in side} & {r.text.lower() for r in other}
    assert data.digest == load_data([path], TINYAGENT16, eval_rows=100, seed=0).digest
    assert data.digest != load_data([path], TINYAGENT16, eval_rows=100, seed=1).digest


def test_rows_that_say_nothing_about_tools_are_counted(tmp_path: Path) -> None:
    """Undeclared tools and requests without words; nothing left is an error."""
    path = tmp_path / "train.jsonl"
    path.write_text(line(1, "open the note", [["open_note"]]) + line(2, "...", [[]]))
    few = TINYAGENT16.subset(["send_sms", "get_phone_number"])

    with pytest.raises(InputError, match="1 needs a tool that is not declared; 1 no words"):
        load_data([tmp_path], few, eval_rows=10, seed=0)


# --- loss ---------------------------------------------------------------------------------


class Fixed:
    """Stands for a model: gives the logits it was made with."""

    def __init__(self, logits: list[list[float]], any_tool: list[float]) -> None:
        self.logits, self.any_tool = mx.array(logits), mx.array(any_tool)

    def __call__(self, ids: mx.array, mask: mx.array | None) -> tuple[mx.array, mx.array]:
        """Return the logits."""
        return self.logits, self.any_tool


def rows_of(*any_of: list[list[str]]) -> list[Row]:
    """Return rows with these acceptable sets."""
    return [
        Row(
            text="t",
            any_of=tuple(map(frozenset, groups)),
            kind="tool" if all(groups) else "none_far",
            source="",
        )
        for groups in any_of
    ]


def test_the_loss_is_what_it_says() -> None:
    """Against plain arithmetic: log losses, a hinge on the needed logits, and any tool."""
    labels = ("a", "b", "c")
    logits, any_tool = [[2.0, -1.0, 0.5], [-3.0, 0.2, -0.7]], [1.5, -0.5]
    targets = make_targets(rows_of([["a", "b"]], [[]]), labels)

    found = batch_loss(
        Fixed(logits, any_tool),  # type: ignore[arg-type]
        mx.zeros((2, 1)),
        None,
        targets,
        hinge=0.5,
        any_weight=2.0,
    )

    def log1p_exp(x: float) -> float:
        return math.log1p(math.exp(x))

    wanted = [[1, 1, 0], [0, 0, 0]]
    bce = (
        sum(
            log1p_exp(-z if y else z)
            for row, ys in zip(logits, wanted, strict=True)
            for z, y in zip(row, ys, strict=True)
        )
        / 6
    )
    lowest = math.log(math.exp(-2.0) + math.exp(1.0))
    hinge = log1p_exp(MARGIN + lowest) / 2 / 3
    any_loss = (log1p_exp(-1.5) + log1p_exp(-0.5)) / 2 / 3
    assert float(found) == pytest.approx(bce + 0.5 * hinge + 2.0 * any_loss, rel=1e-5)


def test_of_several_sets_the_favored_one_is_learned() -> None:
    """The set whose lowest logit is highest; the other's tools are neither right nor wrong."""
    labels = ("a", "b", "c")
    targets = make_targets(rows_of([["a"], ["b", "c"]], [["b"]]), labels)
    logits = mx.array([[0.1, 3.0, 0.4], [0.0, 0.0, 0.0]])

    found = np.array(chosen_sets(logits, targets.groups))

    np.testing.assert_array_equal(found, [[0, 1, 1], [0, 1, 0]])
    weights = 1 - np.array(targets.union) + found
    np.testing.assert_array_equal(weights, [[0, 1, 1], [1, 1, 1]])


# --- runs ---------------------------------------------------------------------------------


def test_a_run_that_goes_on_ends_as_one_that_was_left_alone(folder: Path, tmp_path: Path) -> None:
    """An interrupt goes back to the last checkpoint; the classifier has the same bytes."""
    run(trainer(folder), tmp_path / "whole")

    def interrupt(event: Event) -> None:
        if event.progress.step == 5:
            raise KeyboardInterrupt

    assert run(trainer(folder), tmp_path / "parts", report=interrupt).reason == "interrupted"
    finished = run(trainer(folder), tmp_path / "parts", resume=True)

    assert finished.reason == "done"
    for name in ("model.safetensors", "tool_heads.safetensors", "tokenizer.json", "training.json"):
        whole, parts = (
            (tmp_path / run_ / CLASSIFIER / name).read_bytes() for run_ in ("whole", "parts")
        )
        assert whole == parts, name


def test_training_learns_and_is_calibrated(folder: Path, tmp_path: Path) -> None:
    """Simple requests are learned; calibration, report and plots are written."""
    out = tmp_path / "run"
    made = trainer(folder, iters=120, eval_every=60, learning_rate=5e-3, dropout=0.0)
    before = made.evaluate()
    run(made, out)

    lines = finish(out, made.data, TINYAGENT16)

    assert made.evaluate() < 0.5 * before
    report = json.loads((out / "report.json").read_text())
    assert report["figures"]["complete, short"]["share"] > 0.9
    assert report["figures"]["complete, short"]["tools"] < 6
    calibration = load_calibration(out / CLASSIFIER)
    assert calibration is not None
    needing = [row for row in made.data.calibration if row.kind == "tool"]
    assert len(calibration.least["short"]) == len(needing)
    for name in ("precision-recall.svg", "calibration.svg", "kept.svg"):
        assert (out / "plots" / name).read_text().startswith("<svg")
    assert any(text.startswith("complete, short: ") for text in lines)
    assert not any("n-grams" in text for text in lines)  # too few requests without a tool
    loaded = load_tool_classifier(out / CLASSIFIER)
    assert loaded.labels == TINYAGENT16.names


def test_n_grams_have_a_say_in_whether_a_tool_is_needed(folder: Path, tmp_path: Path) -> None:
    """Where rows enough say so; with them an untrained encoder knows what needs none."""
    out = tmp_path / "run"
    made = trainer(folder, iters=1)
    run(made, out)
    far = Row(text="", any_of=(frozenset(),), kind="none_far", source="made-up")
    more = [dataclasses.replace(far, text=f"how tall is the tower number {n}") for n in range(80)]
    data = dataclasses.replace(
        made.data, train=(*made.data.train, *more[:40]), valid=(*made.data.valid, *more[40:])
    )

    (line_,) = (text for text in finish(out, data, TINYAGENT16) if "n-grams" in text)

    assert line_.startswith("whether a tool is needed: the encoder counts ")
    scorer = ToolScorer(out / CLASSIFIER)
    needs = [scorer.score(text).any_tool for text in ("text Ana Leo", "how tall is the house")]
    assert needs[0] > 0.5 > needs[1]


def test_a_base_checkpoint_is_fine_tuned(folder: Path, tmp_path: Path) -> None:
    """A folder with encoder and tokenizer is where the next run starts."""
    run(trainer(folder, iters=1), tmp_path / "first")
    base = tmp_path / "first" / CLASSIFIER

    made = trainer(folder, base=str(base), iters=1)
    old = load_tool_classifier(base)

    assert made.tokenizer.vocab_size == UnigramTokenizer.load(base).vocab_size
    weight = "base.deberta.embeddings.word_embeddings.weight"
    np.testing.assert_array_equal(
        np.array(made.weights()[weight]),
        np.array(old.base.deberta.embeddings.word_embeddings.weight),
    )
    with pytest.raises((ConfigError, ModelError)):
        trainer(folder, base=str(tmp_path / "missing"))


def test_a_loss_that_is_no_number_stops_the_run(folder: Path, tmp_path: Path) -> None:
    """NaN is one line, and the last checkpoint is from before."""
    made = trainer(folder, save_every=2)

    def poison(event: Event) -> None:
        if event.progress.step == 3:
            bias = made.model.base.classifier.bias
            made.model.base.classifier.bias = bias * mx.nan

    with pytest.raises(ModelError, match="update 4: the loss is nan"):
        run(made, tmp_path / "run", report=poison)

    identity = checkpoint.identity(made.config, base=made.base, data=made.data.digest)
    found = checkpoint.load(tmp_path / "run", run=identity)
    assert found.progress.step == 2
    assert all(np.isfinite(np.asarray(value)).all() for value in found.adapter.values())


def test_settings_out_of_range_are_refused() -> None:
    """Each with its value and what would do."""
    with pytest.raises(ConfigError, match="hidden is 20; it must be a multiple of heads 6"):
        ToolRagConfig(hidden=20)
    with pytest.raises(ConfigError, match="dropout is 1"):
        ToolRagConfig(dropout=1.0)
    with pytest.raises(ConfigError, match="unknown key 'rank'"):
        ToolRagConfig.from_dict({"rank": 3})
    with pytest.raises(ConfigError, match="iters is '9'"):
        ToolRagConfig.from_dict({"iters": "9"})


# --- plots --------------------------------------------------------------------------------


def test_figures_of_the_plots() -> None:
    """Precision, recall, calibration and tools kept of a few scores, by hand."""
    pairs = [(0.9, True), (0.8, False), (0.7, True), (0.7, False)]

    assert precision_recall(pairs) == [(0.5, 1.0), (0.5, 0.5), (1.0, 0.5)]
    assert average_precision(pairs) == pytest.approx(0.5 + 0.25)
    assert calibration_error([(0.95, True)] * 3 + [(0.05, False)]) == pytest.approx(0.05)
    rows = [({"a": 0.9, "b": 0.1}, [["a"]]), ({"a": 0.8, "b": 0.6}, [["b"]])]
    assert kept_curve(rows) == [(0.5, 0.5), (1.5, 1.0), (1.5, 1.0)]
