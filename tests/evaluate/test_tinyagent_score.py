"""TinyAgent's scorer: bit-compatible with upstream's, restated here with networkx."""

import ast
import json
import random
import re
import time
import warnings
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tinyagent.errors import InputError
from mlx_tinyagent.evaluate import tinyagent_score
from mlx_tinyagent.evaluate.tinyagent_score import render_calls, tinyagent_success
from mlx_tinyagent.tools.catalog import TINYAGENT16

SHARED = Path(__file__).resolve().parents[2] / "../shared/data/tinyagent"

# --- The oracle: SqueezeAILab/TinyAgent at 0074615, literally. Raises wherever upstream raises.

PATTERN = r"(?:Thought: ([^\n]*)\n)?\n*(\d+)\. (\w+)\((.*)\)(\s*#\w+\n)?"
NAMES = {*TINYAGENT16.names, "join"}


def upstream_arguments(text):
    """Restate ``_parse_llm_compiler_action_args``."""
    if text == "":
        return ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text)
    except Exception:  # upstream: a bare except
        value = text
    if not isinstance(value, list) and not isinstance(value, tuple):
        value = (value,)
    return value


def upstream_parse(text):
    """Restate the plan parser and the translation of tool names."""
    calls = {}
    for _, number, name, arguments, _ in re.findall(PATTERN, text):
        calls[int(number)] = (name, upstream_arguments(arguments))
        if name == "join":
            break
    plan = []
    for name, arguments in calls.values():
        if name not in NAMES:
            break
        plan.append((name, arguments))
    return plan


def upstream_references(arguments):
    """Yield the references that upstream sees."""
    for argument in arguments:
        for item in argument if isinstance(argument, list) else [argument]:
            if isinstance(item, str) and (found := re.search(r"\$\d+", item)):
                yield int(found.group()[1:])


def upstream_dependencies(plan, place):
    """Return a node's nested dependency list."""
    result = []
    for number in upstream_references(plan[place][1]):
        if number - 1 == place:
            raise ValueError("a step depends on itself")
        below = upstream_dependencies(plan, number - 1)
        result.append({"tool_name": plan[number - 1][0], "dependencies": below})
    return result


def upstream_graph(plan):
    """Restate ``build_graph``."""
    graph = nx.DiGraph()
    for place, (name, arguments) in enumerate(plan):
        below = upstream_dependencies(plan, place)
        graph.add_node(f"{place + 1}: {name}", tool_name=name, dependencies=below)
        for number in upstream_references(arguments):
            graph.add_edge(f"{number}: {plan[number - 1][0]}", f"{place + 1}: {name}")
    return graph


def upstream_same(first, second):
    """Restate the comparison of dependency lists."""
    if len(first) != len(second):
        return False
    first = sorted(first, key=lambda item: item["tool_name"])
    second = sorted(second, key=lambda item: item["tool_name"])
    return all(
        a["tool_name"] == b["tool_name"] and upstream_same(a["dependencies"], b["dependencies"])
        for a, b in zip(first, second, strict=True)
    )


def upstream_success(predicted, gold):
    """Restate the success rate of one plan."""
    graphs = [upstream_graph(upstream_parse(text)) for text in (predicted, gold)]
    return float(
        nx.is_isomorphic(
            *graphs,
            node_match=lambda a, b: (
                a["tool_name"] == b["tool_name"]
                and upstream_same(a["dependencies"], b["dependencies"])
            ),
        )
    )


UPSTREAM_RAISES = (ValueError, IndexError, KeyError, RecursionError)


def oracle(predicted, gold):
    """Return upstream's score, 0 where it raises."""
    try:
        return upstream_success(predicted, gold)
    except UPSTREAM_RAISES:
        return 0.0


# --- Reading.

PIECES = st.sampled_from(
    ["Thought: ", "1. ", "2. ", "10. ", "a(", "join(", ")", "\n", "\n\n", " ", "#x\n", "# x",
     "b", "12", ". ", "x) ", "\r", '"$1"', "Thought:", "٣. "]
)  # fmt: skip


