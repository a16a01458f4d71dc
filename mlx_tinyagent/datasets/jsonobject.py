"""One big JSON object, read member by member in bounded memory.

The standard parser needs the whole text. This one finds where each member
ends and hands only that piece to the standard parser.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mlx_tinyagent.errors import InputError, RecordError

CHUNK = 1 << 18  # bytes read at once
MAX_MEMBER = 16 * 1024 * 1024  # characters of one member

_MARKS = re.compile(r'["\\{}\[\],:]')
_STRING_END = re.compile(r'["\\]')


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the object.

    Attributes:
        key: Its key.
        value: Its value, parsed.
        line: Line where its key stands, from 1.
        column: Column where its key stands, from 1.
    """

    key: str
    value: Any
    line: int
    column: int


def read_members(path: Path) -> Iterator[Member]:
    """Yield the members of the JSON object that a file holds, in file order.

    Args:
        path: The file.

    Raises:
        InputError: The file cannot be read.
        RecordError: It is no JSON object, is cut off, or a member is broken.
    """
    try:
        with path.open("rb") as file:
            yield from _Scanner(path, file).members()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


class _Scanner:
    """A window over the file: ``text`` from ``at`` on is not yet consumed."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.text, self.at = "", 0
        self.line, self.column = 1, 1
        self.over = False

    def members(self) -> Iterator[Member]:
        if self.peek() != "{":
            raise self.fail(f"expected a JSON object, found {self.peek() or 'the end'!r}")
        self.skip(1)
        while self.peek() != "}":
            yield self.member()
            if self.peek() == ",":
                self.skip(1)
                if self.peek() == "}":
                    raise self.fail("a comma before the closing bracket")
            elif self.peek() != "}":
                raise self.fail(f"expected ',' or '}}', found {self.peek() or 'the end'!r}")
        self.skip(1)
        if self.peek():
            raise self.fail(f"text after the object: {self.peek()!r}")

    def member(self) -> Member:
        if self.peek() != '"':
            raise self.fail(f"expected a key, found {self.peek() or 'the end'!r}")
        line, column = self.line, self.column
        key = self.parse(self.piece())
        if self.peek() != ":":
            raise self.fail(f"expected ':', found {self.peek() or 'the end'!r}")
        self.skip(1)
        self.peek()
        value = self.parse(self.piece())
        return Member(str(key), value, line, column)

    def peek(self) -> str:
        """Skip blanks and return the next character; empty at the end."""
        while True:
            while self.at < len(self.text):
                char = self.text[self.at]
                if char not in " \t\r\n":
                    return char
                self.skip(1)
            if not self.fill():
                return ""

    def skip(self, count: int) -> None:
        """Move past characters and keep count of lines."""
        passed = self.text[self.at : self.at + count]
        lines = passed.count("\n")
        self.line += lines
        self.column = len(passed) - passed.rfind("\n") if lines else self.column + count
        self.at += count

    def fill(self) -> bool:
        """Read on; drops what is consumed. False at the end of the file."""
        more = ""
        while not more and not self.over:  # a chunk may end inside a character
            raw = self.file.read(CHUNK)
            self.over = not raw
            try:
                more = self.decoder.decode(raw, final=self.over)
            except UnicodeDecodeError as error:
                raise self.fail(f"bytes that are not UTF-8 ({error.reason})") from error
        self.text, self.at = self.text[self.at :] + more, 0
        return bool(more)

    def piece(self) -> str:
        """Return the text of the value that starts here and move past it."""
        end = self.value_end()
        found = self.text[self.at : self.at + end]
        self.skip(end)
        return found

    def value_end(self) -> int:
        """Return how many characters the value that starts here has."""
        depth, offset, quoted = 0, 0, False
        while True:
            pattern = _STRING_END if quoted else _MARKS
            match = pattern.search(self.text, self.at + offset)
            if match is None:
                offset = len(self.text) - self.at
                if offset > MAX_MEMBER:
                    raise self.fail(f"a member is longer than {MAX_MEMBER} characters")
                if not self.fill():
                    if depth or quoted:
                        raise self.fail("the file is cut off inside a member")
                    return offset
                continue
            char, offset = match[0], match.start() - self.at + 1
            if char == "\\":
                offset += 1
                while self.at + offset > len(self.text):
                    if self.fill():
                        continue
                    raise self.fail("the file is cut off inside a text")
            elif char == '"':
                quoted = not quoted
                if not quoted and depth == 0:
                    return offset
            elif char in "{[":
                depth += 1
            elif char in "}]":
                depth -= 1
                if depth == 0:
                    return offset
                if depth < 0:
                    return offset - 1
            elif depth == 0:  # a comma or colon ends a number or word
                return offset - 1

    def parse(self, text: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "cannot be read"
            raise self.fail(f"a member is no JSON: {reason}") from error

    def fail(self, reason: str) -> RecordError:
        return RecordError(self.path, self.line, self.column, reason)
