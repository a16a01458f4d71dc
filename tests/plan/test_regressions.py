"""Faults of the original TinyAgent that must not come back.

Source: SqueezeAILab/TinyAgent at 0074615: ``output_parser.py`` (one regular
expression per line, every ``$n`` is a dependency), ``task_fetching_unit.py``
(references replaced inside texts), ``planner.py`` (lines lost by chunking),
``contacts.py`` (endless recursion). Each test names what happened there.
"""

from __future__ import annotations

import pytest

from mlx_tinyagent.errors import PlanError
from mlx_tinyagent.plan.graph import parse
from mlx_tinyagent.plan.schema import Plan, Ref, Template
from mlx_tinyagent.plan.text import PlanReader, read
from mlx_tinyagent.tools.backend import Contact
from mlx_tinyagent.tools.catalog import TINYAGENT16, find_contacts


def plan(*actions: str) -> Plan:
    """Parse numbered actions, with join() put after them."""
    lines = [f"{number}. {action}" for number, action in enumerate(actions, start=1)]
    return parse("\n".join([*lines, f"{len(actions) + 1}. join()"]), TINYAGENT16)


def refusal(text: str) -> PlanError:
    """Parse a bad plan and return its error."""
    with pytest.raises(PlanError) as caught:
        parse(text, TINYAGENT16)
    return caught.value


def test_an_amount_is_not_replaced_by_the_result_of_step_1() -> None:
    """``Pay $15 to $1`` became ``Pay ann@x.com5 to ann@x.com``."""
    bound = plan('get_phone_number("Ann")', 'send_sms(["$1"], "Pay $15 to $1 today")')
    assert bound.steps[1].args == ((Ref(1),), "Pay $15 to $1 today")


def test_a_price_in_a_sentence_is_no_dependency() -> None:
    """With "you owe me $2" the step waited for step 2, or for itself."""
    bound = plan('get_phone_number("Ann")', 'send_sms(["$1"], "you owe me $2, it costs $1 only")')
    assert bound.steps[1].dependencies == (1,)
    alone = plan('create_note("Bill", "you owe me $2")', 'create_note("Bill", "it costs $1 only")')
    assert [step.dependencies for step in alone.steps] == [(), ()]


def test_references_inside_text_are_values_beside_the_text() -> None:
    """Results were pasted into the text, highest number first, and read again for references."""
    bound = plan('get_phone_number("A")', 'create_note("n", "Call ${1}, not $1 or ${ 1 }")')
    assert bound.steps[1].args[1] == Template(("Call ", Ref(1), ", not $1 or ${ 1 }"))


@pytest.mark.parametrize("reference", ["$1", "$2", "${2}", "$2.email"])
def test_a_self_or_forward_reference_never_reaches_a_tool(reference: str) -> None:
    """The tool ran with the literal text ``$2``."""
    error = refusal(f'1. get_email_address("{reference}")\n2. get_email_address("Ann")\n3. join()')
    assert (error.rule, error.line) == ("forward-reference", 1)


def test_a_gap_in_the_numbers_is_refused_before_anything_runs() -> None:
    """Steps 1 and 3 of 1, 3, 4 ran, then ``KeyError: 2`` ended the request."""
    error = refusal('1. open_note("a", "")\n3. open_note("b", "")\n4. join()')
    assert (error.rule, error.line) == ("order", 2)


def test_a_line_break_inside_quotes_keeps_the_step() -> None:
    """The step vanished without a word."""
    bound = plan('create_note("List", "milk\neggs", "")', 'open_note("List", "")')
    assert [step.tool for step in bound.steps] == ["create_note", "open_note"]
    assert bound.steps[0].args[1] == "milk\neggs"


def test_a_number_given_twice_is_refused() -> None:
    """The first call was lost and its readers got the second's result."""
    text = '1. get_phone_number("A")\n1. get_phone_number("B")\n2. send_sms(["$1"], "x")\n3. join()'
    error = refusal(text)
    assert (error.rule, error.line) == ("order", 2)


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ('send_sms(["+43"])', "got 1: message missing"),
        ('send_sms(["+43"], "x", "y")', "takes 2 arguments, got 3"),
        ('compose_new_email([], [], "s", "c", [], "x")', "takes 5 arguments, got 6"),
        ("get_phone_number()", "got 0: name missing"),
    ],
)
def test_a_wrong_number_of_arguments_is_refused(call: str, found: str) -> None:
    """The message was lost, or the request waited for ever after an ``IndexError``."""
    error = refusal(f"1. {call}\n2. join()")
    assert (error.rule, error.line) == ("arity", 1)
    assert found in error.reason


def test_a_plan_of_3000_steps_is_refused() -> None:
    """All 3,000 calls ran."""
    calls = "".join(f'{k}. get_phone_number("x")\n' for k in range(1, 1_501))
    assert len(calls) < 65_536
    assert refusal(calls + "1501. join()").rule == "steps"
    calls = "".join(f'{k}. get_phone_number("x")\n' for k in range(1, 3_001))
    assert refusal(calls + "3001. join()").rule == "plan-size"


@pytest.mark.parametrize("size", [1, 2, 7, 1_000])
def test_the_same_steps_come_from_any_chunks(size: int) -> None:
    """Of five tasks, five came character by character and two from one chunk."""
    text = "".join(f'{k}. get_phone_number("x")\n' for k in range(1, 6)) + "6. join()\n"
    reader = PlanReader()
    steps = [
        step
        for start in range(0, len(text), size)
        for step in reader.feed(text[start : start + size])
    ]
    assert steps == read(text)
    assert len(steps) == 6
    assert not list(reader.close())


def test_two_calls_on_one_line_are_refused() -> None:
    """They merged into one call with a garbled argument."""
    error = refusal('1. open_note("a", "") 2. open_note("b", "")\n3. join()')
    assert (error.rule, error.line) == ("syntax", 1)


def test_an_unquoted_reference_in_a_list_is_that_reference() -> None:
    """All arguments of ``f([$1], "x")`` became one text."""
    bound = plan('get_phone_number("Ann")', 'send_sms([$1], "Hello, Ann")')
    assert bound.steps[1].args == ((Ref(1),), "Hello, Ann")


def test_a_misplaced_quote_does_not_drop_an_argument() -> None:
    """A shipped example wrote a mail with four arguments; it was taken as it was."""
    error = refusal('1. compose_new_email([], [], "s", "c, []")\n2. open_note()\n3. join()')
    assert (error.rule, error.line) == ("arity", 2)
    bound = plan('compose_new_email(["a@b"], [], "s", "c, []")')
    assert bound.steps[0].args == (("a@b",), (), "s", "c, []", ())


def test_an_unknown_tool_does_not_hide_the_rest_of_the_plan() -> None:
    """The plan was cut there, with the first steps running already."""
    error = refusal('1. open_note("a", "")\n2. send_fax("x")\n3. join()')
    assert (error.rule, error.line) == ("unknown-tool", 2)


def test_steps_after_join_are_refused() -> None:
    """They were dropped without a word."""
    error = refusal('1. open_note("a", "")\n2. join()\n3. open_note("b", "")')
    assert (error.rule, error.line) == ("after-join", 3)


@pytest.mark.parametrize("written", ["Ann, PhD", "Ann,", ",", ", ,", "PhD, Ann"])
def test_a_comma_in_a_name_ends_in_an_answer(written: str) -> None:
    """The look-up recursed until the interpreter gave up."""
    people = [Contact(id=1, name="Ann, PhD"), Contact(id=2, name="Bob")]
    found = find_contacts(people, written)
    assert [person.name for person in found] == (["Ann, PhD"] if "Ann" in written else [])
