"""The hand-written requests: their form, their gold plans, and what those plans do."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer

from mlx_tinyagent.act.executor import Callbacks, StepResult, run
from mlx_tinyagent.act.resolve import read_dates
from mlx_tinyagent.decode.grammar import GrammarOptions, Written, line_grammar
from mlx_tinyagent.evaluate.calls import Call
from mlx_tinyagent.evaluate.grounding import POINTING, grounding
from mlx_tinyagent.plan.graph import as_calls, from_calls, parse
from mlx_tinyagent.plan.text import write
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import LocalBackend, Store, diff, memory_world, snapshot
from mlx_tinyagent.tools.local.rows import Diff
from mlx_tinyagent.tools.local.world import MEMORY_ROOT
from mlx_tinyagent.tools.results import Ok
from mlx_tinyagent.tools.writer import PlainWriter

Record = Mapping[str, Any]
Row = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "data/handwritten"
PUBLIC = ROOT / "../shared/data/tinyagent/test_public.jsonl"
FIELDS = ("id", "query", "now", "history", "tools", "plan", "ask", "source", "licence", "kind")
OUTCOMES = ("ambiguous", "not_found")
NEAR_DUPLICATE = 0.6  # token Jaccard from which two requests count as one


def load(name: str) -> list[Record]:
    """Read one file of the set."""
    lines = (FOLDER / name).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


TUNE, LOCKED = load("tune.jsonl"), load("locked.jsonl")
ALL = [*TUNE, *LOCKED]
PLANNED = [record for record in ALL if record["plan"]]


def words(text: str) -> frozenset[str]:
    """Return the lower-case words and numbers of a request."""
    return frozenset(re.findall(r"[^\W_]+", text.casefold()))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Return the share of common words."""
    return len(first & second) / len(first | second)


def number(record: Record) -> str:
    """Name a test case by its record."""
    return str(record["id"])


# Form


def test_there_are_100_to_tune_on_and_at_least_200_locked() -> None:
    """The sizes that the data sheet promises."""
    assert len(TUNE) == 100
    assert len(LOCKED) >= 200


def test_the_locked_file_is_the_one_that_was_locked() -> None:
    """LOCKED.sha256 has the form that sha256sum --check reads."""
    found = hashlib.sha256((FOLDER / "locked.jsonl").read_bytes()).hexdigest()
    assert (FOLDER / "LOCKED.sha256").read_text("utf-8") == f"{found}  locked.jsonl\n"


def test_ids_are_unique_across_both_files() -> None:
    """No record can be taken for another."""
    assert len({record["id"] for record in ALL}) == len(ALL)


def test_a_record_has_its_fields_and_they_agree() -> None:
    """Kind, plan and question belong together; the time is local and the tools are all 16."""
    for record in ALL:
        assert_form(record)


def assert_form(record: Record) -> None:
    """One record has the form that the data sheet describes."""
    assert tuple(record)[: len(FIELDS)] == FIELDS
    assert set(record) - {*FIELDS, "effect", "outcome"} == set()
    assert re.fullmatch(r"hw-\d{3}", record["id"])
    assert record["query"] == record["query"].strip() != ""
    assert datetime.fromisoformat(record["now"]).tzinfo is None
    assert record["tools"] == list(TINYAGENT16.names)
    assert (record["source"], record["licence"]) == ("handwritten", "Apache-2.0")
    assert record["kind"] in ("tool", "ask", "none_near", "none_far")
    assert bool(record["plan"]) is (record["kind"] == "tool")
    assert bool(record["ask"]) is (record["kind"] == "ask")
    if not record["plan"]:
        assert record["effect"] == {}
    if "outcome" in record:
        assert record["outcome"] in OUTCOMES
        assert record["effect"] == {}


def test_the_mix_is_the_intended_one() -> None:
    """Half of the plans are short, and every kind has its share, in each file."""
    for records in (TUNE, LOCKED):
        kinds = Counter(record["kind"] for record in records)
        shares = {kind: count / len(records) for kind, count in kinds.items()}
        assert 0.62 <= shares["tool"] <= 0.74
        assert 0.08 <= shares["ask"] <= 0.12
        assert 0.10 <= shares["none_near"] <= 0.14
        assert 0.06 <= shares["none_far"] <= 0.10
        assert 0.04 <= sum(bool(r["history"]) for r in records) / len(records) <= 0.07
        calls = [len(record["plan"]) for record in records if record["plan"]]
        assert 0.4 <= sum(count >= 3 for count in calls) / len(calls) <= 0.6


