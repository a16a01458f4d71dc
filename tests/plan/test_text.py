"""Plan text to raw steps and back: syntax, totality, chunking, cost."""

from __future__ import annotations

import ast
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tinyagent.errors import PlanError
from mlx_tinyagent.plan.schema import Plan, Ref, Step, Template
from mlx_tinyagent.plan.text import (
    END_OF_PLAN,
    MAX_PLAN_CHARS,
    PlanReader,
    RawStep,
    parse_number,
    quote,
    read,
    write,
    write_argument,
)
from mlx_tinyagent.tools.base import literal

DATA = Path(__file__).resolve().parents[2] / "../shared/data/tinyagent"
PROPERTY = settings(derandomize=True, database=None, deadline=None, max_examples=150)
Outcome = tuple[list[RawStep], tuple[str, int | None, str] | None]


def first(text: str) -> RawStep:
    """Read a plan of one action and return it."""
    return read(f"{text}\n2. join()")[0]


def outcome(pieces: Iterator[str] | list[str]) -> Outcome:
    """Feed pieces; return the steps before the end or the error, and the error."""
    reader = PlanReader()
    steps: list[RawStep] = []
    try:
        for piece in pieces:
            for step in reader.feed(piece):
                steps.append(step)
        for step in reader.close():
            steps.append(step)
    except PlanError as error:
        return steps, (error.rule, error.line, error.reason)
    return steps, None


# --- what is read --------------------------------------------------------------------------------


def test_a_plan_is_read_into_steps_with_numbers_names_arguments_and_lines() -> None:
    """Every action becomes a raw step; references are still strings."""
    steps = read(
        'Thought: first the address\n1. get_email_address("Dana")\n\n'
        '2. mail(["$1", $1], "a,b)", None, True, -3, 2.5) # send\n3. join()\n'
    )
    assert steps == [
        RawStep(1, "get_email_address", ("Dana",), line=2, thought="first the address"),
        RawStep(2, "mail", (["$1", "$1"], "a,b)", None, True, -3, 2.5), line=4),
        RawStep(3, "join", (), line=5),
    ]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"plain"', "plain"),
        ("'single'", "single"),
        ('"it\'s"', "it's"),
        ("'say \"hi\"'", 'say "hi"'),
        (r'"say \"hi\""', 'say "hi"'),
        (r"'it\'s'", "it's"),
        (r'"a\nb\tc\rd\\e"', "a\nb\tc\rd\\e"),
        ('"a\nb"', "a\nb"),
        ('"a\\\nb"', "ab"),
        (r'"\x41\u00e9\U0001F600"', "Aé😀"),
        (r'"\q \d \x4 \uD83D \U00110000"', r"\q \d \x4 \uD83D \U00110000"),
        ('"a # b"', "a # b"),
        ('"( [ ] )"', "( [ ] )"),
        ('"2. f()"', "2. f()"),
        ('"\0\u2028\u200f\ufeff"', "\0\u2028\u200f\ufeff"),
        ('""', ""),
        ("0", 0),
        ("-0", "-0"),
        ("12", 12),
        ("-12", -12),
        ("1.5", 1.5),
        ("-0.0", -0.0),
        ("1e-07", 1e-07),
        ("None", None),
        ("null", None),
        ("True", True),
        ("true", True),
        ("False", False),
        ("false", False),
        ("$1", "$1"),
        ("$1.url", "$1.url"),
        ("${2}", "${2}"),
        ("${2.line1}", "${2.line1}"),
        ("[]", []),
        ("[ ]", []),
        ("['a', 1, None, $1,]", ["a", 1, None, "$1"]),
    ],
)
def test_values_are_read_as_written(written: str, value: object) -> None:
    """Quoted texts, numbers, words, bare references and lists."""
    (read_value,) = first(f"1. f({written})").args
    assert (type(read_value), read_value) == (type(value), value)


@pytest.mark.parametrize(
    "written",
    ["+430664123", "0664123", "007", "1.50", "1e3", "1E5", "9" * 19, "1e999", "-1e999", "1" * 5000],
)
def test_a_number_that_would_lose_what_is_written_stays_text(written: str) -> None:
    """A phone number or price without quotes keeps its plus, zeros and digits."""
    assert first(f"1. f({written})").args == (written,)