@given(st.lists(PIECES, max_size=24).map("".join))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_the_scan_finds_what_upstreams_expression_finds(text):
    """Number, tool and argument text of every match, in order."""
    expected = [(number, name, args) for _, number, name, args, _ in re.findall(PATTERN, text)]

    assert list(tinyagent_score._actions(text)) == expected


STEP = st.builds(
    lambda number, tool, args: f"{number}. {tool}({', '.join(args)})",
    st.integers(1, 4),
    st.sampled_from(["open_note", "get_email_address", "send_sms", "join", "fly_to_moon"]),
    st.lists(
        st.sampled_from(
            ['"$1"', '"$2"', '"$3 and $1"', '["$1", "$2"]', '[["$1"]]', '("$1",)', '"${1}"', '"$0"',
             "$2", '[$1, "$2"]', '"x"', "None", "null", 'name="$1"', "1", '"$9"', "[]"]
        ),
        max_size=3,
    ),
)  # fmt: skip
PLAN = st.lists(STEP, max_size=5).map(lambda steps: "\n".join([*steps, "6. join()"]))


@given(PLAN, PLAN)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_scores_as_upstream(predicted, gold):
    """Any two plans, valid or not: upstream's score, and 0 where upstream raises."""
    assert tinyagent_success(predicted, gold).value == oracle(predicted, gold)
    assert tinyagent_success(gold, gold).value == oracle(gold, gold)


# --- Quirks, one by one; ``same`` is upstream's verdict against GOLD.

GOLD = (
    '1. get_phone_number("Ann")\n2. get_phone_number("Bo")\n'
    '3. send_sms(["$1", "$2"], "hi")\n4. join()<END_OF_PLAN>'
)
TWO_LOOKUPS = '1. get_phone_number("Ann")\n2. get_phone_number("Bo")\n'


@pytest.mark.parametrize(
    ("name", "text", "value", "reason"),
    [
        ("the plan itself", GOLD, 1.0, "match"),
        ("no end mark, a new line", GOLD.replace("<END_OF_PLAN>", "\n"), 1.0, "match"),
        ("thoughts between", "Thought: look\n" + GOLD.replace("\n3", "\nThought: send\n3"),
         1.0, "match"),
        ("wrong people and text", GOLD.replace("Ann", "Zoe").replace("hi", "bye"), 1.0, "match"),
        ("lookups swapped", TWO_LOOKUPS + '3. send_sms(["$2", "$1"], "hi")\n4. join()',
         1.0, "match"),
        ("other printed numbers", GOLD.replace("4. join", "9. join"), 1.0, "match"),
        ("numbers with a gap score by place",
         '1. get_phone_number("A")\n5. get_phone_number("B")\n7. send_sms(["$1", "$2"], "")\n'
         "8. join()", 1.0, "match"),
        ("a repeated number keeps the first place and the last call",
         '1. open_note("x")\n2. get_phone_number("B")\n1. get_phone_number("A")\n'
         '3. send_sms(["$1", "$2"], "hi")\n4. join()', 1.0, "match"),
        ("text after join", GOLD + '\n5. open_note("x")', 1.0, "match"),
        ("one reference as raw text", TWO_LOOKUPS + '3. send_sms([$1, $2], "hi")\n4. join()',
         0.0, "different-graph"),
        ("named arguments are one raw string with one reference",
         TWO_LOOKUPS + '3. send_sms(recipients=["$1", "$2"])\n4. join()', 0.0, "different-graph"),
        ("braces are no reference", GOLD.replace('"$1"', '"${1}"'), 0.0, "different-graph"),
        ("two references in one text count once", GOLD.replace('["$1", "$2"]', '"$1 $2"'),
         0.0, "different-graph"),
        ("a reference again in another slot", GOLD.replace('"hi"', '"call $1"'),
         0.0, "different-graph"),
        ("references in a nested list are not seen",
         GOLD.replace('["$1", "$2"]', '[["$1", "$2"]]'), 0.0, "different-graph"),
        ("no join", GOLD.replace("4. join()", ""), 0.0, "different-tools"),
        ("join first", "1. join()\n" + GOLD, 0.0, "different-tools"),
        ("an unknown tool cuts the plan", GOLD.replace("send_sms", "send_text"),
         0.0, "different-tools"),
        ("an extra tool", GOLD.replace("4. join", '4. open_note("x")\n5. join'),
         0.0, "different-tools"),
        ("two calls on one line are one", GOLD.replace('"Ann")\n', '"Ann") '),
         0.0, "self-reference"),
        ("a price reads as a reference", GOLD.replace('"hi"', '"you owe me $20"'),
         0.0, "beyond-end"),
        ("step zero", GOLD.replace("$1", "$0"), 0.0, "zero-reference"),
        ("itself", GOLD.replace("$1", "$3"), 0.0, "self-reference"),
        ("a ring of two", GOLD.replace('("Ann")', '("$3")'), 0.0, "cycle"),
        ("a number without end", GOLD.replace("$1", "$" + "9" * 5000), 0.0, "beyond-end"),
        ("nothing", "", 0.0, "different-tools"),
        ("prose", "I cannot do that.", 0.0, "different-tools"),
    ],
)  # fmt: skip
def test_quirks(name, text, value, reason):
    """Each documented quirk has upstream's score and a reason of its own."""
    score = tinyagent_success(text, GOLD)

    assert (score.value, score.reason) == (value, reason)
    assert oracle(text, GOLD) == value