def test_every_tool_is_asked_for_in_both_files() -> None:
    """Each of the 16 stands in at least 3 requests to tune on and 7 locked ones."""
    for records, least in ((TUNE, 3), (LOCKED, 7)):
        used = Counter(name for r in records for name in {call["tool"] for call in r["plan"]})
        assert {name for name in TINYAGENT16.names if used[name] < least} == set()


def test_no_request_is_nearly_another_one() -> None:
    """Two requests share fewer than three in five words."""
    bags = [(record["id"], words(record["query"])) for record in ALL]
    near = [(a, b) for (a, x), (b, y) in combinations(bags, 2) if jaccard(x, y) >= NEAR_DUPLICATE]
    assert near == []


@pytest.mark.shared
def test_no_request_is_nearly_one_of_the_public_test_set() -> None:
    """What is scored on public questions and what is scored here do not overlap."""
    if not PUBLIC.exists():
        pytest.skip("the shared data sets are not beside the checkout")
    with PUBLIC.open(encoding="utf-8") as lines:
        public = [words(json.loads(line)["question"]) for line in lines]
    near = [
        record["id"]
        for record in ALL
        if any(jaccard(words(record["query"]), other) >= NEAR_DUPLICATE for other in public)
    ]
    assert near == []


def test_the_data_sheet_counts_what_is_there() -> None:
    """Each "| name | tune | locked |" line of the sheet holds."""
    sheet = (FOLDER / "README.md").read_text("utf-8")
    told = {
        row[1]: (int(row[2]), int(row[3]))
        for row in re.finditer(r"^\| ([^|]+) \| (\d+) \| (\d+) \|$", sheet, re.MULTILINE)
    }
    left, right = counts(TUNE), counts(LOCKED)
    assert told == {name: (left[name], right[name]) for name in {*left, *right}}


def counts(records: Sequence[Record]) -> Counter[str]:
    """Count requests by kind, by number of calls and by tool, named as in the data sheet."""
    found: Counter[str] = Counter({"all": len(records)})
    for record in records:
        found[record["kind"]] += 1
        found["with history"] += bool(record["history"])
        for outcome in OUTCOMES:
            found[f"outcome {outcome}"] += record.get("outcome") == outcome
        if record["plan"]:
            count = min(len(record["plan"]), 6)
            found[{1: "1 call", 6: "6 calls or more"}.get(count, f"{count} calls")] += 1
        found.update({call["tool"] for call in record["plan"]})
    return found


# Gold plans


def test_a_plan_is_valid_and_written_in_full() -> None:
    """The validator accepts it and has nothing to fill in; so it does with earlier turns."""
    for record in ALL:
        assert as_calls(from_calls(record["plan"], TINYAGENT16)) == record["plan"]
        for turn in record["history"]:
            assert set(turn) == {"query", "plan"}
            assert write(parse(turn["plan"], TINYAGENT16)) == turn["plan"]


def test_names_and_dates_are_the_words_of_the_request() -> None:
    """Span and date arguments are whole words of the request or of an earlier one, as written."""
    for record in PLANNED:
        assert_grounded(record)


def assert_grounded(record: Record) -> None:
    """What a plan points at stands in the request."""
    said = (record["query"], *(turn["query"] for turn in record["history"]))
    for text in pointed_at(record):
        assert any(text in source for source in said), text
        assert text == text.strip(" .,;:!?\"'")
    calls = [Call(id=c["id"], tool=c["tool"], args=tuple(c["args"])) for c in record["plan"]]
    found = grounding(calls, TINYAGENT16, said[0], said[1:]).ungrounded
    assert [value.text for value in found if value.kind in POINTING] == [], record["id"]


def pointed_at(record: Record) -> Iterator[str]:
    """Yield the texts of a plan that must stand in the request."""
    for call in record["plan"]:
        for param, value in zip(TINYAGENT16[call["tool"]].params, call["args"], strict=True):
            for item in value if isinstance(value, list) else [value]:
                written = isinstance(item, str) and item and not item.startswith("$")
                if written and param.kind in POINTING:
                    yield item


