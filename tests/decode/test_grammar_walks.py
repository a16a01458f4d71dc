"""No invalid plan can be written: walks through the mask end in plans that bind."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import pytest

from mlx_tinyagent.decode.constraint import PlanConstraint
from mlx_tinyagent.decode.grammar import MAX_SPAN_CHARS, GrammarOptions
from mlx_tinyagent.models.tokenizer import Tokenizer
from mlx_tinyagent.plan.graph import Limits, parse
from mlx_tinyagent.plan.schema import Argument, Plan, Ref, Template
from mlx_tinyagent.tools.base import Kind, Param, ToolSet
from tests.decode.tiny import QUERIES, TOOLSETS, Sampler

HISTORY = "open the Berlin notes"


def is_word(char: str) -> bool:
    """Whether a character belongs to a word, combining marks included."""
    return char.isalnum() or char == "_" or unicodedata.category(char).startswith("M")


def copied(value: str, sources: Sequence[str]) -> bool:
    """Whether a value stands in a source with no word cut at either end."""
    for source in sources:
        at = source.find(value)
        while at >= 0:
            end = at + len(value)
            cut_left = at > 0 and is_word(source[at - 1]) and is_word(source[at])
            cut_right = end < len(source) and is_word(source[end - 1]) and is_word(source[end])
            if not cut_left and not cut_right:
                return True
            at = source.find(value, at + 1)
    return False


def check_spans(plan: Plan, tools: ToolSet, sources: Sequence[str]) -> int:
    """Check every argument of kind span or date; returns how many were copied."""
    count = 0
    for step in plan.steps:
        for param, argument in zip(tools[step.tool].params, step.args, strict=True):
            if param.kind in (Kind.SPAN, Kind.WHEN):
                count += sum(_check_span(param, item, sources) for item in _items(argument))
    return count


def _items(argument: Argument) -> Sequence[object]:
    return argument if isinstance(argument, tuple) else (argument,)


def _check_span(param: Param, item: object, sources: Sequence[str]) -> bool:
    default = param.default if isinstance(param.default, list) else [param.default]
    if item is None or item == "" or isinstance(item, Ref) or item in default:
        return False
    assert isinstance(item, str)
    assert not isinstance(item, Template)
    assert len(item) <= MAX_SPAN_CHARS
    assert copied(item, sources), item
    return True


def walk_many(tokenizer: Tokenizer, name: str, seeds: Sequence[int]) -> list[Plan]:
    """Walk once per seed, over all queries; every plan is parsed and its spans are checked."""
    tools = TOOLSETS[name]
    plans = []
    for seed in seeds:
        sources = (QUERIES[seed % len(QUERIES)], *((HISTORY,) if seed % 3 == 0 else ()))
        limits = Limits(steps=1 + seed % 5, effects=seed % 3)
        more = ("hidden_tool", "other") if seed % 2 else ()
        options = GrammarOptions(limits=limits, more_tools=more, iso_dates=seed % 4 == 0)
        constraint = PlanConstraint(tokenizer.llguidance_tokenizer(), tools, sources, options)
        tokens = Sampler(tokenizer.byte_table, seed).walk(constraint)
        plan = parse(tokenizer.decode(tokens), tools, limits)
        if not options.iso_dates:
            check_spans(plan, tools, sources)
        plans.append(plan)
    return plans


@pytest.mark.parametrize("name", TOOLSETS)
def test_every_walk_ends_in_a_valid_plan(tokenizer: Tokenizer, name: str) -> None:
    """Names, arity, types, references, limits and control steps hold, whatever is chosen."""
    assert len(walk_many(tokenizer, name, range(6))) == 6


@pytest.mark.slow
@pytest.mark.parametrize("name", TOOLSETS)
def test_many_walks_end_in_valid_plans(tokenizer: Tokenizer, name: str) -> None:
    """40 walks per tool set, 600 in all."""
    plans = walk_many(tokenizer, name, range(100, 140))
    assert any(plan.ask for plan in plans)
    assert any(plan.steps for plan in plans) == bool(len(TOOLSETS[name]))


@pytest.mark.slow
def test_walks_reach_what_they_are_about(tokenizer: Tokenizer) -> None:
    """Among them are references, templates, copied words and wishes for more tools."""
    plans = [
        plan for name in ("few", "linked") for plan in walk_many(tokenizer, name, range(200, 260))
    ]
    arguments = [
        item
        for plan in plans
        for step in plan.steps
        for argument in step.args
        for item in _items(argument)
    ]
    assert any(isinstance(item, Ref) for item in arguments)
    assert any(isinstance(item, Template) for item in arguments)
    assert any(plan.more_tools for plan in plans)
    few = [plan for plan in plans[:60] if plan.steps]
    assert sum(check_spans(plan, TOOLSETS["few"], (*QUERIES, HISTORY)) for plan in few) > 20


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.parametrize("name", ["tinyagent16", "schemas", "generated0"])
def test_walks_with_the_default_models_tokens(model: object, name: str) -> None:
    """The same with 49,152 tokens, many of which cross what the grammar tells apart."""
    plans = walk_many(model.tokenizer, name, range(20))  # type: ignore[attr-defined]
    assert len(plans) == 20
