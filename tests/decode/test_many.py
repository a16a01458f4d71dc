"""Plans that share a pass are the plans written one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mlx_tinyagent.decode import grammar, many, run
from mlx_tinyagent.decode.drafts import Drafter
from mlx_tinyagent.decode.engine import Decoded, Engine, EngineOptions, Job
from mlx_tinyagent.decode.rows import RowsCache, stack
from mlx_tinyagent.decode.tiers import TierWarning
from mlx_tinyagent.errors import ContextError, PlanError
from mlx_tinyagent.models.language import LanguageModel, load
from mlx_tinyagent.prompt import render
from tests.decode.tiny import QUERIES, TOOLSETS, constraint_for, prompt_for, write_model

NAMES = ("few", "linked", "schemas", "one", "none", "linked")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short header, and short texts, as a model of random weights seldom closes a quote."""
    monkeypatch.setattr(render, "HEADER", "Write a plan. End with join().\n\nTools:\n")
    monkeypatch.setattr(grammar, "MAX_TEXT_CHARS", 16)


def jobs(model: LanguageModel, count: int = 12, **options: Any) -> Iterator[Job]:
    """Yield requests over different tool sets."""
    for number in range(count):
        query, tools = QUERIES[number % len(QUERIES)], TOOLSETS[NAMES[number % len(NAMES)]]
        yield Job(
            prompt_for(model.tokenizer, query, tools),
            constraint_for(model.tokenizer, query, tools),
            Drafter(tools, query),
            **options,
        )


def one_by_one(engine: Engine, count: int = 12) -> list[Decoded]:
    """Return the plans of the plain path."""
    return [
        engine.plan(job.prompt, job.constraint, drafter=job.drafter)
        for job in jobs(engine.model, count)
    ]


@pytest.mark.parametrize("tier", ["exact", "blocks", "cold"])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 32])
def test_tokens_are_those_of_one_by_one(tiny: LanguageModel, tier: Any, rows: int) -> None:
    """Whatever shares a pass with whatever, and every job gets exactly one answer."""
    options = EngineOptions(tier=tier)
    wanted = one_by_one(Engine(tiny, options=options))
    found = list(Engine(tiny, options=options).plan_many(jobs(tiny), rows=rows))
    assert sorted(number for number, _ in found) == list(range(len(wanted)))
    for number, plan in found:
        assert isinstance(plan, Decoded)
        assert plan.tokens == wanted[number].tokens
        assert plan.text == wanted[number].text


def test_a_shared_pass_counts_once_for_each_plan(tiny: LanguageModel) -> None:
    """As many passes and rows as alone, where nothing had to be redone; fewer calls in all."""
    alone = one_by_one(Engine(tiny, options=EngineOptions(width=10)))
    engine = Engine(tiny, options=EngineOptions(width=10))
    for number, plan in engine.plan_many(jobs(tiny), rows=4):
        assert isinstance(plan, Decoded)
        mine, other = plan.counts, alone[number].counts
        assert mine.forward_passes == other.forward_passes + mine.redone
        assert mine.rows == other.rows + mine.redone
        assert mine.prompt_tokens_computed == other.prompt_tokens_computed
        assert plan.trace.seconds["decode"] > 0.0


