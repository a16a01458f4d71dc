"""``outbox``: sending for good, after a wait in which it can be recalled."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import click

from mlx_tinyagent.cli.common import backend_option, interactive, open_backend, print_json
from mlx_tinyagent.config import paths, settings
from mlx_tinyagent.errors import RefusedError

if TYPE_CHECKING:
    from mlx_tinyagent.act.outbox import Waiting


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
    question. Files go as they are now, or not at all. How long it waits is
    send_wait_seconds in config.toml.
    """
    from mlx_tinyagent.act.outbox import Outbox, message_of
    from mlx_tinyagent.tools.local import user_store

    with user_store(paths()) as store:
        kind, payload = message_of(store, record)
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


def _confirm(payload: dict[str, Any]) -> None:
    """Show what will go, and ask.

    Raises:
        RefusedError: The answer is no, or there is no terminal to ask at.
    """
    from mlx_tinyagent.cli.talk import YES, read_answer, visible

    if not interactive():
        raise RefusedError("sending is asked about at a terminal; there is none, nothing was sent")
    for name, value in payload.items():
        if name in ("sha256", "thread"):  # bound to what is shown; no words for people
            continue
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
