"""Where a run stands, on disk: everything that going on needs, and the adapter that serves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mlx_tinyagent.decode.tiers import TIER_KEY
from mlx_tinyagent.errors import ConfigError, InputError
from mlx_tinyagent.files import atomic_folder, atomic_write, readable_errors
from mlx_tinyagent.models.adapters import ACTIVE_KEY, BASE_KEY, CONFIG, WEIGHTS
from mlx_tinyagent.prompt.render import FORMAT

if TYPE_CHECKING:
    import mlx.core as mx

    from mlx_tinyagent.models.language import LanguageModel
    from mlx_tinyagent.train.config import TrainConfig
    from mlx_tinyagent.train.loop import Settings

FOLDER = "checkpoint"  # in the run's folder
_STATE, _ADAPTER, _OPTIMIZER = "state.json", "adapter.safetensors", "optimizer.safetensors"
Arrays = Mapping[str, "mx.array"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is; order, draws and dropout follow from ``step`` alone.

    Attributes:
        step: Updates made.
        examples: Examples seen.
        best: Validation loss of the best adapter so far; None before the first evaluation.
        best_step: Where it was.
        worse: Evaluations since.
        seconds: Time spent training.
        best_success: Share of validation rows that it planned right; None where none is planned.
    """

    step: int = 0
    examples: int = 0
    best: float | None = None
    best_step: int = 0
    worse: int = 0
    seconds: float = 0.0
    best_success: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """A run that can go on.

    Attributes:
        progress: How far it is.
        adapter: The adapter's parameters by name, float32.
        optimizer: The optimizer's state by name.
    """

    progress: Progress
    adapter: dict[str, mx.array]
    optimizer: dict[str, mx.array]


def identity(config: Settings, *, base: str, data: str) -> dict[str, Any]:
    """Return what must be the same for a run to go on."""
    return {"config": config.as_dict(), BASE_KEY: base, "data": data, "format": FORMAT}


def save(out: Path, checkpoint: Checkpoint, *, run: Mapping[str, Any]) -> None:
    """Write a checkpoint; the one before stays whole until this one is.

    Args:
        out: The run's folder.
        checkpoint: What to write.
        run: The run's ``identity``.

    Raises:
        StoreError: The file system refuses.
    """
    import dataclasses

    with atomic_folder(out / FOLDER) as folder:
        _write_arrays(folder / _ADAPTER, checkpoint.adapter)
        _write_arrays(folder / _OPTIMIZER, checkpoint.optimizer)
        state = {"progress": dataclasses.asdict(checkpoint.progress), "run": dict(run)}
        (folder / _STATE).write_text(json.dumps(state, indent=2) + "\n")


def load(out: Path, *, run: Mapping[str, Any]) -> Checkpoint:
    """Read a checkpoint back.

    Args:
        out: The run's folder.
        run: The ``identity`` of the run that goes on.

    Raises:
        InputError: There is none, or it is damaged.
        ConfigError: It belongs to a run of other settings, data or model.
    """
    import mlx.core as mx

    folder = out / FOLDER
    try:
        state = json.loads((folder / _STATE).read_text())
        _same(folder, state["run"], run)
        return Checkpoint(
            progress=Progress(**state["progress"]),
            adapter=cast("dict[str, mx.array]", mx.load(str(folder / _ADAPTER))),
            optimizer=cast("dict[str, mx.array]", mx.load(str(folder / _OPTIMIZER))),
        )
    except FileNotFoundError:
        raise InputError(f"{out} has no checkpoint to go on from; leave out --resume") from None
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"the checkpoint {folder} cannot be read: {error}") from error


def exists(out: Path) -> bool:
    """Whether a run's folder has a checkpoint."""
    return (out / FOLDER / _STATE).is_file()


def _same(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    before, now = {**found, **found["config"]}, {**wanted, **wanted["config"]}
    for key in sorted({*before, *now} - {"config"}):
        if before.get(key) != now.get(key):
            raise ConfigError(
                f"the checkpoint {folder} was made with {key} {_short(before.get(key))}, this run "
                f"has {_short(now.get(key))}; a run goes on with the same settings only"
            )


def _short(value: object) -> str:
    """Return a value for a message; what is left out of a configuration has its default."""
    text = "at its default" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def save_adapter(
    out: Path,
    arrays: Arrays,
    *,
    config: TrainConfig,
    model: LanguageModel,
    data: str,
    loss: float | None,
    step: int,
) -> None:
    """Write the adapter as mlx-lm reads it, in float16.

    Args:
        out: Folder.
        arrays: The adapter's parameters by name.
        config: How it was trained.
        model: The base model.
        data: sha256 of the rows it was trained on.
        loss: Its validation loss in nats per plan token.
        step: Updates it has had.

    Raises:
        StoreError: The file system refuses.
    """
    import mlx.core as mx

    settings = {
        **adapter_config(config, layers=len(cast(Any, model.model).layers)),
        BASE_KEY: model.fingerprint,
        **serving_config(config),
        "trained": {
            "step": step,
            "valid_loss": loss,
            "data": data,
            "config": config.as_dict(),
            "config_digest": config.digest,
        },
    }
    atomic_write(out / CONFIG, json.dumps(settings, indent=2) + "\n")
    half = {name: value.astype(mx.float16) for name, value in arrays.items()}
    with readable_errors(out):
        temporary = out / ".adapters.new.safetensors"
        try:
            _write_arrays(temporary, half)
            temporary.replace(out / WEIGHTS)
        finally:
            temporary.unlink(missing_ok=True)


def serving_config(config: TrainConfig) -> dict[str, Any]:
    """Return what serving must know of an adapter: which prompt it reads, and how."""
    return {"prompt_format": FORMAT, ACTIVE_KEY: config.active, TIER_KEY: config.tier}


def adapter_config(config: TrainConfig, *, layers: int) -> dict[str, Any]:
    """Return mlx-lm's fields of an adapter's configuration.

    Args:
        config: The run's settings.
        layers: Layers of the model.
    """
    parameters: dict[str, Any] = {
        "rank": config.rank,
        "scale": config.scale,
        "dropout": config.dropout,
    }
    if config.keys:
        parameters["keys"] = list(config.keys)
    return {
        "model": config.model,
        "fine_tune_type": config.fine_tune_type,
        "num_layers": config.layers or layers,
        "lora_parameters": parameters,
    }


def _write_arrays(path: Path, arrays: Arrays) -> None:
    import mlx.core as mx

    try:
        mx.save_safetensors(str(path), dict(sorted(arrays.items())), {"format": "mlx"})
    except RuntimeError as error:
        raise OSError(None, f"{error}", str(path)) from error
