"""G3 and G4: bad graphs are refused before anything runs; references are values, filled once."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from mlx_tinyagent.act.executor import Callbacks, run
from mlx_tinyagent.errors import PlanError
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.tools.backend import Host
from mlx_tinyagent.tools.base import Effect, Template, Text, ToolSet, Type, literal, tool
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.results import Ok, Result, Value

LOOK = 'get_email_address("Sarah")'
NOTE = 'create_note("a", "b")'
# Steps as written, the rule that is broken, and the line that is named.
BAD: list[tuple[str, str, int | None]] = [
    # references
    ('1. create_note("a", "${1}")\n2. join()', "forward-reference", 1),
    ('1. create_note("a", "${2}")\n2. create_note("b", "c")\n3. join()', "forward-reference", 1),
    ('1. create_note("a", "${3}")\n2. create_note("b", "${1}")\n3. join()', "forward-reference", 1),
    ('1. compose_new_email(["$2"])\n2. get_email_address("A")\n3. join()', "forward-reference", 1),
    ('1. compose_new_email(["$1"])\n2. join()', "forward-reference", 1),
    ('1. compose_new_email(["$9"])\n2. join()', "forward-reference", 1),
    ('1. compose_new_email(["$0"])\n2. join()', "forward-reference", 1),
    (f'1. {LOOK}\n2. create_note("a", "${{3}}")\n3. {NOTE}\n4. join()', "forward-reference", 2),
    (f'1. {LOOK}\n2. create_note("a", "${{0}}")\n3. join()', "forward-reference", 2),
    (f'1. {LOOK}\n2. create_note("a", "${{9999}}")\n3. join()', "forward-reference", 2),
    (f'1. {LOOK}\n2. create_note("a", "${{1.phone}}")\n3. join()', "field", 2),
    (f'1. {LOOK}\n2. send_sms(["$1"], "hi")\n3. join()', "reference-type", 2),
    (f'1. {NOTE}\n2. compose_new_email(["$1"])\n3. join()', "reference-type", 2),
    (f'1. {NOTE}\n2. create_note("a", "${{1}}")\n3. join()', "reference-type", 2),
    ('1. open_note("a")\n2. compose_new_email(["$1"])\n3. join()', "reference-type", 2),
    ('1. open_note("a")\n2. send_sms(["$1"], "x")\n3. join()', "reference-type", 2),
    ('1. open_note("a")\n2. create_reminder("x", "$1")\n3. join()', "reference-type", 2),
    (
        f'1. {LOOK}\n2. create_reminder("a", "tomorrow", "", "", "$1")\n3. join()',
        "reference-type",
        2,
    ),
    # numbers
    (f"1. {LOOK}\n3. join()", "order", 2),
    (f"1. {LOOK}\n1. {NOTE}\n2. join()", "order", 2),
    (f"2. {LOOK}\n3. join()", "order", 1),
    (f"0. {LOOK}\n1. join()", "order", 1),
    (f"1. {LOOK}\n3. {NOTE}\n2. join()", "order", 2),
    # names
    ('1. launch_rockets("now")\n2. join()', "unknown-tool", 1),
    ('1. Create_note("a")\n2. join()', "unknown-tool", 1),
    (f"1. {LOOK}\n2. rm()\n3. join()", "unknown-tool", 2),
    ("1. __import__()\n2. join()", "unknown-tool", 1),
    # arity
    ("1. create_note()\n2. join()", "arity", 1),
    ('1. create_note("a", "b", "c", "d")\n2. join()', "arity", 1),
    ('1. create_note("a", title="b")\n2. join()', "arity", 1),
    ('1. create_note("a", name="b")\n2. join()', "arity", 1),
    ('1. send_sms(["1"])\n2. join()', "arity", 1),
    ('1. send_sms(message="x")\n2. join()', "arity", 1),
    ('1. create_calendar_event("x")\n2. join()', "arity", 1),
    ('1. get_zoom_meeting_link("x")\n2. join()', "arity", 1),
    (f"1. {LOOK}\n2. join(1)", "arity", 2),
    ("1. ask()\n2. join()", "arity", 1),
    ('1. ask("a", "b")\n2. join()', "arity", 1),
    # types
    ('1. create_reminder("a", "tomorrow", "", "", "high")\n2. join()', "type", 1),
    ('1. create_reminder("a", "tomorrow", "", "", 1.5)\n2. join()', "type", 1),
    ('1. create_reminder("a", "tomorrow", "", "", 0, "yes")\n2. join()', "type", 1),
    ('1. create_reminder("a", ["tomorrow"])\n2. join()', "type", 1),
    ('1. create_note(["a", "b"])\n2. join()', "type", 1),
    ('1. maps_show_directions("", "Rome", "fly")\n2. join()', "type", 1),
    ('1. maps_show_directions("", "Rome", 1)\n2. join()', "type", 1),
    ('1. get_zoom_meeting_link("x", "tomorrow", "an hour")\n2. join()', "type", 1),
    ('1. get_zoom_meeting_link("x", "tomorrow", True)\n2. join()', "type", 1),
    ("1. create_note(True)\n2. join()", "type", 1),
    ("1. ask(1)\n2. join()", "type", 1),
    ('1. ask("")\n2. join()', "type", 1),
    ("1. more_tools([])\n2. join()", "type", 1),
    # limits
    ("".join(f"{k}. {LOOK}\n" for k in range(1, 18)) + "18. join()", "steps", None),
    ("".join(f"{k}. {LOOK}\n" for k in range(1, 1001)) + "1001. join()", "steps", None),
    ("".join(f"{k}. {NOTE}\n" for k in range(1, 7)) + "7. join()", "effects", None),
    (f'1. create_note("a", "{"x" * 8193}")\n2. join()', "argument-size", 1),
    (f'1. create_note("a", "{"x" * 70_000}")\n2. join()', "plan-size", None),
    ("1. send_sms([" + ", ".join(['"1"'] * 65) + '], "x")\n2. join()', "argument-size", 1),
    ('1. ask("' + "x" * 401 + '")\n2. join()', "type", 1),
    # endings and control steps
    (f"1. {LOOK}", "no-join", None),
    ("", "no-join", None),
    (f'1. ask("who?")\n2. {LOOK}\n3. join()', "control", 1),
    (f'1. {LOOK}\n2. more_tools(["x"])\n3. join()', "control", 2),
    ('1. create_note("a\n2. join()', "cut", None),
    ('1. create_note("a"\n2. join()', "cut", None),
    ('1. create_note("\ud800")\n2. join()', "encoding", None),
]


@pytest.mark.parametrize(("text", "rule", "line"), BAD, ids=range(len(BAD)))
def test_a_bad_graph_is_refused_by_name(text: str, rule: str, line: int | None) -> None:
    """With the rule that it breaks and, where it is one step's fault, its line."""
    with pytest.raises(PlanError) as error:
        parse(text, TINYAGENT16)
    assert error.value.rule == rule
    assert line is None or error.value.line == line


