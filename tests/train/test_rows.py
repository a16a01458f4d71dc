"""Rows, draws and batches: what is needed is offered, and everything follows from the seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlx_tinyagent.datasets.record import Call, write_examples
from mlx_tinyagent.errors import InputError
from mlx_tinyagent.models.tokenizer import Tokenizer
from mlx_tinyagent.plan.text import write
from mlx_tinyagent.prompt.render import Request, render
from mlx_tinyagent.retrieval.base import Retrieved, keep
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.train.batches import batches, chance, place
from mlx_tinyagent.train.config import TrainConfig
from mlx_tinyagent.train.rows import draw, load_data
from tests.decode.tiny import VOCABULARY
from tests.train.conftest import example


@pytest.fixture
def tokenizer(base: Path) -> Tokenizer:
    """The tiny model's tokenizer."""
    return Tokenizer(base, n_vocab=VOCABULARY)


def test_plans_are_tokenized_as_they_are_written(
    tmp_path: Path, tokenizer: Tokenizer, tools: ToolSet
) -> None:
    """A row's plan is the canonical text and one end token."""
    write_examples(tmp_path / "rows.jsonl", [example(0)])

    (row,) = load_data([tmp_path / "rows.jsonl"], tools, tokenizer, eval_rows=0).train

    assert row.text == write(example(0).bound(tools))
    assert tokenizer.decode(row.plan[:-1]) == row.text
    assert row.plan[-1] in tokenizer.eos_ids


def test_rows_that_break_a_rule_are_left_out_and_counted(
    tmp_path: Path, tokenizer: Tokenizer, tools: ToolSet
) -> None:
    """Plans against a rule and tools nobody declared cost the row, not the run."""
    wrong = example(3, plan=(Call(id=1, tool="send_sms", args=("one",)),))
    unknown = example(6, tools=("fly",), plan=(Call(id=1, tool="fly", args=()),))
    write_examples(tmp_path / "train.jsonl", [example(0), wrong, unknown])

    data = load_data([tmp_path], tools, tokenizer, eval_rows=0)

    assert [row.example.id for row in data.train] == ["e0"]
    assert sum(data.skipped.values()) == 2
    assert data.skipped["unknown tool"] == 1


def test_a_file_without_a_usable_row_is_one_line(
    tmp_path: Path, tokenizer: Tokenizer, tools: ToolSet
) -> None:
    """Data with nothing to learn from is refused with the reasons."""
    wrong = example(3, plan=(Call(id=1, tool="send_sms", args=("one",)),))
    write_examples(tmp_path / "train.jsonl", [wrong])

    with pytest.raises(InputError, match=r"no usable row \(1 plan: "):
        load_data([tmp_path], tools, tokenizer, eval_rows=0)


