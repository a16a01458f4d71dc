"""CalDAV and CardDAV (RFC 4791, RFC 6352): finding collections, and writing a resource once.

A new resource is written with ``If-None-Match: *`` to an address made from its
key: the same key twice is one resource, whoever was cut off in between.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, unquote, urljoin, urlsplit
from xml.sax.saxutils import escape

from mlx_tinyagent.tools.net.faults import NetError
from mlx_tinyagent.tools.net.http import Answer, Http
from mlx_tinyagent.tools.results import Failed, Result, Unknown

Service = Literal["caldav", "carddav"]
_NAMES = {
    "d": "DAV:",
    "c": "urn:ietf:params:xml:ns:caldav",
    "card": "urn:ietf:params:xml:ns:carddav",
}
_HOME = {"caldav": "c:calendar-home-set", "carddav": "card:addressbook-home-set"}
_KIND = {"caldav": "c:calendar", "carddav": "card:addressbook"}
_REFUSALS = {
    401: "does not accept the user name and password",
    403: "does not allow it",
    404: "does not know the address",
    405: "does not allow it there",
    409: "says that something is in the way",
    412: "says that it was changed in between",
    413: "says that it is too large",
    423: "says that it is locked; try again later",
    429: "wants to be asked less often; try again later",
    503: "is out of service; try again later",
    507: "has no space left",
}
_XML = '<?xml version="1.0" encoding="utf-8"?>'
_SPACES = " ".join(f'xmlns{":" + p if p != "d" else ""}="{u}"' for p, u in _NAMES.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A calendar, task list or address book.

    Attributes:
        url: Ends in a slash.
        name: As shown to people.
        holds: ``VEVENT``, ``VTODO``; empty for address books.
    """

    url: str
    name: str
    holds: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One stored event, task or card.

    Attributes:
        url: Where it is.
        etag: Its version.
        text: What is stored.
    """

    url: str
    etag: str
    text: str


class Dav:
    """One service of one server.

    Args:
        http: Who asks.
        url: Any URL of the server.
        service: Calendars or contacts.
    """

    def __init__(self, http: Http, url: str, service: Service) -> None:
        self._http, self._url, self._service = http, url, service
        self._home = ""

    def collections(self) -> list[Collection]:
        """Return the user's collections, in the server's order.

        Raises:
            NetError: The server cannot be asked or refuses.
        """
        properties = "<resourcetype/><displayname/><c:supported-calendar-component-set/>"
        found = []
        for url, props in self._propfind(self.home(), properties, depth="1"):
            kind = props.find(f"d:resourcetype/{_KIND[self._service]}", _NAMES)
            if kind is None:
                continue
            parts = props.findall("c:supported-calendar-component-set/c:comp", _NAMES)
            holds = frozenset(part.get("name", "").upper() for part in parts)
            last = unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2])
            name = (props.findtext("d:displayname", "", _NAMES) or last).strip()
            if self._service == "caldav":
                holds = holds or frozenset({"VEVENT", "VTODO"})  # RFC 4791, section 5.2.3
            found.append(Collection(url=_folder(url), name=name, holds=holds))
        return found

    def home(self) -> str:
        """Return the URL that holds the user's collections.

        Raises:
            NetError: The server cannot be asked, refuses, or is no such server.
        """
        if not self._home:
            well_known = urljoin(self._url, f"/.well-known/{self._service}")
            for start in (self._url, well_known):
                principal = self._link(start, "d:current-user-principal")
                home = self._link(principal or start, _HOME[self._service])
                if home:
                    self._home = _folder(home)
                    break
            else:
                what = "calendars" if self._service == "caldav" else "contacts"
                raise NetError(f"{self._url} names no place for {what}", sent=False)
        return self._home

    def cards(self, collection: Collection) -> list[Resource]:
        """Return all cards of an address book.

        Raises:
            NetError: The server cannot be asked or refuses.
        """
        query = "<prop><getetag/><card:address-data/></prop>"
        body = f"{_XML}<card:addressbook-query {_SPACES}>{query}</card:addressbook-query>"
        return self._report(collection, body, "card:address-data")

    def get(self, url: str) -> Resource | None:
        """Return a resource; None if there is none.

        Raises:
            NetError: The server cannot be asked or refuses.
        """
        answer = self._http.request("GET", url)
        if answer.status in (404, 410):
            return None
        _check(answer)
        text = answer.body.decode("utf-8", "replace")
        return Resource(url=url, etag=answer.headers.get("etag", ""), text=text)

    def create(
        self, collection: Collection, name: str, text: str, same: Callable[[str], bool]
    ) -> Resource | Result:
        """Write a resource that is not there yet, and read it back.

        Args:
            collection: Where.
            name: Last part of its address, made from the key.
            text: What to store.
            same: Whether what is stored is what was meant.

        Returns:
            The resource as stored, whether this call or an earlier one wrote
            it; else ``Failed`` if nothing was stored, ``Unknown`` if that
            cannot be told.
        """
        url = urljoin(collection.url, quote(name))
        kind = "text/vcard" if self._service == "carddav" else "text/calendar"
        headers = {"If-None-Match": "*", "Content-Type": f"{kind}; charset=utf-8"}
        trouble: Result | None = None
        try:
            answer = self._http.request("PUT", url, headers=headers, body=text.encode())
            if answer.status >= 400 and answer.status != 412:
                trouble = Failed(reason=_refusal(answer))
                if answer.status < 500 or answer.status in (503, 507):
                    return trouble
        except NetError as error:
            if not error.sent:
                return error.result
            trouble = error.result
        try:
            stored = self.get(url)
        except NetError as error:
            return Unknown(reason=f"it could not be read back: {error.reason}")
        if stored is None:
            return trouble or Unknown(reason="the server took it and does not have it")
        if not same(stored.text):
            return Unknown(reason="the server holds something else under this key; look at it")
        return stored

    def delete(self, url: str) -> bool:
        """Delete a resource; returns whether it was there.

        Raises:
            NetError: The server cannot be asked or refuses.
        """
        answer = self._http.request("DELETE", url)
        if answer.status in (404, 410):
            return False
        _check(answer)
        return True

    def make_list(self, name: str, slug: str) -> Collection:
        """Make a list for tasks, or find the one that an earlier call made.

        Args:
            name: As shown to people.
            slug: Last part of its address, made from the name.

        Raises:
            NetError: The server cannot be asked or refuses.
        """
        url = _folder(urljoin(self.home(), quote(slug)))
        body = (
            f"{_XML}<c:mkcalendar {_SPACES}><set><prop><displayname>{_text(name)}</displayname>"
            '<c:supported-calendar-component-set><c:comp name="VTODO"/>'
            "</c:supported-calendar-component-set></prop></set></c:mkcalendar>"
        )
        answer = self._http.request("MKCALENDAR", url, headers=_SENDS_XML, body=body.encode())
        if answer.status not in (405, 409):  # it is there already
            _check(answer)
        return Collection(url=url, name=name, holds=frozenset({"VTODO"}))

    def _link(self, url: str, name: str) -> str:
        """Return the URL in a property that names another one; empty if there is none."""
        for _, props in self._propfind(url, _tag(name), depth="0", missing_ok=True):
            href = props.findtext(f"{name}/d:href", "", _NAMES).strip()
            if href:
                return urljoin(url, href)
        return ""

    def _propfind(
        self, url: str, properties: str, *, depth: str, missing_ok: bool = False
    ) -> Iterator[tuple[str, ET.Element]]:
        body = f"{_XML}<propfind {_SPACES}><prop>{properties}</prop></propfind>"
        headers = {**_SENDS_XML, "Depth": depth}
        answer = self._http.request("PROPFIND", url, headers=headers, body=body.encode())
        if missing_ok and answer.status in (403, 404, 405):
            return
        _check(answer)
        yield from _responses(answer)

    def _report(self, collection: Collection, body: str, data: str) -> list[Resource]:
        headers = {**_SENDS_XML, "Depth": "1"}
        answer = self._http.request("REPORT", collection.url, headers=headers, body=body.encode())
        _check(answer)
        return [
            Resource(
                url=url,
                etag=props.findtext("d:getetag", "", _NAMES),
                text=props.findtext(data, "", _NAMES),
            )
            for url, props in _responses(answer)
        ]


_SENDS_XML = {"Content-Type": "application/xml; charset=utf-8"}


def _responses(answer: Answer) -> Iterator[tuple[str, ET.Element]]:
    """Yield URL and found properties of each response.

    Raises:
        NetError: The answer is no multistatus.
    """
    try:
        root = ET.fromstring(answer.body)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise NetError(f"{answer.url} does not answer as a DAV server does", sent=False) from error
    if root.tag != "{DAV:}multistatus":
        raise NetError(f"{answer.url} does not answer as a DAV server does", sent=False)
    for response in root.findall("d:response", _NAMES):
        href = response.findtext("d:href", "", _NAMES).strip()
        for propstat in response.findall("d:propstat", _NAMES):
            props = propstat.find("d:prop", _NAMES)
            if props is not None and " 200" in propstat.findtext("d:status", " 200", _NAMES):
                yield urljoin(answer.url, href), props


def _check(answer: Answer) -> None:
    """Raise if a server refuses.

    Raises:
        NetError: It does.
    """
    if not 200 <= answer.status < 300:
        raise NetError(_refusal(answer), sent=False)


def _refusal(answer: Answer) -> str:
    host = urlsplit(answer.url).hostname
    return f"{host} {_REFUSALS.get(answer.status, f'answers with status {answer.status}')}"


def _tag(name: str) -> str:
    prefix, _, local = name.partition(":")
    return f"<{local}/>" if prefix == "d" else f"<{name}/>"


def _folder(url: str) -> str:
    return url if url.endswith("/") else f"{url}/"


def _text(text: str) -> str:
    """Write text into XML, without the characters that XML cannot hold."""
    return escape("".join(c for c in text if c.isprintable()))
