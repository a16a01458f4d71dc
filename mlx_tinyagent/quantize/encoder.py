"""A tool classifier in fewer bits, judged by the tools it chooses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlx_tinyagent.errors import InputError, RefusedError
from mlx_tinyagent.evaluate.harness_run import describe_machine
from mlx_tinyagent.evaluate.harness_tools import query_of, score_retrieval
from mlx_tinyagent.evaluate.stats import paired_bootstrap
from mlx_tinyagent.files import atomic_folder
from mlx_tinyagent.models.folder import read_json
from mlx_tinyagent.quantize.gate import Check, State, Verdict, drop, paired
from mlx_tinyagent.quantize.packing import AFFINE_BITS, Format, round_to
from mlx_tinyagent.quantize.report import JSON
from mlx_tinyagent.quantize.settings import GROUPS

if TYPE_CHECKING:
    import mlx.core as mx

    from mlx_tinyagent.evaluate.harness_items import Item
    from mlx_tinyagent.quantize.pipeline import Say
    from mlx_tinyagent.tools.base import ToolSet

# figures of chosen tools, and whether more of it is better
FIGURES = {"full_recall": True, "missed": False, "fire_near": False, "fire_far": False}
PRINTED = ("mean_tools",)  # what it costs; no limit
_EXACT = ("rel_embeddings", "pooler", "classifier", "LayerNorm", "conv")
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderJob:
    """What is to be done.

    Attributes:
        source: The classifier's folder.
        out: Folder of the result; one that is there is replaced at the very end.
        form: Bits and group of the packed matrices.
        tools: Declarations of the tools it knows.
        calibration: Rows whose scores decide the thresholds anew; those of the source
            belong to its own scores. None leaves a classifier without a promise.
        held: Rows to judge on; none for no gate.
        max_drop: Points that a share may get worse: the bound of the paired difference.
        seed: Of the intervals.
    """

    source: Path
    out: Path
    form: Format
    tools: ToolSet
    calibration: Sequence[Item]
    held: Sequence[Item]
    max_drop: float = 1.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.form.bits not in AFFINE_BITS or self.form.group_size not in GROUPS:
            raise InputError(
                f"{self.form.bits} bits in groups of {self.form.group_size}; MLX has "
                f"{', '.join(map(str, AFFINE_BITS))} bits in groups of "
                f"{', '.join(map(str, GROUPS))}"
            )


def quantize_classifier(job: EncoderJob, say: Say) -> dict[str, Any]:
    """Pack a classifier, calibrate it anew, judge it, and publish it if it is no worse.

    Args:
        job: What is to be done.
        say: Told how far it is.

    Returns:
        The report.

    Raises:
        RefusedError: It chooses worse tools than allowed; what was at ``out`` is untouched.
        InputError: The source is packed already, no matrix fits, or ``out`` holds something else.
        ModelError: The source is damaged.
        StoreError: The file system refuses.
    """
    _check(job)
    with atomic_folder(job.out) as made:
        packed, kept = _pack(job, made)
        if job.calibration:
            say("calibrating", 0, 1)
            _calibrate(job, made)
            say("calibrating", 1, 1)
        verdict = _judge(job, made, say) if job.held else None
        found: dict[str, Any] = {
            **(verdict.as_dict() if verdict else {"verdict": "not gated", "checks": []}),
            "format": job.form.as_dict(),
            "matrices": {"packed": packed, "kept": kept},
            "bytes": {"before": _size(job.source), "after": _size(made)},
            "rows": {"calibration": len(job.calibration), "held": len(job.held)},
            "machine": describe_machine(),
        }
        if verdict is not None and not verdict.passed:
            raise RefusedError(
                f"not published: {'; '.join(verdict.reasons)}. More bits, or --no-gate, would do"
            )
        text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
        (made / JSON).write_text(text, encoding="utf-8")
    return found


def _check(job: EncoderJob) -> None:
    from mlx_tinyagent.models.deberta.packed import QUANTIZATION_KEY

    if job.out.resolve() == job.source.resolve():
        raise InputError(f"{job.out} is the classifier to quantize; name another folder")
    taken = job.out.is_dir() and any(job.out.iterdir())
    if taken and not (job.out / JSON).is_file():
        raise InputError(f"{job.out} holds something that was not made here; name another folder")
    if QUANTIZATION_KEY in read_json(job.source / "config.json"):
        raise InputError(f"{job.source} is quantized already; start from the original")


def _pack(job: EncoderJob, made: Path) -> tuple[int, int]:
    """Write the packed classifier with all its other files; returns matrices packed and kept."""
    import mlx.core as mx
    import numpy as np

    from mlx_tinyagent.models.deberta.packed import QUANTIZATION_KEY
    from mlx_tinyagent.retrieval.guarantee import CALIBRATION_FILE

    for file in sorted(job.source.iterdir()):
        if file.is_file() and file.name not in (_WEIGHTS, CALIBRATION_FILE, JSON):
            shutil.copyfile(file, made / file.name)
    stored: Any = mx.load(str(job.source / _WEIGHTS))
    arrays: dict[str, mx.array] = {}
    packed = kept = 0
    for name, value in stored.items():
        if not _fits(name, value.shape, job.form.group_size):
            arrays[name] = value
            kept += value.ndim == 2
            continue
        stem = name.removesuffix(".weight")
        parts = round_to(np.array(value.astype(mx.float32)), job.form).arrays
        arrays |= {f"{stem}.{leaf}": part for leaf, part in parts.items()}
        packed += 1
    if not packed:
        raise InputError(
            f"{job.source}: no matrix divides into groups of {job.form.group_size}; try 32"
        )
    try:
        mx.save_safetensors(str(made / _WEIGHTS), arrays, {"format": "mlx"})
    except RuntimeError as error:
        raise OSError(None, str(error), str(made)) from error
    config = read_json(job.source / "config.json") | {QUANTIZATION_KEY: job.form.as_dict()}
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (made / "config.json").write_text(text, encoding="utf-8")
    return packed, kept


def _fits(name: str, shape: Sequence[int], group: int) -> bool:
    """Say whether a tensor is packed: small and last matrices, and norms, stay exact."""
    parts = name.split(".")
    return (
        parts[-1] == "weight"
        and len(shape) == 2
        and shape[1] % group == 0
        and not any(part in _EXACT for part in parts)
    )


def _calibrate(job: EncoderJob, made: Path) -> None:
    """Decide the thresholds by the packed classifier's own scores; the source's promises stay."""
    import hashlib

    from mlx_tinyagent.retrieval.guarantee import MISS, NO_TOOL_MISS, calibrate, load_calibration
    from mlx_tinyagent.retrieval.scorer import ToolScorer

    rows = [(query_of(item), item.acceptable()) for item in job.calibration if item.kind == "tool"]
    usable = [(query, groups) for query, groups in rows if groups]
    scorer = ToolScorer(made)
    before = load_calibration(job.source)
    miss: Mapping[str, Fraction] = before.miss if before else MISS
    text = json.dumps([[query, [sorted(group) for group in groups]] for query, groups in usable])
    calibrate(
        [query for query, _ in usable],
        [groups for _, groups in usable],
        scorer.score_all([query for query, _ in usable]),
        tools=job.tools.subset(scorer.labels),
        weights=scorer.fingerprint,
        data=hashlib.sha256(text.encode()).hexdigest(),
        miss=miss,
        no_tool_miss=before.no_tool_miss if before else NO_TOOL_MISS,
    ).save(made)


def _judge(job: EncoderJob, made: Path, say: Say) -> Verdict:
    """Let both choose tools for the same rows."""
    from mlx_tinyagent.retrieval.deberta import DebertaRetriever

    found: list[list[Mapping[str, float]]] = []
    for name, folder in (("reference", job.source), ("result", made)):
        retriever = DebertaRetriever(folder)
        lines = []
        for number, item in enumerate(job.held, start=1):
            lines.append(score_retrieval(item, retriever, job.tools)["figures"])
            say(f"choosing tools, {name}", number, len(job.held))
        found.append(lines)
    checks = [
        _compared(job, name, *found)
        for name in (*FIGURES, *PRINTED)
        if any(name in f for f in found[0])
    ]
    return Verdict(checks=tuple(checks))


def _compared(
    job: EncoderJob,
    name: str,
    reference: Sequence[Mapping[str, float]],
    result: Sequence[Mapping[str, float]],
) -> Check:
    """Compare one figure over the rows that have it."""
    pairs = [(a[name], b[name]) for a, b in zip(reference, result, strict=True) if name in a]
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    found = paired_bootstrap(first, second, seed=job.seed)
    state: State = "not judged"
    limit = "what it costs; no limit"
    if name not in PRINTED:
        state, limit = drop(found, job.max_drop, rises=FIGURES[name])
    return paired(name, first, second, found, limit=limit, state=state)


def _size(folder: Path) -> int:
    """Return the bytes of a classifier's weights, n-grams and heads."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
