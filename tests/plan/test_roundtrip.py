"""Properties of plans over generated tools: back from text and data, mutation, levels."""

from __future__ import annotations

import json
from dataclasses import replace

import networkx as nx  # type: ignore[import-untyped]  # it has no annotations
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_tinyagent.errors import PlanError
from mlx_tinyagent.plan.graph import as_calls, from_calls, levels, parse
from mlx_tinyagent.plan.schema import Argument, Plan, Ref, Scalar, Step, Template
from mlx_tinyagent.plan.text import write
from mlx_tinyagent.tools.base import ANY_TEXT, Effect, Kind, Param, Tool, ToolSet, Type
from mlx_tinyagent.tools.catalog import TINYAGENT16

PROPERTY = settings(derandomize=True, database=None, deadline=None, max_examples=100)

NAMES = st.sampled_from(["a", "to", "line2", "x_1", "_y", "none", "true", "ask_me", "joined", "z"])
UNICODE = st.characters(exclude_categories=["Cs"])
# Literal text that is no reference; a lone "$k" would be one wherever a reference may stand.
PLAIN = st.text(UNICODE, max_size=20).filter(lambda text: "$" not in text)
PRICES = st.sampled_from(["$15 for $1", "$99999", "$1.5", "cost: $2", "$", "${}", "${x}", "$$"])
READABLE = [Type.TEXT, Type.EMAIL, Type.PHONE, Type.PATH, Type.URL, Type.STATUS]
ACCEPTING = (Kind.SPAN, Kind.WHEN, Kind.TEXT, Kind.TEMPLATE)


@st.composite
def params(draw: st.DrawFn) -> tuple[Param, ...]:
    """Arguments of any kind, some lists, some optional."""
    declared = []
    for name in draw(st.lists(NAMES, max_size=4, unique=True)):
        kind = draw(st.sampled_from(Kind))
        accepts = frozenset(draw(st.sets(st.sampled_from(READABLE)))) & ANY_TEXT
        if kind is Kind.TEMPLATE:
            accepts = ANY_TEXT
        declared.append(
            Param(
                name=name,
                kind=kind,
                is_list=draw(st.booleans()),
                choices=("x", "y z", "") if kind is Kind.CHOICE else (),
                accepts=accepts if kind in ACCEPTING else frozenset(),
                optional=draw(st.booleans()),
            )
        )
    return tuple(declared)


@st.composite
def tool_sets(draw: st.DrawFn) -> ToolSet:
    """One to four tools."""
    tools = [
        Tool(
            name=name,
            summary="Do it.",
            params=draw(params()),
            effect=draw(st.sampled_from([Effect.READ, Effect.OPEN])),
            returns=draw(st.sampled_from(READABLE)),
            fields=tuple(draw(st.lists(NAMES, max_size=2))),
        )
        for name in draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    ]
    return ToolSet("generated", tools)


@st.composite
def cases(draw: st.DrawFn) -> tuple[ToolSet, Plan]:
    """A tool set and a valid plan over it."""
    tools = draw(tool_sets())
    steps: list[Step] = []
    for number in range(1, draw(st.integers(0, 6)) + 1):
        chosen = draw(st.sampled_from(list(tools)))
        args = tuple(draw(arguments(param, steps, tools)) for param in chosen.params)
        thought = draw(st.none() | st.sampled_from(["because", 'it\'s "so" (', "2. x()"]))
        steps.append(Step(number, chosen.name, args, thought))
    return tools, Plan(tuple(steps))


def arguments(param: Param, earlier: list[Step], tools: ToolSet) -> st.SearchStrategy[Argument]:
    """Values that fit an argument, given the steps before."""
    one = scalars(param, earlier, tools)
    if param.is_list:
        return st.lists(one, max_size=3).map(tuple)
    return st.none() | one if param.optional else one


