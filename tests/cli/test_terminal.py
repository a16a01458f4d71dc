"""At a real terminal: approval and choices of ``ask`` and ``run``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.config import paths
from mlx_tinyagent.tools.local import snapshot, user_store
from tests.cli.terminal import Terminal

NOTE = '1. create_note("n", "line one\\nline two", "")\n2. join()'
READ = '1. get_email_address("Sarah")\n2. join()'
UNCLEAR = '1. get_phone_number("David")\n2. send_sms(["$1"], "hi")\n3. join()'
PARTLY = (
    '1. create_note("n", "text", "")\n'
    '2. create_reminder("milk", "when pigs fly", "", "", 0, False)\n3. join()'
)
PLANS = {"note": NOTE, "read": READ, "unclear": UNCLEAR, "partly": PARTLY}
QUESTION = r"Do this\? \[y/N\] "


@pytest.fixture
def terminal(world: Path) -> Iterator[Callable[..., Terminal]]:
    """A function that starts a command at a terminal, on the demo world."""
    started: list[Terminal] = []

    def start(*command: str, **env: str) -> Terminal:
        started.append(Terminal(*command, plans=PLANS, **env))
        return started[-1]

    yield start
    for each in started:
        each.child.close(force=True)


def state() -> Any:
    """Return the rows of the user's store."""
    with user_store(paths()) as store:
        return snapshot(store)


def rows(sql: str) -> list[Any]:
    """Return rows of the user's store."""
    with user_store(paths()) as store:
        return store.rows(sql)


class TestApproval:
    """One question for the whole plan; only an explicit yes is one."""

    def test_the_plan_is_shown_and_a_yes_runs_it(self, terminal: Callable[..., Terminal]) -> None:
        """With the exact text, of which no line can pass for a step."""
        ask = terminal("ask", "note")

        shown = ask.expect(QUESTION)
        ask.child.sendline("y")
        code, rest = ask.end()

        assert "  1. create note  [write]\n       name: n\n" in shown
        assert "       content: line one\n       | line two\n" in shown
        assert code == 0
        assert "Saved the note 'n' in the folder Notes." in rest
        assert len(rows("SELECT 1 FROM notes WHERE name = 'n'")) == 1

    @pytest.mark.parametrize(
        "answer",
        ["\n", "n\n", "no\n", "yy\n", "y y\n", "Y\nY\n", "\x04", "y\x04\x04", "\x03", "1\n"],
        ids=["empty", "n", "no", "yy", "y y", "two lines", "EOF", "y and EOF", "Ctrl-C", "1"],
    )
    def test_anything_else_is_no(self, terminal: Callable[..., Terminal], answer: str) -> None:
        """Exit code 3, one line, nothing changed."""
        before = state()
        ask = terminal("ask", "note")

        ask.expect(QUESTION)
        ask.child.send(answer)
        code, rest = ask.end()

        assert code == 3
        assert rest.strip().splitlines()[-1] == "mlx-tinyagent: not approved: nothing was changed"
        assert state() == before

    def test_keys_before_the_question_do_not_answer_it(
        self, terminal: Callable[..., Terminal], tmp_path: Path
    ) -> None:
        """A yes that was typed ahead was meant for something else."""
        tools = tmp_path / "ahead.py"
        tools.write_text(
            "import sys\nfrom mlx_tinyagent import tool\n\n@tool\ndef note() -> str:\n"
            '    """Note."""\n    return "noted"\n\n\nprint("LOADED", file=sys.stderr)\n'
            "input()\n"
        )
        plan = tmp_path / "plan.txt"
        plan.write_text("1. note()\n2. join()")
        run = terminal("run", str(plan), "--tools", str(tools))

        run.expect("Run it, now and until it changes")
        run.child.sendline("y")
        run.expect("LOADED")
        run.child.send("go on\ny\n")  # the first line is read while loading
        run.expect(QUESTION)
        run.child.sendline("n")

        assert run.end()[0] == 3

    def test_what_will_not_run_is_shown_and_the_rest_may(
        self, terminal: Callable[..., Terminal]
    ) -> None:
        """Who says yes has seen the reason; the exit code says that a question is open."""
        ask = terminal("ask", "partly")

        shown = ask.expect(QUESTION)
        ask.child.sendline("yes")
        code, rest = ask.end()

        assert "2. create reminder  [will not run] I found no date in 'when pigs fly'." in shown
        assert code == 6
        assert "Saved the note 'n'" in rest

    def test_yes_asks_nothing(self, terminal: Callable[..., Terminal]) -> None:
        """And then a plan that cannot run whole does not run."""
        code, rest = terminal("ask", "note", "--yes").end()
        assert (code, QUESTION[:7] in rest) == (0, False)

        before = state()
        code, rest = terminal("ask", "partly", "--yes").end()
        assert (code, "Nothing was changed." in rest) == (6, True)
        assert state() == before


class TestChoice:
    """An unclear name is asked before anything is approved."""

    def test_the_one_that_is_chosen_is_used(self, terminal: Callable[..., Terminal]) -> None:
        """The preview shows the person; the text goes to that number."""
        ask = terminal("ask", "unclear")

        offered = ask.expect("Which one")
        ask.expect("none\\) ")
        ask.child.sendline("2")
        shown = ask.expect(QUESTION)
        ask.child.sendline("y")
        code, _ = ask.end()

        assert "contact 'David' is not clear:" in offered
        assert "2. David Mensah (Savanna Foods)" in offered
        assert "recipients: David Mensah <+" in shown
        assert code == 0
        assert len(rows("SELECT 1 FROM outbox_messages WHERE text = 'hi'")) == 1

    @pytest.mark.parametrize("answer", ["", "0", "3", "x", "-1", "²"])
    def test_no_choice_leaves_it_open(self, terminal: Callable[..., Terminal], answer: str) -> None:
        """Exit code 6, and nothing is sent."""
        ask = terminal("ask", "unclear")

        ask.expect("none\\) ")
        ask.child.sendline(answer)
        code, rest = ask.end()

        assert code == 6
        assert "Which one?" in rest
        assert "Nothing was changed." in rest
