"""The generator: its examples hold what they promise, for the 16 tools and for others."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from random import Random

import pytest

from mlx_tinyagent.act.dates import resolve
from mlx_tinyagent.datasets.dedupe import normalized, overlaps
from mlx_tinyagent.datasets.record import Call, Example, load_examples, references
from mlx_tinyagent.datasets.synth import generate
from mlx_tinyagent.datasets.synth.generate import SynthConfig, make, synthesize
from mlx_tinyagent.datasets.synth.scene import execute, failures
from mlx_tinyagent.datasets.synth.strata import STRATA, Studio
from mlx_tinyagent.errors import InputError, UsageError
from mlx_tinyagent.plan.schema import parse_ref
from mlx_tinyagent.tools.base import Kind, ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16
from tests.datasets.toolsets import WORKSHOP

SETS = [TINYAGENT16, WORKSHOP]
CONFIG = SynthConfig(seed=3, count=300, valid=40, test=40)


def examples(tools: ToolSet, count: int = 300) -> list[Example]:
    """Make the first examples of a seed."""
    studio = Studio(tools)
    return [make(studio, CONFIG, "train", number) for number in range(count)]


@pytest.fixture(scope="module", params=SETS, ids=lambda tools: tools.name)
def made(request: pytest.FixtureRequest) -> tuple[ToolSet, list[Example]]:
    """Some examples of a tool set."""
    tools: ToolSet = request.param
    return tools, examples(tools)


def test_every_plan_binds_and_runs(made: tuple[ToolSet, list[Example]]) -> None:
    """Each plan passes the validator, and no step of it fails when it is run again."""
    tools, rows = made
    for row in rows:
        row.bound(tools)
        if row.plan:
            now = datetime.fromisoformat(row.now or "")
            assert failures(execute(row.plan, tools, query=row.query, now=now)) == []


def test_written_arguments_are_words_of_the_request(made: tuple[ToolSet, list[Example]]) -> None:
    """Spans, dates and texts stand in the request, its history, or are defaults or references."""
    tools, rows = made
    for row in rows:
        said = " ".join([row.query, *(turn.query for turn in row.history)])
        for call in row.plan:
            for param, arg in zip(tools[call.tool].params, call.args, strict=True):
                if param.kind not in (Kind.SPAN, Kind.WHEN, Kind.TEXT, Kind.TEMPLATE):
                    continue
                for text in arg if isinstance(arg, list) else [arg]:
                    if text and parse_ref(text) is None:
                        assert text in said, (row.query, call)


def test_dates_can_be_read(made: tuple[ToolSet, list[Example]]) -> None:
    """The date resolver understands every phrase of a start."""
    tools, rows = made
    for row in rows:
        now = datetime.fromisoformat(row.now or "")
        for call in row.plan:
            for param, arg in zip(tools[call.tool].params, call.args, strict=True):
                if param.kind is Kind.WHEN and param.after is None and arg:
                    assert resolve(arg, now) is not None, arg


def test_the_kinds_agree_with_the_plans(made: tuple[ToolSet, list[Example]]) -> None:
    """Plans, questions and refusals exclude each other; a third or so has no plan."""
    _, rows = made
    kinds = Counter(row.kind for row in rows)
    assert set(kinds) == {"tool", "ask", "none_near", "none_far"}
    assert (kinds.total() - kinds["tool"]) / kinds.total() >= 0.30
    for row in rows:
        assert bool(row.plan) == (row.kind == "tool")
        assert (row.ask is not None) == (row.kind == "ask")


def test_the_tools_on_offer_hold_the_plan_and_its_lookups(
    made: tuple[ToolSet, list[Example]],
) -> None:
    """What is offered is closed over producers and in the set's order."""
    tools, rows = made
    for row in rows:
        names = {call.tool for call in row.plan}
        assert set(tools.closure(names).names) <= set(row.tools)
        assert list(row.tools) == [name for name in tools.names if name in row.tools]


def test_compound_requests_have_two_to_eight_calls_and_data_flow() -> None:
    """Most of them pass values from step to step."""
    rows = [row for row in examples(TINYAGENT16) if row.source == "synth/compound"]
    assert all(2 <= len(row.plan) <= 8 for row in rows)
    flowing = [row for row in rows if any(references(call.args) for call in row.plan)]
    assert len(flowing) > 0.8 * len(rows)
    assert {tool.name for tool in TINYAGENT16} == {c.tool for row in rows for c in row.plan}


def test_reminders_follow_the_conventions() -> None:
    """All-day exactly where no time of day is said, priority 1 exactly where it is said to be."""
    seen = 0
    for row in examples(TINYAGENT16, 600):
        reminders = [call for call in row.plan if call.tool == "create_reminder"]
        for call in reminders:
            seen += 1
            _, due, _, _, priority, all_day = call.args
            found = resolve(due, datetime.fromisoformat(row.now or "")) if due else None
            assert all_day == (found is not None and not found.has_time), call
            if len(reminders) == 1:
                said = re.search("(high|top).?prio|important|urgent", row.query.lower())
                assert (priority == 1) == bool(said), row.query
    assert seen > 40


