"""Another adapter on the resident model: worn for a while, beside the planner's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.models.adapters import ACTIVE_KEY, apply, base_only, read_config

if TYPE_CHECKING:
    from mlx_tinyagent.models.language import LanguageModel


class SecondAdapter:
    """An adapter for something else than plans, such as writing mails.

    The base model's weights are shared; only the adapter's own come on top.

    Args:
        language: The resident model, with or without a planner's adapter.
        folder: Adapter folder in mlx-lm's layout.

    Raises:
        ModelError: Damaged, made for another model, or trained to act after tool blocks,
            which is a planner's adapter.
    """

    def __init__(self, language: LanguageModel, folder: Path) -> None:
        from mlx.utils import tree_unflatten

        if read_config(folder).get(ACTIVE_KEY, "all") != "all":
            raise ModelError(f"{folder} is a planner's adapter: it acts after tool blocks only")
        self._model = language.model
        with base_only(self._model):
            before = dict(self._model.named_modules())
            try:
                apply(self._model, folder, base=language.fingerprint, dtype=language.dtype)
            finally:
                worn = [(n, m) for n, m in self._model.named_modules() if "lora_a" in m]
                self._bare = tree_unflatten([(name, before[name]) for name, _ in worn])
                self._worn = tree_unflatten(worn)
                self._model.update_modules(self._bare)

    @contextlib.contextmanager
    def worn(self) -> Iterator[None]:
        """Put it in the place of the planner's adapter while the block runs."""
        with base_only(self._model):
            self._model.update_modules(self._worn)
            try:
                yield
            finally:
                self._model.update_modules(self._bare)
