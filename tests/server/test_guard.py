"""Hostile requests: each is refused before its body is read."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable

import pytest

from tests.server.live import Live, parse_answer, read_all

BODY = {"query": "hello"}


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example:{port}",
        "0.0.0.0:{port}",
        "[::1]:{port}",
        "127.0.0.1",
        "localhost:1",
        "localhost:{port}@evil.example",
        "169.254.169.254",
        "",
    ],
)
def test_another_name_is_misdirected(live: Live, host: str) -> None:
    """A page that made its own name point here (DNS rebinding) gets 421, with token or without."""
    name = host.format(port=live.port)

    status, _, body = live.request("POST", "/plan", BODY, host=name)

    assert status == 421
    assert json.loads(body)["error"]["code"] == "wrong_host"
    assert not live.script.requests


def test_a_request_needs_one_host(live: Live) -> None:
    """None at all, none in HTTP/1.0, or two are refused."""
    token = f"authorization: Bearer {live.token}\r\n"
    none = live.send(f"GET /health HTTP/1.1\r\n{token}\r\n".encode())
    old = live.send(f"GET /health HTTP/1.0\r\n{token}\r\n".encode())
    two = f"host: {live.host}\r\nhost: evil.example\r\n"
    both = live.send(f"GET /health HTTP/1.1\r\n{two}{token}\r\n".encode())

    assert parse_answer(none)[0] == 400
    assert parse_answer(old)[0] == 421
    assert parse_answer(both)[0] in (400, 421)


@pytest.mark.parametrize("name", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}"])
def test_its_own_names_are_answered(live: Live, name: str) -> None:
    """The address and the usual name of this machine."""
    assert live.request("GET", "/health", host=name.format(port=live.port))[0] == 200


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1", "file://", ""],
)
def test_another_pages_requests_are_refused(live: Live, origin: str) -> None:
    """Any origin but the server's own gets 403, although it has the token."""
    status, headers, _ = live.request("POST", "/plan", BODY, origin=origin)

    assert status == 403
    assert not [name for name in headers if name.startswith("access-control")]
    assert not live.script.requests


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_browser_says_where_a_request_comes_from(live: Live, site: str) -> None:
    """What a browser marks as another site's is refused even without an origin."""
    assert live.request("GET", "/health", sec_fetch_site=site)[0] == 403


def test_a_preflight_gets_no_permission(live: Live) -> None:
    """So a browser never sends what would need one."""
    status, headers, _ = live.request(
        "OPTIONS",
        "/plan",
        origin="https://evil.example",
        access_control_request_method="POST",
        access_control_request_headers="authorization",
    )

    assert status == 403
    assert not [name for name in headers if name.startswith("access-control")]


def test_its_own_page_may_ask(live: Live) -> None:
    """The page's requests carry its origin."""
    status, _, _ = live.request("POST", "/plan", BODY, origin=f"http://{live.host}")

    assert status == 200


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "text/plain;application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        "application/jsonp",
        None,
    ],
)
def test_only_json_is_read(live: Live, kind: str | None) -> None:
    """What a form of a strange page can send without asking is refused by its type."""
    status, _, _ = live.request("POST", "/plan", BODY, content_type=kind)

    assert status == 415
    assert not live.script.requests


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer " + "t" * 42,
        "Bearer " + "t" * 44,
        "bearer " + "t" * 43,
        "Basic " + "t" * 43,
        "Bearer tést",
    ],
)
@pytest.mark.parametrize("path", ["/health", "/v1/models", "/plan", "/nothing"])
def test_every_path_wants_the_token(live: Live, given: str | None, path: str) -> None:
    """A missing, a wrong and the token of an earlier start get 401, whatever is asked for."""
    status, headers, _ = live.request("GET", path, authorization=given)

    assert status == 401
    assert headers["www-authenticate"] == "Bearer"