def test_one_person_is_looked_up_once() -> None:
    """No plan makes the same call twice."""
    for row in examples(TINYAGENT16):
        calls = [(call.tool, json.dumps(call.args)) for call in row.plan]
        lookups = [call for call in calls if call[0].startswith(("get_", "open_and"))]
        assert len(lookups) == len(set(lookups))


def test_no_refusal_asks_for_what_a_tool_of_the_set_does() -> None:
    """With a tool that deletes events, no refusal speaks of deleting them."""
    tools = ToolSet("more", [*TINYAGENT16, replace(WORKSHOP["post_update"], name="delete_event")])
    studio = Studio(tools)
    for number in range(300):
        draft = studio.near(Random(number))
        if draft is not None and draft.templates[0] not in studio.refusals["generic_near"]:
            assert not re.match(r"(delete|cancel|erase|clear) my", draft.query.lower())


def test_the_bytes_depend_on_the_seed_alone(tmp_path: Path) -> None:
    """Two workers give the bytes of one; another seed gives others; the files are clean."""
    for name, seed, workers in (("a", 3, 1), ("b", 3, 2), ("c", 4, 1)):
        synthesize(tmp_path / name, WORKSHOP, replace(CONFIG, seed=seed), workers=workers)
    files = ("train.jsonl", "valid.jsonl", "test.jsonl", "config.json")
    assert sorted(f.name for f in (tmp_path / "a").iterdir()) == sorted(files)
    for name in files:
        first, second, third = ((tmp_path / d / name).read_bytes() for d in "abc")
        assert first == second
        assert first != third
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert str(tmp_path) not in json.dumps(config)
    assert (config["seed"], config["tool_set"]) == (3, "workshop")
    rows = {
        name: load_examples(tmp_path / f"a/{name}.jsonl") for name in ("train", "valid", "test")
    }
    assert {name: len(r) for name, r in rows.items()} == {"train": 300, "valid": 40, "test": 40}


def test_splits_share_no_request(tmp_path: Path) -> None:
    """Neither the same words nor four in five of them."""
    synthesize(tmp_path, TINYAGENT16, CONFIG)
    read = {n: [e.query for e in load_examples(tmp_path / f"{n}.jsonl")] for n in generate.SPLITS}
    for first, second in (("test", "valid"), ("test", "train"), ("valid", "train")):
        assert list(overlaps(read[first], read[second])) == []
    queries = [normalized(q) for q in read["train"]]
    assert len(set(queries)) > 0.98 * len(queries)


def test_an_interrupted_run_goes_on_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished shards are not made again."""
    monkeypatch.setattr(generate, "SHARD", 40)
    synthesize(tmp_path / "whole", WORKSHOP, CONFIG)
    calls = 0

    def stop(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "cut", WORKSHOP, CONFIG, progress=stop)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cut/.shards").rglob("*.jsonl")}
    assert kept
    real, again = generate._shard, []

    def counted(job: object, split: str, number: int) -> Path:
        path = real(job, split, number)  # type: ignore[arg-type]
        again.append(path in kept and path.stat().st_mtime_ns == kept[path])
        return path

    monkeypatch.setattr(generate, "_shard", counted)
    synthesize(tmp_path / "cut", WORKSHOP, CONFIG)
    assert sum(again) == len(kept)
    for name in ("train.jsonl", "valid.jsonl", "test.jsonl", "config.json"):
        cut, whole = (tmp_path / d / name for d in ("cut", "whole"))
        assert cut.read_bytes() == whole.read_bytes()


def test_senseless_orders_are_usage_errors(tmp_path: Path) -> None:
    """Negative counts, unknown strata and empty tool sets are refused at once."""
    for config in (
        replace(CONFIG, count=-1),
        replace(CONFIG, shares={"songs": 1.0}),  # type: ignore[dict-item]
        replace(CONFIG, shares=dict.fromkeys(STRATA, 0.0)),
    ):
        with pytest.raises(UsageError):
            synthesize(tmp_path, WORKSHOP, config)
    with pytest.raises(UsageError, match="empty"):
        synthesize(tmp_path, ToolSet("none", []), CONFIG)


def test_too_few_different_examples_is_an_error_not_a_short_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all say the same, one is taken and the file is not written."""
    monkeypatch.setattr(generate, "fingerprint", lambda _: b"same")
    monkeypatch.setattr(generate, "SHARD", 10)
    with pytest.raises(InputError, match="only 1 of 8 examples differ"):
        synthesize(tmp_path, WORKSHOP, replace(CONFIG, count=8, valid=0, test=0))
    assert not (tmp_path / "train.jsonl").exists()


def test_a_plan_of_foreign_tools_runs_without_implementations() -> None:
    """Tools that are only declared give values of their type."""
    bare = ToolSet("bare", [replace(tool, function=None) for tool in WORKSHOP])
    calls = [
        Call(id=1, tool="find_colleague", args=("Mira",)),
        Call(id=2, tool="book_room", args=("Blue", "tomorrow at 3", ["$1"])),
        Call(id=3, tool="get_forecast", args=("Oslo", "")),
        Call(id=4, tool="post_update", args=("ops", "${3}")),
    ]
    results = execute(calls, bare, query="", now=datetime(2025, 3, 3, 9))
    assert failures(results) == []
    assert results[1].args["guests"] == ["someone@scene.example"]
