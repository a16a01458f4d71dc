"""Reports of bugs: where the program was, and nothing of what the user gave it."""

from __future__ import annotations

import secrets
import sys
import traceback
from collections.abc import Iterator

from mlx_tinyagent.config import paths
from mlx_tinyagent.errors import TinyAgentError


def report() -> str:
    """Write the exception at hand to a file only its owner can read.

    The file holds the code's own lines and the types of the exceptions. Their
    messages may quote a request or a mail and stay out.

    Returns:
        One line for the user, which names the file.
    """
    from importlib.metadata import version

    from mlx_tinyagent.files import atomic_write

    number = secrets.token_hex(4)
    error = sys.exc_info()[1]
    name = type(error).__name__
    file = paths().cache / "crashes" / f"{number}.txt"
    about = f"Python {sys.version.split()[0]}, {sys.platform}"
    lines = [f"mlx-tinyagent {version('mlx-tinyagent')}, {about}", *_frames(error)]
    try:
        atomic_write(file, "\n".join(lines) + "\n", private=True)
    except TinyAgentError:
        return f"internal error {name} (crash {number}; no report could be written)"
    return f"internal error {name} (crash {number}); the report is in {file}"


def _frames(error: BaseException | None) -> Iterator[str]:
    """Yield where each exception of a chain was raised, the cause first."""
    if error is None:
        return
    yield from _frames(error.__cause__ or error.__context__)
    yield from (line.rstrip() for line in traceback.format_tb(error.__traceback__))
    yield type(error).__name__
