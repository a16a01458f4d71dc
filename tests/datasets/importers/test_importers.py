"""Importers of the other formats, on small files and on the shared sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.datasets.importers import import_file
from mlx_tinyagent.datasets.importers.base import Options
from mlx_tinyagent.datasets.importers.silver import read_labels
from mlx_tinyagent.errors import RecordError
from mlx_tinyagent.tools.base import Kind

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"


def write(folder: Path, *rows: object) -> Path:
    """Write rows to a file."""
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def call(number: int, tool: str, *args: Any) -> dict[str, Any]:
    """Make a TinyAgent call."""
    return {"id": number, "tool": tool, "args": list(args), "deps": []}


def tinyagent(question: str, *calls: dict[str, Any]) -> dict[str, Any]:
    """Make a TinyAgent item."""
    return {"idx": 3, "question": question, "tools": [], "calls": list(calls), "plan": ""}


def test_dates_become_the_request_s_own_phrases(tmp_path: Path) -> None:
    """Each ISO date takes the phrase that stands by what it is about; default ends go."""
    row = tinyagent(
        'Create a reminder to "Buy Milk" tomorrow, and schedule lunch next Friday at 1:00 PM.',
        call(1, "create_reminder", "buy milk", "2024-03-02 00:00:00", "", "", 0, False),
        call(2, "create_calendar_event", "Lunch", "2024-03-08 13:00:00", "2024-03-08 14:00:00",
             "", [], "", "None"),
    )  # fmt: skip
    found = import_file(write(tmp_path, row), "tinyagent")
    (example,) = found.examples
    assert example.plan[0].args == ("Buy Milk", "tomorrow", "", "", 0, True)
    assert example.plan[1].args[:3] == ("lunch", "next Friday at 1:00 PM", "")
    assert example.marks == ()
    report = found.report
    assert (report.dates, report.dates_from_request, report.ends_dropped) == (2, 2, 1)
    assert report.recased == 2


def test_a_range_brings_its_end(tmp_path: Path) -> None:
    """An end that the start's own phrase says is left empty."""
    row = tinyagent(
        "Lunch on Friday from 12:00 PM to 2:00 PM.",
        call(1, "create_calendar_event", "Lunch", "2024-03-08 12:00:00", "2024-03-08 14:00:00",
             "", [], "", None),
    )  # fmt: skip
    (example,) = import_file(write(tmp_path, row), "tinyagent").examples
    assert example.plan[0].args[1:3] == ("Friday from 12:00 PM to 2:00 PM", "")


def test_a_date_that_nothing_speaks_of_marks_the_row(tmp_path: Path) -> None:
    """It becomes empty; no date is invented."""
    row = tinyagent(
        "Send Dana a Zoom link for the standup.",
        call(1, "get_zoom_meeting_link", "standup", "2024-03-08 09:00:00", 60, []),
    )
    found = import_file(write(tmp_path, row), "tinyagent")
    (example,) = found.examples
    assert example.plan[0].args[1] == ""
    assert example.marks == ("date-unknown",)
    assert found.report.dates_dropped == 1


def test_invalid_plans_are_left_out_or_marked(tmp_path: Path) -> None:
    """An e-mail address where a number belongs cannot be learned, but can be scored."""
    row = tinyagent(
        "text dana hi", call(1, "get_email_address", "dana"), call(2, "send_sms", ["$1"], "hi")
    )
    path = write(tmp_path, row)
    found = import_file(path, "tinyagent")
    assert list(found.examples) == []
    assert found.report.skipped == {"plan: reference-type": 1}
    (kept,) = import_file(path, "tinyagent", Options(keep_invalid=True)).examples
    assert kept.marks == ("plan-invalid",)


def test_smcalflow_rows_get_the_phrase_and_a_title(tmp_path: Path) -> None:
    """Named arguments become positional; the fixed reference time stays."""
    row = {
        "id": "d#0",
        "text": "make a meeting with jack tomorrow at 3",
        "reference_time": "2024-05-15 09:00:00 (Wednesday)",
        "calls": [
            {"id": 1, "tool": "get_email_address", "args": {"name": "jack"}, "deps": []},
            {"id": 2, "tool": "create_calendar_event",
             "args": {"title": None, "start_date": None, "invitees": ["$1"]}, "deps": [1]},
        ],
    }  # fmt: skip
    (example,) = import_file(write(tmp_path, row), "smcalflow").examples
    assert example.now == "2024-05-15T09:00:00"
    assert example.plan[1].args == ("meeting", "tomorrow at 3", "", "", ["$1"], "", None)
    assert example.marks == ("title-implied",)
    assert example.licence == "CC-BY-SA-4.0"


