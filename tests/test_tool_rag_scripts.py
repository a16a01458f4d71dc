"""Labels that were read, the rules that correct others, and the mixes that are drawn."""

from __future__ import annotations

import importlib
import json
import random
from pathlib import Path
from types import ModuleType

import pytest

from mlx_tinyagent.tools.catalog import TINYAGENT16

ROOT = Path(__file__).resolve().parents[1]
AUDITED = ROOT / "data" / "audited"
SHARED = ROOT / "../shared/data"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


def script(name: str) -> ModuleType:
    """A script, imported."""
    return importlib.import_module(name)


@pytest.mark.parametrize(
    ("name", "rows"), [("commands", 450), ("calibration", 987), ("compound", 150)]
)
def test_audited_rows_name_known_tools_and_hold_no_text(name: str, rows: int) -> None:
    """Each row once, under a hash; at least one set, of tools that exist."""
    found = [json.loads(line) for line in (AUDITED / f"{name}.jsonl").open()]
    assert len({row["row"] for row in found}) == len(found) == rows
    for row in found:
        assert set(row) <= {"row", "any_of", "second"}
        assert len(row["row"]) == 16
        assert set(row["row"]) <= set("0123456789abcdef")
        assert row["any_of"]
        for group in (*row["any_of"], *row.get("second", ())):
            assert set(group) <= set(TINYAGENT16.names)
            assert len(set(group)) == len(group)


def test_nothing_that_calibrates_is_measured_on() -> None:
    """The calibration's rows are in neither of the sets that figures are taken from."""
    rows = {
        name: {json.loads(line)["row"] for line in (AUDITED / f"{name}.jsonl").open()}
        for name in ("commands", "calibration", "compound")
    }
    assert not rows["calibration"] & (rows["commands"] | rows["compound"])


@pytest.mark.parametrize(
    ("source", "intent", "text", "found"),
    [
        ("clinc150", "distance", "how far is reno", (("maps_show_directions",),)),
        ("clinc150", "share_location", "show me how to share my location", ()),
        ("clinc150", "schedule_meeting", "are any rooms free from 12 to 1", ((),)),
        ("clinc150", "schedule_meeting", "schedule a meeting at 5", (("create_note",),)),
        ("hwu", "lists_query", "What lists do I have", ((),)),
        ("slurp", "lists_query", "read my lists to me", ()),
        ("msbot", "todo/ShowToDo", "find notes with groceries", (("open_note",),)),
        ("msbot", "todo/MarkToDo", "mark milk on my grocery list", ()),
        ("elsewhere", "distance", "how far is reno", (("create_note",),)),
    ],
)
def test_labels_are_corrected_by_intent(
    source: str, intent: str, text: str, found: tuple[tuple[str, ...], ...]
) -> None:
    """The first rule that fits decides; without one the label stays."""
    labels = script("tool_rag_labels")
    assert labels.corrected(source, intent, "tool", text, (("create_note",),)) == found


def test_a_far_miss_that_asks_for_a_place_has_no_label() -> None:
    """``None far`` rows about places near by may be served by a map."""
    corrected = script("tool_rag_labels").corrected
    assert corrected("hwu", "takeaway_query", "none_far", "pizza nearby", ((),)) == ()
    assert corrected("hwu", "takeaway_query", "none_far", "order pizza", ((),)) == ((),)


def test_a_verdict_needs_every_acceptable_set() -> None:
    """A tool is needed only if no acceptable answer does without."""
    verdict = script("tool_rag_labels").verdict
    assert verdict([["open_note"]]) == "tool"
    assert verdict([["open_note"], []]) == "either"
    assert verdict([[]]) == "none"
    assert verdict([]) == "either"


def test_copies_in_a_mix_have_ids_of_their_own() -> None:
    """A part draws its rows once and repeats them; too few rows are all taken."""
    mix = script("mix_tool_rag")
    rows = [{"id": str(n), "source": "synth/near", "kind": "none_near"} for n in range(5)]
    drawn = mix.draw({"synth/near": rows}, mix.Part("synth/near", 3, 2), random.Random(0))
    assert len({row["id"] for row in drawn}) == 6
    assert len({row["id"].split("#")[0] for row in drawn}) == 3
    whole = mix.draw({"synth/near": rows}, mix.Part("synth/near", 9), random.Random(0))
    assert len(whole) == 5


def test_every_part_of_a_mix_is_an_origin_of_rows() -> None:
    """What the mixes ask for is what rows are sorted into."""
    mix = script("mix_tool_rag")
    kinds = ("tool", "none_near", "none_far")
    rows = [
        {"id": "corrected-1", "source": "clinc150", "kind": "tool", "any_of": any_of}
        for any_of in ([["open_note"]], mix.MESSAGE)
    ]
    rows += [{"id": "t", "source": "tinyagent", "kind": "tool"}]
    rows += [{"id": "1", "source": "hwu", "kind": kind} for kind in kinds]
    rows += [{"id": "hwu-more-1", "source": "hwu", "kind": kind} for kind in kinds]
    rows += [
        {"id": "s", "source": f"synth/{name}", "kind": "tool"}
        for name in ("compound", "short", "near", "far", "follow")
    ]
    origins = {mix.origin_of(row) for row in rows}
    asked = {part.origin for one in mix.MIXES.values() for part in one.parts}
    assert asked <= origins


@pytest.mark.shared
def test_the_audit_covers_the_rows_that_are_drawn() -> None:
    """Every drawn command and every public test row was read."""
    silver = SHARED / "human_tool_silver/dev_train.jsonl"
    if not silver.is_file():
        pytest.skip("the shared data is missing")
    audit = script("audit_retrieval")
    rows = audit.draw(audit.read(silver))
    found = audit.join(rows, audit.read(audit.AUDIT))
    assert sum(one.kind == "tool" for one in found) == 300
    assert sum(one.kind == "none_near" for one in found) == 150
    compound = audit.read(SHARED / "tinyagent/test_public.jsonl")
    known = {row["row"] for row in audit.read(audit.COMPOUND)}
    assert {audit.key(row["question"]) for row in compound} <= known
