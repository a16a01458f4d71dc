"""``chat`` at a real terminal: drawing, approval with edits, follow-ups, commands, keys."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.config import paths
from mlx_tinyagent.tools.local import snapshot, user_store
from tests.cli.terminal import PROMPT, Terminal, plain

PLANS = {
    "note": '1. create_note("n", "line one\\nline two", "")\n2. join()',
    "read": '1. get_email_address("Sarah")\n2. join()',
    "text": '1. get_phone_number("David")\n2. send_sms(["$1"], "hi")\n3. join()',
    "two": ('1. create_note("first", "a", "")\n2. create_note("second", "b", "")\n3. join()'),
    "meet": (
        '1. get_email_address("Sarah")\n'
        '2. create_calendar_event("Budget", "2030-05-02 at 3pm", "", "", ["$1"], "", None)\n'
        "3. join()"
    ),
    "pigs": '1. create_reminder("milk", "when pigs fly", "", "", 0, False)\n2. join()',
    "unknown": '1. get_email_address("Zzyzx")\n2. join()',
    "asks": '1. ask("When should I remind you?")\n2. join()',
    "tomorrow at 9am": '1. create_reminder("milk", "tomorrow at 9am", "", "", 0, False)\n2. join()',
    "slow": "BLOCK",
}
QUESTION = r"Do this\? \[y/N, e edit, \? help\] "
DONE = r"run \d+\.\d s"

Start = Callable[..., Terminal]


@pytest.fixture
def chat(world: Path) -> Iterator[Start]:
    """A function that starts a chat at a terminal, on the demo world."""
    started: list[Terminal] = []

    def start(*options: str, **env: str) -> Terminal:
        started.append(Terminal("chat", *options, plans=PLANS, **env))
        started[-1].child.expect(PROMPT)
        return started[-1]

    yield start
    for each in started:
        each.child.close(force=True)


@pytest.fixture
def editor(tmp_path: Path) -> Callable[[str, str], str]:
    """A function that makes an editor which replaces one text by another."""

    def make(old: str, new: str) -> str:
        script = tmp_path / "editor.py"
        script.write_text(
            "import pathlib, sys\n"
            "file = pathlib.Path(sys.argv[-1])\n"
            f"file.write_text(file.read_text().replace({old!r}, {new!r}))\n"
        )
        return f"{sys.executable} {script}"

    return make


def rows(sql: str) -> list[Any]:
    """Return rows of the user's store."""
    with user_store(paths()) as store:
        return store.rows(sql)


def state() -> Any:
    """Return the rows of the user's store."""
    with user_store(paths()) as store:
        return snapshot(store)


def say(chat: Terminal, text: str, *patterns: str) -> str:
    """Type a line and wait for patterns in turn; returns what came before the last."""
    chat.child.sendline(text)
    shown = ""
    for pattern in patterns:
        shown = chat.expect(pattern)
    return shown


class TestPicture:
    """The plan is drawn while it is written and while it runs."""

    def test_steps_come_as_they_are_written(self, chat: Start) -> None:
        """A step that is complete has a mark; the line after it is still text."""
        terminal = chat(TOKEN_SECONDS="0.05")

        shown = say(terminal, "meet", "create_calend")
        assert "○ 1  get email address · Sarah" in shown
        terminal.expect(QUESTION)

    def test_the_result_has_marks_durations_and_a_footer(self, chat: Start) -> None:
        """What ran has a check and seconds, a step that reads another stands below it."""
        terminal = chat()

        shown = say(terminal, "meet", QUESTION)
        assert "✓ 1  get email address" in shown
        assert "○ 2  create calendar event  ← 1  write" in shown
        assert "start date: Thursday 2 May 2030, 15:00" in shown
        assert "invitees: Sarah Smith <sarah.smith@harbor.example>" in shown
        rest = say(terminal, "y", DONE)
        assert "✓ 2  create calendar event" in rest
        assert "26/26 tools · 20/100 prompt tokens computed · plan 0.0 s" in rest

    def test_no_color(self, chat: Start) -> None:
        """NO_COLOR keeps styles out of what the chat prints; colors come without it."""
        for value, styled in (("", True), ("1", False)):
            terminal = chat(NO_COLOR=value)
            say(terminal, "meet", QUESTION)
            say(terminal, "n", "not approved")
            found = re.findall(r"\x1b\[(?:[\d;]*;)?3[1-7]m", terminal.seen.getvalue())
            assert bool(found) is styled
            terminal.child.close(force=True)

    def test_an_ascii_terminal_gets_ascii(self, chat: Start) -> None:
        """No mark that its encoding lacks."""
        terminal = chat(PYTHONIOENCODING="ascii", PYTHONUTF8="0")
        shown = say(terminal, "read", DONE)
        assert "+ 1  get email address - Sarah" in shown


