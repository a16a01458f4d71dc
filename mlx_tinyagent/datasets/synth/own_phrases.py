"""A user's own phrases for a tool set: a JSON file of templates and word lists.

    {"tools": {"set_temperature": ["heat the {room=rooms} to {degrees}"]},
     "words": {"rooms": ["kitchen", "attic"]}}

They are used as mined phrases are, for up to 85 % of a tool's short requests. The
template language is that of ``synth.grammar``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlx_tinyagent.datasets.synth import grammar
from mlx_tinyagent.datasets.synth.generate import Mined
from mlx_tinyagent.datasets.synth.lexicon import Lexicons, packaged
from mlx_tinyagent.errors import ConfigError, InputError
from mlx_tinyagent.tools.base import ToolSet

# Fillers that are computed instead of taken from a word list; see ``fill.Maker``.
_COMPUTED = frozenset(
    "when bare timed untimed day bare_day range lasting clock minutes number choice yes email "
    "phone file pdf person people one two full".split()
)


def read_phrases(path: Path, tools: ToolSet) -> Mined:
    """Read a file of phrases.

    Args:
        path: The file.
        tools: The tool set they are for.

    Raises:
        InputError: The file cannot be read or is no JSON of this form.
        ConfigError: A phrase names a tool, argument or word list that does not exist.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} is not readable JSON: {error}") from error
    templates, words = _lists(path, data, "tools"), _lists(path, data, "words")
    lexicons = packaged().merged(words)
    for name, texts in templates.items():
        if name not in tools:
            raise ConfigError(
                f"{path}: there is no tool {name!r}; the tools are {', '.join(tools.names)}"
            )
        known = {param.name for param in tools[name].params}
        for text in texts:
            _check(f"{path}: {name}: {text!r}", text, known, lexicons)
    return Mined(templates=templates, lexicons=words)


def merged(mined: Mined, own: Mined) -> Mined:
    """Return both, the user's own after the mined ones."""
    return Mined(
        templates=_joined(mined.templates, own.templates),
        lexicons=_joined(mined.lexicons, own.lexicons),
    )


def _joined(
    first: Mapping[str, Sequence[str]], second: Mapping[str, Sequence[str]]
) -> dict[str, Sequence[str]]:
    names = dict.fromkeys((*first, *second))
    return {name: (*first.get(name, ()), *second.get(name, ())) for name in names}


def _lists(path: Path, data: Any, key: str) -> dict[str, tuple[str, ...]]:
    found = data.get(key, {}) if isinstance(data, dict) else None
    if not isinstance(found, dict) or not all(
        isinstance(texts, list) and all(isinstance(text, str) and text for text in texts)
        for texts in found.values()
    ):
        raise InputError(f'{path}: expected {{"tools": {{name: [phrases]}}, "words": {{...}}}}')
    return {name: tuple(texts) for name, texts in found.items() if texts}


def _check(where: str, text: str, params: set[str], lexicons: Lexicons) -> None:
    """Refuse a phrase with a slot that nothing can fill.

    Raises:
        ConfigError: It cannot be read, or names what is not there.
    """
    for slot in grammar.parse(text).slots():
        if slot.param not in params:
            raise ConfigError(
                f"{where}: no argument is called {slot.param!r}; there is "
                f"{', '.join(sorted(params)) or 'none'}"
            )
        if slot.filler and slot.filler not in _COMPUTED and slot.filler not in lexicons:
            raise ConfigError(f"{where}: no word list is called {slot.filler!r}")
