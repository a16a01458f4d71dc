"""Plans run in the right order, in parallel where they can, and only as far as they may."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

from mlx_tinyagent.act.executor import WORKERS, Callbacks, StepResult, Stopped, run
from mlx_tinyagent.act.gate import Preview
from mlx_tinyagent.errors import RefusedError
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import Store, snapshot
from mlx_tinyagent.tools.results import (
    Ambiguous,
    Candidate,
    Failed,
    NotFound,
    Ok,
    Result,
    Skipped,
    Unknown,
    Value,
)

YES = Callbacks(approve=lambda shown: True)
TWO = Ambiguous(
    what="thing 'x'",
    candidates=(
        Candidate(label="first (of two)", value="1st"),
        Candidate(label="second", value=""),
    ),
)


def plan(tools: ToolSet, *lines: str) -> Plan:
    """Read a plan from its lines; numbers and join() are added."""
    numbered = [f"{number}. {line}" for number, line in enumerate((*lines, "join()"), start=1)]
    return parse("\n".join(numbered), tools)


def statuses(results: list[StepResult]) -> list[str]:
    """Return the status of each step."""
    return [step.result.status for step in results]


class TestOrder:
    """A step starts when what it reads is done, and not before."""

    def test_independent_steps_run_at_the_same_time(self, recorder: Any, host: Host) -> None:
        """Both wait for each other inside, which only works if both are inside."""
        barrier = threading.Barrier(2)
        recorder.meet = lambda name: barrier.wait(timeout=20)
        tools = recorder.tools()

        results = run(plan(tools, 'show("a")', 'show("b")'), tools, host, YES)

        assert statuses(results) == ["ok", "ok"]
        assert [event for event, _ in recorder.events] == ["begin", "begin", "end", "end"]

    def test_no_more_than_a_few_run_at_once(self, recorder: Any, host: Host) -> None:
        """Twice as many steps as threads go in two waves."""
        barrier = threading.Barrier(WORKERS)
        inside: list[int] = []
        active = threading.Semaphore(WORKERS)

        def meet(name: str) -> None:
            inside.append(int(active.acquire(blocking=False)))
            barrier.wait(timeout=20)
            active.release()

        recorder.meet = meet
        tools = recorder.tools()
        lines = [f'look("{letter}")' for letter in "abcdefgh"[: 2 * WORKERS]]

        results = run(plan(tools, *lines), tools, host, YES)

        assert statuses(results) == ["ok"] * 2 * WORKERS
        assert inside == [1] * 2 * WORKERS

    def test_a_step_begins_after_what_it_reads_has_ended(self, recorder: Any, host: Host) -> None:
        """Along a chain every step waits; a diamond joins again."""
        tools = recorder.tools()
        whole = plan(
            tools,
            'show("a")',
            'write("b", "${1}")',
            'write("c", "${1}")',
            'write("d", "${2} ${3}")',
        )

        run(whole, tools, host, YES)

        order = {event: place for place, event in enumerate(recorder.events)}
        for before, after in [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]:
            assert order["end", before] < order["begin", after]
        assert recorder.received[-1] == ("write", {"name": "d", "text": "<b> <c>", "note": None})

    def test_a_late_short_branch_does_not_wait_for_a_long_one(
        self, recorder: Any, host: Host
    ) -> None:
        """The dependant of the quick step ends before the slow step does."""
        quick_is_through = threading.Event()

        def meet(name: str) -> None:
            if name == "slow":
                assert quick_is_through.wait(timeout=20)
            elif name == "after":
                quick_is_through.set()

        recorder.meet = meet
        tools = recorder.tools()
        whole = plan(tools, 'show("slow")', 'show("quick")', 'write("after", "${2}")')

        assert statuses(run(whole, tools, host, YES)) == ["ok", "ok", "ok"]

    def test_results_are_in_plan_order(self, recorder: Any, host: Host) -> None:
        """Whichever ends first."""
        first_may_end = threading.Event()
        recorder.meet = lambda name: (
            first_may_end.wait(timeout=20) if name == "a" else first_may_end.set()
        )
        tools = recorder.tools()

        results = run(plan(tools, 'show("a")', 'show("b")'), tools, host, YES)

        assert next(event for event in recorder.events if event[0] == "end") == ("end", "b")
        assert [step.id for step in results] == [1, 2]

    def test_callbacks_come_from_the_calling_thread(self, recorder: Any, host: Host) -> None:
        """Tools run elsewhere; whoever asks the user need not care."""
        seen: list[tuple[str, int]] = []
        here = threading.get_ident()
        recorder.meet = lambda name: seen.append(("tool", threading.get_ident()))
        tools = recorder.tools()
        callbacks = Callbacks(
            approve=lambda shown: not seen.append(("approve", threading.get_ident())),
            started=lambda step: seen.append(("started", threading.get_ident())),
            finished=lambda outcome: seen.append(("finished", threading.get_ident())),
        )

        run(plan(tools, 'write("a")'), tools, host, callbacks)

        assert [what for what, _ in seen if what != "tool"] == ["approve", "started", "finished"]
        assert all((thread == here) == (what != "tool") for what, thread in seen)


class TestApproval:
    """Reads run first, one question comes, and without a yes nothing with an effect runs."""

    def test_reads_run_before_the_question_and_nothing_else_does(
        self, recorder: Any, host: Host
    ) -> None:
        """A read that needs an effect's result, and what is only shown, wait as well."""
        tools = recorder.tools()
        before: list[str] = []

        def approve(shown: Preview) -> bool:
            before.extend(name for _, name in recorder.events)
            return True

        whole = plan(
            tools,
            'write("w")',
            'look("r")',
            'look("$2")',
            'show("s")',
            'look("late", "$1")',
        )
        results = run(whole, tools, host, Callbacks(approve=approve))

        assert before == ["r", "r", "<r>", "<r>"]
        assert statuses(results) == ["ok"] * 5
        assert {name for event, name in recorder.events if event == "begin"} == {
            "r", "<r>", "w", "s", "late",
        }  # fmt: skip

    @pytest.mark.parametrize("approve", [None, lambda shown: False], ids=["nobody", "no"])
    def test_without_a_yes_nothing_changes(self, store: Store, host: Host, approve: Any) -> None:
        """The reads have run; the store is what it was."""
        whole = plan(TINYAGENT16, 'get_email_address("Sarah")', 'create_note("n", "${1}")')
        before = snapshot(store)

        with pytest.raises(RefusedError, match="nothing was changed"):
            run(whole, TINYAGENT16, host, Callbacks(approve=approve))

        assert snapshot(store) == before

    def test_what_comes_after_the_yes_is_put_into_what_was_shown(
        self, store: Store, host: Host
    ) -> None:
        """A file is opened after the approval; the note then says where, and nothing else."""
        path = next(iter(host.backend.files())).path
        whole = plan(
            TINYAGENT16, f'open_and_get_file_path("{path}")', 'create_note("n", "It is ${1}.")'
        )

        results = run(whole, TINYAGENT16, host, YES)

        assert statuses(results) == ["ok", "ok"]
        (note,) = store.rows("SELECT body FROM notes WHERE name = 'n'")
        assert note["body"] == f"It is {path}."

    def test_a_plan_that_changes_nothing_asks_nothing(self, recorder: Any, host: Host) -> None:
        """Reading and showing need no yes."""
        tools = recorder.tools()

        results = run(plan(tools, 'look("a")', 'show("b")'), tools, host, Callbacks())

        assert statuses(results) == ["ok", "ok"]

    def test_there_is_one_question_for_the_whole_plan(self, recorder: Any, host: Host) -> None:
        """However many of its steps change something."""
        shown: list[Preview] = []
        tools = recorder.tools()
        whole = plan(tools, 'write("a")', 'write("b")', 'write("c", "${2}")')

        run(whole, tools, host, Callbacks(approve=lambda preview: not shown.append(preview)))

        assert len(shown) == 1
        assert [step.id for step in shown[0].steps] == [1, 2, 3]

    def test_what_runs_has_the_values_that_were_shown(self, store: Store, host: Host) -> None:
        """An address book that changes while the question is on the screen changes nothing."""
        shown: list[str] = []

        def approve(preview: Preview) -> bool:
            shown.append(dict(preview.steps[0].args)["recipients"])
            store.rows("UPDATE contact_emails SET email = 'x' || email")
            return True

        whole = plan(TINYAGENT16, 'compose_new_email(["Sarah"], [], "Hi")')
        results = run(whole, TINYAGENT16, host, Callbacks(approve=approve))

        (address,) = results[0].args["recipients"]
        assert shown == [f"Sarah Smith <{address}>"]
        (row,) = store.rows("SELECT email FROM draft_recipients ORDER BY draft_id DESC LIMIT 1")
        assert row["email"] == address


