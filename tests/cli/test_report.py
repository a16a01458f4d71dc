"""The page of what a recipe left: figures from files written by hand stand on it, as text."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

MACHINE = {
    "system": "Linux-6",
    "machine": "x86_64",
    "processor": "Some CPU",
    "cores": 2,
    "python": "3.11.7",
    "packages": {"mlx": "0.32.4", "numpy": None},
}
EVIL = "<script>alert('\"1\"')</script>"


class Text(HTMLParser):
    """Collects the words of a page, its elements and what they point to."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the element's name and its links."""
        self.tags.add(tag)
        self.targets += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        """Keep the words."""
        self.words.append(data)

    @property
    def text(self) -> str:
        """All words, blanks made plain."""
        return " ".join(" ".join(self.words).split())


def read(page: Path) -> Text:
    """Parse a page."""
    found = Text()
    found.feed(page.read_text())
    return found


def put(folder: Path, name: str, document: object) -> None:
    """Write a JSON document."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(document))


def interval(value: float, n: int = 4) -> dict[str, float]:
    """A figure with its ends."""
    return {"value": value, "low": value / 2, "high": 1.0, "n": n}


def evaluation(folder: Path, right: list[int], *, model: str, sha: str = "ab" * 32) -> None:
    """Write what ``eval plans`` leaves, as far as the page reads it."""
    put(
        folder,
        "summary.json",
        {
            "rows": len(right),
            "figures": {"right": interval(sum(right) / len(right), len(right))},
            "reasons": {"right": sum(right), "tools": len(right) - sum(right)},
            "seconds": {"total": {"mean": 1.5, "median": 1.25, "p90": 2.0}},
            "config": {
                "command": "eval plans",
                "data": {"file": "test.jsonl", "sha256": sha, "rows": len(right)},
                "planner": {"kind": "model", "model": model, "adapter": None},
                "retrieval": "on",
            },
            "machine": MACHINE,
        },
    )
    rows = [
        {"id": str(place), "query": f"request {place}", "figures": {"right": value}}
        for place, value in enumerate(right)
    ]
    (folder / "items.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "report.html").write_text("<p>row by row</p>")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with one of everything."""
    folder = tmp_path / "run"
    rows = [
        {
            "id": f"r{place}",
            "query": f"text Ana {place}",
            "now": None,
            "history": [],
            "kind": "tool",
            "tools": ["send_sms"],
            "plan": [{"id": 1, "tool": "send_sms", "args": [["Ana"], "hi"]}],
            "source": "hand",
            "licence": "CC0",
        }
        for place in range(3)
    ]
    (folder / "data").mkdir(parents=True)
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (folder / "data" / "train.jsonl").write_text(lines)
    put(folder / "planner", "config.json", {"iters": 2, "learning_rate": 0.0004})
    put(
        folder / "planner" / "checkpoint",
        "state.json",
        {"progress": {"examples": 16, "seconds": 600.0}},
    )
    log = [{"step": 1, "loss": 3.5}, {"step": 2, "loss": 2.25}, {"step": 2, "valid_loss": 2.125}]
    (folder / "planner" / "log.jsonl").write_text("".join(f"{json.dumps(x)}\n" for x in log))
    put(
        folder / "rag",
        "report.json",
        {
            "figures": {
                "complete, long": {
                    "n": 40,
                    "share": 0.95,
                    "at_least": 0.85,
                    "tools": 6.5,
                    "abstained": 0.025,
                },
                "fires, none_near": {"n": 5, "share": 0.2},
            },
            "promises": {"long": "kept from 0.1 on"},
        },
    )
    put(
        folder / "model",
        "quantization_report.json",
        {
            "verdict": "accepted",
            "bits_on_disk": 4.5,
            "bytes": 75_600_000,
            "calibration": {"rows": 64},
            "config": {"recipe": "sensitivity", "method": "gptq"},
            "checks": [
                {
                    "name": "kl",
                    "reference": 0.0,
                    "model": 0.125,
                    "difference": 0.125,
                    "low": 0.1,
                    "high": 0.15,
                    "n": 40,
                    "limit": "at most 0.15",
                    "state": "passed",
                }
            ],
            "machine": MACHINE,
        },
    )
    evaluation(folder / "before", [0, 0, 1, 0], model="small")
    evaluation(folder / "after", [1, 1, 1, 0], model=EVIL)
    for time, name in enumerate(("before", "after"), start=1):
        os.utime(folder / name / "summary.json", (time, time))
    return folder


def test_every_part_is_on_the_page(cli: Callable[..., Any], run: Path) -> None:
    """With the figures that stand in the files, and their n."""
    done = cli("report", run)

    assert done.code == 0, done.err
    assert done.out == ""
    assert "left out" not in done.err
    text = read(run / "index.html").text
    assert "send_sms 3" in text
    assert "distinct requests 3" in text
    assert "training loss 3.5000 to 2.2500" in text
    assert "best validation loss 2.1250 after 2 updates" in text
    assert "16 examples in 10 min" in text
    assert "complete, long 95.0 % 40 85.0 % 6.50 2.5 %" in text
    assert "accepted: 4.50 bits per weight on disk, 75.6 MB, calibrated on 64 rows" in text
    assert "25.0 % (12.5 % \u2013 100.0 %), n 4" in text
    assert "75.0 % (37.5 % \u2013 100.0 %), n 4" in text
    assert "Some CPU, 2 cores, Linux-6, Python 3.11.7; mlx 0.32.4" in text
    assert "2 evaluations" not in done.err
    assert "evaluations of plans (2)" in done.err


