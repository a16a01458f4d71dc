"""The figures and the page say what the examples hold."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from mlx_tinyagent.datasets.graph_svg import describe, draw
from mlx_tinyagent.datasets.record import Call, Example
from mlx_tinyagent.datasets.report import PER_GROUP, render
from mlx_tinyagent.datasets.stats import collect

CALLS = (
    Call(id=1, tool="get_phone_number", args=("dana <b>",)),
    Call(id=2, tool="send_sms", args=(["$1"], "see ${1} & more")),
    Call(id=3, tool="open_note", args=("x", "")),
)


def example(number: int, **changes: object) -> Example:
    """Make an example with some fields changed."""
    values: dict[str, object] = {
        "id": str(number),
        "query": "text dana <b> see & more of x",
        "tools": ("get_phone_number", "send_sms", "open_note"),
        "plan": CALLS,
        "source": "hand",
        "licence": "MIT",
        "kind": "tool",
    }
    return Example(**{**values, **changes})  # type: ignore[arg-type]


def test_counts_are_what_stands_in_the_examples() -> None:
    """Tools once per plan, references as edges, arguments by origin."""
    rows = [example(1), example(2, kind="none_far", plan=(), query="hi")]
    found = collect(rows).as_dict()
    assert found["rows"] == 2
    assert found["kinds"] == {"none_far": 1, "tool": 1}
    assert found["calls_per_plan"] == {3: 1}
    assert found["edges"] == {"get_phone_number -> send_sms": 1}
    assert found["arguments"] == {"reference": 2, "span": 2}
    assert found["words_per_request"]["max"] == 8


def test_nothing_gives_empty_figures() -> None:
    """No division by zero."""
    assert collect([]).as_dict()["words_per_request"] == {}
    assert "0" in render([], title="none")


def test_a_graph_is_well_formed_and_has_an_arrow_per_reference() -> None:
    """Three boxes, one edge, everything escaped."""
    root = ET.fromstring(draw(CALLS))
    assert len(root.findall("g")) == 3
    assert [p.get("class") for p in root.findall("path")] == ["edge", "head"]
    assert describe(CALLS) == "1 get_phone_number; 2 send_sms after 1; 3 open_note"
    assert draw(()) == ""


def test_the_page_is_self_contained_and_escaped() -> None:
    """It loads nothing, runs nothing, and shows a few examples of each group."""
    rows = [example(n) for n in range(50)] + [
        example(60, kind="ask", plan=(), ask="Who <i>?", query="call")
    ]
    page = render(rows, title="A & B")
    assert not re.search(r"(src|href)=|<script|url\(|@import", page)
    assert "<b>" not in page.split("<h2>Distributions")[1].replace("<b>51", "")
    assert page.count('class="example"') == PER_GROUP + 1
    assert "Who &lt;i&gt;?" in page
    assert "A &amp; B" in page
    assert page == render(rows, title="A & B")
