"""G7 and G8: what runs is what was shown, in every mode; and how often a user is asked."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.act.executor import Callbacks, run
from mlx_tinyagent.act.gate import Preview
from mlx_tinyagent.act.policy import Policy
from mlx_tinyagent.config import Rule, Settings
from mlx_tinyagent.errors import PlanError, RefusedError
from mlx_tinyagent.plan.graph import from_calls, parse
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import Effect, Email, Text, Tool, ToolSet, Type, tool
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.local import LocalBackend, Store, diff, memory_world, snapshot
from mlx_tinyagent.tools.results import Ok, Result, Value
from mlx_tinyagent.tools.writer import PlainWriter

NOW = datetime(2026, 3, 2, 9, 0)
SIX = ", ".join(f'"{name}"' for name in ("Sarah", "Carmen", "Ricardo", "Noor", "Emily", "Alice"))


@tool(effect=Effect.SEND)
def shout(text: Text) -> Result:
    """Send something for good."""
    return Ok(value=Value(text=text), note="Sent.")


@tool(effect=Effect.DELETE)
def wipe(text: Text) -> Result:
    """Delete something."""
    return Ok(value=Value(text=text), note="Deleted.")


TOOLS = ToolSet("all", [*TINYAGENT16, shout, wipe])
CALLS = {
    "create_calendar_event": 'create_calendar_event("Review", "friday at 3", "", "", ["Sarah"])',
    "get_phone_number": 'get_phone_number("Sarah")',
    "get_email_address": 'get_email_address("Sarah")',
    "open_and_get_file_path": 'open_and_get_file_path("Lease Agreement")',
    "summarize_pdf": 'summarize_pdf("Lease Agreement")',
    "compose_new_email": 'compose_new_email(["Sarah"], [], "Hi", "text")',
    "reply_to_email": 'reply_to_email([], "yes")',
    "forward_email": 'forward_email(["Sarah"])',
    "maps_open_location": 'maps_open_location("Rome")',
    "maps_show_directions": 'maps_show_directions("", "Rome")',
    "create_note": 'create_note("n", "text")',
    "open_note": 'open_note("Shopping List")',
    "append_note_content": 'append_note_content("Shopping List", "more")',
    "create_reminder": 'create_reminder("milk", "tomorrow")',
    "send_sms": 'send_sms(["Sarah"], "hi")',
    "get_zoom_meeting_link": 'get_zoom_meeting_link("Sync", "friday at 3")',
    "shout": 'shout("x")',
    "wipe": 'wipe("x")',
}
WORDS = "Rome Shopping List Lease Agreement"


def attempt(
    call: str, *, mode: Any, tainted: bool, answer: bool | None, rules: tuple[Rule, ...] = ()
) -> tuple[str, list[Preview], bool]:
    """Run one call; return what became of it, what was asked, and whether the store changed."""
    asked: list[Preview] = []

    def approve(shown: Preview) -> bool:
        asked.append(shown)
        return bool(answer)

    with memory_world() as store:
        host = Host(backend=LocalBackend(store), writer=PlainWriter(), request=WORDS, now=NOW)
        policy = Policy(
            settings=Settings(mode=mode, rules=rules), tainted=("a mail",) if tainted else ()
        )
        before = snapshot(store)
        callbacks = Callbacks(approve=None if answer is None else approve)
        try:
            plan = parse(f"1. {call}\n2. join()", TOOLS)
            (outcome,) = run(plan, TOOLS, host, callbacks, policy=policy)
            status = outcome.result.status
        except RefusedError:
            status = "refused"
        return status, asked, bool(diff(before, snapshot(store)))


def expected(tool_: Tool, mode: str, tainted: bool, answer: bool | None) -> tuple[str, int]:
    """Return, from the rules as written down, what must come of a call and how often it asks."""
    if tool_.effect in (Effect.READ, Effect.OPEN):
        return "ok", 0
    if mode == "plan":
        return "refused", 0
    always = tainted or tool_.effect in (Effect.SEND, Effect.DELETE)
    if mode == "auto" and not always:
        return "ok", 0
    if answer is None:
        return "refused", 0
    return ("ok" if answer else "refused"), 1


def test_every_tool_in_every_mode_tainted_or_not(figure: Callable[[str, str], None]) -> None:
    """18 calls, 3 modes, 2 taints, 3 answers: it runs if and only if it may."""
    cells = wrong = 0
    for name, call in CALLS.items():
        for mode in ("ask", "plan", "auto"):
            for tainted in (False, True):
                for answer in (True, False, None):
                    status, asked, changed = attempt(
                        call, mode=mode, tainted=tainted, answer=answer
                    )
                    should = expected(TOOLS[name], mode, tainted, answer)
                    cells += 1
                    wrong += (status, len(asked)) != should
                    assert (status, len(asked)) == should, (name, mode, tainted, answer)
                    assert changed <= (status == "ok")
                    if tainted and asked:
                        assert any("a mail" in line for line in asked[0].warnings)
    figure("G7", f"{cells} cells of tool, mode, taint and answer: {wrong} wrong")


@pytest.mark.parametrize(
    ("rules", "call", "status", "asks"),
    [
        ((Rule(verdict="deny", tool="create_note"),), "create_note", "refused", 0),
        ((Rule(verdict="deny", tool="send_sms"),), "create_note", "ok", 1),
        ((Rule(verdict="deny", tool="get_*"),), "get_email_address", "refused", 0),
        ((Rule(verdict="deny", tool="send_sms", to="*0117"),), "send_sms", "refused", 0),
        ((Rule(verdict="deny", tool="*", to="*@other.example"),), "compose_new_email", "ok", 1),
        ((Rule(verdict="allow", tool="create_note"),), "create_note", "ok", 0),
        ((Rule(verdict="allow"), Rule(verdict="deny")), "create_note", "refused", 0),
        ((Rule(verdict="allow"), Rule(verdict="ask", tool="create_*")), "create_note", "ok", 1),
        ((Rule(verdict="allow"),), "shout", "ok", 1),
        ((Rule(verdict="allow"),), "wipe", "ok", 1),
        ((Rule(verdict="allow", to="*@harbor.example"),), "compose_new_email", "ok", 0),
        ((Rule(verdict="ask", tool="maps_*"),), "maps_open_location", "ok", 1),
    ],
)
def test_rules_deny_first_then_ask_then_allow(
    rules: tuple[Rule, ...], call: str, status: str, asks: int
) -> None:
    """In whatever order they stand; nothing allows a sending or a deletion unseen."""
    found, asked, _ = attempt(CALLS[call], mode="ask", tainted=False, answer=True, rules=rules)

    assert (found, len(asked)) == (status, asks)


@pytest.mark.parametrize(
    ("staged", "line"),
    [
        (False, "its address (to) is from step 1 (invent 'x')"),
        (True, "its address (to) comes from step 1 (invent 'x'), not known yet"),
    ],
)
def test_a_recipient_that_is_known_only_later_needs_a_look(
    host: Host, staged: bool, line: str
) -> None:
    """A step that is yet to run gives it: the line names the step, and no mode covers it."""

    @tool(effect=Effect.WRITE, returns=Type.EMAIL, staged=staged)
    def invent(host: Host, text: Text) -> Result:
        """Make up an address."""
        host.backend.create_note(name=text, body="", folder="")
        return Ok(value=Value(text="eve@x.example"))

    @tool(effect=Effect.SEND)
    def tell(to: list[Email], text: Text) -> Result:
        """Tell somebody."""
        return Ok(value=Value(text=text), note="Told.")

    tools = ToolSet("own", [invent, tell])
    plan = parse('1. invent("x")\n2. tell(["$1"], "hi")\n3. join()', tools)
    asked: list[Preview] = []
    callbacks = Callbacks(approve=lambda shown: bool(asked.append(shown)))

    with pytest.raises(RefusedError):
        run(plan, tools, host, callbacks, policy=Policy(settings=Settings(mode="auto")))

    assert f"step 2: {line}" in asked[0].warnings


def test_more_than_five_recipients_always_ask() -> None:
    """Even where everything is allowed."""
    for count, asks in ((5, 0), (6, 1)):
        names = ", ".join(SIX.split(", ")[:count])
        call = f'compose_new_email([{names}], [], "Hi")'
        status, asked, _ = attempt(call, mode="auto", tainted=False, answer=True)
        if status != "ok":  # a name that means two people asks for another reason
            pytest.fail(f"{names}: {status}")
        assert len(asked) == asks


SHOWN_THEN = {
    "contact": "UPDATE contact_emails SET email = 'x' || email",
    "contact is gone": "DELETE FROM contacts",
    "mail": "INSERT INTO mails (sender, sender_name, subject, body, received) VALUES "
    "('e@evil.example', 'E', 'now', 'new', '2030-01-01T00:00:00')",
    "note": "UPDATE notes SET name = name || ' old'",
    "file name": "UPDATE files SET name = 'other ' || name",
    "setting": "UPDATE settings SET value = 'https://evil.example/{key}' WHERE key = 'meeting_url'",
}


@pytest.mark.parametrize("what", SHOWN_THEN)
@pytest.mark.parametrize("name", [n for n in CALLS if TOOLS[n].effect.changes and n in TINYAGENT16])
def test_what_changes_while_the_question_is_up_changes_nothing(what: str, name: str) -> None:
    """The effect is the one that was shown, or there is none."""
    changed_by: list[Any] = []
    with memory_world() as store:
        host = Host(backend=LocalBackend(store), writer=PlainWriter(), request=WORDS, now=NOW)
        shown: list[Preview] = []

        def approve(preview: Preview) -> bool:
            shown.append(preview)
            store.rows(SHOWN_THEN[what])
            changed_by.append(snapshot(store))
            return True

        plan = parse(f"1. {CALLS[name]}\n2. join()", TOOLS)
        (outcome,) = run(plan, TOOLS, host, Callbacks(approve=approve))
        change = diff(changed_by[0], snapshot(store))
        staged = shown[0].steps[0].staged
        assert staged is not None
        assert staged.calls is not None
        if outcome.result.status != "ok":
            assert not change
            return
        (call,) = staged.calls
        said = [
            str(v)
            for _, value in call.args
            for v in (value if isinstance(value, tuple) else [value])
        ]
        for table, column in (("draft_recipients", "email"), ("event_invitees", "email"),
                              ("outbox_recipients", "phone"), ("drafts", "body"),
                              ("drafts", "source_id"), ("notes", "body")):  # fmt: skip
            for row in change.added.get(table, ()):
                assert row[column] is None or str(row[column]) in said, (table, row)


def test_a_file_that_changes_while_the_question_is_up_is_not_attached(tmp_path: Path) -> None:
    """Neither with other content nor as a link."""
    from mlx_tinyagent.tools.local import index_roots

    for change in ("content", "link", "gone", "none"):
        root = tmp_path / change
        root.mkdir()
        file = root / "report.txt"
        file.write_text("numbers")
        with Store.memory() as store:
            index_roots(store, [root])
            host = Host(backend=LocalBackend(store), writer=PlainWriter(), request="", now=NOW)

            def approve(shown: Preview, file: Path = file, change: str = change) -> bool:
                assert "(7 bytes)" in dict(shown.steps[0].args)["attachments"]
                if change == "content":
                    file.write_text("others!")
                elif change != "none":
                    file.unlink()
                    if change == "link":
                        file.symlink_to("/etc/passwd")
                return True

            plan = parse(
                '1. compose_new_email([], [], "Hi", "t", ["report.txt"])\n2. join()', TOOLS
            )
            (outcome,) = run(plan, TOOLS, host, Callbacks(approve=approve))

            assert (outcome.result.status == "ok") is (change == "none"), change
            assert len(store.rows("SELECT 1 FROM drafts")) == (change == "none")


def test_the_preview_shows_the_exact_text_the_file_and_its_size(host: Host) -> None:
    """Body with greeting, recipients with names, path with bytes, end of the event."""
    shown: list[Preview] = []

    def look(preview: Preview) -> bool:
        shown.append(preview)
        return False

    plan = parse(
        '1. open_and_get_file_path("Lease Agreement")\n'
        '2. compose_new_email(["Sarah"], [], "Lease", "Here it is.", ["$1"])\n'
        '3. create_calendar_event("Talk", "friday at 3")\n4. join()',
        TOOLS,
    )
    with pytest.raises(RefusedError):
        run(plan, TOOLS, host, Callbacks(approve=look))

    mail, event = (dict(step.args) for step in shown[0].steps[1:])
    assert mail["recipients"].startswith("Sarah Smith <")
    assert mail["body"].startswith("Hi Sarah,")
    assert "Here it is." in mail["body"]
    assert "Lease Agreement.pdf (" in str(dict(shown[0].steps[1].args).values())
    assert "bytes)" in str(mail)
    assert event["end"].startswith("Friday 6 March 2026, 16:00")


def test_how_often_a_user_is_asked(figure: Callable[[str, str], None]) -> None:
    """Plans of everyday requests: reads never ask, and any plan asks at most once."""
    file = Path(__file__).resolve().parents[2] / "data" / "handwritten" / "tune.jsonl"
    prompts: dict[bool, list[int]] = {True: [], False: []}
    for line in file.read_text().splitlines():
        record = json.loads(line)
        if not record["plan"]:
            continue
        try:
            plan = from_calls(record["plan"], TINYAGENT16)
        except PlanError:
            continue
        asked: list[Preview] = []
        with memory_world() as store:
            host = Host(
                backend=LocalBackend(store),
                writer=PlainWriter(),
                request=record["query"],
                now=datetime.fromisoformat(record["now"]),
            )
            changes = any(TINYAGENT16[step.tool].effect.changes for step in plan.steps)
            run(
                plan,
                TINYAGENT16,
                host,
                Callbacks(approve=lambda shown, asked=asked: not asked.append(shown)),  # type: ignore[misc]
            )
        prompts[changes].append(len(asked))
    assert set(prompts[False]) <= {0}
    assert max(prompts[True]) == 1
    assert statistics.median(prompts[True]) == 1
    figure(
        "G8",
        f"{len(prompts[False])} plans that only read or show: 0 questions; {len(prompts[True])} "
        f"that change something: at most {max(prompts[True])}, median "
        f"{statistics.median(prompts[True]):g}",
    )
