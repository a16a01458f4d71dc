"""JSON lines, strictly: bounded memory, and file, line and column for every defect.

Knows no record schema. CR LF line ends and a last line without an end are
accepted; everything else that is not one UTF-8 JSON object per line is not.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from mlx_tinyagent.errors import InputError, RecordError, StoreError

MAX_LINE_BYTES = 1024 * 1024
MAX_DEPTH = 64  # nesting of lists and objects in one row
MAX_BAD_SHARE = 0.01  # of all rows, that skipping tolerates

_PACKED = {
    b"\x1f\x8b": "gzip-compressed",
    b"PK\x03\x04": "a zip archive",
    b"BZh": "bzip2-compressed",
    b"\xfd7zXZ": "xz-compressed",
    b"\x28\xb5\x2f\xfd": "zstd-compressed",
}
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_NUL = re.compile(r"\\u0000")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Line:
    """One parsed line.

    Attributes:
        path: The file.
        number: Line number, from 1.
        text: The line, decoded, without line end.
        value: The JSON object on it.
    """

    path: Path
    number: int
    text: str
    value: dict[str, Any]

    def error(self, reason: str, *, key: str | None = None) -> RecordError:
        """Make the error of this line; the column is where the key stands, else 1."""
        column = column_of(self.text, key) if key is not None else 1
        return RecordError(self.path, self.number, column, reason)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A broken row that was passed over."""

    line: int
    error: RecordError


