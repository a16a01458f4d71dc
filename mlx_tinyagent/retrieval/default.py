"""Which retriever serves where nothing else was asked for."""

from __future__ import annotations

from pathlib import Path

from mlx_tinyagent.errors import UsageError
from mlx_tinyagent.retrieval.base import AllTools, Retriever
from mlx_tinyagent.retrieval.bm25 import BM25Retriever
from mlx_tinyagent.retrieval.deberta import SHIPPED, DebertaRetriever

KINDS = ("on", "bm25", "deberta", "off")


def make(kind: str, classifier: Path | None = None) -> Retriever:
    """Return a retriever; nothing is loaded before its first request.

    Args:
        kind: ``on``: the classifier of the package where there is one, which falls
            back on words for tools it does not know; else words. ``bm25``: words
            alone. ``deberta``: the classifier. ``off``: every tool.
        classifier: Folder of a classifier of one's own, which ``on`` and ``deberta`` take
            instead of the package's.

    Raises:
        UsageError: The folder holds no classifier, or the kind takes none.
    """
    if classifier is not None:
        if kind not in ("on", "deberta"):
            raise UsageError(f"a classifier chooses tools where retrieval is on, and it is {kind}")
        return DebertaRetriever(classifier_folder(classifier))
    if kind == "off":
        return AllTools()
    if kind == "bm25" or (kind == "on" and not (SHIPPED / "config.json").is_file()):
        return BM25Retriever()
    return DebertaRetriever()


def classifier_folder(path: Path) -> Path:
    """Return a classifier's folder; that of a run that trained one will do.

    Raises:
        UsageError: It holds none.
    """
    folder = path.expanduser()
    for found in (folder, folder / "classifier"):
        if (found / "config.json").is_file() and (found / "model.safetensors").is_file():
            return found
    raise UsageError(f"{folder} holds no tool classifier; train tool-rag makes one")
