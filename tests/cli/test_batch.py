"""``plan`` and ``retrieve``: one row per input row, same order, nothing executed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlx_tinyagent.config import paths
from mlx_tinyagent.tools.catalog import TINYAGENT16

Cli = Callable[..., Any]

KEYS = ["id", "calls", "ask", "reply", "text", "tools", "counts", "seconds", "error"]
EVENT = '1. create_calendar_event("Standup", "tomorrow at 9", "", "", [], "", None)\n2. join()'


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """Read rows of JSON Lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def source(tmp_path: Path, plans: dict[str, str]) -> Path:
    """Four rows: a plan with a date, a question, no tool, and one that cannot be planned."""
    plans["standup tomorrow at 9"] = EVENT
    plans["tell Dana"] = '1. ask("Which Dana?")\n2. join()'
    return write(
        tmp_path / "q.jsonl",
        [
            {"id": "a", "query": "standup tomorrow at 9", "now": "2026-03-02T09:00:00"},
            {"id": 7, "query": "tell Dana", "history": [{"query": "hi", "plan": "1. join()"}]},
            {"id": None, "query": "tell me a joke", "tools": ["send_sms"]},
            {"id": [1], "query": "  "},
        ],
    )


def test_rows_have_the_documented_shape(cli: Cli, source: Path, tmp_path: Path) -> None:
    """Keys, types, order; a row that cannot be planned says so and the exit code stays 0."""
    target = tmp_path / "sub" / "p.jsonl"

    done = cli("plan", "--input", source, "--output", target)

    rows = read(target)
    assert (done.code, done.out) == (0, "")
    assert [row["id"] for row in rows] == ["a", 7, None, [1]]
    assert all(list(row) == KEYS for row in rows)
    for row in rows:
        assert list(row["counts"]) == [
            "prompt_tokens",
            "prompt_tokens_computed",
            "plan_tokens",
            "forward_passes",
        ]
        assert list(row["seconds"]) == ["retrieve", "prefill", "decode", "total"]
        assert all(isinstance(value, int) for value in row["counts"].values())
        assert all(isinstance(value, float) for value in row["seconds"].values())
    assert rows[0]["calls"] == [
        {
            "id": 1,
            "tool": "create_calendar_event",
            "args": ["Standup", "tomorrow at 9", "", "", [], "", None],
            "resolved": {"start_date": "2026-03-03T09:00:00"},
        }
    ]
    assert rows[0]["text"] == EVENT
    assert rows[0]["tools"] == list(TINYAGENT16.names)
    assert (rows[1]["ask"], rows[1]["calls"], rows[1]["reply"]) == ("Which Dana?", [], None)
    assert rows[2]["reply"] == "None of my tools can do that."
    assert rows[3]["error"] == "the request is empty"
    assert [row["error"] for row in rows[:3]] == [None] * 3
    assert not paths().data.exists()  # nothing was executed, not even opened


def test_dates_are_resolved_only_where_there_is_a_now(
    cli: Cli, plans: dict[str, str], tmp_path: Path
) -> None:
    """Without one, "tomorrow" stays a word."""
    plans["x"] = EVENT
    source = write(tmp_path / "q.jsonl", [{"id": 1, "query": "x"}])

    cli("plan", "--input", source, "--output", tmp_path / "p.jsonl")

    assert "resolved" not in read(tmp_path / "p.jsonl")[0]["calls"][0]


def test_gold_offers_the_tools_of_the_row(cli: Cli, plans: dict[str, str], tmp_path: Path) -> None:
    """And no others."""
    source = write(tmp_path / "q.jsonl", [{"id": 1, "query": "x", "tools": ["send_sms"]}])

    cli("plan", "--input", source, "--output", tmp_path / "p.jsonl", "--retrieval", "gold")

    assert read(tmp_path / "p.jsonl")[0]["tools"] == ["send_sms"]


