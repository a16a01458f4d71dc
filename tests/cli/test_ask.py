"""``ask`` and ``run``: answers on stdout, everything else on stderr, documented exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.config import paths
from mlx_tinyagent.tools.local import snapshot, user_store

Cli = Callable[..., Any]

READ = '1. get_email_address("Sarah")\n2. join()'
NOTE = '1. create_note("n", "text", "")\n2. join()'
UNCLEAR = '1. create_note("n", "text", "")\n2. send_sms(["David"], "hi")\n3. join()'
UNKNOWN = '1. get_phone_number("Zaphod")\n2. send_sms(["$1"], "hi")\n3. join()'
NO_DATE = '1. create_reminder("milk", "when pigs fly", "", "", 0, False)\n2. join()'
FAILS = '1. create_reminder("milk", "tomorrow", "", "", 12, False)\n2. join()'
SARAH = "sarah.smith@harbor.example"


def state() -> Any:
    """Return the rows of the user's store."""
    with user_store(paths()) as store:
        return snapshot(store)


@pytest.fixture
def request_of(plans: dict[str, str]) -> Callable[[str], str]:
    """A function that gives a request for which a plan will be written."""

    def make(plan: str) -> str:
        plans["do it"] = plan
        return "do it"

    return make


@pytest.fixture(params=["ask", "run", "run -"])
def execute(request: pytest.FixtureRequest, cli: Cli, plans: dict[str, str], tmp_path: Path) -> Cli:
    """A function that has a plan executed: planned for a request, from a file, from stdin."""

    def run(plan: str, *options: str) -> Any:
        if request.param == "ask":
            plans["do it"] = plan
            return cli("ask", "do it", *options)
        if request.param == "run -":
            return cli("run", "-", *options, stdin=plan.encode())
        file = tmp_path / "plan.txt"
        file.write_text(plan)
        return cli("run", file, *options)

    return run


class TestOutcomes:
    """Every outcome has its exit code, whichever way the plan comes."""

    def test_a_read_needs_nobody(self, execute: Cli, world: Path) -> None:
        """The answer is all there is on stdout, and stderr is empty."""
        done = execute(READ)

        assert (done.code, done.out, done.err) == (0, f"Sarah Smith: {SARAH}\n", "")

    def test_a_change_without_a_terminal_is_refused(self, execute: Cli, world: Path) -> None:
        """One line, exit code 3, nothing on stdout, nothing changed."""
        before = state()

        done = execute(NOTE)

        assert (done.code, done.out) == (3, "")
        assert "no terminal to ask at; nothing was changed" in done.line
        assert state() == before

    def test_a_refusal_is_one_line_with_json_too(self, execute: Cli, world: Path) -> None:
        """There is no result to print."""
        done = execute(NOTE, "--json")

        assert (done.code, done.out) == (3, "")
        assert "--yes approves it" in done.line

    def test_yes_approves(self, execute: Cli, world: Path) -> None:
        """The change is made and told."""
        done = execute(NOTE, "--yes")

        assert (done.code, done.err) == (0, "")
        assert done.out == "Saved the note 'n' in the folder Notes.\n"

    @pytest.mark.parametrize("options", [(), ("--yes",)], ids=["", "--yes"])
    @pytest.mark.parametrize(
        ("plan", "said"),
        [
            (UNCLEAR, "Contact 'David' could be David Levy (Harbor Design) or David Mensah"),
            (UNKNOWN, "I found no contact 'Zaphod'."),
            (NO_DATE, "I found no date in 'when pigs fly'."),
        ],
    )
    def test_an_open_question_changes_nothing(
        self, execute: Cli, world: Path, plan: str, said: str, options: tuple[str, ...]
    ) -> None:
        """Exit code 6 and the question with its candidates, approved or not."""
        before = state()

        done = execute(plan, *options)

        assert (done.code, done.err) == (6, "")
        assert done.out.startswith(said)
        assert done.out.endswith("Nothing was changed.\n")
        assert state() == before

    def test_a_failed_tool(self, execute: Cli, world: Path) -> None:
        """Exit code 5 and the reason."""
        done = execute(FAILS, "--yes")

        assert done.code == 5
        assert done.out.startswith("Could not create reminder: a reminder's priority is 0 to 9")

    def test_json_is_one_document(self, execute: Cli, world: Path) -> None:
        """With the documented keys; the exit code is the same."""
        done = execute(UNCLEAR, "--json", "--yes")

        document = json.loads(done.out)
        assert done.code == 6
        assert list(document) == ["query", "plan", "results", "reply", "timings", "counts"]
        assert [r["status"] for r in document["results"]] == ["skipped", "ambiguous"]
        assert "David Mensah" in document["results"][1]["error"]

    def test_no_output_has_escape_sequences(self, execute: Cli, world: Path) -> None:
        """Without a terminal there is nothing to color."""
        for options in ((), ("--json",), ("--yes",)):
            done = execute(NOTE, *options)
            assert "\x1b" not in done.out + done.err


