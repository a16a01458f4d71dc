"""TinyAgent's success rate, bit-compatible with its published scorer, quirks included.

Source: SqueezeAILab/TinyAgent at 0074615, ``src/utils/plan_utils.py`` and
``src/utils/graph_utils.py`` (MIT). It says whether the *tool graph of the
first plan* is the gold one; arguments are never compared, so it is not task
success. See ``metrics`` for the strict measures.

What a reader would not expect, and what is kept:

* One regular expression reads the whole text; an argument list runs to the
  last ``)`` of its line, so two calls on a line are one.
* Arguments that are no Python literals become one raw string; a lone list
  argument becomes the argument list.
* A repeated number keeps its first place and last call; everything after the
  first ``join`` is ignored; the first unknown tool cuts the plan.
* ``$n`` means the n-th element of the list, whatever the printed numbers say;
  of each string, and of each string directly in a list, only the first
  ``$n`` counts; ``${n}`` does not.
* A step's node carries its whole dependency tree, one entry per string that
  holds a reference, compared in order after sorting by tool name only.

Where upstream raises (self-reference, reference beyond the end, cycle), this
scores 0 with a reason.
"""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_tinyagent.errors import InputError
from mlx_tinyagent.evaluate.graphs import Interner, LabeledGraph, isomorphic
from mlx_tinyagent.tools.catalog import TINYAGENT16

TOOL_NAMES = TINYAGENT16.names

_THOUGHT = "Thought: "
# Upstream: r"(?:Thought: ([^\n]*)\n)?\n*(\d+)\. (\w+)\((.*)\)(\s*#\w+\n)?" with findall. The
# scan below gives the same matches in linear time; see ``_actions``.
_HEADER = re.compile(r"(?<!\d)(\d++)\. (\w++)\(")
_REFERENCE = re.compile(r"\$\d+")
_BRACED = re.compile(r"\$\{(\d+)(?:\.\w+)?\}")

# What ast.literal_eval documents that it raises on malformed input.
_NO_LITERAL = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A score and why.

    Attributes:
        value: 1.0 or 0.0.
        reason: ``match``; ``different-tools`` or ``different-graph``; what
            makes upstream raise: ``self-reference``, ``zero-reference``,
            ``beyond-end``, ``cycle``, ``unreadable-id``; ``undecided`` if the
            comparison was given up. Faults of the gold plan start with
            ``gold-``.
    """

    value: float
    reason: str


class _UnscorableError(Exception):
    """The plan has no graph; upstream raises here."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Action:
    """One call as the scorer sees it: its tool and the references of its slots, in order."""

    tool: str
    slots: tuple[int, ...]


def tinyagent_success(
    predicted: str | Sequence[Mapping[str, Any]],
    gold: str | Sequence[Mapping[str, Any]],
    tools: Collection[str] = TOOL_NAMES,
) -> Score:
    """Score a predicted plan against the gold one as TinyAgent's scorer does.

    Args:
        predicted: Plan text, or calls ``{"id", "tool", "args"}`` (see ``render_calls``).
        gold: Likewise.
        tools: Known tool names besides ``join``.

    Returns:
        1.0 if the labeled graphs are isomorphic, else 0.0, with a reason.

    Raises:
        InputError: A structured call lacks its number, tool or arguments.
    """
    intern = Interner()
    try:
        wanted = _graph(_text(gold), tools, intern)
    except _UnscorableError as error:
        return Score(value=0.0, reason=f"gold-{error.reason}")
    try:
        found = _graph(_text(predicted), tools, intern)
    except _UnscorableError as error:
        return Score(value=0.0, reason=error.reason)
    same = isomorphic(found, wanted)
    if same is None:
        return Score(value=0.0, reason="undecided")
    if same:
        return Score(value=1.0, reason="match")
    if _tool_counts(found) != _tool_counts(wanted):
        return Score(value=0.0, reason="different-tools")
    return Score(value=0.0, reason="different-graph")


def render_calls(calls: Sequence[Mapping[str, Any]]) -> str:
    """Write structured calls as the text that the scorer reads.

    Arguments are positional Python literals; ``${k}`` and ``${k.field}``
    become ``$k``, which is how TinyAgent's own plans refer to a result inside
    text; ``join()`` closes the plan.

    Args:
        calls: Mappings with ``id``, ``tool`` and ``args`` (list, or mapping in order).

    Raises:
        InputError: A call lacks one of these, or one has the wrong type.
    """
    lines = [_render_call(index, call) for index, call in enumerate(calls)]
    last = max((int(call["id"]) for call in calls), default=0)
    return "\n".join([*lines, f"{last + 1}. join()"])


def _render_call(index: int, call: Mapping[str, Any]) -> str:
    if not isinstance(call, Mapping):
        raise InputError(f"call {index + 1} is {type(call).__name__}, not a mapping with id, tool")
    missing = [key for key in ("id", "tool", "args") if key not in call]
    if missing:
        raise InputError(f"call {index + 1} has no {', '.join(missing)}: {dict(call)!r:.200}")
    number, tool, args = call["id"], call["tool"], call["args"]
    if not isinstance(number, int) or number < 0 or not isinstance(tool, str):
        raise InputError(
            f"call {index + 1} has id {number!r} and tool {tool!r}; a number from 1 and a name do"
        )
    values = list(args.values()) if isinstance(args, Mapping) else args
    if not isinstance(values, list | tuple):
        raise InputError(f"call {index + 1} has args {args!r:.200}; a list of values does")
    return f"{number}. {tool}({', '.join(_literal(value) for value in values)})"


