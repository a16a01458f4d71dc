"""Tool sets by name, from a Python file, or from JSON function schemas.

A Python file runs as code when it is loaded. JSON schemas give tools that can
be planned with but not run here.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlx_tinyagent.errors import ConfigError, InputError, UsageError
from mlx_tinyagent.tools.base import ANY_TEXT, REQUIRED, Effect, Kind, Param, Tool, ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16

BUILT_IN = {TINYAGENT16.name: TINYAGENT16}

_KINDS = {"integer": Kind.INT, "number": Kind.FLOAT, "boolean": Kind.BOOL, "string": Kind.TEXT}


def load_tools(name_or_path: str) -> ToolSet:
    """Return a tool set.

    Args:
        name_or_path: Name of a built-in set, a ``.py`` file whose module-level
            ``Tool`` objects (or ``TOOLS`` set) are taken, or a ``.json`` file
            with OpenAI-style function schemas.

    Raises:
        UsageError: No set of that name and no such file.
        InputError: The file cannot be read or holds no tools.
        ConfigError: A declaration cannot be used.
    """
    if name_or_path in BUILT_IN:
        return BUILT_IN[name_or_path]
    path = Path(name_or_path).expanduser()
    if path.suffix == ".py" and path.is_file():
        return _from_python(path)
    if path.suffix == ".json" and path.is_file():
        return _from_json(path)
    raise UsageError(
        f"no tools at {name_or_path!r}: give one of {', '.join(BUILT_IN)}, a .py file with @tool "
        "functions, or a .json file with function schemas"
    )


def from_schemas(name: str, schemas: Sequence[Mapping[str, Any]]) -> ToolSet:
    """Build a plan-only tool set from OpenAI-style function schemas.

    Raises:
        ConfigError: A schema lacks a name or has arguments that cannot be written.
    """
    return ToolSet(name, [_from_schema(schema) for schema in schemas])


def _from_python(path: Path) -> ToolSet:
    spec = importlib.util.spec_from_file_location(f"mlx_tinyagent_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # type hints of its functions are looked up there
    try:
        spec.loader.exec_module(module)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise InputError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    found = getattr(module, "TOOLS", None)
    if isinstance(found, ToolSet):
        return found
    tools = found if found is not None else vars(module).values()
    chosen = [item for item in tools if isinstance(item, Tool)]
    if not chosen:
        raise InputError(f"{path} declares no tools; decorate typed functions with @tool")
    return ToolSet(path.stem, chosen)


def _from_json(path: Path) -> ToolSet:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not readable JSON: {error}") from error
    schemas = data.get("tools", data.get("functions")) if isinstance(data, dict) else data
    if not isinstance(schemas, list) or not schemas:
        raise InputError(f"{path} holds no list of function schemas")
    try:
        return from_schemas(path.stem, schemas)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _from_schema(schema: Mapping[str, Any]) -> Tool:
    declared = schema.get("function", schema) if isinstance(schema, Mapping) else {}
    if not isinstance(declared, Mapping) or not isinstance(declared.get("name"), str):
        raise ConfigError(f"a function schema has no name: {str(schema)[:80]}")
    name = declared["name"]
    parameters = declared.get("parameters") or {}
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    if properties is not None and not isinstance(properties, Mapping):
        raise ConfigError(f"tool {name}: parameters.properties is not an object")
    required = parameters.get("required") or ()
    params = [
        _param(name, key, value, required=key in required)
        for key, value in (properties or {}).items()
    ]
    effect = declared.get("effect", Effect.WRITE)
    try:
        return Tool(
            name="_".join(name.replace(".", " ").replace("-", " ").split()),
            summary=str(declared.get("description") or name),
            params=tuple(sorted(params, key=lambda param: not param.required)),
            effect=Effect(effect),
        )
    except ValueError as error:
        raise ConfigError(f"tool {name}: {error}") from error


def _param(tool: str, name: str, schema: Any, *, required: bool) -> Param:
    if not isinstance(schema, Mapping):
        raise ConfigError(f"tool {tool}: argument {name} has no schema")
    is_list = schema.get("type") == "array"
    item = schema.get("items") or {"type": "string"} if is_list else schema
    kind = _KINDS.get(str(item.get("type", "string")), Kind.TEXT)
    choices = tuple(str(choice) for choice in item.get("enum") or ())
    kind = Kind.CHOICE if choices and kind is Kind.TEXT else kind
    empty: Any = [] if is_list else {Kind.INT: 0, Kind.FLOAT: 0.0, Kind.BOOL: False}.get(kind, "")
    default = REQUIRED if required else schema.get("default", choices[0] if choices else empty)
    return Param(
        name=name,
        kind=kind,
        is_list=is_list,
        default=default,
        choices=choices,
        accepts=ANY_TEXT if kind is Kind.TEXT else frozenset(),
        meaning=str(schema.get("description") or "").rstrip("."),
        optional=default is None,
        empty=default in ("", [], None),
    )
