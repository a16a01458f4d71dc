"""Atomic writes: the old content or the new, one readable line when refused."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from mlx_tinyagent import files
from mlx_tinyagent.errors import StoreError
from mlx_tinyagent.files import atomic_folder, atomic_write


def test_writes_bytes_and_text_and_makes_folders(tmp_path: Path) -> None:
    """Text is UTF-8; parents appear; nothing else is left behind."""
    path = tmp_path / "a" / "b.txt"
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
