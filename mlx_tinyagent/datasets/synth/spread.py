"""Two of something in one request: "forward it to Ana and Raj" is two calls of one tool."""

from __future__ import annotations

from random import Random

from mlx_tinyagent.datasets.synth.clause import Borrowed, Clause, Key, Said, Segment
from mlx_tinyagent.datasets.synth.fill import Maker
from mlx_tinyagent.tools.base import Kind, Param


def spread(clause: Clause, maker: Maker, rng: Random) -> bool:
    """Name a second value for one argument, which makes a second call.

    Everything else is the same in both calls.

    Args:
        clause: A filled clause; changed in place.
        maker: What filled it.
        rng: The request's own random numbers.

    Returns:
        Whether the clause has an argument that can be said twice.
    """
    options = [param for param in clause.tool.params if _fits(clause, param)]
    if not options:
        return False
    param = rng.choice(options)
    key = Key(clause.serial, param.name)
    at = max(number for number, segment in enumerate(clause.segments) if segment.key == key)
    filler = "choice_said" if param.kind is Kind.CHOICE else ""
    word = maker.words(clause.tool, param, filler)[0]
    source = maker.source_of([word], param)
    same = source == clause.sources[param.name] and source != Said()
    if same or word.text.casefold() == clause.segments[at].text.casefold():
        return False
    second = Clause(serial=maker.serial, tool=clause.tool, template="spread")
    maker.serial += 1
    for name in clause.sources:
        second.sources[name] = Borrowed(clause, name)
    second.sources[param.name] = source
    said = Segment(word.text, Key(second.serial, param.name))
    clause.segments[at + 1 : at + 1] = [Segment(f" and {word.lead}"), said]
    clause.extra.append(second)
    return True


def _fits(clause: Clause, param: Param) -> bool:
    """Whether people name two of it: a person, or one of several choices."""
    if param.is_list or not any(
        segment.key == Key(clause.serial, param.name) for segment in clause.segments
    ):
        return False
    if param.kind is Kind.CHOICE:
        return True
    return param.entity is not None and isinstance(clause.sources.get(param.name), Said)
