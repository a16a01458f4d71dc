"""The reports: hostile text stays text, nothing is loaded, graphs are drawn as they are."""

from __future__ import annotations

import base64
import hashlib
import random
import re
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from mlx_tinyagent.cli.eval import run_plans
from mlx_tinyagent.evaluate import report_tools
from mlx_tinyagent.evaluate.calls import Call, dependencies
from mlx_tinyagent.evaluate.harness_items import read_items
from mlx_tinyagent.evaluate.harness_run import (
    describe_data,
    describe_machine,
    describe_tools,
)
from mlx_tinyagent.evaluate.harness_tools import (
    make_retrievers,
    score_retrieval,
    summarize_retrieval,
)
from mlx_tinyagent.evaluate.report_graph import MAX_NODES, WIDTH, describe, draw
from mlx_tinyagent.tools.catalog import TINYAGENT16
from tests.evaluate.harness_rows import TEXT, call, job, record, write_lines

HOSTILE = "</svg></script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&lt; \u202e$1"


class Page(HTMLParser):
    """Reads a page: its tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._script = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        """Leave a script."""
        self._script = self._script and tag != "script"

    def handle_data(self, data: str) -> None:
        """Keep text, scripts apart."""
        if self._script:
            self.scripts.append(data)
        else:
            self.text += data


def page_of(tmp_path: Path, rows: list[dict[str, Any]], predictions: dict[str, Any]) -> str:
    """Return the report of a run."""
    data = write_lines(tmp_path / "rows<b>.jsonl", rows)
    out = tmp_path / "out"
    run_plans(job(data, out), lambda item: predictions[item.id])
    return (out / "report.html").read_text("utf-8")


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    """A page of rows and predictions that hold markup wherever text may stand."""
    history = [{"query": HOSTILE, "plan": HOSTILE}]
    plan = [call(1, "get_phone_number", HOSTILE), call(2, "send_sms", ["$1"], HOSTILE)]
    rows = [
        record("<i>1", HOSTILE, plan, history=history, source=HOSTILE[:90]),
        record("<i>2", HOSTILE, kind="ask", ask=HOSTILE),
        record("<i>3", HOSTILE),
        record("<i>4", HOSTILE),
    ]
    predictions = {
        "<i>1": {"calls": [call(1, HOSTILE, HOSTILE), call(2, "send_sms", ["$1"], [HOSTILE])]},
        "<i>2": {"calls": [], "error": HOSTILE, "text": HOSTILE},
        "<i>3": {"calls": [], "ask": HOSTILE},
        "<i>4": {"calls": [call(1, "send_sms", [HOSTILE], HOSTILE)], "tools": [HOSTILE]},
    }
    return page_of(tmp_path, rows, predictions)


def test_hostile_text_stays_text(hostile: str) -> None:
    """No element and no handler comes from a row, and what was written can be read."""
    page = Page(hostile)
    assert page.tags.count("script") == 1
    assert {"img", "iframe", "link", "object", "i"} & set(page.tags) <= {"i"}
    assert page.tags.count("i") == hostile.count('<i style="left:')  # those of the bars alone
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count("<script>alert(1)</script>") >= 8


def test_the_page_loads_nothing(hostile: str) -> None:
    """No address stands where a browser would follow it, and the policy forbids it besides."""
    page = Page(hostile)
    assert not {name for name, _ in page.attributes} & {"src", "href", "srcset", "action", "data"}
    style = hostile[hostile.index("<style>") : hostile.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_admits_the_pages_own_script_alone(hostile: str) -> None:
    """Its hash is the one that is named."""
    page = Page(hostile)
    policy = next(value for _, value in page.attributes if value.startswith("default-src"))
    digest = base64.b64encode(hashlib.sha256("".join(page.scripts).encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_failures_are_shown_with_both_plans(tmp_path: Path) -> None:
    """One card per row that is not right, with its reason, its tools and the marks of its calls."""
    rows = [record("good", "text Sophie hi", TEXT), record("bad", "text Sophie hi", TEXT)]
    wrong = [TEXT[0], call(2, "send_sms", ["$1"], "bye"), call(3, "open_note", "x", "")]
    html = page_of(tmp_path, rows, {"good": {"calls": TEXT}, "bad": {"calls": wrong}})
    cards = re.findall(r"<article .*?</article>", html, re.DOTALL)
    assert len(cards) == 1
    assert 'data-reason="tools" data-kind="tool"' in cards[0]
    assert 'data-tools="get_phone_number send_sms open_note"' in cards[0]
    right, predicted = cards[0].split("<h3>predicted</h3>")
    assert re.findall(r'<g class="(\w+)">', right) == ["same", "differs"]
    assert re.findall(r'<g class="(\w+)">', predicted) == ["same", "differs", "alone"]
    assert "right step 2, send_sms, message: \u201cbye\u201d instead of \u201chi\u201d" in cards[0]


def test_more_failures_than_fit_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left out silently."""
    monkeypatch.setattr("mlx_tinyagent.evaluate.report.MAX_SHOWN", 2)
    rows = [record(str(number), "what is love") for number in range(3)]
    called = {"calls": [call(1, "open_note", "love", "")]}
    html = page_of(tmp_path, rows, dict.fromkeys("012", called))
    assert html.count("<article") == 2
    assert "The first 2 of 3 are shown; all are in items.jsonl." in html


