"""One HTTP request to a DAV server, with the two facts that matter: what it said, or if it heard.

Knows no DAV. Built on ``http.client``, whose steps (connect, send, read) tell
whether a request may have reached the server when something breaks.
"""

from __future__ import annotations

import base64
import http.client
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from mlx_tinyagent.tools.net.account import LOOPBACK
from mlx_tinyagent.tools.net.faults import NetError, words

MAX_ANSWER = 32 * 2**20  # bytes
MAX_REDIRECTS = 5
_REGISTRY = re.compile(r"(ac|co|com|edu|gov|ne|net|or|org)\.[a-z]{2}")  # nobody's domain: co.uk


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server said.

    Attributes:
        url: Where the answer came from, redirects followed.
        status: HTTP status.
        headers: Names in lower case.
        body: Bytes, all of them.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class Http:
    """Requests of one user; each has a connection of its own.

    Args:
        user: Name to log in with.
        password: Sent to the configured site alone.
        timeout_s: How long the server may keep silent, in seconds.
        site: URL of the configured server.
    """

    def __init__(self, user: str, password: str, *, timeout_s: float, site: str) -> None:
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._authorization = f"Basic {pair}"
        self._timeout_s = timeout_s
        self._site = site

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Make one request and follow redirects within the site.

        Raises:
            NetError: There is no answer, or it is too large or leads elsewhere.
        """
        for _ in range(MAX_REDIRECTS + 1):
            self._check(url)
            answer = self._once(method, url, headers or {}, body)
            target = answer.headers.get("location", "")
            if answer.status not in (301, 302, 307, 308) or not target:
                return answer
            url = urljoin(url, target)
        raise NetError(f"{_host(url)} answers with one redirect after the other", sent=False)

    def _check(self, url: str) -> None:
        """Refuse to carry the password to another site."""
        if not same_site(self._site, url):
            raise NetError(f"{_host(self._site)} leads to another site: {_host(url)}", sent=False)

    def _once(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        parts = urlsplit(url)
        connection = self._connection(url)
        target = parts.path or "/"
        target += f"?{parts.query}" if parts.query else ""
        every = {"Authorization": self._authorization, "User-Agent": "mlx-tinyagent", **headers}
        try:
            connection.connect()
        except (OSError, ValueError) as error:
            raise NetError(f"{_host(url)} cannot be reached: {words(error)}", sent=False) from error
        try:
            connection.request(method, target, body=body or None, headers=every)
            response = connection.getresponse()
            content = response.read(MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NetError(f"{_host(url)} did not answer: {words(error)}", sent=True) from error
        finally:
            connection.close()
        if len(content) > MAX_ANSWER:
            raise NetError(f"{_host(url)} answers with more than {MAX_ANSWER >> 20} MiB", sent=True)
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(url=url, status=response.status, headers=names, body=content)

    def _connection(self, url: str) -> http.client.HTTPConnection:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                host, parts.port, timeout=self._timeout_s, context=context
            )
        return http.client.HTTPConnection(host, parts.port, timeout=self._timeout_s)


def same_site(site: str, url: str) -> bool:
    """Whether a URL belongs to the configured server: large providers spread over many hosts.

    The scheme must not become weaker, and host names must end alike
    (``p42-caldav.icloud.com`` and ``caldav.icloud.com``).
    """
    ours, theirs = urlsplit(site), urlsplit(url)
    if ours.hostname in LOOPBACK:
        return (theirs.scheme, theirs.hostname, theirs.port) == (
            ours.scheme,
            ours.hostname,
            ours.port,
        )
    if theirs.scheme != "https" or theirs.port not in (None, 443, ours.port):
        return False
    own, other = ours.hostname or "", theirs.hostname or ""
    _, _, domain = own.partition(".")
    shared = "." in domain and not _REGISTRY.fullmatch(domain)
    return own == other or (shared and (other == domain or other.endswith(f".{domain}")))


def _host(url: str) -> str:
    return urlsplit(url).hostname or url[:80]
