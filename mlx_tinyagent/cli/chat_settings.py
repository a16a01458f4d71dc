"""What a chat can be set to: the file chat.toml, and ``/set`` for one chat."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from mlx_tinyagent.agent.agent import HISTORY_TURNS
from mlx_tinyagent.config import paths
from mlx_tinyagent.errors import ConfigError, UsageError

MAX_INSTRUCTIONS = 1000  # characters; every request carries them
MEANINGS = {
    "instructions": "standing instructions that every request is planned with",
    "turns": "earlier requests a request is planned with, 0 to 3",
    "retrieval": "offer the model the tools that fit a request (on) or all (off)",
    "writer": "who writes mails, notes and summaries: plain (by rules) or model",
    "writer_adapter": "folder of an adapter that the model writes texts with, or nothing",
    "ahead": "read along while you type: on or off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of a chat.

    Attributes:
        instructions: Standing instructions for the planner.
        turns: Earlier requests that a request is planned with.
        retrieval: Whether the tools that fit are offered, or all.
        writer: Who writes bodies and summaries.
        writer_adapter: Folder of an adapter for ``writer = "model"``; empty for none.
        ahead: Whether what is typed is computed ahead.
    """

    instructions: str = ""
    turns: int = HISTORY_TURNS
    retrieval: Literal["on", "off"] = "on"
    writer: Literal["plain", "model"] = "plain"
    writer_adapter: str = ""
    ahead: Literal["on", "off"] = "on"

    def __post_init__(self) -> None:
        _one_of("retrieval", self.retrieval, ("on", "off"))
        _one_of("writer", self.writer, ("plain", "model"))
        _one_of("ahead", self.ahead, ("on", "off"))
        if isinstance(self.turns, bool) or not isinstance(self.turns, int):
            raise ConfigError(f"turns is a number from 0 to {HISTORY_TURNS}, not {self.turns!r}")
        if not 0 <= self.turns <= HISTORY_TURNS:
            raise ConfigError(f"turns is 0 to {HISTORY_TURNS}, not {self.turns}")
        if not isinstance(self.instructions, str):
            raise ConfigError(f"instructions is a text, not {self.instructions!r}")
        if not isinstance(self.writer_adapter, str):
            raise ConfigError(f"writer_adapter is a folder, not {self.writer_adapter!r}")
        if len(self.instructions) > MAX_INSTRUCTIONS:
            raise ConfigError(
                f"instructions has {len(self.instructions)} characters, {MAX_INSTRUCTIONS} at most"
            )

    def changed(self, name: str, value: str) -> Settings:
        """Return the settings with one changed.

        Args:
            name: Its name.
            value: As typed; a number for ``turns``.

        Raises:
            UsageError: There is no such setting; the message offers the nearest.
            ConfigError: The value does not do.
        """
        if name not in MEANINGS:
            near = get_close_matches(name, MEANINGS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(MEANINGS)}"
            raise UsageError(f"no setting is called {name!r}; {hint}")
        given: object = value
        if name == "turns" and value.isascii() and value.isdigit():
            given = int(value)
        return dataclasses.replace(self, **{name: given})  # type: ignore[arg-type] # checked there


def settings_file() -> Path:
    """Return where settings are kept; it need not exist."""
    return paths().config / "chat.toml"


def read_settings(file: Path | None = None) -> Settings:
    """Read the settings; defaults where there is no file.

    Args:
        file: The file; None for the user's own.

    Raises:
        ConfigError: It cannot be read, or a key or value does not do.
    """
    path = settings_file() if file is None else file
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    if unknown := [name for name in document if name not in MEANINGS]:
        near = get_close_matches(unknown[0], MEANINGS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(MEANINGS)}"
        raise ConfigError(f"{path}: no setting is called {unknown[0]!r}; {hint}")
    try:
        return Settings(**document)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{name} is {' or '.join(known)}, not {value!r}")
