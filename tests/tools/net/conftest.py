"""Servers behind a proxy that breaks connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="session")
def smtp_server(servers: ModuleType, stack: ExitStack) -> Any:
    """An SMTP server; skips, counted, without aiosmtpd."""
    pytest.importorskip("aiosmtpd")
    return stack.enter_context(servers.aiosmtpd())


@pytest.fixture
def dav_proxy(servers: ModuleType, dav_server: Any) -> Iterator[Any]:
    """A proxy before the CalDAV server."""
    with servers.proxy(dav_server.port) as made:
        yield made


@pytest.fixture
def mail_proxy(servers: ModuleType, mail_server: Any) -> Iterator[Any]:
    """A proxy before the IMAP server."""
    with servers.proxy(mail_server.port) as made:
        yield made


@pytest.fixture
def smtp_proxy(servers: ModuleType, smtp_server: Any) -> Iterator[Any]:
    """A proxy before the SMTP server, which has received nothing yet."""
    smtp_server.received.clear()
    smtp_server.refuse = ""
    with servers.proxy(smtp_server.port) as made:
        yield made