@pytest.mark.slow
def test_a_constrained_planner_can_write_every_plan() -> None:
    """The plan grammar accepts each gold line after the lines before it, ``join()`` included."""
    guide = LLTokenizer("byte")
    for record in ALL:
        if record["ask"]:
            continue
        plan = from_calls(record["plan"], TINYAGENT16)
        said = [record["query"], *(turn["query"] for turn in reversed(record["history"]))]
        written = [Written(step.id, TINYAGENT16[step.tool]) for step in plan.steps]
        for done, line in enumerate(write(plan).splitlines()):
            grammar = line_grammar(written[:done], TINYAGENT16, said, GrammarOptions())
            matcher = LLMatcher(guide, LLMatcher.grammar_from_lark(grammar))
            tokens = guide.tokenize_str(line + "\n" * (done < len(written)))
            assert matcher.try_consume_tokens(tokens) == len(tokens), (record["id"], line)
            assert matcher.is_accepting(), (record["id"], line)


def test_date_phrases_mean_what_the_effect_says() -> None:
    """Each date phrase, read at the record's time, is a moment that stands in the effect."""
    for record in PLANNED:
        if "outcome" not in record:
            assert_dates(record)


def assert_dates(record: Record) -> None:
    """The dates that the steps of a plan read are those of the effect, in order."""
    now = datetime.fromisoformat(record["now"])
    effect = record["effect"]
    expected = {
        "create_calendar_event": [row["starts"] for row in effect.get("events", ())],
        "get_zoom_meeting_link": [row["starts"] for row in effect.get("meetings", ())],
        "create_reminder": [row["due"] for row in effect.get("reminders", ()) if "due" in row],
    }
    found: dict[str, list[str]] = {tool: [] for tool in expected}
    for step in from_calls(record["plan"], TINYAGENT16).steps:
        dates = read_dates(step, TINYAGENT16[step.tool], now)
        assert dates.unread == {}, record["id"]
        first = next(iter(dates.values.values()), None)
        if first is not None:
            all_day_event = step.tool == "create_calendar_event" and "T" not in first
            found[step.tool].append(f"{first}T00:00:00" if all_day_event else first)
    assert found == expected, record["id"]


# Effects


@pytest.mark.parametrize("record", PLANNED, ids=number)
def test_a_plan_does_what_the_effect_says(record: Record) -> None:
    """Run on a fresh demonstration world, the plan leaves exactly these new rows."""
    with memory_world() as store:
        before = snapshot(store)
        results = perform(record, store)
        made = Made(store, diff(before, snapshot(store)))
    statuses = {result.result.status for result in results}
    if "outcome" in record:
        assert record["outcome"] in statuses
    else:
        assert statuses == {"ok"}
    values = {r.id: r.result.value.text for r in results if isinstance(r.result, Ok)}
    wanted = filled(record["effect"], values)
    assert {name: len(rows) for name, rows in made.rows().items()} == {
        name: len(rows) for name, rows in wanted.items()
    }
    for name, rows in made.rows().items():
        for row, expected in zip(in_order(rows), in_order(wanted[name]), strict=True):
            assert_row(row, expected)


def perform(record: Record, store: Store) -> list[StepResult]:
    """Run a record's plan with a yes to everything and no help with ambiguous names."""
    host = Host(
        backend=LocalBackend(store),
        writer=PlainWriter(),
        request=record["query"],
        now=datetime.fromisoformat(record["now"]),
    )
    plan = from_calls(record["plan"], TINYAGENT16)
    return run(plan, TINYAGENT16, host, Callbacks(approve=lambda _: True))


