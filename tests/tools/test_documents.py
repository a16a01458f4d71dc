"""Documents and the file index: what is read, what is refused, and by whom."""

from __future__ import annotations

import os
import random
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_tinyagent.errors import StoreError
from mlx_tinyagent.tools.local import LocalBackend, Store, index_roots
from mlx_tinyagent.tools.local import demo_files as demo
from mlx_tinyagent.tools.local.documents import MAX_PLAIN_BYTES, document
from mlx_tinyagent.tools.results import Failed, NotFound, Ok, Origin

TEXT = ["A title", "The first paragraph (with brackets) and a back\\slash. Naïve café, £5.", "End."]


def pdf_with(stream: bytes, *, flate: bool = False) -> bytes:
    """Wrap one content stream into a one-page PDF."""
    data = zlib.compress(stream) if flate else stream
    marker = b"/Filter /FlateDecode " if flate else b""
    page = b"<< /Type /Page /Parent 2 0 R /Contents 5 0 R /Resources << /Font << /F1 3 0 R >> >> >>"
    return demo._pdf_file(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count 1 /Kids [4 0 R] >>",
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            page,
            b"<< %b/Length %d >>\nstream\n%b\nendstream" % (marker, len(data), data),
        ]
    )


def test_a_written_pdf_reads_back(tmp_path: Path) -> None:
    """Text, pages and trust label survive the way through a PDF."""
    path = tmp_path / "a.pdf"
    path.write_bytes(demo.pdf([*TEXT, *["Filler line number one."] * 40]))
    result = document(str(path))
    assert isinstance(result, Ok)
    assert result.value.text.splitlines()[:3] == TEXT
    assert result.value.fields == {"pages": "2"}
    assert result.value.origin is Origin.UNTRUSTED


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"plain", "plain"),
        ("\ufeffwith a mark".encode(), "with a mark"),
        ("caf\u00e9 \u2013 \u738b".encode(), "caf\u00e9 \u2013 \u738b"),
        (b"caf\xe9 \x96", "caf\u00e9 \u2013"),
        (b"x" * (MAX_PLAIN_BYTES - 1) + "\u00e9\u00e9".encode(), "x" * (MAX_PLAIN_BYTES - 1)),
    ],
)
def test_plain_text_in_any_encoding(tmp_path: Path, content: bytes, text: str) -> None:
    """UTF-8 with and without a mark, Windows-1252, and a long text cut inside a character."""
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    result = document(str(path))
    assert isinstance(result, Ok)
    assert result.value.text == text


@pytest.mark.parametrize("name", ["a.docx", "a.xlsx", "a", "a.exe", ".pdf"])
def test_other_kinds_are_refused_by_name(tmp_path: Path, name: str) -> None:
    """A kind that cannot be read says which can."""
    (tmp_path / name).write_bytes(b"text")
    result = document(str(tmp_path / name))
    assert isinstance(result, Failed)
    assert "PDF and plain text" in result.reason