class TestAsk:
    """What only ``ask`` does."""

    def test_a_dry_run_prints_the_plan(self, cli: Cli, world: Path, request_of: Any) -> None:
        """And it is text that ``run`` takes."""
        before = state()
        done = cli("ask", request_of(NOTE), "--dry-run")

        assert (done.code, done.out, done.err) == (0, f"{NOTE}\n", "")
        assert state() == before
        assert cli("run", "-", "--yes", stdin=done.out.encode()).code == 0

    def test_a_dry_run_as_json(self, cli: Cli, world: Path, request_of: Any) -> None:
        """No results, no reply."""
        document = json.loads(cli("ask", request_of(NOTE), "--dry-run", "--json").out)

        assert document["results"] == []
        assert document["reply"] == ""
        assert document["plan"]["text"] == NOTE
        assert document["counts"]["prompt_tokens"] == 100

    def test_the_request_can_come_from_stdin(self, cli: Cli, world: Path, request_of: Any) -> None:
        """A line end does not belong to it."""
        request_of(READ)

        assert cli("ask", "-", stdin=b"do it\n").out == f"Sarah Smith: {SARAH}\n"

    def test_a_question_needs_an_answer(self, cli: Cli, world: Path, request_of: Any) -> None:
        """The question is the answer, with exit code 6."""
        done = cli("ask", request_of('1. ask("Which Dana?")\n2. join()'))

        assert (done.code, done.out) == (6, "Which Dana?\n")

    def test_no_tool_fits(self, cli: Cli, world: Path, plans: dict[str, str]) -> None:
        """It says so, and the model adds a sentence."""
        done = cli("ask", "tell me a joke")

        assert (done.code, done.out) == (
            0,
            "None of my tools can do that. I plan, I do not talk.\n",
        )

    def test_what_the_store_holds_cannot_drive_the_terminal(
        self, cli: Cli, world: Path, request_of: Any
    ) -> None:
        """Control characters are shown, in text and in JSON."""
        with user_store(paths()) as store:
            store.rows(
                "UPDATE notes SET body = ? WHERE name = 'Shopping List'", ("a\x1b]0;b\x9bc",)
            )
        plan = '1. open_note("Shopping List", "")\n2. join()'

        text = cli("ask", request_of(plan)).out
        document = cli("ask", request_of(plan), "--json").out

        assert "a\\x1b]0;b\\x9bc" in text
        assert "\x1b" not in document
        assert "\x9b" not in document
        assert json.loads(document)["results"][0]["value"] == "a\x1b]0;b\x9bc"


TOOLS = '''
from mlx_tinyagent import tool
print("loaded")

@tool(effect="read")
def shout(text: str) -> str:
    """Say something loudly."""
    print("inside")
    return text.upper()
'''


def test_what_tools_print_is_no_answer(cli: Cli, world: Path, tmp_path: Path) -> None:
    """A file of tools may print while it loads and while it runs: stdout stays one document."""
    file = tmp_path / "mine.py"
    file.write_text(TOOLS)

    done = cli("run", "-", "--json", "--tools", file, stdin=b'1. shout("hi")\n2. join()')

    assert json.loads(done.out)["reply"] == "HI"
    assert done.err.split() == ["loaded", "inside"]


def test_a_bug_is_one_line_and_a_private_report(
    cli: Cli, world: Path, plans: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report has the code's lines and no word of the request."""
    from mlx_tinyagent.cli import ask

    def broken(*args: object) -> None:
        raise KeyError("the secret request")

    monkeypatch.setattr(ask, "make_agent", broken)

    done = cli("ask", "the secret request")

    assert done.code == 1
    assert done.line.startswith("internal error KeyError (crash ")
    (file,) = (paths().cache / "crashes").iterdir()
    assert str(file) in done.line
    assert file.stat().st_mode & 0o777 == 0o600
    report = file.read_text()
    assert "agent = make_agent(tools, store, planner)" in report
    assert report.splitlines()[-1] == "KeyError"
    assert "secret request" not in report.replace('raise KeyError("the secret request")', "")