def column_of(text: str, key: str, *, occurrence: int = 1) -> int:
    """Return the column, from 1, where a key's n-th occurrence stands in a line; 1 if nowhere."""
    pattern = re.compile(re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:")
    for number, match in enumerate(pattern.finditer(text), start=1):
        if number == occurrence:
            return match.start() + 1
    return 1


def read_lines(
    path: Path,
    parse: Callable[[Line], T],
    *,
    skip_bad: bool = False,
    skipped: list[Skipped] | None = None,
) -> Iterator[T]:
    """Read a JSONL file row by row.

    Args:
        path: The file.
        parse: Turns a line into a value, or raises ``RecordError``.
        skip_bad: Pass over broken rows; more than 1 % of all rows is an error at the end.
        skipped: Receives the rows passed over.

    Yields:
        What ``parse`` returns, in file order.

    Raises:
        InputError: The file is missing, empty, compressed, or too much of it is broken.
        RecordError: A row is broken and ``skip_bad`` is off.
    """
    bad: list[Skipped] = skipped if skipped is not None else []
    rows = 0
    for number, raw in _raw_lines(path):
        rows += 1
        try:
            yield parse(_parse_line(path, number, raw))
        except RecordError as error:
            if not skip_bad:
                raise
            bad.append(Skipped(number, error))
    if rows == 0:
        raise InputError(f"{path}: the file is empty; expected one JSON object per line")
    if bad and len(bad) > MAX_BAD_SHARE * rows:
        raise InputError(
            f"{path}: {len(bad)} of {rows} rows are broken, more than "
            f"{MAX_BAD_SHARE:.0%}; the first: {bad[0].error}"
        )


def read_objects(path: Path) -> Iterator[Line]:
    """Read a JSONL file of any schema; see ``read_lines`` for errors."""
    return read_lines(path, lambda line: line)


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Write lines to a file: afterwards it holds the old content or all of the new.

    Args:
        path: Target; missing folders are created.
        lines: Texts without line end, written as UTF-8 while they come.

    Returns:
        Number of lines.

    Raises:
        StoreError: The file system refuses.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    count = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for line in lines:
                file.write(line)
                file.write("\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield line numbers and bytes; a line over the limit comes cut just above it."""
    try:
        with path.open("rb") as file:
            _refuse_packed(path, file.peek(8)[:8])
            number = 0
            while raw := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                cut = len(raw) > MAX_LINE_BYTES
                while cut and not raw.endswith(b"\n"):  # drop the rest without keeping it
                    rest = file.readline(1 << 16)
                    if not rest or rest.endswith(b"\n"):
                        break
                yield number, raw
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def _refuse_packed(path: Path, head: bytes) -> None:
    for magic, what in _PACKED.items():
        if head.startswith(magic):
            raise RecordError(path, 1, 1, f"the file is {what}; unpack it first")


def _parse_line(path: Path, number: int, raw: bytes) -> Line:
    """Decode and parse one line."""

    def fail(column: int, reason: str) -> NoReturn:
        raise RecordError(path, number, column, reason)

    if len(raw) > MAX_LINE_BYTES:
        fail(MAX_LINE_BYTES + 1, f"the line is longer than {MAX_LINE_BYTES} bytes")
    if raw.startswith(b"\xef\xbb\xbf"):
        fail(1, "a byte order mark; save the file as plain UTF-8")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        fail(1, "UTF-16 text; save the file as plain UTF-8")
    nul = raw.find(b"\x00")
    if nul >= 0:
        fail(nul + 1, "a NUL byte")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        fail(error.start + 1, f"bytes that are not UTF-8 ({error.reason})")
    text = text.removesuffix("\n").removesuffix("\r")
    if not text.strip():
        fail(1, "an empty line; expected one JSON object")
    value = _parse_json(text, fail)
    if not isinstance(value, dict):
        fail(1, f"expected a JSON object, got {type(value).__name__}")
    match = _SURROGATE.search(text)
    if match and any(_is_broken(text) for text in _strings(value)):
        fail(match.start() + 1, "half of a surrogate pair; it is no character")
    match = _NUL.search(text)
    if match and any("\x00" in text for text in _strings(value)):
        fail(match.start() + 1, "a NUL character")
    return Line(path, number, text, value)


def _parse_json(text: str, fail: Callable[[int, str], NoReturn]) -> Any:
    """Parse one JSON text; refuse what the standard or plain good sense forbids."""

    def constant(name: str) -> NoReturn:
        fail(text.find(name) + 1, f"{name} is no JSON value")

    def number(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            fail(text.find(digits) + 1, f"the number {digits[:30]} is too large")
        return value

    def integer(digits: str) -> int:
        if len(digits) > 20:
            fail(text.find(digits) + 1, f"the number {digits[:20]}... is too large")
        return int(digits)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) != len(items):
            keys = [key for key, _ in items]
            twice = next(key for key in keys if keys.count(key) > 1)
            fail(column_of(text, twice, occurrence=2), f"the key {twice!r} stands twice")
        return result

    try:
        value = json.loads(
            text,
            parse_constant=constant,
            parse_float=number,
            parse_int=integer,
            object_pairs_hook=pairs,
        )
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text) or "Unterminated" in error.msg
        fail(error.colno, f"the line is cut off: {error.msg}" if cut else f"no JSON: {error.msg}")
    except RecursionError:
        fail(1, f"nested deeper than {MAX_DEPTH} levels")
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        fail(1, f"nested deeper than {MAX_DEPTH} levels")
    return value


def _depth(value: Any) -> int:
    """Return how deep lists and objects are nested; stops counting past the limit."""
    deepest, layer = 0, [value]
    while layer and deepest <= MAX_DEPTH + 1:
        layer = [item for item in layer if isinstance(item, dict | list)]
        deepest += bool(layer)
        layer = [
            child for item in layer for child in (item.values() if isinstance(item, dict) else item)
        ]
    return deepest


def _strings(value: Any) -> Iterator[str]:
    """Yield every text in a value, keys too."""
    layer = [value]
    while layer:
        item = layer.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            layer.extend(item)
            layer.extend(item.values())
        elif isinstance(item, list):
            layer.extend(item)


def _is_broken(text: str) -> bool:
    """Whether a text holds half of a surrogate pair, which UTF-8 cannot write."""
    return any("\ud800" <= char <= "\udfff" for char in text)
