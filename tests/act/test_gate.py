"""What was shown is what runs: previews, approvals and the one call of a tool."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

import pytest

from mlx_tinyagent.act.gate import (
    Preview,
    approve,
    execute,
    find_effect,
    preview,
    send,
    stage,
    take_back,
)
from mlx_tinyagent.act.guard import EffectCall, Marks, Staged
from mlx_tinyagent.act.resolve import Choices, Prepared, prepare
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import Store, snapshot
from mlx_tinyagent.tools.results import Failed, NotFound, Ok, Origin, Result, Skipped, Value

NOW = datetime(2026, 3, 2, 9, 0)  # a Monday


def plan(*lines: str, tools: ToolSet = TINYAGENT16) -> Plan:
    """Read a plan from its lines; numbers and join() are added."""
    numbered = [f"{number}. {line}" for number, line in enumerate((*lines, "join()"), start=1)]
    return parse("\n".join(numbered), tools)


def show(
    whole: Plan,
    host: Host,
    results: Mapping[int, Result] | None = None,
    tools: ToolSet = TINYAGENT16,
    choices: Choices | None = None,
) -> Preview:
    """Preview a plan whose lookups have these results."""
    known = results or {}
    prepared = {
        step.id: prepare(step, tools[step.tool], host, known, choices)
        for step in whole.steps
        if step.id not in known
    }
    return preview(whole, tools, known, prepared, now=NOW)


def only(shown: Preview) -> Prepared:
    """Return the one step that will run."""
    (step,) = [item.prepared for item in shown.steps if item.prepared is not None]
    return step


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine stands in Berlin, whatever it says."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class TestPreview:
    """A preview has everything that is known, and why a step will not run."""

    def test_it_shows_people_dates_and_texts_as_they_will_be_used(self, host: Host) -> None:
        """Name and address, weekday and time, exact text; defaults are left out."""
        shown = show(
            plan('create_calendar_event("Review", "friday at 3", "", "", ["Sarah"], "Bring $5")'),
            host,
        )

        args = dict(shown.steps[0].args)
        assert args["title"] == "Review"
        assert args["start_date"] == "Friday 6 March 2026, 15:00 CET"
        assert args["invitees"].startswith("Sarah Smith <")
        assert args["notes"] == "Bring $5"
        assert set(args) == {"title", "start_date", "invitees", "notes"}

    def test_a_day_without_a_time_says_so(self, host: Host) -> None:
        """Midnight is not shown as if it had been asked for."""
        shown = show(plan('create_reminder("milk", "tomorrow")'), host)

        assert dict(shown.steps[0].args)["due_date"] == "tomorrow, Tuesday 3 March 2026 (all day)"

    def test_values_that_were_looked_up_are_shown_with_their_owner(self, host: Host) -> None:
        """The recipient is no bare ``$1``."""
        found = Ok(
            value=Value(text="s@x.example", fields={"name": "Sarah", "email": "s@x.example"})
        )
        whole = plan('get_email_address("Sarah")', 'compose_new_email(["$1"], [], "Hi", "To ${1}")')

        args = dict(show(whole, host, {1: found}).steps[1].args)

        assert args["recipients"] == "Sarah <s@x.example>"
        assert args["context"] == "To s@x.example"

    def test_a_step_that_has_still_to_run_is_named(self, host: Host) -> None:
        """Opening a file waits for the approval; its path cannot be shown yet."""
        whole = plan('open_and_get_file_path("Budget")', 'reply_to_email([], "", ["$1"])')

        assert dict(show(whole, host).steps[1].args)["attachments"] == "[result of step 1]"

    def test_a_file_is_shown_with_its_size(self, host: Host) -> None:
        """As far as sizes are known."""
        path = next(iter(host.backend.files())).path
        whole = plan(f'reply_to_email([], "", ["{path}"])')
        ready = prepare(whole.steps[0], TINYAGENT16["reply_to_email"], host, {})
        assert isinstance(ready, Prepared)
        staged = stage(ready, {}, host, Marks())

        def attached(**known: Any) -> str:
            shown = preview(
                whole, TINYAGENT16, {}, {1: ready}, now=NOW, staged={1: staged}, **known
            )
            return " ".join(text for _, text in shown.steps[0].args)

        assert "1,234,567 bytes" in attached(sizes={path: 1_234_567})
        assert "1,234,567 bytes" not in attached()

    def test_the_digest_covers_the_values_that_will_be_used(self, host: Host) -> None:
        """Two previews that look the same and would do something else differ."""
        shown = show(plan('create_note("n", "t")'), host)
        step = only(shown)
        other = dataclasses.replace(step, args=MappingProxyType({**step.args, "content": "u"}))

        def with_prepared(prepared: Prepared) -> Preview:
            steps = (dataclasses.replace(shown.steps[0], prepared=prepared),)
            return dataclasses.replace(shown, steps=steps)

        assert with_prepared(step).digest == shown.digest
        assert with_prepared(other).digest != shown.digest

    @pytest.mark.parametrize(
        ("line", "what"),
        [
            ('create_reminder("milk", "when pigs fly")', "date in 'when pigs fly'"),
            ('send_sms(["Zaphod"], "hi")', "contact 'Zaphod'"),
            ('reply_to_email([], "", ["Tax Return 2031"])', "file 'Tax Return 2031'"),
        ],
    )
    def test_what_will_not_run_is_known_before_the_question(
        self, host: Host, line: str, what: str
    ) -> None:
        """With the reason; the rest of the plan is still shown."""
        shown = show(plan(line, 'create_note("n", "t")'), host)

        assert shown.steps[0].problem == NotFound(what=what)
        assert shown.steps[0].blocked
        assert not shown.steps[1].blocked
        assert shown.changes
        assert not shown.complete

    def test_dependants_of_what_will_not_run_will_not_run(self, host: Host) -> None:
        """Directly or through another step."""
        whole = plan(
            'get_email_address("Zaphod")',
            'get_zoom_meeting_link("Chat", "tomorrow at 3pm", 60, ["$1"])',
            'create_note("n", "Join ${2}")',
        )
        shown = show(whole, host, {1: NotFound(what="contact 'Zaphod'")})

        assert [step.problem for step in shown.steps] == [
            None,
            Skipped(reason="it needs step 1"),
            Skipped(reason="it needs step 2"),
        ]
        assert not shown.changes
        assert not shown.complete

    def test_reads_and_opening_change_nothing(self, host: Host) -> None:
        """They need no approval."""
        assert not show(
            plan('open_note("Shopping List")', 'maps_open_location("Rome")'), host
        ).changes


class TestApproval:
    """An approval covers the values that were shown, and no others."""

    def test_it_covers_the_steps_that_were_shown(self, host: Host, store: Store) -> None:
        """The tool runs with exactly these values."""
        shown = show(plan('create_note("n", "text")'), host)

        done = execute(only(shown), {}, host, approve(shown))

        assert isinstance(done.result, Ok)
        assert done.args["content"] == "text"
        assert store.rows("SELECT body FROM notes WHERE name = 'n'") == [{"body": "text"}]

    @pytest.mark.parametrize("what", ["argument", "step", "tool", "origin", "other plan", "none"])
    def test_anything_else_is_refused_and_changes_nothing(
        self, host: Host, store: Store, what: str
    ) -> None:
        """A changed argument, number, tool, or the approval of something else."""
        shown = show(plan('create_note("n", "text")', 'create_note("m", "other")'), host)
        other = show(plan('create_note("n", "another text")'), host)
        step = shown.steps[0].prepared
        assert step is not None
        approval = approve(shown)
        match what:
            case "argument":
                changed = MappingProxyType({**step.args, "content": "changed"})
                step = dataclasses.replace(step, args=changed)
            case "step":
                step = dataclasses.replace(step, step=2)
            case "tool":
                tool = dataclasses.replace(step.tool, name="append_note_content")
                step = dataclasses.replace(step, tool=tool)
            case "origin":
                step = dataclasses.replace(step, labels=MappingProxyType({"text": "a lie"}))
            case "other plan":
                approval = approve(other)
            case _:
                approval = None  # type: ignore[assignment]
        before = snapshot(store)

        done = execute(step, {}, host, approval)

        assert done.result == Skipped(reason=f"step {step.step} was not approved")
        assert done.args == {}
        assert snapshot(store) == before

    def test_a_contact_that_changes_after_the_question_changes_nothing(
        self, host: Host, store: Store
    ) -> None:
        """The mail goes to the address that was on the screen."""
        shown = show(plan('compose_new_email(["Sarah"], [], "Hi")'), host)
        (address,) = only(shown).args["recipients"]  # type: ignore[misc]
        store.rows("UPDATE contact_emails SET email = 'evil@x.example'")

        done = execute(only(shown), {}, host, approve(shown))

        assert done.args["recipients"] == [address]

    def test_the_digest_follows_what_is_shown_and_what_is_used(
        self, host: Host, store: Store
    ) -> None:
        """The same plan has the same digest; another text, order or address has another."""
        mail = 'compose_new_email(["Sarah"], [], "Hi")'
        note = 'create_note("n", "text")'
        digest = show(plan(mail, note), host).digest

        assert show(plan(mail, note), host).digest == digest
        assert show(plan(note, mail), host).digest != digest
        assert show(plan(mail, 'create_note("n", "texts")'), host).digest != digest
        assert show(plan(mail), host).digest != digest
        store.rows("UPDATE contact_emails SET email = 'other' || email")
        assert show(plan(mail, note), host).digest != digest

    def test_a_reference_is_filled_with_the_result_alone(self, recorder: Any, host: Host) -> None:
        """What the approval leaves open is what the named step gives."""
        tools = recorder.tools()
        shown = show(plan('show("a")', 'write("b", "got ${1}")', tools=tools), host, tools=tools)
        step = shown.steps[1].prepared
        assert step is not None

        execute(step, {1: Ok(value=Value(text="$1 it"))}, host, approve(shown))

        assert recorder.received == [("write", {"name": "b", "text": "got $1 it", "note": None})]


def test_reads_need_no_approval(recorder: Any, host: Host) -> None:
    """They run without one; a step that changes something does not."""
    tools = recorder.tools()
    shown = show(plan('look("a")', 'write("b")', tools=tools), host, tools=tools)

    results = [
        execute(step.prepared, {}, host, None).result
        for step in shown.steps
        if step.prepared is not None
    ]

    assert isinstance(results[0], Ok)
    assert results[1] == Skipped(reason="step 2 was not approved")
    assert [name for name, _ in recorder.received] == ["look"]


def test_a_tool_that_exits_only_fails(recorder: Any, host: Host) -> None:
    """``sys.exit`` in a tool of others is a failed step."""
    tools = recorder.tools()
    shown = show(plan('leave("a")', tools=tools), host, tools=tools)

    done = execute(only(shown), {}, host, approve(shown))

    assert done.result.status == "failed"
    assert "exit()" in done.result.reason  # type: ignore[union-attr]


class TestStaged:
    """Going through a step before the question, and what it seems to give."""

    def test_what_opening_seems_to_give(self, host: Host) -> None:
        """The path with its file name; a map's address."""
        marks = Marks()
        file, place = (
            stage(only(show(plan(line), host)), {}, host, marks).result
            for line in ('open_and_get_file_path("Budget")', 'maps_open_location("Rome")')
        )

        assert isinstance(file, Ok)
        assert isinstance(place, Ok)
        folder, _, name = file.value.text.rpartition("/")
        assert folder
        assert (file.value.fields["path"], file.value.fields["name"]) == (file.value.text, name)
        assert "Rome" in place.value.text

    def test_a_step_that_would_fail_is_shown_with_its_reason(self, host: Host) -> None:
        """Before the question: it will not run."""
        whole = plan('create_calendar_event("x", "friday at 3", "friday at 2")')
        ready = prepare(whole.steps[0], TINYAGENT16["create_calendar_event"], host, {})
        assert isinstance(ready, Prepared)
        staged = stage(ready, {}, host, Marks())
        assert isinstance(staged.result, Failed)

        shown = preview(whole, TINYAGENT16, {}, {1: ready}, now=NOW, staged={1: staged})

        assert shown.steps[0].problem == staged.result
        assert not shown.asks

    def test_a_step_that_reads_what_failed_is_not_gone_through(self, host: Host) -> None:
        """Before the question and after it: it says which step gave nothing."""
        whole = plan('open_and_get_file_path("Budget")', 'reply_to_email([], "", ["$1"])')
        step = show(whole, host).steps[1].prepared
        assert step is not None
        failed = {1: NotFound(what="file")}
        lost = Skipped(reason="step 1 gave no value")

        assert stage(step, failed, host, Marks()).result == lost
        assert execute(step, failed, host, approve(show(whole, host))).result == lost

    def test_values_are_trusted_no_more_than_what_went_in(self, recorder: Any, host: Host) -> None:
        """Text of others that goes into a look-up makes its result text of others."""
        tools = recorder.tools()
        whole = plan('look("a")', 'look("b", "$1")', tools=tools)
        step = show(whole, host, tools=tools).steps[1].prepared
        assert step is not None
        others = {1: Ok(value=Value(text="x", origin=Origin.UNTRUSTED))}

        seen = stage(step, others, host, Marks())
        done = execute(step, others, host, None)

        for result in (seen.result, done.result):
            assert isinstance(result, Ok)
            assert result.value.origin is Origin.UNTRUSTED

    def test_a_host_that_is_none_of_ours_is_handed_on(self, recorder: Any, host: Host) -> None:
        """Tools of others may be run with any object."""
        tools = recorder.tools()
        step = only(show(plan('look("a")', tools=tools), host, tools=tools))

        done = execute(step, {}, object(), None)

        assert done.args == {"name": "a", "other": ""}
        assert done.result == Ok(value=Value(text="<a>", fields={"half": "a"}))


