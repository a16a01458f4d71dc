"""What a tool may do with a backend: what it is declared to, and what was shown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.act import guard
from mlx_tinyagent.act.guard import EffectCall, Guard, Marks, fingerprint
from mlx_tinyagent.tools.base import Effect
from mlx_tinyagent.tools.local import LocalBackend, Store, index_roots, snapshot
from mlx_tinyagent.tools.results import Failed, Ok, Value

NOTE = {"name": "n", "body": "text", "folder": ""}


def note(**other: str) -> EffectCall:
    """A note as it was shown."""
    return EffectCall(method="create_note", args=tuple({**NOTE, **other}.items()))


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        ((), "create_note was not shown"),
        ((EffectCall(method="queue_message", args=()),), "create_note was not shown"),
        ((note(body="other"),), "its body is no longer what was shown"),
        ((note(folder="Work"),), "its folder is no longer what was shown"),
    ],
)
def test_an_effect_that_was_not_shown_is_not_done(
    store: Store, shown: tuple[EffectCall, ...], reason: str
) -> None:
    """The reason says in what it differs."""
    before = snapshot(store)
    guarded: Any = Guard(LocalBackend(store), Effect.WRITE, perform=True, expected=shown)

    assert guarded.create_note(**NOTE) == Failed(reason=f"it was not done: {reason}")

    assert guarded.refusal is not None
    assert snapshot(store) == before


def test_each_effect_is_done_as_often_as_it_was_shown(store: Store) -> None:
    """Once here; the second time nothing of it was shown."""
    guarded: Any = Guard(LocalBackend(store), Effect.WRITE, perform=True, expected=(note(),))

    assert isinstance(guarded.create_note(**NOTE), Ok)
    assert isinstance(guarded.create_note(**NOTE), Failed)

    assert len(store.rows("SELECT 1 FROM notes WHERE name = 'n'")) == 1


def test_a_file_that_has_changed_is_named(store: Store, tmp_path: Path) -> None:
    """By its name alone; the path stands in the question."""
    file = tmp_path / "rent.txt"
    file.write_text("1,150 a month")
    index_roots(store, [tmp_path])
    mail: dict[str, Any] = {"kind": "new", "recipients": ["a@x.example"], "cc": [], "subject": ""}
    mail |= {"body": "", "attachments": [str(file)]}
    seen: Any = Guard(LocalBackend(store), Effect.DRAFT, perform=False)
    seen.draft_mail(**mail)
    file.write_text("9,150 a month")

    doing: Any = Guard(LocalBackend(store), Effect.DRAFT, perform=True, expected=tuple(seen.calls))

    assert doing.draft_mail(**mail) == Failed(
        reason="it was not done: rent.txt has changed since it was shown"
    )


def test_a_tool_sees_names_and_reads_of_a_backend_and_no_way_around(store: Store) -> None:
    """The store only reads; what sends, undoes or carries keys is not there."""
    guarded: Any = Guard(LocalBackend(store), Effect.READ, perform=True)

    assert guarded.name == "local"
    assert guarded.store.rows("SELECT 1 AS one") == [{"one": 1}]
    for name in ("deliver", "undo", "find", "with_key", "with_action", "_file"):
        with pytest.raises(AttributeError, match=f"a tool cannot use {name}"):
            getattr(guarded, name)


def test_what_a_step_gave_takes_the_place_of_its_mark_and_nothing_else_does() -> None:
    """Whole values and parts of texts; a step without a result keeps its mark."""
    marks = Marks()
    text = marks.value(1, _find()).value.text
    gave = Ok(value=Value(text="a@x.example", fields={"name": "Ann"}))

    assert marks.fill(f"to {text}", {1: gave}) == "to a@x.example"
    assert marks.fill([text, "b"], {1: gave}) == ["a@x.example", "b"]
    assert marks.fill(7, {1: gave}) == 7
    assert marks.fill(text, {2: gave}) == text
    assert marks.fill(text, {1: Failed(reason="x")}) == text


def _find() -> Any:
    from mlx_tinyagent.tools.catalog import TINYAGENT16

    return TINYAGENT16["get_email_address"]


def test_a_fingerprint_is_of_plain_files_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is none, or cannot be read, has an empty one; a large file goes by size and time."""
    file = tmp_path / "a.txt"
    file.write_text("a")
    whole = fingerprint(str(file))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(file)

    assert whole.count(":") == 2
    for name in ("pipe", "link", "gone", ".", "nul\0"):
        assert fingerprint(f"{tmp_path}/{name}") == ""
    monkeypatch.setattr(guard, "MAX_HASHED_BYTES", 0)
    assert fingerprint(str(file)) == whole.rpartition(":")[0]
