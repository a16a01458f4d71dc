"""Sending one mail over SMTP (RFC 5321), with an honest outcome.

Before the message's last line nothing has been sent; when the connection
breaks after it, nobody can tell, and that is what is said.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

from mlx_tinyagent.tools.net.account import LOOPBACK, Account
from mlx_tinyagent.tools.net.faults import NetError, words


def send(account: Account, recipients: Sequence[str], content: bytes) -> None:
    """Send a message to all recipients or to none.

    Args:
        account: Where and who.
        recipients: Addresses; each must be accepted.
        content: The whole message, lines ended by CRLF.

    Raises:
        NetError: It was not sent, or (``sent``) nobody can tell.
    """
    session = _connect(account)
    try:
        _prepare(session, account, recipients)
        _deliver(session, account, content)
    finally:
        session.close()


def _connect(account: Account) -> smtplib.SMTP:
    parts = urlsplit(account.smtp)
    host, tls = parts.hostname or "", parts.scheme == "smtps"
    try:
        if tls:
            context = ssl.create_default_context()
            return smtplib.SMTP_SSL(
                host, parts.port or 465, timeout=account.timeout_s, context=context
            )
        return smtplib.SMTP(host, parts.port or 587, timeout=account.timeout_s)
    except (OSError, smtplib.SMTPException) as error:
        raise NetError(f"{host} cannot be reached: {words(error)}", sent=False) from error


def _prepare(session: smtplib.SMTP, account: Account, recipients: Sequence[str]) -> None:
    """Say who writes to whom; whatever breaks here, nothing has been sent."""
    parts = urlsplit(account.smtp)
    host = parts.hostname or ""
    try:
        session.ehlo_or_helo_if_needed()
        if parts.scheme == "smtp" and host not in LOOPBACK:
            session.starttls(context=ssl.create_default_context())
            session.ehlo()
        if session.has_extn("auth"):
            session.login(account.user, account.password)
        code, text = session.mail(account.sender)
        if code != 250:
            raise NetError(f"{host} refuses the sender: {_said(text)}", sent=False)
        for address in recipients:
            code, text = session.rcpt(address)
            if code not in (250, 251):
                reason = f"{host} refuses {address}: {_said(text)}; the mail went to nobody"
                raise NetError(reason, sent=False)
    except smtplib.SMTPAuthenticationError as error:
        raise NetError(f"{host} does not let {account.user} in", sent=False) from error
    except (OSError, smtplib.SMTPException, ValueError) as error:
        raise NetError(f"{host} did not take the mail: {words(error)}", sent=False) from error


def _deliver(session: smtplib.SMTP, account: Account, content: bytes) -> None:
    host = urlsplit(account.smtp).hostname or ""
    try:
        code, text = session.data(content)
    except smtplib.SMTPDataError as error:  # the answer to DATA itself: nothing followed
        reason = f"{host} did not take the mail: {_said(error.smtp_error)}"
        raise NetError(reason, sent=False) from error
    except (OSError, smtplib.SMTPException) as error:
        reason = f"{host} did not say whether it took the mail: {words(error)}"
        raise NetError(reason, sent=True) from error
    if code != 250:  # only a code of refusal is a refusal
        refused = 400 <= code < 600
        raise NetError(f"{host} did not take the mail: {_said(text)}", sent=not refused)


def _said(text: bytes | str) -> str:
    line = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return " ".join("".join(c if c.isprintable() else " " for c in line).split())[:200]
