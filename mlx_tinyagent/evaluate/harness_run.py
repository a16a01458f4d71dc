"""A run's folder: what was asked for, the items, the summary, and how to go on with it.

``config.json`` holds everything that decides a figure; a run that was
interrupted goes on only under the same. Nothing here knows a planner.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from mlx_tinyagent.errors import InputError, RecordError
from mlx_tinyagent.evaluate.harness_items import Items
from mlx_tinyagent.files import atomic_write
from mlx_tinyagent.tools.base import ToolSet

ITEMS, SUMMARY, CONFIG, REPORT = "items.jsonl", "summary.json", "config.json", "report.html"
PACKAGES = (
    "mlx-tinyagent",
    "mlx",
    "mlx-lm",
    "transformers",
    "tokenizers",
    "llguidance",
    "numpy",
)


def describe_data(items: Items) -> dict[str, Any]:
    """Say which rows a run is about."""
    return {
        "file": items.path.name,
        "format": items.format,
        "sha256": items.sha256,
        "rows": len(items.items),
        "skipped": len(items.skipped),
    }


def describe_tools(tools: ToolSet) -> dict[str, Any]:
    """Say which tools a run is about, with what a model sees of each."""
    return {"name": tools.name, "fingerprints": {tool.name: tool.fingerprint() for tool in tools}}


def describe_machine() -> dict[str, Any]:
    """Say where a run was made: machine, system, versions."""
    return {
        "system": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """Return the processor's name, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def check_free(out: Path, *, resume: bool) -> None:
    """Refuse a folder that holds a run, unless that run is to go on.

    Raises:
        InputError: It does, or it is no folder.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; results are written to a folder")
    if not resume and any((out / name).exists() for name in (ITEMS, f"{ITEMS}.part")):
        raise InputError(f"{out} holds a run already; --resume goes on with it, or name another")


def open_run(out: Path, config: Mapping[str, Any], *, resume: bool) -> None:
    """Make a run's folder, or check that the one there can go on.

    Args:
        out: The folder.
        config: What decides the figures; JSON.
        resume: Go on with the run that is there, if there is one.

    Raises:
        InputError: The folder holds a run and ``resume`` is off, or that run was
            made under another configuration.
        StoreError: The folder cannot be written.
    """
    known = out / CONFIG
    wanted = json.loads(json.dumps(config))
    finished, part = out / ITEMS, out / f"{ITEMS}.part"
    check_free(out, resume=resume)
    if resume and known.exists():
        difference = _difference(_load(known), wanted)
        if difference:
            raise InputError(
                f"{out} was run under another configuration: {difference}; name another folder"
            )
    elif resume and (finished.exists() or part.exists()):
        raise InputError(
            f"{known} is missing, so it is not known what was run; name another folder"
        )
    atomic_write(known, json.dumps(wanted, indent=2, ensure_ascii=False) + "\n")
    if resume and finished.exists():
        atomic_write(part, finished.read_bytes())  # all rows are there; they are only checked


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _difference(old: Any, new: Any, where: str = "") -> str:
    """Name the first place where two configurations differ; empty if they do not."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{where}.{key}" if where else key
            if found := _difference(old.get(key), new.get(key), inner):
                return found
        return ""
    return "" if old == new else f"{where} was {old!r:.60}, now it is {new!r:.60}"


def read_rows(out: Path) -> list[dict[str, Any]]:
    """Read the items of a finished run.

    Raises:
        InputError: There is no finished run in the folder, or a row is broken.
    """
    path = out / ITEMS
    if not path.is_file():
        part = out / f"{ITEMS}.part"
        hint = "its run was interrupted; --resume goes on with it" if part.exists() else "no run"
        raise InputError(f"{path} does not exist: {hint}")

    try:
        with path.open(encoding="utf-8") as lines:
            return [_row(path, number, line) for number, line in enumerate(lines, start=1)]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    """Read one item; a line may be long, since it holds whatever was predicted."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RecordError(path, number, 1, f"no JSON: {error}") from error
    match value:
        case {"id": str(), "figures": dict(figures)} if all(
            isinstance(figure, int | float) for figure in figures.values()
        ):
            row: dict[str, Any] = value
            return row
    raise RecordError(path, number, 1, "no item of a run: expected an id and figures")


def write_summary(
    out: Path, config: Mapping[str, Any], summary: Mapping[str, Any]
) -> dict[str, Any]:
    """Write ``summary.json`` and return what it holds.

    Raises:
        StoreError: The folder cannot be written.
    """
    document = {**summary, "config": dict(config), "machine": describe_machine()}
    atomic_write(out / SUMMARY, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return document
