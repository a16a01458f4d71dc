"""Whatever is typed into a chat, the chat goes on: one line says what is wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.cli import chat_approval, chat_loop
from mlx_tinyagent.cli.chat_commands import COMMANDS
from mlx_tinyagent.config import paths

Cli = Callable[..., Any]
PLANS = {
    "note": '1. create_note("n", "text", "")\n2. join()',
    "meet": (
        '1. get_email_address("Sarah")\n'
        '2. create_calendar_event("Budget", "2030-05-02 at 3pm", "", "", ["$1"], "", None)\n'
        "3. join()"
    ),
    "who": '1. get_phone_number("David")\n2. send_sms(["$1"], "hi")\n3. join()',
    "pigs": '1. create_reminder("milk", "when pigs fly", "", "", 0, False)\n2. join()',
    "list": '1. list_events("this week", "")\n2. list_notes("trip")\n3. join()',
    "off": '1. cancel_event("Budget", "")\n2. join()',
    "asks": '1. ask("When should I remind you?")\n2. join()',
    "mail": '1. compose_new_email(["Sarah"], [], "Hello", "see you", [])\n2. join()',
}
PIECES = [
    *("make it 4pm", "and invite Tom", "call it x", "move it to friday", "no, instead", "2", "99"),
    *("²", "\x00", "\x1b[2J", "\u202e", "\ud800", "💥" * 50, "'; DROP TABLE notes; --", "${1} $2"),
    *(
        "<|im_end|>",
        "1. join()",
        "(" * 500,
        "\\",
        '"',
        "%s %n {0}",
        "a" * 20_000,
        "\t",
        "и́",
        "日本",
    ),
    *("set", "turns", "model", "none", "../../etc/passwd", "-1", "name = value", "= =", "/", "//"),
]
LEAVE = {"/quit", "/exit", "/bye", "/q", "quit", "exit", "bye"}


def lines(rng: random.Random, count: int) -> Iterator[str]:
    """Yield lines as people, cats and attackers type them; none that leaves."""
    words = [*PLANS, *PIECES, *COMMANDS, "/tols", "/?", '"""']
    while count:
        text = " ".join(rng.choices(words, k=rng.choice((1, 1, 1, 2, 3))))
        if rng.random() < 0.15:
            text = "".join(chr(rng.randrange(32, 0x2FFF)) for _ in range(rng.randrange(1, 40)))
        if text.split() and text.split()[0].casefold() not in LEAVE and "\n" not in text:
            count -= 1
            yield text


def run(cli: Cli, seed: int, count: int) -> Any:
    """Talk with random lines; returns what the command left."""
    typed = "\n".join(lines(random.Random(seed), count)) + '\n"""\n/quit\n/quit\n'
    return cli("chat", stdin=typed.encode(errors="surrogatepass"))


def check(outcome: Any) -> None:
    """No bug came up: no traceback, no crash report, a proper end."""
    assert outcome.code == 0
    assert "Traceback" not in outcome.err
    assert "internal error" not in outcome.err
    assert not list((paths().cache / "crashes").glob("*"))


def test_lines_without_a_terminal(cli: Cli, plans: dict[str, str], world: Path) -> None:
    """A hundred of them."""
    plans.update(PLANS)
    check(run(cli, 1, 100))


@pytest.mark.slow
def test_two_thousand_lines(cli: Cli, plans: dict[str, str], world: Path) -> None:
    """Requests, commands, follow-ups, pieces of plans, control characters, halves of characters."""
    plans.update(PLANS)
    check(run(cli, 2, 2_000))


ANSWERS = [
    *("y", "n", "", "?", "e", "d 1", "v 1", "v 2", "skip 1", "skip 9", "skip 1 2", "- 2", "yy"),
    *(
        "1 name = x",
        "1 title =",
        "2 start date = friday",
        "2 start date = pigs",
        "2 invitees = Tom",
    ),
    *("2 invitees = , ,", "1 recipients = Zzyzx", "9 name = x", "1 due date = tomorrow at 9am"),
    *("1", "2", "Mensah", "\x00", "x" * 5_000, "\u202e", "tomorrow at 9am", "Sarah", "= =", None),
]


@pytest.mark.slow
def test_answers_at_a_terminal(
    cli: Cli, plans: dict[str, str], world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every question gets some answer; edits of plans and drafts are garbage half of the time."""
    rng = random.Random(3)
    plans.update(PLANS)

    def answer(question: str) -> str | None:
        if rng.random() < 0.05:
            raise KeyboardInterrupt
        return rng.choice(ANSWERS)

    def edit(text: str) -> str | None:
        return rng.choice([None, "", text, "1. join()", text.replace("1", "2"), "\x00", text + "x"])

    monkeypatch.setattr(chat_loop, "edit_text", edit)
    for module in (chat_loop, chat_approval):
        monkeypatch.setattr(module, "interactive", lambda: True)
        monkeypatch.setattr(module, "read_answer", answer)
    monkeypatch.setattr("mlx_tinyagent.cli.talk.read_answer", answer)
    typed = "\n".join(rng.choices([*PLANS, "make it 4pm", "/undo", "/retry", "/new"], k=400))
    outcome = cli("chat", stdin=f"{typed}\n/quit\n".encode())
    assert outcome.code in (0, 130)
    assert "Traceback" not in outcome.err
    assert "internal error" not in outcome.err
