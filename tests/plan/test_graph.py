"""Raw steps to checked plans: every rule, and typed data flow."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any, Literal

import pytest

from mlx_tinyagent.errors import PlanError
from mlx_tinyagent.plan.graph import (
    DEFAULT_LIMITS,
    Limits,
    as_calls,
    bind,
    from_calls,
    parse,
    without_repeats,
)
from mlx_tinyagent.plan.schema import Argument, Plan, Ref, Step, Template
from mlx_tinyagent.plan.text import MAX_ARGUMENT_CHARS, MAX_PLAN_CHARS, RawStep, read, write
from mlx_tinyagent.tools.base import (
    Email,
    Span,
    ToolSet,
    tool,
)
from mlx_tinyagent.tools.base import Template as Message


@tool(effect="read", returns="email", fields=("name", "email", "line2"))
def find(name: Span) -> str:
    """Look up an address."""
    return name


@tool(effect="read", returns="text")
def look(name: Span = "", limit: int | None = None) -> str:
    """Look something up."""
    return name


@tool(effect="read", returns="status")
def shut(name: Span) -> None:
    """Give nothing to read."""


@tool(effect="send")
def send(
    to: list[Email],
    body: Message,
    size: int = 1,
    weight: float = 0.5,
    mode: Literal["a", "b"] = "a",
    fast: bool = False,
    note: str | None = None,
) -> None:
    """Send something."""


TOOLS = ToolSet("test", [find, look, shut, send])


def only(text: str) -> Step:
    """Bind a plan and return its last step."""
    return parse(text, TOOLS).steps[-1]


def sends(count: int) -> str:
    """A plan of that many steps with an effect."""
    lines = [f'{k}. send(["a@b"], "x")' for k in range(1, count + 1)]
    return "\n".join([*lines, f"{count + 1}. join()"])


def finds(count: int) -> str:
    """A plan of that many reading steps."""
    lines = [f'{k}. find("x")' for k in range(1, count + 1)]
    return "\n".join([*lines, f"{count + 1}. join()"])


# --- plans that pass -----------------------------------------------------------------------------


def test_a_bound_plan_holds_values_references_templates_and_defaults() -> None:
    """Positions, names and defaults end in one value per declared argument."""
    plan = parse(
        '1. find("Dana")\n'
        '2. send(["$1", "b@c"], "Hi ${1.name}, $5 for $1.", mode="b", weight=2)\n'
        "3. join()",
        TOOLS,
    )
    body = Template(("Hi ", Ref(1, "name"), ", $5 for $1."))
    assert plan.steps == (
        Step(1, "find", ("Dana",)),
        Step(2, "send", ((Ref(1), "b@c"), body, 1, 2.0, "b", False, None)),
    )
    assert plan.steps[1].dependencies == (1,)
    assert [str(ref) for ref in plan.steps[1].refs()] == ["$1", "$1.name"]


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("1. join()", Plan()),
        ('1. ask("Which Dana?")\n2. join()', Plan(ask="Which Dana?")),
        ('1. more_tools(["x", "y"])\n2. join()', Plan(more_tools=("x", "y"))),
        ('1. more_tools("x")\n2. join()', Plan(more_tools=("x",))),
    ],
)
def test_control_plans(text: str, plan: Plan) -> None:
    """Nothing to do, a question, and a wish for more tools."""
    assert parse(text, TOOLS) == plan


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("None", ()),
        ('""', ()),
        ("[]", ()),
        ('"a@b"', ("a@b",)),
        ('[""]', ("",)),
        ('"$1"', (Ref(1),)),
        ("$1", (Ref(1),)),
        ('["${1}", $1.email]', (Ref(1), Ref(1, "email"))),
        ('["$12345", "to $1", "$1.", " $1", "$$1", "$1.5"]',) * 2,
    ],
)
def test_lists_take_items_references_and_single_values(argument: str, value: object) -> None:
    """Only a whole item is a reference; all else is text."""
    step = only(f'1. find("x")\n2. send({argument}, "")\n3. join()')
    assert step.args[0] == (tuple(json.loads(argument)) if value == argument else value)


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("size", "7", 7),
        ("size", '"7"', 7),
        ("size", "007", 7),
        ("size", "+7", 7),
        ("size", "7.0", 7),
        ("size", "7e2", 700),
        ("size", "-0", 0),
        ("size", "None", 1),
        ("weight", "2", 2.0),
        ("weight", '"2.50"', 2.5),
        ("weight", "1e-7", 1e-07),
        ("weight", "None", 0.5),
        ("mode", '"b"', "b"),
        ("mode", "None", "a"),
        ("fast", "true", True),
        ("fast", "None", False),
        ("note", "None", None),
        ("note", '""', ""),
        ("note", "2024", "2024"),
        ("note", "+4366", "+4366"),
        ("note", "0664", "0664"),
        ("note", "1.50", "1.50"),
        ("note", '"${1}"', Ref(1)),
        ("note", '"see ${1}"', "see ${1}"),  # only templates have references inside
        ("body", '"see ${1}"', Template(("see ", Ref(1)))),
        ("body", '"${1}${1.name}"', Template((Ref(1), Ref(1, "name")))),
        ("body", '"$${1}"', Template(("$", Ref(1)))),
        ("body", '"${ 1 } ${x} ${1.} $1"', "${ 1 } ${x} ${1.} $1"),
        ("body", "None", ""),
    ],
)
def test_arguments_take_the_declared_type(name: str, written: str, value: Argument) -> None:
    """Values are read into the type of the argument; ``None`` means the default."""
    index = [param.name for param in send.params].index(name)
    others = '["a@b"]' if name == "body" else '["a@b"], ""'
    got = only(f'1. find("x")\n2. send({others}, {name}={written})\n3. join()').args[index]
    assert (type(got), got) == (type(value), value)


def test_a_price_is_text_where_no_reference_can_stand() -> None:
    """``$15`` is a name in a plan without step 15; ``$0`` is never a step."""
    assert only('1. find("$15")\n2. join()').args == ("$15",)
    assert only('1. find("$0")\n2. join()').args == ("$0",)


# --- plans that do not pass ----------------------------------------------------------------------

FIND = '1. find("x")\n'
LONG = "a" * (MAX_ARGUMENT_CHARS + 1)
BAD: dict[str, tuple[str, str, int | None]] = {
    # numbers
    "gap": (FIND + '3. find("y")\n4. join()', "order", 2),
    "gap before join": (FIND + "3. join()", "order", 2),
    "duplicate": (FIND + '1. find("y")\n2. join()', "order", 2),
    "step 0": ('0. find("x")\n1. join()', "order", 1),
    "starts at 2": ('2. find("x")\n3. join()', "order", 1),
    "descending": ('2. find("x")\n1. find("y")\n3. join()', "order", 1),
    "step 999999": ('999999. find("x")\n2. join()', "order", 1),
    "join numbered 0": ("0. join()", "order", 1),
    # join and control steps
    "no join": (FIND, "no-join", None),
    "empty": ("", "no-join", None),
    "join with an argument": (FIND + '2. join("x")', "arity", 2),
    "join with a named argument": (FIND + "2. join(x=1)", "arity", 2),
    "text after join": ("1. join()\nbye", "after-join", 2),
    "step after join": ('1. join()\n2. find("x")', "after-join", 2),
    "ask beside a step": (FIND + '2. ask("y?")\n3. join()', "control", 2),
    "ask before a step": ('1. ask("y?")\n2. find("x")\n3. join()', "control", 1),
    "two questions": ('1. ask("x?")\n2. ask("y?")\n3. join()', "control", 1),
    "ask and more_tools": ('1. ask("x?")\n2. more_tools(["y"])\n3. join()', "control", 1),
    "ask without question": ("1. ask()\n2. join()", "arity", 1),
    "ask with two": ('1. ask("x", "y")\n2. join()', "arity", 1),
    "ask by name": ('1. ask(question="x")\n2. join()', "arity", 1),
    "ask a blank": ('1. ask(" ")\n2. join()', "type", 1),
    "ask a number": ("1. ask(1)\n2. join()", "type", 1),
    "ask a list": ('1. ask(["x"])\n2. join()', "type", 1),
    "ask nothing": ("1. ask(None)\n2. join()", "type", 1),
    "ask 401 characters": (f'1. ask("{"x" * 401}")\n2. join()', "type", 1),
    "more_tools of nothing": ("1. more_tools([])\n2. join()", "type", 1),
    "more_tools of None": ("1. more_tools(None)\n2. join()", "type", 1),
    "more_tools of a number": ("1. more_tools([1])\n2. join()", "type", 1),
    "more_tools of a blank": ('1. more_tools(["x", ""])\n2. join()', "type", 1),
    "more_tools without": ("1. more_tools()\n2. join()", "arity", 1),
    "more_tools of 65": ("1. more_tools([" + '"x",' * 65 + "])\n2. join()", "argument-size", 1),
    # names and arity
    "unknown tool": (FIND + '2. fnd("x")\n3. join()', "unknown-tool", 2),
    "tool of another case": ('1. Find("x")\n2. join()', "unknown-tool", 1),
    "join in the middle of names": ('1. joins("x")\n2. join()', "unknown-tool", 1),
    "name of 60,000 letters": (f'1. {"f" * 60_000}("x")\n2. join()', "unknown-tool", 1),
    "too few": ("1. find()\n2. join()", "arity", 1),
    "too many": ('1. find("x", "y")\n2. join()', "arity", 1),
    "required missing in the middle": (FIND + '2. send(["$1"])\n3. join()', "arity", 2),
    "unknown name": ('1. find(nam="x")\n2. join()', "arity", 1),
    "positional and named": ('1. find("x", name="y")\n2. join()', "arity", 1),
    "named twice": ('1. find(name="x", name="y")\n2. join()', "syntax", 1),
    # references
    "self": ('1. find("$1")\n2. join()', "forward-reference", 1),
    "self in a list": ('1. send(["$1"], "")\n2. join()', "forward-reference", 1),
    "self in a template": ('1. send(["a@b"], "x ${1}")\n2. join()', "forward-reference", 1),
    "forward": ('1. find("$2")\n2. find("x")\n3. join()', "forward-reference", 1),
    "forward by field": ('1. find("$2.name")\n2. find("x")\n3. join()', "forward-reference", 1),
    "forward in a list": ('1. send(["$2"], "")\n2. find("x")\n3. join()', "forward-reference", 1),
    "cycle of two": ('1. find("$2")\n2. find("$1")\n3. join()', "forward-reference", 1),
    "cycle of three": (
        '1. send(["$3"], "")\n2. send(["$1"], "")\n3. find("$2")\n4. join()',
        "forward-reference",
        1,
    ),
    "missing step": (FIND + '2. send(["$7"], "")\n3. join()', "forward-reference", 2),
    "the step of join": (FIND + '2. send(["$3"], "")\n3. join()', "forward-reference", 2),
    "step 0 by reference": (FIND + '2. send(["$0"], "")\n3. join()', "forward-reference", 2),
    "price alone in a template": (FIND + '2. send([], "$15")\n3. join()', "forward-reference", 2),
    "unquoted forward": (FIND + "2. send([$9], None)\n3. join()", "forward-reference", 2),
    "unknown field": (FIND + '2. send(["$1.mail"], "")\n3. join()', "field", 2),
    "field of a value without fields": (
        '1. look("x")\n2. send([], "${1.name}")\n3. join()',
        "field",
        2,
    ),
    "text where an address goes": (
        '1. look()\n2. send(["$1"], "")\n3. join()',
        "reference-type",
        2,
    ),
    "status as text": ('1. shut("x")\n2. send([], "$1")\n3. join()', "reference-type", 2),
    "status in a template": ('1. shut("x")\n2. send([], "a${1}")\n3. join()', "reference-type", 2),
    "reference as a span": (FIND + '2. find("$1")\n3. join()', "reference-type", 2),
    "reference as a number": (FIND + '2. look("y", "$1")\n3. join()', "reference-type", 2),
    "reference as a choice": (FIND + '2. send([], "", mode="$1")\n3. join()', "reference-type", 2),
    "reference as a bool": (FIND + '2. send([], "", fast=$1)\n3. join()', "reference-type", 2),
    # types and choices
    "list for a text": ('1. find(["x"])\n2. join()', "type", 1),
    "bool for a text": ("1. find(True)\n2. join()", "type", 1),
    "None in a list": ('1. send([None], "")\n2. join()', "type", 1),
    "bool in a list": ('1. send([True], "")\n2. join()', "type", 1),
    "text for a whole number": ('1. look("x", "many")\n2. join()', "type", 1),
    "half for a whole number": ('1. look("x", 1.5)\n2. join()', "type", 1),
    "bool for a whole number": ('1. look("x", True)\n2. join()', "type", 1),
    "infinity for a whole number": ('1. look("x", 1e999)\n2. join()', "type", 1),
    "10^18 for a whole number": ('1. look("x", 1e18)\n2. join()', "type", 1),
    "19 digits for a whole number": (f'1. look("x", {"9" * 19})\n2. join()', "type", 1),
    "4,000 digits as text": (f'1. look("x", "{"9" * 4_000}")\n2. join()', "type", 1),
    "digits of another script": ('1. look("x", "\u0661")\n2. join()', "type", 1),
    "underscores in a number": ('1. look("x", "1_000")\n2. join()', "type", 1),
    "infinity for a number": ('1. send([], "", weight=1e999)\n2. join()', "type", 1),
    "nan for a number": ('1. send([], "", weight="nan")\n2. join()', "type", 1),
    "infinity in words": ('1. send([], "", weight="inf")\n2. join()', "type", 1),
    "5,000 digits for a number": (f'1. send([], "", weight={"9" * 5_000})\n2. join()', "type", 1),
    "unknown choice": ('1. send([], "", mode="c")\n2. join()', "type", 1),
    "number for a choice": ('1. send([], "", mode=1)\n2. join()', "type", 1),
    "empty choice": ('1. send([], "", mode="")\n2. join()', "type", 1),
    "text for a bool": ('1. send([], "", fast="True")\n2. join()', "type", 1),
    "number for a bool": ('1. send([], "", fast=1)\n2. join()', "type", 1),
    # limits
    "17 steps": (finds(17), "steps", None),
    "3,000 steps": (finds(3_000), "steps", None),
    "6 effects": (sends(6), "effects", None),
    "8 KiB and one": (f'1. find("{LONG}")\n2. join()', "argument-size", 1),
    "8 KiB and one, escaped": (f'1. find("{LONG[:-1]}\\n")\n2. join()', "argument-size", 1),
    "8 KiB in a list": (
        FIND + f'2. send(["{LONG[:5_000]}", "{LONG[:5_000]}"], "")\n3. join()',
        "argument-size",
        2,
    ),
    "8 KiB by name": (f'1. find(name="{LONG}")\n2. join()', "argument-size", 1),
    "8 KiB in join": (f'1. join("{LONG}")', "argument-size", 1),
    "65 items": ("1. send([" + '"x",' * 65 + '], "")\n2. join()', "argument-size", 1),
    "64 KiB of text": ("1. join()" + " " * MAX_PLAN_CHARS, "plan-size", None),
    "64 KiB in canonical form": (
        "".join(f'{k}. find("{chr(10) * 6_000}")\n' for k in range(1, 9)) + "9. join()",
        "plan-size",
        None,
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_plan_is_refused_with_its_rule_and_line(case: str) -> None:
    """The error names the first line at fault and a stable rule, in one short line."""
    text, rule, line = BAD[case]
    with pytest.raises(PlanError) as caught:
        parse(text, TOOLS)
    assert (caught.value.rule, caught.value.line) == (rule, line)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_list_of_exactly_the_most_items_is_taken() -> None:
    """The limit itself is admitted; one more is in the table above."""
    plan = parse("1. send([" + '"a@x",' * 64 + '], "")\n2. join()', TOOLS)
    assert len(plan.steps[0].args[0]) == 64  # type: ignore[arg-type]


def test_a_plan_of_exactly_the_largest_canonical_size_is_taken() -> None:
    """One more character is refused."""
    size = MAX_ARGUMENT_CHARS // 2 - 20  # a line break is two characters in canonical form
    steps = [RawStep(k, "find", ("\n" * size,)) for k in range(1, 9)]

    def bound(last: int) -> Plan:
        last_step = RawStep(9, "find", ("x" * last,))
        return bind([*steps, last_step, RawStep(10, "join", ())], TOOLS)

    room = MAX_PLAN_CHARS - len(write(bound(0), thoughts=True))
    assert 0 < room < MAX_ARGUMENT_CHARS
    assert len(write(bound(room), thoughts=True)) == MAX_PLAN_CHARS
    with pytest.raises(PlanError) as caught:
        bound(room + 1)
    assert caught.value.rule == "plan-size"


def test_more_than_sixty_kinds_of_bad_plan_are_tried() -> None:
    """The table above does not shrink unnoticed."""
    assert len(BAD) >= 60


def test_plans_at_the_limits_pass() -> None:
    """Each limit admits its own value."""
    assert len(parse(finds(16), TOOLS).steps) == 16
    assert len(parse(sends(5), TOOLS).steps) == 5
    assert only(f'1. find("{LONG[:-1]}")\n2. join()').args == (LONG[:-1],)
    assert parse(f'1. ask("{"x" * 400}")\n2. join()', TOOLS).ask == "x" * 400
    assert len(parse(finds(17), TOOLS, replace(DEFAULT_LIMITS, steps=17)).steps) == 17
    assert parse(sends(1), TOOLS, Limits(effects=1)).steps
    with pytest.raises(PlanError, match="1 steps change something, 0 at most"):
        parse(sends(1), TOOLS, Limits(effects=0))


def test_messages_say_what_was_found_and_what_would_do() -> None:
    """Near names, readable steps, fields, choices and missing arguments are offered."""
    expected = {
        "unknown tool": "did you mean find?",
        "missing step": "send.to: reads $7, but step 2 can read only $1..$1",
        "self": "find.name: reads $1, but step 1 can read nothing, being the first",
        "unknown field": "(fields: name, email, line2)",
        "unknown choice": "expected one of 'a', 'b', got 'c'",
        "too few": "find takes 1 arguments, got 0: name missing",
        "gap": "step is numbered 3, expected 2",
    }
    for case, part in expected.items():
        with pytest.raises(PlanError) as caught:
            parse(BAD[case][0], TOOLS)
        assert part in str(caught.value)


def test_the_earliest_fault_is_reported_whatever_comes_later() -> None:
    """Two faults of one kind: always the first line."""
    with pytest.raises(PlanError) as caught:
        parse('1. find("x")\n2. nope()\n3. find()\n4. nope()\n5. join()', TOOLS)
    assert (caught.value.rule, caught.value.line) == ("unknown-tool", 2)


# --- plain data ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calls", "rule"),
    [
        ([{}], "syntax"),
        ([None], "syntax"),
        (["1. find()"], "syntax"),
        ([{"id": 1, "tool": "find"}], "syntax"),
        ([{"id": "1", "tool": "find", "args": []}], "syntax"),
        ([{"id": True, "tool": "find", "args": ["x"]}], "syntax"),
        ([{"id": 10**30, "tool": "find", "args": ["x"]}], "syntax"),
        ([{"id": 1, "tool": ["find"], "args": ["x"]}], "syntax"),
        ([{"id": 1, "tool": "find", "args": "x"}], "syntax"),
        ([{"id": 1, "tool": "find", "args": {"name": "x"}}], "syntax"),
        ([{"id": 2, "tool": "find", "args": ["x"]}], "order"),
        ([{"id": 1, "tool": "join", "args": []}], "unknown-tool"),
        ([{"id": 1, "tool": "find", "args": [{"a": 1}]}], "type"),
        ([{"id": 1, "tool": "send", "args": [[["a@b"]], ""]}], "type"),
        ([{"id": 1, "tool": "look", "args": ["x", math.inf]}], "type"),
        ([{"id": 1, "tool": "look", "args": ["x", 10**400]}], "type"),
        ([{"id": 1, "tool": "find", "args": [10**5_000]}], "type"),
        ([{"id": 1, "tool": "find", "args": ["\ud800"]}], "encoding"),
        ([{"id": 1, "tool": "find", "args": [LONG]}], "argument-size"),
        ([{"id": 1, "tool": "ask", "args": ["\udfff?"]}], "encoding"),
    ],
)
def test_broken_call_data_is_a_plan_error(calls: list[Any], rule: str) -> None:
    """Data of any shape is refused with a rule, never with another exception."""
    with pytest.raises(PlanError) as caught:
        from_calls(calls, TOOLS)
    assert caught.value.rule == rule


def test_calls_show_references_as_written() -> None:
    """The plain form is what a plan's row in a file holds."""
    text = '1. find("x")\n2. send(["$1"], "to ${1.name}")\n3. join()'
    calls = as_calls(parse(text, TOOLS))
    assert calls[1] == {
        "id": 2,
        "tool": "send",
        "args": [["$1"], "to ${1.name}", 1, 0.5, "a", False, None],
    }
    assert from_calls([], TOOLS) == Plan()


