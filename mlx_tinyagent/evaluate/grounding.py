"""Where argument values come from: the request, a default, a result, or nowhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlx_tinyagent.evaluate.arguments import as_values, declaration, is_empty, names_person
from mlx_tinyagent.evaluate.calls import Call, Numbering, items, take_apart
from mlx_tinyagent.evaluate.wording import contains_span, fold_name, normalize
from mlx_tinyagent.tools.base import Kind, Param, ToolSet

# Kinds that point at something in the request; free text may be worded anew.
POINTING = (Kind.SPAN, Kind.WHEN)
WORDED = (Kind.SPAN, Kind.WHEN, Kind.TEXT, Kind.TEMPLATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A text value at its place in a plan."""

    step: int
    tool: str
    argument: str
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundingScore:
    """Which written values stand in the request.

    Attributes:
        totals: Written values per kind.
        ungrounded: Those that come from nowhere.
    """

    totals: Mapping[Kind, int]
    ungrounded: tuple[Value, ...]

    def rate(self, kinds: Collection[Kind] = WORDED) -> float:
        """Return the ungrounded share of the values of these kinds; 0 where there are none."""
        total = sum(self.totals.get(kind, 0) for kind in kinds)
        return sum(value.kind in kinds for value in self.ungrounded) / total if total else 0.0


def grounding(
    calls: Sequence[Call], tools: ToolSet, request: str, history: Sequence[object] = ()
) -> GroundingScore:
    """Find the values that nobody gave.

    Counted are texts of span, when, text and template arguments that are
    neither empty nor the default; of a text with references, the words
    around them. Grounded is what reads as whole words in the request or the
    history (case, blanks and typographic quotes aside) or is a value the
    planner's resolvers put in. Numbers and choices are closed by their type
    and not counted.

    Args:
        calls: Predicted calls.
        tools: Declarations; arguments of other tools count as spans.
        request: The user's words.
        history: Earlier turns: texts, or data that holds texts.
    """
    known = [normalize(text) for text in (request, *_texts(history))]
    totals: Counter[Kind] = Counter()
    ungrounded: list[Value] = []
    for call, value in _written(calls, tools):
        totals[value.kind] += 1
        wanted = normalize(value.text)
        resolved = (normalize(text) for text in _texts(list(call.resolved.values())))
        if not any(contains_span(text, wanted) for text in known) and wanted not in resolved:
            ungrounded.append(value)
    return GroundingScore(totals=dict(totals), ungrounded=tuple(ungrounded))


def unknown_tools(calls: Sequence[Call], offered: Collection[str]) -> tuple[str, ...]:
    """Return the called names that were not offered, in order, repeats kept."""
    return tuple(call.tool for call in calls if call.tool not in offered)


def unknown_people(
    calls: Sequence[Call], tools: ToolSet, request: str, history: Sequence[object] = ()
) -> tuple[Value, ...]:
    """Return the people that plans name and nobody mentioned.

    People stand in arguments that are resolved against contacts, and in the
    look-ups that give addresses and numbers. Names are compared without case,
    accents and punctuation.
    """
    known = [fold_name(text) for text in (request, *_texts(history))]
    named = [
        value
        for _, value in _written(calls, tools, people_only=True)
        if not any(contains_span(text, fold_name(value.text)) for text in known)
    ]
    return tuple(named)


def _written(
    calls: Sequence[Call], tools: ToolSet, *, people_only: bool = False
) -> Iterator[tuple[Call, Value]]:
    """Yield every text that a plan writes, references and defaults left out."""
    numbering = Numbering(calls)
    for place, call in enumerate(calls):
        declared = declaration(tools, call.tool)
        for slot, (param, argument) in enumerate(as_values(call, tools)):
            if param.kind not in WORDED or _left_out(param, argument):
                continue
            if people_only and (declared is None or not names_person(declared, param)):
                continue
            for item in items(argument):
                text = take_apart(item, numbering, place).text
                if text and normalize(text):
                    name = param.name or f"argument {slot + 1}"
                    yield (
                        call,
                        Value(
                            step=call.id, tool=call.tool, argument=name, kind=param.kind, text=text
                        ),
                    )


def _left_out(param: Param, argument: object) -> bool:
    return is_empty(argument) or (not param.required and argument == param.default)


def _texts(value: object) -> Iterator[str]:
    """Yield every text in nested data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