def test_named_arguments_follow_positional_ones() -> None:
    """Names are kept beside the values; the binder puts them in order."""
    step = first('1. f("a", size = 3, to=["$1"])')
    assert (step.args, step.named) == (("a",), {"size": 3, "to": ["$1"]})


@pytest.mark.parametrize(
    "text",
    [
        '1. f("a")\n2. join()',
        '1. f("a")\n2. join()\n',
        '1. f("a")\r\n2. join()\r\n',
        '\n\n1. f("a")\n\n \t\n2. join()\n\n',
        '  1 . f ( "a" )\n\t2 .join( )',
        '1.f("a",)\n2. join()',
        '1. f("a") # say "hi (\n2. join() # it\'s done [',
        f'1. f("a")\n2. join(){END_OF_PLAN}',
        f'1. f("a")\n2. join() {END_OF_PLAN} \n',
        f'1. f("a")\n2. join()\n{END_OF_PLAN}',
        f'1. f("a")\n2. join()\n\n{END_OF_PLAN}\n\n',
        '1. f(\n  "a"\n)\n2. join()',
    ],
)
def test_layout_and_end_marker_do_not_matter(text: str) -> None:
    """Blanks, blank lines, comments, CRLF, a glued or separate end marker."""
    assert [(s.id, s.name, s.args) for s in read(text)] == [(1, "f", ("a",)), (2, "join", ())]


def test_the_end_marker_inside_a_quoted_text_is_text() -> None:
    """Only a marker outside quotes ends the plan."""
    assert first(f'1. f("{END_OF_PLAN}")').args == (END_OF_PLAN,)


@pytest.mark.parametrize(
    "thought",
    ['it\'s (not) "done" ] yet', "step #1 'costs' $2", "2. is next", "1. f()", "Thought: again"],
)
def test_a_thought_is_free_text_to_the_end_of_its_line(thought: str) -> None:
    """Quotes, brackets and hash signs in a thought do not open anything."""
    step = first(f'Thought: {thought}\n1. f("a")')
    assert (step.thought, step.args) == (thought, ("a",))


