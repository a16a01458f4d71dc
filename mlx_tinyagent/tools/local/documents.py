"""Text of documents: plain text directly, PDF in a child process with limits.

Knows no store. Nothing is followed or waited on: links, pipes and devices are
refused. Whatever the content, the outcome is a typed result.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path, PurePath

from mlx_tinyagent.tools.results import Failed, NotFound, Ok, Origin, Value

PLAIN_SUFFIXES = frozenset({".txt", ".md", ".markdown", ".csv", ".tsv", ".log", ".json"})
READABLE_SUFFIXES = PLAIN_SUFFIXES | {".pdf"}
MAX_PDF_BYTES = 64 * 2**20
MAX_PLAIN_BYTES = 1 * 2**20  # of longer texts only the beginning is read
WALL_S = 20.0  # the child's own limit is processor time; this one ends a stuck one
_CHILD = Path(__file__).with_name("extract.py")


def document(path: str) -> Ok | NotFound | Failed:
    """Read a document's text, which is untrusted.

    Args:
        path: Absolute path of a PDF or plain text file.

    Returns:
        ``Ok`` with the text and the field ``pages``, else why there is none.
    """
    name = PurePath(path).name
    refusal = unreadable(path)
    if refusal:
        return refusal
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return NotFound(what=f"file '{path}'")
    except (OSError, ValueError) as error:  # ValueError: a path with NUL
        return Failed(reason=f"{name} cannot be opened: {_words(error)}")
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return Failed(reason=f"{name} is not a file")
        if PurePath(path).suffix.lower() == ".pdf":
            return _pdf(name, descriptor, status.st_size)
        return found_text(_decode(os.read(descriptor, MAX_PLAIN_BYTES)), name=name, pages=1)
    except OSError as error:
        return Failed(reason=f"{name} cannot be read: {_words(error)}")
    finally:
        os.close(descriptor)


def unreadable(path: str) -> Failed | None:
    """Say why a file of this name cannot be read, judged by its suffix; None if it can."""
    suffix = PurePath(path).suffix.lower()
    if suffix in READABLE_SUFFIXES:
        return None
    kind = f"{suffix} files" if suffix else "files without an extension"
    return Failed(reason=f"{PurePath(path).name}: {kind} cannot be read, only PDF and plain text")


def found_text(text: str, *, name: str, pages: int) -> Ok | Failed:
    """Wrap extracted text; a document without any is a failure."""
    if not text.strip():
        return Failed(reason=f"{name} holds no text; scanned pages cannot be read")
    value = Value(text=text, fields={"pages": str(pages)}, origin=Origin.UNTRUSTED)
    plural = "" if pages == 1 else "s"
    return Ok(value=value, note=f"Read {name} ({pages} page{plural}).")


def _pdf(name: str, descriptor: int, size: int) -> Ok | Failed:
    """Extract a PDF's text in the child, which reads the open file as standard input."""
    if size > MAX_PDF_BYTES:
        return Failed(
            reason=f"{name} is too large: {size >> 20} MiB, {MAX_PDF_BYTES >> 20} MiB can be read"
        )
    try:
        child = subprocess.run(
            [sys.executable, "-I", "-X", "utf8", str(_CHILD), _library_folder()],
            stdin=descriptor,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},  # no settings of ours, no secrets
            timeout=WALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Failed(reason=f"{name} cannot be read: it took more than {WALL_S:g} s")
    if child.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return Failed(reason=f"{name} cannot be read: it takes too much time or memory")
    try:
        answer = json.loads(child.stdout)
        if "error" in answer:
            return Failed(reason=f"{name} cannot be read: {answer['error']}")
        return found_text(str(answer["text"]), name=name, pages=int(answer["pages"]))
    except (ValueError, KeyError, TypeError):
        return Failed(reason=f"{name} cannot be read: the reader stopped ({child.returncode})")


def _library_folder() -> str:
    """Return the folder that pypdf lies in, for a child that inherits no search path."""
    found = importlib.util.find_spec("pypdf")
    return str(Path(found.origin).parents[1]) if found and found.origin else ""


def _decode(content: bytes) -> str:
    """Decode as UTF-8, with or without a mark, else as Windows-1252."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and len(content) == MAX_PLAIN_BYTES:
            return content[: error.start].decode("utf-8-sig")
        return content.decode("cp1252", "replace")


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
