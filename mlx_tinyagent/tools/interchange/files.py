"""Finds the files of a path and reads them, each in the limited child."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_tinyagent.errors import ConfigError, InputError
from mlx_tinyagent.tools.interchange.child import Job, read_files
from mlx_tinyagent.tools.interchange.load import Loaded, load
from mlx_tinyagent.tools.interchange.parse import KINDS
from mlx_tinyagent.tools.interchange.records import Record
from mlx_tinyagent.tools.local.store import Store

_MAILDIR = frozenset({"cur", "new", "tmp"})
MAX_FILES = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of a path.

    Attributes:
        files: Number of files read.
        loaded: What became of their records.
        problems: One line per file or entry that was left out.
    """

    files: int
    loaded: Loaded
    problems: tuple[str, ...]


def import_path(store: Store, path: Path, *, zone: str = "") -> Imported:
    """Read a file, a folder or a Maildir into a store; what was imported before is left alone.

    Args:
        store: The store.
        path: ``.ics``, ``.vcf``, ``.eml`` or ``.md`` file, a folder of them, or a Maildir.
        zone: Name of the time zone that is local; empty for the machine's.

    Raises:
        InputError: There is nothing to read there.
        ConfigError: A library is missing.
        StoreError: The store cannot be written; nothing was added.
    """
    jobs = find_files(path)
    if any(job.kind == "ics" for job in jobs) and importlib.util.find_spec("icalendar") is None:
        raise ConfigError("calendars need one more library: pip install 'mlx-tinyagent[net]'")
    records: list[Record] = []
    problems: list[str] = []
    for job, found in read_files(jobs, zone):
        if isinstance(found, str):
            problems.append(f"{job.path}: {found}")
            continue
        records += found.records
        problems += [f"{job.path}: entry {s.entry}: {s.reason}" for s in found.skipped]
    return Imported(files=len(jobs), loaded=load(store, records), problems=tuple(problems))


def find_files(path: Path) -> list[Job]:
    """Return the files of a path, in name order; links and hidden files are left out.

    Raises:
        InputError: There is nothing to read there.
    """
    if path.is_file():
        kind = KINDS.get(path.suffix.lower())
        if kind is None:
            raise InputError(f"{path} cannot be imported: only {', '.join(KINDS)} and Maildirs can")
        return [Job(path=str(path.resolve()), kind=kind, stem=path.stem)]
    if not path.is_dir():
        raise InputError(f"{path} does not exist")
    jobs = list(_walk(path))
    if not jobs:
        raise InputError(f"{path} holds nothing that can be imported: {', '.join(KINDS)}, Maildirs")
    if len(jobs) > MAX_FILES:
        raise InputError(
            f"{path} holds more than {MAX_FILES:,} files; import its folders one by one"
        )
    return jobs


def _walk(top: Path) -> Iterator[Job]:
    for folder, names, files in os.walk(top):
        names[:] = sorted(name for name in names if not name.startswith("."))
        place = Path(folder)
        is_box = place.name in ("cur", "new") and _is_maildir(place.parent)
        for name in sorted(files):
            path = place / name
            kind = "eml" if is_box else KINDS.get(path.suffix.lower())
            if kind is None or name.startswith(".") or path.is_symlink():
                continue
            own = "" if place == top or kind != "md" else place.name
            yield Job(path=str(path), kind=kind, stem=path.stem, folder=own)


def _is_maildir(folder: Path) -> bool:
    return all((folder / name).is_dir() for name in _MAILDIR)


def describe(counts: Sequence[tuple[str, int]]) -> str:
    """Write counts for people: ``3 contacts, 1 event``."""
    return ", ".join(f"{n:,} {kind}{'s' * (n != 1)}" for kind, n in counts if n) or "nothing"
