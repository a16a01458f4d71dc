"""Tool sets by name, from a Python file, or from JSON function schemas.

A Python file runs as code when it is loaded. JSON schemas give tools that can
be planned with but not run here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from mlx_tinyagent.errors import ConfigError, InputError, UsageError
from mlx_tinyagent.tools.base import (
    ANY_TEXT,
    CONTROL_STEPS,
    REQUIRED,
    Effect,
    Kind,
    Param,
    Tool,
    ToolSet,
)
from mlx_tinyagent.tools.catalog import TINYAGENT16
from mlx_tinyagent.tools.store_tools import CHAT, STORE

BUILT_IN = {tools.name: tools for tools in (TINYAGENT16, STORE, CHAT)}
SHORTCUTS = "shortcuts"

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}")
_KINDS = {"integer": Kind.INT, "number": Kind.FLOAT, "boolean": Kind.BOOL, "string": Kind.TEXT}


def load_tools(source: str) -> ToolSet:
    """Return a tool set.

    Args:
        source: Name of a built-in set; ``shortcuts``, the default set and a tool
            for each of the user's Shortcuts (macOS); a ``.py`` file whose module-level
            ``Tool`` objects (or those in its ``TOOLS``) are taken; a ``.json``
            file with OpenAI-style function schemas, or such JSON itself.

    Raises:
        UsageError: No set of that name and no such file.
        InputError: The file cannot be read or holds no tools.
        ConfigError: A declaration cannot be used.
    """
    if source in BUILT_IN:
        return BUILT_IN[source]
    if source == SHORTCUTS:
        return _with_shortcuts()
    if source.lstrip().startswith(("[", "{")):
        return _from_json(source, "--tools", "tools")
    path = Path(source).expanduser()
    if path.suffix == ".py" and path.is_file():
        return _from_python(path)
    if path.suffix == ".json" and path.is_file():
        return _from_json(_read(path), str(path), path.stem)
    known = (*BUILT_IN, SHORTCUTS)
    near = get_close_matches(source, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}."
    raise UsageError(
        f"no tools at {source[:80]!r}; {hint} A .py file with @tool functions, or a .json file "
        "with function schemas, also works"
    )


def from_schemas(name: str, schemas: Sequence[Mapping[str, Any]]) -> ToolSet:
    """Build a plan-only tool set from OpenAI-style function schemas.

    Raises:
        ConfigError: A schema lacks a name or has arguments that cannot be written.
    """
    return ToolSet(name, [_from_schema(schema) for schema in schemas])


def _with_shortcuts() -> ToolSet:
    """Return the default set and the user's Shortcuts.

    Raises:
        ConfigError: There are none.
    """
    from mlx_tinyagent.tools.macos.runner import Runner
    from mlx_tinyagent.tools.macos.shortcuts import shortcut_tools

    found = shortcut_tools(Runner())
    if not found:
        raise ConfigError(
            "there are no Shortcuts here; they need macOS 12 or later, and one in the app Shortcuts"
        )
    return ToolSet(SHORTCUTS, [*TINYAGENT16, *found])


def _from_python(path: Path) -> ToolSet:
    """Run a user's file and take the tools it declares."""
    module = _run(path)
    declared = getattr(module, "TOOLS", None)
    if isinstance(declared, ToolSet):
        return declared
    if declared is None:
        chosen = [item for item in vars(module).values() if isinstance(item, Tool)]
    else:
        chosen = list(declared) if isinstance(declared, Iterable) else [declared]
        if wrong := next((item for item in chosen if not isinstance(item, Tool)), None):
            raise InputError(
                f"{path}: TOOLS holds {type(wrong).__name__}, expected functions decorated "
                "with @tool"
            )
    if not chosen:
        raise InputError(f"{path} declares no tools; decorate typed functions with @tool")
    unique = {id(item): item for item in chosen}  # a tool may go by two names in a module
    try:
        return ToolSet(path.stem, unique.values())
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _run(path: Path) -> ModuleType:
    """Run a Python file as a module; what it prints goes to standard error."""
    spec = importlib.util.spec_from_file_location(f"mlx_tinyagent_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # type hints of its functions are looked up there
    try:
        with contextlib.redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        del sys.modules[spec.name]
        kind = ConfigError if isinstance(error, ConfigError) else InputError
        raise kind(_where(path, error)) from error
    return module


def _where(path: Path, error: BaseException) -> str:
    """Say on which line of a user's file an error came up."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
    place = f"{path}:{line}" if line else str(path)
    if isinstance(error, ConfigError):
        return f"{place}: {error}"
    if isinstance(error, SystemExit):
        return f"{place}: the file calls exit() when it is loaded; it must only declare tools"
    reason = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{place}: {type(error).__name__}{': ' * bool(reason)}{reason}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start})") from error


def _from_json(text: str, where: str, name: str) -> ToolSet:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}:{error.lineno}:{error.colno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not readable JSON: {error}") from error
    schemas = data.get("tools", data.get("functions")) if isinstance(data, dict) else data
    if not isinstance(schemas, list) or not schemas:
        raise InputError(f"{where} holds no list of function schemas")
    try:
        return from_schemas(name, schemas)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _from_schema(schema: Mapping[str, Any]) -> Tool:
    declared = schema.get("function", schema) if isinstance(schema, Mapping) else {}
    if not isinstance(declared, Mapping) or not isinstance(declared.get("name"), str):
        raise ConfigError(f"a function schema has no name: {str(schema)[:80]}")
    name = declared["name"]
    parameters = declared.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise ConfigError(f"tool {name}: parameters is not an object")
    properties = parameters.get("properties")
    if properties is not None and not isinstance(properties, Mapping):
        raise ConfigError(f"tool {name}: parameters.properties is not an object")
    required = parameters.get("required") or []
    if not isinstance(required, list):
        raise ConfigError(f"tool {name}: parameters.required is not a list of names")
    params = [
        _param(name, key, value, required=key in required)
        for key, value in (properties or {}).items()
    ]
    title = "_".join(name.replace(".", " ").replace("-", " ").split())
    if not _NAME.fullmatch(title) or title in CONTROL_STEPS:
        raise ConfigError(
            f"tool name {name!r} cannot be used: letters, digits and _ only, 64 at most, and none "
            f"of {', '.join(CONTROL_STEPS)}"
        )
    try:
        return Tool(
            name=title,
            summary=str(declared.get("description") or name),
            params=tuple(sorted(params, key=lambda param: not param.required)),
            effect=Effect(declared.get("effect", Effect.WRITE)),
        )
    except ValueError as error:
        raise ConfigError(f"tool {name}: {error}") from error


def _param(tool: str, name: str, schema: Any, *, required: bool) -> Param:
    where = f"tool {tool}: argument {name}"
    if not name.isidentifier():
        raise ConfigError(f"{where}: the name is no identifier")
    main, nothing = _type_of(where, schema)
    is_list = main == "array"
    item = schema.get("items") or {"type": "string"} if is_list else schema
    kind = _KINDS.get(_type_of(where, item)[0], Kind.TEXT)
    listed = item.get("enum") or []
    if not isinstance(listed, list):
        raise ConfigError(f"{where}: enum is not a list")
    choices = tuple(str(choice) for choice in listed if choice is not None)
    kind = Kind.CHOICE if choices and kind is Kind.TEXT else kind
    empty: Any = [] if is_list else {Kind.INT: 0, Kind.FLOAT: 0.0, Kind.BOOL: False}.get(kind, "")
    if nothing and not is_list:
        empty = None
    elif choices and not is_list:
        empty = choices[0]
    default = REQUIRED if required else schema.get("default", empty)
    return Param(
        name=name,
        kind=kind,
        is_list=is_list,
        default=default,
        choices=choices,
        accepts=ANY_TEXT if kind is Kind.TEXT else frozenset(),
        meaning=str(schema.get("description") or "").rstrip("."),
        optional=nothing or default is None,
        empty=default in ("", [], None),
    )


def _type_of(where: str, schema: Any) -> tuple[str, bool]:
    """Return a schema's type, and whether null is one as well."""
    if not isinstance(schema, Mapping):
        raise ConfigError(f"{where}: a schema is an object, found {type(schema).__name__}")
    declared = schema.get("type", "string")
    names = declared if isinstance(declared, list) else [declared]
    kinds = [str(name) for name in names if name != "null"]
    return (kinds or ["string"])[0], len(kinds) < len(names)