def test_thoughts_before_one_step_are_joined() -> None:
    """Several thought lines belong to the next action; blanks are squeezed."""
    assert first("Thought: one\nThought:\nThought:  two \t three\n1. f()").thought == (
        "one two three"
    )


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rule", "line"),
    [
        ("", "no-join", None),
        (" \n\n", "no-join", None),
        (END_OF_PLAN, "no-join", None),
        ("1. f()", "no-join", None),
        ("Thought: what now", "no-join", None),
        ("hello", "syntax", 1),
        ("\n\nhello\n", "syntax", 3),
        ("# only a comment\n1. join()", "syntax", 1),
        ("\ufeff1. join()", "syntax", 1),
        ("- 1. join()", "syntax", 1),
        ("1 join()", "syntax", 1),
        ("1. join", "syntax", 1),
        ("1) join()", "syntax", 1),
        (". join()", "syntax", 1),
        ("1. 2()", "syntax", 1),
        ("1. a.b()", "syntax", 1),
        ("\u0661. join()", "syntax", 1),  # ARABIC-INDIC DIGIT ONE
        ("\u00b2. join()", "syntax", 1),  # SUPERSCRIPT TWO: isdigit(), but int() refuses it
        ("1000000. join()", "syntax", 1),
        ("1. f(\u0661)\n2. join()", "syntax", 1),
        ("1. f($\u0661)\n2. join()", "syntax", 1),
        ("1. f(abc)\n2. join()", "syntax", 1),
        ("1. f(nan)\n2. join()", "syntax", 1),
        ("1. f(inf)\n2. join()", "syntax", 1),
        ("1. f(-)\n2. join()", "syntax", 1),
        ("1. f(.5)\n2. join()", "syntax", 1),
        ("1. f(5.)\n2. join()", "syntax", 1),
        ("1. f(1_000)\n2. join()", "syntax", 1),
        ("1. f(0x10)\n2. join()", "syntax", 1),
        ("1. f($)\n2. join()", "syntax", 1),
        ("1. f($12345)\n2. join()", "syntax", 1),
        ("1. f($1.5)\n2. join()", "syntax", 1),
        ("1. f(,)\n2. join()", "syntax", 1),
        ('1. f("a" "b")\n2. join()', "syntax", 1),
        ('1. f("a";"b")\n2. join()', "syntax", 1),
        ("1. f([1, [2]])\n2. join()", "syntax", 1),
        ("1. f({})\n2. join()", "syntax", 1),
        ("1. f((1, 2))\n2. join()", "syntax", 1),
        ('1. f("a"])\n2. join()', "syntax", 1),
        ("1. f())\n2. join()", "syntax", 1),
        ("1. f([1)\n2. join()", "cut", 1),
        ("1. f(]\n2. join()", "syntax", 1),
        ("1. f(a=1, 2)\n2. join()", "syntax", 1),
        ("1. f(a=1, a=2)\n2. join()", "syntax", 1),
        ("1. f(a=)\n2. join()", "syntax", 1),
        ("1. f(a==1)\n2. join()", "syntax", 1),
        ("1. f(# no\n)\n2. join()", "syntax", 1),
        ("1. f() 2. g()\n3. join()", "syntax", 1),
        ("1. f() g\n2. join()", "syntax", 1),
        ('1. f("a)\n2. join()', "cut", 1),
        ("\n1. f('a)\n2. join()", "cut", 2),
        ("1. f(\n2. join(", "cut", 1),
        ("1. f(\n2. join()", "cut", 1),
        ('1. f("a\\', "cut", 1),
        ("1. join()\n2. f()", "after-join", 2),
        ("1. join()\n\nDone!", "after-join", 3),
        ("1. join()\nThought: done", "after-join", 2),
        ("1. join()\n# done", "after-join", 2),
        ("1. join()\n2. join()", "after-join", 2),
        (f"1. join()\n{END_OF_PLAN}\nQuestion: more", "after-join", 3),
        (f"1. f(){END_OF_PLAN}\n2. join()", "after-join", 2),
        (f"1. join(){END_OF_PLAN}1. f()", "syntax", 1),
        (f"1. join(){END_OF_PLAN}{END_OF_PLAN}", "syntax", 1),
        ('1. f("\ud800")\n2. join()', "encoding", 1),
        ("Thought: a\n\udfff", "encoding", 2),
        ("(" * 100_000, "plan-size", None),
        ("1. f(" + "[" * 60_000, "cut", 1),
        ("1. f(" + "[" * 30_000 + "]" * 30_000 + ")", "syntax", 1),
        ('1. f("' + "a" * MAX_PLAN_CHARS, "plan-size", None),
    ],
)
def test_broken_text_is_refused_with_its_rule_and_line(
    text: str, rule: str, line: int | None
) -> None:
    """Each way to break the syntax gives one error of one line."""
    with pytest.raises(PlanError) as caught:
        read(text)
    assert (caught.value.rule, caught.value.line) == (rule, line)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_text_of_exactly_the_largest_size_is_read() -> None:
    """The limit itself is admitted; one more character is not."""
    text = "1. join()".ljust(MAX_PLAN_CHARS)
    assert len(read(text)) == 1
    with pytest.raises(PlanError, match="longer than 65536"):
        read(text + " ")


def test_whether_a_line_is_a_thought_is_seen_for_each_line_anew() -> None:
    """Brackets and quotes count in actions alone, whatever stood on the line before."""
    steps = read('1. f("a")\nThought: it\'s done :)\n2. g([\n"b"])\nThought: )\n3. join()')

    assert [(step.name, step.args, step.line) for step in steps] == [
        ("f", ("a",), 1),
        ("g", (["b"],), 3),
        ("join", (), 6),
    ]


def test_a_step_that_says_no_line_is_on_the_first() -> None:
    """Lines count from 1."""
    assert RawStep(1, "join", ()).line == 1


# --- properties ----------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SCALARS = (
    TEXTS
    | st.integers(-(10**18) + 1, 10**18 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.none()
)
VALUES = SCALARS | st.lists(SCALARS, max_size=4)
SEED_PLANS = [
    '1. get_email_address("Dana")\n2. send("$1", [\'a\', 2.5], None) # ok\n3. join()<END_OF_PLAN>',
    "Thought: it's (a) \"test\" # x\n1. f(a='b\\n', b=[$1, ${2.c}])\n2. join()\n<END_OF_PLAN>",
    '1. f("line\nbreak", "\\u00e9", "$15")\n\n2. ask("what?")\n3. join()\n',
]
FRAGMENTS = ['"', "'", "\\", "(", ")", "[", "]", "#", "\n", ",", "=", ".", "$1", "${", "}", " "]
FRAGMENTS += ["Thought:", "join()", END_OF_PLAN, "1. ", "2. f(", "None", "-1e9", "\u0661", "\u2028"]


