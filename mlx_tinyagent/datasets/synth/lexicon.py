"""Word lists: names, files, places, topics, messages; packaged, extended by mined ones.

An entry may itself be a template with choices and other lexicons inside, so a
few hundred lines give many thousands of values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from random import Random

from mlx_tinyagent.datasets.synth import grammar
from mlx_tinyagent.errors import ConfigError


class Lexicons:
    """Named word lists.

    Args:
        entries: Lists by name.
    """

    def __init__(self, entries: Mapping[str, Sequence[str]]) -> None:
        self._entries = {name: tuple(words) for name, words in entries.items() if words}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def names(self) -> tuple[str, ...]:
        """Return the names of the lists."""
        return tuple(self._entries)

    def entries(self, name: str) -> tuple[str, ...]:
        """Return a list as written.

        Raises:
            ConfigError: There is no such list.
        """
        try:
            return self._entries[name]
        except KeyError:
            raise ConfigError(
                f"no lexicon is called {name!r}; there are {', '.join(sorted(self._entries))}"
            ) from None

    def pick(self, name: str, rng: Random) -> str:
        """Return one entry, with its choices made."""
        return self.expand(rng.choice(self.entries(name)), rng)

    def expand(self, text: str, rng: Random) -> str:
        """Make the choices of a template that has no slots."""
        if not any(char in text for char in "(<{"):
            return text
        parts = grammar.expand(grammar.parse(text).nodes, rng)
        return "".join(
            self.pick(part.lexicon, rng) if isinstance(part, grammar.Pick) else str(part)
            for part in parts
        )

    def narrowed(self, fewer: Mapping[str, Sequence[str]]) -> Lexicons:
        """Return lists of which some are replaced."""
        return Lexicons({**self._entries, **fewer})

    def merged(self, more: Mapping[str, Sequence[str]]) -> Lexicons:
        """Return lists with further entries added to them."""
        entries = {name: list(words) for name, words in self._entries.items()}
        for name, words in more.items():
            entries.setdefault(name, []).extend(words)
        return Lexicons(entries)


@lru_cache(maxsize=1)
def packaged() -> Lexicons:
    """Return the lists that come with the package."""
    entries: dict[str, list[str]] = {}
    folder = resources.files("mlx_tinyagent.datasets.synth") / "lexicons"
    for file in sorted(folder.iterdir(), key=lambda item: item.name):
        if file.name.endswith(".json"):
            for name, words in json.loads(file.read_text(encoding="utf-8")).items():
                entries.setdefault(name, []).extend(words)
    return Lexicons(entries)
