"""Prefill while typing: the plan is that of a fresh engine, and no token is computed twice."""

from __future__ import annotations

import random
from datetime import datetime

import pytest

from mlx_tinyagent.decode import grammar
from mlx_tinyagent.decode.engine import Counts, Engine, EngineOptions
from mlx_tinyagent.models.language import LanguageModel
from mlx_tinyagent.prompt import render
from mlx_tinyagent.prompt.render import Prompt
from mlx_tinyagent.tools.base import ToolSet
from tests.decode.tiny import TOOLSETS, constraint_for, prompt_for

NOW = datetime(2024, 5, 15, 9)
SENTENCE = "email Dana Wu and Sam about the budget review tomorrow at 9am, please"
FEW, LINKED = TOOLSETS["few"], TOOLSETS["linked"]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short header and short texts."""
    monkeypatch.setattr(render, "HEADER", "Write a plan. End with join().\n\nTools:\n")
    monkeypatch.setattr(grammar, "MAX_TEXT_CHARS", 16)


def prompt(model: LanguageModel, query: str, tools: ToolSet = FEW) -> Prompt:
    """Return the prompt a request would have if it ended here."""
    return prompt_for(model.tokenizer, query, tools, now=NOW)


def finish(engine: Engine, query: str, tools: ToolSet = FEW) -> tuple[tuple[int, ...], Counts]:
    """Plan a request; returns its tokens and counts."""
    constraint = constraint_for(engine.model.tokenizer, query, tools)
    decoded = engine.plan(prompt(engine.model, query, tools), constraint)
    return decoded.tokens, decoded.counts


def words_of(model: LanguageModel, query: str, tools: ToolSet = FEW) -> list[int]:
    """Return the tail's tokens that may be computed ahead: all before the closing frame but one."""
    pieces = prompt(model, query, tools).tail.pieces[:-1]
    return [token for piece in pieces for token in piece.encode(model.tokenizer)][:-1]


def common(first: list[int], second: list[int]) -> int:
    """Return the length of the common beginning."""
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def size(model: LanguageModel, query: str, tools: ToolSet = FEW) -> tuple[int, int]:
    """Return the tokens before the tail and in it."""
    *prefix, tail = [len(s.encode(model.tokenizer)) for s in prompt(model, query, tools).segments]
    return sum(prefix), tail


def test_a_growing_request_word_by_word(tiny: LanguageModel) -> None:
    """Every word costs its own tokens; the plan costs what follows the last one."""
    engine = Engine(tiny)
    prefix, tail = size(tiny, SENTENCE)
    known: list[int] = []
    words = SENTENCE.split()
    total = 0
    for count in range(1, len(words) + 1):
        text = " ".join(words[:count])
        wanted = words_of(tiny, text)
        computed = engine.extend(prompt(tiny, text))
        assert computed == len(wanted) - common(known, wanted) + (prefix if count == 1 else 0)
        known, total = wanted, total + computed
    tokens, counts = finish(engine, SENTENCE)
    assert tokens == finish(Engine(tiny), SENTENCE)[0]
    assert counts.prompt_tokens == prefix + tail
    assert counts.prompt_tokens_ahead == len(known)
    assert counts.prompt_tokens_computed == tail - len(known)
    assert counts.prefix_passes == 0
    assert total < (prefix + tail) * 1.2  # a word's last token may be read anew with the next


@pytest.mark.parametrize("tier", ["exact", "blocks", "cold"])
def test_edits_take_tokens_back(tiny: LanguageModel, tier: str) -> None:
    """An insertion, a deletion and a replacement in the middle; the same plan as fresh."""
    engine = Engine(tiny, options=EngineOptions(tier=tier))  # type: ignore[arg-type]
    texts = [
        "email Dana about the budget",
        "email Dana Wu about the budget",
        "email Dana Wu about",
        "text Leo about the budget review",
    ]
    for text in texts:
        engine.extend(prompt(tiny, text))
    final = texts[-1] + " now"
    fresh = Engine(tiny, options=EngineOptions(tier=tier))  # type: ignore[arg-type]
    tokens, counts = finish(engine, final)
    assert tokens == finish(fresh, final)[0]
    assert counts.prompt_tokens_ahead == common(
        words_of(tiny, texts[-1]),
        prompt(tiny, final).tail.encode(tiny.tokenizer),
    )
    assert counts.prompt_tokens_ahead + counts.prompt_tokens_computed == size(tiny, final)[1]


def test_other_tools_start_the_tail_anew(tiny: LanguageModel) -> None:
    """What was typed ahead after other tools is not used; shared segments are."""
    engine = Engine(tiny)
    engine.extend(prompt(tiny, SENTENCE))
    less = FEW.subset(FEW.names[:2])
    tokens, counts = finish(engine, SENTENCE, less)
    assert tokens == finish(Engine(tiny), SENTENCE, less)[0]
    assert counts.prompt_tokens_ahead == 0
    header = len(prompt(tiny, SENTENCE).segments[0].encode(tiny.tokenizer))
    assert counts.prompt_tokens_computed <= sum(size(tiny, SENTENCE, less)) - header
    assert finish(engine, SENTENCE)[1].prompt_tokens_ahead == 0  # nor is it still there