@st.composite
def mutants(draw: st.DrawFn) -> str:
    """A plan text with pieces cut out, put in, repeated or swapped."""
    text = draw(st.sampled_from(SEED_PLANS) | st.lists(st.sampled_from(FRAGMENTS)).map("".join))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 12)))
        middle = draw(st.sampled_from([*FRAGMENTS, ""]) | st.text(max_size=3))
        text = text[:start] + middle * draw(st.integers(0, 3)) + text[end:]
    return text


@PROPERTY
@given(st.lists(VALUES, max_size=5))
def test_python_literals_are_read_as_python_reads_them(values: list[object]) -> None:
    """``ast.literal_eval`` is the oracle for what ``repr`` writes."""
    arguments = ", ".join(map(repr, values))
    expected = ast.literal_eval(f"[{arguments}]")
    got = first(f"1. f({arguments})").args
    assert [repr(value) for value in got] == [repr(value) for value in expected]


@PROPERTY
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_quoted_text_reads_back_and_is_the_prompts_literal(text: str) -> None:
    """Defaults in a prompt and values in a plan are written by one rule, on one line."""
    assert first(f"1. f({quote(text)})").args == (text,)
    assert quote(text) == literal(text)
    assert not set("\n\r\t") & set(quote(text))


@PROPERTY
@given(mutants(), st.data())
def test_steps_and_errors_do_not_depend_on_chunking(text: str, data: st.DataObject) -> None:
    """Whole, character by character and any random cut agree, also on the error."""
    whole = outcome([text])
    assert outcome(list(text)) == whole
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert outcome(pieces) == whole


@PROPERTY
@given(mutants() | st.text())
def test_any_text_gives_steps_or_a_plan_error(text: str) -> None:
    """Nothing else is raised, and what is read ends with one join."""
    steps, error = outcome([text])
    if error is None:
        assert [step.name == "join" for step in steps] == [False] * (len(steps) - 1) + [True]
    else:
        assert error[1] is None or 1 <= error[1] <= text.count("\n") + 1


@PROPERTY
@given(st.text("0123456789+-.eE \u0661_naif\n", max_size=45))
def test_parse_number_agrees_with_python_or_gives_none(text: str) -> None:
    """Where it gives a number, ``int`` or ``float`` give the same one."""
    value = parse_number(text)
    if isinstance(value, int):
        assert value == int(text)
        assert abs(value) < 10**18
    elif value is not None:
        assert repr(value) == repr(float(text))
        assert value not in (float("inf"), float("-inf"))


# --- cost ----------------------------------------------------------------------------------------

