"""One declaration per tool: a typed function and the ``@tool`` decorator.

From it come the prompt text, the JSON schema, the decode grammar, the
classifier label, the approval class and the documentation. This module does
not know models, prompts or plans.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Any, Literal, get_args, get_origin, overload

from mlx_tinyagent.errors import ConfigError, UsageError
from mlx_tinyagent.tools.docstring import read_docstring
from mlx_tinyagent.tools.external import BackendError
from mlx_tinyagent.tools.results import Failed, Ok, Origin, Result, Value

CONTROL_STEPS = ("join", "ask", "more_tools")
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,63}")
_FIELD = re.compile(r"[a-z_][a-z0-9_]{0,63}")


class Effect(StrEnum):
    """What a call does to the world; decides whether it needs approval."""

    READ = "read"
    OPEN = "open"  # shows something: an application, a map, a file
    DRAFT = "draft"  # prepares something that the user still has to send
    WRITE = "write"
    SEND = "send"
    DELETE = "delete"

    @property
    def changes(self) -> bool:
        """Whether the call changes or sends something, so that it needs approval."""
        return self not in (Effect.READ, Effect.OPEN)


class Kind(StrEnum):
    """How an argument is written."""

    SPAN = "span"  # words copied from the request
    WHEN = "when"  # a date phrase copied from the request, or ISO 8601 text
    TEXT = "text"  # free text
    TEMPLATE = "template"  # free text to be sent or written; ``${k}`` inserts a result
    CHOICE = "choice"  # one of a few strings
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"


class Type(StrEnum):
    """What a step's value is, so that only fitting arguments can read it."""

    TEXT = "text"
    EMAIL = "email"
    PHONE = "phone"
    PATH = "path"
    URL = "url"
    STATUS = "status"  # a sentence that says what was done; no argument reads it


