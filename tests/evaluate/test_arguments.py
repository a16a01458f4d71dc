"""Pairing steps and comparing arguments beyond the hand-made table."""

import random

import pytest

from mlx_tinyagent.errors import InputError
from mlx_tinyagent.evaluate.arguments import argument_match, pair_steps
from mlx_tinyagent.evaluate.calls import call_graph, dependencies, read_calls
from mlx_tinyagent.evaluate.grounding import POINTING, grounding, unknown_people
from mlx_tinyagent.evaluate.metrics import (
    best_tool_score,
    graph_match,
    positional_accuracy,
    tool_score,
    ungrounded_rate,
)
from mlx_tinyagent.tools.base import Kind
from mlx_tinyagent.tools.catalog import TINYAGENT16


def calls(*rows):
    """Number calls written as (tool, argument, ...)."""
    return read_calls(
        [{"id": i, "tool": row[0], "args": list(row[1:])} for i, row in enumerate(rows, start=1)]
    )


def shuffled(rng, plan):
    """Return the plan under other numbers, in another order that keeps dependencies."""
    reads = dependencies(plan)
    left, order = set(range(len(plan))), []
    while left:
        ready = sorted(place for place in left if not set(reads[place]) & left)
        order.append(rng.choice(ready))
        left.discard(order[-1])
    number = {plan[place].id: 10 + 3 * i for i, place in enumerate(order)}

    def renumber(value):
        if isinstance(value, list | tuple):
            return [renumber(item) for item in value]
        if isinstance(value, str):
            for old in sorted(number, reverse=True):
                value = value.replace(f"${old}", f"$<{number[old]}>").replace(
                    f"${{{old}}}", f"${{<{number[old]}>}}"
                )
            return value.replace("<", "").replace(">", "")
        return value

    return read_calls(
        [
            {"id": number[p.id], "tool": p.tool, "args": renumber(p.args)}
            for p in (plan[place] for place in order)
        ]
    )


BIG = calls(
    ("get_phone_number", "Ann"),
    ("get_phone_number", "Bo"),
    ("get_phone_number", "Cy"),
    ("open_and_get_file_path", "a.pdf"),
    ("open_and_get_file_path", "b.pdf"),
    ("summarize_pdf", "$4"),
    ("summarize_pdf", "$5"),
    ("send_sms", ["$1", "$2"], "first: ${6}"),
    ("send_sms", ["$2", "$3"], "second: ${7} and ${6}"),
    ("create_note", "Both", "$6 then $7"),
)


@pytest.mark.parametrize("seed", range(25))
def test_measures_do_not_see_numbers_and_order(seed):
    """Any renumbered, reordered copy is a full match in graph and arguments."""
    other = shuffled(random.Random(seed), BIG)

    assert graph_match(other, BIG)
    assert argument_match(other, BIG, TINYAGENT16).complete
    pairs = pair_steps(other, BIG, TINYAGENT16)
    assert [
        BIG[right].args[0] for left, right in pairs if other[left].tool == "get_phone_number"
    ] == [other[left].args[0] for left, _ in pairs if other[left].tool == "get_phone_number"]


def test_each_reference_is_one_edge():
    """Braces, two in one text, fields and repeats; a price is none."""
    plan = calls(
        ("open_note", "a"),
        ("open_note", "b"),
        ("create_note", "c", "${1}, $2.body and ${1} for $2.50 or $1,000 or $9"),
    )

    assert call_graph(plan).edges == {(0, 2), (1, 2)}


def test_a_wrong_lookup_is_one_miss_not_two():
    """Whoever reads the counterpart of the right step reads right."""
    gold = calls(("get_phone_number", "Ann"), ("send_sms", ["$1"], "hi"))
    wrong = calls(("get_phone_number", "Zoe"), ("send_sms", ["$1"], "hi"))

    score = argument_match(wrong, gold, TINYAGENT16)

    assert [(miss.tool, miss.argument) for miss in score.misses] == [("get_phone_number", "name")]
    assert score.rate == pytest.approx(2 / 3)
    assert score.by_kind == {"span": (1, 2), "template": (1, 1)}


