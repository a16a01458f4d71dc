"""Tools under made-up names: blocks, plan and history agree on them, and nothing else changes."""

from __future__ import annotations

import re

from mlx_tinyagent.plan.text import write
from mlx_tinyagent.prompt.render import Turn
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.train.aliases import alias_sets
from tests.train.conftest import MakeTrainer, example


def test_names_are_new_and_differ_everywhere(tools: ToolSet) -> None:
    """Over all sets no name occurs twice; each stands in its block, the real one does not."""
    sets = alias_sets(tools, seed=3)
    names = [name for aliases in sets for name in aliases.tools.names]

    assert len(names) == len(set(names)) == 4 * len(tools)
    assert not set(names) & set(tools.names)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+){0,2}", name) for name in names)
    for aliases in sets:
        for real, name in aliases.names.items():
            text = aliases.tools[name].text()
            assert text == tools[real].text().replace(f"{real}(", f"{name}(", 1)
    assert [aliases.names for aliases in alias_sets(tools, seed=3)] == [s.names for s in sets]
    assert alias_sets(tools, seed=4)[0].names != sets[0].names


def test_plans_are_written_under_the_names(tools: ToolSet) -> None:
    """The plan's text is the real one with its calls renamed; so are plans of earlier turns."""
    aliases = alias_sets(tools, seed=0)[0]
    phone, sms = aliases.names["get_phone_number"], aliases.names["send_sms"]

    assert aliases.plan(example(0)) == (
        f'1. {phone}("Ana")\n2. {sms}(["$1"], "item 0 is here")\n3. join()'
    )
    assert aliases.plan(example(2)) == write(example(2).bound(tools)) == "1. join()"
    turns = (Turn(query="send_sms(", plan='1. send_sms(["$1"], "open_note(x)")\n2. join()'),)
    (turn,) = aliases.history(turns)
    assert turn == Turn(query="send_sms(", plan=f'1. {sms}(["$1"], "open_note(x)")\n2. join()')


def test_a_share_of_draws_is_masked_and_the_rest_is_as_before(make_trainer: MakeTrainer) -> None:
    """Masked draws offer the same tools under other names; evaluation has the real ones."""
    plain, masked = make_trainer(), make_trainer(mask_names=0.5)
    real = {name: real for aliases in masked._aliases for real, name in aliases.names.items()}
    tokenizer = masked.model.tokenizer
    seen = 0
    for step in range(6):
        for one, other in zip(plain.batch(step), masked.batch(step), strict=True):
            aliased = [name for name in other.tools if name in real]
            assert len(aliased) in (0, len(other.tools))
            assert tuple(real.get(name, name) for name in other.tools) == one.tools
            assert other.tail == one.tail
            if not aliased:
                assert other.plan == one.plan
                continue
            seen += 1
            text = tokenizer.decode(other.plan[:-1])
            for name in aliased:
                text = text.replace(f"{name}(", f"{real[name]}(")
            assert text == tokenizer.decode(one.plan[:-1])
    assert 4 <= seen <= 20
    assert masked.evaluate() == plain.evaluate()


def test_blocks_are_there_under_every_name(make_trainer: MakeTrainer) -> None:
    """An update with masked names reads the blocks of those names."""
    trainer = make_trainer(mask_names=1.0)
    rows = trainer.batch(0)

    assert trainer.blocks is not None
    for row in rows:
        assert set(row.tools) <= set(trainer.blocks.tools)
        assert not set(row.tools) & set(trainer.tools.names)
    assert trainer.update(0).loss > 0
