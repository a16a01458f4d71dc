"""Saved chats and the settings of a chat."""

from __future__ import annotations

import json

import pytest

from mlx_tinyagent.agent.session import Exchange
from mlx_tinyagent.cli import chat_file
from mlx_tinyagent.cli.chat_settings import Settings, read_settings, settings_file
from mlx_tinyagent.errors import ConfigError, InputError, UsageError

EXCHANGES = [
    Exchange(
        query="note it 💥\ud800".encode(errors="replace").decode(),
        plan='1. create_note("n", "", "")\n2. join()',
        reply="Saved.",
        records={1: "note:3"},
        when="2026-03-02T09:00:00",
    ),
    Exchange(query="and?", plan="", state="stopped"),
]


def test_what_is_saved_is_read_again() -> None:
    """All of it, from a private file in a private folder."""
    path = chat_file.save("trip-1", EXCHANGES)
    assert chat_file.load("trip-1") == EXCHANGES
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_newest_is_the_last_one() -> None:
    """Unless one is called that."""
    chat_file.save("a", EXCHANGES[:1])
    chat_file.save("b", EXCHANGES[1:])
    import os

    os.utime(chat_file.folder() / "a.json", (1, 1))
    assert chat_file.load("last") == EXCHANGES[1:]


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".x", "x" * 65, "a b", "a\x00"])
def test_a_name_is_a_name(name: str) -> None:
    """It leads nowhere else."""
    with pytest.raises(UsageError, match="cannot name a saved chat"):
        chat_file.save(name, EXCHANGES)


def test_one_that_is_not_there() -> None:
    """The nearest is offered."""
    chat_file.save("budget", EXCHANGES)
    with pytest.raises(UsageError, match="did you mean budget"):
        chat_file.load("budgets")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 2, "exchanges": []}',
        '{"version": 1, "exchanges": 3}',
        '{"version": 1, "exchanges": [3]}',
        '{"version": 1, "exchanges": [{"query": ""}]}',
        '{"version": 1, "exchanges": [{"query": "x", "state": "flying"}]}',
        '{"version": 1, "exchanges": [{"query": "x", "state": "done", "plan": "1. f("}]}',
        '{"version": 1, "exchanges": [{"query": "x", "state": "done", "records": {"a": 1}}]}',
        "[" * 10_000,
    ],
)
def test_a_damaged_one_is_refused(text: str) -> None:
    """In one line that names the file."""
    chat_file.save("x", EXCHANGES)
    path = chat_file.folder() / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=str(path)):
        chat_file.load("x")


def test_settings_of_a_file() -> None:
    """Defaults without one; what it says else."""
    assert read_settings() == Settings()
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text('instructions = "Be brief."\nturns = 1\nwriter = "model"\n')
    assert read_settings() == Settings(instructions="Be brief.", turns=1, writer="model")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("turns = 9", "turns is 0 to 3, not 9"),
        ('turns = "two"', "turns is a number from 0 to 3, not 'two'"),
        ("turns = true", "turns is a number"),
        ('wirter = "model"', "did you mean writer"),
        ('writer = "poet"', "writer is plain or model, not 'poet'"),
        ("instructions = 3", "instructions is a text, not 3"),
        (f'instructions = "{"x" * 1001}"', "1001 characters, 1000 at most"),
        ("turns", "is not TOML"),
    ],
)
def test_settings_that_do_not_do(text: str, told: str) -> None:
    """One line with the file, what was found and what would do."""
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        read_settings()
    assert str(settings_file()) in str(caught.value)


def test_the_file_format_is_plain_json() -> None:
    """With a version, so that later ones can read it."""
    document = json.loads(chat_file.save("x", EXCHANGES).read_text())
    assert document["version"] == 1
    assert document["exchanges"][0]["records"] == {"1": "note:3"}