def test_readers_decide_between_equal_steps():
    """Two wrong lookups are paired by who reads them."""
    gold = calls(
        ("get_email_address", "Ann"),
        ("get_email_address", "Bo"),
        ("compose_new_email", ["$1"], [], "one"),
        ("reply_to_email", ["$2"], "two"),
    )
    wrong = calls(
        ("get_email_address", "X"),
        ("get_email_address", "Y"),
        ("reply_to_email", ["$1"], "two"),
        ("compose_new_email", ["$2"], [], "one"),
    )

    assert pair_steps(wrong, gold, TINYAGENT16) == [(0, 1), (1, 0), (2, 3), (3, 2)]
    assert len(argument_match(wrong, gold, TINYAGENT16).misses) == 2


def test_a_step_done_twice_serves_either_reader():
    """Reading an equal lookup is reading the right one."""
    gold = calls(
        ("get_phone_number", "Ann"),
        ("get_phone_number", "Ann"),
        ("send_sms", ["$1"], "one thing"),
        ("send_sms", ["$2"], "other words"),
    )
    crossed = calls(
        ("get_phone_number", "Ann"),
        ("get_phone_number", "Ann"),
        ("send_sms", ["$2"], "one thing"),
        ("send_sms", ["$1"], "other words"),
    )

    assert argument_match(crossed, gold, TINYAGENT16).complete


def test_tools_outside_the_set_are_compared_as_spans():
    """Unknown tools have no declaration, yet a score."""
    gold = calls(("feed_cat", "Tom", 3, True))

    assert argument_match(calls(("feed_cat", "tom", 3, True)), gold, TINYAGENT16).complete
    assert len(argument_match(calls(("feed_cat", "tim", 4, 1)), gold, TINYAGENT16).misses) == 3


def test_empty_plans_match():
    """Nothing to compare is a full match; something against nothing is not."""
    assert argument_match((), (), TINYAGENT16).complete
    assert argument_match((), (), TINYAGENT16).rate == 1.0
    assert not argument_match(BIG, (), TINYAGENT16).complete


@pytest.mark.parametrize(
    ("predicted", "gold", "expected"),
    [
        ("ab", "ab", (1.0, 1.0, True, True)),
        ("a", "ab", (1.0, 0.5, False, False)),
        ("abc", "ab", (2 / 3, 1.0, True, False)),
        ("aab", "ab", (1.0, 1.0, True, True)),
        ("", "", (1.0, 1.0, True, True)),
        ("", "a", (1.0, 0.0, False, False)),
        ("a", "", (0.0, 1.0, True, False)),
    ],
)
def test_tool_sets(predicted, gold, expected):
    """Precision, recall, full recall and equality of sets."""
    score = tool_score(predicted, gold)

    assert (score.precision, score.recall, score.full, score.exact) == expected


def test_the_best_acceptable_set_counts():
    """Alternatives are alternatives; none given is an error."""
    assert best_tool_score({"a"}, [["a", "b"], ["a"]]).exact
    assert best_tool_score(set(), [[]]).exact
    with pytest.raises(InputError, match="any_of"):
        best_tool_score({"a"}, [])


def test_surplus_steps_cost_positional_accuracy():
    """Unlike upstream's zip, the longer plan divides."""
    gold = calls(("open_note", "a"))

    assert positional_accuracy(calls(("open_note", "a"), ("open_note", "b")), gold) == 0.5
    assert positional_accuracy(gold, gold) == positional_accuracy((), ()) == 1.0


def test_history_grounds_values():
    """Earlier turns count, as texts or as data; the words around references are values too."""
    plan = calls(("get_phone_number", "Ann"), ("send_sms", ["$1"], "see ${1} soon"))
    history = [{"role": "user", "content": "who is Ann?"}]

    alone = grounding(plan, TINYAGENT16, "text her")
    told = grounding(plan, TINYAGENT16, "text her, see soon", history)

    assert [value.text for value in alone.ungrounded] == ["Ann", "see   soon"]
    assert told.ungrounded == ()
    assert alone.rate(POINTING) == 1.0
    assert (alone.rate(), told.rate(), alone.totals[Kind.TEMPLATE]) == (1.0, 0.0, 1)
    assert ungrounded_rate([alone, told], POINTING) == 0.5
    assert [value.text for value in unknown_people(plan, TINYAGENT16, "text her")] == ["Ann"]
    assert unknown_people(plan, TINYAGENT16, "text her", history) == ()


def test_written_addresses_are_people_too():
    """An invented address in a recipients list is an invented person; a given one is not."""
    plan = calls(("compose_new_email", ["ann@x.org", "bo@x.org"], [], "hi"))

    found = unknown_people(plan, TINYAGENT16, "mail ann@x.org, subject hi")

    assert [value.text for value in found] == ["bo@x.org"]
