"""TinyAgent's data set is read in pieces; files here are made to its published schema."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.datasets import jsonobject
from mlx_tinyagent.datasets.importers import import_file
from mlx_tinyagent.datasets.jsonobject import read_members
from mlx_tinyagent.errors import InputError, RecordError, UsageError

SYSTEM = (
    "You have 3 tools.\n1. get_phone_number(name: str) -> str\n - x\n\n"
    "2. send_sms(recipients: list[str], message: str) -> str\n\n3. join():\n###\n"
    "1. maps_open_location(location)"
)


def item(query: str, calls: list[tuple[str, list[Any]]], **changes: Any) -> dict[str, Any]:
    """Make one member of the data set."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"it's {query}"}]
    plan = {
        "type": "plan",
        "raw_input": repr(messages),
        "raw_output": "",
        "parsed_output": [
            *({"tool_name": name, "tool_args": args} for name, args in calls),
            {"tool_name": "join", "tool_args": []},
        ],
        "id": "u",
        "index": 0,
        **changes,
    }
    join = {"type": "join", "raw_input": "[]", "raw_output": "", "parsed_output": {}, "index": 1}
    return {"input": query, "output": [plan, join], "closest_5_queries": []}


def write(folder: Path, data: object) -> Path:
    """Write the data set to a file."""
    path = folder / "training_data.json"
    path.write_text(json.dumps(data))
    return path


def test_plans_come_from_the_parsed_output(tmp_path: Path) -> None:
    """Calls keep their order; join is dropped; the prompt's tools are on offer."""
    calls: list[tuple[str, list[Any]]] = [
        ("get_phone_number", ["dana"]),
        ("send_sms", [["$1"], "Here: $1 costs $20"]),
    ]
    found = import_file(write(tmp_path, {"x-1": item("Text Dana now", calls)}), "tinyagent-hf")
    (example,) = found.examples
    assert example.id == "tinyagent-dataset-x-1"
    assert [call.args for call in example.plan] == [("Dana",), (["$1"], "Here: ${1} costs $20")]
    assert example.tools == ("get_phone_number", "send_sms")
    assert example.licence == "MIT"


def test_plans_come_from_the_text_where_nothing_is_parsed(tmp_path: Path) -> None:
    """The raw plan text is read instead, with or without its end mark."""
    raw = '1. get_phone_number("Dana")\n2. join()<END_OF_PLAN>'
    path = write(tmp_path, {"a": item("Dana", [], parsed_output=None, raw_output=raw)})
    (example,) = import_file(path, "tinyagent-hf").examples
    assert [call.tool for call in example.plan] == ["get_phone_number"]


def test_plans_that_cannot_run_are_counted_by_their_fault(tmp_path: Path) -> None:
    """An unknown tool, a wrong type and a missing plan are left out, not hidden."""
    data = {
        "a": item("x", [("fly", [])]),
        "b": item("x", [("get_email_address", ["x"]), ("send_sms", [["$1"], "hi"])]),
        "c": {"input": "x", "output": []},
        "d": item("x", [], parsed_output=None, raw_output="1. send_sms("),
        "e": item("x", [("get_phone_number", ["x"])]),
    }
    found = import_file(write(tmp_path, data), "tinyagent-hf")
    assert [e.id[-1] for e in found.examples] == ["e"]
    assert found.report.skipped == {
        "plan: unknown-tool": 1,
        "plan: reference-type": 1,
        "no plan": 1,
        "plan: cut": 1,
    }


def test_a_row_of_another_schema_is_an_error_with_its_place(tmp_path: Path) -> None:
    """The member's line and column are named."""
    path = tmp_path / "t.json"
    path.write_text('{"a": {"input": "x", "output": []},\n  "b": {"output": "?"}}')
    with pytest.raises(RecordError, match=r"t\.json:2:3: b: 'output' is no list"):
        list(import_file(path, "tinyagent-hf").examples)


def test_an_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    """The message lists what can be imported."""
    with pytest.raises(UsageError, match="tinyagent-hf"):
        import_file(tmp_path, "parquet")


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_members_do_not_depend_on_where_the_file_is_cut(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standard parser is the oracle; pieces may end inside escapes and characters."""
    monkeypatch.setattr(jsonobject, "CHUNK", chunk)
    data = {
        "a": [1, -2.5e3, True, None, {"k": '}]{[",\\'}],
        'quo"te': 'back\\slash \\" end\\\\',
        "ünï": "héllo \U0001f600 漢",
        "n": 12,
        "t": False,
        "e": {},
        "l": [],
    }
    for text in (json.dumps(data), json.dumps(data, ensure_ascii=False, indent=2)):
        path = tmp_path / "m.json"
        path.write_text(text, encoding="utf-8")
        assert {m.key: m.value for m in read_members(path)} == data


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected a JSON object"),
        ("[1]", "expected a JSON object"),
        ('{"a": 1', "expected ',' or '}'"),
        ('{"a": {"b": 1', "cut off"),
        ('{"a": "x', "cut off"),
        ('{"a" 1}', "expected ':'"),
        ("{1: 2}", "expected a key"),
        ('{"a": 1,}', "comma before"),
        ('{"a": 1} x', "text after"),
        ('{"a": nul}', "no JSON"),
        ('{"a": [1 2]}', "no JSON"),
    ],
)
def test_broken_objects_say_what_is_wrong(text: str, reason: str, tmp_path: Path) -> None:
    """Each fault is a RecordError with its reason."""
    path = tmp_path / "m.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=reason):
        list(read_members(path))


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    """It is one readable line."""
    with pytest.raises(InputError):
        list(read_members(tmp_path / "none.json"))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Twelve megabytes are read in less than three."""
    path = tmp_path / "big.json"
    with path.open("w") as file:
        file.write("{")
        for number in range(600):
            member = item(f"text dana {number}", [("get_phone_number", ["dana"])])
            member["output"][0]["raw_input"] = repr([{"role": "system", "content": "x" * 20_000}])
            file.write(("," if number else "") + f'"k{number}": {json.dumps(member)}\n')
        file.write("}")
    assert path.stat().st_size > 12_000_000
    tracemalloc.start()
    assert sum(1 for _ in import_file(path, "tinyagent-hf").examples) == 600
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000
