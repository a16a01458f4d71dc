"""Argument match: each argument compared by what its kind means.

Steps are first paired by tool, arguments and place in the graph, so that order
and numbering do not matter. Definitions per kind are in ``_Comparer``. Dates
are compared after an injected function has resolved them; nothing here
guesses a date.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mlx_tinyagent.evaluate.assignment import best_pairs
from mlx_tinyagent.evaluate.calls import Call, Numbering, Written, dependencies, items, take_apart
from mlx_tinyagent.evaluate.wording import TEXT_F1, fold_name, normalize, token_f1
from mlx_tinyagent.tools.base import Kind, Param, Tool, ToolSet, Type

# What a date phrase or ISO text means at a moment: anything comparable, or None if unreadable.
Resolve = Callable[[str, datetime], object]

MAX_PAIRS = 250_000  # predicted x gold steps; above, steps of a tool are paired in order
_SAME = 1.0 - 1e-9
_READERS_WEIGHT = 0.25  # of a step's readers against its own arguments when steps are paired

_UNKNOWN = Param(name="", kind=Kind.SPAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """An argument that does not match; ``step`` is the gold step's number."""

    step: int
    tool: str
    argument: str
    predicted: object
    gold: object


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentScore:
    """Argument match of one plan.

    Arguments at which both sides leave the default are not counted: they would
    only flatter the rate.

    Attributes:
        matched: Gold arguments that match.
        compared: Gold arguments that were compared; those of steps without a
            counterpart count as misses.
        ungradable: Dates that could not be graded, for want of a moment or a resolver.
        by_kind: (matched, compared) per argument kind.
        misses: What does not match.
        complete: Every step has its counterpart and every compared argument matches.
    """

    matched: int
    compared: int
    ungradable: int
    by_kind: Mapping[str, tuple[int, int]]
    misses: tuple[Miss, ...]
    complete: bool

    @property
    def rate(self) -> float:
        """Matched share; 1 where nothing was to compare."""
        return self.matched / self.compared if self.compared else 1.0


def argument_match(
    predicted: Sequence[Call],
    gold: Sequence[Call],
    tools: ToolSet,
    *,
    now: datetime | None = None,
    resolve: Resolve | None = None,
) -> ArgumentScore:
    """Compare the arguments of a predicted plan with the gold plan's.

    Args:
        predicted: Predicted calls.
        gold: Gold calls.
        tools: Declarations; arguments of other tools are compared as spans.
        now: The moment that date phrases refer to; None makes dates ungradable.
        resolve: Resolves a date; None makes dates ungradable.

    Returns:
        Counts over the gold plan's arguments.
    """
    comparer = _Comparer(predicted, gold, tools, now=now, resolve=resolve)
    partner = {right: left for left, right in comparer.pairs}
    counts: Counter[tuple[str, bool]] = Counter()
    misses: list[Miss] = []
    ungradable = 0
    for place, call in enumerate(gold):
        found = partner.get(place)
        for slot, param in enumerate(comparer.params(call, found)):
            written = comparer.value(found, slot, param, side="predicted")
            wanted = comparer.value(place, slot, param, side="gold")
            if _is_default(param, wanted) and (found is None or _is_default(param, written)):
                continue
            same = comparer.same(param, found, written, place, wanted)
            if same is None:
                ungradable += 1
                continue
            counts[param.kind.value, same] += 1
            if not same:
                misses.append(
                    Miss(
                        step=call.id,
                        tool=call.tool,
                        argument=param.name or f"argument {slot + 1}",
                        predicted=written,
                        gold=wanted,
                    )
                )
    kinds = sorted({kind for kind, _ in counts})
    by_kind = {
        kind: (counts[kind, True], counts[kind, True] + counts[kind, False]) for kind in kinds
    }
    return ArgumentScore(
        matched=sum(right for right, _ in by_kind.values()),
        compared=sum(total for _, total in by_kind.values()),
        ungradable=ungradable,
        by_kind=by_kind,
        misses=tuple(misses),
        complete=not misses and len(comparer.pairs) == len(gold) == len(predicted),
    )


def pair_steps(
    predicted: Sequence[Call],
    gold: Sequence[Call],
    tools: ToolSet,
    *,
    now: datetime | None = None,
    resolve: Resolve | None = None,
) -> list[tuple[int, int]]:
    """Pair predicted with gold steps of the same tool; returns places, ascending by the first."""
    return list(_Comparer(predicted, gold, tools, now=now, resolve=resolve).pairs)


def declaration(tools: ToolSet, name: str) -> Tool | None:
    """Return a tool's declaration, or None for a name that is not in the set."""
    if name in tools:
        return tools[name]
    return None


