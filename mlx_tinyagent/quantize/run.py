"""One quantization from beginning to end: nothing is published that the gate refuses."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.errors import InputError, RefusedError
from mlx_tinyagent.files import atomic_folder
from mlx_tinyagent.models.folder import fingerprint
from mlx_tinyagent.models.info import describe, text_config
from mlx_tinyagent.quantize import folder, pipeline, report, rows, score
from mlx_tinyagent.quantize.distill import distill
from mlx_tinyagent.quantize.gate import Verdict, judge
from mlx_tinyagent.quantize.plans import written
from mlx_tinyagent.trace import now

if TYPE_CHECKING:
    from mlx_tinyagent.datasets.record import Example
    from mlx_tinyagent.evaluate.harness_items import Item
    from mlx_tinyagent.quantize.pipeline import Say, Source
    from mlx_tinyagent.quantize.settings import QuantizeConfig
    from mlx_tinyagent.tools.base import ToolSet

REFUSED = "-refused"  # ends the name of the folder that says why nothing was published
DISTILLING = "-distilling"  # ends that of the folder from which a run that was cut off goes on


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be done.

    Attributes:
        source: The model.
        name: What it is called in the report.
        out: Folder of the result; a result that is there is replaced at the very end.
        config: The settings.
        tools: Declarations.
        calibration: Examples to calibrate on.
        held: Examples to judge on, none of which is among the others.
        items: Rows for which both models write plans; they take long.
        gate: Whether the result is judged.
        license: For the card of a model without one.
    """

    source: Source
    name: str
    out: Path
    config: QuantizeConfig
    tools: ToolSet
    calibration: Sequence[Example]
    held: Sequence[Example]
    items: Sequence[Item] = ()
    gate: bool = True
    license: str = ""


def run(job: Job, say: Say) -> dict[str, Any]:
    """Quantize, judge, and publish or refuse.

    Args:
        job: What is to be done.
        say: Told how far it is.

    Returns:
        The report.

    Raises:
        RefusedError: The result is worse than allowed; what was at ``out`` is untouched.
        InputError: ``out`` holds something else, or the model cannot be quantized.
        ModelError: The model is damaged or unknown.
        StoreError: The file system refuses.
    """
    check_target(job.out, job.source.folder)
    config, source = job.config, job.source
    shapes = pipeline.check(source, config)
    model = source.open()
    seen = rows.render(job.calibration, job.tools, model.tokenizer, count=config.rows)
    context = int(text_config(model.config).get("max_position_embeddings") or 2048)
    rows.check_context(seen, context, job.name)
    held = None
    if job.gate:
        held = rows.render(job.held, job.tools, model.tokenizer, count=config.gate_rows)
        rows.check_context(held, context, job.name)
    clock: dict[str, float] = {}
    with timed(clock, "choose"):
        choice = pipeline.choose(source, seen, config, shapes, say)
    with timed(clock, "pack"):
        quantized = pipeline.pack(source, seen, choice, config, say)
    with atomic_folder(job.out) as made:
        folder.write(made, source, quantized, fused=model.fused, license=job.license)
        del quantized
        learned: list[float] = []
        if config.distill:
            with timed(clock, "distill"):
                learned = _distill(job, seen, made, say)
        with timed(clock, "gate"):
            verdict, scores, plans = judge_folder(job, held, made, say)
        found = report.document(
            source=_describe(job, model.fingerprint, fused=model.fused),
            config=config,
            choice=choice,
            shapes=shapes,
            size=describe(made).disk_bytes,
            calibration={"rows": len(seen.rows), "digest": seen.digest},
            verdict=verdict,
            scores=scores,
            items=plans,
            seconds=clock,
        ) | ({"distilled": learned} if config.distill else {})
        if verdict is not None and not verdict.passed:
            raise refusal(job, verdict, found)
        write_report(made, found)
    shutil.rmtree(job.out.with_name(job.out.name + DISTILLING), ignore_errors=True)
    return found


