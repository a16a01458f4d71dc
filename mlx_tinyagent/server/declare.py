"""Foreign function schemas to declarations, and planned arguments back to what was declared.

JSON schema says more than a plan can write. What cannot be written is left out
where it is optional and refused where it is required, so that every call fits
its schema's names, types and enumerations. Ranges, lengths and patterns are
not checked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlx_tinyagent.errors import ConfigError
from mlx_tinyagent.plan.schema import Step
from mlx_tinyagent.tools.base import CONTROL_STEPS, Effect, Tool, ToolSet, Type
from mlx_tinyagent.tools.loading import from_schemas

MAX_TOOLS = 256
MAX_NAME_CHARS = 64
MAX_SUMMARY_CHARS = 400  # of a description in the prompt; longer ones are cut at a word
MAX_MEANING_CHARS = 160
MAX_REFERENCES = 8  # of "$ref" in a row
_SIMPLE = ("string", "integer", "number", "boolean")


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """What a declaration is called where it comes from.

    Attributes:
        name: The tool's own name.
        args: The arguments' own names, by ours.
        values: For enumerations of other things than text: the value by its text.
    """

    name: str
    args: Mapping[str, str]
    values: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """Declarations made from foreign schemas.

    Attributes:
        tools: The declarations.
        foreign: Where each comes from, by our name.
        left_out: What could not be declared, one line each.
    """

    tools: ToolSet
    foreign: Mapping[str, Foreign]
    left_out: tuple[str, ...] = ()

    def title(self, name: str) -> str | None:
        """Return our name of a foreign tool; None if it is not declared."""
        return next((ours for ours, item in self.foreign.items() if item.name == name), None)

    def call(self, step: Step) -> tuple[str, dict[str, Any]]:
        """Return a step without references as a call: foreign name and arguments.

        Arguments that the plan leaves at what stands for "not said" are left out.
        """
        arguments = zip(self.tools[step.tool].params, step.args, strict=True)
        said = {
            param.name: list(value) if isinstance(value, tuple) else value
            for param, value in arguments
            if param.required or value not in (param.default, None)
        }
        return self.outward(step.tool, said)

    def outward(self, title: str, said: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return a call under its foreign names, enumerated values as they were declared."""
        tool, item = self.tools[title], self.foreign[title]
        defaults = {param.name: param.default for param in tool.params if not param.required}
        args = {}
        for name, value in said.items():
            if name in defaults and value in (defaults[name], None):
                continue
            values = item.values.get(name, {})
            args[item.args[name]] = (
                [values.get(one, one) for one in value]
                if isinstance(value, list | tuple)
                else values.get(value, value)
                if isinstance(value, str)
                else value
            )
        return item.name, args


def declare(
    name: str,
    schemas: Sequence[Any],
    *,
    effects: Mapping[str, Effect] | None = None,
    effect: Effect = Effect.WRITE,
    skip: bool = False,
) -> Declared:
    """Make declarations from OpenAI-style or MCP-style function schemas.

    Every tool counts as one that gives text, so that a later step may read it.

    Args:
        name: Name of the set.
        schemas: ``{"type": "function", "function": {...}}`` or the inner object.
        effects: What calls do, by foreign name; what a schema says of itself does not count.
        effect: What all others do.
        skip: Leave out what cannot be declared instead of raising.

    Raises:
        ConfigError: A schema cannot be used; the message names the tool and the argument.
    """
    if len(schemas) > MAX_TOOLS:
        raise ConfigError(f"{len(schemas)} tools are too many, {MAX_TOOLS} at most")
    tools: list[Tool] = []
    foreign: dict[str, Foreign] = {}
    left_out: list[str] = []
    for schema in schemas:
        try:
            simple, item = _tool(schema, foreign)
            made = from_schemas(name, [simple])
        except ConfigError as error:
            if not skip:
                raise
            left_out.append(str(error))
            continue
        title = made.names[0]
        foreign[title] = item
        chosen = (effects or {}).get(item.name, effect)
        tools.append(replace(made[title], returns=Type.TEXT, effect=chosen))
    return Declared(tools=ToolSet(name, tools), foreign=foreign, left_out=tuple(left_out))