def test_tinyagent_items_are_read_as_they_are(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """A file of TinyAgent's own items needs no conversion first."""
    item = {
        "idx": 7,
        "question": "Open the note Groceries",
        "tools": ["open_note"],
        "calls": [{"id": 1, "tool": "open_note", "args": ["Groceries", ""], "deps": []}],
    }
    (tmp_path / "items.jsonl").write_text(json.dumps(item) + "\n")

    data = load_data([tmp_path / "items.jsonl"], TINYAGENT16, tokenizer, eval_rows=0)

    assert [row.text for row in data.train] == ['1. open_note("Groceries", "")\n2. join()']


def test_without_a_validation_file_rows_are_held_out(
    tmp_path: Path, tokenizer: Tokenizer, tools: ToolSet
) -> None:
    """A twentieth of the rows is evaluated on and never trained on, whatever their order."""
    examples = [example(number) for number in range(60)]
    write_examples(tmp_path / "a.jsonl", examples)
    write_examples(tmp_path / "b.jsonl", examples[::-1])

    one, two = (
        load_data([tmp_path / name], tools, tokenizer, eval_rows=64)
        for name in ("a.jsonl", "b.jsonl")
    )

    assert len(one.valid) == 3
    assert not {row.example.id for row in one.valid} & {row.example.id for row in one.train}
    assert one.digest == two.digest


def test_what_a_plan_needs_is_always_offered(
    data_folder: Path, tokenizer: Tokenizer, tools: ToolSet
) -> None:
    """Drawn tools hold the plan's own and their producers, at most so many others, or all."""
    config = TrainConfig(distractors=2, all_tools=0.2)
    row = next(
        row
        for row in load_data([data_folder], tools, tokenizer, eval_rows=0).train
        if row.example.kind == "tool" and "send_sms" in row.text
    )
    seen = set()
    for epoch in range(60):
        drawn = draw(
            row,
            chance(0, epoch),
            tools=tools,
            tokenizer=tokenizer,
            frame=tokenizer.chat_frame(),
            config=config,
        )
        assert {"get_phone_number", "send_sms"} <= set(drawn.tools)
        assert tools.closure(drawn.tools).names == drawn.tools
        seen.add(drawn.tools)

    assert {len(names) for names in seen} == {2, 3, 4, 5}
    assert len(seen) > 5


def test_a_share_of_the_draws_offers_what_the_retriever_picks(
    data_folder: Path, tokenizer: Tokenizer, tools: ToolSet
) -> None:
    """Then the tools are the retriever's and the plan's own, the same every time."""

    class Fixed:
        def select(self, query: str, tools: ToolSet) -> Retrieved:
            return keep(tools, {}, chosen=("maps_open_location",), abstain=False)

    data = load_data([data_folder], tools, tokenizer, eval_rows=0, retriever=Fixed())
    row = next(row for row in data.train if row.needed == ("get_phone_number", "send_sms"))

    def offered(retrieved: float, epoch: int) -> tuple[str, ...]:
        config = TrainConfig(retrieved=retrieved, all_tools=0.0, distractors=0)
        return draw(
            row,
            chance(0, epoch),
            tools=tools,
            tokenizer=tokenizer,
            frame=tokenizer.chat_frame(),
            config=config,
        ).tools

    picked = tools.closure(("get_phone_number", "send_sms", *row.retrieved)).names
    assert "maps_open_location" in picked
    assert {offered(1.0, epoch) for epoch in range(20)} == {picked}
    assert {offered(0.0, epoch) for epoch in range(20)} == {row.needed}
    assert {offered(0.5, epoch) for epoch in range(20)} == {picked, row.needed}


def test_the_tail_is_that_of_the_served_prompt(
    data_folder: Path, tokenizer: Tokenizer, tools: ToolSet
) -> None:
    """Tail tokens are those of the renderer's last segment for the same request."""
    row = next(
        row
        for row in load_data([data_folder], tools, tokenizer, eval_rows=0).train
        if row.example.now is None
    )
    frame = tokenizer.chat_frame()
    config = TrainConfig(dates=0.0)

    drawn = draw(row, chance(0), tools=tools, tokenizer=tokenizer, frame=frame, config=config)

    prompt = render(Request(query=row.example.query), tools.subset(drawn.tools), frame)
    assert list(drawn.tail) == prompt.tail.encode(tokenizer)


def test_an_epoch_shows_every_row_once() -> None:
    """Batches of one epoch hold each row once, near lengths together, in a new order each time."""
    lengths = [(number * 37) % 101 for number in range(103)]

    first, again, second = (batches(lengths, batch=8, seed=1, epoch=epoch) for epoch in (0, 0, 1))

    assert first == again != second
    assert sorted(index for batch in first for index in batch) == list(range(103))
    assert len(first) == 13
    spread = [max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in first]
    assert sum(spread) / len(spread) < 20


def test_every_step_has_one_place() -> None:
    """Steps run through an epoch's batches, the smaller last one included."""
    assert [place(step, 10, 4) for step in range(5)] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
