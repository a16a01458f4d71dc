"""Hand-made plans with the score each must get under every measure.

A case names only what differs from a perfect answer, so a measure that moves
without reason fails in many places.
"""

from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tinyagent.errors import InputError
from mlx_tinyagent.evaluate.calls import read_calls
from mlx_tinyagent.evaluate.metrics import score_plan
from mlx_tinyagent.tools.base import Span, ToolSet, tool
from mlx_tinyagent.tools.catalog import TINYAGENT16

NOW = "2026-03-02T09:00:00"  # a Monday
MOMENTS = {
    "friday at 3pm": datetime(2026, 3, 6, 15),
    "Fri 3 pm": datetime(2026, 3, 6, 15),
    "2026-03-06T15:00:00": datetime(2026, 3, 6, 15),
    "friday": datetime(2026, 3, 6),
    "saturday at 3pm": datetime(2026, 3, 7, 15),
}


def resolve(phrase, now):
    """Stand in for the date resolver: a short list of phrases at one moment."""
    assert now == datetime.fromisoformat(NOW)
    return MOMENTS.get(phrase)


def plan(*calls):
    """Number calls written as (tool, argument, ...)."""
    return [{"id": i, "tool": c[0], "args": list(c[1:])} for i, c in enumerate(calls, start=1)]


TEXT = {
    "query": "Text mom and Zoë that dinner is at 7 tonight",
    "plan": plan(
        ("get_phone_number", "mom"),
        ("get_phone_number", "Zoë"),
        ("send_sms", ["$1", "$2"], "dinner is at 7 tonight"),
    ),
}
MEET = {
    "query": "invite dana to the budget review friday at 3pm at the Ritz, with the map link",
    "plan": plan(
        ("get_email_address", "dana"),
        ("maps_open_location", "the Ritz"),
        ("create_calendar_event", "budget review", "friday at 3pm", "", "$2", ["$1"], "", None),
    ),
}
MAIL = {
    "query": "mail Raúl a summary of q3.pdf and attach it, subject numbers",
    "plan": plan(
        ("open_and_get_file_path", "q3.pdf"),
        ("summarize_pdf", "$1"),
        ("get_email_address", "Raúl"),
        ("compose_new_email", ["$3"], [], "numbers", "${2}", ["$1"]),
    ),
}
NOTE = {
    "query": "append both links to the note Trip: maps for Rome and for Oslo",
    "plan": plan(
        ("maps_open_location", "Rome"),
        ("maps_open_location", "Oslo"),
        ("append_note_content", "Trip", "${1} and ${2}"),
    ),
}
REMIND = {
    "query": "remind me friday to water the plants, high priority",
    "plan": plan(("create_reminder", "water the plants", "friday", "", "", 1, True)),
}
ROUTE = {
    "query": "how do I walk to the station",
    "plan": plan(("maps_show_directions", "", "the station", "w")),
}
UNCLEAR = {"query": "send it to her", "plan": [], "kind": "ask"}
NEAR = {"query": "delete my last text", "plan": [], "kind": "none_near"}
FAR = {"query": "what is the capital of Peru", "plan": [], "kind": "none_far"}

PERFECT = {
    "tinyagent": 1.0, "graph": True, "exact": True, "plan": True, "rule": None,
    "ungrounded": 0, "strangers": 0, "unknown": 0, "missed": 0,
}  # fmt: skip
SILENT = {"tinyagent": None, "graph": None, "exact": None, "plan": None, "missed": None}
NOTHING = {"tinyagent": 0.0, "graph": False, "exact": False, "plan": False}

LOOK_MOM, LOOK_ZOE = ("get_phone_number", "mom"), ("get_phone_number", "Zoë")
SAY = "dinner is at 7 tonight"
LOOK_DANA, MAP_RITZ = ("get_email_address", "dana"), ("maps_open_location", "the Ritz")
FIND, SUM, LOOK_RAUL = (
    ("open_and_get_file_path", "q3.pdf"),
    ("summarize_pdf", "$1"),
    ("get_email_address", "Raúl"),
)
ROME, OSLO = ("maps_open_location", "Rome"), ("maps_open_location", "Oslo")


