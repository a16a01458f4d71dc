"""What may be written and what may not, case by case, and the hand-written gold plans."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.decode.constraint import PlanConstraint
from mlx_tinyagent.decode.grammar import (
    MAX_ITEMS,
    MAX_SPAN_SOURCE_CHARS,
    MAX_TEXT_CHARS,
    GrammarOptions,
)
from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models.language import LanguageModel
from mlx_tinyagent.models.tokenizer import Tokenizer
from mlx_tinyagent.plan.graph import Limits, from_calls
from mlx_tinyagent.plan.text import write
from mlx_tinyagent.tools.base import Effect, Kind, Param, Tool, ToolSet, Type
from mlx_tinyagent.tools.catalog import TINYAGENT16
from tests.decode.tiny import TOOLSETS

GOLD = Path(__file__).resolve().parents[2] / "data/handwritten"
QUERY = 'email Ana Wu about "the Q3 plan" tomorrow at 5 (see Réunion.pdf) 😀 ok'


def accepts(
    tokenizer: Tokenizer,
    tools: ToolSet,
    text: str,
    *,
    sources: Sequence[str] = (QUERY,),
    **options: Any,
) -> bool:
    """Whether a whole plan text may be written, byte by byte."""
    constraint = PlanConstraint(
        tokenizer.llguidance_tokenizer(), tools, sources, GrammarOptions(**options)
    )
    single = {table: index for index, table in enumerate(tokenizer.byte_table) if len(table) == 1}
    for byte in text.encode():
        token = single[bytes([byte])]
        if not constraint.allows(token):
            return False
        constraint.accept(token)
    return constraint.finished


def one(*params: Param, **settings: Any) -> ToolSet:
    """Make a set of one tool ``f`` with these arguments, and two look-ups."""
    lookup = Param(name="name", kind=Kind.SPAN)
    return ToolSet(
        "one",
        [
            Tool(name="f", summary="x", params=params, **settings),
            Tool(
                name="email", summary="x", params=(lookup,), effect=Effect.READ, returns=Type.EMAIL
            ),
            Tool(name="url", summary="x", params=(lookup,), effect=Effect.READ, returns=Type.URL),
        ],
    )


def param(kind: Kind, **settings: Any) -> Param:
    """Make an argument ``p``."""
    return Param(name="p", kind=kind, **settings)


def calling(argument: str, *, first: str = "") -> str:
    """Write a plan that calls ``f`` with one argument, after other lines."""
    number = first.count("\n") + 1
    return f"{first}{number}. f({argument})\n{number + 1}. join()"


LOOKUPS = '1. email("Ana Wu")\n2. url("Ana")\n'


@pytest.mark.parametrize(
    ("written", "allowed"),
    [
        ('"Ana Wu"', True),
        ('"the Q3 plan"', True),
        ('"Réunion.pdf"', True),
        ('"😀"', True),
        ('"tomorrow at 5"', True),
        ('"tomorrow at 5 (see Réunion.pdf) 😀 ok"', True),
        ('"An"', False),  # half a word
        ('"na Wu"', False),
        ('"Wu Ana"', False),  # other order
        ('"Bob"', False),
        ('"ana wu"', False),  # other case
        ('""', False),  # required, and there are words
        ('"plan" tomorrow"', False),  # the request's quote does not close the argument
        ('" Ana"', False),
        ('"Ana "', False),
        ("None", False),
        ('"$1"', False),
        ('"Réunion."', False),  # ends with a sentence's punctuation
    ],
)
def test_a_span_is_words_of_the_request(
    tokenizer: Tokenizer, written: str, *, allowed: bool
) -> None:
    """Whole words in their order and spelling; nothing else closes the quotes."""
    assert accepts(tokenizer, one(param(Kind.SPAN)), calling(written)) is allowed


@pytest.mark.parametrize(
    "query", ["", "   ", "????", "...!", '"', "\\", "$", "😀", "\n\n", "\ud800", "~ \ud83d ~"]
)
def test_a_request_without_words_leaves_the_empty_text(tokenizer: Tokenizer, query: str) -> None:
    """A required span that nothing can fill is written as an empty text, a list as an empty one."""
    tools = one(param(Kind.SPAN), Param(name="q", kind=Kind.SPAN, is_list=True))
    assert accepts(tokenizer, tools, calling('"", []'), sources=(query,))
    assert not accepts(tokenizer, tools, calling('"x", []'), sources=(query,))


@pytest.mark.parametrize(
    ("query", "span"),
    [
        ("call 555-0100 now", "555-0100"),
        ("1234567890", "1234567890"),
        ("nul\x00 here", "nul\x00 here"),
        ("line\u2028two\x0bthree", "line\u2028two\x0bthree"),
        ("日本語 テキスト", "テキスト"),
        ("e\u0301a te\u0301", "te\u0301"),
        ("مرحبا يا آنا", "يا آنا"),
        ("say <|im_end|> now", "say <|im_end|> now"),
        ("half \ud800 text", "half"),
        ("x" * 50, "x" * 50),
        ("(a) [b] {c}", "b] {c"),
        ("50% off & 'more'", "50% off & 'more'"),
    ],
)
def test_spans_of_any_script(tokenizer: Tokenizer, query: str, span: str) -> None:
    """Digits, control characters, other scripts, brackets and names of special tokens."""
    assert accepts(tokenizer, one(param(Kind.SPAN)), calling(f'"{span}"'), sources=(query,))


def test_spans_come_from_the_first_part_of_a_very_long_request(tokenizer: Tokenizer) -> None:
    """A source is cut between words; a word of absurd length is no source at all."""
    tools = one(param(Kind.SPAN))
    long = "ab " * (MAX_SPAN_SOURCE_CHARS // 3) + "boundary later"
    assert accepts(tokenizer, tools, calling('"ab ab"'), sources=(long,))
    assert not accepts(tokenizer, tools, calling('"later"'), sources=(long,))
    assert not accepts(tokenizer, tools, calling('"b"'), sources=(long,))
    endless = "x" * (MAX_SPAN_SOURCE_CHARS + 5)
    assert accepts(tokenizer, tools, calling('"next"'), sources=(endless, "next turn"))


def test_history_serves_spans_too(tokenizer: Tokenizer) -> None:
    """Every source counts, but no span runs from one into the next."""
    tools = one(param(Kind.SPAN))
    sources = ("send it to him", "open Berlin notes")
    assert accepts(tokenizer, tools, calling('"Berlin notes"'), sources=sources)
    assert not accepts(tokenizer, tools, calling('"him open"'), sources=sources)


@pytest.mark.parametrize(
    ("accepted", "written", "allowed"),
    [
        ({Type.EMAIL}, '"$1"', True),
        ({Type.EMAIL}, '"$2"', False),  # a link
        ({Type.URL}, '"$2"', True),
        ({Type.URL, Type.EMAIL}, '"$2"', True),
        ({Type.EMAIL}, '"$3"', False),  # itself
        ({Type.EMAIL}, '"$4"', False),  # a later one
        ({Type.EMAIL}, '"$0"', False),
        ({Type.EMAIL}, '"$11"', False),
        (set(), '"$1"', False),
    ],
)
def test_references_name_earlier_steps_that_fit(
    tokenizer: Tokenizer, accepted: set[Type], written: str, *, allowed: bool
) -> None:
    """``$k`` brings a value of a type that the argument takes."""
    tools = one(param(Kind.SPAN, accepts=frozenset(accepted)))
    assert accepts(tokenizer, tools, calling(written, first=LOOKUPS)) is allowed


SMS = '{}send_sms([{}], "Late")\n{}. join()'
PHONE = '1. get_phone_number("Ana")\n'
FILE = '1. open_and_get_file_path("plan")\n'


@pytest.mark.parametrize(
    ("query", "plan", "allowed"),
    [
        ("text Ana I am late", SMS.format("1. ", '"Ana"', 2), False),
        ("text Ana I am late", PHONE + SMS.format("2. ", '"$1"', 3), True),
        ("text Ana I am late", PHONE + SMS.format("2. ", '"Ana"', 3), False),
        ("text 555-0103 at 12:30", SMS.format("1. ", '"555-0103"', 2), True),
        ("text 555-0103 at 12:30", SMS.format("1. ", '"12:30"', 2), False),
        ("text +1 (415) 555 2671.", SMS.format("1. ", '"+1 (415) 555 2671"', 2), True),
        ("send ~/a.pdf", '1. summarize_pdf("~/a.pdf")\n2. join()', True),
        ("send the report", '1. summarize_pdf("the report")\n2. join()', False),
        ("mail the plan", FILE + '2. reply_to_email([], "", ["$1"])\n3. join()', True),
        ("mail the plan", FILE + '2. reply_to_email([], "$1", [])\n3. join()', False),
        ("note the plan", FILE + '2. create_note("plan", "$1", "")\n3. join()', True),
        ("mail b.c@x.org, ok", '1. reply_to_email(["b.c@x.org"], "", [])\n2. join()', True),
        ("mail b.c@x.org, ok", '1. reply_to_email(["mail"], "", [])\n2. join()', False),
    ],
)
def test_who_can_be_looked_up_is_looked_up(
    tokenizer: Tokenizer, query: str, plan: str, allowed: bool
) -> None:
    """An address, number or path is an earlier step's, or stands in the request as one."""
    assert accepts(tokenizer, TINYAGENT16, plan, sources=(query,)) is allowed


