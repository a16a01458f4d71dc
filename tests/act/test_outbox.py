"""The outbox: a wait, a recall, one sending per key, and no second one after a crash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from mlx_tinyagent.act.outbox import Outbox, message_of
from mlx_tinyagent.errors import InputError, ToolError
from mlx_tinyagent.tools.local import LocalBackend, Store, index_roots
from mlx_tinyagent.tools.results import Failed, NotFound, Ok, Result, Unknown, Value

MAIL = {"recipients": ["ann@x.example"], "cc": [], "subject": "Hi", "body": "é", "attachments": []}


@dataclass
class Post:
    """Sends; can refuse, lose the answer, die on the way, or not know."""

    sent: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    answer: Result | Exception | None = None
    delivers: bool = True
    blind: bool = False
    name: str = "post"

    def deliver(self, kind: str, payload: Mapping[str, Any], *, key: str) -> Result:
        """Send one message."""
        if self.delivers:
            assert key not in self.sent, "sent twice"
            self.sent[key] = payload
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer or Ok(value=Value(text=""))

    def with_key(self, key: str) -> Post:
        """Return itself: keys come with each message."""
        return self

    def find(self, key: str) -> Result:
        """Look for a message."""
        if self.blind:
            return Failed(reason="no connection")
        return Ok(value=Value(text="")) if key in self.sent else NotFound(what="mail")

    def undo(self, record: str) -> Result:
        """Nothing that is sent comes back."""
        return Failed(reason="it is sent")


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return what it shows."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Nine in the morning."""
    return Clock()


@pytest.fixture
def outbox(store: Store, clock: Clock) -> Outbox:
    """The world's outbox, with one mail that may go in ten seconds."""
    made = Outbox(store, clock=clock)
    made.put("mail", MAIL, key="k1", wait_s=10)
    return made


def states(outbox: Outbox) -> list[str]:
    """Return the states of all messages."""
    return [item.state for item in outbox.items()]


def test_it_waits_and_then_goes_once(outbox: Outbox, clock: Clock) -> None:
    """Nothing goes before its time; what went does not go again."""
    post = Post()
    assert outbox.send_due(post) == []  # type: ignore[arg-type]
    clock.now += timedelta(seconds=10)

    (went,) = outbox.send_due(post)  # type: ignore[arg-type]

    assert (went.state, post.sent) == ("sent", {"k1": MAIL})
    assert outbox.send_due(post) == []  # type: ignore[arg-type]


def test_it_can_be_recalled_until_it_goes(outbox: Outbox, clock: Clock) -> None:
    """And not after; a recalled one never goes."""
    post = Post()
    outbox.put("message", {"text": "b"}, key="k2", wait_s=0)
    outbox.recall(1)
    clock.now += timedelta(hours=1)

    outbox.send_due(post)  # type: ignore[arg-type]

    assert states(outbox) == ["recalled", "sent"]
    assert list(post.sent) == ["k2"]
    for number, state in ((1, "recalled"), (2, "sent"), (3, "not there")):
        with pytest.raises(ToolError, match=state):
            outbox.recall(number)


def test_the_same_key_is_one_message(outbox: Outbox) -> None:
    """However often it is put in."""
    again = outbox.put("mail", {"other": 1}, key="k1", wait_s=0)

    assert (again.id, again.payload) == (1, MAIL)
    assert len(outbox.items()) == 1


def test_what_surely_did_not_go_can_be_put_in_again(outbox: Outbox, clock: Clock) -> None:
    """Recalled, refused, or a file was missing; what is open or has gone is not put in again."""
    clock.now += timedelta(minutes=1)
    outbox.recall(1)
    for answer in (Failed(reason="550"), NotFound(what="file 'a'")):
        again = outbox.put("mail", MAIL, key="k1", wait_s=10)
        assert (again.id, again.state, again.due) == (
            1,
            "waiting",
            clock.now + timedelta(seconds=10),
        )
        clock.now += timedelta(seconds=10)
        (went,) = outbox.send_due(Post(answer=answer, delivers=False))  # type: ignore[arg-type]
        assert went.state == "failed"
        assert went.reason
    outbox.put("mail", MAIL, key="k1", wait_s=0)
    outbox.send_due(Post(answer=Unknown(reason="dropped")))  # type: ignore[arg-type]
    assert outbox.put("mail", MAIL, key="k1", wait_s=0).state == "unknown"


