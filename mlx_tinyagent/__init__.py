"""On-device function calling with MLX: bring tools, get a small model that plans with them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlx_tinyagent.agent.agent import Agent
    from mlx_tinyagent.models.language import load
    from mlx_tinyagent.plan.schema import Plan
    from mlx_tinyagent.tools.base import Tool, tool

_HOMES = {
    "Agent": "agent.agent",
    "Plan": "plan.schema",
    "Tool": "tools.base",
    "load": "models.language",
    "tool": "tools.base",
}

__all__ = ["Agent", "Plan", "Tool", "load", "tool"]


def __getattr__(name: str) -> Any:
    """Fetch a public name from its module on first use; importing the package stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