def chain_tools(put: Callable[[str], None], values: dict[str, str]) -> ToolSet:
    """Return a tool that gives a value by name and one that takes text."""

    @tool(effect=Effect.READ, returns=Type.TEXT, fields=("part",))
    def give(name: Text) -> Result:
        """Give a value."""
        value = values[name]
        return Ok(value=Value(text=value, fields={"part": value[::-1]}))

    @tool(effect=Effect.WRITE)
    def take(text: Template, plain: Text = "") -> Result:
        """Take a text."""
        put(text)
        return Ok(value=Value(text="taken"))

    return ToolSet("chain", [give, take])


def test_random_graphs_are_accepted_exactly_if_they_only_look_back(
    cases: Callable[[str, int], int], figure: Callable[[str, str], None]
) -> None:
    """An oracle of its own says which: numbers in order, references to earlier steps, limits."""
    rng = random.Random(3)
    tools = chain_tools(lambda text: None, {})
    count, good, broken = cases("G3", 5_000), 0, set[str]()
    for _ in range(count):
        steps, valid, effects = [], True, 0
        total = rng.randrange(1, 20)
        for position in range(1, total + 1):
            number = position if rng.random() < 0.99 else rng.randrange(0, 22)
            valid &= number == position
            if rng.random() < 0.75:
                steps.append(f'{number}. give("a")')
                continue
            low = 1 if rng.random() < 0.9 else 0
            target = rng.randrange(low, max(position, 2) if rng.random() < 0.9 else total + 3)
            effects += 1
            valid &= 1 <= target < position and "give" in steps[target - 1]
            steps.append(f'{number}. take("x ${{{target}}}")')
        valid &= total <= 16 and effects <= 5
        text = "\n".join([*steps, f"{total + 1}. join()"])
        try:
            parse(text, tools)
            accepted = True
        except PlanError as error:
            accepted = False
            broken.add(error.rule)
        assert accepted is valid, text
        good += accepted
    assert 0.05 < good / count < 0.95
    assert {"order", "forward-reference", "steps", "effects"} <= broken
    figure("G3", f"{len(BAD)} bad graphs by rule and line, {count:,} random ones: 0 wrong")