def test_two_tokens_are_none(live: Live) -> None:
    """One right, one wrong: which of them counts is nobody's guess."""
    both = f"authorization: Bearer {live.token}\r\nauthorization: Bearer x\r\n"
    raw = f"GET /health HTTP/1.1\r\nhost: {live.host}\r\n{both}\r\n"

    assert parse_answer(live.send(raw.encode()))[0] == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/plan"),
        ("GET", "/v1/chat/completions"),
        ("GET", "/run"),
        ("GET", "/approve?run=1&approve=true"),
        ("HEAD", "/plan"),
        ("PUT", "/plan"),
        ("DELETE", "/v1/models"),
        ("TRACE", "/health"),
    ],
)
def test_reading_never_acts(live: Live, method: str, path: str) -> None:
    """What plans or runs is POST alone; other methods say which one can be used."""
    status, headers, _ = live.request(method, path)

    assert status == 405
    assert headers["allow"] in ("GET", "POST")
    assert not live.script.requests


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/page.js/../../listen.py",
        "/%2e%2e/guard.py",
        "/page%2ejs",
        "//v1/models",
        "/v1//models",
        "/v1/models/",
        "/v1/../v1/models",
        "/v1/models%00",
        "/V1/MODELS",
        "/page/index.html",
        "/index.html",
        "v1/models",
        "http://evil.example/v1/models",
        "/docs",
        "/openapi.json",
        "*",
    ],
)
def test_only_exact_paths_lead_anywhere(live: Live, path: str) -> None:
    """Nothing is looked up by name: dots, escapes, doubled and missing slashes find nothing."""
    status, _, body = live.request("GET", path)

    assert status in (400, 404)
    assert b"mlx" not in body


def test_an_announced_giant_is_refused_unread(live: Live) -> None:
    """Five MiB: the answer comes although no byte of them was sent."""
    status, _, body = live.request("POST", "/plan", b"", content_length=str(5 << 20))

    assert status == 413
    assert json.loads(body)["error"]["code"] == "too_large"


def test_an_unannounced_giant_is_cut(live: Live) -> None:
    """Sent in chunks, it is refused as soon as it is over the limit."""
    head = (
        f"POST /plan HTTP/1.1\r\nhost: {live.host}\r\nauthorization: Bearer {live.token}\r\n"
        "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with live.connect() as opened:
        opened.sendall(head.encode())
        for _ in range(17):  # just over a MiB
            opened.sendall(chunk)
        answer = opened.recv(4096)

    assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "lines",
    [
        "content-length: 17\r\ntransfer-encoding: chunked\r\n",
        "content-length: 17\r\ncontent-length: 18\r\n",
        "content-length: -1\r\n",
        "content-length: 0x11\r\n",
        "content-length: 99999999999999999999\r\n",
        "content-length: 17\r\ncontent-encoding: gzip\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "content-length: 17\r\nexpect: 200-maybe\r\nbad header\r\n",
    ],
)
def test_unclear_lengths_are_refused(live: Live, lines: str) -> None:
    """Two lengths, none that is a number, or a packed body."""
    head = (
        f"POST /plan HTTP/1.1\r\nhost: {live.host}\r\nauthorization: Bearer {live.token}\r\n"
        f"content-type: application/json\r\nconnection: close\r\n{lines}\r\n"
    )

    status, _, _ = parse_answer(live.send(head.encode() + b'{"query":"hello"}'))

    assert 400 <= status < 502
    assert not live.script.requests


def test_a_giant_head_is_refused(live: Live) -> None:
    """A header of a hundred thousand bytes ends the connection."""
    assert live.request("GET", "/health", x_long="x" * 100_000)[0] == 431


def test_a_slow_head_ends_the_connection(start: Callable[..., Live]) -> None:
    """Slow loris: half a head, and nothing more; others are answered meanwhile."""
    live = start(header_seconds=0.3)
    with live.connect() as slow:
        slow.sendall(b"GET /health HTTP/1.1\r\nhost: ")
        assert live.request("GET", "/health")[0] == 200
        try:
            rest = read_all(slow)
        except ConnectionResetError:
            rest = b""

    assert rest == b""