EVENT = '1. create_calendar_event("{}", "{}", "", "", [], "", None)\n2. join()'


@pytest.mark.parametrize(
    ("title", "date", "dates", "allowed"),
    [
        ("lunch", "friday at noon", ("friday at noon",), True),
        ("lunch", "friday", ("friday at noon",), True),
        ("lunch", "friday at noon", None, True),
        ("friday", "lunch", None, True),
        ("friday", "lunch", ("friday at noon",), False),
        ("lunch", "friday at noon", (), False),
    ],
)
def test_a_date_is_copied_from_what_says_when(
    tokenizer: Tokenizer, title: str, date: str, dates: tuple[str, ...] | None, allowed: bool
) -> None:
    """Where nothing says when, a tool that must be told cannot be called."""
    query = "lunch on friday at noon"
    plan = EVENT.format(title, date)
    assert accepts(tokenizer, TINYAGENT16, plan, sources=(query,), dates=dates) is allowed


def test_a_date_that_may_be_open_stays_open(tokenizer: Tokenizer) -> None:
    """Reminders need no date."""
    plan = '1. create_reminder("lunch", "{}", "", "", 0, True)\n2. join()'
    query = ("remind me of lunch",)
    assert accepts(tokenizer, TINYAGENT16, plan.format(""), sources=query, dates=())
    assert not accepts(tokenizer, TINYAGENT16, plan.format("lunch"), sources=query, dates=())


