"""Mails as this backend writes and reads them: drafts, replies, and the ones that are sent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from email.utils import format_datetime
from pathlib import PurePath

from mlx_tinyagent.tools.backend import Mail
from mlx_tinyagent.tools.interchange.eml import composed, read_letter
from mlx_tinyagent.tools.interchange.records import InterchangeError, Letter
from mlx_tinyagent.tools.interchange.save import read_attachment
from mlx_tinyagent.tools.results import Failed, NotFound

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
        thread: Message-IDs of the mails that it follows, the one that it answers or passes on
            last: see :func:`mlx_tinyagent.tools.interchange.eml.thread`. Empty for a new one.
        digests: What the files are known to hold, by path: hexadecimal sha256.
    """

    sender: str
    to: Sequence[str]
    cc: Sequence[str]
    subject: str
    body: str
    attachments: Sequence[str]
    thread: Sequence[str] = ()
    digests: Mapping[str, str] = field(default_factory=dict)


def written(mail: Outgoing, message_id: str) -> bytes | NotFound | Failed:
    """Write a mail.

    Args:
        mail: What it says.
        message_id: Its Message-ID, without angle brackets.

    Returns:
        The message's bytes, or which attachment is missing or holds something else by now.
    """
    files = []
    for path in mail.attachments:
        content = read_attachment(path)
        if content is None:
            return NotFound(what=f"file '{path}'")
        if mail.digests.get(path) not in (None, hashlib.sha256(content).hexdigest()):
            return Failed(
                reason=f"{path} has changed since it was agreed to send it; nothing was sent: "
                "put the mail into the outbox again"
            )
        files.append((PurePath(path).name, content))
    thread = [f"<{known}>" for known in mail.thread]
    headers = {
        "From": mail.sender,
        "To": ", ".join(mail.to),
        "Cc": ", ".join(mail.cc),
        "Subject": mail.subject[:_LONGEST_SUBJECT],
        "Date": format_datetime(datetime.now(UTC)),
        "Message-ID": f"<{message_id}>",
        "In-Reply-To": thread[-1] if thread else "",
        "References": " ".join(thread),
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
