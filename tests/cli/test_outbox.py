"""``outbox``: nothing goes without a question, before its time, or twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.act.outbox import Outbox
from mlx_tinyagent.config import paths
from mlx_tinyagent.tools.local import user_store

Cli = Callable[..., Any]
MAIL = b'1. compose_new_email(["Sarah"], ["Noor"], "Hi", "text")\n2. join()'


@pytest.fixture
def draft(cli: Cli, world: Path) -> None:
    """One draft in the user's store."""
    assert cli("run", "-", "--yes", stdin=MAIL).code == 0


def test_adding_asks_at_a_terminal_alone(cli: Cli, draft: None) -> None:
    """There is none here: exit code 3, and nothing waits."""
    done = cli("outbox", "add", "draft:1")

    assert done.code == 3
    assert "nothing was sent" in done.line
    assert cli("outbox", "list").out == ""


def test_after_a_yes_it_waits_as_it_was_shown(
    cli: Cli, draft: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recipients, copies, subject and body are the draft's; adding it again is the same message."""
    from mlx_tinyagent.cli import outbox, talk

    monkeypatch.setattr(outbox, "interactive", lambda: True)
    monkeypatch.setattr(talk, "read_answer", lambda question: "yes\n")

    assert cli("outbox", "add", "draft:1").code == 0
    assert cli("outbox", "add", "draft:1").code == 0

    (item,) = json.loads(cli("outbox", "list", "--json").out)
    assert item["state"] == "waiting"
    assert item["recipients"] == ["sarah.smith@harbor.example"]
    assert item["cc"] == ["noor@atelier-noor.example"]
    assert item["body"].startswith("Hi Sarah,")
    assert cli("outbox", "send").out.startswith("1 still waiting")
    assert cli("outbox", "recall", "1").code == 0
    assert cli("outbox", "recall", "1").code == 5


@pytest.mark.parametrize("record", ["draft:9", "draft:x", "note:1", "1", "message:1"])
def test_an_unknown_record_is_said(cli: Cli, draft: None, record: str) -> None:
    """One line."""
    done = cli("outbox", "add", record)

    assert done.code == 1
    assert "draft:N or message:N" in done.line


def test_what_cannot_be_sent_has_failed(cli: Cli, world: Path) -> None:
    """The local backend sends nothing; the line says so, exit code 5."""
    with user_store(paths()) as store:
        Outbox(store).put("mail", {"recipients": ["a@x.example"]}, key="k", wait_s=0)

    done = cli("outbox", "send")

    assert done.code == 5
    assert "cannot send" in done.out