@pytest.mark.slow
class TestApproval:
    """One question for the whole plan, and edits instead of an answer."""

    def test_no_keeps_the_chat_and_changes_nothing(self, chat: Start) -> None:
        """A no, an empty line, Ctrl-C and anything unknown are no."""
        before = state()
        terminal = chat()
        for answer in ("n", "", "maybe", "yy"):
            say(terminal, "note", QUESTION)
            say(terminal, answer, "not approved: nothing was changed", PROMPT)
        say(terminal, "note", QUESTION)
        terminal.child.sendintr()
        terminal.expect("not approved: nothing was changed")
        assert state() == before

    def test_a_yes_does_it(self, chat: Start) -> None:
        """With the whole text that was shown."""
        terminal = chat()
        shown = say(terminal, "note", QUESTION)
        assert "content: line one\n       | line two" in shown
        say(terminal, "y", "Saved the note 'n'", PROMPT)
        assert rows("SELECT body FROM notes WHERE name = 'n'") == [{"body": "line one\nline two"}]

    def test_a_step_can_be_left_out(self, chat: Start) -> None:
        """What is left is shown again and needs a yes of its own."""
        terminal = chat()
        say(terminal, "two", QUESTION)
        shown = say(terminal, "skip 1", QUESTION)
        assert "first" not in shown
        say(terminal, "y", DONE)
        assert rows("SELECT name FROM notes WHERE name IN ('first', 'second')") == [
            {"name": "second"}
        ]

    def test_leaving_out_every_step_is_no(self, chat: Start) -> None:
        """Also where the others only need it."""
        terminal = chat()
        say(terminal, "meet", QUESTION)
        say(terminal, "skip 1", "not approved: nothing was changed")

    def test_an_argument_can_be_set(self, chat: Start) -> None:
        """By the name it is shown with; the date is read anew."""
        terminal = chat()
        say(terminal, "meet", QUESTION)
        shown = say(terminal, "2 start date = 2030-06-05 at 4pm", QUESTION)
        assert "Wednesday 5 June 2030, 16:00" in shown
        say(terminal, "y", DONE)
        assert rows("SELECT starts FROM events WHERE title = 'Budget'") == [
            {"starts": "2030-06-05T16:00:00"}
        ]

    @pytest.mark.parametrize(
        ("typed", "told"),
        [
            ("7 name = x", "There is no step 7."),
            ("1 colour = x", "Step 1 has no argument 'colour': name, content, folder."),
            ("skip 9", "There is no step 9."),
            ("v 5", "There is no step 5."),
            ("?", "leave out step 2 and what needs it"),
        ],
    )
    def test_a_wrong_edit_is_explained_and_asked_again(
        self, chat: Start, typed: str, told: str
    ) -> None:
        """It is neither a yes nor a no."""
        terminal = chat()
        say(terminal, "note", QUESTION)
        assert told in say(terminal, typed, QUESTION)

    def test_the_plan_can_be_edited(self, chat: Start, editor: Callable[[str, str], str]) -> None:
        """In the user's own editor; what comes back is checked and shown like any plan."""
        terminal = chat(EDITOR=editor('"n"', '"renamed"'))
        say(terminal, "note", QUESTION)
        assert "name: renamed" in say(terminal, "e", QUESTION)
        say(terminal, "y", DONE)
        assert len(rows("SELECT 1 FROM notes WHERE name = 'renamed'")) == 1

    def test_an_edit_that_is_no_plan_is_refused(
        self, chat: Start, editor: Callable[[str, str], str]
    ) -> None:
        """With the reason, and the old plan is asked about again."""
        terminal = chat(EDITOR=editor("create_note", "make_coffee"))
        say(terminal, "note", QUESTION)
        assert "make_coffee" in say(terminal, "e", QUESTION)
        say(terminal, "y", "Saved the note 'n'")

    def test_keys_before_the_question_do_not_answer_it(self, chat: Start) -> None:
        """A yes that was typed while the plan was written was meant for something else."""
        terminal = chat(TOKEN_SECONDS="0.03")
        terminal.child.sendline("note")
        terminal.expect("Planning")
        terminal.child.sendline("y")
        terminal.expect(QUESTION)
        say(terminal, "n", "not approved")


