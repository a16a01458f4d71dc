"""Where the user's files live.

Knows no file format. Three folders, each with its own life: settings are
edited by hand, data cannot be recreated, the cache can be deleted at any time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

HOME_VARIABLE = "MLX_TINYAGENT_HOME"  # moves all three folders
_NAME = "mlx-tinyagent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The three user folders; none of them needs to exist.

    Args:
        config: Settings written by the user (``config.toml``).
        data: Store, journal and everything else that cannot be recreated.
        cache: Imported models and KV blocks; safe to delete.
    """

    config: Path
    data: Path
    cache: Path

    @property
    def models(self) -> Path:
        """Folder of imported models, one subfolder per model."""
        return self.cache / "models"


def paths() -> Paths:
    """Return the user folders that hold now; the environment is read at each call.

    Returns:
        The folders under ``$MLX_TINYAGENT_HOME`` where that is set and not
        empty, else the usual ones under the home directory.
    """
    if home := os.environ.get(HOME_VARIABLE):
        root = Path(home).expanduser().absolute()
        return Paths(config=root / "config", data=root / "data", cache=root / "cache")
    root = Path.home()
    return Paths(
        config=root / ".config" / _NAME,
        data=root / ".local" / "share" / _NAME,
        cache=root / ".cache" / _NAME,
    )
