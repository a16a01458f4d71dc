"""What is checked of a request before a byte of its body is read.

A browser on the same machine runs pages of strangers, and such a page can send
requests to any local port. So the name the request was sent to, the page it
comes from, the token, the method and the type are checked first; there are no
CORS headers, so no foreign page can read an answer either.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

MAX_BODY_BYTES = 1 << 20
MAX_HEAD_BYTES = 1 << 15
BODY_SECONDS = 10.0  # for the whole body to arrive

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may ask.

    Attributes:
        hosts: What ``Host`` may be.
        origins: What ``Origin`` may be where there is one.
        token: What ``Authorization`` must carry; None where the socket's permissions decide.
        body_seconds: How long a body may take to arrive.
    """

    hosts: frozenset[str]
    origins: frozenset[str] = frozenset()
    token: str | None = None
    body_seconds: float = BODY_SECONDS

    @classmethod
    def loopback(cls, port: int, token: str) -> Access:
        """Return who may ask at a port of this machine."""
        names = {f"127.0.0.1:{port}", f"localhost:{port}"}
        return cls(
            hosts=frozenset(names),
            origins=frozenset(f"http://{name}" for name in names),
            token=token,
        )

    @classmethod
    def socket(cls) -> Access:
        """Return who may ask at a Unix socket: no browser can, and its mode keeps others out."""
        return cls(hosts=frozenset({"localhost"}))


class Refusal(Exception):  # noqa: N818 - an answer, not an error of ours
    """A request that is answered with an error.

    Args:
        status: The HTTP status.
        reason: What was found and what would do.
        code: A short stable word.
        headers: Further headers.
    """

    def __init__(
        self, status: int, reason: str, *, code: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status, self.reason, self.code = status, reason, code
        self.headers = dict(headers or {})
        super().__init__(reason)


def error_body(reason: str, *, status: int, code: str) -> dict[str, Any]:
    """Return an error as OpenAI's clients read it."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": reason, "type": kind, "param": None, "code": code}}


class Guard:
    """Checks every request, then hands it on with its whole body.

    Args:
        app: Who answers.
        access: Who may ask.
        methods: The allowed method of every path.
        public: Paths that are constant files of this package: no token is needed to read them.
    """

    def __init__(
        self, app: App, access: Access, methods: Callable[[str], str | None], public: Iterable[str]
    ) -> None:
        self._app = app
        self._access = access
        self._methods = methods
        self._public = frozenset(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no WebSockets: uvicorn closes the connection
        guarded = _with_headers(send)
        try:
            self._check(scope)
            body = await self._body(scope, receive) if scope["method"] == "POST" else b""
        except Refusal as refusal:
            await refuse(refusal, guarded, close=True)
            return
        await self._app(scope, _replay(body, receive), guarded)

    def _check(self, scope: Scope) -> None:
        """Check all that is known before the body.

        Raises:
            Refusal: It is not let in.
        """
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        lengths = [len(name) + len(value) for name, value in headers]
        if sum(lengths) + len(scope["raw_path"]) + len(scope["query_string"]) > MAX_HEAD_BYTES:
            raise Refusal(
                431, f"the head has more than {MAX_HEAD_BYTES:,} bytes", code="head_too_large"
            )
        self._check_host(_all(headers, b"host"))
        self._check_origin(_all(headers, b"origin"), _all(headers, b"sec-fetch-site"))
        path = scope["path"]
        if not (path in self._public and scope["method"] == "GET"):
            self._check_token(_all(headers, b"authorization"))
        # Exact paths only: nothing here is looked up by name, so nothing needs escapes.
        allowed = self._methods(path) if scope["raw_path"] == path.encode() else None
        if allowed is None:
            raise Refusal(404, "there is nothing at this path", code="not_found")
        if scope["method"] != allowed:
            raise Refusal(
                405,
                f"{scope['method']} cannot be used here, {allowed} can",
                code="method_not_allowed",
                headers={"allow": allowed},
            )
        if allowed == "POST":
            _check_body_headers(headers)

    def _check_host(self, found: list[str]) -> None:
        if len(found) != 1 or found[0].lower() not in self._access.hosts:
            raise Refusal(
                421,
                f"this server is not {', '.join(found)[:80] or 'without a name'}; it answers to "
                f"{' and '.join(sorted(self._access.hosts))}",
                code="wrong_host",
            )

    def _check_origin(self, origins: list[str], sites: list[str]) -> None:
        foreign = [origin for origin in origins if origin not in self._access.origins]
        if foreign or len(origins) > 1 or any(s not in ("same-origin", "none") for s in sites):
            raise Refusal(403, "requests of other web pages are not answered", code="wrong_origin")

    def _check_token(self, found: list[str]) -> None:
        if self._access.token is None:
            return
        wanted = f"Bearer {self._access.token}".encode()
        given = found[0].encode() if len(found) == 1 else b""
        if not secrets.compare_digest(given, wanted):
            raise Refusal(
                401,
                "the token is missing or wrong; send the one of this start as "
                "'Authorization: Bearer ...' (an OpenAI client's api_key)",
                code="wrong_token",
                headers={"www-authenticate": "Bearer"},
            )

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Read the body as far as it may be long, and no longer than it may take.

        Raises:
            Refusal: It is too long, too slow, or the client is gone.
        """
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(self._access.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "the body was cut off", code="cut_off")
                    chunks.append(message.get("body", b""))
                    if sum(map(len, chunks)) > MAX_BODY_BYTES:
                        raise _too_large()
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError:
            raise Refusal(
                408,
                f"the body took more than {self._access.body_seconds:g} s",
                code="too_slow",
            ) from None


def _check_body_headers(headers: list[tuple[bytes, bytes]]) -> None:
    """Check type and length that are announced for a body."""
    types = _all(headers, b"content-type")
    kind, _, parameters = (types[0] if len(types) == 1 else "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if kind.strip().lower() != "application/json" or charset not in ("", "utf-8"):
        raise Refusal(
            415,
            f"the body's type is {', '.join(types)[:60] or 'not said'}; "
            "send 'Content-Type: application/json'",
            code="wrong_type",
        )
    if _all(headers, b"content-encoding"):
        raise Refusal(415, "packed bodies are not read", code="wrong_encoding")
    lengths = _all(headers, b"content-length")
    if lengths and _all(headers, b"transfer-encoding"):
        raise Refusal(400, "a body has one length, not two", code="two_lengths")
    if any(not length.isascii() or not length.isdigit() for length in lengths):
        raise Refusal(400, "content-length is no number", code="wrong_length")
    if any(len(length) > 12 or int(length) > MAX_BODY_BYTES for length in lengths):
        raise _too_large()


def _too_large() -> Refusal:
    return Refusal(413, f"the body has more than {MAX_BODY_BYTES:,} bytes", code="too_large")


async def refuse(refusal: Refusal, send: Send, *, close: bool = False) -> None:
    """Send an error; with ``close`` the connection ends, since its body was not read."""
    body = json.dumps(error_body(refusal.reason, status=refusal.status, code=refusal.code)).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *((name.encode(), value.encode()) for name, value in refusal.headers.items()),
        *([(b"connection", b"close")] if close else []),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _all(headers: list[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """Return all values of a header."""
    return [value.decode("latin-1") for key, value in headers if key == name]


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body once, then waits for the client to leave."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay


def _with_headers(send: Send) -> Send:
    """Return a ``send`` that adds what every answer carries."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name for name, _ in message.get("headers", [])}
            extra = [pair for pair in SAFE_HEADERS if pair[0] not in own]
            message = {**message, "headers": [*message.get("headers", []), *extra]}
        await send(message)

    return sending
