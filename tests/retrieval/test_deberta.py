"""The classifier as a retriever: what it offers, promises and refuses."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from fractions import Fraction
from pathlib import Path

import pytest

from mlx_tinyagent.errors import ConfigError, ModelError
from mlx_tinyagent.retrieval.calibration import KEEP_ALL
from mlx_tinyagent.retrieval.deberta import ALWAYS_ON, DebertaRetriever
from mlx_tinyagent.retrieval.groups import GROUPS, group_of
from mlx_tinyagent.retrieval.guarantee import (
    CALIBRATION_FILE,
    Calibration,
    calibrate,
    load_calibration,
)
from mlx_tinyagent.retrieval.scorer import ToolScorer
from mlx_tinyagent.tools.base import ToolSet, tool
from mlx_tinyagent.tools.catalog import TINYAGENT16
from tests.retrieval.conftest import TEXTS

QUERY = "send a message to Ana"


@pytest.fixture
def folder(tiny_classifier: Path, tmp_path: Path) -> Path:
    """A copy of the classifier, free to change."""
    return Path(shutil.copytree(tiny_classifier, tmp_path / "classifier"))


def calibrated(folder: Path, texts: list[str] | None = None) -> Calibration:
    """Calibrate a classifier on texts whose needed tool is the one it scores third."""
    scorer = ToolScorer(folder)
    long = [f"{a} and {b} then also {a} and {b} now" for a, b in itertools.pairwise(TEXTS)]
    queries = [*TEXTS, *long] if texts is None else texts
    scores = scorer.score_all(queries)
    third = [sorted(one.tools, key=lambda name: -one.tools[name])[2] for one in scores]
    found = calibrate(
        queries,
        [[[name]] for name in third],
        scores,
        tools=TINYAGENT16,
        weights=scorer.fingerprint,
        data="d",
    )
    found.save(folder)
    return found


def made_up(number: int) -> ToolSet:
    """Return so many tools that no classifier knows."""

    def turn_on(device: str) -> str:
        """Turn on a device in the house."""
        return device

    return ToolSet("house", [tool(turn_on, name=f"turn_on_{n}") for n in range(number)])


def test_nothing_is_loaded_before_the_first_request(tmp_path: Path) -> None:
    """A folder that is not there is an error of the request, not of the program's start."""
    retriever = DebertaRetriever(tmp_path / "missing")

    with pytest.raises(ModelError):
        retriever.select(QUERY, TINYAGENT16)


def test_what_is_kept_is_closed_and_above_the_threshold(folder: Path) -> None:
    """Every tool with a high enough closed score, its producers, and no other."""
    calibrated(folder)
    found = DebertaRetriever(folder).explain(QUERY, TINYAGENT16)

    assert found.threshold is not None
    kept = {name for name, score in found.closed.items() if score >= found.threshold.tau}
    assert set(found.retrieved.tools.names) == kept
    assert set(TINYAGENT16.closure(kept).names) == kept
    assert 0 < len(kept) < 16
    for producer, reader in found.edges.items():
        assert producer in TINYAGENT16.closure([reader]).names
        assert found.closed[producer] >= found.retrieved.scores[reader]
    assert found.promise == found.threshold.line()


def test_a_request_scores_alike_alone_and_in_a_batch(folder: Path) -> None:
    """Rows of other lengths beside it change nothing."""
    scorer = ToolScorer(folder)
    together = scorer.score_all([QUERY, "open " * 60, ""])

    alone = scorer.score(QUERY)
    assert together[0].tools == pytest.approx(alone.tools, abs=1e-6)
    assert together[0].any_tool == pytest.approx(alone.any_tool, abs=1e-6)


def test_the_end_of_a_long_request_counts(folder: Path) -> None:
    """Windows cover it, unless it is endless."""
    scorer = ToolScorer(folder)
    padding = "the map of Lisbon " * 40

    long = scorer.score(padding + QUERY)
    plain = scorer.score(padding)

    assert long.whole
    assert long.tools != plain.tools
    assert not scorer.score("show the map of Lisbon " * 2000).whole


@pytest.mark.parametrize("query", ["", "   ", "x" * 10_000, "送信する メール" * 30, "\ud800"])
def test_strange_requests_are_offered_everything(folder: Path, query: str) -> None:
    """Empty, endless and foreign requests keep all tools, and the line says so."""
    calibrated(folder)

    found = DebertaRetriever(folder).explain(query, TINYAGENT16)

    assert found.retrieved.tools.names == TINYAGENT16.names
    assert not found.retrieved.abstain
    assert found.promise.startswith("every known tool is offered: ")


def test_tool_sets_of_any_size_are_answered(folder: Path) -> None:
    """None, one, five thousand, and those the classifier knows nothing of."""
    calibrated(folder)
    retriever = DebertaRetriever(folder)

    assert retriever.select(QUERY, ToolSet("none", [])).tools.names == ()
    assert retriever.select(QUERY, TINYAGENT16.subset(["open_note"])).tools.names == ("open_note",)
    nine = TINYAGENT16.subset(TINYAGENT16.names[:9])
    small = retriever.explain(QUERY, nine)
    assert small.retrieved.tools.names == nine.names
    assert small.promise.startswith("every tool is offered: fewer than")
    many = ToolSet("many", [*TINYAGENT16, *made_up(5_000)])
    found = retriever.explain(QUERY, many)
    assert len(found.retrieved.tools) <= 16 + ALWAYS_ON
    assert "nothing is promised for the 5000 unknown tools" in found.promise
    foreign = retriever.explain("turn on a device", made_up(30))
    assert foreign.promise.startswith("nothing is promised: the classifier knows none")
    assert len(foreign.retrieved.tools) > 0


