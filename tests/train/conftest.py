"""Fixtures of this folder: a tiny random llama, a few examples, and trainers over them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.datasets.record import Call, Example, write_examples
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.train.config import TrainConfig
from mlx_tinyagent.train.rows import load_data
from mlx_tinyagent.train.trainer import Trainer
from tests.decode.tiny import write_model

NAMES = ("Ana", "Leo", "Dana Wu", "Sam", "Mia", "Noor", "Ida")
MakeTrainer = Callable[..., Trainer]


def example(number: int, **changes: Any) -> Example:
    """Make an example: a text, a note or nothing to do, by number."""
    name = NAMES[number % len(NAMES)]
    fields: dict[str, Any] = {
        "id": f"e{number}",
        "query": f"text {name} that item {number} is here",
        "now": "2025-03-14T09:30:00" if number % 2 else None,
        "tools": ("get_phone_number", "send_sms"),
        "plan": (
            Call(id=1, tool="get_phone_number", args=(name,)),
            Call(id=2, tool="send_sms", args=(["$1"], f"item {number} is here")),
        ),
        "source": "test",
        "licence": "Apache-2.0",
    }
    if number % 3 == 1:
        fields |= {
            "query": f"open note {number}",
            "tools": ("open_note",),
            "plan": (Call(id=1, tool="open_note", args=(f"{number}", "")),),
        }
    if number % 3 == 2:
        fields |= {"query": f"tell me joke {number}", "plan": (), "kind": "none_far"}
    return Example(**{**fields, **changes})


@pytest.fixture
def tools() -> ToolSet:
    """The tools that are declared here: few, so that prompts are short."""
    names = ("get_phone_number", "send_sms", "open_note", "maps_open_location", "create_note")
    return TINYAGENT16.subset(names)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random llama."""
    return write_model(tmp_path_factory.mktemp("train") / "tiny")


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with 12 training and 4 validation examples."""
    folder = tmp_path_factory.mktemp("data")
    write_examples(folder / "train.jsonl", [example(number) for number in range(12)])
    write_examples(folder / "valid.jsonl", [example(number) for number in range(20, 24)])
    return folder


@pytest.fixture
def make_trainer(base: Path, data_folder: Path, tools: ToolSet) -> MakeTrainer:
    """A function that makes a trainer on a freshly loaded model; settings may be changed."""

    def make(**settings: Any) -> Trainer:
        from mlx_tinyagent.models.language import load

        settings = {
            "rank": 4,
            "iters": 6,
            "batch": 4,
            "warmup": 2,
            "learning_rate": 0.01,
            **settings,
        }
        model = load(base)
        config = TrainConfig(model=str(base), **settings)
        data = load_data([data_folder], tools, model.tokenizer, eval_rows=config.eval_rows)
        return Trainer(model, tools, data, config)

    return make