def names_person(tool: Tool, param: Param) -> bool:
    """Say whether an argument names a person: a contact, or the input of a contact look-up."""
    if not param.name:  # a surplus argument has no meaning
        return False
    looked_up = tool.returns in (Type.EMAIL, Type.PHONE) and param.kind is Kind.SPAN
    return looked_up or (param.entity or "").startswith("contact")


def names_file(tool: Tool, param: Param) -> bool:
    """Say whether an argument names a file: a path, or the input of a file look-up."""
    return param.entity == "file" or (tool.returns is Type.PATH and param.kind is Kind.SPAN)


def is_empty(value: object) -> bool:
    """Say whether a value says nothing: None, an empty text or an empty list."""
    return value is None or value in ("", [], ())


def _is_default(param: Param, value: object) -> bool:
    if is_empty(value):
        return param.required or is_empty(param.default)
    if param.required:
        return False
    return type(value) is type(param.default) and value == param.default


class _Comparer:
    """Two plans side by side: pairs of steps, and whether arguments match.

    * span: equal after ``normalize``; people and files after ``fold_name``.
    * when: equal after resolving both; where a text does not resolve, equal words.
    * text, template: token F1 of the words >= 0.6.
    * choice, int, float, bool: equal values.
    * reference: reads the counterpart of what the gold argument reads, or a
      step that is the same throughout.
    * list: a one-to-one match of items, in any order.
    """

    def __init__(
        self,
        predicted: Sequence[Call],
        gold: Sequence[Call],
        tools: ToolSet,
        *,
        now: datetime | None,
        resolve: Resolve | None,
    ) -> None:
        self.predicted, self.gold, self.tools = predicted, gold, tools
        self.now, self.resolve = now, resolve
        self._numbers = Numbering(predicted), Numbering(gold)
        self._moments: dict[str, object] = {}
        self._likeness: dict[tuple[int, int], float] = {}
        self.partner: dict[int, int] = {}
        self.pairs = self._pair()
        self.partner = dict(self.pairs)

    def params(self, call: Call, found: int | None) -> list[Param]:
        """Return one declaration per argument that either side writes or may leave out."""
        declared = list(self.tools[call.tool].params) if call.tool in self.tools else []
        written = len(self.predicted[found].args) if found is not None else 0
        extra = max(len(call.args), written) - len(declared)
        return declared + [_UNKNOWN] * max(extra, 0)

    def value(self, place: int | None, slot: int, param: Param, *, side: str) -> object:
        """Return an argument, or its default where it is left out."""
        if place is None:
            return None
        call = (self.predicted if side == "predicted" else self.gold)[place]
        value = call.args[slot] if slot < len(call.args) else None
        return param.default if is_empty(value) and not param.required else value

    def same(
        self, param: Param, left: int | None, written: object, right: int, wanted: object
    ) -> bool | None:
        """Say whether an argument matches; None for a date that cannot be graded."""
        if left is None:
            return False
        if is_empty(written) or is_empty(wanted):
            return is_empty(written) and is_empty(wanted)
        if isinstance(written, list | tuple) or isinstance(wanted, list | tuple):
            return self._same_items(param, left, items(written), right, items(wanted))
        return self._same_item(param, left, written, right, wanted)

    def _same_items(
        self,
        param: Param,
        left: int,
        written: tuple[object, ...],
        right: int,
        wanted: tuple[object, ...],
    ) -> bool | None:
        if len(written) != len(wanted):
            return False
        verdicts = [
            [self._same_item(param, left, mine, right, theirs) for theirs in wanted]
            for mine in written
        ]
        if any(verdict is None for row in verdicts for verdict in row):
            return None
        weights = [[1.0 if verdict else 0.0 for verdict in row] for row in verdicts]
        return all(weights[row][column] > 0 for row, column in best_pairs(weights))

    def _same_item(
        self, param: Param, left: int, written: object, right: int, wanted: object
    ) -> bool | None:
        mine = take_apart(written, self._numbers[0], left)
        theirs = take_apart(wanted, self._numbers[1], right)
        if mine.reads or theirs.reads:
            return self._same_references(mine, theirs)
        if mine.text is None or theirs.text is None or param.kind in _CLOSED:
            return _same_value(param, written, wanted)
        return self._same_text(param, self.gold[right].tool, mine.text, theirs.text)

    def _same_references(self, mine: Written, theirs: Written) -> bool:
        """Compare what is read as multisets, and the words around it."""
        if len(mine.reads) != len(theirs.reads):
            return False
        weights = [
            [1.0 if self._same_step(source, target) else 0.0 for target in theirs.reads]
            for source in mine.reads
        ]
        if not all(weights[row][column] > 0 for row, column in best_pairs(weights)):
            return False
        return token_f1(mine.text or "", theirs.text or "") >= TEXT_F1

    def _same_step(self, source: int, target: int) -> bool:
        if self.partner.get(source) == target:
            return True
        return self._likeness.get((source, target), 0.0) >= _SAME

    def _same_text(self, param: Param, tool: str, written: str, wanted: str) -> bool | None:
        if param.kind in (Kind.TEXT, Kind.TEMPLATE):
            return token_f1(written, wanted) >= TEXT_F1
        if param.kind is Kind.WHEN:
            return self._same_moment(written, wanted)
        declared = declaration(self.tools, tool)
        if declared and (names_person(declared, param) or names_file(declared, param)):
            return fold_name(written) == fold_name(wanted)
        return normalize(written) == normalize(wanted)

    def _same_moment(self, written: str, wanted: str) -> bool | None:
        if normalize(written) == normalize(wanted):
            return True
        if self.now is None or self.resolve is None:
            return None
        for text in (written, wanted):
            if text not in self._moments:
                self._moments[text] = self.resolve(text, self.now)
        mine = self._moments[written]
        return mine is not None and mine == self._moments[wanted]

    def _pair(self) -> list[tuple[int, int]]:
        """Pair steps tool by tool, for the largest likeness of arguments and readers."""
        groups: dict[str, tuple[list[int], list[int]]] = {}
        for side, calls in enumerate((self.predicted, self.gold)):
            for place, call in enumerate(calls):
                groups.setdefault(call.tool, ([], []))[side].append(place)
        if len(self.predicted) * len(self.gold) > MAX_PAIRS:
            return sorted(
                pair for left, right in groups.values() for pair in zip(left, right, strict=False)
            )
        for left, call in enumerate(self.predicted):  # what a step reads comes before it
            for right in groups[call.tool][1]:
                self._likeness[left, right] = self._compare_steps(left, right)
        readers = _readers(self.predicted), _readers(self.gold)
        pairs: list[tuple[int, int]] = []
        for lefts, rights in groups.values():
            weights = [
                [
                    self._likeness[left, right]
                    + _READERS_WEIGHT * self._compare_readers(readers[0][left], readers[1][right])
                    for right in rights
                ]
                for left in lefts
            ]
            pairs += [(lefts[row], rights[column]) for row, column in best_pairs(weights)]
        return sorted(pairs)

    def _compare_steps(self, left: int, right: int) -> float:
        """Return the mean likeness of two steps' arguments, references followed."""
        params = self.params(self.gold[right], left)
        if not params:
            return 1.0
        total = 0.0
        for slot, param in enumerate(params):
            written = self.value(left, slot, param, side="predicted")
            wanted = self.value(right, slot, param, side="gold")
            if self.same(param, left, written, right, wanted):
                total += 1.0
            else:
                total += 0.5 * min(token_f1(_words(written), _words(wanted)), 0.99)
        return total / len(params)

    def _compare_readers(self, left: list[int], right: list[int]) -> float:
        """Return how alike the steps are that read two steps, from 0 to 1."""
        if not left and not right:
            return 1.0
        best = [
            max((self._likeness.get((mine, theirs), -1.0) + 1.0 for mine in left), default=0.0) / 2
            for theirs in right
        ]
        return sum(best) / max(len(left), len(right))


_CLOSED = frozenset({Kind.CHOICE, Kind.INT, Kind.FLOAT, Kind.BOOL})


def _same_value(param: Param, written: object, wanted: object) -> bool:
    """Compare values that are no text; numbers written as text are read."""
    if param.kind in (Kind.INT, Kind.FLOAT):
        written, wanted = _as_number(written), _as_number(wanted)
    if isinstance(written, bool) is not isinstance(wanted, bool):
        return False
    return bool(written == wanted)


def _as_number(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _words(value: object) -> str:
    return " ".join(str(item) for item in items(value) if item is not None)


def _readers(calls: Sequence[Call]) -> list[list[int]]:
    result: list[list[int]] = [[] for _ in calls]
    for place, read in enumerate(dependencies(calls)):
        for source in read:
            result[source].append(place)
    return result


def as_values(call: Call, tools: ToolSet) -> list[tuple[Param, Any]]:
    """Return a call's written arguments with their declarations; unknown ones are spans."""
    declared = tools[call.tool].params if call.tool in tools else ()
    padded = [*declared, *[_UNKNOWN] * max(len(call.args) - len(declared), 0)]
    return list(zip(padded, call.args, strict=False))