def test_a_plan_of_which_all_can_run_is_complete(host: Host) -> None:
    """Lookups that ended well count, those that did not do not."""
    whole = plan('get_email_address("Sarah")', 'create_note("n", "t")')

    assert show(whole, host).complete
    assert show(whole, host, {1: Ok(value=Value(text="s@x.example"))}).complete
    assert not show(whole, host, {1: NotFound(what="contact 'Sarah'")}).complete


def test_a_change_is_asked_about_where_policy_says_nothing(host: Host) -> None:
    """A look-up is not."""
    shown = show(plan('get_email_address("Sarah")', 'create_note("n", "t")'), host)

    assert [step.asks for step in shown.steps] == [False, True]


def test_a_backend_without_memory_cannot_take_back_or_find(host: Host) -> None:
    """Its name is in the reason."""

    class Forgetful:
        name = "forgetful"

    backend: Any = Forgetful()
    assert take_back(backend, "note:1") == Failed(
        reason="the backend forgetful cannot take it back"
    )
    assert find_effect(backend, "k").status == "unknown"
    assert send(backend, "mail", {}, key="k") == Failed(reason="the backend forgetful cannot send")


def test_the_digest_follows_the_exact_effects(host: Host) -> None:
    """Two plans that look alike but would do different things have different digests."""
    shown = show(plan('create_note("n", "t")'), host)

    def digest(body: str) -> str:
        call = EffectCall(method="create_note", args=(("name", "n"), ("body", body)))
        staged = Staged(calls=(call,), result=Ok(value=Value(text="n")))
        steps = (dataclasses.replace(shown.steps[0], staged=staged),)
        return dataclasses.replace(shown, steps=steps).digest

    assert digest("t") == digest("t")
    assert len({digest("t"), digest("other"), shown.digest}) == 3