def event(title="budget review", start="friday at 3pm", place="$2", guests=("$1",)):
    """Return the event of MEET with some arguments changed."""
    return ("create_calendar_event", title, start, "", place, list(guests), "", None)


CASES = [
    ("the gold plan", TEXT, TEXT["plan"], {}),
    ("lookups in the other order",
     TEXT, plan(LOOK_ZOE, LOOK_MOM, ("send_sms", ["$2", "$1"], SAY)), {}),
    ("recipients in the other order",
     TEXT, plan(LOOK_MOM, LOOK_ZOE, ("send_sms", ["$2", "$1"], SAY)), {}),
    ("case and accents of people", TEXT,
     plan(("get_phone_number", "MOM"), ("get_phone_number", "zoe"),
          ("send_sms", ["$1", "$2"], SAY)),
     {"ungrounded": 1}),
    ("a name cut short", TEXT,
     plan(("get_phone_number", "mo"), LOOK_ZOE, ("send_sms", ["$1", "$2"], SAY)),
     {"plan": False, "missed": 1, "ungrounded": 1, "strangers": 1}),
    ("a stranger", TEXT,
     plan(("get_phone_number", "Bob"), LOOK_ZOE, ("send_sms", ["$1", "$2"], SAY)),
     {"plan": False, "missed": 1, "ungrounded": 1, "strangers": 1}),
    ("one recipient forgotten", TEXT, plan(LOOK_MOM, ("send_sms", ["$1"], SAY)),
     {"tinyagent": 0.0, "graph": False, "plan": False, "missed": 2}),
    ("the same recipient twice",
     TEXT, plan(LOOK_MOM, LOOK_ZOE, ("send_sms", ["$1", "$1"], SAY)),
     {"tinyagent": 0.0, "graph": False, "plan": False, "missed": 1}),
    ("a reworded text", TEXT,
     plan(LOOK_MOM, LOOK_ZOE, ("send_sms", ["$1", "$2"], "Dinner is tonight at 7!")),
     {"ungrounded": 1}),
    ("another text", TEXT, plan(LOOK_MOM, LOOK_ZOE, ("send_sms", ["$1", "$2"], "call me back")),
     {"plan": False, "missed": 1, "ungrounded": 1}),
    ("no text", TEXT, plan(LOOK_MOM, LOOK_ZOE, ("send_sms", ["$1", "$2"])),
     {"plan": False, "missed": 1, "rule": "arity"}),
    ("a name in place of the number",
     TEXT, plan(LOOK_MOM, LOOK_ZOE, ("send_sms", ["$1", "Zoë"], SAY)),
     {"tinyagent": 0.0, "graph": False, "plan": False, "missed": 1}),
    ("two messages instead of one", TEXT,
     plan(LOOK_MOM, LOOK_ZOE, ("send_sms", ["$1"], SAY), ("send_sms", ["$2"], SAY)),
     {"tinyagent": 0.0, "graph": False, "plan": False, "missed": 1}),
    ("a note on top", TEXT, [*TEXT["plan"], {"id": 4, "tool": "open_note", "args": ["mom"]}],
     {"tinyagent": 0.0, "graph": False, "exact": False, "plan": False}),
    ("nothing at all", TEXT, [], {**NOTHING, "missed": 4}),
    ("addresses instead of numbers", TEXT,
     plan(("get_email_address", "mom"), ("get_email_address", "Zoë"),
          ("send_sms", ["$1", "$2"], SAY)),
     {**NOTHING, "missed": 3, "rule": "reference-type"}),
    ("an invented tool", TEXT,
     plan(("find_phone", "mom"), LOOK_ZOE, ("send_sms", ["$1", "$2"], SAY)),
     {**NOTHING, "missed": 2, "unknown": 1, "rule": "unknown-tool"}),
    ("a reference beyond the end",
     TEXT, plan(LOOK_MOM, LOOK_ZOE, ("send_sms", ["$1", "$9"], SAY)),
     {"tinyagent": 0.0, "graph": False, "plan": False, "missed": 1, "ungrounded": 1,
      "strangers": 1, "rule": "forward-reference"}),
    ("a step that reads itself",
     TEXT, plan(LOOK_MOM, LOOK_ZOE, ("send_sms", ["$1", "$3"], SAY)),
     {"tinyagent": 0.0, "graph": False, "plan": False, "missed": 1, "ungrounded": 1,
      "strangers": 1, "rule": "forward-reference"}),
    ("numbers with a gap, references as printed", TEXT,
     [{"id": 1, "tool": "get_phone_number", "args": ["mom"]},
      {"id": 3, "tool": "get_phone_number", "args": ["Zoë"]},
      {"id": 7, "tool": "send_sms", "args": [["$1", "$3"], SAY]}],
     {"tinyagent": 0.0, "plan": False, "rule": "order"}),
    ("a surplus argument", TEXT,
     plan((*LOOK_MOM, "now"), LOOK_ZOE, ("send_sms", ["$1", "$2"], SAY)),
     {"plan": False, "missed": 1, "rule": "arity", "ungrounded": 1}),
    ("a list for one person", TEXT,
     plan(("get_phone_number", ["mom"]), LOOK_ZOE, ("send_sms", ["$1", "$2"], SAY)),
     {"plan": False, "rule": "type"}),
    ("an event", MEET, MEET["plan"], {}),
    ("the same moment in other words", MEET, plan(LOOK_DANA, MAP_RITZ, event(start="Fri 3 pm")),
     {"ungrounded": 1}),
    ("the same moment as ISO", MEET,
     plan(LOOK_DANA, MAP_RITZ, event(start="2026-03-06T15:00:00")), {"ungrounded": 1}),
    ("the same moment as ISO, which the resolver gave", MEET,
     [*plan(LOOK_DANA, MAP_RITZ),
      {"id": 3, "tool": "create_calendar_event",
       "args": list(event(start="2026-03-06T15:00:00"))[1:],
       "resolved": {"start_date": "2026-03-06T15:00:00"}}], {}),
    ("another day", MEET, plan(LOOK_DANA, MAP_RITZ, event(start="saturday at 3pm")),
     {"plan": False, "missed": 1, "ungrounded": 1}),
    ("no time of day", MEET, plan(LOOK_DANA, MAP_RITZ, event(start="friday")),
     {"plan": False, "missed": 1}),
    ("a date nobody can read", MEET, plan(LOOK_DANA, MAP_RITZ, event(start="budget")),
     {"plan": False, "missed": 1}),
    ("the title capitalized and quoted", MEET,
     plan(LOOK_DANA, MAP_RITZ, event(title='"Budget  Review"')), {}),
    ("the place in words instead of the link", MEET,
     plan(LOOK_DANA, MAP_RITZ, event(place="the Ritz")),
     {"tinyagent": 0.0, "graph": False, "plan": False, "missed": 1}),
    ("slots swapped: the address as the place", MEET,
     plan(LOOK_DANA, MAP_RITZ, event(place="$1", guests=["$2"])),
     {"plan": False, "missed": 2, "rule": "reference-type"}),
    ("trailing defaults left out", MEET,
     plan(LOOK_DANA, MAP_RITZ, event()[:6]), {}),
    ("a mail", MAIL, MAIL["plan"], {}),
    ("TinyAgent's way to refer inside text", MAIL,
     plan(FIND, SUM, LOOK_RAUL, ("compose_new_email", ["$3"], [], "numbers", "$2", ["$1"])), {}),
    ("the address looked up first", MAIL,
     plan(LOOK_RAUL, FIND, ("summarize_pdf", "$2"),
          ("compose_new_email", ["$1"], [], "numbers", "${3}", ["$2"])), {}),
    ("the file found twice", MAIL,
     plan(FIND, SUM, LOOK_RAUL, FIND,
          ("compose_new_email", ["$3"], [], "numbers", "${2}", ["$4"])),
     {"tinyagent": 0.0, "graph": False, "plan": False}),
    ("the attachment forgotten", MAIL,
     plan(FIND, SUM, LOOK_RAUL, ("compose_new_email", ["$3"], [], "numbers", "${2}", [])),
     {"tinyagent": 0.0, "graph": False, "plan": False, "missed": 1}),
    ("the path instead of the summary", MAIL,
     plan(FIND, SUM, LOOK_RAUL, ("compose_new_email", ["$3"], [], "numbers", "${1}", ["$1"])),
     {"tinyagent": 0.0, "graph": False, "plan": False, "missed": 1}),
    ("a field of a result", MAIL,
     plan(FIND, SUM, LOOK_RAUL,
          ("compose_new_email", ["$3.email"], [], "numbers", "${2}", ["$1.path"])),
     {}),
    ("a field that does not exist", MAIL,
     plan(FIND, SUM, LOOK_RAUL, ("compose_new_email", ["$3.fax"], [], "numbers", "${2}", ["$1"])),
     {"plan": False, "rule": "field"}),
    ("two references in one text", NOTE, NOTE["plan"], {}),
    ("only the first of two references", NOTE,
     plan(ROME, OSLO, ("append_note_content", "Trip", "${1}")),
     {"graph": False, "plan": False, "missed": 1}),
    ("the places swapped in one text", NOTE,
     plan(OSLO, ROME, ("append_note_content", "Trip", "${1} and ${2}")), {}),
    ("a reminder", REMIND, REMIND["plan"], {}),
    ("the priority left out", REMIND, plan(("create_reminder", "water the plants", "friday")),
     {"plan": False, "missed": 2}),
    ("a number written as text", REMIND,
     plan(("create_reminder", "water the plants", "friday", "", "", "1", True)), {}),
    ("true is not one", REMIND,
     plan(("create_reminder", "water the plants", "friday", "", "", True, True)),
     {"plan": False, "missed": 1, "rule": "type"}),
    ("a route", ROUTE, plan(("maps_show_directions", "", "The Station", "w")), {}),
    ("by car", ROUTE, plan(("maps_show_directions", "", "the station", "d")),
     {"plan": False, "missed": 1}),
    ("by boat", ROUTE, plan(("maps_show_directions", "", "the station", "boat")),
     {"plan": False, "missed": 1, "rule": "type"}),
    ("a question is asked", UNCLEAR, [], SILENT),
    ("near miss, no calls", NEAR, [], SILENT),
    ("far miss, a note opened", FAR, plan(("open_note", "Peru")), SILENT),
]  # fmt: skip


