"""Where the servers are and who asks: the ``[net]`` table of config.toml.

The password never stands in the settings: it comes from the environment or
from a file that only the user can read.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import tzinfo
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mlx_tinyagent.errors import ConfigError

PASSWORD_VARIABLE = "MLX_TINYAGENT_NET_PASSWORD"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SCHEMES = {
    "caldav": ("https", "http"),
    "carddav": ("https", "http"),
    "imap": ("imaps", "imap"),
    "smtp": ("smtps", "smtp"),
}
EXAMPLE = """[net]
user = "me@example.org"
password_file = "~/.config/mlx-tinyagent/password"
caldav = "https://dav.example.org/"
carddav = "https://dav.example.org/"
imap = "imaps://imap.example.org"
smtp = "smtps://smtp.example.org"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One user's servers; what is left out stays in the local store.

    Attributes:
        user: Name to log in with.
        password: Never shown.
        address: Sender of mails; the user name if it is an address.
        caldav: Where to look for calendars: any URL of the server.
        carddav: Where to look for contacts.
        imap: ``imaps://host[:port]``, or ``imap://`` for STARTTLS.
        smtp: ``smtps://host[:port]``, or ``smtp://`` for STARTTLS.
        calendar: Name of the calendar for new events; the first one if empty.
        reminders: Name of the list for new reminders; the first one if empty.
        zone: Name of the time zone that is local; the machine's if empty.
        timeout_s: How long a server may keep silent, in seconds.
    """

    user: str
    password: str = field(repr=False)
    address: str = ""
    caldav: str = ""
    carddav: str = ""
    imap: str = ""
    smtp: str = ""
    calendar: str = ""
    reminders: str = ""
    zone: str = ""
    timeout_s: float = 20.0

    def __post_init__(self) -> None:
        for name, schemes in _SCHEMES.items():
            if url := getattr(self, name):
                _check_url(name, url, schemes)
        if self.zone:
            try:
                ZoneInfo(self.zone)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise ConfigError(f"net.zone: no time zone is called {self.zone!r}") from None
        if not 0 < self.timeout_s <= 600:
            raise ConfigError(f"net.timeout_s: {self.timeout_s:g} is not between 0 and 600")

    @property
    def sender(self) -> str:
        """The address that mails come from; empty if none is known."""
        return self.address or (self.user if "@" in self.user else "")

    @property
    def local_zone(self) -> tzinfo | None:
        """What local time is; None for the machine's zone."""
        return ZoneInfo(self.zone) if self.zone else None


def read_account(config: Path) -> Account:
    """Read the account from the settings.

    Args:
        config: Path of ``config.toml``.

    Raises:
        ConfigError: There is no ``[net]`` table, it holds something unknown,
            or there is no password.
    """
    try:
        table = tomllib.loads(config.read_text("utf-8")).get("net")
    except FileNotFoundError:
        table = None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{config} cannot be read: {error}") from error
    if not isinstance(table, dict):
        raise ConfigError(f"{config} has no [net] table; docs/backends.md shows one")
    known = {item.name for item in fields(Account)} - {"password"} | {"password_file"}
    if unknown := table.keys() - known:
        raise ConfigError(
            f"{config}: net.{min(unknown)} is unknown; known: {', '.join(sorted(known))}"
        )
    values: dict[str, Any] = dict(table)
    password = _password(values.pop("password_file", ""))
    for name, value in values.items():
        wanted: tuple[type, ...] = (int, float) if name == "timeout_s" else (str,)
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ConfigError(f"{config}: net.{name} is {value!r}, not {wanted[-1].__name__}")
    if not values.get("user"):
        raise ConfigError(f"{config}: net.user is missing")
    return Account(password=password, **values)


def _password(file: object, environment: Mapping[str, str] = os.environ) -> str:
    """Return the password from the environment, else from a private file."""
    if found := environment.get(PASSWORD_VARIABLE):
        return found
    if not isinstance(file, str) or not file:
        raise ConfigError(
            f"no password: set {PASSWORD_VARIABLE}, or net.password_file to a file that only "
            "you can read"
        )
    path = Path(file).expanduser()
    try:
        with path.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if not stat.S_ISREG(mode) or mode & 0o077:
                raise ConfigError(f"{path}: others can read the password; run chmod 600 on it")
            return opened.read(4096).decode().strip("\r\n")
    except (OSError, ValueError) as error:
        raise ConfigError(f"the password file {path} cannot be read: {error}") from error


def _check_url(name: str, url: str, schemes: tuple[str, str]) -> None:
    """Refuse URLs that would carry the password in the open; this machine is an exception."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"net.{name}: {url!a} is no URL: {error}") from error
    if parts.scheme not in schemes or not host:
        raise ConfigError(f"net.{name}: {url!a} does not begin with {schemes[0]}://")
    if parts.username or parts.password:
        raise ConfigError(f"net.{name}: a URL is no place for a password; use net.user")
    if parts.scheme == "http" and host not in LOOPBACK:
        raise ConfigError(f"net.{name}: {url!a} would send the password in the open; use https")
