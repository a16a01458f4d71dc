"""What was trained is what serves: same blocks, same positions, same logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mlx_tinyagent.cli.train import train
from mlx_tinyagent.decode.engine import Engine, EngineOptions
from mlx_tinyagent.decode.store import KVStore
from mlx_tinyagent.errors import ModelError, UsageError
from mlx_tinyagent.models.forward import hidden_states, logits
from mlx_tinyagent.models.fuse import fuse
from mlx_tinyagent.models.language import LanguageModel, load
from mlx_tinyagent.prompt.render import Request, render
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.train.loop import run
from mlx_tinyagent.train.loss import Inputs
from mlx_tinyagent.train.rows import Drawn
from mlx_tinyagent.train.trainer import Trainer
from tests.train.conftest import MakeTrainer


def trained(make_trainer: MakeTrainer, out: Path, **settings: Any) -> Trainer:
    """Train far enough for the adapter to matter; returns the trainer, the adapter is in out."""
    trainer = make_trainer(iters=4, learning_rate=0.05, **settings)
    run(trainer, out)
    import mlx.core as mx
    from mlx.utils import tree_unflatten

    # what serves is float16: the comparison is about everything else
    half = [(n, v.astype(mx.float16).astype(mx.float32)) for n, v in trainer.adapter().items()]
    trainer.model.model.update(tree_unflatten(half))
    from mlx_tinyagent.train import checkpoint

    checkpoint.save_adapter(
        out,
        trainer.adapter(),
        config=trainer.config,
        model=trainer.model,
        data="",
        loss=None,
        step=4,
    )
    trainer.model.model.eval()
    return trainer


def training_logits(trainer: Trainer, row: Drawn, inputs: Inputs | None = None) -> np.ndarray:
    """Return the logits of the plan's tokens as training computes them."""
    inputs = inputs or trainer.inputs([row])
    start, end = inputs.spans[0]
    cache = None if inputs.cache is None else list(inputs.cache)
    states = hidden_states(trainer.model.model, inputs.ids, cache)[0, start:end]
    return np.asarray(logits(trainer.model.model, states))


def served_logits(engine: Engine, row: Drawn, tools: ToolSet) -> np.ndarray:
    """Return them as the engine's tier and model compute them, in two passes."""
    import mlx.core as mx

    model = engine.model
    prompt = render(Request(query="any"), tools.subset(row.tools), model.tokenizer.chat_frame())
    prefix = prompt.segments[:-1]
    cache = engine.tier.open(prefix, [part.encode(model.tokenizer) for part in prefix]).cache
    first = hidden_states(model.model, mx.array([row.tail]), cache)[0, -1:]
    rest = hidden_states(model.model, mx.array([row.plan[:-1]]), cache)[0]
    return np.asarray(logits(model.model, mx.concatenate([first, rest])))


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_serving_computes_the_logits_of_training(
    make_trainer: MakeTrainer, tmp_path: Path, base: Path, tools: ToolSet, kind: str
) -> None:
    """For the same tokens, through the loaded adapter and the block tier, logits are the same."""
    trainer = trained(make_trainer, tmp_path / "run", fine_tune_type=kind)
    model = load(base, adapter=tmp_path / "run")
    engine = Engine(model)
    bare = Engine(load(base), options=EngineOptions(tier="blocks"))
    assert engine.options.tier == "blocks"

    for row in trainer.batch(0):
        wanted = training_logits(trainer, row)
        assert np.allclose(served_logits(engine, row, tools), wanted, atol=2e-4)
        assert not np.allclose(served_logits(bare, row, tools), wanted, atol=0.1)


def test_blocks_that_were_trained_through_are_the_adapters_own(
    make_trainer: MakeTrainer, tmp_path: Path, base: Path, tools: ToolSet
) -> None:
    """They are served as blocks, computed under the adapter, with the logits of training."""
    trainer = trained(make_trainer, tmp_path / "run", attention="through_blocks")
    model = load(base, adapter=tmp_path / "run")
    engine = Engine(model, store=KVStore(tmp_path / "kv", model))
    bare = load(base)
    assert engine.options.tier == "blocks"
    assert not model.after_blocks
    assert KVStore(tmp_path, model).key(["a"], [1]) != KVStore(tmp_path, bare).key(["a"], [1])

    rows = trainer.batch(0)
    opened = trainer._through(rows, 0)
    assert opened is not None
    for row in rows:
        inputs = trainer.inputs([row], opened.blocks(row.tools))
        wanted = training_logits(trainer, row, inputs)
        assert np.allclose(served_logits(engine, row, tools), wanted, atol=2e-4)


def test_full_attention_serves_on_the_exact_tier(
    make_trainer: MakeTrainer, tmp_path: Path, base: Path, tools: ToolSet
) -> None:
    """An adapter that acts on everything is served on whole prompts, with the same logits."""
    trainer = trained(make_trainer, tmp_path / "run", attention="full")
    engine = Engine(load(base, adapter=tmp_path / "run"))
    assert engine.options.tier == "exact"

    for row in trainer.batch(0):
        wanted = training_logits(trainer, row)
        assert np.allclose(served_logits(engine, row, tools), wanted, atol=2e-4)


