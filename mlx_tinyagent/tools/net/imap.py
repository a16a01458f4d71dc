"""Mail folders over IMAP (RFC 9051): the newest message, and drafts that are stored once.

A draft is found by its Message-ID, which carries the key. Each operation has
a connection of its own.
"""

from __future__ import annotations

import contextlib
import imaplib
import re
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mlx_tinyagent.tools.net.account import LOOPBACK, Account
from mlx_tinyagent.tools.net.faults import NetError, words
from mlx_tinyagent.tools.results import Failed, Result, Unknown

MAX_MAIL = 4 * 2**20  # bytes of a message that are read
_LIST = re.compile(rb'\((?P<flags>[^)]*)\) (?:"[^"]*"|NIL) (?P<name>.+)')
_UID = re.compile(rb"UID (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A message in a folder.

    Attributes:
        folder: The folder's name as the server writes it.
        uid: Its number there.
    """

    folder: str
    uid: int


class Mailbox:
    """One user's mail folders.

    Args:
        account: Where and who.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        parts = urlsplit(account.imap)
        self._host = parts.hostname or ""
        self._tls = parts.scheme == "imaps"
        self._port = parts.port or (993 if self._tls else 143)

    def newest(self) -> tuple[int, bytes] | None:
        """Return number and bytes of the newest message of the inbox; None if it is empty.

        Raises:
            NetError: The server cannot be asked or refuses.
        """
        with self._session("INBOX", readonly=True) as session:
            uids = _uids(session, "ALL")
            return (uids[-1], _fetch(session, uids[-1])) if uids else None

    def message(self, uid: int) -> bytes | None:
        """Return the bytes of a message of the inbox; None if it is not there.

        Raises:
            NetError: The server cannot be asked or refuses.
        """
        with self._session("INBOX", readonly=True) as session:
            return _fetch(session, uid) if uid in _uids(session, f"UID {uid}") else None

    def find(self, role: str, message_id: str) -> Stored | None:
        """Look for a message by its Message-ID.

        Args:
            role: ``Drafts`` or ``Sent``.
            message_id: Without angle brackets.

        Raises:
            NetError: The server cannot be asked or refuses.
        """
        with self._session(None) as session:
            folder = _folder(session, role)
            return _find(session, folder, message_id)

    def store(self, role: str, message_id: str, content: bytes) -> Stored | Result:
        """Put a message into a folder, unless it is there, and read it back.

        Args:
            role: ``Drafts`` or ``Sent``.
            message_id: Its Message-ID, without angle brackets.
            content: The whole message.

        Returns:
            Where it is, whether this call or an earlier one put it there;
            else ``Failed`` if it is not, ``Unknown`` if that cannot be told.
        """
        try:
            if (known := self.find(role, message_id)) is not None:
                return known
            with self._session(None) as session:
                folder = _folder(session, role)
                flags = r"(\Draft \Seen)" if role == "Drafts" else r"(\Seen)"
                _append(session, folder, flags, content)
        except NetError as error:
            if not error.sent:
                return Failed(reason=error.reason)
            return self._read_back(role, message_id, error.reason)
        return self._read_back(role, message_id, "the server took it and does not have it")

    def delete(self, stored: Stored) -> bool:
        """Delete a message; returns whether it was there.

        Raises:
            NetError: The server cannot be asked or refuses.
        """
        with self._session(stored.folder) as session:
            if stored.uid not in _uids(session, f"UID {stored.uid}"):
                return False
            _said(session.uid("STORE", str(stored.uid), "+FLAGS.SILENT", r"(\Deleted)"), "delete")
            (able, *_) = _said(session.capability(), "say what it can do")  # more than before login
            if b"UIDPLUS" in bytes(able or b"").upper().split():  # EXPUNGE would take others along
                _said(session.uid("EXPUNGE", str(stored.uid)), "delete")
            return True

    def _read_back(self, role: str, message_id: str, reason: str) -> Stored | Result:
        try:
            return self.find(role, message_id) or Unknown(reason=reason)
        except NetError as error:
            return Unknown(reason=f"it could not be read back: {error.reason}")

    @contextlib.contextmanager
    def _session(self, folder: str | None, *, readonly: bool = False) -> Iterator[imaplib.IMAP4]:
        """Log in and select a folder; errors inside become ``NetError``."""
        session = self._connect()
        try:
            self._login(session)
            if folder is not None:
                _said(session.select(_quoted(folder), readonly=readonly), f"open {folder}")
            yield session
        except NetError:
            raise
        except (imaplib.IMAP4.error, OSError, ValueError) as error:
            raise NetError(f"{self._host} did not answer: {words(error)}", sent=True) from error
        finally:
            with contextlib.suppress(imaplib.IMAP4.error, OSError):
                session.logout()

    def _connect(self) -> imaplib.IMAP4:
        try:
            if self._tls:
                context = ssl.create_default_context()
                return imaplib.IMAP4_SSL(
                    self._host, self._port, ssl_context=context, timeout=self._account.timeout_s
                )
            return imaplib.IMAP4(self._host, self._port, timeout=self._account.timeout_s)
        except (imaplib.IMAP4.error, OSError) as error:
            raise NetError(f"{self._host} cannot be reached: {words(error)}", sent=False) from error

    def _login(self, session: imaplib.IMAP4) -> None:
        """Log in, never in the open.

        Raises:
            NetError: There is no TLS, or the server refuses.
        """
        try:
            if not self._tls and self._host not in LOOPBACK:
                session.starttls(ssl.create_default_context())
            session.login(_plain(self._account.user), _plain(self._account.password))
        except (imaplib.IMAP4.error, OSError, ValueError) as error:
            text = words(error)
            raise NetError(
                f"{self._host} does not let {self._account.user} in: {text}", sent=False
            ) from error


def _append(session: imaplib.IMAP4, folder: str, flags: str, content: bytes) -> None:
    # The server sets the date: imaplib accepts None for it.
    _said(session.append(_quoted(folder), flags, None, content), "store the mail")


def _find(session: imaplib.IMAP4, folder: str, message_id: str) -> Stored | None:
    _said(session.select(_quoted(folder), readonly=True), f"open {folder}")
    uids = _uids(session, f'HEADER Message-ID "<{_plain(message_id)}>" UNDELETED')
    return Stored(folder=folder, uid=uids[-1]) if uids else None


def _uids(session: imaplib.IMAP4, query: str) -> list[int]:
    (found, *_) = _said(session.uid("SEARCH", query), "search")
    return sorted(int(number) for number in (found or b"").split())


def _fetch(session: imaplib.IMAP4, uid: int) -> bytes:
    for part in _said(
        session.uid("FETCH", str(uid), f"(BODY.PEEK[]<0.{MAX_MAIL}>)"), "read a mail"
    ):
        if isinstance(part, tuple):
            return bytes(part[1])
    raise NetError("the server gave no mail", sent=False)


def _folder(session: imaplib.IMAP4, role: str) -> str:
    """Return the folder for drafts or sent mail: by its attribute (RFC 6154), else by its name."""
    by_name = ""
    for line in _said(session.list(), "list the folders"):
        found = _LIST.fullmatch(line if isinstance(line, bytes) else b"")
        if found is None:
            continue
        name = found["name"].decode("ascii", "replace").strip('"')
        if f"\\{role}".lower() in found["flags"].decode("ascii", "replace").lower().split():
            return name
        if re.split(r"[./]", name)[-1].lower() == role.lower():
            by_name = by_name or name
    if by_name:
        return by_name
    session.create(_quoted(role))
    return role


def _said(answer: tuple[str, Sequence[Any]], what: str) -> list[Any]:
    """Return the data of an answer.

    Raises:
        NetError: The server said no.
    """
    status, data = answer
    if status != "OK":
        said = data[0].decode("utf-8", "replace") if data and isinstance(data[0], bytes) else status
        raise NetError(f"the mail server would not {what}: {said[:200]}", sent=False)
    return list(data)


def _quoted(name: str) -> str:
    return '"' + _plain(name).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _plain(text: str) -> str:
    """Return text that cannot end a command.

    Raises:
        ValueError: It could.
    """
    if any(char in text for char in "\r\n\0"):
        raise ValueError("a line break where none may be")
    return text
