"""The plan grammar, one line at a time: what may be written next.

After each line the next line's grammar is built from what is known by then:
which earlier steps there are, what their values are, how many steps with
effects are left. So ``$k`` can only name an earlier step whose value fits,
and a span-typed argument can only be words of the request.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mlx_tinyagent.plan.graph import DEFAULT_LIMITS, Limits
from mlx_tinyagent.plan.schema import parse_ref, parse_template
from mlx_tinyagent.plan.text import in_range
from mlx_tinyagent.tools.base import ENTITY_TYPE, Kind, Param, Tool, ToolSet, Type, literal

MAX_TEXT_CHARS = 400  # free text in one argument
MAX_SPAN_CHARS = 400  # words of the request in one argument
MAX_ITEMS = 8  # items of one list
MAX_SPAN_SOURCE_CHARS = 16_384  # of request and history that spans may come from

# A span does not begin with a blank, quote or dollar, nor end with a blank or
# a sentence's punctuation; it never holds what would have to be escaped.
_SPAN_SHAPE = rf"/[^\s\"\\$.,;:!?]([^\"\\\n\r\t]{{0,{MAX_SPAN_CHARS - 2}}}[^\s\"\\.,;:!?])?/"
_ISO = r"/[0-9]{4}-[0-9]{2}-[0-9]{2}( [0-9]{2}:[0-9]{2}(:[0-9]{2})?)?/"
# How an address, a number or a path stands in a request that has one.
_WRITTEN_OUT = {
    "contact-email": re.compile(r"[\w.+%-]+@\w[\w.-]*\w"),
    "contact-phone": re.compile(r"(?<![\w:.$@+])\+?\(?\d[\d\s().\-/]*\d(?![\w:%@])"),
    "file": re.compile(r"(?<![^\s\"'(])(?:~|\.{1,2})?/[^\s\"'\\$]*[^\s\"'\\$.,;:!?)]"),
}
_WORDS = (Kind.SPAN, Kind.WHEN, Kind.TEXT, Kind.TEMPLATE)
_CHAR = r'[^"\\\n\r\t$]|\\["\\n]'


@dataclass(frozen=True, slots=True)
class Written:
    """A step that has been written: its number and tool."""

    id: int
    tool: Tool


@dataclass(frozen=True, slots=True, kw_only=True)
class GrammarOptions:
    """What the plan grammar admits beside calls of the offered tools.

    Attributes:
        ask: Whether ``ask("...")`` may stand first.
        more_tools: Names that ``more_tools([...])`` may name; empty: it may not be written.
        iso_dates: Whether dates may be written as ISO 8601 text as well as copied.
        dates: Texts whose words a date may copy: what says when. None: all sources.
        limits: Bounds on steps and effects.
    """

    ask: bool = True
    more_tools: tuple[str, ...] = ()
    iso_dates: bool = False
    dates: tuple[str, ...] | None = None
    limits: Limits = DEFAULT_LIMITS


def line_grammar(
    written: Sequence[Written],
    tools: ToolSet,
    sources: Sequence[str],
    options: GrammarOptions,
) -> str:
    """Build the Lark grammar of the next plan line.

    Args:
        written: Steps so far.
        tools: Offered tools.
        sources: Texts whose words spans may copy: the request, then earlier ones.
        options: What else is admitted.

    Returns:
        Grammar text for llguidance; the line ends with a newline, ``join()``
        without one.
    """
    number = len(written) + 1
    effects = sum(step.tool.effect.changes for step in written)
    builder = _Builder(written, tools, sources, options)
    heads = []
    if number <= options.limits.steps:
        for tool in tools:
            if not tool.effect.changes or effects < options.limits.effects:
                call = builder.call(tool)
                heads += [] if call is None else [call]
    if not written:
        if options.ask:
            heads.append(f"{_text('ask(')} {builder.rule('QUESTION')} {_text(')' + chr(10))}")
        if options.more_tools:
            names = " | ".join(_text(literal(name)) for name in options.more_tools)
            builder.add("more_name", names)
            rest = f"({_text(', ')} more_name)" + f"{{0,{MAX_ITEMS - 1}}}"
            heads.append(f"{_text('more_tools([')} more_name {rest} {_text('])' + chr(10))}")
    heads.append(_text("join()"))
    start = f"start: {_text(f'{number}. ')} ({' | '.join(heads)})"
    return "\n".join([start, *builder.lines()]) + "\n"


def closing_grammar(number: int) -> str:
    """Build the grammar of the line after a control step: ``join()`` alone."""
    return f"start: {_text(f'{number}. join()')}\n"


class _Builder:
    """Collects the rules that one line's grammar needs."""

    def __init__(
        self,
        written: Sequence[Written],
        tools: ToolSet,
        sources: Sequence[str],
        options: GrammarOptions,
    ) -> None:
        self._written = written
        self._returned = {tool.returns for tool in tools}
        self._options = options
        self._sources = _clip(sources)
        self._attaches = False  # whether the tool that is being written takes files
        self._rules: dict[str, str] = {}

    def lines(self) -> list[str]:
        return [f"{name}: {body}" for name, body in self._rules.items()]

    def add(self, name: str, body: str) -> str:
        self._rules[name] = body
        return name

    def call(self, tool: Tool) -> str | None:
        """Return the ways to call a tool; None while a step that gives it a value is missing."""
        parts = [_text(f"{tool.name}(")]
        self._attaches = any(param.entity == "file" for param in tool.params)
        for index, param in enumerate(tool.params):
            if index:
                parts.append(_text(", "))
            argument = self.argument(param)
            if argument is None:
                return None
            parts.append(argument)
        parts.append(_text(")\n"))
        return " ".join(parts)

    def argument(self, param: Param) -> str | None:
        if param.is_list:
            return self.items(param)
        options = self.values(param)
        if not options and self.must_be_said(param):
            return None
        if param.optional:
            options.append(_text("None"))
        options += _default(param)
        if param.kind in _WORDS and ((param.empty and param.default is not None) or not options):
            options.append(_text('""'))
        return _one_of(options)

    def items(self, param: Param) -> str | None:
        """Return the ways to write a list; one of which nothing can be said is empty."""
        values = self.values(param)
        if not values and self.must_be_said(param):
            return None
        options = [_text("[]")] if param.empty or not values else []
        options += _default(param)
        if values:
            item = _one_of(values)
            more = f"({_text(', ')} {item}){{0,{MAX_ITEMS - 1}}}"
            body = f"{_text('[')} {item} {more} {_text(']')}"
            options.append(self.add(f"list_{_key(body)}", body))
        return _one_of(options)

    def values(self, param: Param) -> list[str]:
        """Return the ways to write one value anew: words, numbers, results of earlier steps."""
        match param.kind:
            case Kind.INT | Kind.FLOAT:
                return [self.rule(param.kind.name)]
            case Kind.BOOL:
                return [_text("True"), _text("False")]
            case Kind.CHOICE:
                plain = [choice for choice in param.choices if not _refers(choice)]
                return [_text(literal(choice)) for choice in plain or param.choices]
            case Kind.SPAN:
                written = self.written_out(param) if self.looked_up(param) else self.span()
            case Kind.WHEN:
                written = self.when() + ([self.rule("ISO")] if self._options.iso_dates else [])
            case Kind.TEXT:
                written = [self.rule("TEXT")]
            case Kind.TEMPLATE:
                written = [self.template(param)]
        return written + [_text(f'"${step.id}"') for step in self._readable(param)]

    def looked_up(self, param: Param) -> bool:
        """Whether an offered tool finds what the argument takes: then a mere name will not do."""
        return param.entity is not None and ENTITY_TYPE[param.entity] in self._returned

    def written_out(self, param: Param) -> list[str]:
        """Return the addresses, numbers or paths that the request itself has."""
        pattern = _WRITTEN_OUT[param.entity or "file"]
        found = (match for source in self._sources for match in pattern.findall(source))
        return [_text(literal(match)) for match in dict.fromkeys(found) if _is_plain(match)]

    def must_be_said(self, param: Param) -> bool:
        """Whether a call cannot go without the argument: nobody to send to, no date."""
        dated = param.kind is Kind.WHEN and self._options.dates is not None
        return param.required and not param.empty and (dated or self.looked_up(param))

    def when(self) -> list[str]:
        """Return the rule for words that say when; those of the request where none are known."""
        dates = self._options.dates
        return self.span() if dates is None else self._copied("WHEN", _clip(dates))

    def span(self) -> list[str]:
        """Return the rule for words of the request; none where there are no words."""
        return self._copied("SPAN", self._sources)

    def _copied(self, name: str, sources: Sequence[str]) -> list[str]:
        if not sources:
            return []
        if name not in self._rules:
            parts = []
            for index, source in enumerate(sources):
                body = "%regex " + json.dumps({"substring_words": source})
                parts.append(self.add(f"{name}_SUB{index}", body))
            self.add(f"{name}_TEXT", f"({' | '.join(parts)}) & {_SPAN_SHAPE}")
            self.add(name, rf'"\"" {name}_TEXT "\""')
        return [name]

    def template(self, param: Param) -> str:
        readable = [str(step.id) for step in self._readable(param)]
        ref = r"|\$\{(" + "|".join(readable) + r")\}" if readable else ""
        body = f'"\\"" {_free_text(ref)} "\\""'
        return self.add(f"TEMPLATE_{_key(body).upper()}", body)

    def rule(self, name: str) -> str:
        bodies = {
            "INT": "/-?[0-9]{1,9}/",
            "FLOAT": r"/-?[0-9]{1,9}(\.[0-9]{1,6})?/",
            "ISO": f'"\\"" {_ISO} "\\""',
            "TEXT": f'"\\"" {_free_text("")} "\\""',
            "QUESTION": r'"\"" /[^"\\\n\r\t$ ][^"\\\n\r\t$]{1,158}\?/ "\""',
        }
        return self.add(name, bodies[name])

    def _readable(self, param: Param) -> list[Written]:
        """Return the steps whose value may stand here; a file is attached where that can be."""
        accepts = param.accepts
        if self._attaches and param.entity is None:
            accepts -= {Type.PATH}
        return [step for step in self._written if step.tool.returns in accepts]


