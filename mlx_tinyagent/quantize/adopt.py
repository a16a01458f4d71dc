"""An adapter that was trained on a quantized model takes the place of the one beside it.

Trained on the original, an adapter meets weights it has not seen when the base
is rounded. A short training on the rounded weights lets it make up for them
(QLoRA, arXiv:2305.14314), and the pair is judged against the original pair
before it is published.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.errors import InputError, ModelError
from mlx_tinyagent.files import atomic_folder
from mlx_tinyagent.models import adapters
from mlx_tinyagent.models.blockwise import DERIVED_KEY
from mlx_tinyagent.models.folder import fingerprint, read_config
from mlx_tinyagent.quantize import report, rows
from mlx_tinyagent.quantize.folder import copy_adapter
from mlx_tinyagent.quantize.gate import failures
from mlx_tinyagent.quantize.run import judge_folder, refusal, timed, write_report

if TYPE_CHECKING:
    from mlx_tinyagent.quantize.pipeline import Say
    from mlx_tinyagent.quantize.run import Job

_REPLACED = (adapters.WEIGHTS, adapters.CONFIG, report.JSON, report.HTML)


def adopt(job: Job, trained: Path, say: Say) -> dict[str, Any]:
    """Judge an adapter with the quantized model it was trained on, and put it beside it.

    Args:
        job: The source is the reference, with the adapter that serves it; ``out``
            the quantized model. Nothing calibrates.
        trained: Adapter folder.
        say: Told how far it is.

    Returns:
        The folder's new report.

    Raises:
        RefusedError: The pair is worse than allowed; the folder is untouched.
        InputError: ``out`` was not made from this reference by ``quantize``.
        ModelError: The adapter is damaged, or was trained on something else.
        StoreError: The file system refuses.
    """
    before = _check(job, trained)
    clock: dict[str, float] = {}
    held = None
    if job.gate:
        tokenizer = job.source.open().tokenizer
        held = rows.render(job.held, job.tools, tokenizer, count=job.config.gate_rows)
    with atomic_folder(job.out) as made:
        for file in sorted(job.out.iterdir()):
            if file.is_file() and file.name not in _REPLACED:
                shutil.copyfile(file, made / file.name)
        copy_adapter(trained, made)
        with timed(clock, "gate"):
            verdict, scores, plans = judge_folder(job, held, made, say)
        found = before | {
            **(verdict.as_dict() if verdict else {"verdict": "not gated", "checks": []}),
            "trained_adapter": fingerprint(trained, config=False),
            "rows": [score.as_dict() for score in scores],
            "failures": None
            if plans is None
            else {"reference": failures(plans[0]), "model": failures(plans[1])},
            "seconds": before["seconds"] | {name: round(value, 1) for name, value in clock.items()},
        }
        if verdict is not None and not verdict.passed:
            raise refusal(job, verdict, found)
        write_report(made, found)
    return found


def _check(job: Job, trained: Path) -> dict[str, Any]:
    """Return the folder's report, if everything belongs together."""
    path = job.out / report.JSON
    if not path.is_file():
        raise InputError(f"{job.out} was not made by quantize; make it first, without --trained")
    if read_config(job.out).get(DERIVED_KEY) != fingerprint(job.source.folder):
        raise InputError(
            f"{job.out} was not made from {job.name}; name the model that it was made from"
        )
    if job.source.adapter is None:
        raise InputError(f"{job.name} has no adapter that the trained one could be judged against")
    config = adapters.read_config(trained)
    named, wanted = config.get(adapters.BASE_KEY), fingerprint(job.out)
    if named != wanted:
        raise ModelError(
            f"the adapter {trained} was trained on another model: its base is "
            f"{str(named)[:12]}, {job.out} is {wanted[:12]}"
        )
    if config.get(adapters.ACTIVE_KEY) != "after_blocks":
        raise ModelError(
            f"the adapter {trained} acts on all tokens; one that is kept apart acts after the "
            "tool blocks (train planner --attention after_blocks)"
        )
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