def test_a_lone_list_argument_is_the_argument_list():
    """``f([a, b])`` and ``f(a, b)`` are the same to the scorer."""
    spread = GOLD.replace('["$1", "$2"], "hi"', '"$1", "$2"')
    lone = GOLD.replace('["$1", "$2"], "hi"', '["$1", "$2"]')

    assert tinyagent_success(spread, lone).value == upstream_success(spread, lone) == 1.0


def test_same_named_dependencies_are_compared_in_slot_order():
    """Sorting by name alone leaves equal names as written, so swapped slots differ."""
    head = '1. open_note("a")\n2. get_email_address("$1")\n3. get_email_address("b")\n'
    first = head + '4. compose_new_email(["$2", "$3"])\n5. join()'
    second = head + '4. compose_new_email(["$3", "$2"])\n5. join()'

    assert tinyagent_success(first, second).value == upstream_success(first, second) == 0.0


def test_forward_references_score():
    """A step may read a later one; only rings have no graph."""
    plan = '1. open_note("$2")\n2. get_email_address("a")\n3. join()'

    assert tinyagent_success(plan, plan).value == upstream_success(plan, plan) == 1.0


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        (GOLD.replace("$1", "$3"), "gold-self-reference"),
        (GOLD.replace("$1", "$9"), "gold-beyond-end"),
        ("9" * 5000 + ". join()", "gold-unreadable-id"),
    ],
)
def test_gold_plans_at_fault_are_told_apart(gold, reason):
    """A gold plan on which upstream raises scores 0 against itself, and says so."""
    assert tinyagent_success(gold, gold).reason == reason
    assert tinyagent_success(gold, gold).value == 0.0


@pytest.mark.shared
def test_every_public_row_matches_itself():
    """All 1,157 public TinyAgent plans score 1; so do their calls, rendered."""
    if not SHARED.is_dir():
        pytest.skip("the shared TinyAgent rows are not beside the checkout")
    rows = [
        json.loads(line)
        for name in ("train", "test_public")
        for line in (SHARED / f"{name}.jsonl").read_text().splitlines()
    ]
    assert len(rows) == 1157
    assert [r["idx"] for r in rows if tinyagent_success(r["plan"], r["plan"]).value != 1.0] == []
    # One plan has its join in the middle, which calls without control steps cannot say.
    joined_early = [r["idx"] for r in rows if tinyagent_success(r["calls"], r["plan"]).value < 1]
    assert joined_early == [341]


