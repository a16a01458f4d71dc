"""Mails as this backend writes and reads them: drafts, replies, and the ones that are sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from email import message_from_bytes, policy
from email.utils import format_datetime
from pathlib import PurePath

from mlx_tinyagent.tools.backend import Mail
from mlx_tinyagent.tools.interchange.eml import composed, header, read_letter
from mlx_tinyagent.tools.interchange.records import InterchangeError, Letter
from mlx_tinyagent.tools.interchange.save import read_attachment
from mlx_tinyagent.tools.results import NotFound

_LONGEST_SUBJECT = 900  # of a header line 998 characters may be used: RFC 5322, section 2.1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """What a mail says.

    Attributes:
        sender: Address it comes from.
        to: Addresses.
        cc: Addresses.
        subject: Its subject.
        body: Its text.
        attachments: Absolute paths.
        reply_to: Message-ID of the mail that it answers or passes on; empty for a new one.
    """

    sender: str
    to: Sequence[str]
    cc: Sequence[str]
    subject: str
    body: str
    attachments: Sequence[str]
    reply_to: str = ""


def written(mail: Outgoing, message_id: str) -> bytes | NotFound:
    """Write a mail.

    Args:
        mail: What it says.
        message_id: Its Message-ID, without angle brackets.

    Returns:
        The message's bytes, or which attachment is missing.
    """
    files = []
    for path in mail.attachments:
        content = read_attachment(path)
        if content is None:
            return NotFound(what=f"file '{path}'")
        files.append((PurePath(path).name, content))
    link = f"<{mail.reply_to}>" if mail.reply_to else ""
    headers = {
        "From": mail.sender,
        "To": ", ".join(mail.to),
        "Cc": ", ".join(mail.cc),
        "Subject": mail.subject[:_LONGEST_SUBJECT],
        "Date": format_datetime(datetime.now(UTC)),
        "Message-ID": f"<{message_id}>",
        "In-Reply-To": link,
        "References": link,
    }
    return composed(headers=headers, body=mail.body, files=files)


def received(number: int, content: bytes, zone: tzinfo | None) -> Mail | None:
    """Read a received mail; None if it cannot be read.

    Args:
        number: Its number in the folder.
        content: Its bytes, which anybody may have written.
        zone: What local time is; None for the machine's zone.
    """
    try:
        (letter,) = read_letter(content, zone).records
    except InterchangeError:
        return None
    if not isinstance(letter, Letter):
        return None
    return Mail(
        id=number,
        sender=letter.sender,
        sender_name=letter.sender_name,
        subject=letter.subject,
        body=letter.body,
        received=letter.received,
    )


def message_id(content: bytes) -> str:
    """Return a mail's Message-ID without angle brackets; empty if it has none that is usable."""
    try:
        found = header(message_from_bytes(content, policy=policy.default), "Message-ID")
    except Exception:  # the standard library's parser lets many kinds through on damaged mail
        return ""
    found = found.strip("<> ")
    return found if found.isascii() and found.isprintable() and " " not in found else ""
