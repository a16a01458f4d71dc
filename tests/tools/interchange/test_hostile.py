"""Damaged and hostile files: a typed error or records, in bounded time, and the parent lives on."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from mlx_tinyagent.errors import InputError
from mlx_tinyagent.tools.interchange.child import Job, read_files
from mlx_tinyagent.tools.interchange.files import find_files, import_path
from mlx_tinyagent.tools.interchange.parse import parse
from mlx_tinyagent.tools.interchange.records import Content, InterchangeError
from mlx_tinyagent.tools.interchange.save import save
from mlx_tinyagent.tools.local import Store, memory_world

pytest.importorskip("icalendar")

SLOW_S = 2.0
ODD = [
    b"\0",
    b"\r\n ",
    b"\xff\xfe",
    b"BEGIN:VEVENT\r\n",
    b"END:VCALENDAR\r\n",
    b"TZID=Europe:",
    b"RRULE:FREQ=SECONDLY\r\n",
    b"DTSTART:99999999T999999Z\r\n",
    b"DURATION:P999999999999W\r\n",
    b"=?utf-8?b?" + b"A" * 99 + b"?=",
    b"Content-Type: multipart/mixed; boundary=x\n\n--x\n",
    b"Content-Type: text/plain; charset=no-such\n",
    b"Content-Transfer-Encoding: base64\n",
    b"Date: Fri, 99 Foo 99999 99:99:99 +9999\n",
    b'"' * 50,
    b"\\" * 50,
    b";" * 50,
    "\u2028\u202e".encode(),
]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    """Well-formed files by kind."""
    folder = tmp_path_factory.mktemp("seeds") / "out"
    with memory_world() as store:
        save(store, folder)
    found: dict[str, list[bytes]] = {}
    for job in find_files(folder):
        content = Path(job.path).read_bytes()
        found.setdefault(job.kind, []).append(content[:1500])
    return found


def mutant(content: bytes, random_: random.Random) -> bytes:
    """Damage bytes in one to four places."""
    data = bytearray(content)
    for _ in range(random_.randint(1, 4)):
        place = random_.randrange(len(data) + 1)
        match random_.randrange(5):
            case 0:
                data[place:place] = random_.choice(ODD)
            case 1:
                data[place : place + random_.randint(1, 40)] = b""
            case 2:
                data[place : place + 1] = bytes([random_.randrange(256)])
            case 3:
                data[place:place] = data[place : place + 60] * random_.randint(1, 4)
            case _:
                del data[place:]
    return bytes(data)


@pytest.mark.slow
def test_twenty_thousand_mutants(
    seeds: dict[str, list[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Only InterchangeError comes out of the boundary, and none takes long."""
    random_, counts, slowest = random.Random(24), Counter[str](), 0.0
    for _ in range(20_000):
        kind = random_.choice(sorted(seeds))
        content = random_.choice(seeds[kind])
        begun = time.process_time()
        try:
            counts["read"] += isinstance(parse(kind, mutant(content, random_)), Content)
        except InterchangeError:
            counts["refused"] += 1
        slowest = max(slowest, time.process_time() - begun)
    with capsys.disabled():
        print(  # noqa: T201
            f"\nparser mutants: {counts.total():,}, read {counts['read']:,}, refused "
            f"{counts['refused']:,}, other errors 0, slowest {slowest:.2f} s, seed 24"
        )
    assert counts.total() == 20_000
    assert slowest < SLOW_S


@pytest.mark.parametrize("kind", ["ics", "vcf", "eml", "md"])
def test_odd_files_are_refused_or_read(kind: str) -> None:
    """Nothing, noise, bombs and depth: a typed error or records, quickly."""
    deep = b"BEGIN:VCALENDAR\r\n" * 10_000
    wide = b"BEGIN:VEVENT\r\nEND:VEVENT\r\n" * 10_000
    parts = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(300)
    )
    for content in (b"", b"\0", os.urandom(4096), deep, wide, parts, b"\n" * 100_000, *ODD):
        begun = time.process_time()
        with contextlib.suppress(InterchangeError):
            assert isinstance(parse(kind, content), Content)
        assert time.process_time() - begun < SLOW_S


def test_the_child_dies_alone(tmp_path: Path) -> None:
    """A file that needs too much is named; the ones around it come in."""
    good = tmp_path / "a.vcf"
    good.write_text("BEGIN:VCARD\r\nFN:Ann\r\nEND:VCARD\r\n")
    slow = tmp_path / "b.ics"  # every unfolded line is one piece longer than the last
    lines = "".join("X" * 60 + "\r\n " for _ in range(200_000))
    slow.write_text(f"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:{lines}\r\nEND:VEVENT\r\n")
    jobs = [
        Job(path=str(good), kind="vcf"),
        Job(path=str(slow), kind="ics"),
        Job(path=str(tmp_path / "gone.vcf"), kind="vcf"),
        Job(path=str(tmp_path), kind="vcf"),
        Job(path=str(good), kind="vcf"),
    ]
    found = list(read_files(jobs))
    assert [job for job, _ in found] == jobs
    assert [isinstance(content, Content) for _, content in found] == [
        True,
        False,
        False,
        False,
        True,
    ]


def test_links_pipes_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    """Nothing is followed or waited on."""
    card = "BEGIN:VCARD\r\nFN:Ann\r\nEND:VCARD\r\n"
    (tmp_path / "real.vcf").write_text(card)
    (tmp_path / ".hidden.vcf").write_text(card)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.vcf").write_text(card)
    (tmp_path / "link.vcf").symlink_to(tmp_path / "real.vcf")
    os.mkfifo(tmp_path / "pipe.vcf")
    with Store.memory() as store:
        done = import_path(store, tmp_path)
        assert store.rows("SELECT name FROM contacts") == [{"name": "Ann"}]
    assert len(done.problems) == 1
    assert "pipe.vcf" in done.problems[0]


@pytest.mark.parametrize("name", ["gone", "x.docx", "empty"])
def test_a_path_without_anything_says_so(tmp_path: Path, name: str) -> None:
    """Nothing to import is an error that names what can be."""
    (tmp_path / "x.docx").write_text("x")
    (tmp_path / "empty").mkdir()
    with Store.memory() as store, pytest.raises(InputError):
        import_path(store, tmp_path / name)


def test_a_broken_file_is_named_and_nothing_of_it_comes_in(tmp_path: Path) -> None:
    """The line is in the message; the good file beside it comes in."""
    (tmp_path / "bad.ics").write_text("BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nEND:VCALENDAR\r\n")
    (tmp_path / "good.md").write_text("# Title\n\ntext\n")
    with Store.memory() as store:
        done = import_path(store, tmp_path)
        assert done.loaded.added == {"note": 1}
    assert "bad.ics: line 3: END:VCALENDAR without its BEGIN" in done.problems[0]
