"""Getting models from the Hugging Face Hub, with a short patience and one-line failures.

Files stay in the Hub's own cache; what is recorded here is which commit was
fetched, so that a name means the same weights until the next pull.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlx_tinyagent.config import paths
from mlx_tinyagent.errors import FetchError, ModelError, StoreError
from mlx_tinyagent.files import atomic_write, disk_reason
from mlx_tinyagent.models.folder import read_json
from mlx_tinyagent.models.registry import ModelSpec

PROBE_S = 5.0  # until the Hub counts as unreachable
_WANTED = ("model*.safetensors", "*.json", "tokenizer.model", "*.jinja")  # top level only


def pull(spec: ModelSpec, report: Callable[[int, int], None]) -> Path:
    """Fetch a Hub repository's model files, or find them already fetched.

    Args:
        spec: With ``hub`` set.
        report: Called with bytes done and in all.

    Returns:
        The snapshot folder of the commit that was fetched.

    Raises:
        FetchError: Offline, unreachable within ``PROBE_S``, unknown, behind a
            license, or without safetensors.
        StoreError: The disk is full or cannot be written.
    """
    repository = spec.hub or spec.name
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        if known := snapshot(repository):
            return known
        raise FetchError(f"{repository} is not on this disk and HF_HUB_OFFLINE is set")
    info = _probe(repository)
    names = wanted_files({item.rfilename: item.size or 0 for item in info.siblings or []})
    if not any(name.endswith(".safetensors") for name in names):
        raise FetchError(f"{repository} has no model*.safetensors, the only weights that are read")
    folder = _fetch(repository, info.sha, names, report)
    record = {"hub": repository, "commit": info.sha, "folder": str(folder)}
    atomic_write(_record(repository), json.dumps(record, indent=1) + "\n")
    return folder


def snapshot(repository: str) -> Path | None:
    """Return the folder of a repository that is complete on this disk.

    The commit of the last pull counts, else the Hub cache's own newest one.

    Args:
        repository: Hub id.
    """
    try:
        recorded = Path(str(read_json(_record(repository))["folder"]))
    except (ModelError, KeyError):
        recorded = None
    for folder in (recorded, _newest(repository)):
        if folder and (folder / "config.json").exists() and any(folder.glob("model*.safetensors")):
            return folder
    return None


def wanted_files(sizes: dict[str, int]) -> dict[str, int]:
    """Keep weights, configuration and tokenizer; leave other formats and subfolders.

    Args:
        sizes: File name in the repository -> bytes.
    """
    return {
        name: size
        for name, size in sizes.items()
        if "/" not in name and any(fnmatch.fnmatch(name, pattern) for pattern in _WANTED)
    }


def _probe(repository: str) -> Any:
    """Ask the Hub about a repository, for ``PROBE_S`` seconds at most.

    Name resolution has no time limit of its own, hence the thread.
    """
    import huggingface_hub

    answers: list[Any] = []

    def ask() -> None:
        try:
            api = huggingface_hub.HfApi()
            answers.append(api.model_info(repository, timeout=PROBE_S, files_metadata=True))
        except Exception as error:  # the client's transport errors differ between versions
            answers.append(error)

    thread = threading.Thread(target=ask, name="hub-probe", daemon=True)
    thread.start()
    thread.join(PROBE_S)
    if not answers:
        raise FetchError(_unreachable(repository, f"no answer within {PROBE_S:.0f} s"))
    if isinstance(answers[0], Exception):
        raise _explain(repository, answers[0]) from answers[0]
    return answers[0]


def _fetch(
    repository: str, commit: str, names: dict[str, int], report: Callable[[int, int], None]
) -> Path:
    """Fetch files one after the other; the Hub's client resumes broken ones."""
    import huggingface_hub

    done, total = 0, sum(names.values())
    folder = None
    for name, size in sorted(names.items()):
        bar: Any = _Tally(functools.partial(_add, report, done, total))
        try:
            file = huggingface_hub.hf_hub_download(
                repository, name, revision=commit, etag_timeout=PROBE_S, tqdm_class=bar
            )
        except Exception as error:  # as above
            raise _explain(repository, error) from error
        done += size
        report(done, total)
        folder = Path(file).parent
    if folder is None:
        raise FetchError(f"{repository} has no files to fetch")
    return folder


def _add(report: Callable[[int, int], None], before: int, total: int, part: int) -> None:
    report(before + part, total)


class _Tally:
    """Stands in for a progress bar class towards the Hub's client and tells bytes."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self.tell = tell
        self.done = 0

    def __call__(self, *_: Any, initial: int = 0, **__: Any) -> _Tally:
        self.done = initial
        return self

    def __enter__(self) -> _Tally:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, n: float | None = 1) -> None:
        self.done += int(n or 0)
        self.tell(self.done)

    def __getattr__(self, name: str) -> Any:
        """Everything else a bar can do (descriptions, refreshing) does nothing."""
        return lambda *_, **__: None


def _explain(repository: str, error: Exception) -> Exception:
    """Return the error in our terms: what happened to this repository and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return FetchError(
            f"{repository} asks for its license to be accepted on its page first; "
            "then run: hf auth login"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return FetchError(f"the Hub has no model {repository}, or not for everyone")
    if isinstance(error, OSError) and (reason := disk_reason(error)):
        return StoreError(f"{repository} cannot be stored: {reason}")
    return FetchError(_unreachable(repository, " ".join(str(error).split())[:120]))


def _unreachable(repository: str, reason: str) -> str:
    return (
        f"{repository} could not be fetched from the Hub ({reason}); repeat the command when "
        "online, or name a model folder on this disk"
    )


def _newest(repository: str) -> Path | None:
    """Return the snapshot that the Hub cache's main branch points at."""
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface"
    )
    cache = Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub"))
    folder = cache / f"models--{repository.replace('/', '--')}"
    try:
        commit = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return folder / "snapshots" / commit


def _record(repository: str) -> Path:
    return paths().cache / "hub" / f"{repository.replace('/', '--')}.json"