@pytest.mark.slow
class TestQuestions:
    """What is not clear is asked; a number or words answer."""

    @pytest.mark.parametrize("answer", ["2", "mensah", "David Mensah"])
    def test_an_unclear_name(self, chat: Start, answer: str) -> None:
        """Before anything is approved, once per request."""
        terminal = chat()
        say(terminal, "text", "Which one.*none\\) ")
        assert "David Mensah <+" in say(terminal, answer, QUESTION)

    def test_an_answer_that_fits_nothing_is_asked_again(self, chat: Start) -> None:
        """An empty one ends it."""
        terminal = chat()
        say(terminal, "text", "Which one.*none\\) ")
        say(terminal, "someone", "Which one.*none\\) ")
        say(terminal, "", "Nothing was changed.")

    def test_a_choice_survives_an_edit(self, chat: Start) -> None:
        """It is not asked again."""
        terminal = chat()
        say(terminal, "text", "Which one.*none\\) ")
        say(terminal, "2", QUESTION)
        shown = say(terminal, "2 message = hello", QUESTION)
        assert "Which one" not in shown
        assert "David Mensah" in shown

    def test_a_date_that_cannot_be_read(self, chat: Start) -> None:
        """Times are offered; other words may be given."""
        terminal = chat()
        shown = say(terminal, "pigs", "> \\(a number or other words\\) ")
        assert "I cannot read 'when pigs fly' as a date. When is 'milk'?" in shown
        assert "tomorrow at 9am" in shown
        assert "Thursday 2 May 2030, 15:00" in say(terminal, "2030-05-02 at 3pm", QUESTION)

    def test_a_person_who_is_not_there(self, chat: Start) -> None:
        """Another name may be given."""
        terminal = chat()
        say(terminal, "unknown", "I found no contact 'Zzyzx'. Who is meant\\?", "none\\) ")
        say(terminal, "Sarah", "Sarah Smith: sarah.smith@harbor.example")

    def test_a_question_of_the_planner(self, chat: Start) -> None:
        """Its likely answers are numbered; a number is the answer."""
        terminal = chat()
        shown = say(terminal, "asks", DONE)
        number = next(
            line.strip()[0] for line in shown.splitlines() if line.endswith("tomorrow at 9am")
        )
        assert "When should I remind you?" in shown
        assert "name: milk" in say(terminal, number, QUESTION)


@pytest.mark.slow
class TestFollowUps:
    """Short requests that change the last plan, or what it made."""

    def test_what_ran_is_changed(self, chat: Start) -> None:
        """Not done twice: one event, moved, with one more guest and another title."""
        terminal = chat()
        say(terminal, "meet", QUESTION)
        say(terminal, "y", DONE)
        shown = say(terminal, "make it 4pm", QUESTION)
        assert "event: Budget (Thu 2 May 15:00)" in shown
        assert "Thursday 2 May 2030, 16:00" in shown
        assert "read without the model" in say(terminal, "y", DONE)
        assert "Tom Nakamura" in say(terminal, "and invite Tom Nakamura", QUESTION)
        say(terminal, "y", DONE)
        say(terminal, 'call it "Budget 2"', QUESTION)
        say(terminal, "y", DONE)

        assert rows("SELECT title, starts, ends FROM events WHERE title LIKE 'Budget%2'") == [
            {"title": "Budget 2", "starts": "2030-05-02T16:00:00", "ends": "2030-05-02T17:00:00"}
        ]
        guests = rows(
            "SELECT email FROM event_invitees JOIN events ON events.id = event_id "
            "WHERE title = 'Budget 2' ORDER BY position"
        )
        assert [row["email"] for row in guests] == [
            "sarah.smith@harbor.example",
            "tom.nakamura@harbor.example",
        ]

    def test_what_was_refused_is_planned_anew(self, chat: Start) -> None:
        """A no and a follow-up is one plan, not two."""
        terminal = chat()
        say(terminal, "meet", QUESTION)
        say(terminal, "n", "not approved", PROMPT)
        assert "Thursday 2 May 2030, 16:00" in say(terminal, "no, make it 4pm", QUESTION)
        say(terminal, "y", DONE)
        assert rows("SELECT starts FROM events WHERE title = 'Budget'") == [
            {"starts": "2030-05-02T16:00:00"}
        ]


