"""Mails as ``.eml`` files and Maildirs (RFC 5322; https://cr.yp.to/proto/maildir.html).

The standard library's parser lets many kinds of errors through on damaged
mail; here they all end as ``InterchangeError``.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from datetime import datetime, tzinfo
from email import message_from_bytes, policy
from email.headerregistry import BaseHeader, HeaderRegistry, UnstructuredHeader
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses, parseaddr, parsedate_to_datetime
from typing import Any

from mlx_tinyagent.tools.interchange.lines import made_uid
from mlx_tinyagent.tools.interchange.records import Content, Draft, InterchangeError, Letter

MAX_BODY = 400_000  # characters
UNSENT = "X-Unsent"  # what mail programs mark a draft's file with
_MARKUP = re.compile(r"(?is)<(script|style|head)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>")
_ID = re.compile(r"<[!-;=?-~]{1,250}>")  # a Message-ID: printable ASCII without angle brackets
_LONGEST_THREAD = 20  # Message-IDs; of more the first and the last ones are kept
_BLOCK = re.compile(r"(?i)<(br|/p|/div|/tr|/li|/h[1-6])\b[^>]*>")


def read_letter(content: bytes, zone: tzinfo | None = None) -> Content:
    """Read one mail.

    Args:
        content: Its bytes.
        zone: What local time is; None for the machine's zone.

    Raises:
        InterchangeError: It cannot be read, or says neither who nor what.
    """
    try:
        message = message_from_bytes(content, policy=policy.default)
        if header(message, UNSENT) == "1":
            return Content(records=(_draft(message, content),))
        return Content(records=(_letter(message, content, zone),))
    except InterchangeError:
        raise
    except Exception as error:  # LookupError, AttributeError, OverflowError ... on damaged mail
        raise InterchangeError(f"not a readable mail ({type(error).__name__})") from error


def write_letter(letter: Letter, zone: tzinfo | None = None) -> bytes:
    """Write one mail: byte for byte as it was read, or a new one.

    Args:
        letter: The mail.
        zone: What local time is; None for the machine's zone.
    """
    if letter.text:
        return letter.text.encode("latin-1")
    sender = f"{_one_line(letter.sender_name)} <{letter.sender}>".strip()
    return composed(
        headers={
            "From": sender if letter.sender_name else letter.sender,
            "Subject": letter.subject,
            "Date": format_datetime(datetime.fromisoformat(letter.received).astimezone(zone)),
            "Message-ID": f"<{letter.uid}>",
        },
        body=letter.body,
    )


def write_draft(draft: Draft, files: Sequence[tuple[str, bytes]] = ()) -> bytes:
    """Write one draft, with its attachments; mail programs open it for editing."""
    if draft.text:
        return draft.text.encode("latin-1")
    return composed(
        headers={
            "To": ", ".join(draft.to),
            "Cc": ", ".join(draft.cc),
            "Subject": draft.subject,
            "Message-ID": f"<{draft.uid}>",
            UNSENT: "1",
        },
        body=draft.body,
        files=files,
    )


def composed(
    *,
    headers: dict[str, str],
    body: str,
    files: Sequence[tuple[str, bytes]] = (),
) -> bytes:
    """Write a plain text mail with attachments.

    Args:
        headers: By name; line breaks in them become spaces, so that none begins a new header.
        body: Its text.
        files: Names and bytes of the attachments.
    """
    message = EmailMessage(policy=_written())
    for name, value in headers.items():
        if value:
            message[name] = _one_line(value)
    message.set_content(body if body.endswith("\n") else f"{body}\n", cte=_encoding(body))
    for name, content in files:
        message.add_attachment(
            content, maintype="application", subtype="octet-stream", filename=_one_line(name)
        )
    return message.as_bytes()


class _Ids(UnstructuredHeader, BaseHeader):
    """Message-IDs, one a line: a long one would be encoded otherwise, and name nothing then."""

    def fold(self, *, policy: policy.Policy[Any]) -> str:
        lines = f"{policy.linesep} ".join(str(self).split())
        return f"{self.name}: {lines}{policy.linesep}"


def _written() -> policy.EmailPolicy[EmailMessage]:
    """Return how a mail is written: lines ended by CRLF, long headers folded."""
    headers = HeaderRegistry()
    for name in ("In-Reply-To", "References"):
        headers.map_to_type(name, _Ids)
    return policy.SMTP.clone(header_factory=headers)


def header(message: EmailMessage, name: str) -> str:
    """Return a decoded header; empty if there is none."""
    value = message.get(name, "")
    return _one_line(str(value))


def thread(content: bytes) -> tuple[str, ...]:
    """Return what the References of an answer to a mail are: its own, then its Message-ID.

    As RFC 5322, section 3.6.4 has it. Ids that cannot be written are left out; there are
    none at all if the mail itself has none, for then no answer can name it.

    Args:
        content: The mail's bytes, which anybody may have written.

    Returns:
        Message-IDs without angle brackets, that of the mail itself last.
    """
    try:
        message = message_from_bytes(content, policy=policy.default)
        own, before, answered = (
            _ID.findall(header(message, name))
            for name in ("Message-ID", "References", "In-Reply-To")
        )
    except Exception:  # the standard library's parser lets many kinds through on damaged mail
        return ()
    if not own:
        return ()
    if not before and len(answered) == 1:
        before = answered
    ids = list(dict.fromkeys(i[1:-1] for i in before if i != own[0]))
    kept = ids if len(ids) < _LONGEST_THREAD else [ids[0], *ids[2 - _LONGEST_THREAD :]]
    return (*kept, own[0][1:-1])


def body_text(message: EmailMessage) -> str:
    """Return a mail's text: the plain part, else the HTML part without its markup."""
    part = message.get_body(("plain", "html"))
    if part is None:
        return ""
    text = str(part.get_content())[: 4 * MAX_BODY]
    if part.get_content_subtype() == "html":
        text = html.unescape(_MARKUP.sub("", _BLOCK.sub("\n", text)))
    lines = (line.rstrip() for line in text.replace("\r\n", "\n").split("\n"))
    clean = "\n".join(lines).strip("\n")[:MAX_BODY]
    return clean.encode("utf-8", "replace").decode()


