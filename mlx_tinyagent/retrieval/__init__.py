"""Tool retrieval: which tools a request may need."""

from mlx_tinyagent.retrieval.base import AllTools, Retrieved, Retriever

__all__ = ["AllTools", "Retrieved", "Retriever"]