def test_evaluations_of_the_same_rows_are_compared(cli: Callable[..., Any], run: Path) -> None:
    """Four rows, two more right, none less: 50 points, McNemar's exact p is 2 / 2^2."""
    evaluation(run / "other", [1, 1], model="small", sha="cd" * 32)

    assert cli("report", run).code == 0

    text = read(run / "index.html").text
    assert re.findall(r"\w+ against \w+, on \d+", text) == ["before against after, on 4"]
    assert re.search(r"right 4 25\.0 % 75\.0 % \+50\.0 \(\+0\.0 to \+100\.0\) 0\.5 ", text)


def test_the_page_loads_and_runs_nothing(cli: Callable[..., Any], run: Path) -> None:
    """It forbids itself everything but its style; links lead to pages beside it only."""
    assert cli("report", run).code == 0

    page = read(run / "index.html")
    assert "script" not in page.tags
    assert EVIL in page.text
    assert "default-src 'none'" in (run / "index.html").read_text()
    assert sorted(page.targets) == ["after/report.html", "before/report.html"]
    assert all((run / target).is_file() for target in page.targets)


def test_another_place_and_title(cli: Callable[..., Any], run: Path, tmp_path: Path) -> None:
    """Links start from where the page stands; a title is text."""
    target = tmp_path / "pages" / "mine.html"

    assert cli("report", run, "--out", target, "--title", EVIL).code == 0

    page = read(target)
    assert page.text.startswith(EVIL)
    assert "script" not in page.tags
    assert all((target.parent / link).resolve().is_file() for link in page.targets)


def test_the_same_files_give_the_same_page(cli: Callable[..., Any], run: Path) -> None:
    """Byte for byte, and the page itself is no part of the next one."""
    assert cli("report", run).code == 0
    first = (run / "index.html").read_bytes()

    assert cli("report", run).code == 0
    assert (run / "index.html").read_bytes() == first


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("before/summary.json", "{"),
        ("before/summary.json", '{"config": {"command": "eval plans"}}'),
        ("before/items.jsonl", "no json"),
        ("model/quantization_report.json", "[]"),
        ("model/quantization_report.json", '{"verdict": "accepted"}'),
        ("planner/log.jsonl", "nothing"),
        ("data/train.jsonl", '{"id": "r1"}'),
        ("rag/report.json", '{"figures": {"complete": 3}, "promises": {}}'),
        ("rag/report.json", '{"figures": [], "promises": []}'),
    ],
)
def test_a_broken_file_is_named_and_the_rest_shown(
    cli: Callable[..., Any], run: Path, file: str, content: str
) -> None:
    """On the page and on standard error; it does not end the command."""
    (run / file).write_text(content)

    done = cli("report", run)

    assert done.code == 0
    assert "left out: " in done.err
    text = read(run / "index.html").text
    assert "Left out" in text
    assert "n 4" in text


def test_a_folder_without_parts_is_an_error(cli: Callable[..., Any], tmp_path: Path) -> None:
    """One line that says what was looked for."""
    done = cli("report", tmp_path)

    assert done.code == 1
    assert "holds no data set" in done.line
    assert not (tmp_path / "index.html").exists()


def test_a_file_is_no_folder(cli: Callable[..., Any], tmp_path: Path) -> None:
    """Likewise."""
    (tmp_path / "file").write_text("")

    assert "is no folder" in cli("report", tmp_path / "file").line


def test_links_are_not_followed(cli: Callable[..., Any], run: Path, tmp_path: Path) -> None:
    """What lies outside of the folder is no part of it."""
    outside = tmp_path / "outside"
    evaluation(outside / "secret", [1], model="elsewhere", sha="ef" * 32)
    (run / "link").symlink_to(outside)
    (run / "one").mkdir()
    (run / "one" / "summary.json").symlink_to(outside / "secret" / "summary.json")

    assert cli("report", run).code == 0
    assert "elsewhere" not in (run / "index.html").read_text()


def test_what_was_done_and_planned(cli: Callable[..., Any], tmp_path: Path) -> None:
    """The journal's document, an answer and planned rows, as a first look leaves them."""
    step = {"id": "1.3", "tool": "send_sms", "status": "ok", "undone": True, "summary": EVIL}
    put(
        tmp_path,
        "log.json",
        {"runs": [{"id": 1, "at": "2026-01-01T00:00:00+00:00", "steps": [step]}]},
    )
    put(tmp_path, "answer.json", {"query": "who?", "reply": "Kate Murphy"})
    plan = {"id": "1", "calls": [], "text": "1. join()", "error": None, "ask": None, "reply": None}
    (tmp_path / "plan.jsonl").write_text(json.dumps(plan) + "\n")
    (tmp_path / "request.jsonl").write_text('{"id": "1", "query": "hello there"}\n')

    assert cli("report", tmp_path, "--out", tmp_path / "page.html").code == 0

    page = read(tmp_path / "page.html")
    assert "taken back" in page.text
    assert "who? Kate Murphy" in page.text
    assert "hello there 1. join()" in page.text
    assert "script" not in page.tags
