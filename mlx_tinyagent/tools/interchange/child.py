"""Reads files in a child process with limits; whatever they hold, the outcome is a record or words.

A file that the child dies of is reported, and the next child goes on behind it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlx_tinyagent.tools.interchange import records
from mlx_tinyagent.tools.interchange.records import Content, Record, Skipped

WALL_S = 60.0  # for one child; its own limit is processor time
_WORKER = Path(__file__).with_name("worker.py")
_TYPES: dict[str, Callable[..., Record]] = {
    kind.__name__: kind
    for kind in (
        *(records.Person, records.Event, records.Todo),
        *(records.Letter, records.Draft, records.Page),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One file to read.

    Attributes:
        path: Where it is.
        kind: ``ics``, ``vcf``, ``eml`` or ``md``.
        stem: Its name without the extension.
        folder: Name of the folder it lies in.
    """

    path: str
    kind: str
    stem: str = ""
    folder: str = ""


def read_files(jobs: Sequence[Job], zone: str = "") -> Iterator[tuple[Job, Content | str]]:
    """Read files, all in one child as long as it lives.

    Args:
        jobs: The files.
        zone: Name of the time zone that is local; empty for the machine's.

    Yields:
        Each file with what it holds, or why it cannot be read.
    """
    done = 0
    while done < len(jobs):
        answers, ending = _run(jobs[done:], zone)
        for answer in answers:
            yield jobs[done], _content(answer)
            done += 1
        if ending and done < len(jobs):
            yield jobs[done], ending
            done += 1


def _run(jobs: Sequence[Job], zone: str) -> tuple[list[dict[str, Any]], str]:
    """Run one child; returns its answers and, if it did not finish, why."""
    lines = "".join(json.dumps(asdict(job)) + "\n" for job in jobs)
    command = [sys.executable, "-I", "-X", "utf8", str(_WORKER), zone, *_folders()]
    environment = {"TZ": os.environ["TZ"]} if "TZ" in os.environ else {}
    ending = "the reader stopped"
    try:
        child = subprocess.run(
            command,
            input=lines.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,  # no settings of ours, no secrets
            timeout=WALL_S,
            check=False,
        )
        output = child.stdout
        if child.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
            ending = "it takes too much time or memory"
    except subprocess.TimeoutExpired as error:
        output, ending = error.stdout or b"", f"it took more than {WALL_S:g} s"
    answers = [json.loads(line) for line in output.split(b"\n")[:-1]]
    return answers, "" if len(answers) == len(jobs) else ending


def _content(answer: dict[str, Any]) -> Content | str:
    """Make records of a child's answer."""
    if "error" in answer:
        return str(answer["error"])
    found = [
        _TYPES[name](**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
        for name, values in answer["records"]
    ]
    return Content(
        records=tuple(found), skipped=tuple(Skipped(**item) for item in answer["skipped"])
    )


def _folders() -> list[str]:
    """Return the folders that the package and its libraries lie in."""
    package = Path(__file__).resolve().parents[3]
    library = importlib.util.find_spec("icalendar")
    found = [Path(library.origin).parents[1]] if library and library.origin else []
    return [str(folder) for folder in (package, *found)]