def filled(effect: Any, values: Mapping[int, str]) -> Any:
    """Put the values of steps in place of ``${k}``."""
    if isinstance(effect, str):
        return re.sub(r"\$\{(\d+)\}", lambda match: values[int(match[1])], effect)
    if isinstance(effect, list):
        return [filled(item, values) for item in effect]
    if isinstance(effect, dict):
        return {key: filled(item, values) for key, item in effect.items()}
    return effect


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Sort rows by what tells them apart: steps may run in any order."""
    keys = ("title", "topic", "name", "text", "target", "recipients", "subject")
    return sorted(rows, key=lambda row: [str(row.get(key, "")) for key in keys])


def assert_row(row: Row, expected: Row) -> None:
    """A row has the expected columns; those not mentioned are empty or the default."""
    for text in expected.get("contains", ()):
        assert text in row["body"]
    for key, value in row.items():
        if key == "body" and key not in expected:
            continue  # written by the writer, not by the plan
        if key in ("calendar", "list") and key not in expected:
            continue  # whichever comes first
        assert value == expected.get(key, type(value)()), key
    assert set(expected) <= {*row, "contains"}


class Made:
    """New rows of a store in the words of the effects: parts inside, names for keys."""

    def __init__(self, store: Store, found: Diff) -> None:
        self._added = found.added
        self._changed = found.changed
        assert not found.removed
        self._names = {
            table: {row["id"]: row["name"] for row in store.rows(f"SELECT * FROM {table}")}
            for table in ("calendars", "reminder_lists", "note_folders")
        }

    def rows(self) -> dict[str, list[Row]]:
        """Return the rows by table; tables without any are left out."""
        makers: dict[str, Callable[[], list[Row]]] = {
            "events": self._events,
            "reminders": self._reminders,
            "meetings": self._meetings,
            "notes": self._notes,
            "drafts": self._drafts,
            "outbox_messages": self._messages,
            "opened": self._opened,
        }
        made = {name: maker() for name, maker in makers.items()}
        return {name: rows for name, rows in made.items() if rows}

    def _parts(self, table: str, parent: str, number: int, column: str, **only: str) -> list[str]:
        found = [
            row
            for row in self._added.get(table, ())
            if row[parent] == number and all(row[key] == value for key, value in only.items())
        ]
        return [row[column] for row in sorted(found, key=lambda row: row["position"])]

    def _events(self) -> list[Row]:
        return [
            {
                **{key: row[key] for key in ("title", "starts", "ends", "location", "notes")},
                "calendar": self._names["calendars"][row["calendar_id"]],
                "invitees": self._parts("event_invitees", "event_id", row["id"], "email"),
            }
            for row in self._added.get("events", ())
        ]

    def _reminders(self) -> list[Row]:
        return [
            {
                **{key: row[key] for key in ("name", "due", "priority", "notes")},
                "all_day": bool(row["all_day"]),
                "list": self._names["reminder_lists"][row["list_id"]],
            }
            for row in self._added.get("reminders", ())
        ]

    def _meetings(self) -> list[Row]:
        return [
            {
                **{key: row[key] for key in ("topic", "starts", "minutes")},
                "invitees": self._parts("meeting_invitees", "meeting_id", row["id"], "email"),
            }
            for row in self._added.get("meetings", ())
        ]

    def _notes(self) -> list[Row]:
        folders = self._names["note_folders"]
        new = [
            {"name": row["name"], "folder": folders[row["folder_id"]], "body": row["body"]}
            for row in self._added.get("notes", ())
        ]
        appended = [
            {
                "name": after["name"],
                "folder": folders[after["folder_id"]],
                "appended": after["body"].removeprefix(before["body"]).removeprefix("\n"),
            }
            for before, after in self._changed.get("notes", ())
        ]
        return new + appended

    def _drafts(self) -> list[Row]:
        return [
            {
                **{key: row[key] for key in ("kind", "subject", "body")},
                "recipients": self._mailed(row["id"], "to"),
                "cc": self._mailed(row["id"], "cc"),
                "attachments": [
                    path.removeprefix(f"{MEMORY_ROOT}/")
                    for path in self._parts("draft_attachments", "draft_id", row["id"], "path")
                ],
            }
            for row in self._added.get("drafts", ())
        ]

    def _mailed(self, draft: int, role: str) -> list[str]:
        return self._parts("draft_recipients", "draft_id", draft, "email", role=role)

    def _messages(self) -> list[Row]:
        return [
            {
                "text": row["text"],
                "recipients": self._parts("outbox_recipients", "message_id", row["id"], "phone"),
            }
            for row in self._added.get("outbox_messages", ())
        ]

    def _opened(self) -> list[Row]:
        return [
            {"kind": row["kind"], "target": row["target"].removeprefix(f"{MEMORY_ROOT}/")}
            for row in self._added.get("opened", ())
        ]