def _distill(job: Job, seen: rows.Rows, made: Path, say: Say) -> list[float]:
    """Tune scales and biases; the adapter beside them then belongs to the new weights."""
    source = job.source
    reference = score.read(
        source.open(),
        seen,
        blocks=source.blocks,
        progress=functools.partial(say, "reading plans, teacher"),
    )
    checkpoint = job.out.with_name(job.out.name + DISTILLING)
    beside = _adapter(made)
    found = distill(
        made, beside, seen, reference, job.config, checkpoint, say, blocks=source.blocks
    )
    if beside is not None and source.adapter is not None:
        folder.copy_adapter(source.adapter, made)
    return found


def check_target(out: Path, source: Path) -> None:
    """Refuse to replace what is not a result of an earlier run.

    Raises:
        InputError: Something else is there.
    """
    if not out.exists() and not out.is_symlink():
        return
    if out.is_symlink() or not out.is_dir():
        raise InputError(f"{out} is no folder; name another one")
    if out.resolve() == source.resolve():
        raise InputError(f"{out} is the model to quantize; name another folder")
    if any(out.iterdir()) and not (out / report.JSON).is_file():
        raise InputError(f"{out} holds something that quantize did not write; name another folder")


def judge_folder(
    job: Job, held: rows.Rows | None, made: Path, say: Say
) -> tuple[Verdict | None, list[score.Score], tuple[list[Any], list[Any]] | None]:
    """Let reference and result read plans, and write some where that is wanted.

    Args:
        job: What is to be done; its source is the reference.
        held: Rows that judge; None for no gate.
        made: Folder of the result, an adapter beside the weights included.
        say: Told how far it is.

    Returns:
        The verdict, what it stands on per row, and the plans that both wrote.
    """
    if held is None:
        return None, [], None
    blocks = job.source.blocks
    result = pipeline.Source(folder=made, adapter=_adapter(made), blocks=blocks)
    readings = [
        score.read(
            source.open(),
            held,
            blocks=blocks,
            progress=functools.partial(say, f"reading plans, {name}"),
        )
        for name, source in (("reference", job.source), ("result", result))
    ]
    scores = score.compare(readings[0], readings[1], held)
    if not job.items:
        return judge(scores, job.config), scores, None
    usual = written(job.source.folder, job.source.adapter, job.tools, job.items, say)
    known = [row["prediction"].get("text", "") for row in usual]
    found = written(made, _adapter(made), job.tools, job.items, say, known=known)
    verdict = judge(scores, job.config, reference_items=usual, items=found)
    return verdict, scores, (usual, found)


def _adapter(made: Path) -> Path | None:
    from mlx_tinyagent.models.adapters import WEIGHTS

    return made if (made / WEIGHTS).is_file() else None


def _describe(job: Job, identity: str, *, fused: bool) -> dict[str, Any]:
    source = job.source
    adapter = fingerprint(source.adapter, config=False) if source.adapter else None
    return {
        "name": job.name,
        "fingerprint": identity,
        "bits": round(describe(source.folder).bits, 3),
        "fused_adapter": adapter if fused else None,
        "adapter": None if fused else adapter,
    }


def refusal(job: Job, verdict: Verdict, found: dict[str, Any]) -> RefusedError:
    """Write down beside the target why nothing is published, and return the error."""
    beside = job.out.with_name(job.out.name + REFUSED)
    with atomic_folder(beside) as made:
        write_report(made, found)
    return RefusedError(
        f"not published: {'; '.join(verdict.reasons)}. The report is in {beside}; more bits, or "
        "--no-gate, would do"
    )


def write_report(made: Path, found: dict[str, Any]) -> None:
    """Write a report into a folder, as JSON and as a page."""
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    (made / report.JSON).write_text(text, encoding="utf-8")
    (made / report.HTML).write_text(report.render(found), encoding="utf-8")


@contextmanager
def timed(clock: dict[str, float], name: str) -> Iterator[None]:
    """Write down the seconds that a stage takes."""
    start = now()
    try:
        yield
    finally:
        clock[name] = now() - start
