"""Calendars, reminders, contacts and mail on servers: CalDAV, CardDAV, IMAP, SMTP."""

from mlx_tinyagent.tools.net.account import Account, read_account
from mlx_tinyagent.tools.net.backend import NetBackend

__all__ = ["Account", "NetBackend", "read_account"]
