"""Writing one result per input row, so that an interrupted run can go on.

Rows are collected in a file beside the target, which appears under its own
name only when all are there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import click

from mlx_tinyagent.cli.common import progress_bar
from mlx_tinyagent.errors import InputError


class Identified(Protocol):
    """A row with an id of any JSON type."""

    @property
    def id(self) -> Any:
        """The id."""


R = TypeVar("R", bound=Identified)


def write_rows(
    source: Path,
    target: Path,
    rows: Sequence[R],
    one: Callable[[R], dict[str, Any]],
    *,
    resume: bool = False,
    title: str,
) -> None:
    """Write one result per row, in order; the target appears when all are there.

    Args:
        source: Where the rows come from; must not be the target.
        target: File to write.
        rows: The rows.
        one: Makes the result of a row.
        resume: Go on after the rows that an interrupted run has left.
        title: What the progress line says.

    Raises:
        InputError: The target cannot be a file of results.
        StoreError: The disk is full or cannot be written; rows so far are kept.
        KeyboardInterrupt: Rows so far are kept.
    """
    from mlx_tinyagent.files import readable_errors, sync

    _check_target(source, target)
    part = target.with_name(f"{target.name}.part")
    with readable_errors(part):
        target.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("r+b" if resume and part.exists() else "w+b")
    try:
        done = _keep_finished(file, rows)
        with progress_bar(title) as report:
            for number, row in enumerate(rows[done:], start=done):
                report(number, len(rows))
                text = json.dumps(one(row), ensure_ascii=False)
                with readable_errors(part):
                    file.write(f"{text}\n".encode())
                    file.flush()
            report(len(rows), len(rows))
        with readable_errors(part):
            sync(file.fileno())
            part.replace(target)
    finally:
        with contextlib.suppress(OSError):  # what a full disk refused, it refuses again
            file.close()
    kept = f", {done} of them from before" if done else ""
    click.echo(f"{target}: {len(rows)} rows{kept}", err=True)


def _check_target(source: Path, target: Path) -> None:
    if target.exists() and not target.is_file():
        raise InputError(f"{target} is not a file; results are written to a new file there")
    if target.exists() and source.exists() and os.path.samefile(source, target):
        raise InputError(f"{target} is the input; name another file to write")


def _keep_finished(file: IO[bytes], rows: Sequence[Identified]) -> int:
    """Cut a file behind the complete rows that fit the input; returns how many there are."""
    end = count = 0
    for row, line in zip(rows, file, strict=False):
        if not line.endswith(b"\n") or not _is_result_of(row, line):
            break
        end += len(line)
        count += 1
    file.seek(end)
    file.truncate()
    return count


def _is_result_of(row: Identified, line: bytes) -> bool:
    try:
        return bool(json.loads(line)["id"] == row.id)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
