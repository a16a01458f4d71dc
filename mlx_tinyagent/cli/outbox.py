"""``outbox``: sending for good, after a wait in which it can be recalled."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import click

from mlx_tinyagent.cli.common import backend_option, interactive, open_backend, print_json
from mlx_tinyagent.config import paths, settings
from mlx_tinyagent.errors import InputError, RefusedError

if TYPE_CHECKING:
    from mlx_tinyagent.act.outbox import Waiting
    from mlx_tinyagent.tools.local import Store


@click.group()
def outbox() -> None:
    """Send drafts for good; nothing goes before its time, and until then it can be recalled."""


@outbox.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def outbox_list(as_json: bool) -> None:
    """Show what waits, what went, and what did not."""
    from mlx_tinyagent.act.outbox import Outbox
    from mlx_tinyagent.tools.local import user_store

    with user_store(paths()) as store:
        items = Outbox(store).items()
    if as_json:
        print_json([{"id": i.id, "state": i.state, "kind": i.kind, **i.payload} for i in items])
        return
    for item in items:
        click.echo(_line(item))


@outbox.command("add")
@click.argument("record")
def outbox_add(record: str) -> None:
    """Let a draft wait to be sent.

    RECORD is draft:3 or message:2, a draft or text message of the local store. It
    is shown as it will go, and asked about at the terminal: nothing covers this
    question. How long it waits is send_wait_seconds in config.toml.
    """
    from mlx_tinyagent.act.outbox import Outbox
    from mlx_tinyagent.tools.local import user_store

    with user_store(paths()) as store:
        kind, payload = _payload(store, record)
        _confirm(payload)
        seed = json.dumps([record, payload], sort_keys=True)
        key = hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        item = Outbox(store).put(kind, payload, key=key, wait_s=settings().send_wait_seconds)
    click.echo(_line(item))


@outbox.command("recall")
@click.argument("number", type=int)
def outbox_recall(number: int) -> None:
    """Take back message NUMBER, which has not gone yet."""
    from mlx_tinyagent.act.outbox import Outbox
    from mlx_tinyagent.tools.local import user_store

    with user_store(paths()) as store:
        Outbox(store).recall(number)
    click.echo(f"Recalled message {number}; it does not go.")


@outbox.command("send")
@backend_option
def outbox_send(backend: str) -> int:
    """Send what has waited long enough, through a backend that can.

    A message that was going when a process died is looked for by its key first.
    Exit code 5 if one did not go or nobody can tell.
    """
    from mlx_tinyagent.act.outbox import Outbox
    from mlx_tinyagent.tools.local import user_store

    with user_store(paths()) as store, open_backend(backend) as opened:
        box = Outbox(store)
        handled = [*box.reconcile(opened), *box.send_due(opened)]
        latest = {item.id: item for item in handled}
        left = [item for item in box.items() if item.state == "waiting"]
    for item in latest.values():
        click.echo(_line(item))
    if left:
        click.echo(f"{len(left)} still waiting, until {min(i.due for i in left):%H:%M:%S} UTC")
    return 5 if any(item.state in ("failed", "unknown") for item in latest.values()) else 0


def _payload(store: Store, record: str) -> tuple[str, dict[str, Any]]:
    """Return kind and content of a draft or text message.

    Raises:
        InputError: There is none of that name.
    """
    sort, _, number = record.partition(":")
    found = []
    if number.isascii() and number.isdigit() and sort in ("draft", "message"):
        table = "drafts" if sort == "draft" else "outbox_messages"
        found = store.rows(f"SELECT * FROM {table} WHERE id = ?", (int(number),))
    if not found:
        raise InputError(f"there is no {record!r}; it is draft:N or message:N, as its result says")
    owner = (found[0]["id"],)
    if sort == "message":
        sql = "SELECT phone FROM outbox_recipients WHERE message_id = ? ORDER BY position"
        numbers = [row["phone"] for row in store.rows(sql, owner)]
        return "message", {"recipients": numbers, "text": found[0]["text"]}
    people = store.rows(
        "SELECT * FROM draft_recipients WHERE draft_id = ? ORDER BY position", owner
    )
    sql = "SELECT path FROM draft_attachments WHERE draft_id = ? ORDER BY position"
    return "mail", {
        "recipients": [row["email"] for row in people if row["role"] == "to"],
        "cc": [row["email"] for row in people if row["role"] == "cc"],
        "subject": found[0]["subject"],
        "body": found[0]["body"],
        "attachments": [row["path"] for row in store.rows(sql, owner)],
    }


def _confirm(payload: dict[str, Any]) -> None:
    """Show what will go, and ask.

    Raises:
        RefusedError: The answer is no, or there is no terminal to ask at.
    """
    from mlx_tinyagent.cli.talk import YES, read_answer, visible

    if not interactive():
        raise RefusedError("sending is asked about at a terminal; there is none, nothing was sent")
    for name, value in payload.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        first, *rest = visible(text).split("\n")
        click.echo(f"  {name}: {first}", err=True)
        for line in rest:
            click.echo(f"  | {line}", err=True)
    if (read_answer("Send this for good? [y/N] ") or "").strip().casefold() not in YES:
        raise RefusedError("not confirmed: nothing will be sent")


def _line(item: Waiting) -> str:
    """Write one message on one line."""
    from mlx_tinyagent.cli.talk import visible

    to = ", ".join(item.payload.get("recipients", ()))
    about = str(item.payload.get("subject", item.payload.get("text", "")))[:60]
    when = f" until {item.due:%H:%M:%S} UTC" if item.state == "waiting" else ""
    reason = f" ({item.reason})" if item.reason else ""
    return visible(f"{item.id:>3}  {item.state}{when}{reason}  {item.kind} to {to}: {about!r}")
