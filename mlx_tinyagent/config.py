"""Where the user's files live, and the settings the user writes.

Three folders, each with its own life: settings are edited by hand, data cannot
be recreated, the cache can be deleted at any time.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from mlx_tinyagent.errors import ConfigError

HOME_VARIABLE = "MLX_TINYAGENT_HOME"  # moves all three folders
_NAME = "mlx-tinyagent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The three user folders; none of them needs to exist.

    Args:
        config: Settings written by the user (``config.toml``).
        data: Store, journal and everything else that cannot be recreated.
        cache: Imported models and KV blocks; safe to delete.
    """

    config: Path
    data: Path
    cache: Path

    @property
    def models(self) -> Path:
        """Folder of imported models, one subfolder per model."""
        return self.cache / "models"


def paths() -> Paths:
    """Return the user folders that hold now; the environment is read at each call.

    Returns:
        The folders under ``$MLX_TINYAGENT_HOME`` where that is set and not
        empty, else the usual ones under the home directory.
    """
    if home := os.environ.get(HOME_VARIABLE):
        root = Path(home).expanduser().absolute()
        return Paths(config=root / "config", data=root / "data", cache=root / "cache")
    root = Path.home()
    return Paths(
        config=root / ".config" / _NAME,
        data=root / ".local" / "share" / _NAME,
        cache=root / ".cache" / _NAME,
    )


Mode = Literal["ask", "plan", "auto"]
Verdict = Literal["deny", "ask", "allow"]
SETTINGS_FILE = "config.toml"
OTHER_TABLES = frozenset({"net", "macos", "server"})  # in the same file, read elsewhere
BACKEND_TABLES = ("net", "macos")  # of the same file, read by tools.backends


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one rule of the user's says about calls.

    Attributes:
        verdict: ``deny``, ``ask`` or ``allow``.
        tool: Tool name, or a pattern with ``*``.
        to: Pattern of addresses and numbers; empty where the rule is for any.
    """

    verdict: Verdict
    tool: str = "*"
    to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What stands for options that are not given; the table ``[use]``, empty where unset.

    Attributes:
        model: Alias, Hub id or folder.
        adapter: Adapter folder that goes with the model.
        tools: Name or file of a tool set.
    """

    model: str = ""
    adapter: str = ""
    tools: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the user may set in ``config.toml``.

    Attributes:
        mode: ``ask`` before a change, only ``plan``, or ``auto`` where nothing speaks against it.
        rules: The user's rules; a denial goes before everything else.
        max_recipients: More of them are always asked about.
        tool_seconds: How long one tool may take.
        send_wait_seconds: How long a real send waits in the outbox, to be recalled.
        use: Model, adapter and tools to use where an option does not say.
    """

    mode: Mode = "ask"
    rules: tuple[Rule, ...] = ()
    max_recipients: int = 5
    tool_seconds: float = 120.0
    send_wait_seconds: float = 10.0
    use: Use = Use()


def settings(places: Paths | None = None) -> Settings:
    """Read the user's settings; without a file they are the defaults.

    Args:
        places: The user folders; those that hold now by default.

    Raises:
        ConfigError: The file cannot be read, or holds something that is no setting.
    """
    file = (places or paths()).config / SETTINGS_FILE
    try:
        data = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return Settings()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    return _settings(data, str(file))


def _settings(data: Mapping[str, Any], where: str) -> Settings:
    """Check what a settings file holds."""
    known: dict[str, Callable[[Any], Any]] = {
        "mode": lambda value: value if value in get_args(Mode) else None,
        "max_recipients": lambda value: value if _number(value, int, 0) else None,
        "tool_seconds": lambda value: float(value) if _number(value, int | float, 1) else None,
        "send_wait_seconds": lambda value: float(value) if _number(value, int | float, 0) else None,
        "rules": lambda value: _rules(value, where),
        "use": _use,
    }
    chosen: dict[str, Any] = {}
    for name, value in data.items():
        if name in BACKEND_TABLES and isinstance(value, dict):
            continue
        if name not in known:
            raise ConfigError(f"{where}: {name!r} is no setting; there are {', '.join(known)}")
        chosen[name] = known[name](value)
        if chosen[name] is None:
            raise ConfigError(f"{where}: {name} = {value!r} cannot be used; {_WANTED[name]}")
    return Settings(**chosen)


_WANTED = {
    "mode": f"one of {', '.join(get_args(Mode))}",
    "max_recipients": "a whole number, 0 or more",
    "tool_seconds": "a number of seconds, 1 or more",
    "send_wait_seconds": "a number of seconds, 0 or more",
    "rules": 'tables such as: [[rules]] verdict = "deny", tool = "send_sms"',
    "use": "a table of texts: model, adapter, tools",
}


def _rules(value: object, where: str) -> tuple[Rule, ...] | None:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return None
    rules = []
    for number, item in enumerate(value, start=1):
        texts = all(isinstance(text, str) for text in item.values())
        if not texts or item.get("verdict") not in get_args(Verdict) or item.keys() - _RULE_KEYS:
            raise ConfigError(
                f"{where}: rule {number} is {item!r}; expected verdict (one of "
                f"{', '.join(get_args(Verdict))}), and perhaps tool and to, all texts"
            )
        rules.append(Rule(**item))
    return tuple(rules)


_RULE_KEYS = {"verdict", "tool", "to"}


def _use(value: object) -> Use | None:
    known = set(Use.__slots__)
    if not isinstance(value, dict) or value.keys() - known:
        return None
    return Use(**value) if all(isinstance(text, str) for text in value.values()) else None


def _number(value: object, kind: Any, least: float) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and value >= least
