"""Scoring one row: reasons, figures worked out by hand, execution, and input of any kind."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_tinyagent.errors import InputError, RecordError, UsageError
from mlx_tinyagent.evaluate.harness import REASONS, resolve_moment, score_item
from mlx_tinyagent.evaluate.harness_items import Item, read_items, read_predictions
from mlx_tinyagent.evaluate.harness_summary import estimate, summarize
from mlx_tinyagent.evaluate.stats import bootstrap
from mlx_tinyagent.tools.catalog import TINYAGENT16
from tests.evaluate.harness_rows import ROWS, SCRIPT, TEXT, call, record, scripted, write_lines

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 3, 2, 9)  # a Monday


@pytest.fixture
def items(tmp_path: Path) -> tuple[Item, ...]:
    """The four rows."""
    return read_items(write_lines(tmp_path / "rows.jsonl", ROWS)).items


@pytest.fixture
def summary(items: tuple[Item, ...]) -> dict[str, Any]:
    """Their summary under the scripted planner."""
    return summarize([score_item(i, scripted(i), TINYAGENT16) for i in items], TINYAGENT16)


def figure(summary: dict[str, Any], name: str) -> tuple[float, int]:
    """Return a figure's value and n."""
    found = summary["figures"][name]
    return found["value"], found["n"]


def test_figures_are_those_worked_out_by_hand(summary: dict[str, Any]) -> None:
    """Two of four rows are right; the reminder's graph is right, its one argument is not."""
    assert summary["reasons"] == {"right": 2, "arguments": 1, "called": 1}
    assert figure(summary, "right") == (0.5, 4)
    assert figure(summary, "tinyagent_success") == (1.0, 2)
    assert figure(summary, "graph_match") == (1.0, 2)
    assert figure(summary, "plan_match") == (0.5, 2)
    assert figure(summary, "argument_match") == (0.5, 2)  # 3 of 3, and 0 of 1
    assert figure(summary, "clarification") == (1.0, 1)
    assert figure(summary, "needless_question") == (0.0, 2)
    assert figure(summary, "false_fire_far") == (1.0, 1)
    assert figure(summary, "error") == (0.0, 4)


def test_rates_are_over_values_not_rows(summary: dict[str, Any]) -> None:
    """Written are Sophie, hi, call mom and x; the last two come from nowhere, one is a span."""
    assert figure(summary, "ungrounded") == (0.5, 2)
    assert figure(summary, "ungrounded_with_text") == (0.5, 4)
    assert figure(summary, "argument_span") == (1.0, 2)
    assert figure(summary, "argument_text") == (0.0, 1)


def test_tools_and_strata_are_counted(summary: dict[str, Any]) -> None:
    """Each tool once as wanted or as fired; strata part the rows."""
    tools = summary["tools"]
    assert tools["send_sms"]["precision"] == tools["send_sms"]["recall"] == 1.0
    assert (tools["create_reminder"]["steps"], tools["create_reminder"]["steps_right"]) == (1, 0)
    assert tools["get_email_address"]["fired_far"] == 1
    assert tools["get_email_address"]["precision"] is None
    assert {k: v["rows"] for k, v in summary["strata"]["calls"].items()} == {"1": 1, "2": 1}
    assert {k: v["rows"] for k, v in summary["strata"]["kind"].items()} == {
        "ask": 1,
        "none_far": 1,
        "tool": 2,
    }
    assert summary["seconds"]["total"] == {
        "mean": 0.5,
        "median": 0.5,
        "p90": 0.675,  # between 0.5 and 0.75, at 0.9 * 3 = 2.7
        "sum": 2.0,
        "n": 4,
    }


@pytest.mark.parametrize(
    ("prediction", "reason"),
    [
        (None, "error"),
        ({"calls": [], "error": "no usable plan"}, "error"),
        ({"calls": [{"tool": "send_sms"}]}, "error"),
        ({"calls": [], "ask": "who?"}, "asked"),
        ({"calls": []}, "abstained"),
        ({"calls": [call(1, "fly", "away")]}, "invalid"),
        ({"calls": [call(1, "get_phone_number", "Sophie", 3, 4)]}, "invalid"),
        ({"calls": TEXT[:1]}, "tools"),
        ({"calls": [*TEXT, call(3, "get_email_address", "Sophie")]}, "tools"),
        ({"calls": [TEXT[0], call(2, "send_sms", ["+1 555 0100"], "hi")]}, "graph"),
        ({"calls": [TEXT[0], call(2, "send_sms", ["$1"], "bye")]}, "arguments"),
        ({"calls": TEXT}, "right"),
    ],
)
def test_the_first_fault_is_the_reason(
    items: tuple[Item, ...], prediction: dict[str, Any] | None, reason: str
) -> None:
    """Each prediction for one row, and what is said about it."""
    row = score_item(items[0], prediction, TINYAGENT16)
    assert row["reason"] == reason
    assert row["figures"]["right"] == float(reason == "right")
    assert reason in {*REASONS, "right"}