def test_passes_are_really_shared(tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted at the model: far fewer calls than passes, and never more rows than asked for."""
    shapes: list[tuple[int, ...]] = []
    for module in (many, run):
        real = module.serve

        def counted(model: Any, ids: Any, cache: Any, real: Any = real) -> Any:
            shapes.append(tuple(ids.shape))
            return real(model, ids, cache)

        monkeypatch.setattr(module, "serve", counted)
    plans = list(Engine(tiny).plan_many(jobs(tiny), rows=4))
    passes = sum(plan.counts.forward_passes for _, plan in plans if isinstance(plan, Decoded))
    assert len(shapes) < 0.6 * passes
    assert max(batch for batch, _ in shapes) == 4


def test_doubtful_positions_are_asked_again_alone(
    tiny: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With everything in doubt every position is redone, and the tokens stay."""
    wanted = [plan.tokens for plan in one_by_one(Engine(tiny), 6)]
    monkeypatch.setattr(many, "GUARD", 1e9)
    for number, plan in Engine(tiny).plan_many(jobs(tiny, 6), rows=3):
        assert isinstance(plan, Decoded)
        assert plan.tokens == wanted[number]
        assert plan.counts.redone > 0


def test_an_error_is_one_jobs_own(tiny: LanguageModel) -> None:
    """A plan that is cut and a prompt that does not fit leave the others alone."""
    wanted = [plan.tokens for plan in one_by_one(Engine(tiny), 6)]
    shortest = min(map(len, wanted))

    def mixed() -> Iterator[Job]:
        for number, job in enumerate(jobs(tiny, 6)):
            most = shortest if number % 2 else 1024
            most = 5000 if number == 4 else most
            yield Job(job.prompt, job.constraint, job.drafter, max_tokens=most)

    found = dict(Engine(tiny).plan_many(mixed(), rows=3))
    assert len(found) == 6
    for number, plan in found.items():
        if number == 4:
            assert isinstance(plan, ContextError)
        elif number % 2 and len(wanted[number]) > shortest:
            assert isinstance(plan, PlanError)
        else:
            assert isinstance(plan, Decoded)
            assert plan.tokens == wanted[number]


def test_jobs_are_taken_as_there_is_room(tiny: LanguageModel) -> None:
    """A stream of requests is never read further ahead than the rows."""
    taken = 0

    def stream() -> Iterator[Job]:
        nonlocal taken
        for job in jobs(tiny, 9):
            taken += 1
            yield job

    for ended, _ in enumerate(Engine(tiny).plan_many(stream(), rows=3), start=1):
        assert taken <= ended - 1 + 3
    assert taken == 9


def test_nothing_to_plan_is_no_plan(tiny: LanguageModel) -> None:
    """An empty stream ends at once."""
    assert list(Engine(tiny).plan_many(iter(()), rows=4)) == []


def test_a_model_that_cannot_be_cut_plans_one_by_one(tmp_path: Path) -> None:
    """A sliding window cannot hold rows of different lengths; the plans are the same."""
    layers = ["sliding_attention", "full_attention"]
    model = load(write_model(tmp_path / "sliding", layer_types=layers, sliding_window=48))
    with pytest.warns(TierWarning, match="sliding layers.*cold tier"):
        engine = Engine(model)
    wanted = [plan.tokens for plan in one_by_one(engine, 3)]
    found = dict(engine.plan_many(jobs(model, 3), rows=4))
    assert [found[n].tokens for n in range(3)] == wanted  # type: ignore[union-attr]


class TestRowsCache:
    """Rows of different lengths in one array."""

    @staticmethod
    def random(seed: int, *shape: int) -> mx.array:
        """Return random numbers."""
        return mx.random.normal(shape, key=mx.random.key(seed))

    def cache(self, lengths: list[int]) -> RowsCache:
        """Return a cache of rows of these lengths, at positions of their own."""
        room = max(lengths)
        arrays = (self.random(seed, len(lengths), 2, room, 4) for seed in (1, 2))
        return RowsCache(*arrays, lengths, [10 * n for n in lengths])

    def test_new_tokens_go_behind_each_rows_own(self) -> None:
        """Whatever stood beyond a row's length is written over."""
        cache = self.cache([3, 5, 1])
        before = mx.array(cache.keys)
        fresh = self.random(3, 3, 2, 2, 4)
        keys, _ = cache.update_and_fetch(fresh, fresh)
        assert keys.shape == (3, 2, 7, 4)
        for row, length in enumerate([3, 5, 1]):
            assert mx.array_equal(keys[row, :, :length], before[row, :, :length])
            assert mx.array_equal(keys[row, :, length : length + 2], fresh[row])
        assert cache.lengths == [5, 7, 3]
        assert cache.offset.tolist() == [32, 52, 12]

    def test_the_mask_shows_each_row_its_own_tokens(self) -> None:
        """By the definition, one by one."""
        mask = self.cache([3, 5, 1]).make_mask(2)
        assert mask.shape == (3, 1, 2, 7)
        for row, length in enumerate([3, 5, 1]):
            for new in range(2):
                seen = [column <= length + new for column in range(7)]
                assert mask[row, 0, new].tolist() == seen

    def test_a_sliding_window_is_refused(self) -> None:
        """Rows need full attention."""
        with pytest.raises(ValueError, match="full attention"):
            self.cache([1]).make_mask(2, window_size=4)

    def test_a_row_alone_is_a_cache_of_its_own(self, tiny: LanguageModel) -> None:
        """The model says the same over a row as over the request's first cache."""
        requests = [[1, 2, 3, 4, 5], [6, 7], [8, 9, 10]]
        apart = []
        for ids in requests:
            cache = tiny.new_cache()
            tiny.model(mx.array(ids)[None], cache=cache)
            apart.append(cache)
        rows = stack(apart)
        for cache, row in zip(apart, rows, strict=True):
            for ids in ([11], [12, 13, 14]):
                expected = tiny.model(mx.array(ids)[None], cache=cache)
                found = tiny.model(mx.array(ids)[None], cache=row)
                assert mx.array_equal(expected, found)
            assert row[0].trim(2) == 2
            assert row[0].length == row[0].offset == cache[0].offset - 2
        assert [row[0].length for row in rows] == [7, 4, 5]

    def test_rows_together_say_what_rows_apart_say(self, tiny: LanguageModel) -> None:
        """To the rounding of larger products."""
        requests = [[1, 2, 3, 4, 5], [6, 7], [8, 9, 10]]
        apart = []
        for ids in requests:
            cache = tiny.new_cache()
            tiny.model(mx.array(ids)[None], cache=cache)
            apart.append(cache)
        together = [view.rows for view in stack(apart)[0]]
        for ids in ([[11], [12], [13]], [[1, 2], [3, 4], [5, 6]]):
            found = tiny.model(mx.array(ids), cache=together)
            for row, cache in enumerate(apart):
                expected = tiny.model(mx.array(ids[row])[None], cache=cache)
                assert mx.allclose(expected[0], found[row], atol=1e-4)