def test_a_silent_connection_ends(start: Callable[..., Live]) -> None:
    """Also one that never says anything."""
    live = start(header_seconds=0.2)
    with live.connect() as silent, contextlib.suppress(ConnectionResetError):
        assert silent.recv(1) == b""


def test_a_slow_body_is_given_up(start: Callable[..., Live]) -> None:
    """Its head is whole, its body does not come."""
    live = start(body_seconds=0.3)

    status, _, _ = live.request("POST", "/plan", b'{"query"', content_length="1000")

    assert status == 408
    assert not live.script.requests


def test_a_body_that_is_cut_off_is_not_read(live: Live) -> None:
    """The client leaves in the middle of it: nothing is planned."""
    with live.connect() as opened:
        opened.sendall(
            f"POST /plan HTTP/1.1\r\nhost: {live.host}\r\nauthorization: Bearer {live.token}\r\n"
            'content-type: application/json\r\ncontent-length: 99\r\n\r\n{"query":"hello"}'.encode()
        )

    assert live.request("GET", "/health")[0] == 200
    assert not live.script.requests


def test_pipelined_requests_keep_their_order(live: Live) -> None:
    """Two at once on one connection: each gets its own answer; a foreign second one is refused."""
    live.script.plans["first"] = '1. ask("First?")\n2. join()'
    head = f"host: {live.host}\r\nauthorization: Bearer {live.token}\r\n"

    def post(query: str) -> str:
        body = json.dumps({"query": query})
        return (
            f"POST /plan HTTP/1.1\r\n{head}content-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}"
        )

    stolen = "GET /v1/models HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n"
    raw = live.send((post("first") + post("second") + stolen).encode())

    first, second, third = raw.split(b"HTTP/1.1 ")[1:]
    assert b'"ask": "First?"' in first
    assert b'"ask": null' in second
    assert third.startswith(b"421")


def test_requests_at_once_are_not_mixed(live: Live) -> None:
    """Eight clients, eight answers, each its own."""
    names = [f"q{number}" for number in range(8)]
    live.script.plans |= {name: f'1. ask("{name}?")\n2. join()' for name in names}
    asked: dict[str, str] = {}

    def ask(name: str) -> None:
        asked[name] = live.post("/plan", {"query": name})[1]["ask"]

    threads = [threading.Thread(target=ask, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert asked == {name: f"{name}?" for name in names}


def test_every_answer_carries_the_safe_headers(live: Live) -> None:
    """Errors too; none names the software, none lets another page read."""
    for path in ("/health", "/nothing", "/"):
        _, headers, _ = live.request("GET", path)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers


def test_a_websocket_is_not_opened(live: Live) -> None:
    """An upgrade is ignored or refused, never switched to."""
    status, _, _ = live.request(
        "GET",
        "/health",
        connection="Upgrade, close",
        upgrade="websocket",
        sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ==",
        sec_websocket_version="13",
    )

    assert status in (200, 400, 403)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"query": NaN}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"query": 5}',
        b'{"query": ""}',
        b'{"query": "\\ud800"}',
        b'{"query": "x", "now": "yesterday"}',
        b'{"query": "x", "now": 5}',
        b'{"query": "x", "tools": "all"}',
        b'{"query": "x", "tools": ["no_such_tool"]}',
        b'{"query": "x", "history": [5]}',
        b'{"query": "' + b"x" * 20_000 + b'"}',
    ],
)
def test_a_body_that_cannot_be_used_is_named(live: Live, body: bytes) -> None:
    """One readable line, status 400, and nothing is planned."""
    status, _, answer = live.request("POST", "/plan", body)

    error = json.loads(answer)["error"]
    assert status == 400
    assert error["message"]
    assert "\n" not in error["message"]
    assert "Traceback" not in error["message"]