class TestLostSteps:
    """A step that gives no value stops what reads from it, and nothing else."""

    @pytest.mark.parametrize(
        "lost",
        [
            Failed(reason="it broke"),
            NotFound(what="it"),
            TWO,
            Unknown(reason="no answer"),
            Skipped(reason="no"),
        ],
        ids=lambda result: result.status,
    )
    def test_dependants_do_not_run(self, recorder: Any, host: Host, lost: Result) -> None:
        """Neither direct nor indirect ones; independent steps do."""
        recorder.results["a"] = lost
        tools = recorder.tools()
        whole = plan(tools, 'show("a")', 'write("b", "${1}")', 'write("c", "${2}")', 'write("d")')

        results = run(whole, tools, host, YES)

        assert statuses(results) == [lost.status, "skipped", "skipped", "ok"]
        assert {name for _, name in recorder.events} == {"a", "d"}

    def test_a_tool_that_raises_or_exits_is_a_failed_step(self, recorder: Any, host: Host) -> None:
        """The run goes on; nobody waits for ever."""

        def meet(name: str) -> None:
            if name == "a":
                raise LookupError("nothing there")

        recorder.meet = meet
        tools = recorder.tools()

        results = run(plan(tools, 'show("a")', 'leave("b")', 'show("c")'), tools, host, YES)

        assert statuses(results) == ["failed", "failed", "ok"]
        assert results[0].result == Failed(reason="show failed: nothing there")

    @pytest.mark.parametrize(
        "line",
        [
            'create_reminder("milk", "when pigs fly")',
            'send_sms(["Zaphod"], "hi")',
            'send_sms(["David"], "hi")',
            'compose_new_email(["Sarah"], [], "Hi", "", ["Tax Return 2031"])',
            'create_calendar_event("x", "")',
        ],
    )
    def test_an_open_question_stops_a_plan_that_nobody_watches(
        self, store: Store, host: Host, line: str
    ) -> None:
        """Approved unseen, it runs whole or changes nothing, so that it can be asked again."""
        before = snapshot(store)
        whole = plan(TINYAGENT16, 'create_note("n", "text")', line)

        results = run(
            whole, TINYAGENT16, host, Callbacks(approve=lambda shown: True, partial=False)
        )

        assert results[0].result == Skipped(reason="another step cannot run")
        assert results[1].result.status in ("not_found", "ambiguous")
        assert snapshot(store) == before

    def test_a_lookup_that_fails_is_an_open_question_too(self, store: Store, host: Host) -> None:
        """The dependant is skipped with its reason, the independent step as well."""
        whole = plan(
            TINYAGENT16,
            'get_phone_number("Zaphod")',
            'send_sms(["$1"], "hi")',
            'create_note("n", "text")',
        )
        before = snapshot(store)

        results = run(
            whole, TINYAGENT16, host, Callbacks(approve=lambda shown: True, partial=False)
        )

        assert statuses(results) == ["not_found", "skipped", "skipped"]
        assert snapshot(store) == before

    def test_where_the_preview_is_read_the_rest_may_run(self, store: Store, host: Host) -> None:
        """The one who says yes has seen what will not run."""
        whole = plan(
            TINYAGENT16, 'create_note("n", "text")', 'create_reminder("milk", "when pigs fly")'
        )
        shown: list[Preview] = []

        results = run(
            whole, TINYAGENT16, host, Callbacks(approve=lambda preview: not shown.append(preview))
        )

        assert [step.blocked for step in shown[0].steps] == [False, True]
        assert statuses(results) == ["ok", "not_found"]
        assert len(store.rows("SELECT 1 FROM notes WHERE name = 'n'")) == 1

    def test_a_plan_of_which_nothing_can_run_asks_nothing(self, host: Host) -> None:
        """There is nothing to say yes to."""
        whole = plan(TINYAGENT16, 'create_reminder("milk", "when pigs fly")')

        assert statuses(run(whole, TINYAGENT16, host, Callbacks())) == ["not_found"]