ANY_TEXT = frozenset({Type.TEXT, Type.EMAIL, Type.PHONE, Type.PATH, Type.URL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg:
    """Marker for ``Annotated``: how an argument is written and what it may read.

    Attributes:
        kind: How the argument is written.
        accepts: Types of earlier steps' values that ``$k`` may bring.
        entity: What a written name is resolved against: ``contact-email``,
            ``contact-phone``, ``file`` or None.
        empty: Whether an explicit ``""`` is a fitting value of a required argument.
        after: For a date: the argument it is the end of. It is read relative to
            that one, and taken from it where the phrase there is a range.
        finds: What the tool itself looks a written name up in. The name is made
            definite before, so that a preview shows which one is meant.
    """

    kind: Kind
    accepts: frozenset[Type] = frozenset()
    entity: Literal["contact-email", "contact-phone", "file"] | None = None
    empty: bool = False
    after: str | None = None
    finds: Literal["file", "note"] | None = None


# Ready-made argument types for tool authors.
Span = Annotated[str, Arg(kind=Kind.SPAN)]
When = Annotated[str, Arg(kind=Kind.WHEN)]
MaybeWhen = Annotated[str, Arg(kind=Kind.WHEN, empty=True)]
Text = Annotated[str, Arg(kind=Kind.TEXT, accepts=ANY_TEXT)]
Template = Annotated[str, Arg(kind=Kind.TEMPLATE, accepts=ANY_TEXT)]
Place = Annotated[str, Arg(kind=Kind.SPAN, accepts=frozenset({Type.URL, Type.TEXT}))]
MaybePlace = Annotated[
    str, Arg(kind=Kind.SPAN, accepts=frozenset({Type.URL, Type.TEXT}), empty=True)
]
Email = Annotated[str, Arg(kind=Kind.SPAN, accepts=frozenset({Type.EMAIL}), entity="contact-email")]
Phone = Annotated[str, Arg(kind=Kind.SPAN, accepts=frozenset({Type.PHONE}), entity="contact-phone")]
FilePath = Annotated[str, Arg(kind=Kind.SPAN, accepts=frozenset({Type.PATH}), entity="file")]
# A file, or text to go along in place of one ("attach the summary").
Attachment = Annotated[
    str, Arg(kind=Kind.SPAN, accepts=frozenset({Type.PATH, Type.TEXT, Type.URL}), entity="file")
]

ENTITY_TYPE = {"contact-email": Type.EMAIL, "contact-phone": Type.PHONE, "file": Type.PATH}

REQUIRED = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """One argument of a tool.

    Attributes:
        name: Argument name.
        kind: How it is written.
        is_list: Whether it is a list of such values.
        default: Value when nothing is said; ``REQUIRED`` if there is none.
        choices: Allowed strings of a CHOICE.
        accepts: Types of earlier values it may read.
        entity: What a written name is resolved against.
        meaning: One short phrase for the prompt and the documentation.
        optional: Whether ``None`` is a legal value.
        empty: Whether ``""`` or ``[]`` is a fitting value: always with such a default.
        after: For a date: the argument it is the end of.
        finds: What the tool itself looks a written name up in: ``file``, ``note`` or None.
    """

    name: str
    kind: Kind
    is_list: bool = False
    default: Any = REQUIRED
    choices: tuple[str, ...] = ()
    accepts: frozenset[Type] = frozenset()
    entity: str | None = None
    meaning: str = ""
    optional: bool = False
    empty: bool = False
    after: str | None = None
    finds: str | None = None

    @property
    def required(self) -> bool:
        """Whether the argument has no default."""
        return self.default is REQUIRED

    def signature(self) -> str:
        """Render the argument as it stands in a tool's prompt text."""
        label = "|".join(self.choices) if self.kind is Kind.CHOICE else self.kind.value
        label = f"list[{label}]" if self.is_list else label
        default = "" if self.required else f" = {literal(self.default)}"
        return f"{self.name}: {label}{default}"

    def schema(self) -> dict[str, Any]:
        """Return the argument's JSON schema."""
        simple = {Kind.INT: "integer", Kind.FLOAT: "number", Kind.BOOL: "boolean"}
        item: dict[str, Any] = {"type": simple.get(self.kind, "string")}
        if self.kind is Kind.CHOICE:
            nothing = [None] if self.optional and not self.is_list else []
            item["enum"] = [*self.choices, *nothing]
        if self.is_list:
            item = {"type": "array", "items": item}
        if self.optional:
            item["type"] = [item["type"], "null"]
        if self.meaning:
            item["description"] = self.meaning
        if not self.required:
            item["default"] = self.default
        return item


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A declared tool.

    Attributes:
        name: Name in plans.
        summary: What it does, one or two sentences.
        params: Arguments in order.
        effect: What a call does to the world.
        returns: Type of the value that later steps can read.
        fields: Names that ``$k.field`` may use on the value.
        app: Group that can be switched off as one, such as ``mail``.
        label: Class index of the tool classifier; None for tools it was not trained on.
        function: Implementation; None for tools that can be planned but not run here.
        needs_host: Whether the implementation takes the ``Host`` as first argument.
        rules: Further sentences for the prompt that belong to this tool alone.
        staged: Whether all its effects are calls of ``host.backend``. It can then
            be gone through before the approval, which shows its exact effects.
    """

    name: str
    summary: str
    params: tuple[Param, ...]
    effect: Effect = Effect.WRITE
    returns: Type = Type.STATUS
    fields: tuple[str, ...] = ()
    app: str = ""
    label: int | None = None
    function: Callable[..., object] | None = None
    needs_host: bool = False
    rules: str = ""
    staged: bool = False

    def signature(self) -> str:
        """Render ``name(arguments) -> type`` as it stands in the prompt."""
        return f"{self.name}({', '.join(p.signature() for p in self.params)}) -> {self.returns}"

    def text(self) -> str:
        """Render the tool's whole prompt block; ends with a newline."""
        lines = [self.signature(), f"  {self.summary}{' ' + self.rules if self.rules else ''}"]
        meanings = [f"{p.name}: {p.meaning}" for p in self.params if p.meaning]
        if meanings:
            lines.append(f"  {'; '.join(meanings)}.")
        return "\n".join(lines) + "\n"

    def schema(self) -> dict[str, Any]:
        """Return the tool as an OpenAI-style function schema."""
        return {
            "name": self.name,
            "description": self.summary,
            "parameters": {
                "type": "object",
                "properties": {p.name: p.schema() for p in self.params},
                "required": [p.name for p in self.params if p.required],
            },
        }

    def fingerprint(self) -> str:
        """Return the sha256 of everything a model sees of the tool."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def invoke(self, host: object, args: Mapping[str, Any]) -> Result:
        """Run the implementation; only the gate calls this.

        A plain return value of a user's function becomes an ``Ok``; an
        exception becomes a ``Failed`` that carries its message.
        """
        if self.function is None:
            return Failed(reason=f"{self.name} is declared without an implementation here")
        try:
            leading = (host,) if self.needs_host else ()
            outcome = self.function(*leading, **args)
        except BackendError as refused:
            return refused.result
        except Exception as error:  # a foreign tool may raise anything; it becomes a result
            return Failed(reason=f"{self.name} failed: {str(error) or type(error).__name__}")
        if isinstance(outcome, Result):
            return outcome
        text = "" if outcome is None else str(outcome)
        # Where a foreign function has its text from is not known: it counts as anyone's.
        value = Value(text=text, origin=Origin.UNTRUSTED)
        return Ok(value=value, note=text or f"{self.name} done.")


_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def literal(value: object) -> str:
    """Write a value as it stands in plans: ``None``, ``True``, ``""``, ``[]``, ``60``."""
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPED)}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(literal(item) for item in value)}]"
    return repr(value)


@overload
def tool(function: Callable[..., object], /) -> Tool: ...


@overload
def tool(
    *,
    name: str | None = None,
    effect: Effect | str = Effect.WRITE,
    returns: Type | str | None = None,
    fields: Sequence[str] = (),
    app: str = "",
    label: int | None = None,
    rules: str = "",
    staged: bool = False,
) -> Callable[[Callable[..., object]], Tool]: ...


def tool(
    function: Callable[..., object] | None = None,
    /,
    *,
    name: str | None = None,
    effect: Effect | str = Effect.WRITE,
    returns: Type | str | None = None,
    fields: Sequence[str] = (),
    app: str = "",
    label: int | None = None,
    rules: str = "",
    staged: bool = False,
) -> Tool | Callable[[Callable[..., object]], Tool]:
    """Declare a tool from a typed function.

    The summary is the docstring's first paragraph; argument meanings are its
    ``Args`` section. Plain ``str`` is free text; the aliases ``Span``,
    ``When``, ``Text``, ``Template``, ``Email``, ``Phone`` and ``FilePath`` say
    more. A first argument named ``host`` receives the ``Host`` (backend, writer,
    request, now).

    Args:
        function: The function, when used without parentheses.
        name: Name in plans; the function's own by default.
        effect: What a call does; ``write`` unless said, so that it asks first.
        returns: Type of the value; from the return annotation by default.
        fields: Names that ``$k.field`` may use.
        app: Group that can be switched off as one.
        label: Class index of the shipped classifier.
        rules: Further sentences for the prompt.
        staged: Whether all its effects are calls of ``host.backend``, so that a
            preview can show them exactly.

    Returns:
        The ``Tool``, or a decorator that makes one.

    Raises:
        ConfigError: The declaration cannot be used; the message names the
            tool, the argument and what would do.
    """
    if function is None:
        options: dict[str, Any] = {
            "name": name,
            "effect": effect,
            "returns": returns,
            "fields": fields,
        }
        more: dict[str, Any] = {"app": app, "label": label, "rules": rules, "staged": staged}
        return lambda f: _declare(f, **options, **more)
    return _declare(
        function,
        name=name,
        effect=effect,
        returns=returns,
        fields=fields,
        app=app,
        label=label,
        rules=rules,
        staged=staged,
    )


def _declare(
    function: Callable[..., object],
    *,
    name: str | None,
    effect: Effect | str,
    returns: Type | str | None,
    fields: Sequence[str],
    app: str,
    label: int | None,
    rules: str,
    staged: bool,
) -> Tool:
    """Build the ``Tool``; see ``tool`` for arguments and errors."""
    title = str(name or getattr(function, "__name__", ""))
    if not _NAME.fullmatch(title) or title in CONTROL_STEPS:
        raise ConfigError(
            f"tool name {title!r} cannot be used: letters, digits and _ only, 64 at most, "
            f"and none of {', '.join(CONTROL_STEPS)}"
        )
    if inspect.iscoroutinefunction(function):
        raise ConfigError(f"tool {title} is a coroutine function: a call would do nothing; use def")
    for item in fields:
        if not _FIELD.fullmatch(item):
            raise ConfigError(
                f"tool {title}: field {item!r} cannot be read as $k.{item}: lower-case letters, "
                "digits and _ only"
            )
    summary, meanings = read_docstring(inspect.getdoc(function) or "")
    if not summary:
        raise ConfigError(
            f"tool {title} has no docstring: its first paragraph tells the model what the tool does"
        )
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise ConfigError(f"tool {title}: its annotations cannot be read: {error}") from error
    parameters = list(inspect.signature(function).parameters.values())
    needs_host = bool(parameters) and parameters[0].name == "host"
    params = tuple(
        _param(title, parameter, hints.get(parameter.name), meanings.get(parameter.name, ""))
        for parameter in (parameters[1:] if needs_host else parameters)
    )
    try:
        return Tool(
            name=title,
            summary=summary,
            params=params,
            effect=Effect(effect),
            returns=Type(returns) if returns is not None else _return_type(hints.get("return")),
            fields=tuple(fields),
            app=app,
            label=label,
            function=function,
            needs_host=needs_host,
            rules=rules,
            staged=staged,
        )
    except ValueError as error:
        raise ConfigError(f"tool {title}: {error}") from error


def _param(tool_name: str, parameter: inspect.Parameter, hint: Any, meaning: str) -> Param:
    """Turn one function parameter into a ``Param``."""
    where = f"tool {tool_name}: argument {parameter.name}"
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        raise ConfigError(f"tool {tool_name}: {parameter} cannot be planned; name each argument")
    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        raise ConfigError(f"{where} is positional-only, but calls name it; drop the '/'")
    if hint is None:
        raise ConfigError(f"{where} has no type annotation")
    default = REQUIRED if parameter.default is inspect.Parameter.empty else parameter.default
    inner, optional = _strip_optional(hint)
    is_list = get_origin(inner) in (list, Sequence) or inner is list
    if is_list:
        inner = (get_args(inner) or (str,))[0]
        default = list(default) if isinstance(default, tuple | list) else default
    marker, choices = _read_hint(inner)
    if marker is None:
        raise ConfigError(
            f"{where} has type {hint}; use str, int, float, "
            "bool, Literal strings, a list of these, or an alias such as Span or When"
        )
    param = Param(
        name=parameter.name,
        kind=marker.kind,
        is_list=is_list,
        default=default,
        choices=choices,
        accepts=marker.accepts,
        entity=marker.entity,
        meaning=meaning,
        optional=optional or default is None,
        empty=marker.empty or default in ("", [], None),
        after=marker.after,
        finds=marker.finds,
    )
    if not (param.required or default is None or _fits(param, default)):
        kind = " or ".join(literal(c) for c in choices) if choices else marker.kind.value
        kind = f"a list of {kind}" if is_list else kind
        raise ConfigError(f"{where} has default {default!r}, which is not {kind}")
    return param


def _read_hint(hint: Any) -> tuple[Arg | None, tuple[str, ...]]:
    """Find how an argument of this type is written, and its choices; None for other types."""
    if get_origin(hint) is Annotated:
        plain, *extra = get_args(hint)
        marker = next((item for item in extra if isinstance(item, Arg)), None)
        found, choices = _read_hint(plain)
        return (found if marker is None or found is None else marker), choices
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        texts = all(isinstance(choice, str) for choice in choices)
        return (Arg(kind=Kind.CHOICE), choices) if texts else (None, ())
    return _SIMPLE.get(hint), ()


def _fits(param: Param, default: Any) -> bool:
    """Whether a default is a value that a plan could give."""
    if param.is_list:
        one = replace(param, is_list=False)
        return isinstance(default, list) and all(_fits(one, item) for item in default)
    match param.kind:
        case Kind.BOOL:
            return isinstance(default, bool)
        case Kind.INT | Kind.FLOAT:
            numbers = int if param.kind is Kind.INT else int | float
            finite = isinstance(default, numbers) and math.isfinite(default)
            return finite and not isinstance(default, bool)
        case Kind.CHOICE:
            return default in param.choices
        case _:
            return isinstance(default, str)


_SIMPLE: dict[Any, Arg] = {
    str: Arg(kind=Kind.TEXT, accepts=ANY_TEXT),
    int: Arg(kind=Kind.INT),
    float: Arg(kind=Kind.FLOAT),
    bool: Arg(kind=Kind.BOOL),
}


def _strip_optional(hint: Any) -> tuple[Any, bool]:
    """Take ``None`` out of a union of two."""
    if get_origin(hint) in (typing.Union, types.UnionType):
        rest = [part for part in get_args(hint) if part is not type(None)]
        if len(rest) == 1 and len(get_args(hint)) == 2:
            return rest[0], True
    return hint, False


def _return_type(hint: Any) -> Type:
    """Guess from the return annotation what later steps can read: nothing, or text."""
    return Type.STATUS if hint in (None, type(None), Result) else Type.TEXT


class ToolSet:
    """A named, ordered set of tools; the order is the classifier's label order.

    Args:
        name: Name of the set.
        tools: Tools in label order.

    Raises:
        ConfigError: Two tools share a name.
    """

    def __init__(self, name: str, tools: Iterable[Tool]) -> None:
        self.name = name
        self._tools: dict[str, Tool] = {}
        for item in tools:
            if item.name in self._tools:
                raise ConfigError(f"tool set {name}: two tools are called {item.name}")
            self._tools[item.name] = item

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def __getitem__(self, name: str) -> Tool:
        """Return the tool of that name.

        Raises:
            UsageError: There is none; the message offers near names.
        """
        try:
            return self._tools[name]
        except KeyError:
            near = get_close_matches(name, self._tools, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(f"no tool is called {name!r} in {self.name}{hint}") from None

    @property
    def names(self) -> tuple[str, ...]:
        """Tool names in label order."""
        return tuple(self._tools)

    def subset(self, names: Iterable[str]) -> ToolSet:
        """Return the tools of these names, in this set's order.

        Raises:
            UsageError: A name is unknown.
        """
        wanted = {self[name].name for name in names}
        return ToolSet(self.name, [item for item in self if item.name in wanted])

    def in_prompt_order(self) -> list[Tool]:
        """Return the tools longest prompt text first, ties by name.

        The order does not depend on which tools are offered, so subsets share
        long prefixes.
        """
        return sorted(self, key=lambda item: (-len(item.text()), item.name))

    def closure(self, names: Iterable[str]) -> ToolSet:
        """Return these tools and the producers that their arguments need.

        An argument that is resolved against an entity (an address, a number,
        a path) brings every tool that gives such a value.

        Raises:
            UsageError: A name is unknown.
        """
        wanted = {self[name].name for name in names}
        frontier = list(wanted)
        while frontier:
            current = self[frontier.pop()]
            needed = {ENTITY_TYPE[p.entity] for p in current.params if p.entity}
            for item in self:
                if item.returns in needed and item.name not in wanted:
                    wanted.add(item.name)
                    frontier.append(item.name)
        return self.subset(wanted)