def test_an_item_is_plain_json(items: tuple[Item, ...]) -> None:
    """What is scored survives writing and reading."""
    for item in items:
        row = score_item(item, scripted(item), TINYAGENT16)
        assert json.loads(json.dumps(row))["figures"] == row["figures"]


CYCLE = [call(1, "send_sms", ["$2"], "$2"), call(2, "send_sms", ["$1"], "$1")]
MANY = [call(number, "get_email_address", "x") for number in range(1, 10_001)]


@pytest.mark.parametrize(
    ("calls", "rule"),
    [
        (CYCLE, "forward-reference"),
        ([call(1, "send_sms", ["$1"], "")], "forward-reference"),
        ([call(1, "\x00<b>", "x")], "unknown-tool"),
        ([call(1, "send_sms", {"a": [[[]]]}, "hi")], "type"),
        ([call(7, "send_sms", ["$7"], "hi"), call(7, "send_sms", [], "hi")], None),
        pytest.param(MANY, "steps", marks=pytest.mark.slow, id="ten thousand calls"),
    ],
)
def test_a_broken_plan_has_a_defined_score(
    items: tuple[Item, ...], calls: list[dict[str, Any]], rule: str | None
) -> None:
    """Cycles, self-references, odd values and 10,000 calls are invalid, not a crash."""
    row = score_item(items[0], {"calls": calls}, TINYAGENT16)
    assert row["figures"]["valid"] == row["figures"]["plan_match"] == row["figures"]["right"] == 0.0
    assert row["reason"] == "invalid"
    assert rule is None or row["details"]["rule"] == rule


# Dates


def test_a_moment_has_start_end_and_time() -> None:
    """A day is no midnight, a range differs from its start, a mere length counts from now."""
    assert resolve_moment("friday", NOW) == (datetime(2026, 3, 6), None, False)
    assert resolve_moment("friday at 3pm", NOW) == (datetime(2026, 3, 6, 15), None, True)
    assert resolve_moment("friday 3 to 4pm", NOW) == (
        datetime(2026, 3, 6, 15),
        datetime(2026, 3, 6, 16),
        True,
    )
    assert resolve_moment("90 minutes", NOW) == (datetime(2026, 3, 2, 10, 30), None, True)
    assert resolve_moment("the blue one", NOW) is None


# Running plans


@pytest.fixture(scope="module")
def tune() -> dict[str, Item]:
    """The hand-written rows to tune on, by id."""
    return {i.id: i for i in read_items(ROOT / "data/handwritten/tune.jsonl").items}


def effect(item: Item, calls: list[dict[str, Any]]) -> float:
    """Return the execution match of a plan."""
    return float(score_item(item, {"calls": calls}, TINYAGENT16)["figures"]["execution_match"])


def test_every_gold_plan_is_right_and_doing_nothing_is_not(tune: dict[str, Item]) -> None:
    """The ceiling is 1 and an empty plan earns nothing, look-ups and ambiguous names included."""
    for item in tune.values():
        row = score_item(item, {"calls": list(item.gold), "ask": item.ask}, TINYAGENT16)
        assert row["reason"] == "right", item.id
        if item.kind == "tool":
            assert row["figures"]["execution_match"] == 1.0
            assert effect(item, []) == 0.0


def test_another_wording_with_the_same_effect_matches(tune: dict[str, Item]) -> None:
    """The word tomorrow and its ISO date leave the same row; another day does not."""
    item = next(i for i in tune.values() if i.query == "remind me to water the basil tomorrow")
    assert item.now is not None
    day = item.now.date().toordinal() + 1
    iso = datetime.fromordinal(day).date().isoformat()
    later = datetime.fromordinal(day + 1).date().isoformat()
    same = [call(1, "create_reminder", "water the basil", iso, "", "", 0, True)]
    assert effect(item, same) == 1.0
    assert (
        effect(item, [call(1, "create_reminder", "water the basil", later, "", "", 0, True)]) == 0
    )


def test_an_ambiguous_name_must_be_found_out(tune: dict[str, Item]) -> None:
    """Where the gold plan stops at a name, one that only looks a name up is not enough."""
    item = tune["hw-002"]
    assert item.outcome == "ambiguous"
    assert effect(item, [call(1, "get_phone_number", "priya")]) == 0.0
    assert effect(item, list(item.gold)) == 1.0