def _letter(message: EmailMessage, content: bytes, zone: tzinfo | None) -> Letter:
    name, address = parseaddr(header(message, "From"))
    subject = header(message, "Subject")
    if not address and not subject:
        raise InterchangeError("not a mail: it has neither sender nor subject")
    text = content.decode("latin-1")
    return Letter(
        uid=header(message, "Message-ID").strip("<> ") or made_uid(text),
        text=text,
        sender=_clean(address),
        sender_name=_clean(name),
        subject=_clean(subject),
        body=body_text(message),
        received=_received(message, zone),
    )


def _draft(message: EmailMessage, content: bytes) -> Draft:
    text = content.decode("latin-1")
    return Draft(
        uid=header(message, "Message-ID").strip("<> ") or made_uid(text),
        text=text,
        to=_addresses(message, "To"),
        cc=_addresses(message, "Cc"),
        subject=_clean(header(message, "Subject")),
        body=body_text(message),
    )


def _addresses(message: EmailMessage, name: str) -> tuple[str, ...]:
    found = (_clean(address) for _, address in getaddresses([header(message, name)]))
    return tuple(dict.fromkeys(address for address in found if "@" in address))


def _received(message: EmailMessage, zone: tzinfo | None) -> str:
    """Return the mail's date in local time; one without a date is as old as can be."""
    try:
        moment = parsedate_to_datetime(header(message, "Date"))
        return moment.astimezone(zone).replace(tzinfo=None, microsecond=0).isoformat()
    except (ValueError, TypeError, OverflowError, OSError):
        return datetime(1970, 1, 1).isoformat()


def _encoding(body: str) -> str:
    """Choose an encoding that keeps every character and stays readable where it can."""
    plain = body.isascii() and max(map(len, body.split("\n"))) < 900 and "\r" not in body
    return "7bit" if plain and "\0" not in body else "base64"


def _one_line(text: str) -> str:
    """Make a header value of text: no line break, no control character."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def maildir_name(uid: str, *, seen: bool) -> str:
    """Return a Maildir file name that is the same each time for the same mail."""
    return f"0.{made_uid(uid)}.mlx-tinyagent:2,{'S' if seen else 'D'}"