def test_the_same_text_again_costs_nothing(tiny: LanguageModel) -> None:
    """Neither does a shorter one; the plan still has its closing frame to read."""
    engine = Engine(tiny)
    assert engine.extend(prompt(tiny, SENTENCE)) > 0
    assert engine.extend(prompt(tiny, SENTENCE)) == 0
    assert engine.extend(prompt(tiny, SENTENCE[:20])) <= 1  # a token may end elsewhere
    assert engine.extend(prompt(tiny, "")) == 0
    tokens, counts = finish(engine, "")
    assert tokens == finish(Engine(tiny), "")[0]
    assert counts.prompt_tokens_computed >= 1


def test_a_plan_ends_what_was_typed(tiny: LanguageModel) -> None:
    """The next request starts from the kept segments, not from the plan before it."""
    engine = Engine(tiny)
    engine.extend(prompt(tiny, SENTENCE))
    finish(engine, SENTENCE)
    tokens, counts = finish(engine, SENTENCE)
    assert tokens == finish(Engine(tiny), SENTENCE)[0]
    assert counts.prompt_tokens_ahead == 0
    assert counts.prompt_tokens_computed == size(tiny, SENTENCE)[1]


def test_a_request_that_cannot_fit_computes_nothing(tiny: LanguageModel) -> None:
    """The refusal comes from the plan; what was typed before stays."""
    engine = Engine(tiny)
    engine.extend(prompt(tiny, SENTENCE))
    assert engine.extend(prompt(tiny, SENTENCE + " word" * 9000)) == 0
    assert finish(engine, SENTENCE)[1].prompt_tokens_ahead == len(words_of(tiny, SENTENCE))


def test_an_interrupted_call_leaves_nothing_behind(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key pressed in the middle of a pass may leave a half-filled cache: it is dropped."""
    from mlx_tinyagent.decode import engine as module

    engine = Engine(tiny)
    engine.extend(prompt(tiny, SENTENCE[:20]))
    real = module.compute

    def interrupted(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "compute", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.extend(prompt(tiny, SENTENCE))
    assert finish(engine, SENTENCE)[0] == finish(Engine(tiny), SENTENCE)[0]


def type_and_check(model: LanguageModel, seed: int, fresh: Engine) -> None:
    """Type with edits and changes of tools by chance; check the cost of every call and the plan."""
    chance = random.Random(seed)
    engine = Engine(model)
    text, tools = "", FEW
    known: list[int] = []
    held: tuple[str, ...] = ()
    opened: set[str] = set()
    for _ in range(12):
        roll = chance.random()
        at = chance.randrange(len(text) + 1)
        if roll < 0.6:
            text += chance.choice([" Dana", " and", "Sa", "m", " 9am", " é", " 😀", ".", " review"])
        elif roll < 0.75:
            text = text[:at]
        elif roll < 0.9:
            text = text[:at] + chance.choice(["x", " new ", "é"]) + text[at:]
        else:
            tools = chance.choice([FEW, LINKED, FEW.subset(FEW.names[:1])])
        wanted = words_of(model, text, tools)
        known = known if held == tools.names else []
        segments = prompt(model, text, tools).segments[:-1]
        path = [s.digest for s in segments]
        new = [s for i, s in enumerate(segments) if "/".join(path[: i + 1]) not in opened]
        needed = sum(len(s.encode(model.tokenizer)) for s in new)
        assert engine.extend(prompt(model, text, tools)) == needed + len(wanted) - common(
            known, wanted
        )
        opened |= {"/".join(path[: i + 1]) for i in range(len(path))}
        held, known = tools.names, wanted
    tokens, counts = finish(engine, text, tools)
    assert tokens == finish(fresh, text, tools)[0]
    assert counts.prompt_tokens_ahead + counts.prompt_tokens_computed == size(model, text, tools)[1]


def test_typing_by_chance_computes_what_is_new_and_no_more(tiny: LanguageModel) -> None:
    """Appending, cutting, inserting, other tools: exactly the tokens that differ are computed."""
    fresh = Engine(tiny, options=EngineOptions(tier="cold"))
    for seed in range(2):
        type_and_check(tiny, seed, fresh)


@pytest.mark.slow
def test_typing_by_chance_many_times(tiny: LanguageModel) -> None:
    """The same for 30 requests."""
    fresh = Engine(tiny, options=EngineOptions(tier="cold"))
    for seed in range(2, 32):
        type_and_check(tiny, seed, fresh)