@pytest.mark.parametrize(
    ("post", "state"),
    [
        (Post(answer=Failed(reason="550"), delivers=False), "failed"),
        (Post(answer=Unknown(reason="dropped")), "unknown"),
        (Post(answer=ConnectionError("reset")), "unknown"),
    ],
)
def test_what_is_not_known_to_have_gone_is_not_sent_again(
    outbox: Outbox, clock: Clock, post: Post, state: str
) -> None:
    """Not by delivering again."""
    clock.now += timedelta(minutes=1)
    outbox.send_due(post)  # type: ignore[arg-type]
    outbox.send_due(post)  # type: ignore[arg-type]

    assert states(outbox) == [state]


@pytest.mark.parametrize(
    ("delivers", "blind", "state"),
    [(True, False, "sent"), (False, False, "waiting"), (True, True, "unknown")],
)
def test_after_a_crash_it_is_looked_for_by_its_key(
    outbox: Outbox, clock: Clock, delivers: bool, blind: bool, state: str
) -> None:
    """Sent if it is there, waiting if it surely is not, unknown if nobody can tell."""
    clock.now += timedelta(minutes=1)
    post = Post(delivers=delivers, blind=blind)
    with pytest.raises(SystemExit):  # the process dies while it sends
        _dying(outbox, post)
    assert states(outbox) == ["sending"]

    outbox.reconcile(post)  # type: ignore[arg-type]

    assert states(outbox) == [state]


def _dying(outbox: Outbox, post: Post) -> None:
    """Deliver with a process that dies while it sends."""
    real = post.deliver

    def deliver(kind: str, payload: Mapping[str, Any], *, key: str) -> Result:
        real(kind, payload, key=key)
        raise SystemExit

    post.deliver = deliver  # type: ignore[method-assign]
    outbox.send_due(post)  # type: ignore[arg-type]


def test_a_backend_that_cannot_send_sends_nothing(
    outbox: Outbox, clock: Clock, store: Store
) -> None:
    """The message has failed, with the reason."""
    clock.now += timedelta(minutes=1)

    (item,) = outbox.send_due(LocalBackend(store))

    assert (item.state, "cannot send" in item.reason) == ("failed", True)


def test_one_that_another_process_takes_first_is_left_to_it(
    outbox: Outbox, clock: Clock, store: Store
) -> None:
    """Two that send at once send each message once."""
    clock.now += timedelta(minutes=1)
    outbox.put("mail", MAIL, key="k2", wait_s=0)
    post = Post()

    class Slow(Post):
        """Sends a message; meanwhile another process sends the next one."""

        def deliver(self, kind: str, payload: Mapping[str, Any], *, key: str) -> Result:
            Outbox(store, clock=clock).send_due(post)  # type: ignore[arg-type]
            return super().deliver(kind, payload, key=key)

    slow = Slow()
    handled = outbox.send_due(slow)  # type: ignore[arg-type]

    assert ([item.key for item in handled], list(slow.sent), list(post.sent)) == (
        ["k1"],
        ["k1"],
        ["k2"],
    )
    assert states(outbox) == ["sent", "sent"]


def test_a_file_is_bound_by_what_it_holds_when_it_is_put_in(tmp_path: Path, store: Store) -> None:
    """Another content is another message; a file that is gone cannot be put in."""
    file = tmp_path / "rent.txt"
    file.write_text("1,150 a month")
    index_roots(store, [tmp_path])
    saved = LocalBackend(store).draft_mail(
        kind="new",
        recipients=["ann@x.example"],
        cc=[],
        subject="Rent",
        body="",
        attachments=[str(file)],
    )
    assert isinstance(saved, Ok)

    kind, first = message_of(store, "draft:1")
    file.write_text("9,150 a month")
    _, second = message_of(store, "draft:1")
    file.unlink()
    with pytest.raises(InputError) as gone:
        message_of(store, "draft:1")

    assert (kind, first["attachments"], first["thread"]) == ("mail", [str(file)], [])
    assert first["sha256"] == {str(file): sha256(b"1,150 a month").hexdigest()}
    assert second["sha256"] == {str(file): sha256(b"9,150 a month").hexdigest()}
    assert str(gone.value).startswith(f"{file} cannot be attached: it is gone")


def test_a_text_has_its_numbers_in_order(store: Store) -> None:
    """As they were approved."""
    numbers = ["+12125550102", "+12125550101"]
    assert isinstance(LocalBackend(store).queue_message(recipients=numbers, text="hi"), Ok)

    assert message_of(store, "message:1") == ("message", {"recipients": numbers, "text": "hi"})