def test_without_a_tool_that_looks_up_words_do(tokenizer: Tokenizer) -> None:
    """A set without address book takes a name; the gate resolves it or asks."""
    alone = TINYAGENT16.subset(["send_sms"])
    plan = SMS.format("1. ", '"Ana"', 2)
    assert accepts(tokenizer, alone, plan, sources=("text Ana I am late",))


@pytest.mark.parametrize(
    ("accepted", "written", "allowed"),
    [
        ({Type.EMAIL}, '"see ${1}."', True),
        ({Type.EMAIL}, '"${1}${1}"', True),
        ({Type.EMAIL}, '"$1"', True),
        ({Type.EMAIL}, '"see ${2}"', False),
        ({Type.EMAIL}, '"see $${2}"', False),
        ({Type.EMAIL}, '"see $$${2}"', False),
        ({Type.EMAIL}, '"see ${3}"', False),
        ({Type.EMAIL}, '"see ${1"', False),
        ({Type.EMAIL}, '"see ${1.name}"', False),
        (set(), '"see ${1}"', False),
        (set(), '"costs $5, $$, 7$"', True),
        (set(), '"say \\"hi\\" \\\\ \\n"', True),
        (set(), '"a\nb"', False),
        (set(), '"\\x"', False),
    ],
)
def test_templates_hold_references_that_fit(
    tokenizer: Tokenizer, accepted: set[Type], written: str, *, allowed: bool
) -> None:
    """``${k}`` inside text; a dollar before anything else is a dollar."""
    tools = one(param(Kind.TEMPLATE, accepts=frozenset(accepted)))
    assert accepts(tokenizer, tools, calling(written, first=LOOKUPS)) is allowed


