"""The applications of a Mac: frameworks for what they guard, scripts for the rest."""

from mlx_tinyagent.tools.macos.backend import MacBackend
from mlx_tinyagent.tools.macos.runner import Runner
from mlx_tinyagent.tools.macos.zoom import Zoom

__all__ = ["MacBackend", "Runner", "Zoom"]