def test_binding_reports_a_missing_join_of_hand_made_steps() -> None:
    """Raw steps need not come from a text."""
    with pytest.raises(PlanError, match="ends without join"):
        bind(read(FIND + "2. join()")[:-1], TOOLS)


# --- steps written twice -------------------------------------------------------------------------


def test_a_step_written_twice_is_done_once() -> None:
    """Readers of the second one read the first; the rest moves up."""
    plan = parse(
        '1. find("Dana")\n'
        '2. send(["$1"], "Hi")\n'
        '3. find("Dana")\n'
        '4. find("Lee")\n'
        '5. send(["$3", "$4"], "See ${3.name} and ${4.name}")\n'
        '6. send(["$3"], "Hi")\n'
        "7. join()",
        TOOLS,
    )
    assert write(without_repeats(plan)) == (
        '1. find("Dana")\n'
        '2. send(["$1"], "Hi", 1, 0.5, "a", False, None)\n'
        '3. find("Lee")\n'
        '4. send(["$1", "$3"], "See ${1.name} and ${3.name}", 1, 0.5, "a", False, None)\n'
        "5. join()"
    )


@pytest.mark.parametrize(
    "text",
    [
        '1. find("Dana")\n2. find("Dan")\n3. join()',
        '1. find("Dana")\n2. shut("Dana")\n3. join()',
        "1. look()\n2. look()\n3. join()",  # no words: again may be meant
        "1. join()",
    ],
)
def test_steps_that_differ_and_calls_without_words_stay(text: str) -> None:
    """Nothing is copied where nothing is dropped."""
    plan = parse(text, TOOLS)
    assert without_repeats(plan) is plan


