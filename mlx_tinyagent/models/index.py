"""Finding a wheel on the package indexes that pip is configured with.

Reads pip's settings (files and environment) and the simple index format; no
index of its own is named here, pip's own default serves. Downloads nothing
but index pages.

Source: PEP 503 and PEP 691 (simple repository API), pip's documentation on
configuration (order of files, environment, sections).
"""

from __future__ import annotations

import ast
import base64
import functools
import html.parser
import importlib
import json
import os
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import cast
from urllib.response import addinfourl

from mlx_tinyagent.models.child import run_module

_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.2"
_PAGE_LIMIT = 20_000_000  # bytes of an index page
# what opening or reading a URL can raise
NETWORK_ERRORS = (OSError, HTTPException, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipSettings:
    """What pip is told about where packages come from.

    Args:
        indexes: URLs of simple indexes, the main one first.
        find_links: Folders, files or pages with links, as pip's ``--find-links``.
        certificate: File of certificates to trust besides the usual ones.
    """

    indexes: tuple[str, ...]
    find_links: tuple[str, ...] = ()
    certificate: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelLink:
    """One place where a wheel can be had.

    Args:
        url: http(s) or file URL.
        filename: The wheel's name.
        sha256: Hash stated by the index, if it states one.
    """

    url: str
    filename: str
    sha256: str | None


def pip_settings(environment: Mapping[str, str] | None = None) -> PipSettings:
    """Read pip's configuration.

    Args:
        environment: Instead of the process's own; then no pip is asked.

    Returns:
        The settings that ``pip download`` would follow. Where pip is not
        installed only its environment variables count.
    """
    values = _from_environment(os.environ if environment is None else environment)
    if environment is None:
        values = _from_pip() | values
    main = values.get("index-url") or _default_index()
    indexes = [] if values.get("no-index", "").lower() in ("1", "true", "yes", "on") else [main]
    if indexes:
        indexes += values.get("extra-index-url", "").split()
    return PipSettings(
        indexes=tuple(url for url in indexes if url),
        find_links=tuple(values.get("find-links", "").split()),
        certificate=values.get("cert") or None,
    )


def find_wheel(
    settings: PipSettings, project: str, version: str, *, timeout_s: float
) -> tuple[list[WheelLink], list[str]]:
    """Look for the wheel of a project's version in every configured place.

    Args:
        settings: Where to look.
        project: Name on the index.
        version: Exact version.
        timeout_s: For each page.

    Returns:
        The links found, best first, and one line for each place that failed.
    """
    links: list[WheelLink] = []
    failures: list[str] = []
    for page in _pages(settings, project):
        try:
            found = read_page(settings, page, timeout_s=timeout_s)
        except FileNotFoundError:
            continue  # a local index that does not have the project
        except NETWORK_ERRORS as error:
            if getattr(error, "code", None) != HTTPStatus.NOT_FOUND:
                failures.append(f"{_shown(page)}: {describe(error)}")
            continue
        links += [link for link in found if is_wheel(link.filename, project, version)]
    return links, failures


def read_page(settings: PipSettings, page: str, *, timeout_s: float) -> list[WheelLink]:
    """Return all links of an index page, a page of links, or a folder.

    Args:
        settings: For the certificate.
        page: URL.
        timeout_s: To connect, and between pieces.

    Raises:
        OSError: The place does not answer, or answers with an error.
        ValueError: It answers with something that is no index page.
    """
    if page.startswith("file:"):
        path = Path(urllib.request.url2pathname(urllib.parse.urlsplit(page).path))
        if path.is_dir() and not (path / "index.html").exists():
            return [_link(file.as_uri()) for file in sorted(path.glob("*.whl"))]
        if path.is_dir():
            page = (path / "index.html").as_uri()
        elif path.suffix == ".whl":
            return [_link(page)]
    with open_url(settings, page, headers={"Accept": _ACCEPT}, timeout_s=timeout_s) as reply:
        content = reply.read(_PAGE_LIMIT)
        kind = reply.headers.get("Content-Type", "")
        base = reply.url
    text = content.decode("utf-8", errors="replace")
    return _json_links(text, base) if "json" in kind else _html_links(text, base)


def open_url(
    settings: PipSettings, url: str, *, headers: dict[str, str], timeout_s: float
) -> addinfourl:
    """Open a URL with the configured certificates and the credentials inside the URL.

    Returns:
        A response with ``read``, ``headers``, ``status`` and ``url``.

    Raises:
        OSError: No answer, or an error status.
        ValueError: Not a URL of a kind that is opened.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https", "file"):
        raise ValueError(f"unsupported URL scheme {parts.scheme!r}")
    headers = {"User-Agent": "mlx-tinyagent", **headers}
    if parts.username is not None:
        pair = f"{parts.username}:{parts.password or ''}"
        token = base64.b64encode(urllib.parse.unquote(pair).encode()).decode()
        headers["Authorization"] = f"Basic {token}"
        url = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    request = urllib.request.Request(url, headers=headers)
    context = _tls(settings.certificate) if parts.scheme == "https" else None
    reply = urllib.request.urlopen(request, timeout=timeout_s, context=context)
    return cast(addinfourl, reply)  # http.client.HTTPResponse has the same four


def is_wheel(filename: str, project: str, version: str) -> bool:
    """Whether a file name is that of a wheel of a project's version."""
    stem = re.sub(r"[-_.]+", "_", project).lower()
    parts = filename.lower().removesuffix(".whl").split("-")
    return filename.endswith(".whl") and len(parts) >= 5 and parts[:2] == [stem, version]


def describe(error: BaseException) -> str:
    """Return a network error in a few words."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    reason = getattr(error, "reason", None) or error
    text = getattr(reason, "strerror", None) or str(reason) or type(error).__name__
    return " ".join(str(text).split())[:120]


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    keys = ("index-url", "extra-index-url", "find-links", "no-index", "cert")
    names = {key: f"PIP_{key.upper().replace('-', '_')}" for key in keys}
    return {key: environment[name] for key, name in names.items() if environment.get(name)}


def _from_pip() -> dict[str, str]:
    """Ask pip for its merged configuration; empty where there is no pip."""
    outcome = run_module("pip", ["config", "list"])
    if outcome.code != 0:
        return {}
    sections: dict[str, dict[str, str]] = {"global": {}, "download": {}, ":env:": {}}
    for line in outcome.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.partition(".")
        if section in sections and value[:1] in "'\"":
            sections[section][key] = str(ast.literal_eval(value))
    return sections["global"] | sections["download"] | sections[":env:"]


@functools.cache
def _default_index() -> str:
    """Return the index pip uses when nothing is configured; empty without pip."""
    module = _module("pip._internal.models.index")
    return str(module.PyPI.simple_url) if module else ""


def _pages(settings: PipSettings, project: str) -> Iterator[str]:
    name = re.sub(r"[-_.]+", "-", project).lower()
    for place in settings.find_links:
        is_url = re.match(r"(https?|file):", place)
        yield place if is_url else Path(place).expanduser().absolute().as_uri()
    for index in settings.indexes:
        yield f"{index.rstrip('/')}/{name}/"


def _json_links(text: str, base: str) -> list[WheelLink]:
    files = json.loads(text).get("files", [])
    return [
        WheelLink(
            url=urllib.parse.urljoin(base, file["url"]),
            filename=file["filename"],
            sha256=file.get("hashes", {}).get("sha256"),
        )
        for file in files
    ]


def _html_links(text: str, base: str) -> list[WheelLink]:
    parser = _Anchors()
    parser.feed(text)
    return [_link(urllib.parse.urljoin(base, reference)) for reference in parser.references]


class _Anchors(html.parser.HTMLParser):
    """Collects the targets of a page's links."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.references += [value for name, value in attrs if name == "href" and value]


def _link(url: str) -> WheelLink:
    """Split a link into what it names and the hash in its fragment (PEP 503)."""
    plain, _, fragment = url.partition("#")
    hashed = re.search(r"sha256=([0-9a-f]{64})", fragment)
    filename = urllib.parse.unquote(urllib.parse.urlsplit(plain).path.rpartition("/")[2])
    return WheelLink(url=plain, filename=filename, sha256=hashed[1] if hashed else None)


@functools.cache
def _tls(certificate: str | None) -> ssl.SSLContext:
    """Trust the system's certificates, the configured file and a bundle, where there is one.

    Python from python.org on macOS starts without any certificate; pip
    carries certifi's bundle for such cases.
    """
    context = ssl.create_default_context()
    for name in ("certifi", "pip._vendor.certifi"):
        if bundle := _module(name):
            context.load_verify_locations(bundle.where())
            break
    if certificate and Path(certificate).is_file():
        context.load_verify_locations(certificate)
    return context


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _shown(url: str) -> str:
    """Return a URL without credentials, for messages."""
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