SHAPES: dict[str, Callable[[int], str]] = {
    "blanks, then quotes": lambda n: " " * (n // 2) + '"' * (n // 2),
    "blanks, then brackets": lambda n: " " * (n // 2) + "[" * (n // 2),
    "thought of quotes": lambda n: "Thought: " + "'" * n,
    "thought of brackets": lambda n: "Thought: " + "([" * (n // 2),
    "action of quotes": lambda n: "1. f(" + '"' * n,
    "one long text": lambda n: '1. f("' + "a" * n + '")\n2. join()',
    "escapes": lambda n: '1. f("' + "\\" * n,
    "escaped quotes": lambda n: '1. f("' + '\\"' * (n // 2) + '")\n2. join()',
    "nesting": lambda n: "1. f(" + "[" * n,
    "balanced nesting": lambda n: "1. f(" + "[" * (n // 2) + "]" * (n // 2) + ")\n",
    "one long word": lambda n: "1. " + "f" * n,
    "long word in an argument": lambda n: "1. f(" + "a" * n + ")",
    "blanks in an argument": lambda n: "1. f(None" + " " * n + "!)",
    "digits": lambda n: "1" * n,
    "digits in an argument": lambda n: "1. f(" + "1" * n + "x)",
    "many arguments": lambda n: "1. f(" + "None ," * (n // 6) + ")\n2. join()",
    "many names": lambda n: "1. f(" + ",".join(f"a{k}=1" for k in range(n // 8)) + ")\n2. join()",
    "list items": lambda n: "1. f([" + "'a'," * (n // 4) + "])\n2. join()",
    "blank lines": lambda n: "\n" * n,
    "thoughts": lambda n: "Thought: a\n" * (n // 11),
    "steps": lambda n: "".join(f"{k}. f()\n" for k in range(1, n // 9)),
    "comment": lambda n: "1. f() #" + "\"'([" * (n // 4) + "\n2. join()",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_64_kib_are_read_character_by_character_in_bounded_time(shape: str) -> None:
    """No shape of the largest text takes seconds; quadratic ones would take minutes."""
    text = SHAPES[shape](MAX_PLAN_CHARS - 64)
    start = time.perf_counter()
    outcome(list(text))
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("shape", SHAPES)
def test_twice_the_text_takes_about_twice_the_steps(shape: str) -> None:
    """Counted in executed lines of the reader, so the machine's load does not matter."""
    short, long = (_lines_executed(SHAPES[shape](size)) for size in (1_000, 2_000))
    assert long <= 2.2 * short + 200


def _lines_executed(text: str) -> int:
    """Count the lines that the reader's module executes for a text."""
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename != _MODULE:
            return None
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        outcome(list(text))
    finally:
        sys.settrace(before)
    return count


_MODULE = read.__code__.co_filename


# --- writing -------------------------------------------------------------------------------------


def test_the_canonical_text_of_a_plan() -> None:
    """Steps in order, one space after commas, double quotes, ``join()`` last, no line end."""
    plan = Plan(
        (
            Step(1, "find", ("Dana", None, 3, -0.0, True, ())),
            Step(
                2,
                "send",
                ((Ref(1), "b@c"), Ref(1, "name"), Template(("to ", Ref(1), ".")), 'a"\n\\'),
                thought="now\n3. join()",
            ),
        )
    )
    assert write(plan) == (
        '1. find("Dana", None, 3, -0.0, True, [])\n'
        '2. send(["$1", "b@c"], "$1.name", "to ${1}.", "a\\"\\n\\\\")\n'
        "3. join()"
    )
    assert write(plan, thoughts=True).splitlines()[1] == "Thought: now 3. join()"


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (Plan(), "1. join()"),
        (Plan(ask="Which Dana?"), '1. ask("Which Dana?")\n2. join()'),
        (Plan(more_tools=("a", "b")), '1. more_tools(["a", "b"])\n2. join()'),
    ],
)
def test_control_steps_are_written_alone(plan: Plan, text: str) -> None:
    """A question, a wish and an empty plan each have one text."""
    assert write(plan) == text


def test_a_list_is_written_with_its_references_quoted() -> None:
    """Bare references are read, but never written."""
    assert write_argument((Ref(2, "url"), "x")) == '["$2.url", "x"]'


# --- real plans ----------------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize("name", ["test_public", "train"])
def test_real_plans_are_read_as_their_rows_say(name: str) -> None:
    """The rows carry calls read by another parser; one plan has join() in the middle."""
    path = DATA / f"{name}.jsonl"
    if not path.exists():
        pytest.skip("the TinyAgent rows are not beside the checkout")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    refused = []
    for row in rows:
        expected = [(call["id"], call["tool"], tuple(call["args"])) for call in row["calls"]]
        try:
            steps = read(row["plan"])
        except PlanError as error:
            refused.append(error.rule)
            continue
        assert [(s.id, s.name, s.args) for s in steps[:-1]] == expected
    assert refused == {"test_public": ["after-join"], "train": []}[name]
    assert len(rows) > 100


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('1. f("a', "inside a quoted text"),
        ('1. f("a"', "inside an unclosed bracket"),
        ("1. join()x", "found 'x'"),  # right behind the bracket, without a blank
        ("1. f(1)2\n2. join()", "found '2'"),
    ],
)
def test_messages_say_where_the_text_went_wrong(text: str, words: str) -> None:
    """The words that follow are the ones at fault."""
    with pytest.raises(PlanError, match=words):
        read(text)


def test_escapes_next_to_the_surrogates_are_characters() -> None:
    """The last before U+D800 and the first after U+DFFF."""
    assert first(r'1. f("\ud7ff\ue000\U0010ffff")').args == ("\ud7ff\ue000\U0010ffff",)
    assert first(r'1. f("\ud800\udfff")').args == (r"\ud800\udfff",)