class TestChoices:
    """An unclear name is settled by the user before anything is approved."""

    def test_an_unclear_lookup_is_settled(self, recorder: Any, host: Host) -> None:
        """The choice becomes the step's value; its label, without the detail, its name."""
        recorder.results["x"] = TWO
        order: list[str] = []
        tools = recorder.tools()
        callbacks = Callbacks(
            approve=lambda shown: not order.append("approve"),
            choose=lambda unclear: order.append("choose") or unclear.candidates[0],  # type: ignore[func-returns-value]
        )

        results = run(plan(tools, 'look("x")', 'write("w", "${1}")'), tools, host, callbacks)

        assert order == ["choose", "approve"]
        assert results[0].result == Ok(
            value=Value(text="1st", fields={"name": "first", "text": "1st"}), note="first: 1st"
        )
        assert recorder.received[-1] == ("write", {"name": "w", "text": "1st", "note": None})

    def test_a_choice_without_a_value_is_not_found(self, recorder: Any, host: Host) -> None:
        """It says what is missing of what was chosen."""
        recorder.results["x"] = TWO
        tools = recorder.tools()

        results = run(
            plan(tools, 'look("x")'), tools, host, Callbacks(choose=lambda a: a.candidates[1])
        )

        assert results[0].result == NotFound(what="text of second")

    def test_an_unclear_name_in_an_argument_is_settled(self, store: Store, host: Host) -> None:
        """Before the question, so that the preview has the person."""
        shown: list[Preview] = []
        callbacks = Callbacks(
            approve=lambda preview: not shown.append(preview),
            choose=lambda unclear: unclear.candidates[1],
        )
        whole = plan(TINYAGENT16, 'compose_new_email(["David"], [], "Hi")')

        run(whole, TINYAGENT16, host, callbacks)

        assert dict(shown[0].steps[0].args)["recipients"].startswith("David Mensah <")

    @pytest.mark.parametrize("choose", [None, lambda unclear: None], ids=["nobody", "none"])
    def test_without_a_choice_it_stays_unclear(
        self, recorder: Any, host: Host, choose: Any
    ) -> None:
        """And what reads it does not run."""
        recorder.results["x"] = TWO
        tools = recorder.tools()
        whole = plan(tools, 'look("x")', 'write("w", "${1}")')

        results = run(whole, tools, host, Callbacks(approve=lambda shown: True, choose=choose))

        assert statuses(results) == ["ambiguous", "skipped"]