def test_unknown_tools_are_always_on(folder: Path) -> None:
    """A tool that was added a minute ago is offered with every request."""
    calibrated(folder)
    tools = ToolSet("more", [*TINYAGENT16, *made_up(2)])

    found = DebertaRetriever(folder).select(QUERY, tools)

    assert {"turn_on_0", "turn_on_1"} <= set(found.tools.names)
    assert found.reasons["turn_on_0"] == "always"
    assert len(found.tools) < len(tools)


def test_a_changed_declaration_voids_the_promise(folder: Path) -> None:
    """The line names the tool; the scores still serve."""
    calibrated(folder)
    changed = [
        dataclasses.replace(one, summary="Open something else.") if one.name == "open_note" else one
        for one in TINYAGENT16
    ]

    found = DebertaRetriever(folder).explain(QUERY, ToolSet("changed", changed))

    assert found.promise == "nothing is promised: changed since calibration: open_note"


def test_changed_weights_void_the_promise(folder: Path) -> None:
    """Whatever file of the classifier differs."""
    calibrated(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config, indent=1))

    found = DebertaRetriever(folder).explain(QUERY, TINYAGENT16)

    assert found.promise.startswith("nothing is promised: the classifier's weights are not")


def test_without_a_calibration_nothing_is_promised(folder: Path) -> None:
    """Tools are chosen, and the line says that nobody measured."""
    found = DebertaRetriever(folder).explain(QUERY, TINYAGENT16)

    assert found.threshold is None
    assert found.promise == "nothing is promised: the classifier was not calibrated"
    assert found.retrieved.tools.names


def test_a_calibration_too_small_keeps_everything(folder: Path) -> None:
    """Ten requests support no promise: all tools, and the number that would do."""
    calibrated(folder, TEXTS[:10])

    found = DebertaRetriever(folder).explain(QUERY, TINYAGENT16)

    assert found.threshold is not None
    assert found.threshold.tau == KEEP_ALL
    assert found.retrieved.tools.names == TINYAGENT16.names
    assert "10 calibration requests do not support" in found.promise


def test_the_user_picks_the_target(folder: Path) -> None:
    """A harder promise keeps no fewer tools; one that the data does not support keeps all."""
    calibrated(folder)
    easy, hard, too_hard = (
        DebertaRetriever(folder, miss=Fraction(share, 1000)).explain(QUERY, TINYAGENT16)
        for share in (200, 30, 1)
    )

    assert set(easy.retrieved.tools.names) <= set(hard.retrieved.tools.names)
    assert too_hard.retrieved.tools.names == TINYAGENT16.names
    assert "do not support 99.9%" in too_hard.promise
    with pytest.raises(ConfigError, match="above 0 and below 1"):
        DebertaRetriever(folder, miss=Fraction(1))


def test_a_calibration_reads_back(folder: Path) -> None:
    """What is stored is what was measured, and its thresholds are spelled out."""
    made = calibrated(folder)

    assert load_calibration(folder) == made
    body = json.loads((folder / CALIBRATION_FILE).read_text())
    for group in GROUPS:
        found = made.threshold(group)
        spelled = {"tau": found.tau if found.promises else None, "n": found.n, "k": found.k}
        assert body["thresholds"][group]["complete"] == spelled
        assert list(made.least[group]) == sorted(made.least[group])


@pytest.mark.parametrize("text", ["", "{}", '{"format": "other"}', '{"format": '])
def test_a_damaged_calibration_is_one_line(folder: Path, text: str) -> None:
    """It is refused, never ignored: a promise may hang on it."""
    (folder / CALIBRATION_FILE).write_text(text)

    with pytest.raises(ModelError, match=CALIBRATION_FILE):
        DebertaRetriever(folder).select(QUERY, TINYAGENT16)


def test_requests_are_grouped_by_their_words() -> None:
    """Fifteen words are short, sixteen are long."""
    assert group_of("word " * 15) == "short"
    assert group_of("word " * 16) == "long"


def test_sixteen_unnamed_outputs_are_tinyagents_tools(folder: Path) -> None:
    """A checkpoint without names, such as one trained elsewhere, is read in label order."""
    named = ToolScorer(folder).score(QUERY)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(index): f"LABEL_{index}" for index in range(16)}
    config["label2id"] = {f"LABEL_{index}": index for index in range(16)}
    (folder / "config.json").write_text(json.dumps(config))

    assert ToolScorer(folder).score(QUERY).tools == named.tools


def test_a_checkpoint_of_other_labels_knows_none_of_the_tools(folder: Path) -> None:
    """Its scores are not used for tools that only share a place with them."""
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(index): f"topic_{index}" for index in range(16)}
    del config["label2id"]
    (folder / "config.json").write_text(json.dumps(config))

    found = DebertaRetriever(folder).explain(QUERY, TINYAGENT16)

    assert found.promise == "nothing is promised: the classifier knows none of these tools"
    assert {"send_sms", "get_phone_number"} <= set(found.retrieved.tools.names)