def special(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Make something that is no plain file."""
    return lambda path: (make(path), None)[1]


@pytest.mark.parametrize(
    "make",
    [
        special(lambda path: path.symlink_to("/etc/hostname")),
        special(lambda path: path.mkdir()),
        special(os.mkfifo),
        special(lambda path: path.symlink_to("/dev/zero")),
        special(lambda path: path.write_text(" \n")),
    ],
    ids=["link", "folder", "pipe", "device", "empty"],
)
def test_links_pipes_and_devices_are_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Nothing is followed, nothing is waited on."""
    make(tmp_path / "a.txt")
    assert isinstance(document(str(tmp_path / "a.txt")), Failed)


def mutants() -> list[bytes]:
    """Return damaged and hostile PDFs."""
    rng = random.Random(7)
    good = demo.pdf(TEXT)
    flipped = bytearray(good)
    for _ in range(40):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return [
        b"",
        b"%PDF-1.4\n",
        good[: len(good) // 2],
        bytes(flipped),
        good.replace(b"/Kids [4 0 R]", b"/Kids [2 0 R]"),  # a page tree that holds itself
        good.replace(b"/Length ", b"/Length 99999999999999 % "),
        good.replace(b"/Root 1 0 R", b"/Root 1 0 R /Encrypt 3 0 R"),
        pdf_with(b"BT " + b"[" * 100_000),
        pdf_with(b"(" * 2**26, flate=True),
    ]


def check_typed(path: Path, content: bytes) -> None:
    """Read a PDF and check that a failure is one line with its name."""
    path.write_bytes(content)
    result = document(str(path))
    assert isinstance(result, Ok | Failed)
    if isinstance(result, Failed):
        assert result.reason.startswith(path.name)
        assert "\n" not in result.reason


def test_a_cut_pdf_ends_in_a_typed_result(tmp_path: Path) -> None:
    """A download that broke off does not raise."""
    check_typed(tmp_path / "a.pdf", demo.pdf(TEXT)[:300])


@pytest.mark.slow
def test_damaged_pdfs_end_in_typed_results(tmp_path: Path) -> None:
    """Flipped bits, loops, false lengths, deep nesting and bombs never raise."""
    for content in mutants():
        check_typed(tmp_path / "a.pdf", content)


@pytest.mark.slow
def test_a_pdf_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    """The child's processor time ends at two seconds; the parent goes on."""
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf_with(b"BT /F1 9 Tf " + b"(a) Tj 1 0 Td " * 250_000 + b"ET"))
    result = document(str(path))
    assert isinstance(result, Failed)
    assert "too much time" in result.reason


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with plain, hidden, linked and nested files."""
    root = tmp_path / "files"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("alpha zebra")
    (root / "sub" / "b.pdf").write_bytes(demo.pdf(["Beta giraffe document."]))
    (root / "c.command").write_text("echo no")
    (root / ".hidden.txt").write_text("secret")
    (root / "link.txt").symlink_to("/etc/hostname")
    (root / "loop").symlink_to(root)
    (tmp_path / "outside.txt").write_text("outside")
    return root


def test_the_index_holds_plain_files_of_the_roots(root: Path) -> None:
    """Hidden files, links and what lies outside are not indexed; texts can be searched."""
    with Store.memory() as store:
        done = index_roots(store, [root])
        assert (done.added, done.changed, done.removed, done.kept) == (3, 0, 0, 0)
        local = LocalBackend(store)
        assert [entry.name for entry in local.files()] == ["a.txt", "c.command", "b.pdf"]
        assert [hit.title for hit in store.search("giraffe")] == ["b.pdf"]
        assert store.search("secret") == []


def test_indexing_again_reads_only_what_changed(root: Path) -> None:
    """Unchanged files keep their ids and are not read; changed, new and gone ones are told."""
    with Store.memory() as store:
        index_roots(store, [root])
        ids = {row["path"]: row["id"] for row in store.rows("SELECT path, id FROM files")}
        (root / "a.txt").write_text("alpha lion and more")
        (root / "d.md").write_text("delta")
        (root / "c.command").unlink()
        seen: list[str] = []
        done = index_roots(store, [root], progress=seen.append)
        assert (done.added, done.changed, done.removed, done.kept) == (1, 1, 1, 1)
        assert [Path(path).name for path in seen] == ["a.txt", "d.md"]
        rows = {row["path"]: row["id"] for row in store.rows("SELECT path, id FROM files")}
        assert rows[str(root / "a.txt")] == ids[str(root / "a.txt")]
        assert store.search("zebra") == []
        assert len(store.search("lion")) == 1


def test_roots_replace_each_other(root: Path, tmp_path: Path) -> None:
    """The named folders are the whole index; a root that is none is one line."""
    with Store.memory() as store:
        index_roots(store, [root])
        index_roots(store, [root / "sub"])
        assert [entry.name for entry in LocalBackend(store).files()] == ["b.pdf"]
        for bad in (tmp_path / "none", root / "a.txt"):
            with pytest.raises(StoreError, match=bad.name):
                index_roots(store, [bad])
        assert [entry.name for entry in LocalBackend(store).files()] == ["b.pdf"]


def test_only_indexed_files_are_read_and_opened(root: Path, tmp_path: Path) -> None:
    """A path outside the index, gone, or moved behind a link is refused."""
    shown: list[str] = []
    with Store.memory() as store:
        index_roots(store, [root])
        local = LocalBackend(store, opener=shown.append)
        inside = str(root / "a.txt")
        assert isinstance(local.read_document(inside), Ok)
        opened = local.open_file(inside)
        assert isinstance(opened, Ok)
        assert opened.note.startswith("Opened")
        for path in (tmp_path / "outside.txt", root / ".hidden.txt", root / "sub" / ".." / "a.txt"):
            assert isinstance(local.read_document(str(path)), NotFound)
            assert isinstance(local.open_file(str(path)), NotFound)
        assert isinstance(local.open_file(str(root / "c.command")), Failed)
        (root / "sub").rename(tmp_path / "moved")
        (root / "sub").symlink_to(tmp_path / "moved")
        assert isinstance(local.read_document(str(root / "sub" / "b.pdf")), Failed)
        (root / "a.txt").unlink()
        assert isinstance(local.open_file(inside), NotFound)
    assert shown == [inside]


def test_what_could_not_be_opened_is_not_recorded(root: Path) -> None:
    """A failing opener gives a typed failure and leaves no trace of opening."""

    def refuse(target: str) -> None:
        raise OSError(2, "no such application")

    with Store.memory() as store:
        index_roots(store, [root])
        local = LocalBackend(store, opener=refuse)
        assert isinstance(local.open_file(str(root / "a.txt")), Failed)
        result = local.open_url("https://a.example", note="A")
        assert isinstance(result, Failed)
        assert "no such application" in result.reason
        assert store.rows("SELECT 1 FROM opened") == []


def test_without_an_opener_nothing_is_said_to_be_open(root: Path) -> None:
    """The answer gives the path instead."""
    with Store.memory() as store:
        index_roots(store, [root])
        result = LocalBackend(store).open_file(str(root / "a.txt"))
        assert isinstance(result, Ok)
        assert "pened" not in result.note
        assert str(root / "a.txt") in result.note


def test_the_child_leaves_other_threads_alone(root: Path) -> None:
    """Two documents can be read at once."""
    results: list[object] = []
    path = str(root / "sub" / "b.pdf")
    threads = [threading.Thread(target=lambda: results.append(document(path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(result, Ok) for result in results)
    assert len(results) == 2