class TestInterruption:
    """Ctrl-C stops the run at once and says what became of each step."""

    def test_what_has_not_begun_never_does(self, recorder: Any, host: Host) -> None:
        """A tool that hangs is reported as unknown and not waited for."""
        release = threading.Event()

        def meet(name: str) -> None:
            if name == "hangs":
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                release.wait(timeout=20)

        recorder.meet = meet
        tools = recorder.tools()
        whole = plan(tools, 'look("done")', 'write("hangs")', 'write("later", "${2}")')

        try:
            with pytest.raises(Stopped) as stopped:
                run(whole, tools, host, YES)
        finally:
            release.set()

        assert statuses(stopped.value.results) == ["ok", "unknown", "skipped"]
        assert [step.tool for step in stopped.value.effects] == ["write", "write"]
        assert "later" not in {name for _, name in recorder.events}

    def test_a_tool_that_ends_in_a_moment_is_reported_as_done(
        self, recorder: Any, host: Host
    ) -> None:
        """What took effect is not called unknown, even if Ctrl-C strikes as it ends."""
        # A signal to the tool's own thread reaches the waiting one only with the tool's report.
        recorder.meet = lambda name: signal.raise_signal(signal.SIGINT)
        tools = recorder.tools()

        with pytest.raises(Stopped) as stopped:
            run(plan(tools, 'write("a")'), tools, host, YES)

        assert statuses(stopped.value.results) == ["ok"]
