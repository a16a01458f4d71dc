"""Writing files and folders so that a crash leaves the old content or the new, never half.

Knows no format: it moves bytes. Every refusal of the file system becomes one
readable ``StoreError`` that names the path.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from mlx_tinyagent.errors import StoreError

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space and try again",
    errno.EDQUOT: "the disk quota is used up; free some space and try again",
    errno.EROFS: "the file system is read-only; set MLX_TINYAGENT_HOME to a writable folder",
    errno.EACCES: "permission denied; check its owner, or set MLX_TINYAGENT_HOME elsewhere",
    errno.EPERM: "not permitted; check its owner, or set MLX_TINYAGENT_HOME elsewhere",
    errno.EEXIST: "a file of this name is in the way",
    errno.ENOTDIR: "part of the path is a file, not a folder",
    errno.EISDIR: "a folder is in the way",
}


def atomic_write(path: Path, content: bytes | str, *, private: bool = False) -> None:
    """Write a whole file: afterwards it holds the old bytes or the new ones.

    The bytes go to a temporary file in the same folder, are flushed to the
    disk, and the file is renamed into place; missing folders are created.

    Args:
        path: Target file; replaced if it exists.
        content: Bytes, or text written as UTF-8.
        private: Readable by the owner only (mode 0600) instead of the umask's mode.

    Raises:
        StoreError: The file system refuses (full, read-only, no permission).
    """
    data = content.encode() if isinstance(content, str) else content
    with readable_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(path)
        try:
            mode = 0o600 if private else 0o666  # the umask takes its share
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(temporary, flags, mode), "wb") as file:
                file.write(data)
                file.flush()
                sync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Build a folder out of sight and rename it into place when the block ends well.

    Args:
        path: Target folder; one that exists is replaced only at the end.

    Yields:
        An empty temporary folder beside the target, removed if the block raises.

    Raises:
        StoreError: The file system refuses (full, read-only, no permission).
    """
    with readable_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(path)
        temporary.mkdir()
        try:
            yield temporary
            for file in temporary.iterdir():
                _sync_file(file)
            _swap(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _sync_folder(path.parent)


@contextlib.contextmanager
def readable_errors(path: Path) -> Iterator[None]:
    """Turn the file system's refusals inside the block into one readable line.

    Args:
        path: Named in the message where the error itself names no file.

    Raises:
        StoreError: In place of any ``OSError``.
    """
    try:
        yield
    except OSError as error:
        where = path if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.filename or path
        reason = disk_reason(error) or error.strerror or str(error)
        raise StoreError(f"cannot write {where}: {reason}") from error


def disk_reason(error: OSError) -> str | None:
    """Return what the file system refused and what to do; None for other errors."""
    return _REASONS.get(error.errno or 0)


def sync(descriptor: int) -> None:
    """Flush an open file to the disk itself.

    On macOS ``fsync`` stops at the drive's own cache; F_FULLFSYNC goes
    through (fsync(2)), and some network volumes do not support it.
    """
    if sys.platform == "darwin":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def _swap(temporary: Path, path: Path) -> None:
    """Rename a folder into place; an old one is moved aside first, then removed."""
    if not path.exists():
        os.replace(temporary, path)
        return
    old = temporary.with_suffix(".old")
    os.replace(path, old)
    try:
        os.replace(temporary, path)
    except OSError:
        os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sync_file(path: Path) -> None:
    with open(path, "rb") as file:
        sync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Make the rename itself durable; some file systems refuse to sync folders."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _beside(path: Path) -> Path:
    """Return an unused hidden name in the same folder, hence on the same file system."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.new")
