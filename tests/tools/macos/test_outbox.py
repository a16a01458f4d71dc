"""What ``outbox add`` lets wait is what Messages is told to send."""

from __future__ import annotations

from typing import Any

from mlx_tinyagent.act.outbox import Outbox, message_of
from mlx_tinyagent.tools.local import LocalBackend, Store
from mlx_tinyagent.tools.results import Ok


def test_every_part_of_a_text_is_sent(mac: Any) -> None:
    """Both numbers get the whole text, once; a mail is refused, as it is sent in Mail."""
    numbers, text = ["+12125550101", "+12125550102"], "Hi &\nbye"
    with Store.memory() as store:
        local, box = LocalBackend(store), Outbox(store)
        assert isinstance(local.queue_message(recipients=numbers, text=text), Ok)
        assert isinstance(
            local.draft_mail(
                kind="new",
                recipients=["ann@x.example"],
                cc=[],
                subject="Hi",
                body="",
                attachments=[],
            ),
            Ok,
        )
        for record in ("message:1", "draft:1"):
            kind, payload = message_of(store, record)
            box.put(kind, payload, key=record, wait_s=0)
        box.send_due(mac.backend)
        assert [item.state for item in box.items()] == ["sent", "failed"]
    assert [(words, to["to"]["Participant"]["handle"]) for _, (words, to) in mac.runner.calls] == [
        (text, number) for number in numbers
    ]