def _default(param: Param) -> list[str]:
    """Return a default that says something, if a plan can hold it."""
    if param.required or param.default in ("", None, []):
        return []
    items = param.default if param.is_list else [param.default]
    if not isinstance(items, list | tuple) or not all(_holds(param, item) for item in items):
        return []
    written = f" {_text(', ')} ".join(_text(literal(item)) for item in items)
    # The bracket stands alone, or it would hide the bracket of other lists from the lexer.
    return [f"{_text('[')} {written} {_text(']')}" if param.is_list else written]


def _holds(param: Param, value: object) -> bool:
    """Whether a plan can hold a value that a tool's declaration names."""
    match param.kind:
        case Kind.INT | Kind.FLOAT:
            numbers = int if param.kind is Kind.INT else int | float
            return isinstance(value, numbers) and not isinstance(value, bool) and in_range(value)
        case Kind.BOOL:
            return isinstance(value, bool)
        case Kind.CHOICE:
            return value in param.choices and not _refers(value)
        case _:
            return isinstance(value, str) and not _refers(value)


def _refers(value: object) -> bool:
    """Whether a text would be read as a reference, or as a template that holds one."""
    return isinstance(value, str) and (
        parse_ref(value) is not None or parse_template(value) != value
    )


def _is_plain(text: str) -> bool:
    """Whether a found text stands on one line and is more than a short number."""
    digits = sum(char.isdigit() for char in text)
    return "\n" not in text and (digits >= 3 or any(char.isalpha() for char in text))