def _literal(value: object) -> str:
    """Write a value on one line, so that ``ast.literal_eval`` reads it back."""
    if isinstance(value, str):
        return repr(_BRACED.sub(r"$\1", value))
    if isinstance(value, list | tuple):
        return f"[{', '.join(_literal(item) for item in value)}]"
    return repr(value)


def _text(plan: str | Sequence[Mapping[str, Any]]) -> str:
    return plan if isinstance(plan, str) else render_calls(plan)


def _tool_counts(graph: LabeledGraph) -> Counter[Any]:
    return Counter(label[0] for label in graph.labels if isinstance(label, tuple))


def _graph(text: str, tools: Collection[str], intern: Interner) -> LabeledGraph:
    """Build the graph that upstream compares; nodes carry tool and dependency tree."""
    actions = _parse(text, frozenset(tools) | {"join"})
    for place, action in enumerate(actions, start=1):
        _check_references(place, action, len(actions))
    trees = _dependency_trees(actions, intern)
    edges = {(number - 1, place) for place, action in enumerate(actions) for number in action.slots}
    labels = tuple((action.tool, tree) for action, tree in zip(actions, trees, strict=True))
    return LabeledGraph(labels=labels, edges=frozenset(edges))


def _check_references(place: int, action: _Action, count: int) -> None:
    for number in action.slots:
        if number == place:
            raise _UnscorableError("self-reference")
        if number == 0:  # upstream wraps to the last step and adds a node without attributes
            raise _UnscorableError("zero-reference")
        if number > count:
            raise _UnscorableError("beyond-end")


def _dependency_trees(actions: Sequence[_Action], intern: Interner) -> list[int]:
    """Number each step's dependency tree; equal trees get equal numbers.

    Upstream compares nested lists: same length, sorted (stably) by tool name,
    pairwise equal. Numbering the sorted list of (tool, number) pairs bottom-up
    is the same relation without the exponential unfolding of shared steps.

    Raises:
        _UnscorableError: The references form a cycle.
    """
    readers: list[list[int]] = [[] for _ in actions]
    waiting = [0] * len(actions)
    for place, action in enumerate(actions):
        for number in set(action.slots):
            readers[number - 1].append(place)
            waiting[place] += 1
    ready = [place for place, count in enumerate(waiting) if count == 0]
    trees = [0] * len(actions)
    for place in ready:  # grows while it is walked
        below = [(actions[n - 1].tool, trees[n - 1]) for n in actions[place].slots]
        trees[place] = intern(tuple(sorted(below, key=lambda pair: pair[0])))
        for reader in readers[place]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                ready.append(reader)
    if len(ready) < len(actions):
        raise _UnscorableError("cycle")
    return trees


def _parse(text: str, names: frozenset[str]) -> list[_Action]:
    """Read the calls up to the first ``join``, cut before the first unknown tool."""
    calls: dict[int, tuple[str, str]] = {}
    for printed, tool, arguments in _actions(text):
        try:
            number = int(printed)
        except ValueError:  # beyond the interpreter's limit on digits
            raise _UnscorableError("unreadable-id") from None
        calls[number] = (tool, arguments)
        if tool == "join":
            break
    actions: list[_Action] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd escapes inside a plan's strings
        for tool, arguments in calls.values():
            if tool not in names:
                break
            actions.append(_Action(tool=tool, slots=_slots(_read_arguments(arguments))))
    return actions


def _actions(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield number, tool and argument text of what upstream's ``findall`` matches.

    An argument list is greedy to the last ``)`` of its line, so a line holds
    one call at most: the first header before that ``)``. An optional Thought
    eats the rest of its line if the next line that is not blank starts with a
    call; a call that begins earlier on the line wins.
    """
    pending: tuple[int, re.Match[str], str, int] | None = None  # call of the line before
    for line in text.split("\n"):
        if not line:
            continue
        last = line.rfind(")")
        match = _HEADER.search(line, 0, last) if last >= 0 else None
        if pending is not None:
            thought, header, owner, end = pending
            eaten = match is not None and match.start() == 0 and 0 <= thought < header.start()
            if not eaten:
                yield header[1], header[2], owner[header.end() : end]
        pending = (line.find(_THOUGHT), match, line, last) if match else None
    if pending is not None:
        _, header, owner, end = pending
        yield header[1], header[2], owner[header.end() : end]


def _read_arguments(text: str) -> Sequence[object]:
    """Read an argument list; what is no Python literal becomes one raw string."""
    if text == "":
        return ()
    try:
        value = ast.literal_eval(text)
    except _NO_LITERAL:
        value = text
    return value if isinstance(value, list | tuple) else (value,)


def _slots(arguments: Sequence[object]) -> tuple[int, ...]:
    """Return the first ``$n`` of each string argument and of each string directly in a list."""
    strings: list[str] = []
    for argument in arguments:
        if isinstance(argument, str):
            strings.append(argument)
        elif isinstance(argument, list):
            strings.extend(item for item in argument if isinstance(item, str))
    found = (_REFERENCE.search(text) for text in strings)
    return tuple(_number(match[0][1:]) for match in found if match)


def _number(digits: str) -> int:
    """Read digits; a number too long to read is beyond the end of any plan."""
    try:
        return int(digits)
    except ValueError:
        return sys.maxsize
