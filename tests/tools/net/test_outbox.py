"""What ``outbox add`` lets wait is what this backend sends: recipients, copies, text and files."""

from __future__ import annotations

import os
from collections.abc import Callable
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any, Literal

import pytest

from mlx_tinyagent.act.outbox import Outbox, message_of
from mlx_tinyagent.tools.interchange.eml import read_letter
from mlx_tinyagent.tools.interchange.load import load
from mlx_tinyagent.tools.local import LocalBackend, Store, index_roots
from mlx_tinyagent.tools.net import Account, NetBackend
from mlx_tinyagent.tools.results import Failed, Ok


@pytest.fixture
def put(smtp_server: Any) -> Callable[..., Callable[[], list[str]]]:
    """Puts a draft into the outbox; returns what sends it and gives the states of all items."""
    smtp_server.received.clear()
    account = Account(
        user="me",
        password="x",
        address="me@mail.example",
        smtp=f"smtp://127.0.0.1:{_port(smtp_server)}",
    )

    def waiting(store: Store, record: str = "draft:1") -> Callable[[], list[str]]:
        box = Outbox(store)
        kind, payload = message_of(store, record)

        def send() -> list[str]:
            box.put(kind, payload, key="k", wait_s=0)
            box.send_due(NetBackend(account, LocalBackend(store)))
            return [item.state for item in box.items()]

        return send

    return waiting


def _port(server: Any) -> int:
    return int(server.port)


def drafted(store: Store, folder: Path) -> Path:
    """Save a draft with everything a draft can have; returns its file."""
    file = folder / "rent.txt"
    file.write_text("1,150 a month")
    index_roots(store, [folder])
    saved = LocalBackend(store).draft_mail(
        kind="new",
        recipients=["ann@x.example", "bo@x.example"],
        cc=["cy@x.example"],
        subject="Rent, ü",
        body="Hi Ann,\n\nhere it is.",
        attachments=[str(file)],
    )
    assert isinstance(saved, Ok)
    return file


def test_every_part_of_a_draft_is_sent(
    tmp_path: Path, smtp_server: Any, put: Callable[..., Callable[[], list[str]]]
) -> None:
    """Each key that is put in is read: nothing of the draft is missing in the mail."""
    with Store.memory() as store:
        drafted(store, tmp_path)
        assert put(store)() == ["sent"]

    ((_, people, content),) = smtp_server.received
    mail = message_from_bytes(content, policy=policy.default)
    assert people == ["ann@x.example", "bo@x.example", "cy@x.example"]
    assert mail["To"] == "ann@x.example, bo@x.example"
    assert mail["Cc"] == "cy@x.example"
    assert mail["Subject"] == "Rent, ü"
    body = mail.get_body()
    assert body is not None
    assert body.get_content().split() == "Hi Ann, here it is.".split()
    (file,) = mail.iter_attachments()
    assert (file.get_filename(), file.get_payload(decode=True)) == ("rent.txt", b"1,150 a month")


def test_a_mail_whose_file_is_gone_has_failed_and_can_wait_again(
    tmp_path: Path, smtp_server: Any, put: Callable[..., Callable[[], list[str]]]
) -> None:
    """It surely did not go, so it is not open; with the file back it goes."""
    with Store.memory() as store:
        file = drafted(store, tmp_path)
        send = put(store)
        text = file.read_text()
        file.unlink()
        assert send() == ["failed"]
        assert smtp_server.received == []
        file.write_text(text)
        assert send() == ["sent"]
    assert len(smtp_server.received) == 1


@pytest.mark.parametrize("change", ["other text", "other file", "a link"])
def test_a_file_that_holds_something_else_by_now_is_not_sent(
    tmp_path: Path,
    smtp_server: Any,
    put: Callable[..., Callable[[], list[str]]],
    change: str,
) -> None:
    """Same name, same length, same time: the yes was to what it held."""
    with Store.memory() as store:
        file = drafted(store, tmp_path)
        send = put(store)
        status = file.stat()
        other = tmp_path / "other.txt"
        other.write_text("9,150 a month")
        if change == "other text":
            file.write_text(other.read_text())
        elif change == "other file":
            other.replace(file)
        else:
            file.unlink()
            file.symlink_to(other)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

        assert send() == ["failed"]
        (item,) = Outbox(store).items()

    assert str(file) in item.reason
    assert change == "a link" or "has changed since it was agreed to send it" in item.reason
    assert smtp_server.received == []


def test_a_file_that_nobody_agreed_to_is_not_sent(tmp_path: Path, smtp_server: Any) -> None:
    """A payload that names a file without saying what it holds is refused."""
    file = tmp_path / "a.txt"
    file.write_text("a")
    account = Account(
        user="me",
        password="x",
        address="me@mail.example",
        smtp=f"smtp://127.0.0.1:{_port(smtp_server)}",
    )
    smtp_server.received.clear()

    with Store.memory() as store:
        found = NetBackend(account, LocalBackend(store)).deliver(
            "mail", {"recipients": ["ann@x.example"], "attachments": [str(file)]}, key="k"
        )

    assert found == Failed(reason=f"nobody has agreed to what {file} holds; nothing was sent")
    assert smtp_server.received == []


@pytest.mark.parametrize(
    ("headers", "thread"),
    [
        ("Message-ID: <3@x.example>", "<3@x.example>"),
        (
            "Message-ID: <3@x.example>\nReferences: <1@x.example>\n <2@x.example>",
            "<1@x.example> <2@x.example> <3@x.example>",
        ),
        (
            "Message-ID: <3@x.example>\nIn-Reply-To: <2@x.example>",
            "<2@x.example> <3@x.example>",
        ),
        (f"Message-ID: <{'a' * 120}@x.example>", f"<{'a' * 120}@x.example>"),
        ("X-Other: 1", None),
    ],
)
def test_a_reply_names_the_mails_that_it_follows(
    smtp_server: Any,
    put: Callable[..., Callable[[], list[str]]],
    headers: str,
    thread: str | None,
) -> None:
    """As RFC 5322, section 3.6.4 has it, byte for byte; a forward answers nobody."""
    source = f"From: ann@x.example\nSubject: Rent\n{headers}\n\nHow much?\n".encode()
    with Store.memory() as store:
        load(store, read_letter(source).records)
        kinds: tuple[Literal["reply", "forward"], ...] = ("reply", "forward")
        for kind in kinds:
            saved = LocalBackend(store).draft_mail(
                kind=kind,
                recipients=["ann@x.example"],
                cc=[],
                subject="Re: Rent",
                body="1,150",
                attachments=[],
                source=1,
            )
            assert isinstance(saved, Ok)
        assert put(store, "draft:1")() == ["sent"]
        assert message_of(store, "draft:2")[1]["thread"] == []

    ((_, _, content),) = smtp_server.received
    mail = message_from_bytes(content, policy=policy.default)
    assert mail["References"] == thread
    assert mail["In-Reply-To"] == (thread and thread.split()[-1])
    if thread:
        assert f"In-Reply-To: {thread.split()[-1]}".encode() in content
