"""Success on held-out rows: plans are written as in serving, and judged by kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.decode.engine import Decoded, Engine, EngineOptions
from mlx_tinyagent.models.language import load
from mlx_tinyagent.prompt.render import Prompt
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.train.loop import Event, run
from mlx_tinyagent.train.rows import load_data
from mlx_tinyagent.train.success import solved
from tests.train.conftest import MakeTrainer

JOIN = "1. join()"
RIGHT = {
    "text Ana that item 0 is here": '1. get_phone_number("Ana")\n2. send_sms(["$1"], "item")\n'
    "3. join()",
    "open note 1": '1. open_note("1", "")\n2. join()',
    "tell me joke 2": JOIN,
}


class Scripted(Engine):
    """An engine that writes given plans, by the words of the request."""

    plans: dict[str, str]

    def plan(self, prompt: Prompt, *args: Any, **options: Any) -> Decoded:
        """Write the plan whose request stands in the prompt's tail."""
        text = next(plan for query, plan in self.plans.items() if query in prompt.tail.text)
        tokenizer = self.model.tokenizer
        end = tokenizer.encode(tokenizer.chat_frame().end)[0]
        script = [*tokenizer.encode(text, special=False), end]
        return super().plan(prompt, *args, **options, script=script)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, [True, True, True]),
        ({"text Ana": JOIN, "open note 1": '1. ask("Which?")\n2. join()'}, [False, False, True]),
        ({"tell me joke": '1. get_phone_number("joke")\n2. join()'}, [True, True, False]),
    ],
)
def test_each_kind_has_its_right_plan(
    base: Path,
    data_folder: Path,
    tools: ToolSet,
    changes: dict[str, str],
    wanted: list[bool],
) -> None:
    """A graph for a tool request, nothing where no tool serves; a question instead is wrong."""
    engine = Scripted(load(base), options=EngineOptions(tier="blocks"))
    engine.plans = changes | {query: plan for query, plan in RIGHT.items() if query not in changes}
    data = load_data([data_folder], tools, engine.model.tokenizer, eval_rows=0)
    by_id = {row.example.id: row for row in data.train}

    assert solved(engine, tools, [by_id[f"e{number}"] for number in range(3)]) == wanted


def test_the_best_adapter_solves_most_then_has_the_lowest_loss(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    """A higher loss with more right plans is better; among equals the loss decides."""
    trainer = make_trainer(iters=5, eval_every=1, eval_plans=4)
    losses, shares = iter([3.0, 2.0, 2.5, 2.4, 1.0]), iter([0.25, 0.25, 0.5, 0.5, 0.25])
    trainer.evaluate = lambda: next(losses)  # type: ignore[method-assign]
    events: list[Event] = []

    finished = run(trainer, tmp_path, report=events.append, success=lambda: next(shares))

    progress = finished.progress
    assert (progress.best, progress.best_success, progress.best_step) == (2.4, 0.5, 4)
    assert progress.worse == 1
    evaluations = [event for event in events if event.update is None]
    assert [event.progress.best_step for event in evaluations] == [1, 2, 3, 4, 4]
    assert [event.success for event in evaluations] == [0.25, 0.25, 0.5, 0.5, 0.25]


@pytest.mark.parametrize("attention", ["after_blocks", "through_blocks", "full"])
def test_a_trainer_plans_with_the_adapter_of_the_moment(
    make_trainer: MakeTrainer, attention: str
) -> None:
    """Success is a share of the rows, before and after updates, whatever tier serves."""
    trainer = make_trainer(attention=attention, eval_plans=2, learning_rate=0.05)

    first = trainer.success()
    trainer.update(0)

    assert first in (0.0, 0.5, 1.0)
    assert trainer.success() in (0.0, 0.5, 1.0)
    assert trainer._engine is not None
    assert trainer._engine.options.tier == trainer.config.tier