LITERALS = (
    *("it costs $15", "$1", "$2.part", " ", '"quoted"', "'", "\\", "back\\slash", "{1}", "$ {1}"),
    *("${", "}", "{{2}}", "line\nbreak", "é😀", "$$", "${a}", "${}", "100%", "%s", "result-1--abc"),
)
VALUES = (
    *(
        "$2",
        "${2}",
        "${1.part}",
        "$1",
        '"; drop',
        "\\${1}",
        "plain",
        "",
        " two words ",
        "1. join()",
    ),
    *("join()", 'x"y', "a\nb", "${3}${4}", "[result of step 1]", "$15"),
)


def test_references_are_values_filled_once(
    host: Host, cases: Callable[[str, int], int], figure: Callable[[str, str], None]
) -> None:
    """Whatever literals and values look like, ``${k}`` is replaced once and nothing else is."""
    rng = random.Random(4)
    received: list[str] = []
    values: dict[str, str] = {}
    tools = chain_tools(received.append, values)
    count = cases("G4", 2_000)
    for number in range(count):
        names = [f"v{k}" for k in range(rng.randrange(1, 4))]
        values.update({name: rng.choice(VALUES) for name in names})
        written, expected, refs = "", "", 0
        for _ in range(rng.randrange(1, 7)):
            if rng.random() < 0.5:
                part = rng.choice(LITERALS)
                written += part
                expected += part
            else:
                k, field = rng.randrange(len(names)), rng.random() < 0.3
                written += f"${{{k + 1}{'.part' if field else ''}}}"
                refs += 1
                value = values[names[k]]
                expected += value[::-1] if field else value
        if len(re.findall(r"\$\{\d+(?:\.part)?\}", written)) != refs:
            continue  # two literals met and made a reference of their own
        if re.fullmatch(r"\$\d(\.part)?|", written):
            continue  # as a whole argument these are references
        lines = [f"{k}. give({literal(name)})" for k, name in enumerate(names, start=1)]
        last = len(lines) + 1
        text = "\n".join([*lines, f"{last}. take({literal(written)})", f"{last + 1}. join()"])
        plan = parse(text, tools)
        received.clear()
        results = run(plan, tools, host, Callbacks(approve=lambda shown: True))
        assert isinstance(results[-1].result, Ok), (number, text, results[-1])
        assert received == [expected], text
    figure("G4", f"{count:,} plans with references among literals that look like them: 0 wrong")


REGRESSIONS: list[tuple[str, Any]] = [
    ('take("Pay $15 to ${1}")', "Pay $15 to ann@x.example"),
    ('take("it costs $1 only")', "it costs $1 only"),
    ('take("a\\nb ${1}")', "a\nb ann@x.example"),
    ('take("${1}, PhD")', "ann@x.example, PhD"),
]


@pytest.mark.parametrize(("line", "expected"), REGRESSIONS)
def test_texts_that_other_agents_get_wrong(host: Host, line: str, expected: str) -> None:
    """Prices, addresses beside them, line breaks in quotes, commas."""
    received: list[str] = []
    tools = chain_tools(received.append, {"ann": "ann@x.example"})

    run(
        parse(f'1. give("ann")\n2. {line}\n3. join()', tools),
        tools,
        host,
        Callbacks(approve=lambda shown: True),
    )

    assert received == [expected]
