"""What ``outbox add`` lets wait is what this backend sends: recipients, copies, text and files."""

from __future__ import annotations

from collections.abc import Callable
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.act.outbox import Outbox
from mlx_tinyagent.cli.outbox import _payload
from mlx_tinyagent.tools.local import LocalBackend, Store, index_roots
from mlx_tinyagent.tools.net import Account, NetBackend
from mlx_tinyagent.tools.results import Ok


@pytest.fixture
def send(smtp_server: Any) -> Callable[[Store], list[str]]:
    """Sends the first draft of a store through the outbox; returns the states of its items."""
    smtp_server.received.clear()
    account = Account(
        user="me",
        password="x",
        address="me@mail.example",
        smtp=f"smtp://127.0.0.1:{_port(smtp_server)}",
    )

    def sent(store: Store) -> list[str]:
        box = Outbox(store)
        kind, payload = _payload(store, "draft:1")
        box.put(kind, payload, key="k", wait_s=0)
        box.send_due(NetBackend(account, LocalBackend(store)))
        return [item.state for item in box.items()]

    return sent


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
    tmp_path: Path, smtp_server: Any, send: Callable[[Store], list[str]]
) -> None:
    """Each key that is put in is read: nothing of the draft is missing in the mail."""
    with Store.memory() as store:
        drafted(store, tmp_path)
        assert send(store) == ["sent"]

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
    tmp_path: Path, smtp_server: Any, send: Callable[[Store], list[str]]
) -> None:
    """It surely did not go, so it is not open; with the file back it goes."""
    with Store.memory() as store:
        file = drafted(store, tmp_path)
        text = file.read_text()
        file.unlink()
        assert send(store) == ["failed"]
        assert smtp_server.received == []
        file.write_text(text)
        assert send(store) == ["sent"]
    assert len(smtp_server.received) == 1