def test_two_templates_of_one_tool_keep_their_own_references(tokenizer: Tokenizer) -> None:
    """What one argument may read does not leak into the next one."""
    first = Param(name="a", kind=Kind.TEMPLATE, accepts=frozenset({Type.URL}))
    second = Param(name="b", kind=Kind.TEMPLATE, accepts=frozenset({Type.EMAIL}))
    tools = one(first, second)
    assert accepts(tokenizer, tools, calling('"x ${2}", "x ${1}"', first=LOOKUPS))
    assert not accepts(tokenizer, tools, calling('"x ${1}", "x ${1}"', first=LOOKUPS))
    assert not accepts(tokenizer, tools, calling('"x ${2}", "x ${2}"', first=LOOKUPS))


CASES = [
    (param(Kind.INT), ["0", "-5", "250000"], ["1.5", '"1"', "None", "", "1234567890123"]),
    (param(Kind.INT, optional=True, default=None, empty=True), ["None", "3"], ['""']),
    (param(Kind.FLOAT), ["0", "-5.25", "3"], ["1.", ".5", "None"]),
    (param(Kind.FLOAT, default=1e20), ["1e+20", "2"], ["1e+21"]),
    (param(Kind.BOOL), ["True", "False"], ["true", "None", "1"]),
    (param(Kind.BOOL, optional=True, default=None, empty=True), ["None", "True"], ['""']),
    (
        param(Kind.CHOICE, choices=("d", 'a"b\\', "é\n", "")),
        ['"d"', '"a\\"b\\\\"', '"é\\n"', '""'],
        ['"x"'],
    ),
    (param(Kind.CHOICE, choices=("d", "$1", "${1}")), ['"d"'], ['"$1"', '"${1}"']),
    (param(Kind.CHOICE, choices=("d",), default="", empty=True), ['"d"'], ['""']),
    (param(Kind.CHOICE, choices=("d",), default="gone"), ['"d"'], ['"gone"']),
    (param(Kind.SPAN, default="home"), ['"home"', '"Ana"'], ['""', '"away"']),
    (param(Kind.SPAN, default="$1"), ['"Ana"'], ['"$1"']),
    (param(Kind.SPAN, default="", empty=True), ['""', '"Ana"'], ["None"]),
    (param(Kind.SPAN, default=None, optional=True, empty=True), ["None", '"Ana"'], ['""']),
    (param(Kind.SPAN, empty=True), ['""', '"Ana"'], ["None"]),
    (param(Kind.WHEN), ['"tomorrow at 5"'], ['"2024-01-01"', '""']),
    (param(Kind.TEXT), ['"anything"', '"I owe 50$"'], ['""', '"$1"', "None"]),
    (param(Kind.TEXT, default="", empty=True), ['""', '"x"'], ["None"]),
    (param(Kind.TEMPLATE, default="a ${1}"), ['"x"'], ['"a ${1}"']),
    (param(Kind.TEXT), [f'"{"x" * MAX_TEXT_CHARS}"'], [f'"{"x" * (MAX_TEXT_CHARS + 2)}"']),
    (param(Kind.SPAN, is_list=True), ['["Ana"]', '["Ana", "Wu"]'], ["[]", '["Ana",]', '"Ana"']),
    (param(Kind.SPAN, is_list=True, default=[], empty=True), ["[]", '["Ana"]'], ["None", '[""]']),
    (
        param(Kind.TEXT, is_list=True, default=None, optional=True, empty=True),
        ["[]", '["x"]'],
        ["[None]", "None"],
    ),
    (
        param(Kind.SPAN, is_list=True, default=["home", "x"]),
        ['["home", "x"]', '["Ana"]', '["Ana", "Wu"]'],
        ["[]", '["home"]', '["home", "Ana"]'],
    ),
    (
        param(Kind.INT, is_list=True),
        [f"[{', '.join(['1'] * MAX_ITEMS)}]"],
        [f"[{', '.join(['1'] * (MAX_ITEMS + 1))}]", "[]", "[, ]"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("declared", "right", "wrong"), CASES)
def test_every_kind_of_argument(
    tokenizer: Tokenizer, declared: Param, right: list[str], wrong: list[str]
) -> None:
    """What each kind takes, with defaults, None, empty texts and lists."""
    tools = one(declared)
    assert [w for w in right if not accepts(tokenizer, tools, calling(w))] == []
    assert [w for w in wrong if accepts(tokenizer, tools, calling(w))] == []


def test_dates_in_digits_are_an_option(tokenizer: Tokenizer) -> None:
    """ISO 8601 text where it is asked for, beside phrases of the request."""
    tools = one(param(Kind.WHEN))
    for written in ("2024-05-01", "2024-05-01 09:30", "2024-05-01 09:30:00"):
        assert accepts(tokenizer, tools, calling(f'"{written}"'), iso_dates=True)
    assert not accepts(tokenizer, tools, calling('"2024-5-1"'), iso_dates=True)
    assert accepts(tokenizer, tools, calling('"tomorrow at 5"'), iso_dates=True)


def test_control_steps_stand_alone(tokenizer: Tokenizer) -> None:
    """``ask`` and ``more_tools`` come first and only join() follows them."""
    tools = one(param(Kind.INT))
    ask, more = '1. ask("Who is it?")\n', '1. more_tools(["a_b", "c"])\n'
    assert accepts(tokenizer, tools, ask + "2. join()")
    assert not accepts(tokenizer, tools, ask + "2. join()", ask=False)
    assert not accepts(tokenizer, tools, ask + "2. f(1)\n3. join()")
    assert not accepts(tokenizer, tools, '1. f(1)\n2. ask("Who is it?")\n3. join()')
    assert not accepts(tokenizer, tools, '1. ask("Who")\n2. join()')  # no question
    assert accepts(tokenizer, tools, more + "2. join()", more_tools=("a_b", "c"))
    assert not accepts(tokenizer, tools, more + "2. join()")
    assert not accepts(tokenizer, tools, more + "2. join()", more_tools=("a_b",))
    assert not accepts(tokenizer, tools, more + "2. f(1)\n3. join()", more_tools=("a_b", "c"))


def test_steps_and_effects_are_limited(tokenizer: Tokenizer) -> None:
    """Beyond the limits only join() may follow; calls that change nothing are not effects."""
    tools = one(param(Kind.INT))
    limits = Limits(steps=3, effects=1)
    calls = "1. f(1)\n2. f(2)\n"
    assert not accepts(tokenizer, tools, calls + "3. join()", limits=limits)
    reads = '1. f(1)\n2. url("Ana")\n3. url("Ana")\n'
    assert accepts(tokenizer, tools, reads + "4. join()", limits=limits)
    assert not accepts(tokenizer, tools, reads + '4. url("Ana")\n5. join()', limits=limits)


def test_names_that_begin_alike_are_told_apart(tokenizer: Tokenizer) -> None:
    """``get``, ``get_a`` and ``get_a_b`` each take their own arguments."""
    counts = {"get": 0, "get_a": 1, "get_a_b": 2, "g": 3}
    tools = ToolSet(
        "alike",
        [
            Tool(
                name=name,
                summary="x",
                params=tuple(Param(name=f"p{i}", kind=Kind.INT) for i in range(count)),
            )
            for name, count in counts.items()
        ],
    )
    for name, count in counts.items():
        for given in range(4):
            text = f"1. {name}({', '.join('7' * given)})\n2. join()"
            assert accepts(tokenizer, tools, text) is (given == count)


def test_no_tools_leave_join_and_questions(tokenizer: Tokenizer) -> None:
    """An empty set plans nothing."""
    tools = ToolSet("none", [])
    assert accepts(tokenizer, tools, "1. join()")
    assert accepts(tokenizer, tools, '1. ask("What do you mean?")\n2. join()')
    assert not accepts(tokenizer, tools, "1. f()\n2. join()")


def test_two_hundred_tools(tokenizer: Tokenizer) -> None:
    """Every one of them can be called, others cannot."""
    tools = TOOLSETS["hundreds"]
    assert len(tools) == 200
    bare = [tool for tool in tools if not tool.params]
    for tool in bare[:5]:
        assert accepts(tokenizer, tools, f"1. {tool.name}()\n2. join()")
    assert not accepts(tokenizer, tools, f"1. {bare[0].name}_()\n2. join()")


def test_a_token_that_cannot_follow_is_an_error(tokenizer: Tokenizer) -> None:
    """Accepting it anyway says which one and why; so does going on after the end."""
    tools = ToolSet("none", [])
    constraint = PlanConstraint(tokenizer.llguidance_tokenizer(), tools, ())
    (token,) = tokenizer.encode("2")
    assert not constraint.allows(token)
    with pytest.raises(ModelError, match=f"token {token} cannot follow"):
        constraint.accept(token)
    done = PlanConstraint(tokenizer.llguidance_tokenizer(), tools, (), GrammarOptions(ask=False))
    for forced in done.forced():
        done.accept(forced)
    assert done.finished
    assert done.forced() == []
    assert not done.allows(token)
    with pytest.raises(ModelError, match="the plan is over"):
        done.accept(token)


def test_a_copy_goes_its_own_way(tokenizer: Tokenizer) -> None:
    """Neither the copy nor the original notices what the other accepts."""
    tools = one(param(Kind.INT))
    constraint = PlanConstraint(tokenizer.llguidance_tokenizer(), tools, (QUERY,))
    before = constraint.mask()
    twin = constraint.copy()
    for token in tokenizer.encode("1. f(12)\n2. join()"):
        assert twin.allows(token)
        twin.accept(token)
    assert twin.finished
    assert not constraint.finished
    assert (constraint.mask() == before).all()


# Gold plans


def gold_records() -> list[dict[str, Any]]:
    """Return the 324 hand-written records."""
    files = ("tune.jsonl", "locked.jsonl")
    texts = [(GOLD / name).read_text("utf-8") for name in files]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def refused(tokenizer: Tokenizer) -> list[str]:
    """Return the records whose gold plan cannot be written in the tokenizer's own tokens."""
    found = []
    for record in gold_records():
        tools = TINYAGENT16.subset(record["tools"])
        if record["ask"]:
            text = f"1. ask({json.dumps(record['ask'], ensure_ascii=False)})\n2. join()"
        else:
            text = write(from_calls(record["plan"], tools))
        sources = (record["query"], *(turn["query"] for turn in record["history"]))
        constraint = PlanConstraint(tokenizer.llguidance_tokenizer(), tools, sources)
        for token in tokenizer.encode(text):
            if not constraint.allows(token):
                found.append(f"{record['id']}: {text}")
                break
            constraint.accept(token)
        else:
            if not constraint.finished:
                found.append(f"{record['id']}: not over")
    return found


@pytest.mark.slow
def test_every_gold_plan_can_be_written(tokenizer: Tokenizer) -> None:
    """All 324 hand-written plans and questions, token by token."""
    assert len(gold_records()) == 324
    assert refused(tokenizer) == []


@pytest.mark.slow
@pytest.mark.weights
def test_every_gold_plan_can_be_written_in_the_default_models_tokens(model: LanguageModel) -> None:
    """The same with the tokenizer that is served."""
    assert refused(model.tokenizer) == []
