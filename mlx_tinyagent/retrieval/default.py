"""Which retriever serves where nothing else was asked for."""

from __future__ import annotations

from mlx_tinyagent.retrieval.base import AllTools, Retriever
from mlx_tinyagent.retrieval.bm25 import BM25Retriever
from mlx_tinyagent.retrieval.deberta import SHIPPED, DebertaRetriever

KINDS = ("on", "bm25", "deberta", "off")


def make(kind: str) -> Retriever:
    """Return a retriever; nothing is loaded before its first request.

    Args:
        kind: ``on``: the classifier of the package where there is one, which falls
            back on words for tools it does not know; else words. ``bm25``: words
            alone. ``deberta``: the classifier. ``off``: every tool.
    """
    if kind == "off":
        return AllTools()
    if kind == "bm25" or (kind == "on" and not (SHIPPED / "config.json").is_file()):
        return BM25Retriever()
    return DebertaRetriever()