# --- messages to the letter ----------------------------------------------------------------------


def message(steps: list[RawStep]) -> str:
    """What binding these raw steps says is wrong; ``join`` is added."""
    with pytest.raises(PlanError) as caught:
        bind([*steps, RawStep(len(steps) + 1, "join", (), line=len(steps) + 1)], TOOLS)
    return str(caught.value)


def test_a_name_of_60_characters_is_shown_whole_and_a_longer_one_is_cut() -> None:
    """The cut one ends in three dots and is 60 characters long."""
    assert f"no tool is called {'n' * 60};" in message([RawStep(1, "n" * 60, ())])
    assert f"no tool is called {'n' * 57}...;" in message([RawStep(1, "n" * 61, ())])


def test_a_faulty_text_of_50_characters_is_shown_whole() -> None:
    """Enough of it to find it in the plan."""
    args = (["a@b"], "Hi", "x" * 50)
    assert f"expected a number, got '{'x' * 50}'" in message([RawStep(1, "send", args)])


def test_a_value_of_no_kind_of_the_plans_is_named_with_its_place() -> None:
    """Arguments count from 1; the kind that was found is said."""
    said = message([RawStep(1, "find", ({"a": 1},))])  # type: ignore[arg-type]
    assert said.endswith(
        "find, argument 1: expected text, a number, True, False, None or a list of these, got dict"
    )


def test_a_list_where_one_value_is_wanted_is_called_a_list() -> None:
    """Not a text that is no text."""
    assert "find.name: expected one span, got a list" in message([RawStep(1, "find", (["a"],))])


def test_call_data_counts_its_lines_from_1() -> None:
    """The second call is line 2 in messages."""
    with pytest.raises(PlanError) as caught:
        from_calls([{"id": 1, "tool": "find", "args": ["a"]}, {"id": 2}], TOOLS)
    assert caught.value.line == 2


def test_a_step_is_found_by_its_number() -> None:
    """One that is not there is a KeyError."""
    plan = parse('1. find("a")\n2. find("b")\n3. join()', TOOLS)
    assert plan.step(2).args == ("b",)
    with pytest.raises(KeyError):
        plan.step(3)