def test_the_report_of_retrieval_is_safe_as_well(tmp_path: Path) -> None:
    """It needs no script at all."""
    rows = [record("a", HOSTILE, TEXT), record("b", HOSTILE)]
    items = read_items(write_lines(tmp_path / "rows.jsonl", rows))
    retriever = make_retrievers("bm25", (), items.items, TINYAGENT16)[0]["bm25"]
    scored = [score_retrieval(item, retriever, TINYAGENT16) for item in items.items]
    scored[0]["figures"]["full_recall"] = 0.0
    config = {"data": describe_data(items), "tools": describe_tools(TINYAGENT16), "seed": 0}
    summary = {
        **summarize_retrieval(scored, TINYAGENT16),
        "config": {**config, "retriever": HOSTILE},
        "machine": describe_machine(),
    }
    page = Page(report_tools.render(scored, summary))
    assert page.tags.count("script") == 0
    assert "img" not in page.tags
    assert page.text.count("<script>alert(1)</script>") == 2


# Graphs


def as_calls(rows: list[dict[str, Any]]) -> list[Call]:
    """Return calls."""
    return [Call(id=row["id"], tool=row["tool"], args=tuple(row["args"])) for row in rows]


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    """Return x, y, width, height of each call's box; the drawing is well-formed."""
    root = ElementTree.fromstring(svg)
    sides = ("x", "y", "width", "height")
    read = ([float(rect.attrib[side]) for side in sides] for rect in root.iter("rect"))
    return [(x, y, width, height) for x, y, width, height in read]


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs_are_drawn_without_overlap(seed: int) -> None:
    """Every call has a box inside the drawing, and each arrow runs from left to right."""
    chance = random.Random(seed)
    rows = [
        call(
            number,
            "tool_" + "x" * chance.randint(0, 40),
            [f"${k}" for k in range(1, number) if chance.random() < 0.3],
            "word " * chance.randint(0, 60),
        )
        for number in range(1, chance.randint(2, MAX_NODES + 1))
    ]
    calls = as_calls(rows)
    svg = draw(calls)
    found = boxes(svg)
    assert len(found) == len(calls)
    for (x, y, w, h), (u, v, s, t) in combinations(found, 2):
        assert x + w <= u or u + s <= x or y + h <= v or v + t <= y
    size = ElementTree.fromstring(svg).attrib["viewBox"].split()
    width, height = float(size[2]), float(size[3])
    assert all(x > 0 and y > 0 and x + w <= width and y + h <= height for x, y, w, h in found)
    reads = dependencies(calls)
    assert svg.count('class="edge"') == sum(map(len, reads))
    for place, sources in enumerate(reads):
        assert all(found[s][0] + WIDTH < found[place][0] for s in sources)


def test_what_cannot_be_drawn_is_told() -> None:
    """Seventeen calls are a sentence; odd plans are drawn with the arrows they have."""
    many = as_calls([call(number, "send_sms", [], "") for number in range(1, MAX_NODES + 2)])
    assert draw(many).startswith('<p class="soft">17 calls, too many to draw')
    odd = as_calls(
        [call(3, "a", "$3"), call(3, "b", "$3"), call(1, "c", "$9", {"k": 1}, 2.5, None)]
    )
    assert len(boxes(draw(odd))) == 3
    assert describe(odd) == "3 a; 3 b after 3; 1 c"


def test_arguments_are_shown_in_short() -> None:
    """Texts in quotes, references bare, empty ones left out, long ones cut."""
    drawn = draw(as_calls([call(1, "t", "Dana", ["$1", "Bob"], "", None, [], 60, "long " * 99)]))
    text = " ".join(ElementTree.fromstring(drawn).itertext())
    assert "\u201cDana\u201d, [$1, \u201cBob\u201d], 60," in " ".join(text.split())
    assert "\u2026" in text
