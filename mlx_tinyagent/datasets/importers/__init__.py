"""Importers: one module per source; each turns a file into examples and, if needed, tools."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import cast

from mlx_tinyagent.datasets.importers.base import Imported, Options
from mlx_tinyagent.errors import UsageError

_MODULES = {
    "tinyagent-hf": "tinyagent_hf",
    "tinyagent": "tinyagent_items",
    "smcalflow": "smcalflow",
    "silver": "silver",
    "workbench": "workbench",
    "seal-tools": "seal_tools",
    "openai": "openai_chat",
}
FORMATS = tuple(_MODULES)


def import_file(path: Path, form: str, options: Options | None = None) -> Imported:
    """Open a file of some format as examples.

    Args:
        path: The file.
        form: One of ``FORMATS``.
        options: Source, licence and what to do with invalid plans.

    Returns:
        The examples, read while iterating, with a report that fills meanwhile.

    Raises:
        UsageError: There is no such format.
        InputError: The file cannot be read, or a row is broken.
    """
    if form not in _MODULES:
        raise UsageError(f"no format is called {form!r}; there are {', '.join(FORMATS)}")
    module = import_module(f"mlx_tinyagent.datasets.importers.{_MODULES[form]}")
    read = cast(Callable[..., Imported], module.read)
    return read(path, options or Options())
