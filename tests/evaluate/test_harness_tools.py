"""Retrieval through the harness: figures worked out by hand for a scripted retriever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.evaluate.harness_items import Item, read_items
from mlx_tinyagent.evaluate.harness_tools import (
    make_retrievers,
    nearest,
    query_of,
    score_retrieval,
    summarize_retrieval,
    training_examples,
)
from mlx_tinyagent.retrieval.base import Retrieved
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16
from tests.evaluate.harness_rows import ROWS, record, write_lines

OFFERS: dict[str, tuple[str, ...]] = {
    "text Sophie hi": ("get_phone_number", "send_sms"),  # exactly what is needed
    "remind me to pay rent": ("create_note", "create_reminder", "open_note"),  # two too many
    "call or write": ("get_email_address",),  # half of the second acceptable set
    "what is love": ("open_note",),
    "stop it": (),
}
GROUPS = [["get_phone_number", "send_sms"], ["get_email_address", "compose_new_email"]]
SILVER: list[dict[str, Any]] = [
    {"id": 1, "text": "call or write", "kind": "tool", "any_of": GROUPS},
    {"id": 2, "text": "stop it", "kind": "none_near", "any_of": [[]]},
]


class Scripted:
    """Offers what the script says, whatever the tools read."""

    def select(self, query: str, tools: ToolSet) -> Retrieved:
        """Return the script's tools, scored 1, the others 0."""
        names = OFFERS[query]
        return Retrieved(
            tools=tools.subset(names),
            scores={name: float(name in names) for name in tools.names},
            abstain=not names,
            reasons=dict.fromkeys(names, "score"),
        )


@pytest.fixture
def items(tmp_path: Path) -> tuple[Item, ...]:
    """Records and silver rows."""
    records = read_items(write_lines(tmp_path / "records.jsonl", ROWS)).items
    return (*records[:3], *read_items(write_lines(tmp_path / "silver.jsonl", SILVER)).items)


def test_figures_are_those_worked_out_by_hand(items: tuple[Item, ...]) -> None:
    """Needed 2 + 1 + 2, offered 2 + 3 + 1, of them needed 2 + 1 + 1."""
    rows = [score_retrieval(item, Scripted(), TINYAGENT16) for item in items]
    summary = summarize_retrieval(rows, TINYAGENT16)
    values = {name: (f["value"], f["n"]) for name, f in summary["figures"].items()}
    assert values == {
        "full_recall": (pytest.approx(2 / 3, abs=1e-6), 3),
        "tool_recall": (pytest.approx((1 + 1 + 0.5) / 3, abs=1e-6), 3),
        "micro_recall": (pytest.approx(4 / 5), 5),
        "micro_precision": (pytest.approx(4 / 6, abs=1e-6), 6),
        "exact": (pytest.approx(1 / 3, abs=1e-6), 3),
        "mean_tools": (2.0, 3),
        "missed": (0.0, 3),
        "fire_near": (0.0, 1),
        "fire_far": (1.0, 1),
        "mean_tools_near": (0.0, 1),
        "mean_tools_far": (1.0, 1),
    }
    note = summary["tools"]["open_note"]
    assert (note["wanted"], note["offered"], note["precision"]) == (0, 1, 0.0)
    assert (note["offered_far"], note["recall"]) == (1, None)
    assert summary["tools"]["compose_new_email"]["recall"] == 0.0
    assert summary["kinds"] == {"tool": 3, "none_far": 1, "none_near": 1}


def test_the_curve_ends_at_all_tools(items: tuple[Item, ...]) -> None:
    """Keeping more never loses a tool; keeping all is complete and costs 16."""
    rows = [score_retrieval(item, Scripted(), TINYAGENT16) for item in items]
    curve = summarize_retrieval(rows, TINYAGENT16)["top_k"]
    recalls = [point["full_recall"]["value"] for point in curve]
    assert recalls == sorted(recalls)
    assert (curve[-1]["k"], recalls[-1], curve[-1]["mean_tools"]) == (16, 1.0, 16.0)


def test_a_retriever_that_ranks_nothing_has_no_curve(items: tuple[Item, ...]) -> None:
    """All tools with one score each: the first k would be an accident of order."""
    everything = make_retrievers("everything", (), items, TINYAGENT16)[0]["everything"]
    rows = [score_retrieval(item, everything, TINYAGENT16) for item in items]
    assert summarize_retrieval(rows, TINYAGENT16)["top_k"] == []


def test_the_set_that_fits_best_counts() -> None:
    """Exact before complete, complete before half."""
    groups = [("a", "b"), ("c",), ("a", "b", "c")]
    assert nearest(groups, ["a", "b"]) == {"a", "b"}
    assert nearest(groups, ["c", "d"]) == {"c"}
    assert nearest(groups, ["a", "b", "c"]) == {"a", "b", "c"}


def test_earlier_turns_count_for_retrieval(tmp_path: Path) -> None:
    """As for the planner: "and Ana" is retrieved with the request before it."""
    history = [{"query": "text Bob hi", "plan": ""}]
    row = record("ana", "and Ana", ROWS[0]["plan"], history=history)
    item = read_items(write_lines(tmp_path / "r.jsonl", [row])).items[0]
    assert query_of(item) == "text Bob hi and Ana"


def test_training_rows_with_the_words_of_a_judged_row_are_left_out(items: tuple[Item, ...]) -> None:
    """Case and punctuation do not make another request; the smaller acceptable set is learned."""
    from dataclasses import replace

    groups = (("send_sms", "get_phone_number"), ("create_note",))
    training = [
        replace(items[0], query="Text: SOPHIE, hi!"),
        replace(items[0], query="write it down or text it", any_of=groups),
        replace(items[0], query="fly", any_of=(("fly_away",),)),
        replace(items[0], query="hm", kind="ask", gold=()),
    ]
    examples, dropped = training_examples(training, items, TINYAGENT16)
    assert (examples, dropped) == ([("write it down or text it", ["create_note"])], 2)
