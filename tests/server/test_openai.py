"""The official client talks to the server as to any other, at a port and at a Unix socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import MODEL, Live
from tests.server.test_chat import PLAN, QUERY, TOOLS

openai = pytest.importorskip("openai", reason="the openai client is not installed")


def client(live: Live, **options: Any) -> Any:
    """Return a client of a server."""
    key = live.token or "none is needed"
    options = {"api_key": key, "max_retries": 0, "timeout": 60, **options}
    return openai.OpenAI(base_url=f"{live.address}/v1", **options)


@pytest.fixture(params=["port", "socket"])
def either(request: pytest.FixtureRequest, start: Callable[..., Live], tmp_path: Path) -> Live:
    """A server at a port, or at a Unix socket."""
    return start(tmp_path if request.param == "socket" else None)


def connected(live: Live) -> Any:
    """Return a client that reaches the server where it is."""
    if live.path is None:
        return client(live)
    httpx = pytest.importorskip("httpx2", reason="the openai client uses another HTTP library")
    transport = httpx.HTTPTransport(uds=str(live.path))
    return client(live, http_client=httpx.Client(transport=transport))


def test_the_usual_loop_of_an_agent_ends(either: Live) -> None:
    """Ask, make the calls, give the results, until there is text: as every agent does it."""
    either.script.plans[QUERY] = PLAN
    answers = {"crm.find-customer": lambda name: f"{name.lower()}@example.com"}
    answers["send_mail"] = lambda to, text, **more: f"Sent to {to}."
    messages: list[Any] = [{"role": "user", "content": QUERY}]
    with connected(either) as asked:
        for _ in range(5):
            done = asked.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
            message = done.choices[0].message
            messages.append(message)
            for call in message.tool_calls or ():
                given = answers[call.function.name](**json.loads(call.function.arguments))
                told = {"role": "tool", "tool_call_id": call.id, "content": given}
                messages.append(told)
            if not message.tool_calls:
                break

    assert done.choices[0].finish_reason == "stop"
    assert message.content == "Sent to ana@example.com.\nSent to bo@example.com."


def test_a_stream_is_put_together(live: Live) -> None:
    """By the client's own helper, with counts."""
    live.script.plans[QUERY] = PLAN
    messages: Any = [{"role": "user", "content": QUERY}]
    with (
        client(live) as asked,
        asked.chat.completions.stream(
            model=MODEL, messages=messages, tools=TOOLS, stream_options={"include_usage": True}
        ) as stream,
    ):
        done = stream.get_final_completion()

    calls = done.choices[0].message.tool_calls
    assert [json.loads(call.function.arguments) for call in calls] == [
        {"name": "Ana"},
        {"name": "Bo"},
    ]
    assert done.usage.prompt_tokens == 100


def test_models_are_listed(live: Live) -> None:
    """And one can be chosen from the list."""
    with client(live) as asked:
        assert [model.id for model in asked.models.list()] == [MODEL]


def test_errors_are_the_clients_own(live: Live) -> None:
    """A wrong token, another model, a request that cannot be used."""
    messages: Any = [{"role": "user", "content": "x"}]
    with client(live, api_key="wrong") as asked, pytest.raises(openai.AuthenticationError):
        asked.models.list()
    with client(live) as asked:
        with pytest.raises(openai.NotFoundError, match="scripted"):
            asked.chat.completions.create(model="gpt", messages=messages)
        with pytest.raises(openai.BadRequestError, match="n = "):
            asked.chat.completions.create(model=MODEL, messages=messages, n=2)
