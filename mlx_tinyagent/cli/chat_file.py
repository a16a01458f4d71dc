"""Saved chats: what was asked, planned and answered, in private files."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast, get_args

from mlx_tinyagent.agent.session import KEPT, Exchange, State
from mlx_tinyagent.config import paths
from mlx_tinyagent.errors import InputError, PlanError, UsageError
from mlx_tinyagent.files import atomic_write, readable_errors
from mlx_tinyagent.plan.text import read

VERSION = 1
MAX_BYTES = 4 << 20
LAST = "last"  # names the chat that was saved last
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def folder() -> Path:
    """Return where chats are saved; it need not exist."""
    return paths().data / "chats"


def saved() -> list[str]:
    """Return the names of the saved chats, newest first."""
    files = sorted(folder().glob("*.json"), key=lambda file: -file.stat().st_mtime_ns)
    return [file.stem for file in files]


def save(name: str, exchanges: Sequence[Exchange]) -> Path:
    """Write a chat, readable by its owner only; one of that name is replaced.

    Args:
        name: Letters, digits, ``.``, ``_`` and ``-``.
        exchanges: What was said.

    Raises:
        UsageError: The name cannot be a file's.
        StoreError: The file cannot be written.
    """
    path = _file(name)
    with readable_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    document = {
        "version": VERSION,
        "exchanges": [dataclasses.asdict(exchange) for exchange in exchanges],
    }
    atomic_write(path, json.dumps(document, ensure_ascii=True, indent=1), private=True)
    return path


def load(name: str) -> list[Exchange]:
    """Read a saved chat.

    Args:
        name: Its name, or ``last``.

    Raises:
        UsageError: There is none of that name; the message offers the nearest.
        InputError: The file is damaged.
    """
    known = saved()
    if name == LAST and LAST not in known and known:
        name = known[0]
    path = _file(name)
    if not path.is_file():
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"saved: {', '.join(known[:8]) or 'none'}"
        raise UsageError(f"no saved chat is called {name!r}; {hint}")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has more than {MAX_BYTES:,} bytes: it is no saved chat")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    return _exchanges(path, document)


def _file(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name[:80]!r} cannot name a saved chat: letters, digits, '.', '_' and '-', "
            "64 at most, a letter or digit first"
        )
    return folder() / f"{name}.json"


def _exchanges(path: Path, document: Any) -> list[Exchange]:
    """Check what was read; a saved chat is an input like any other."""
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise InputError(f"{path} is no chat of this version (expected version {VERSION})")
    rows = document.get("exchanges")
    if not isinstance(rows, list):
        raise InputError(f"{path} is damaged: exchanges is no list")
    found = []
    for number, row in enumerate(rows[-KEPT:], start=1):
        exchange = _exchange(row)
        if exchange is None:
            raise InputError(f"{path} is damaged: exchange {number} cannot be read")
        found.append(exchange)
    return found


def _exchange(row: Any) -> Exchange | None:
    if not isinstance(row, dict):
        return None
    texts = [row.get(name, "") for name in ("query", "plan", "reply", "when")]
    state, records = row.get("state"), row.get("records", {})
    if not all(isinstance(text, str) for text in texts) or not texts[0]:
        return None
    if state not in get_args(State) or not isinstance(records, dict):
        return None
    ended = cast("State", state)
    try:
        read(texts[1]) if texts[1] else None
        numbered = {int(step): str(key) for step, key in records.items()}
    except (PlanError, ValueError):
        return None
    query, plan, reply, when = texts
    return Exchange(query=query, plan=plan, reply=reply, state=ended, records=numbered, when=when)
