"""An adapter written into the weights does what it does beside them, and can be taken out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_tinyagent.decode.drafts import Drafter
from mlx_tinyagent.decode.engine import Engine
from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models import adapters, language
from mlx_tinyagent.models.forward import hidden_states, logits, serve
from mlx_tinyagent.models.language import LanguageModel, load
from mlx_tinyagent.prompt import render
from tests.decode.tiny import (
    QUERIES,
    TOOLSETS,
    VOCABULARY,
    constraint_for,
    prompt_for,
    write_adapter,
    write_model,
)

IDS = mx.array([[3, 40, 41, 42, 500]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random llama."""
    return write_model(tmp_path_factory.mktemp("merge") / "tiny")


@pytest.fixture(scope="module", params=["all", "after_blocks"])
def pair(
    request: pytest.FixtureRequest, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[LanguageModel, LanguageModel]:
    """The model with an adapter merged, and with the same one apart."""
    folder = tmp_path_factory.mktemp("merge") / "adapter"
    write_adapter(folder, base, active=request.param)
    return load(base, adapter=folder), load(base, adapter=folder, merge=False)


def test_merged_equals_apart(pair: tuple[LanguageModel, LanguageModel], base: Path) -> None:
    """Logits agree to rounding, and are not the base model's; no adapter layer is left."""
    merged, apart = (
        logits(one.model, hidden_states(one.model, IDS, None)) for one in (pair[0], pair[1])
    )
    bare = load(base).model

    assert np.allclose(np.asarray(merged), np.asarray(apart), atol=1e-4)
    assert not np.allclose(np.asarray(merged), np.asarray(bare(IDS)), atol=0.1)
    assert not adapters.adapter_parameters(pair[0].model)
    assert len(adapters.adapter_parameters(pair[1].model)) == 12


def test_a_merged_adapter_can_be_taken_out(
    pair: tuple[LanguageModel, LanguageModel], base: Path
) -> None:
    """The base model to the bit; after the block, and after an error in it, merged as before."""
    model, bare = pair[0].model, load(base).model
    before = serve(model, IDS, None)

    def fail() -> None:
        with adapters.base_only(model):
            assert mx.array_equal(serve(model, IDS, None), serve(bare, IDS, None))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()

    assert mx.array_equal(serve(model, IDS, None), before)


def test_the_base_is_read_again_only_when_needed(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by planning, once by all missing prompt parts, and not from a folder that has changed."""
    folder = write_adapter(tmp_path / "adapter", base, active="after_blocks")
    moved = tmp_path / "model"
    shutil.copytree(base, moved)
    models = [load(moved, adapter=folder) for _ in range(2)]
    built: list[Path] = []
    real = language._build

    def counted(source: Path, *others: Any, **options: Any) -> Any:
        built.append(source)
        return real(source, *others, **options)

    monkeypatch.setattr(language, "_build", counted)
    serve(models[0].model, IDS, None)
    assert not built
    with models[0].prefix_weights(), models[0].prefix_weights():
        pass
    assert built == [moved]
    engine = Engine(models[0])
    for query in QUERIES[:2]:
        engine.plan(
            prompt_for(engine.model.tokenizer, query, TOOLSETS["few"]),
            constraint_for(engine.model.tokenizer, query, TOOLSETS["few"]),
            drafter=Drafter(TOOLSETS["few"], query),
        )
    assert built == [moved] * 2

    shutil.copy(write_model(tmp_path / "other", seed=1) / "model.safetensors", moved)
    with pytest.raises(ModelError, match="has changed"), models[1].prefix_weights():
        pass


def test_only_an_adapter_after_the_blocks_stays_out_of_them(
    pair: tuple[LanguageModel, LanguageModel], base: Path
) -> None:
    """Before the tail: the base model's own weights for one, the adapter's for the other."""
    for model in pair:
        with model.prefix_weights():
            states = serve(model.model, IDS, None)
        plain = serve((load(base) if model.after_blocks else model).model, IDS, None)
        assert mx.array_equal(states, plain)


@pytest.mark.parametrize("tools", ["few", "linked"])
def test_plans_are_the_same(
    pair: tuple[LanguageModel, LanguageModel], tools: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merged or apart, token for token."""
    monkeypatch.setattr(render, "HEADER", "Write a plan. End with join().\n\nTools:\n")
    for query in QUERIES[:3]:
        plans = [
            Engine(model).plan(
                prompt_for(model.tokenizer, query, TOOLSETS[tools]),
                constraint_for(model.tokenizer, query, TOOLSETS[tools]),
                drafter=Drafter(TOOLSETS[tools], query),
            )
            for model in pair
        ]
        assert plans[0].tokens == plans[1].tokens
        assert plans[0].counts == plans[1].counts


def test_merging_adds_no_parameters(pair: tuple[LanguageModel, LanguageModel], base: Path) -> None:
    """Names and shapes are the base model's, so that whoever walks them finds nothing twice."""
    from mlx.utils import tree_flatten

    shapes = [
        {name: value.shape for name, value in dict(tree_flatten(model.parameters())).items()}
        for model in (pair[0].model, load(base).model)
    ]
    assert shapes[0] == shapes[1]
    assert shapes[0]["model.embed_tokens.weight"] == (VOCABULARY, 64)