def _one_of(options: Sequence[str]) -> str:
    return f"({' | '.join(dict.fromkeys(options))})"


def _free_text(ref: str) -> str:
    """Write the regex of free text; dollars begin a reference only where one fits."""
    first = rf"({_CHAR}|\$+[^{{$\"\\\n\r\t0-9]{ref})"
    later = rf"({_CHAR}|\$+[^{{$\"\\\n\r\t]{ref})"
    return f"/{first}{later}{{0,{MAX_TEXT_CHARS - 1}}}\\$?/"


def _clip(sources: Sequence[str]) -> list[str]:
    """Keep non-empty sources within the length that spans may come from, words whole."""
    kept: list[str] = []
    left = MAX_SPAN_SOURCE_CHARS
    for source in sources:
        end = min(left, len(source))
        while 0 < end < len(source) and source[end - 1].isalnum() and source[end].isalnum():
            end -= 1
        text = source[:end].encode(errors="replace").decode()  # a lone surrogate is no word
        if any(char.isalnum() for char in text):
            kept.append(text)
            left -= len(text)
        if left <= 0:
            break
    return kept


def _text(text: str) -> str:
    """Write a Lark string literal."""
    return json.dumps(text)


def _key(text: str) -> str:
    """Derive a rule name from an item rule's text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