def test_running_a_plan_for_nothing_shows_as_unwanted_change(tune: dict[str, Item]) -> None:
    """A note written for a question about bread is a change; a look-up is none."""
    item = next(i for i in tune.values() if i.kind == "none_far")
    for calls, changed in (
        ([call(1, "create_note", "bread", "stale", "")], 1.0),
        ([call(1, "get_email_address", "Noor")], 0.0),
    ):
        row = score_item(item, {"calls": calls}, TINYAGENT16)
        assert row["figures"]["unwanted_change"] == changed
        assert "execution_match" not in row["figures"]


def test_nothing_runs_without_being_asked(tune: dict[str, Item]) -> None:
    """Without execution there is no figure of it."""
    item = tune["hw-001"]
    row = score_item(item, {"calls": list(item.gold)}, TINYAGENT16, execute=False)
    assert "execution_match" not in row["figures"]


# Intervals


def test_an_interval_is_the_bootstrap_of_the_mean() -> None:
    """Drawing equal rows as one count gives the quantiles of drawing each."""
    values = [0.0] * 30 + [0.25] * 10 + [1.0] * 60
    mine = estimate([(value, 1.0) for value in values])
    theirs = bootstrap(values, seed=1)
    assert mine.value == pytest.approx(0.625)
    assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_an_interval_of_a_rate_resamples_rows() -> None:
    """Against a plain resampling of pairs: the ratio of sums, rows without values included."""
    pairs = [(1.0, 2.0)] * 20 + [(0.0, 3.0)] * 10 + [(0.0, 0.0)] * 5
    draws = np.array(pairs)[np.random.default_rng(3).integers(0, 35, (20_000, 35))].sum(1)
    low, high = np.quantile(draws[:, 0] / draws[:, 1], [0.025, 0.975])
    mine = estimate(pairs)
    assert (mine.value, mine.n) == (pytest.approx(20 / 70), 70)
    assert (mine.low, mine.high) == pytest.approx((low, high), abs=0.01)


def test_an_interval_depends_on_the_seed_alone() -> None:
    """Order does not matter, and a certain thing has no width."""
    pairs = [(1.0, 1.0), (0.0, 1.0), (0.0, 1.0)]
    assert estimate(pairs, seed=5) == estimate(pairs[::-1], seed=5)
    sure = estimate([(1.0, 1.0)] * 9)
    assert (sure.value, sure.low, sure.high) == (1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="at least one value"):
        estimate([(0.0, 0.0)])


# Reading


def test_three_formats_are_told_apart(tmp_path: Path) -> None:
    """Records, TinyAgent items and silver rows become items of one form."""
    item = {
        "idx": 7,
        "question": "text Sophie hi",
        "tools": ["send_sms"],
        "calls": TEXT,
        "plan": "",
    }
    silver = {"id": 1, "source": "s", "text": "call me", "kind": "none_near", "any_of": [[]]}
    read = [
        read_items(write_lines(tmp_path / "rows.jsonl", [row])) for row in (ROWS[0], item, silver)
    ]
    assert [found.format for found in read] == ["record", "tinyagent", "silver"]
    assert read[1].items[0].id == "tinyagent-7"
    assert read[1].items[0].raw_id == "7"
    assert read[1].items[0].gold == read[0].items[0].gold
    assert read[2].items[0].acceptable() == ((),)
    with pytest.raises(InputError, match="the first row has a, b; expected an example record"):
        read_items(write_lines(tmp_path / "odd.jsonl", [{"a": 1, "b": 2}]))
    with pytest.raises(UsageError, match="no format is called"):
        read_items(tmp_path / "rows.jsonl", form="csv")


def test_a_silver_row_takes_any_acceptable_set(tmp_path: Path) -> None:
    """Either way to reach somebody is right; the graph and arguments are not graded."""
    groups = [["get_email_address", "compose_new_email"], ["get_phone_number", "send_sms"]]
    row = {"id": 1, "text": "tell Sophie hi", "kind": "tool", "any_of": groups}
    item = read_items(write_lines(tmp_path / "rows.jsonl", [row])).items[0]
    scored = score_item(item, {"calls": TEXT}, TINYAGENT16)
    assert scored["reason"] == "right"
    assert scored["figures"]["tool_exact"] == 1.0
    assert {"graph_match", "tinyagent_success", "argument_match"} & scored[
        "figures"
    ].keys() == set()
    assert score_item(item, {"calls": TEXT[:1]}, TINYAGENT16)["reason"] == "tools"