def test_silver_rows_give_refusals_and_labels(tmp_path: Path) -> None:
    """Rows with tools have no plan; their sets are read apart."""
    path = write(
        tmp_path,
        {"id": 1, "source": "hwu", "text": "hi", "kind": "none_far", "any_of": [[]]},
        {"id": 2, "source": "msbot", "text": "email dana", "kind": "tool",
         "any_of": [["compose_new_email"], ["get_email_address", "compose_new_email"]]},
    )  # fmt: skip
    found = import_file(path, "silver")
    (example,) = found.examples
    assert (example.kind, example.licence, found.report.skipped) == (
        "none_far", "CC-BY-4.0", {"no plan given": 1},
    )  # fmt: skip
    labels = list(read_labels(path))
    assert labels[1].any_of[1] == {"get_email_address", "compose_new_email"}
    bad = write(
        tmp_path, {"id": 1, "source": "x", "text": "x", "kind": "tool", "any_of": [["fly"]]}
    )
    with pytest.raises(RecordError, match="unknown tool 'fly'"):
        list(read_labels(bad))


def test_workbench_declares_its_tools_from_the_calls(tmp_path: Path) -> None:
    """Arguments that not every call gives get a default; types follow the values."""
    path = write(
        tmp_path,
        {"query": "plot total visits", "answer": ['analytics.plot.func(value="total visits")']},
        {"query": "plot users twice",
         "answer": ['analytics.plot.func(value="users", times=2)']},
        {"query": "if it rains, plot", "answer": []},
    )  # fmt: skip
    found = import_file(path, "workbench")
    first, second, third = found.examples
    tool = found.tools["analytics__plot"]
    assert [(p.name, p.kind, p.required) for p in tool.params] == [
        ("value", Kind.SPAN, True),
        ("times", Kind.INT, False),
    ]
    assert first.plan[0].args == ("total visits", 0)
    assert second.plan[0].args == ("users", 2)
    assert third.kind == "none_near"
    with pytest.raises(RecordError, match="expected tool"):
        import_file(write(tmp_path, {"query": "x", "answer": ["__import__('os')"]}), "workbench")


def test_seal_tools_responses_become_references(tmp_path: Path) -> None:
    """A value that names an earlier response is ``$k``."""
    row = {
        "id": "r",
        "query": "find the mayor of Oslo and write to him",
        "calling": [
            {"api": "get-mayor", "parameters": {"city": "Oslo"}, "responses": ["API_call_0"]},
            {"api": "write", "parameters": {"to": "API_call_0"}, "responses": ["API_call_1"]},
        ],
    }
    (example,) = import_file(write(tmp_path, row), "seal-tools").examples
    assert [(c.tool, c.args) for c in example.plan] == [
        ("get_mayor", ("Oslo",)),
        ("write", ("$1",)),
    ]


def test_openai_rows_give_plans_questions_and_refusals(tmp_path: Path) -> None:
    """The last user message is the request, earlier ones are history."""
    tools = [{"type": "function", "function": {
        "name": "get.weather", "description": "Weather.",
        "parameters": {"type": "object", "required": ["city"], "properties": {
            "city": {"type": "string"},
            "unit": {"type": "string", "enum": ["c", "f"]}}}}}]  # fmt: skip

    def row(answer: dict[str, Any], *users: str) -> dict[str, Any]:
        turns = [{"role": "user", "content": text} for text in users]
        return {"messages": [*turns, {"role": "assistant", **answer}], "tools": tools}

    calls = [{"function": {"name": "get.weather", "arguments": '{"city": "Oslo"}'}}]
    path = write(
        tmp_path,
        row({"tool_calls": calls}, "hello", "weather in Oslo"),
        row({"content": "Which city?"}, "weather"),
        row({"content": "I cannot."}, "sing"),
    )
    plan, ask, none = import_file(path, "openai").examples
    assert [(c.tool, c.args) for c in plan.plan] == [("get_weather", ("Oslo", "c"))]
    assert [turn.query for turn in plan.history] == ["hello"]
    assert (ask.kind, ask.ask, none.kind) == ("ask", "Which city?", "none_near")


SETS = [
    ("tinyagent", "tinyagent/train.jsonl", 900),
    ("tinyagent", "tinyagent/test_public.jsonl", 135),
    ("smcalflow", "smcalflow_create/dev.jsonl", 330),
    ("silver", "human_tool_silver/dev_train.jsonl", 8_000),
    ("workbench", "workbench/workbench_tasks.jsonl", 640),
    ("seal-tools", "seal_tools/dev.jsonl", 690),
]


@pytest.mark.shared
@pytest.mark.parametrize(("form", "name", "least"), SETS, ids=[s[1] for s in SETS])
def test_the_shared_sets_come_in_with_valid_plans(form: str, name: str, least: int) -> None:
    """Nearly all rows are kept, every plan binds, every row has source and licence."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    found = import_file(path, form)
    examples = list(found.examples)
    assert len(examples) >= least
    assert len({e.id for e in examples}) == len(examples)
    for example in examples:
        example.bound(found.tools)
        assert example.source
        assert example.licence


@pytest.mark.shared
def test_most_dates_of_the_shared_plans_become_phrases() -> None:
    """More than nine in ten start dates have a phrase in their request."""
    path = SHARED / "tinyagent/train.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    found = import_file(path, "tinyagent")
    marked = sum("date-unknown" in example.marks for example in found.examples)
    assert found.report.dates_dropped < 0.06 * found.report.dates
    assert marked < 40