@pytest.mark.parametrize(
    ("example", "calls", "differs"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_hand_made_plans_get_the_score_they_must(example, calls, differs):
    """Every measure of every case is the one written down."""
    score = score_plan({"calls": calls}, {"now": NOW, **example}, TINYAGENT16, resolve=resolve)

    found = {
        "tinyagent": score.tinyagent and score.tinyagent.value,
        "graph": score.graph,
        "exact": score.tools and score.tools.exact,
        "plan": score.plan,
        "rule": score.rule,
        "ungrounded": len(score.grounding.ungrounded),
        "strangers": len(score.unknown_people),
        "unknown": len(score.unknown_tools),
        "missed": score.arguments and len(score.arguments.misses),
    }
    assert found == {**PERFECT, **differs}


def test_there_are_cases_enough():
    """At least forty, all named apart."""
    assert len({case[0] for case in CASES}) == len(CASES) >= 40


@pytest.mark.parametrize(
    ("example", "prediction", "outcome", "false_fire", "abstained", "clarified"),
    [
        (NEAR, {"calls": []}, "abstain", False, True, None),
        (NEAR, {"calls": [], "ask": "Which one?"}, "ask", False, False, None),
        (FAR, {"calls": plan(ROME)}, "calls", True, False, None),
        (FAR, {"calls": [], "error": "context limit"}, "error", False, False, None),
        (UNCLEAR, {"calls": [], "ask": "To whom?"}, "ask", None, None, True),
        (UNCLEAR, {"calls": plan(LOOK_MOM)}, "calls", None, None, False),
        (TEXT, {"calls": [], "ask": "Which Zoë?"}, "ask", None, None, True),
        (TEXT, {"calls": TEXT["plan"]}, "calls", None, None, False),
    ],
)
def test_what_should_not_be_planned(example, prediction, outcome, false_fire, abstained, clarified):
    """False fire, abstention and clarification follow from kind and outcome."""
    score = score_plan(prediction, example, TINYAGENT16)

    assert score.outcome == outcome
    assert (score.false_fire, score.abstained, score.clarified) == (
        false_fire,
        abstained,
        clarified,
    )


def test_only_offered_tools_are_known():
    """A tool of the set that was not offered counts as invented."""
    prediction = {"calls": TEXT["plan"], "tools": ["send_sms"]}

    score = score_plan(prediction, TEXT, TINYAGENT16)

    assert score.unknown_tools == ("get_phone_number", "get_phone_number")


def test_without_a_resolver_dates_are_not_graded():
    """Equal words match; other words are set apart, not guessed."""
    other = plan(LOOK_DANA, MAP_RITZ, event(start="saturday at 3pm"))

    same = score_plan({"calls": MEET["plan"]}, MEET, TINYAGENT16)
    unknown = score_plan({"calls": other}, MEET, TINYAGENT16)

    assert same.arguments.ungradable == 0
    assert (unknown.arguments.ungradable, unknown.arguments.misses) == (1, ())
    assert unknown.arguments.compared == same.arguments.compared - 1


@pytest.mark.parametrize(
    "calls",
    [
        "open_note",
        [{"tool": "open_note"}],
        [{"id": 1, "tool": "open_note", "args": [float("nan")]}],
        [None],
        7,
        {"id": 1},
    ],
)
def test_unreadable_predictions_are_errors_with_a_score(calls):
    """A broken row scores 0 everywhere and counts as an error, never as an abstention."""
    score = score_plan({"calls": calls}, TEXT, TINYAGENT16)

    assert score.outcome == "error"
    assert (score.tinyagent.value, score.graph, score.plan, score.valid) == (
        0.0,
        False,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"id": "a7", "plan": []}, "a7"),
        ({"id": "a7", "query": "x", "kind": "tools"}, "kind 'tools'"),
        ({"id": "a7", "query": "x", "plan": [{"id": 1}]}, "call 1 has no tool, args"),
        ({"id": "a7", "query": "x", "now": "monday"}, "monday"),
    ],
)
def test_broken_examples_are_refused(example, message):
    """A gold row that cannot be read is the user's to repair; the message names it."""
    with pytest.raises(InputError, match=message):
        score_plan({"calls": []}, example, TINYAGENT16)


