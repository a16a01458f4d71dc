"""A second adapter on the resident model: what it computes, and that it leaves no trace."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models.language import load
from mlx_tinyagent.models.second import SecondAdapter
from tests.decode.tiny import write_adapter, write_model

IDS = mx.array([[3, 40, 41, 42, 500]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random llama."""
    return write_model(tmp_path_factory.mktemp("second") / "tiny")


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("planner", [True, False])
def test_it_is_worn_and_taken_off(base: Path, tmp_path: Path, planner: bool, merge: bool) -> None:
    """While worn: the model with this adapter alone. After that: to the last bit as before."""
    write_adapter(tmp_path / "plans", base, active="after_blocks", seed=1)
    write_adapter(tmp_path / "mails", base, active="all", seed=2)
    resident = load(base, adapter=tmp_path / "plans" if planner else None, merge=merge)
    before = np.asarray(resident.model(IDS))
    wanted = np.asarray(load(base, adapter=tmp_path / "mails", merge=False).model(IDS))

    second = SecondAdapter(resident, tmp_path / "mails")
    untouched = np.asarray(resident.model(IDS))
    with second.worn():
        worn = np.asarray(resident.model(IDS))

    assert np.array_equal(untouched, before)
    assert np.allclose(worn, wanted, atol=1e-5)
    assert not np.allclose(worn, before, atol=1e-3)
    assert np.array_equal(np.asarray(resident.model(IDS)), before)


def test_a_planners_adapter_is_refused(base: Path, tmp_path: Path) -> None:
    """It was trained on plans behind blocks; nothing of the model changes."""
    write_adapter(tmp_path / "plans", base, active="after_blocks")
    resident = load(base)
    before = np.asarray(resident.model(IDS))

    with pytest.raises(ModelError, match="a planner's adapter"):
        SecondAdapter(resident, tmp_path / "plans")

    assert np.array_equal(np.asarray(resident.model(IDS)), before)


def test_a_damaged_one_leaves_the_model_alone(base: Path, tmp_path: Path) -> None:
    """What was added before the damage was found is taken off again."""
    write_adapter(tmp_path / "mails", base, active="all")
    (tmp_path / "mails" / "adapters.safetensors").write_bytes(b"no weights")
    resident = load(base)
    before = np.asarray(resident.model(IDS))

    with pytest.raises(ModelError):
        SecondAdapter(resident, tmp_path / "mails")

    assert np.array_equal(np.asarray(resident.model(IDS)), before)
