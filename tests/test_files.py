"""Atomic writes: the old content or the new, one readable line when refused."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

import pytest

from mlx_tinyagent import files
from mlx_tinyagent.errors import StoreError
from mlx_tinyagent.files import atomic_folder, atomic_write, disk_reason, readable_errors


def test_writes_bytes_and_text_and_makes_folders(tmp_path: Path) -> None:
    """Text is UTF-8; parents appear; nothing else is left behind."""
    path = tmp_path / "a" / "b" / "c.txt"
    atomic_write(path, "é")
    assert path.read_bytes() == b"\xc3\xa9"
    atomic_write(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert list(path.parent.iterdir()) == [path]


def test_mode_follows_umask_or_is_private(tmp_path: Path) -> None:
    """A private file is the owner's alone from its first byte on."""
    former = os.umask(0o022)
    try:
        atomic_write(tmp_path / "open", "x")
        atomic_write(tmp_path / "private", "x", private=True)
    finally:
        os.umask(former)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("open", "private")]
    assert modes == [0o644, 0o600]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
    ],
)
def test_refusals_keep_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    """The error names the path and what to do; no temporary file stays."""
    path = tmp_path / "settings"
    atomic_write(path, "old")

    def refuse(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files, "sync", refuse)
    with pytest.raises(StoreError, match=words) as caught:
        atomic_write(path, "new")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_appears_whole_and_replaces_the_old(tmp_path: Path) -> None:
    """Until the block ends the old folder is there, then only the new one."""
    target = tmp_path / "model"
    for content in ("one", "two"):
        with atomic_folder(target) as folder:
            (folder / "file").write_text(content)
            assert target.exists() is (content == "two")
        assert (target / "file").read_text() == content
    assert list(tmp_path.iterdir()) == [target]


def test_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    """What was built before the error is removed."""

    def fail() -> None:
        with atomic_folder(tmp_path / "model") as folder:
            (folder / "file").write_text("half")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_flushed_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file, every file of a new folder, and the folder that holds the name."""
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    atomic_write(tmp_path / "file", "x")

    assert {(tmp_path / "file").stat().st_ino, tmp_path.stat().st_ino} <= synced

    synced.clear()
    with atomic_folder(tmp_path / "far" / "down" / "folder") as folder:
        for name in ("a", "b"):
            (folder / name).write_text(name)
    made = tmp_path / "far" / "down" / "folder"

    assert {made.parent.stat().st_ino, *(f.stat().st_ino for f in made.iterdir())} <= synced


def test_a_folder_that_cannot_be_synced_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems refuse; the file's own flush still counts."""

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not for folders")

    monkeypatch.setattr(os, "fsync", refuse_folders)
    atomic_write(tmp_path / "file", "x")

    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "full", "temporary"), "target: the disk is full"),
        (OSError(errno.EDQUOT, "quota", "temporary"), "target: the disk quota is used up"),
        (OSError(errno.EACCES, "no", "elsewhere"), "elsewhere: permission denied"),
        (OSError(errno.EPERM, "no"), "target: not permitted"),
        (OSError(errno.EIO, "broken disk"), "target: broken disk"),
        (OSError("odd"), "target: odd"),
    ],
)
def test_refusals_name_the_path_that_helps(error: OSError, message: str) -> None:
    """A full disk names the target, others what the system named, else the target."""
    with pytest.raises(StoreError) as caught, readable_errors(Path("target")):
        raise error

    assert str(caught.value).startswith(f"cannot write {message}")
    assert disk_reason(OSError("odd")) is None


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second rename fails: the old folder is back under its name, nothing else is left."""
    target = tmp_path / "model"
    with atomic_folder(target) as folder:
        (folder / "file").write_text("old")
    real = os.replace

    def refuse_the_new(source: Path, path: Path) -> None:
        if str(source).endswith(".new"):
            raise OSError(errno.EACCES, "no", str(path))
        real(source, path)

    monkeypatch.setattr(os, "replace", refuse_the_new)
    with (
        pytest.raises(StoreError, match="permission denied"),
        atomic_folder(target) as folder,
    ):
        (folder / "file").write_text("new")

    assert (target / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_old_folder_that_cannot_be_removed_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new one is in place by then."""
    target = tmp_path / "model"
    target.mkdir()

    def refuse(path: Path, *, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise OSError(errno.EACCES, "no", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with atomic_folder(target) as folder:
        (folder / "file").write_text("new")

    assert (target / "file").read_text() == "new"