@pytest.mark.slow
class TestCommands:
    """Slash commands; none of them is ever a request."""

    def test_help_names_them_all(self, chat: Start) -> None:
        """With the keys."""
        terminal = chat()
        shown = say(terminal, "/help", "twice in a second leaves")
        for name in (
            "/help /tools /plan /why /undo /retry /model /adapter "
            "/set /stats /trace /new /save /quit"
        ).split():
            assert f"\n{name}" in f"\n{shown}", name

    def test_an_unknown_one_is_an_error_with_the_nearest(self, chat: Start) -> None:
        """It goes nowhere."""
        terminal = chat()
        say(terminal, "/plam", "There is no command /plam; did you mean /plan\\?")
        say(terminal, "/fly away", "There is no command /fly; /help lists them")

    def test_they_tell_about_the_last_request(self, chat: Start) -> None:
        """Plan, reasons, time and cost."""
        terminal = chat()
        for name in ("/plan", "/why", "/trace", "/stats"):
            say(terminal, name, "There is (no plan|nothing)")
        say(terminal, "read", DONE)
        say(terminal, "/plan", r'1\. get_email_address\("Sarah"\)')
        say(terminal, "/why get_email_address", "fits the words of the request")
        say(terminal, "/trace", "step 1 get email address: ok")
        say(terminal, "/stats", "1 requests, 1 planned by the model")
        say(terminal, "/model", "smollm2-135m")
        say(terminal, "/tools send_sms", r"send_sms\(recipients")

    def test_a_plan_can_be_looked_at_alone(self, chat: Start) -> None:
        """Nothing runs and nothing is asked."""
        before = state()
        terminal = chat()
        say(terminal, "/plan note", r'create_note\("n"', PROMPT)
        assert state() == before

    def test_settings(self, chat: Start) -> None:
        """They are listed, changed and checked."""
        terminal = chat()
        say(terminal, "/set turns 1", "turns is now 1")
        say(terminal, "/set instructions keep it short", "instructions is now keep it short")
        say(terminal, "/set turns nine", "turns is a number from 0 to 3")
        say(terminal, "/set wirter model", "did you mean writer\\?")
        say(terminal, "/set", "keep it short")

    def test_undo_takes_back_what_the_last_request_did(self, chat: Start) -> None:
        """After it was shown and a yes; then there is nothing left."""
        terminal = chat()
        say(terminal, "note", QUESTION)
        say(terminal, "y", DONE)
        shown = say(terminal, "/undo", r"Take this back\? \[y/N\] ")
        assert "Saved the note 'n'" in shown
        say(terminal, "y", "Undone.", PROMPT)
        assert not rows("SELECT 1 FROM notes WHERE name = 'n'")
        say(terminal, "/undo", "There is nothing to undo.")

    def test_retry_plans_the_last_request_again(self, chat: Start) -> None:
        """Also one that was refused."""
        terminal = chat()
        say(terminal, "note", QUESTION)
        say(terminal, "n", "not approved", PROMPT)
        say(terminal, "/retry", QUESTION)
        say(terminal, "y", "Saved the note 'n'")

    def test_a_chat_is_saved_and_resumed(self, chat: Start) -> None:
        """With what a follow-up needs; the file is private."""
        terminal = chat()
        say(terminal, "meet", QUESTION)
        say(terminal, "y", DONE)
        say(terminal, "/save budget", "Saved to", PROMPT)
        say(terminal, "/quit")
        terminal.end()
        file = paths().data / "chats" / "budget.json"
        assert file.stat().st_mode & 0o777 == 0o600
        assert [e["query"] for e in json.loads(file.read_text())["exchanges"]] == ["meet"]

        again = chat("--resume", "last")
        assert "> meet" in plain(again.seen.getvalue())
        assert "Budget (Thu 2 May 15:00)" in say(again, "make it 4pm", QUESTION)

    def test_new_forgets(self, chat: Start) -> None:
        """A follow-up has nothing to lean on."""
        terminal = chat()
        say(terminal, "meet", QUESTION)
        say(terminal, "y", DONE)
        say(terminal, "/new", "A new chat")
        say(terminal, "make it 4pm", "None of my tools can do that.")


