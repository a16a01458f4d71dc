"""Settings and the way to a server: no password in the open, none in the settings, none shown."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlx_tinyagent.config import Paths
from mlx_tinyagent.errors import ConfigError, UsageError
from mlx_tinyagent.tools.backends import NAMES, open_backend
from mlx_tinyagent.tools.local import Store
from mlx_tinyagent.tools.net import Account, read_account
from mlx_tinyagent.tools.net.account import EXAMPLE, PASSWORD_VARIABLE
from mlx_tinyagent.tools.net.dav import Dav
from mlx_tinyagent.tools.net.faults import NetError
from mlx_tinyagent.tools.net.http import Answer, same_site


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A path for settings."""
    return tmp_path / "config.toml"


def test_the_example_can_be_read(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the documentation shows works, with the password from the environment."""
    config.write_text(EXAMPLE)
    monkeypatch.setenv(PASSWORD_VARIABLE, "s3cret")
    account = read_account(config)
    assert account.user == account.sender == "me@example.org"
    assert account.password == "s3cret"
    assert "s3cret" not in repr(account)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_password_that_others_can_read_is_refused(config: Path, mode: int) -> None:
    """Only a file of mode 0600 or stricter is taken; then its line end is no part of it."""
    secret = config.with_name("password")
    secret.write_text("s3cret\n")
    secret.chmod(mode)
    config.write_text(f'[net]\nuser = "u"\npassword_file = "{secret}"\n')
    with pytest.raises(ConfigError, match="chmod 600"):
        read_account(config)
    secret.chmod(0o600)
    assert read_account(config).password == "s3cret"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no .net. table"),
        ("net = 3", "no .net. table"),
        ("[net", "cannot be read"),
        ("[net]\n", "net.user is missing"),
        ('[net]\nuser = ""\n', "net.user is missing"),
        ("[net]\nuser = 3\n", "net.user is 3"),
        ('[net]\nuser = "u"\nportal = "x"\n', "net.portal is unknown"),
        ('[net]\nuser = "u"\npassword = "x"\n', "net.password is unknown"),
        ('[net]\nuser = "u"\ncaldav = "http://dav.example/"\n', "in the open"),
        ('[net]\nuser = "u"\ncaldav = "ftp://dav.example/"\n', "https://"),
        ('[net]\nuser = "u"\nimap = "imap.example"\n', "imaps://"),
        ('[net]\nuser = "u"\nsmtp = "smtps://u:p@smtp.example"\n', "no place for a password"),
        ('[net]\nuser = "u"\nsmtp = "smtps://smtp.example:x"\n', "is no URL"),
        ('[net]\nuser = "u"\nzone = "Europe"\n', "no time zone"),
        ('[net]\nuser = "u"\ntimeout_s = 0\n', "timeout_s"),
        ('[net]\nuser = "u"\ntimeout_s = true\n', "timeout_s"),
    ],
)
def test_bad_settings_are_named(
    config: Path, text: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each says which setting is wrong and what is expected."""
    monkeypatch.setenv(PASSWORD_VARIABLE, "s3cret")
    config.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_account(config)


def test_no_password_is_said(config: Path) -> None:
    """Both ways to give one are named."""
    config.write_text('[net]\nuser = "u"\n')
    with pytest.raises(ConfigError, match=PASSWORD_VARIABLE):
        read_account(config)


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://caldav.icloud.com/x", True),
        ("https://p42-caldav.icloud.com/x", True),
        ("https://icloud.com/", True),
        ("http://caldav.icloud.com/", False),
        ("https://icloud.com.evil.example/", False),
        ("https://evilicloud.com/", False),
        ("https://caldav.icloud.com:8443/", False),
        ("https://127.0.0.1/", False),
        ("file:///etc/passwd", False),
    ],
)
def test_the_password_stays_on_its_site(url: str, same: bool) -> None:
    """Large providers spread over hosts of one domain; nobody else gets the password."""
    assert same_site("https://caldav.icloud.com/", url) is same


def test_a_registry_is_no_site() -> None:
    """Two firms under co.uk are not one site."""
    assert not same_site("https://firm.co.uk/", "https://evil.co.uk/")
    assert not same_site("https://firm.example/", "https://other.example/")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<",
        b"<html/>",
        b"\xff\xfe",
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aa">]><x>&a;</x>',
        b"<multistatus xmlns='DAV:'><response/></multistatus>",
    ],
)
def test_answers_that_are_no_dav_are_errors(body: bytes) -> None:
    """Whatever a server answers, nothing but NetError comes out."""
    answer = Answer(url="https://a.example/", status=207, headers={}, body=body)
    http: Any = SimpleNamespace(request=lambda *_, **__: answer)
    with pytest.raises(NetError):
        Dav(http, "https://a.example/", "caldav").collections()


@pytest.mark.parametrize("name", NAMES)
def test_backends_open_by_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name gives a backend of that name; opening asks no server and no application."""
    monkeypatch.setenv(PASSWORD_VARIABLE, "s3cret")
    (tmp_path / "config.toml").write_text(EXAMPLE)
    places = Paths(config=tmp_path, data=tmp_path, cache=tmp_path)
    assert open_backend(name, Store.memory(), places).name == name


def test_unknown_backends_and_settings_are_named(tmp_path: Path) -> None:
    """A wrong name lists the right ones."""
    places = Paths(config=tmp_path, data=tmp_path, cache=tmp_path)
    with pytest.raises(UsageError, match="local, macos, net"):
        open_backend("windows", Store.memory(), places)
    for text, words in (
        ("macos = 1", "table"),
        ("[macos]\nroot = 1", "macos.root is unknown"),
        ("[macos]\nroots = 'x'", "list of folders"),
        ("[", "cannot be read"),
    ):
        (tmp_path / "config.toml").write_text(text)
        with pytest.raises(ConfigError, match=words):
            open_backend("macos", Store.memory(), places)


def test_an_account_can_be_made_by_hand() -> None:
    """Without an address and with a user name that is none there is no sender."""
    assert Account(user="ann", password="x").sender == ""
    assert Account(user="ann@a.example", password="x").sender == "ann@a.example"
