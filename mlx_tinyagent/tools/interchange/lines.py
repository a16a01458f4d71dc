"""Content lines of iCalendar and vCard files (RFC 5545 section 3.1, RFC 6350 section 3.3).

Cuts files into components without changing a character, so that what nobody
touched is written back as it was.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mlx_tinyagent.tools.interchange.records import MAX_RECORDS, InterchangeError

MAX_DEPTH = 8
_BEGIN = re.compile(r"BEGIN:([A-Za-z0-9-]+)\s*", re.IGNORECASE)
_END = re.compile(r"END:([A-Za-z0-9-]+)\s*", re.IGNORECASE)
_BREAK = re.compile(r"\r\n|\n|\r")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """One property line.

    Attributes:
        name: Upper case, without the group before a dot.
        parameters: Raw values by upper-case name; of one that comes twice the last.
        value: As it stands in the file, escapes and all.
        line: The whole line, unfolded.
    """

    name: str
    parameters: Mapping[str, str]
    value: str
    line: str


@dataclass(slots=True, kw_only=True)
class Component:
    """A part of a file from ``BEGIN`` to ``END``.

    Attributes:
        name: Upper case, such as ``VEVENT``.
        line: Number of its first line, from 1.
        lines: Its own property lines, unfolded, without those of the parts inside.
        parts: The components inside.
        text: All of it as it stands in the file, line ends made CRLF.
    """

    name: str
    line: int
    lines: list[str] = field(default_factory=list)
    parts: list[Component] = field(default_factory=list)
    text: str = ""

    def value(self, name: str) -> str:
        """Return the raw value of the first property of that name; empty if there is none."""
        return next((found.value for found in self.properties(name)), "")

    def properties(self, name: str) -> Iterator[Property]:
        """Yield all properties of that name, in order."""
        for line in self.lines:
            found = read_property(line)
            if found.name == name:
                yield found


def components(text: str) -> list[Component]:
    """Cut a file into its outermost components.

    Raises:
        InterchangeError: ``BEGIN`` and ``END`` do not match, or there are too many.
    """
    found: list[Component] = []
    open_: list[tuple[Component, int]] = []
    raw = _BREAK.split(text.removeprefix("\ufeff"))
    count = 0
    for index, line, last in _unfolded(raw):
        if begin := _BEGIN.fullmatch(line):
            count += 1
            if count > 8 * MAX_RECORDS or len(open_) >= MAX_DEPTH:
                raise InterchangeError(f"line {index + 1}: too many entries, or too deep")
            component = Component(name=begin[1].upper(), line=index + 1)
            (open_[-1][0].parts if open_ else found).append(component)
            open_.append((component, index))
        elif end := _END.fullmatch(line):
            if not open_ or open_[-1][0].name != end[1].upper():
                raise InterchangeError(f"line {index + 1}: END:{end[1]} without its BEGIN")
            component, first = open_.pop()
            component.text = "\r\n".join(raw[first : last + 1]) + "\r\n"
        elif line.strip():
            if not open_:
                raise InterchangeError(f"line {index + 1}: text outside BEGIN and END")
            open_[-1][0].lines.append(line)
    if open_:
        component, _ = open_[-1]
        raise InterchangeError(f"line {component.line}: BEGIN:{component.name} without its END")
    return found


def read_property(line: str) -> Property:
    """Part one unfolded line into name, parameters and value."""
    head, value = _halves(line, ":")
    first, *rest = _parts(head, ";")
    pairs = (part.partition("=") for part in rest)
    parameters = {name.upper(): text.strip('"') for name, _, text in pairs}
    name = first.rpartition(".")[2].upper()
    return Property(name=name, parameters=parameters, value=value, line=line)


def edited(component: Component, changes: Mapping[str, Sequence[str]]) -> str:
    """Return a component's text with some properties changed and everything else as it was.

    Args:
        component: As read.
        changes: New property lines, unfolded, by property name; an empty list
            removes the property. They stand where the first old one stood,
            else before the first part inside.
    """
    raw = component.text.split("\r\n")[:-1]
    pending = {name: [fold(line) for line in lines] for name, lines in changes.items()}
    result: list[str] = []
    depth = rest = 0
    for first, line, last in _unfolded(raw):
        depth += bool(_BEGIN.fullmatch(line)) - bool(_END.fullmatch(line))
        own = depth == 1 and not _END.fullmatch(line)
        name = read_property(line).name
        if own and name in changes:
            result += pending.pop(name, [])
        else:
            result += raw[first : last + 1]
        rest = len(result) if own else rest
    result[rest:rest] = [line for lines in pending.values() for line in lines]
    return "\r\n".join(result) + "\r\n"


def kept(
    properties: Iterable[Property], new: Mapping[str, str], read: Callable[[str], str]
) -> list[str]:
    """Return the lines of a property with several values: known ones as they were, then new ones.

    Args:
        properties: Those there are.
        new: What should be there: by value, the line to write if there is none yet.
        read: Makes a raw value comparable.
    """
    known = {read(found.value): found.line for found in properties}
    return [known.get(value, line) for value, line in new.items()]


def escape(text: str) -> str:
    """Write text as a property value."""
    for char, written in (("\\", "\\\\"), (";", "\\;"), (",", "\\,")):
        text = text.replace(char, written)
    return _BREAK.sub(r"\\n", text)


def unescape(value: str) -> str:
    """Read a property value as text."""
    return _ESCAPE.sub(lambda found: "\n" if found[1] in "nN" else found[1], value)


def parts(value: str, separator: str) -> list[str]:
    """Cut a property value at separators that are not escaped; the parts are still raw."""
    found, start, escaped = [], 0, False
    for position, char in enumerate(value):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == separator:
            found.append(value[start:position])
            start = position + 1
    return [*found, value[start:]]


def fold(line: str) -> str:
    """Break a line into pieces of at most 75 bytes, as both standards ask."""
    pieces: list[str] = []
    piece, size = "", 0
    for char in line:
        width = len(char.encode("utf-8", "surrogatepass"))
        if size + width > 75:
            pieces.append(piece)
            piece, size = " ", 1
        piece += char
        size += width
    return "\r\n".join([*pieces, piece])


def made_uid(text: str) -> str:
    """Return an identifier for what has none: the same text has the same one."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def decoded(content: bytes) -> str:
    """Decode a file: UTF-8, as both standards say, else Windows-1252."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _unfolded(raw: list[str]) -> Iterator[tuple[int, str, int]]:
    """Yield index, text and last index of each logical line."""
    index = 0
    while index < len(raw):
        first, pieces = index, [raw[index]]
        while index + 1 < len(raw) and raw[index + 1][:1] in (" ", "\t"):
            index += 1
            pieces.append(raw[index][1:])
        yield first, "".join(pieces), index
        index += 1


def _halves(line: str, separator: str) -> tuple[str, str]:
    """Part a line at the first separator outside quotes."""
    first, *rest = _parts(line, separator)
    return first, separator.join(rest)


def _parts(text: str, separator: str) -> list[str]:
    """Cut text at separators outside quotes."""
    pieces = text.split(separator)
    if '"' not in text:
        return pieces
    found: list[str] = []
    open_ = False
    for piece in pieces:
        if open_:
            found[-1] += separator + piece
        else:
            found.append(piece)
        open_ ^= piece.count('"') % 2 == 1
    return found