def _tool(schema: Any, taken: Collection[str]) -> tuple[dict[str, Any], Foreign]:
    """Return one tool as a schema that can be planned with, and its own names."""
    if not isinstance(schema, Mapping):
        raise ConfigError(f"a tool is an object, found {type(schema).__name__}")
    if schema.get("type", "function") != "function" and "name" not in schema:
        raise ConfigError(f"a tool has type {schema['type']!r}; only function tools can be used")
    inner = schema.get("function", schema)
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"a function schema has no name: {str(schema)[:80]}")
    parameters = inner.get("parameters") or {}
    properties = parameters.get("properties") or {} if isinstance(parameters, Mapping) else None
    required = parameters.get("required") or [] if isinstance(parameters, Mapping) else None
    if not isinstance(properties, Mapping) or not isinstance(required, list):
        raise ConfigError(
            f"tool {name}: parameters is not an object schema with properties and required"
        )
    args: dict[str, str] = {}
    values: dict[str, Mapping[str, Any]] = {}
    simple: dict[str, Any] = {}
    for own, found in properties.items():
        where = f"tool {name}: argument {own}"
        one, mapped = _property(where, _resolved(found, parameters))
        if one is None:
            if own in required:
                raise ConfigError(
                    f"{where} is a nested value, which cannot be planned; make it text, a number, "
                    "true or false, an enumeration or a list of these, or make it optional"
                )
            continue
        if own not in required and "default" not in one:
            one = _with_nothing(one)
        title = _free(_identifier(str(own)), args)
        args[title], simple[title] = str(own), one
        if mapped:
            values[title] = mapped
    needed = [title for title, own in args.items() if own in required]
    if missing := [own for own in required if own not in args.values()]:
        raise ConfigError(f"tool {name}: required names {missing[0]!r}, which has no schema")
    declared = {
        "name": _free(_identifier(name)[:MAX_NAME_CHARS], [*taken, *CONTROL_STEPS]),
        "description": _line(inner.get("description") or name, MAX_SUMMARY_CHARS),
        "parameters": {"type": "object", "properties": simple, "required": needed},
    }
    return declared, Foreign(name=name, args=args, values=values)


def _property(where: str, schema: Any) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return an argument's schema in the few words that can be planned, None if there are none.

    Returns:
        The schema, and for enumerations of other things than text the values by their text.
    """
    if not isinstance(schema, Mapping):
        raise ConfigError(f"{where}: a schema is an object, found {type(schema).__name__}")
    kind, nothing = _kind(schema)
    plain: dict[str, Any] = {}
    mapped: dict[str, Any] = {}
    fits: type | tuple[type, ...] = list
    if kind == "array":
        items = schema.get("items", {})
        if not isinstance(items, Mapping) or "prefixItems" in schema:
            return None, {}
        item, mapped = _property(where, items)
        if item is None or item["type"] not in _SIMPLE:
            return None, {}
        plain = {"type": "array", "items": item}
    elif kind not in _SIMPLE:
        return None, {}
    else:
        plain, mapped = _scalar(kind, schema)
        fits = {"string": str, "boolean": bool, "integer": int}.get(plain["type"], (int, float))
    if nothing and kind != "array":
        plain["type"] = [plain["type"], "null"]
    if "default" in schema:
        default = next((t for t, v in mapped.items() if v == schema["default"]), schema["default"])
        if (default is None and nothing) or (
            isinstance(default, fits)
            and (fits is bool or not isinstance(default, bool))
            and default in plain.get("enum", [default])
        ):
            plain["default"] = default
    if meaning := _line(schema.get("description") or "", MAX_MEANING_CHARS):
        plain["description"] = meaning
    return plain, mapped


def _with_nothing(plain: dict[str, Any]) -> dict[str, Any]:
    """Let an optional argument be None, so that every value of its own can be said as well."""
    empty = plain["type"] == "array" or (plain["type"] == "string" and "enum" not in plain)
    if empty or isinstance(plain["type"], list):  # it has an empty value, or None already
        return plain
    return {**plain, "type": [plain["type"], "null"]}


def _scalar(kind: str, schema: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the schema of one value; enumerated numbers are planned as text."""
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(listed, list) or kind == "boolean":
        return {"type": kind}, {}
    choices = [choice for choice in listed if isinstance(choice, str | int | float)]
    mapped = {str(choice): choice for choice in choices if not isinstance(choice, str)}
    return {"type": "string", "enum": [str(choice) for choice in choices]}, mapped


