"""What a recipe left in a folder, told from the names and the shape of its files.

Reads and counts; knows no page. Nothing is followed out of the folder, and a
file that cannot be read is named instead of ending the search.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlx_tinyagent.errors import InputError, TinyAgentError

Kind = Literal[
    "data", "training", "classifier", "quantization", "plans", "tools", "latency", "installed",
    "journal", "planned", "answer",
]  # fmt: skip

MAX_DEPTH = 4  # folders below the one that is named
MAX_BYTES = 64 * 1024 * 1024  # of one JSON document
MAX_PLANNED = 50  # rows of a planned file that are shown
SIDES = ("train.jsonl", "valid.jsonl", "test.jsonl")
PASSED_OVER = frozenset({"checkpoint", "classifier", "plots"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One thing that a recipe left.

    Attributes:
        kind: What it is.
        name: Its place below the folder that was named.
        folder: Where it lies.
        found: What was read from it.
        time: When it was last written, seconds since the epoch.
    """

    kind: Kind
    name: str
    folder: Path
    found: Mapping[str, Any]
    time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """All of it.

    Attributes:
        folder: The folder that was named.
        parts: What was found, the oldest first within a kind.
        unreadable: Files that could not be read, each with the reason.
    """

    folder: Path
    parts: tuple[Part, ...]
    unreadable: tuple[str, ...]

    def of(self, *kinds: Kind) -> list[Part]:
        """Return the parts of some kinds."""
        return [part for part in self.parts if part.kind in kinds]


def collect(folder: Path) -> Collected:
    """Find what a recipe left in a folder and the folders below it.

    Raises:
        InputError: It is no folder, or nothing in it comes from a recipe.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; name the one that a recipe wrote to")
    parts: list[Part] = []
    unreadable: list[str] = []
    for place in _folders(folder):
        for file, recognize in _FILES.items():
            path = place / file
            if path.is_symlink() or not path.is_file():
                continue
            try:
                kind, found = recognize(path)
            except (TinyAgentError, OSError, ValueError, RecursionError) as error:
                unreadable.append(f"{path.relative_to(folder)}: {error}")
                continue
            if kind is not None:
                name = str(place.relative_to(folder))
                time = path.stat().st_mtime
                parts.append(Part(kind=kind, name=name, folder=place, found=found, time=time))
    if not parts:
        more = f"; {unreadable[0]}" if unreadable else ""
        raise InputError(
            f"{folder} holds no data set, training, evaluation, quantization or measurement of "
            f"this program{more}"
        )
    parts.sort(key=lambda part: (part.time, part.name))
    return Collected(folder=folder, parts=tuple(parts), unreadable=tuple(unreadable))


def _folders(top: Path) -> Iterator[Path]:
    """Yield a folder and those below it, by name; links are not followed."""
    for place, inner, _ in os.walk(top):
        depth = len(Path(place).relative_to(top).parts)
        keep = [name for name in inner if name not in PASSED_OVER and not name.startswith(".")]
        inner[:] = sorted(keep) if depth < MAX_DEPTH else []
        yield Path(place)


Recognized = tuple[Kind | None, Mapping[str, Any]]


def _data(path: Path) -> Recognized:
    """Count every side of a data set; the first side that is there speaks for all."""
    present = [name for name in SIDES if (path.parent / name).is_file()]
    if path.name != present[0]:
        return None, {}
    from mlx_tinyagent.datasets.record import read_examples
    from mlx_tinyagent.datasets.stats import collect as count

    sides = {}
    for name in present:
        if (path.parent / name).stat().st_size:
            sides[name] = count(read_examples(path.parent / name)).as_dict()
    config = path.with_name("config.json")
    return "data", {"sides": sides, "config": _object(config) if config.is_file() else {}}


def _training(path: Path) -> Recognized:
    """Read the log of a run, and its settings where they are there."""
    from mlx_tinyagent.train.plot import read_log

    config = path.with_name("config.json")
    state = path.parent / "checkpoint" / "state.json"
    return "training", {
        "curves": read_log(path),
        "config": _object(config) if config.is_file() else {},
        "progress": _object(state).get("progress", {}) if state.is_file() else {},
    }


def _classifier(path: Path) -> Recognized:
    found = _object(path)
    return ("classifier" if {"figures", "promises"} <= found.keys() else None), found


def _quantization(path: Path) -> Recognized:
    return "quantization", _object(path)


def _summary(path: Path) -> Recognized:
    """Tell the four kinds of summary apart."""
    match found := _object(path):
        case {"config": {"command": "eval plans"}}:
            return "plans", found
        case {"config": {"command": "eval tools"}}:
            return "tools", found
        case {"means": dict(), "ratios": dict()}:
            return "latency", found
        case {"sizes": list(), "requests": int()}:
            return "installed", found
    return None, found


def _journal(path: Path) -> Recognized:
    found = _object(path)
    return ("journal" if isinstance(found.get("runs"), list) else None), found


def _answer(path: Path) -> Recognized:
    found = _object(path)
    return ("answer" if {"query", "reply"} <= found.keys() else None), found


def _planned(path: Path) -> Recognized:
    """Read the first rows that ``plan`` wrote."""
    rows: list[Mapping[str, Any]] = []
    requests = _requests(path.with_name("request.jsonl"))
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if not isinstance(row, dict) or "calls" not in row:
                raise ValueError("a row is no plan")
            rows.append({**row, "query": requests.get(str(row.get("id")), "")})
            if len(rows) == MAX_PLANNED:
                break
    return "planned", {"rows": rows}


def _requests(path: Path) -> dict[str, str]:
    """Return the requests by identifier; none where the file is not beside the plans."""
    if not path.is_file():
        return {}
    rows: Sequence[Any] = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return {str(row["id"]): str(row["query"]) for row in rows if {"id", "query"} <= row.keys()}


def _object(path: Path) -> dict[str, Any]:
    """Read a file with one JSON object."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} bytes")
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError("it holds no JSON object")
    return value


_FILES: Mapping[str, Callable[[Path], Recognized]] = {
    **dict.fromkeys(SIDES, _data),
    "log.jsonl": _training,
    "report.json": _classifier,
    "quantization_report.json": _quantization,
    "summary.json": _summary,
    "log.json": _journal,
    "answer.json": _answer,
    "plan.jsonl": _planned,
}
