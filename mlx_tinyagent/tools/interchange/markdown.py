"""Notes as Markdown files with front matter (``---``, ``key: value`` lines, ``---``).

Of the front matter ``title``, ``folder`` and ``id`` are read; all other lines
are kept as they are.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

from mlx_tinyagent.tools.interchange.lines import decoded, made_uid
from mlx_tinyagent.tools.interchange.records import Content, InterchangeError, Page

_FENCE = "---"
_FIELD = re.compile(r"(title|folder|id):\s*(.*)", re.IGNORECASE)
_HEADING = re.compile(r"#\s+(.+)")
MAX_NAME = 60  # characters of a file name that come from a title


def read_page(content: bytes, *, stem: str = "", folder: str = "") -> Content:
    """Read a note.

    Args:
        content: The file's bytes.
        stem: Its name without the extension: the title if the file gives none.
        folder: Name of the folder it lies in.

    Raises:
        InterchangeError: It has no title.
    """
    text = decoded(content).replace("\r\n", "\n")
    front, body = _split(text)
    fields = {
        found[1].lower(): _value(found[2]) for line in front if (found := _FIELD.fullmatch(line))
    }
    heading = _HEADING.match(body)
    name = fields.get("title") or (heading[1].strip() if heading else "") or stem.strip()
    if not name:
        raise InterchangeError("a note without a title")
    page = Page(
        uid=fields.get("id") or made_uid(f"{name}\n{body}"),
        text=text,
        name=name,
        body=body,
        folder=fields.get("folder") or folder,
    )
    return Content(records=(page,))


def write_page(page: Page, place: str = "") -> str:
    """Write a note: as it was read where nothing changed, else with its own fields renewed.

    Args:
        page: The note as it is now.
        place: Name of the folder that the file will lie in.
    """
    if page.text:
        read = read_page(page.text.encode("utf-8", "replace")).records[0]
        if (
            isinstance(read, Page)
            and (read.folder or place) == page.folder
            and replace(read, uid=page.uid, folder=page.folder) == page
        ):
            return page.text
    front, _ = _split(page.text)
    rest = [line for line in front if not _FIELD.fullmatch(line)]
    own = [f"title: {_written(page.name)}", f"folder: {_written(page.folder)}", f"id: {page.uid}"]
    return "\n".join([_FENCE, *own, *rest, _FENCE, page.body])


def file_name(name: str, taken: set[str]) -> str:
    """Return a file name for a title that no other one has yet; ``taken`` gets it."""
    words = "".join(char if char.isalnum() or char in " -_" else " " for char in name)
    stem = " ".join(words.split())[:MAX_NAME].strip() or "untitled"
    found, count = stem, 1
    while found.casefold() in taken:
        count += 1
        found = f"{stem} {count}"
    taken.add(found.casefold())
    return found


def _split(text: str) -> tuple[list[str], str]:
    """Part a file into front matter lines and body."""
    lines = text.split("\n")
    if lines[0].rstrip() != _FENCE:
        return [], text
    for index, line in enumerate(lines[1:], start=1):
        if line.rstrip() == _FENCE:
            return lines[1:index], "\n".join(lines[index + 1 :])
    return [], text


def _value(written: str) -> str:
    """Read a front matter value: plain, or in quotes as JSON and YAML have them."""
    text = written.strip()
    if text.startswith('"'):
        try:
            return str(json.loads(text))
        except ValueError:
            return text.strip('"')
    return text.strip("'")


def _written(text: str) -> str:
    """Write a front matter value that every YAML reader reads as the same text."""
    return json.dumps(text, ensure_ascii=False)
