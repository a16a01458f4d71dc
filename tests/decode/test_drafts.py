"""The drafter guesses well on plain requests and takes anything without a murmur."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tinyagent.act.dates import find
from mlx_tinyagent.decode.drafts import Drafter, Hints
from mlx_tinyagent.decode.grammar import Written
from mlx_tinyagent.models.language import LanguageModel
from mlx_tinyagent.models.tokenizer import Tokenizer
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16
from tests.decode.tiny import QUERIES, TOOLSETS

ROOT = Path(__file__).resolve().parents[2]
PASSES = 34  # goal per public test plan at width 10

BEGINNINGS = [
    "",
    "1. ",
    "2. get_",
    '1. get_email_address("',
    '1. compose_new_email(["$1',
    "1. compose_new_email([",
    '3. create_calendar_event("x", ',
    "1. join()",
    ")\n",
    '1. open_note("x", "")\n',
    "1. nothing(",
    "1. nothing()\n",
    "1. )\n",
]


@st.composite
def situations(draw: st.DrawFn) -> tuple[Drafter, str, list[Written], str]:
    """Draw a request, a tool set, finished steps and a line."""
    tools = TOOLSETS[draw(st.sampled_from(sorted(TOOLSETS)))]
    text = st.one_of(st.text(max_size=60), st.sampled_from(QUERIES))
    query = draw(st.lists(text, max_size=3).map(" ".join))
    scores = draw(st.dictionaries(st.sampled_from([*tools.names, "x"]), st.floats()))
    hints = Hints(dates=tuple(draw(st.lists(text, max_size=2))), scores=scores)
    names = draw(st.lists(st.sampled_from(tools.names), max_size=5)) if len(tools) else []
    written = [Written(number, tools[name]) for number, name in enumerate(names, start=1)]
    line = draw(st.sampled_from(BEGINNINGS)) + draw(st.one_of(st.just(""), st.text(max_size=20)))
    return Drafter(tools, query, hints), line, written, draw(text)


@settings(max_examples=300, deadline=None)
@given(situations(), st.integers(0, 80))
def test_nothing_makes_it_raise(
    situation: tuple[Drafter, str, list[Written], str], most: int
) -> None:
    """Any request, tools, hints and line; the same guess every time."""
    drafter, line, written, earlier = situation
    guess = drafter.complete(line, written, earlier, most)
    assert isinstance(guess, str)
    assert guess == drafter.complete(line, written, earlier, most)
    if most == 0:
        assert guess == ""


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(situations(), st.integers(0, 80))
def test_nothing_makes_it_raise_many_times(
    situation: tuple[Drafter, str, list[Written], str], most: int
) -> None:
    """The same, longer."""
    drafter, line, written, earlier = situation
    assert isinstance(drafter.complete(line, written, earlier, most), str)


@pytest.mark.parametrize(
    "query",
    [
        "a" * 16_000,
        "a-" * 8_000,
        '"' * 16_000,
        "Ab " * 5_000,
        "a.b" * 5_000,
        "'\u201c" * 8_000,
        "@" * 16_000,
    ],
)
def test_no_request_takes_long(query: str) -> None:
    """Patterns stay linear in the longest request there is."""
    start = time.process_time()
    drafter = Drafter(TINYAGENT16, query)
    for line in BEGINNINGS:
        drafter.complete(line, [], "", 50)
    assert time.process_time() - start < 1.0


def completed(query: str, *lines: str, tools: ToolSet = TINYAGENT16, most: int = 200) -> str:
    """Return the guess after some lines, the last of which is not finished."""
    *done, line = lines
    names = [text.split(". ")[1].split("(")[0] for text in done]
    written = [Written(number, tools[name]) for number, name in enumerate(names, start=1)]
    dates = tuple(found.text for found in find(query, datetime(2024, 5, 15, 9)))
    drafter = Drafter(tools, query, Hints(dates=dates))
    return drafter.complete(line, written, "".join(done), most)


def test_a_plain_request_is_guessed_to_its_end() -> None:
    """Look-up, mail, references: the whole plan from its first characters."""
    query = 'Email Dana Wu about "Budget review"'
    tools = TINYAGENT16.subset(["get_email_address", "compose_new_email"])
    guess = completed(query, "1. ", tools=tools)
    assert guess.startswith('get_email_address("Dana Wu")\n2. compose_new_email(["$1"], [], ')
    rest = completed(
        query, '1. get_email_address("Dana Wu")\n', "2. compose_new_email(", tools=tools, most=8
    )
    assert rest.startswith('["$1"]')


def test_references_name_fitting_steps() -> None:
    """Numbers for messages, addresses for mails; used ones come last."""
    lines = ('1. get_phone_number("Ana")\n', '2. get_phone_number("Leo")\n')
    assert completed("text Ana and Leo", *lines, "3. send_sms(", most=2).startswith('["$1"')
    assert completed("text Ana and Leo", *lines, '3. send_sms(["$1"', most=2).startswith(', "$2"')
    assert completed("text Ana and Leo", *lines, '3. send_sms(["$1", "$2"', most=1) == "]"
    assert "$" not in completed("mail Ana", *lines, "3. compose_new_email(", most=1)


def test_dates_and_defaults_are_guessed() -> None:
    """A date phrase where a date goes; the default where nothing is said."""
    query = "Remind me to call Leo tomorrow at 5pm"
    assert completed(query, '1. create_reminder("call Leo", ', most=1) == '"tomorrow at 5pm"'
    assert (
        completed(query, '1. create_reminder("call Leo", "tomorrow at 5pm", "", "", ', most=1)
        == "0"
    )


def test_the_words_of_the_request_are_copied_on() -> None:
    """A begun name goes on as in the request."""
    query = "open the note Weekly Groceries please"
    assert completed(query, '1. open_note("Week', most=1) == 'ly Groceries"'


def test_tools_without_priors_do_without() -> None:
    """Names, references and ends still come from the declarations."""
    tools = TOOLSETS["linked"]
    assert completed("x", "1. loo", tools=tools, most=1) == "k0("
    assert completed("x", "1. path()\n", '2. tell("a", "', tools=tools, most=1).startswith("")


# Passes per plan


@pytest.fixture(scope="module")
def counting() -> ModuleType:
    """The script that counts passes."""
    spec = spec_from_file_location("count_passes", ROOT / "scripts/count_passes.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_counting_follows_the_plan(
    counting: ModuleType, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Every token is written once; forced ones save passes, guesses save more."""
    calls = [
        {"id": 1, "tool": "get_email_address", "args": ["Dana Wu"]},
        {"id": 2, "tool": "open_note", "args": ["Groceries", ""]},
    ]
    row = {"idx": 1, "question": 'mail Dana Wu, open "Groceries"', "tools": [], "calls": calls}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    items = list(counting.read(path))
    assert len(items) == 1
    wanted = tokenizer.encode(items[0].text)
    figures = {width: counting.count(tokenizer, items, width) for width in (0, 4, 10)}
    assert {f.tokens for f in figures.values()} == {len(wanted)}
    assert len(wanted) > figures[0].passes > figures[4].passes >= figures[10].passes


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.weights
def test_passes_per_public_plan(
    model: LanguageModel, shared_data: Path, counting: ModuleType
) -> None:
    """At width 10, the model taken to write the gold plans: below a third of their tokens."""
    items = list(counting.read(shared_data / "tinyagent/test_public.jsonl"))
    figures = counting.count(model.tokenizer, items, 10)
    assert figures.plans >= 90
    assert figures.passes / figures.plans < PASSES
    assert figures.passes / figures.tokens < 1 / 3