def test_measures_need_no_tool_of_the_sixteen():
    """Another tool set is scored by its own declarations."""

    @tool
    def dim_lights(room: Span, percent: int = 50) -> None:
        """Dim the lights.

        Args:
            room: which room
            percent: how bright
        """

    home = ToolSet("home", [dim_lights])
    example = {"query": "dim the kitchen to 20", "plan": plan(("dim_lights", "kitchen", 20))}

    right = score_plan({"calls": plan(("dim_lights", "Kitchen", 20))}, example, home)
    wrong = score_plan({"calls": plan(("dim_lights", "attic", 20))}, example, home)

    assert right.plan is True
    assert wrong.plan is False
    assert len(wrong.grounding.ungrounded) == 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "$1", "${1}", "${2} and $1", "$9", "mom", "\n", "\ud800", "$1.x"])
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
CALL = st.fixed_dictionaries(
    {
        "id": st.integers(0, 5),
        "tool": st.sampled_from([*TINYAGENT16.names[:6], "join", "fly", ""]),
        "args": st.lists(JSON, max_size=8),
    }
)


@pytest.mark.slow
@given(st.lists(CALL, max_size=5) | JSON, st.lists(CALL, max_size=4))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_data_has_a_score(predicted, gold):
    """No prediction crashes a measure; a readable gold plan bounds every figure to 0..1."""
    example = {"query": "text mom", "now": NOW, "plan": gold}
    try:
        read_calls(gold)
    except InputError:
        gold = example["plan"] = []

    score = score_plan({"calls": predicted}, example, TINYAGENT16, resolve=resolve)

    assert all(value is None or 0 <= value <= 1 for value in score.figures().values())


@pytest.mark.slow
def test_ten_thousand_calls_have_scores():
    """Size never hangs or crashes a measure."""
    calls = plan(*[("open_note", f"note {i}") for i in range(10_000)])
    score = score_plan({"calls": calls}, {"query": "open all", "plan": calls}, TINYAGENT16)

    assert score.graph is True
    assert score.rule == "steps"
    assert score.arguments.complete
