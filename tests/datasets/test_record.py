"""Reading is strict: each defect is named with file, line and column; writing is atomic."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.datasets.jsonl import MAX_LINE_BYTES, write_lines
from mlx_tinyagent.datasets.record import (
    Example,
    ReadReport,
    load_examples,
    read_examples,
    write_examples,
)
from mlx_tinyagent.errors import InputError, RecordError
from mlx_tinyagent.tools.catalog import TINYAGENT16

GOOD: dict[str, Any] = {
    "id": "a",
    "query": "text dana i'm late",
    "now": "2025-03-14T09:30:00",
    "history": [],
    "tools": ["get_phone_number", "send_sms"],
    "plan": [
        {"id": 1, "tool": "get_phone_number", "args": ["dana"]},
        {"id": 2, "tool": "send_sms", "args": [["$1"], "i'm late"]},
    ],
    "source": "hand",
    "licence": "Apache-2.0",
    "kind": "tool",
}


def line(**changes: Any) -> str:
    """Write a record with some fields changed; ``...`` leaves one out."""
    record = {**GOOD, **changes}
    return json.dumps({key: value for key, value in record.items() if value is not ...})


def written(folder: Path, content: str | bytes) -> Path:
    """Write a file."""
    path = folder / "data.jsonl"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_what_is_written_reads_back_the_same(tmp_path: Path) -> None:
    """Writing and reading give equal examples."""
    path = written(tmp_path, line() + "\n" + line(id="b", kind="none_far", plan=[]) + "\n")
    examples = load_examples(path, tools=TINYAGENT16)
    out = tmp_path / "out.jsonl"
    assert write_examples(out, examples) == 2
    assert load_examples(out) == examples


def test_crlf_line_ends_and_a_last_line_without_end_are_fine(tmp_path: Path) -> None:
    """JSON counts a carriage return as white space."""
    path = written(tmp_path, line() + "\r\n" + line(id="b"))
    assert [e.id for e in read_examples(path)] == ["a", "b"]


PLAN = GOOD["plan"]
BAD_LINES: list[tuple[str, str | bytes, str]] = [
    ("cut last line", line()[:40], "cut off"),
    ("cut inside a text", line()[:22], "cut off"),
    ("byte order mark", b"\xef\xbb\xbf" + line().encode(), "byte order mark"),
    ("utf-16", line().encode("utf-16"), "UTF-16"),
    ("latin-1", '{"id": "Andr\xe9"}'.encode("latin-1"), "not UTF-8"),
    ("raw NUL", line().replace("dana", "da\x00na", 1), "NUL byte"),
    ("escaped NUL", line(query="a\x00b"), "NUL character"),
    ("lone surrogate", line(query="x").replace('"x"', '"\\ud800"'), "surrogate"),
    ("low surrogate", line(query="x").replace('"x"', '"\\udc00 x"'), "surrogate"),
    ("NaN", line(now="x").replace('"x"', "NaN"), "NaN is no JSON"),
    ("Infinity", line(now="x").replace('"x"', "Infinity"), "Infinity is no JSON"),
    ("-Infinity", line(now="x").replace('"x"', "-Infinity"), "no JSON value"),
    ("1e999", line(now="x").replace('"x"', "1e999"), "too large"),
    ("long number", line(now="x").replace('"x"', "9" * 5000), "too large"),
    ("duplicate key", line()[:-1] + ', "id": "b"}', "stands twice"),
    ("nested duplicate", line().replace('"id": 1', '"id": 1, "id": 1'), "stands twice"),
    ("deep nesting", "[" * 100_000 + "]" * 100_000, "nested deeper"),
    ("deep object", '{"a":' * 100_000 + "1" + "}" * 100_000, "nested deeper"),
    ("65 levels", line(plan="x").replace('"x"', "[" * 65 + "]" * 65), "nested deeper"),
    ("empty line", "\n" + line(), "empty line"),
    ("array", "[1, 2]", "expected a JSON object"),
    ("text", '"hello"', "expected a JSON object"),
    ("two objects", line() + line(), "no JSON"),
    ("single quotes", "{'id': 'a'}", "no JSON"),
    ("trailing comma", line()[:-1] + ",}", "no JSON"),
    ("missing id", line(id=...), "'id' is missing"),
    ("missing plan", line(plan=...), "'plan' is missing"),
    ("unknown field", line(colour="red"), "unknown field 'colour'"),
    ("number as id", line(id=7), "id: expected a text"),
    ("empty query", line(query="  "), "query: expected a text"),
    ("long query", line(query="x" * 9000), "8192 at most"),
    ("bad now", line(now="yesterday"), "local ISO 8601"),
    ("zoned now", line(now="2025-03-14T09:30:00+01:00"), "without a zone"),
    ("number now", line(now=5), "ISO 8601 text or null"),
    ("history text", line(history="x"), "list of at most 64 turns"),
    ("history turn", line(history=[{"q": 1}]), "'query': text"),
    ("tools text", line(tools="send_sms"), "list of names"),
    ("tools twice", line(tools=["send_sms", "send_sms"]), "names that differ"),
    ("plan object", line(plan={}), "list of at most"),
    ("plan call text", line(plan=["x"]), "plan call 1"),
    ("call without args", line(plan=[{"id": 1, "tool": "send_sms"}]), "plan call 1"),
    ("call id gap", line(plan=[PLAN[0], {**PLAN[1], "id": 3}]), "expected id 2"),
    ("call id true", line(plan=[{**PLAN[0], "id": True}]), "expected id 1"),
    ("object argument", line(plan=[{**PLAN[0], "args": [{"a": 1}]}]), "args is a list"),
    ("nested list", line(plan=[{**PLAN[0], "args": [[["x"]]]}]), "args is a list"),
    ("kind", line(kind="maybe"), "one of tool, ask"),
    ("kind list", line(kind=["tool"]), "one of tool, ask"),
    ("tool without plan", line(plan=[]), "the plan is empty"),
    ("refusal with plan", line(kind="none_far"), "the plan has calls"),
    ("ask without question", line(kind="ask", plan=[]), "the question"),
    ("question on a tool row", line(ask="Who?"), "a question is given"),
    ("empty question", line(kind="ask", plan=[], ask=" "), "ask: expected a text"),
    ("tool not offered", line(tools=["send_sms"]), "is not on offer"),
    ("unknown tool", line(tools=["get_phone_number", "send_sms", "fly"]), "unknown tool 'fly'"),
    ("forward reference", line(plan=[{**PLAN[1], "id": 1}, {**PLAN[0], "id": 2}]), "$1"),
    ("arity", line(plan=[{**PLAN[0], "args": ["a", "b"]}]), "takes 1 arguments, got 2"),
    ("reference type", line(
        tools=["get_email_address", "send_sms"],
        plan=[
            {"id": 1, "tool": "get_email_address", "args": ["dana"]},
            {"id": 2, "tool": "send_sms", "args": [["$1"], "hi"]},
        ]), "takes phone"),
    ("id twice", line() + "\n" + line(), "stands twice"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "reason"), BAD_LINES, ids=[b[0] for b in BAD_LINES])
def test_a_defect_is_named_with_file_line_and_column(
    name: str, content: str | bytes, reason: str, tmp_path: Path
) -> None:
    """Every defect raises a RecordError that says where it is and what was found."""
    path = written(tmp_path, content)
    with pytest.raises(RecordError) as caught:
        load_examples(path, tools=TINYAGENT16)
    assert reason in str(caught.value), name
    assert str(caught.value).startswith(f"{path}:{caught.value.line}:{caught.value.column}: ")
    assert caught.value.line >= 1
    assert caught.value.column >= 1
    assert len(str(caught.value)) < 600


def test_the_column_points_at_the_field(tmp_path: Path) -> None:
    """A wrong value is reported where its key stands."""
    text = line(kind="maybe")
    with pytest.raises(RecordError) as caught:
        load_examples(written(tmp_path, text))
    assert text[caught.value.column - 1 :].startswith('"kind"')


def test_a_line_of_a_hundred_megabytes_is_refused_in_little_memory(tmp_path: Path) -> None:
    """Only the limit is read into memory; the next line is still found."""
    import tracemalloc

    path = tmp_path / "huge.jsonl"
    with path.open("wb") as file:
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b"\n" + line().encode() + b"\n")
    tracemalloc.start()
    with pytest.raises(RecordError, match="longer than"):
        load_examples(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * MAX_LINE_BYTES


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b"])
def test_empty_and_compressed_files_are_named(content: bytes, tmp_path: Path) -> None:
    """An empty file and a gzip file named .jsonl say what they are."""
    data = gzip.compress(line().encode()) if content else b""
    with pytest.raises(InputError, match="gzip" if content else "empty"):
        load_examples(written(tmp_path, data))


def test_missing_files_and_folders_are_input_errors(tmp_path: Path) -> None:
    """What cannot be opened is one readable line."""
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(InputError):
            load_examples(path)


def test_skip_bad_counts_and_refuses_above_one_percent(tmp_path: Path) -> None:
    """One broken row in a hundred passes; two do not."""
    rows = [line(id=str(n)) for n in range(99)]
    report = ReadReport()
    path = written(tmp_path, "\n".join([*rows, "{"]) + "\n")
    assert len(list(read_examples(path, skip_bad=True, report=report))) == 99
    assert (report.rows, [s.line for s in report.skipped]) == (99, [100])
    path = written(tmp_path, "\n".join([*rows, "{", "{"]) + "\n")
    with pytest.raises(InputError, match="2 of 101 rows are broken"):
        list(read_examples(path, skip_bad=True))


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    """If the rows raise on the way, the target is untouched and nothing is left behind."""
    path = written(tmp_path, "old\n")

    def rows() -> Any:
        yield "new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_lines(path, rows())
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_question_is_a_plan_of_its_own() -> None:
    """An ask example binds to a plan that asks."""
    example = Example(
        id="q", query="text dana", tools=("send_sms",), ask="What?", source="s", licence="l",
        kind="ask",
    )  # fmt: skip
    assert example.bound(TINYAGENT16).ask == "What?"
