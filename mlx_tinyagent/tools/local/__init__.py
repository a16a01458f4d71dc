"""The backend of every machine that is not a Mac: one SQLite file; knows no models or plans."""

from mlx_tinyagent.tools.local.backend import LocalBackend
from mlx_tinyagent.tools.local.export import export_store
from mlx_tinyagent.tools.local.index import index_roots
from mlx_tinyagent.tools.local.rows import Diff, content_hash, diff, snapshot
from mlx_tinyagent.tools.local.store import Store, user_store
from mlx_tinyagent.tools.local.world import demo_data, load_world, memory_world

__all__ = [
    "Diff",
    "LocalBackend",
    "Store",
    "content_hash",
    "demo_data",
    "diff",
    "export_store",
    "index_roots",
    "load_world",
    "memory_world",
    "snapshot",
    "user_store",
]