def _kind(schema: Mapping[str, Any]) -> tuple[str, bool]:
    """Return a schema's type, ``nested`` for what has no simple one, and whether null is one."""
    declared = schema.get("type")
    names = declared if isinstance(declared, list) else [declared] if declared else []
    kinds = [str(name) for name in names if name != "null"]
    if not kinds:
        listed = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(listed, list) and all(isinstance(v, bool) for v in listed) and listed:
            kinds = ["boolean"]
        elif {"properties", "oneOf", "anyOf", "allOf", "$ref"} & schema.keys():
            kinds = ["nested"]
        else:
            kinds = ["string"]
    kind = "string" if "string" in kinds else "number" if "number" in kinds else kinds[0]
    return kind, "null" in names


def _resolved(schema: Any, root: Mapping[str, Any], depth: int = 0) -> Any:
    """Follow references within the schema, and take the one type out of a union with null."""
    if not isinstance(schema, Mapping) or depth > MAX_REFERENCES:
        return schema
    outer = {key: value for key, value in schema.items() if key in ("description", "default")}
    if isinstance(reference := schema.get("$ref"), str):
        found: Any = root
        for part in reference.removeprefix("#/").split("/"):
            found = found.get(part) if isinstance(found, Mapping) else None
        if not reference.startswith("#/") or not isinstance(found, Mapping):
            return schema
        return {**_resolved(found, root, depth + 1), **outer}
    for key in ("anyOf", "oneOf", "allOf"):
        options = schema.get(key)
        if not isinstance(options, list):
            continue
        several = [_resolved(option, root, depth + 1) for option in options]
        typed = [one for one in several if isinstance(one, Mapping) and one.get("type") != "null"]
        if len(typed) == 1:
            names = typed[0].get("type")
            both = [*(names if isinstance(names, list) else [names]), "null"]
            nullable = {"type": both} if names and len(typed) < len(several) else {}
            return {**typed[0], **nullable, **outer}
        kinds = [_kind(one) for one in typed]
        if key != "allOf" and kinds and all(kind in _SIMPLE for kind, _ in kinds):
            null = len(typed) < len(several)
            return {"type": [*(kind for kind, _ in kinds), *(["null"] if null else [])], **outer}
    if isinstance(items := schema.get("items"), Mapping):
        return {**schema, "items": _resolved(items, root, depth + 1)}
    return schema


def _identifier(name: str) -> str:
    """Return a name of ASCII letters, digits and underscores that begins with no digit."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "_", name) or "_"
    return f"_{plain}" if plain[0].isdigit() else plain


def _free(name: str, taken: Collection[str]) -> str:
    """Return a name that is not taken yet."""
    if name not in taken:
        return name
    numbers = (f"{name[: MAX_NAME_CHARS - 4]}_{number}" for number in range(2, MAX_TOOLS + 3))
    return next(free for free in numbers if free not in taken)


def _line(text: object, most: int) -> str:
    """Return a text as one line, cut at a word where it is too long."""
    words = " ".join(str(text).split())
    return words if len(words) <= most else f"{words[:most].rsplit(' ', 1)[0]} ..."