@pytest.mark.slow
class TestKeys:
    """Typing, several lines, completion, history, Ctrl-C."""

    def test_ctrl_c(self, chat: Start, tmp_path: Path) -> None:
        """It stops a request, a question, an empty line; twice at an empty line it leaves."""
        marker = tmp_path / "marker"
        os.mkfifo(marker)
        terminal = chat(MARKER=str(marker))

        terminal.child.sendline("slow")
        with open(marker) as pipe:
            assert pipe.read() == "here"
        terminal.child.sendintr()
        terminal.expect("interrupted; nothing was changed|interrupted")
        terminal.expect(PROMPT)
        say(terminal, "read", "Sarah Smith: ", PROMPT)
        terminal.child.sendintr()
        terminal.expect("Ctrl-C again, Ctrl-D or /quit leaves.")
        terminal.expect(PROMPT)
        terminal.child.sendintr()

        code, rest = terminal.end()
        assert code == 130
        assert rest.strip().splitlines()[-1] == "mlx-tinyagent: interrupted"

    def test_history_is_private_and_kept(self, chat: Start) -> None:
        """Readable by its owner alone; the next chat has it."""
        terminal = chat()
        say(terminal, "read", "Sarah Smith: ", PROMPT)
        say(terminal, "/quit")
        terminal.end()
        file = paths().data / "history"
        assert file.stat().st_mode & 0o777 == 0o600
        assert "+read" in file.read_text()

        again = chat()
        again.child.send("\x1b[A\x1b[A")  # up, up: beyond /quit
        again.expect("read")
        again.child.send("\r")
        again.expect("Sarah Smith: ")

    def test_names_are_completed(self, chat: Start) -> None:
        """People from the contacts, where only one fits; commands after a slash."""
        terminal = chat()
        terminal.child.send("mail Thandi\t")
        terminal.expect("Nkosi")
        terminal.child.send("\r")
        terminal.expect("None of my tools")
        terminal.expect(PROMPT)
        terminal.child.send("/sta\t")
        terminal.expect("ts")
        terminal.child.send("\r")
        terminal.expect("0 planned|1 requests")
        say(terminal, "/quit")
        terminal.end()
        assert "+mail Thandiwe Nkosi" in (paths().data / "history").read_text()

    def test_several_lines(self, chat: Start) -> None:
        """Between triple quotes, or with Esc and Enter; one request either way."""
        terminal = chat()
        say(terminal, '"""', r"\|[^\n]*\x1b\[\?25h")
        say(terminal, "/help is a word here", r"\|[^\n]*\x1b\[\?25h")
        say(terminal, '"""', "None of my tools can do that.", PROMPT)
        terminal.child.send("re\x1b\rad\r")
        terminal.expect("None of my tools can do that.")

    def test_pasted_text_is_no_command(self, chat: Start) -> None:
        """A line that begins with a slash in a paste is a request."""
        terminal = chat()
        terminal.child.send("\x1b[200~/quit\x1b[201~\r")
        terminal.expect("None of my tools can do that.")

    def test_an_editor_for_the_request(
        self, chat: Start, editor: Callable[[str, str], str]
    ) -> None:
        """Ctrl-G opens it; what it leaves is in the line."""
        terminal = chat(EDITOR=editor("reaad", "read"))
        terminal.child.send("reaad\x07")
        terminal.expect(PROMPT)
        terminal.child.send("\r")
        terminal.expect("Sarah Smith: ")

    @pytest.mark.parametrize("word", ["/quit", "/exit", "quit", "exit", "\x04"])
    def test_ways_to_leave(self, chat: Start, word: str) -> None:
        """All end with 0."""
        terminal = chat()
        terminal.child.send(word if word == "\x04" else f"{word}\r")
        assert terminal.end()[0] == 0
