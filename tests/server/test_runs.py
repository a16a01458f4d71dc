"""Runs that somebody watches: nothing changes without a yes to exactly what was shown."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mlx_tinyagent.tools.local import Store, content_hash
from tests.server.live import Live

QUERY = "lunch with Ana tomorrow at 1pm"
PLAN = """\
1. create_calendar_event("lunch with Ana", "tomorrow at 1pm", "", "", [], "", None)
2. join()"""


class Watch:
    """A run's stream of events, read one by one."""

    def __init__(self, live: Live, query: str, conversation: str) -> None:
        body = json.dumps({"query": query, "conversation": conversation}).encode()
        head = (
            f"POST /run HTTP/1.1\r\nhost: {live.host}\r\nauthorization: Bearer {live.token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.opened: socket.socket = live.connect()
        self.opened.sendall(head.encode() + body)
        self._lines = self.opened.makefile("rb")
        self.run = ""

    def until(self, name: str) -> dict[str, Any]:
        """Return the next event of a name."""
        for line in self._lines:
            if line.startswith(b"data: "):
                event: dict[str, Any] = json.loads(line[6:])
                self.run = event.get("run", self.run)
                if event["event"] == name:
                    return event
                assert event["event"] != "error", event
        raise AssertionError(f"the stream ended without {name}")

    def leave(self) -> None:
        """Close the connection."""
        self._lines.close()
        self.opened.close()


@contextmanager
def watching(live: Live, query: str = QUERY, conversation: str = "c") -> Iterator[Watch]:
    """Begin a run and watch it."""
    watch = Watch(live, query, conversation)
    try:
        yield watch
    finally:
        watch.leave()


@pytest.fixture
def planned(start: Callable[..., Live]) -> Live:
    """A server over the test's own store that knows the plan."""
    live = start()
    live.script.plans[QUERY] = PLAN
    return live


def test_a_yes_to_what_was_shown_runs_it(planned: Live, store: Store) -> None:
    """Plan, approval with resolved date and hash, steps, answer; in this order."""
    before = content_hash(store)
    with watching(planned) as watch:
        plan = watch.until("plan")
        shown = watch.until("approval")
        assert content_hash(store) == before
        yes = {"run": watch.run, "digest": shown["digest"], "approve": True}
        assert planned.post("/approve", yes)[0] == 200
        assert watch.until("started")["id"] == 1
        assert watch.until("finished")["status"] == "ok"
        reply = watch.until("reply")

    assert plan["calls"][0]["tool"] == "create_calendar_event"
    name, value = shown["steps"][0]["args"][1]
    assert name == "start date"
    assert value.startswith("tomorrow, Tuesday 3 March 2026, 13:00")
    assert reply["code"] == 0
    assert content_hash(store) != before


@pytest.mark.parametrize("digest", ["0" * 64, "", "ü"])
def test_a_yes_to_something_else_is_no_yes(planned: Live, store: Store, digest: str) -> None:
    """Another hash is refused and changes nothing; the approval stays open."""
    before = content_hash(store)
    with watching(planned) as watch:
        shown = watch.until("approval")
        wrong = {"run": watch.run, "digest": digest, "approve": True}
        assert planned.post("/approve", wrong)[0] == 400
        assert content_hash(store) == before
        no = {"run": watch.run, "digest": shown["digest"], "approve": False}
        assert planned.post("/approve", no)[0] == 200
        with pytest.raises(AssertionError, match="not approved"):
            watch.until("reply")

    assert content_hash(store) == before


@pytest.mark.parametrize("yes", ["true", 1, None, "yes", []])
def test_only_true_is_a_yes(planned: Live, store: Store, yes: object) -> None:
    """Nothing that merely looks like it."""
    before = content_hash(store)
    with watching(planned) as watch:
        shown = watch.until("approval")
        said = {"run": watch.run, "digest": shown["digest"], "approve": yes}
        assert planned.post("/approve", said)[0] == 400

    assert content_hash(store) == before


def test_a_lost_client_is_a_no(planned: Live, store: Store) -> None:
    """The run ends, its approval cannot be given any more, the conversation goes on."""
    before = content_hash(store)
    with watching(planned) as watch:
        shown = watch.until("approval")
    yes = {"run": watch.run, "digest": shown["digest"], "approve": True}
    status = 200
    while status != 400:  # until the server has noticed
        status, _ = planned.post("/approve", {**yes, "approve": False})
        assert status in (200, 400)
    assert planned.post("/approve", yes)[0] == 400

    assert content_hash(store) == before


def test_one_request_at_a_time(planned: Live) -> None:
    """Of a conversation; another conversation is not in the way."""
    with watching(planned) as watch:
        watch.until("approval")
        again = planned.post("/run", {"query": QUERY, "conversation": "c"})
        with watching(planned, conversation="d") as other:
            assert other.until("approval")["digest"]
            assert other.run != watch.run

    assert again[0] == 429


def test_conversations_are_apart(planned: Live) -> None:
    """What one client said is no history of another's."""
    for conversation in ("a", "b", "a"):
        with watching(planned, f"say it again {conversation}", conversation) as watch:
            watch.until("reply")

    told = [[turn.query for turn in request.history] for request in planned.script.requests]
    assert told == [[], [], ["say it again a"]]


def test_a_question_is_asked_and_answered(planned: Live, store: Store) -> None:
    """A date that cannot be read is asked for; the answer is read like any phrase."""
    planned.script.plans["go"] = PLAN.replace("tomorrow at 1pm", "someday")
    with watching(planned, "go") as watch:
        asked = watch.until("question")
        wrong = {"run": watch.run, "number": asked["number"] + 1, "answer": "x"}
        assert planned.post("/answer", wrong)[0] == 400
        said = {"run": watch.run, "number": asked["number"], "answer": "tomorrow at 5pm"}
        assert planned.post("/answer", said)[0] == 200
        shown = watch.until("approval")

    assert "When is" in asked["text"]
    assert "17:00" in json.dumps(shown)


def test_text_that_hides_is_shown(planned: Live) -> None:
    """Control and direction characters of a title are written out, not obeyed."""
    planned.script.plans["go"] = PLAN.replace("lunch with Ana", "\u202egnp.exe \u0007")
    with watching(planned, "go") as watch:
        shown = watch.until("approval")

    assert "\u202e" not in json.dumps(shown, ensure_ascii=False)
    assert "\\u202e" in shown["steps"][0]["args"][0][1]


@pytest.mark.parametrize(
    "body",
    [
        {"query": "x"},
        {"conversation": "c"},
        {"query": "", "conversation": "c"},
        {"query": "x" * 20_000, "conversation": "c"},
        {"query": 5, "conversation": "c"},
        {"query": "\ud800", "conversation": "c"},
    ],
)
def test_what_cannot_be_run_is_named(live: Live, body: dict[str, Any]) -> None:
    """Status 400 before anything is planned."""
    assert live.post("/run", body)[0] == 400
    assert not live.script.requests


def test_an_unknown_run_cannot_be_approved(live: Live) -> None:
    """Nor one that has ended."""
    for path in ("/approve", "/answer"):
        said = {"run": "0" * 32, "digest": "x", "approve": True, "number": 1, "answer": None}
        assert live.post(path, said)[0] == 400