@pytest.mark.shared
def test_public_plans_with_one_reference_changed_score_as_upstream():
    """One reference of a real plan turned to another step: upstream's verdict, both ways."""
    if not SHARED.is_dir():
        pytest.skip("the shared TinyAgent rows are not beside the checkout")
    rng = random.Random(0)
    counts = {0.0: 0, 1.0: 0}
    for line in (SHARED / "train.jsonl").read_text().splitlines():
        plan = json.loads(line)["plan"]
        places = list(re.finditer(r"\$\d+", plan))
        if not places:
            continue
        place = rng.choice(places)
        changed = f"{plan[: place.start()]}${rng.randint(1, 4)}{plan[place.end() :]}"
        score = tinyagent_success(changed, plan).value
        assert score == oracle(changed, plan), changed
        counts[score] += 1
    assert min(counts.values()) > 100


# --- Structured calls.


def test_structured_calls_are_read_back_whatever_they_hold():
    """Quotes, line breaks and backslashes in arguments cost no step."""
    calls = [
        {"id": 1, "tool": "open_note", "args": ['a "b"\n)\\ c\r', None]},
        {"id": 2, "tool": "compose_new_email", "args": [["x"], [], "Re: it's", "see ${1}", []]},
    ]
    text = render_calls(calls)

    assert text.count("\n") == 2
    assert text.endswith("3. join()")
    plain = '1. open_note("a")\n2. compose_new_email(["x"], [], "", "$1", [])\n3. join()'
    assert tinyagent_success(calls, plain).value == 1.0


def test_no_calls_are_join_alone():
    """A plan without calls equals ``join()`` and differs from any call."""
    assert tinyagent_success([], "1. join()").value == 1.0
    assert tinyagent_success([], GOLD).value == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"tool": "open_note", "args": []}, "call 1 has no id"),
        ({"id": "one", "tool": "open_note", "args": []}, "call 1 has id 'one'"),
        ({"id": 1, "tool": 7, "args": []}, "tool 7"),
        ({"id": 1, "tool": "open_note", "args": "x"}, "call 1 has args 'x'"),
        ("open_note", "call 1 is str"),
    ],
)
def test_broken_calls_are_named(call, message):
    """A call that cannot be rendered is an input error that says which and why."""
    with pytest.raises(InputError, match=message):
        tinyagent_success([call], GOLD)


# --- Size.


def many(step, n=10_000):
    """Write a plan of n steps."""
    return "\n".join([*(step(i) for i in range(1, n + 1)), f"{n + 1}. join()"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "step", "value"),
    [
        ("alike", lambda i: f'{i}. get_email_address("x")', 1.0),
        ("a chain", lambda i: f'{i}. open_note("${i - 1}")' if i > 1 else '1. open_note("a")', 1.0),
        ("a ring", lambda i: f'{i}. open_note("${i % 10_000 + 1}")', 0.0),
        (
            "a chain read twice per step, which unfolds to 2^10,000 nodes upstream",
            lambda i: f'{i}. open_note("${i - 1}", "${i - 1}")' if i > 1 else '1. open_note("a")',
            1.0,
        ),
        ("a tree", lambda i: f'{i}. open_note("${i // 2}")' if i > 1 else '1. open_note("a")', 1.0),
    ],
)
def test_ten_thousand_calls_have_a_score_in_seconds(name, step, value):
    """Size never hangs or crashes the scorer."""
    text = many(step)
    start = time.perf_counter()

    assert tinyagent_success(text, text).value == value
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize(
    "text",
    [
        "1. a(" * 20_000,
        "Thought: " * 20_000,
        "Thought: x\n" * 20_000,
        "\n" * 200_000,
        "1" * 200_000,
        "1. join(" + "(" * 20_000 + ")",
        "1. join(" + "-" * 20_000 + "1)",
        "1. join(" + "1+" * 20_000 + "1)",
        "1. open_note(" + "[" * 5_000 + "]" * 5_000 + ")",
        "1. open_note(\x00)",
        '1. open_note("\ud800")',
        "1. open_note({[]: 1})",
        r'1. open_note("\d \N{x}")',
    ],
)
def test_hostile_text_has_a_score_at_once(text):
    """Quadratic traps, deep nesting and odd characters end in a score."""
    start = time.perf_counter()

    assert tinyagent_success(text, text).value in (0.0, 1.0)
    assert tinyagent_success(text, GOLD).value == 0.0
    assert time.perf_counter() - start < 5
