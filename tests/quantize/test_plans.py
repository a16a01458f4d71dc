"""Plans that judge: what another model planned makes them sooner, not different."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.datasets.record import write_examples
from mlx_tinyagent.decode.engine import Engine
from mlx_tinyagent.evaluate.harness_items import Item, read_items
from mlx_tinyagent.models.language import load
from mlx_tinyagent.prompt.render import Request
from mlx_tinyagent.quantize import rows as made
from mlx_tinyagent.quantize.plans import FollowingPlanner, written
from mlx_tinyagent.retrieval.base import AllTools
from mlx_tinyagent.tools.base import ToolSet

Say = Callable[[str, int, int], None]


@pytest.fixture
def items(few_tools: ToolSet, tmp_path: Path) -> list[Item]:
    """Three rows with a plan."""
    path = tmp_path / "rows.jsonl"
    found = [e for e in made.synthetic(few_tools, 20, seed=4) if e.kind == "tool"][:3]
    write_examples(path, found)
    return list(read_items(path).items)


def test_a_known_plan_changes_nothing(
    model: Path, few_tools: ToolSet, items: list[Item], say: Say
) -> None:
    """The own plan, one that parts from it, and nonsense give the same plans."""
    seen: list[dict[str, Any]] = []
    plain = written(model, None, few_tools, items, say, each=seen.append)
    own = [row["prediction"]["text"] for row in plain]
    others = [text.replace("(", "(x", 1) for text in own[:2]] + ["no plan at all"]

    assert seen == plain
    assert [row["prediction"]["error"] for row in plain] == [None] * 3
    assert written(model, None, few_tools, items, say, known=own) == plain
    assert written(model, None, few_tools, items, say, known=others) == plain


def test_a_known_plan_saves_passes(model: Path, few_tools: ToolSet, items: list[Item]) -> None:
    """A model that plans the same has its plan verified in fewer passes."""
    planner = FollowingPlanner(Engine(load(model)), few_tools, AllTools())
    request = Request(query=items[0].query, now=items[0].now)
    first = planner.plan(request)
    planner.known = first.text
    again = planner.plan(request)

    assert again.text == first.text
    assert again.counts.forward_passes < first.counts.forward_passes