class TestResume:
    """An interrupted run goes on where it stopped, and gives what a whole run gives."""

    @pytest.fixture
    def whole(self, cli: Cli, source: Path, tmp_path: Path) -> bytes:
        """The output of a run that nothing interrupted."""
        cli("plan", "--input", source, "--output", tmp_path / "whole.jsonl")
        return (tmp_path / "whole.jsonl").read_bytes()

    @pytest.mark.parametrize(
        "left",
        [
            lambda lines: b"",
            lambda lines: lines[0],
            lambda lines: b"".join(lines[:2]) + lines[2][:20],
            lambda lines: lines[0] + lines[1].rstrip(b"\n"),
            lambda lines: lines[0] + b"\xff\xfe\n" + lines[2],
            lambda lines: lines[0] + lines[2],
            lambda lines: b"".join(lines),
            lambda lines: b"".join(lines) + b"more\n",
        ],
        ids=["nothing", "one", "cut", "no end", "garbage", "gap", "all", "too much"],
    )
    def test_rows_that_are_there_are_kept(
        self,
        cli: Cli,
        source: Path,
        tmp_path: Path,
        whole: bytes,
        left: Callable[[list[bytes]], bytes],
    ) -> None:
        """Complete rows that fit the input, up to the first that does not."""
        part = tmp_path / "p.jsonl.part"
        part.write_bytes(left(whole.splitlines(keepends=True)))

        done = cli("plan", "--input", source, "--output", tmp_path / "p.jsonl", "--resume")

        assert done.code == 0
        assert (tmp_path / "p.jsonl").read_bytes() == whole
        assert not part.exists()

    def test_kept_rows_are_not_planned_again(
        self, cli: Cli, source: Path, tmp_path: Path, whole: bytes, plans: dict[str, str]
    ) -> None:
        """Another plan for a row that is there already changes nothing."""
        (tmp_path / "p.jsonl.part").write_bytes(whole.splitlines(keepends=True)[0])
        plans["standup tomorrow at 9"] = "1. join()"

        done = cli("plan", "--input", source, "--output", tmp_path / "p.jsonl", "--resume")

        assert (tmp_path / "p.jsonl").read_bytes() == whole
        assert "4 rows, 1 of them from before" in done.err

    def test_without_resume_all_is_planned_anew(
        self, cli: Cli, source: Path, tmp_path: Path, whole: bytes
    ) -> None:
        """What an earlier run left is not looked at."""
        (tmp_path / "p.jsonl.part").write_bytes(b'{"id": "a"}\n')

        cli("plan", "--input", source, "--output", tmp_path / "p.jsonl")

        assert (tmp_path / "p.jsonl").read_bytes() == whole

    def test_an_old_result_stays_until_the_new_one_is_complete(
        self, cli: Cli, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A bug in the middle leaves the old file and the rows so far."""
        from mlx_tinyagent.cli import batch

        target = tmp_path / "p.jsonl"
        target.write_text("old\n")
        real = batch.plan_row
        calls: list[int] = []

        def breaks(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        monkeypatch.setattr(batch, "plan_row", breaks)
        done = cli("plan", "--input", source, "--output", target)

        assert done.code == 130
        assert done.err.splitlines()[-1] == "mlx-tinyagent: interrupted"
        assert target.read_text() == "old\n"
        assert len(read(tmp_path / "p.jsonl.part")) == 2


def test_retrieve_scores_every_tool(cli: Cli, tmp_path: Path) -> None:
    """The chosen ones are closed over what they need; no model is involved."""
    source = write(
        tmp_path / "q.jsonl",
        [
            {"id": 1, "query": "text mom that I am late"},
            {"id": 2, "query": "and Leo too", "history": [{"query": "text mom that I am late"}]},
        ],
    )

    done = cli("retrieve", "--input", source, "--output", tmp_path / "r.jsonl")

    rows = read(tmp_path / "r.jsonl")
    assert done.code == 0
    for row in rows:
        assert list(row) == ["id", "tools", "scores", "abstain"]
        assert set(row["scores"]) == set(TINYAGENT16.names)
        assert {"send_sms", "get_phone_number"} <= set(row["tools"])
        assert isinstance(row["abstain"], bool)


class TestRows:
    """``--rows`` plans several rows at a time; the file is the same."""

    @pytest.fixture
    def taken(self, monkeypatch: pytest.MonkeyPatch, scripted_module: Any) -> list[str]:
        """A planner whose plans of one pass end in the opposite order; what it was asked for."""
        from mlx_tinyagent.cli import batch
        from mlx_tinyagent.errors import ModelError

        taken: list[str] = []

        class Backwards(scripted_module.ScriptedPlanner):  # type: ignore[name-defined,misc]
            def plan_many(self, requests: Any, *, rows: int) -> Iterator[tuple[int, Any]]:
                numbered = enumerate(requests)
                while group := list(itertools.islice(numbered, rows)):
                    for number, (request, offered) in reversed(group):
                        taken.append(request.query)
                        if request.query == "too hard":
                            yield number, ModelError("wrote no usable plan")
                        else:
                            yield number, self.plan(request, offered=offered)

        plans = {"standup tomorrow at 9": EVENT, "tell Dana": '1. ask("Which?")\n2. join()'}
        monkeypatch.setattr(batch, "load_model", lambda name, adapter: name)
        monkeypatch.setattr(
            batch,
            "make_planner",
            lambda model, tools, *_: Backwards(tools, plans),
        )
        return taken

    @pytest.fixture
    def many(self, tmp_path: Path) -> Path:
        """Rows that plan, rows that cannot, one of them the last."""
        queries = ["standup tomorrow at 9", " ", "tell Dana", "joke", "too hard", "", "hm", "\t"]
        rows = [
            {"id": number, "query": query, "now": "2026-03-02T09:00:00", "tools": ["send_sms"]}
            for number, query in enumerate(queries)
        ]
        return write(tmp_path / "q.jsonl", rows)

    @pytest.mark.parametrize("rows", [2, 3, 64])
    def test_the_file_does_not_depend_on_them(
        self, cli: Cli, taken: list[str], many: Path, tmp_path: Path, rows: int
    ) -> None:
        """Same rows in the same order, errors in their places."""
        done = cli("plan", "--input", many, "--output", tmp_path / "p.jsonl", "--rows", rows)

        found = read(tmp_path / "p.jsonl")
        assert done.code == 0
        assert [row["id"] for row in found] == list(range(8))
        assert all(list(row) == KEYS for row in found)
        empty = "the request is empty"
        no_plan = "wrote no usable plan"
        assert [row["error"] for row in found] == [
            None, empty, None, None, no_plan, empty, None, empty
        ]  # fmt: skip
        assert found[0]["text"] == EVENT
        assert found[0]["calls"][0]["resolved"] == {"start_date": "2026-03-03T09:00:00"}
        assert found[2]["ask"] == "Which?"
        assert sorted(taken) == sorted(
            ["standup tomorrow at 9", "tell Dana", "joke", "too hard", "hm"]
        )

    def test_what_is_there_is_not_planned_again(
        self, cli: Cli, taken: list[str], many: Path, tmp_path: Path
    ) -> None:
        """An interrupted run goes on at its next row, with as many at a time."""
        target = tmp_path / "p.jsonl"
        cli("plan", "--input", many, "--output", target, "--rows", 4)
        whole = target.read_bytes()
        target.unlink()
        (tmp_path / "p.jsonl.part").write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
        taken.clear()

        cli("plan", "--input", many, "--output", target, "--rows", 4, "--resume")

        assert target.read_bytes() == whole
        assert sorted(taken) == ["hm", "joke", "too hard"]

    def test_gold_offers_each_rows_own(self, cli: Cli, taken: list[str], tmp_path: Path) -> None:
        """Also where rows are planned together."""
        names = [["send_sms"], ["open_note"], ["get_phone_number", "send_sms"]]
        rows = [{"id": n, "query": f"joke {n}", "tools": own} for n, own in enumerate(names)]
        source, target = write(tmp_path / "q.jsonl", rows), tmp_path / "p.jsonl"

        cli("plan", "--input", source, "--output", target, "--rows", 3, "--retrieval", "gold")

        assert [row["tools"] for row in read(target)] == names
        assert len(taken) == 3

    def test_an_evaluation_has_the_same_items(
        self, cli: Cli, taken: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Rows that are planned together are scored as those planned one by one."""
        from mlx_tinyagent.cli import batch
        from mlx_tinyagent.cli import eval as command

        loaded = SimpleNamespace(
            name="tiny", fingerprint="f", adapter_fingerprint=None, dtype="float32"
        )
        monkeypatch.setattr(command, "load_model", lambda name, adapter: loaded)
        monkeypatch.setattr(command, "make_planner", batch.make_planner)
        data = write(
            tmp_path / "data.jsonl",
            [
                {
                    "id": name,
                    "query": query,
                    "now": "2026-03-02T09:00:00",
                    "history": [],
                    "tools": ["send_sms"],
                    "plan": [],
                    "source": "test",
                    "licence": "CC0-1.0",
                    "kind": kind,
                    **({"ask": "Which?"} if kind == "ask" else {}),
                }
                for name, query, kind in (
                    ("a", "standup tomorrow at 9", "none_near"),
                    ("b", "tell Dana", "ask"),
                    ("c", "too hard", "none_far"),
                    ("d", "joke", "none_far"),
                )
            ],
        )

        done = [
            cli("eval", "plans", "--data", data, "--out", tmp_path / f"of{rows}", "--rows", rows)
            for rows in (2, 3)
        ]

        assert [one.code for one in done] == [0, 0]
        first, second = (read(tmp_path / f"of{rows}" / "items.jsonl") for rows in (2, 3))
        assert first == second
        assert [row["outcome"] for row in first] == ["calls", "ask", "error", "abstain"]
        assert sorted(taken) == sorted(
            2 * ["standup tomorrow at 9", "tell Dana", "too hard", "joke"]
        )

    @pytest.mark.parametrize("rows", [0, -1, 65, "many"])
    def test_a_number_that_cannot_be_is_a_usage_error(
        self, cli: Cli, source: Path, tmp_path: Path, rows: Any
    ) -> None:
        """One to 64."""
        done = cli("plan", "--input", source, "--output", tmp_path / "p.jsonl", "--rows", rows)

        assert done.code == 2