def test_blocks_belong_to_the_base_model(
    make_trainer: MakeTrainer, tmp_path: Path, base: Path, tools: ToolSet
) -> None:
    """Blocks computed under the adapter are the base's to the bit, and stored under its key."""
    trained(make_trainer, tmp_path / "run")
    adapted, bare = load(base, adapter=tmp_path / "run"), load(base)
    prompt = render(Request(query="any"), tools, bare.tokenizer.chat_frame())
    prefix = prompt.segments[:-1]
    ids = [part.encode(bare.tokenizer) for part in prefix]

    for name in ("blocks", "exact", "cold"):
        caches = [
            Engine(model, options=EngineOptions(tier=name)).tier.open(prefix, ids).cache
            for model in (adapted, bare)
        ]
        for one, other in zip(*caches, strict=True):
            count = sum(map(len, ids))
            assert np.array_equal(
                np.asarray(one.keys[..., :count, :]), np.asarray(other.keys[..., :count, :])
            )
    keys = [KVStore(tmp_path, model).key(["x"], [1]) for model in (adapted, bare)]
    assert keys[0] == keys[1]


def test_taking_the_adapter_out_for_a_moment_loses_nothing(
    make_trainer: MakeTrainer, tmp_path: Path, base: Path
) -> None:
    """After the block, and after an error in it, every adapter layer is back in place."""
    from mlx_tinyagent.models.adapters import adapter_parameters, base_only

    trained(make_trainer, tmp_path / "run")
    model = load(base, adapter=tmp_path / "run", merge=False).model
    before = {name: id(value) for name, value in adapter_parameters(model).items()}

    def fail() -> None:
        with base_only(model):
            assert not adapter_parameters(model)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()

    assert len(before) == 28
    assert {name: id(value) for name, value in adapter_parameters(model).items()} == before


def test_the_artefact_loads_in_plain_mlx_lm(
    make_trainer: MakeTrainer, tmp_path: Path, base: Path
) -> None:
    """mlx-lm's own ``load_adapters`` takes the folder and computes what ours does on all tokens."""
    import mlx.core as mx
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load_model

    trained(make_trainer, tmp_path / "run", attention="full")
    plain, _ = load_model(base)
    plain = load_adapters(plain, str(tmp_path / "run"))
    ours = load(base, adapter=tmp_path / "run")
    ids = mx.array([[3, 40, 41, 42]])

    assert np.allclose(np.asarray(plain(ids)), np.asarray(ours.model(ids)), atol=2e-3)
    assert not np.allclose(np.asarray(load(base).model(ids)), np.asarray(ours.model(ids)), atol=0.1)


def test_a_fused_model_computes_the_same(
    make_trainer: MakeTrainer, tmp_path: Path, base: Path
) -> None:
    """Fused in float32, a model without adapter equals base and adapter."""
    import mlx.core as mx

    trained(make_trainer, tmp_path / "run", attention="full")
    model = load(base, adapter=tmp_path / "run")
    ids = mx.array([[3, 40, 41, 42]])
    wanted = np.asarray(model.model(ids))

    fuse(model, tmp_path / "fused")

    fused = load(tmp_path / "fused")
    assert np.allclose(np.asarray(fused.model(ids)), wanted, atol=1e-4)
    assert fused.tokenizer.encode("x") == model.tokenizer.encode("x")


def test_an_adapter_after_the_blocks_is_not_fused(
    make_trainer: MakeTrainer, tmp_path: Path, base: Path
) -> None:
    """A fused model would compute other blocks, so it is refused; so is a model without adapter."""
    trained(make_trainer, tmp_path / "run")

    with pytest.raises(UsageError, match="acts after the tool blocks only"):
        fuse(load(base, adapter=tmp_path / "run"), tmp_path / "fused")
    with pytest.raises(UsageError, match="no adapter"):
        fuse(load(base), tmp_path / "fused")
    assert not (tmp_path / "fused").exists()


def test_an_adapter_through_blocks_is_not_fused(
    make_trainer: MakeTrainer, tmp_path: Path, base: Path
) -> None:
    """A model without adapter is served on whole prompts, which it was not trained on."""
    trained(make_trainer, tmp_path / "run", attention="through_blocks")
    options = ["--adapter", str(tmp_path / "run"), "--model", str(base)]

    with pytest.raises(UsageError, match="was trained through blocks"):
        CliRunner().invoke(
            train, ["fuse", *options, "--out", str(tmp_path / "fused")], catch_exceptions=False
        )
    assert not (tmp_path / "fused").exists()


def test_an_adapter_of_another_prompt_is_refused(
    make_trainer: MakeTrainer, tmp_path: Path, base: Path
) -> None:
    """An adapter names the prompt format it was trained on, and serves no other."""
    trained(make_trainer, tmp_path / "run")
    path = tmp_path / "run" / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "prompt_format": "mlx-tinyagent/0"}))
    model: LanguageModel = load(base, adapter=tmp_path / "run")

    with pytest.raises(ModelError, match="mlx-tinyagent/0"):
        Engine(model)