def scalars(param: Param, earlier: list[Step], tools: ToolSet) -> st.SearchStrategy[Scalar]:
    """Single values that fit an argument."""
    refs = [Ref(s.id) for s in earlier if tools[s.tool].returns in param.accepts]
    if param.accepts:
        refs += [Ref(s.id, name) for s in earlier for name in tools[s.tool].fields]
    values: dict[Kind, st.SearchStrategy[Scalar]] = {
        Kind.INT: st.integers(-(10**18) + 1, 10**18 - 1),
        Kind.FLOAT: st.floats(allow_nan=False, allow_infinity=False),
        Kind.BOOL: st.booleans(),
        Kind.CHOICE: st.sampled_from(param.choices or ("",)),
    }
    options = [values.get(param.kind, PLAIN | PRICES)]
    if refs:
        options.append(st.sampled_from(refs))
        if param.kind is Kind.TEMPLATE:
            options.append(templates(refs))
    return st.one_of(options)


def templates(refs: list[Ref]) -> st.SearchStrategy[Scalar]:
    """Texts with references inside: never a reference alone, no two texts side by side."""
    texts = st.text(UNICODE, min_size=1, max_size=6).filter(lambda text: "$" not in text)
    return st.tuples(texts, st.sampled_from(refs), texts, st.sampled_from(refs)).map(Template)


@PROPERTY
@given(cases())
def test_a_plan_reads_back_from_its_text_and_its_calls(case: tuple[ToolSet, Plan]) -> None:
    """``parse(write(plan)) == plan``, and the text is its own canonical form."""
    tools, plan = case
    text = write(plan, thoughts=True)
    assert parse(text, tools) == plan
    assert write(parse(text, tools), thoughts=True) == text
    bare = Plan(tuple(replace(step, thought=None) for step in plan.steps))
    assert parse(write(plan), tools) == bare
    assert from_calls(json.loads(json.dumps(as_calls(plan))), tools) == bare


@pytest.mark.slow
@PROPERTY
@given(cases(), st.data())
def test_a_mutated_plan_is_refused_or_valid(
    case: tuple[ToolSet, Plan], data: st.DataObject
) -> None:
    """Whatever is left after cutting and inserting: a plan in canonical reach, or a PlanError."""
    tools, plan = case
    text = write(plan)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 3)))
        middle = data.draw(st.sampled_from(['"', "$1", "$2", "${1}", "9", "\\", "\n", "", ","]))
        text = text[:start] + middle + text[end:]
    try:
        mutant = parse(text, tools)
    except PlanError:
        return
    assert parse(write(mutant), tools) == mutant
    for step in mutant.steps:
        assert all(1 <= number < step.id for number in step.dependencies)
        assert len(step.args) == len(tools[step.tool].params)


@st.composite
def dependencies(draw: st.DrawFn) -> list[Step]:
    """Steps that read any earlier ones."""
    steps: list[Step] = []
    for number in range(1, draw(st.integers(0, 16)) + 1):
        reads = draw(st.sets(st.integers(1, number - 1), max_size=3)) if number > 1 else ()
        steps.append(Step(number, "t", (tuple(Ref(k) for k in sorted(reads)),)))
    return steps


@PROPERTY
@given(dependencies())
def test_levels_are_the_generations_of_the_graph(steps: list[Step]) -> None:
    """The oracle is networkx."""
    graph = nx.DiGraph()
    graph.add_nodes_from(step.id for step in steps)
    graph.add_edges_from((k, step.id) for step in steps for k in step.dependencies)
    expected = [tuple(sorted(level)) for level in nx.topological_generations(graph)]
    assert levels(steps) == expected


@PROPERTY
@given(st.lists(st.sampled_from(list(TINYAGENT16.names)), max_size=3), st.data())
def test_any_arguments_to_real_tools_are_refused_or_bound(
    names: list[str], data: st.DataObject
) -> None:
    """Wild values for the shipped tools: a PlanError or a plan that reads back."""
    wild = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    wild |= st.sampled_from(["$1", "$2.email", "${1}", "a ${2} b", "$15"])
    values = st.lists(wild | st.lists(wild, max_size=3), max_size=7)
    calls = [
        {"id": k, "tool": name, "args": data.draw(values)} for k, name in enumerate(names, start=1)
    ]
    try:
        plan = from_calls(calls, TINYAGENT16)
    except PlanError:
        return
    assert parse(write(plan), TINYAGENT16) == plan