def test_tinyagent_success_is_judged_by_the_plan_as_published(items: tuple[Item, ...]) -> None:
    """Putting a plan into our form must not move TinyAgent's own measure."""
    published = (call(1, "get_phone_number", "Sophie"), call(2, "send_sms", ["+1"], "hi"))
    item = replace(items[0], published=published)
    figures = score_item(item, {"calls": TEXT}, TINYAGENT16)["figures"]
    assert (figures["tinyagent_success"], figures["graph_match"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("row", "where"),
    [
        ("{", "2:2: "),
        ({**ROWS[0], "id": "who"}, "2:2: the id 'who' stands twice"),
        ({**ROWS[0], "kind": "toll"}, "kind: expected one of"),
        ({**ROWS[0], "outcome": "fine"}, "outcome is 'fine'; expected ambiguous or not_found"),
        ({**ROWS[0], "plan": [call(1, "send_sms", ["$1"], "")]}, "which is no earlier call"),
    ],
)
def test_a_broken_row_is_named_by_file_and_line(tmp_path: Path, row: Any, where: str) -> None:
    """Nothing is skipped silently."""
    with pytest.raises(RecordError) as raised:
        read_items(write_lines(tmp_path / "rows.jsonl", [ROWS[3], row]))
    assert where in str(raised.value)
    assert f"{tmp_path / 'rows.jsonl'}:2:" in str(raised.value)


def test_broken_rows_can_be_skipped_up_to_one_percent(tmp_path: Path) -> None:
    """One of 101 is counted; two of 101 are too many, also where a limit ends the reading."""
    good = [record(str(number), "what is love") for number in range(100)]
    found = read_items(write_lines(tmp_path / "a.jsonl", [*good, "{"]), skip_bad=True)
    assert (len(found.items), len(found.skipped)) == (100, 1)
    with pytest.raises(InputError, match="2 of 102 rows are broken, more than 1%"):
        read_items(write_lines(tmp_path / "b.jsonl", [*good, "{", "{"]), skip_bad=True)
    with pytest.raises(InputError, match="1 of the first 6 rows are broken"):
        read_items(write_lines(tmp_path / "c.jsonl", ["{", *good]), skip_bad=True, limit=5)


def test_predictions_belong_to_rows_by_id(tmp_path: Path, items: tuple[Item, ...]) -> None:
    """Order does not matter; strangers, missing rows and repeats are errors."""
    rows = [{"id": name, **prediction} for name, prediction in SCRIPT.items()]
    path = tmp_path / "p.jsonl"
    found = read_predictions(write_lines(path, rows[::-1]), items)
    assert {name: value and value["calls"] for name, value in found.items()} == {
        name: value["calls"] for name, value in SCRIPT.items()
    }
    with pytest.raises(InputError, match="1 of 4 rows have no prediction; the first is 'text'"):
        read_predictions(write_lines(path, rows[1:]), items)
    stranger = {"id": "else", "calls": []}
    with pytest.raises(InputError, match="1 rows belong to no row of the data"):
        read_predictions(write_lines(path, [*rows, stranger]), items)
    assert read_predictions(write_lines(path, [*rows, stranger]), items, partial=True) == found
    with pytest.raises(RecordError, match="the id 'text' stands twice"):
        read_predictions(write_lines(path, [*rows, rows[0]]), items)


@pytest.mark.parametrize(
    "row",
    [
        {"id": "text"},
        {"id": True, "calls": []},
        {"id": "text", "calls": "none"},
        {"id": "text", "calls": [], "ask": 3},
        {"id": "text", "calls": [], "tools": [1]},
        {"id": "text", "calls": [], "seconds": {"total": "soon"}},
        {"id": "text", "prediction": []},
    ],
)
def test_a_prediction_of_wrong_types_is_an_error(
    tmp_path: Path, items: tuple[Item, ...], row: dict[str, Any]
) -> None:
    """The error says where."""
    with pytest.raises(RecordError, match=r"p\.jsonl:1:"):
        read_predictions(write_lines(tmp_path / "p.jsonl", [row]), items[:1])


@pytest.mark.shared
def test_published_gold_plans_score_full_marks(shared_data: Path) -> None:
    """Each of the 150 public items matches itself, by TinyAgent's measure and by the graph."""
    for item in read_items(shared_data / "tinyagent/test_public.jsonl").items:
        figures = score_item(item, {"calls": list(item.gold)}, TINYAGENT16)["figures"]
        assert (figures["tinyagent_success"], figures["graph_match"]) == (1.0, 1.0), item.id
