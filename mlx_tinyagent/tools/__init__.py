"""Tool declarations, results and backends; knows nothing of models or plans."""

from mlx_tinyagent.tools.base import (
    Effect,
    Email,
    FilePath,
    Kind,
    Param,
    Phone,
    Place,
    Span,
    Template,
    Text,
    Tool,
    ToolSet,
    Type,
    When,
    tool,
)

__all__ = [
    "Effect",
    "Email",
    "FilePath",
    "Kind",
    "Param",
    "Phone",
    "Place",
    "Span",
    "Template",
    "Text",
    "Tool",
    "ToolSet",
    "Type",
    "When",
    "tool",
]
