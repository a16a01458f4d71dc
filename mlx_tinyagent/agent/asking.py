"""Small parts of asking the user: once per name, times to offer, names put right in a plan."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from mlx_tinyagent.agent.followup import edited
from mlx_tinyagent.plan.schema import Argument, Plan
from mlx_tinyagent.tools.results import Ambiguous, Candidate

Choose = Callable[[Ambiguous], Candidate | None]


def once(choose: Choose | None) -> Choose | None:
    """Return what asks each question once; None where nothing asks."""
    return choose if choose is None or isinstance(choose, Once) else Once(choose)


class Once:
    """Asks once per name and candidates, however often a plan is read."""

    def __init__(self, choose: Choose) -> None:
        self._choose = choose
        self._known: dict[tuple[str, tuple[str, ...]], int | None] = {}

    def __call__(self, unclear: Ambiguous) -> Candidate | None:
        """Return the candidate that is meant, or None."""
        key = unclear.what, tuple(candidate.label for candidate in unclear.candidates)
        if key not in self._known:
            chosen = self._choose(unclear)
            at = next((i for i, c in enumerate(unclear.candidates) if c is chosen), None)
            self._known[key] = at
        place = self._known[key]
        return None if place is None else unclear.candidates[place]


def moments(now: datetime) -> tuple[str, ...]:
    """Return a few times that are likely meant."""
    later = ("today at 5pm",) if now.hour < 16 else ("today at 8pm",) if now.hour < 19 else ()
    return (*later, "tomorrow at 9am", "tomorrow at 5pm", "next monday at 9am")


def quoted(what: str) -> str:
    """Return the name inside ``contact 'Dana'``."""
    first, last = what.find("'"), what.rfind("'")
    return what[first + 1 : last] if 0 <= first < last else ""


def names_it(plan: Plan, name: str) -> bool:
    """Whether a name stands as an argument somewhere in a plan."""
    return bool(name) and any(
        name in (argument if isinstance(argument, tuple) else (argument,))
        for step in plan.steps
        for argument in step.args
    )


def replaced(plan: Plan, name: str, value: str) -> Plan:
    """Return a plan with a name written otherwise wherever it stands as an argument."""
    for step in plan.steps:
        for place, argument in enumerate(step.args):
            new: Argument = argument
            if isinstance(argument, tuple):
                new = tuple(value if item == name else item for item in argument)
            elif argument == name:
                new = value
            if new != argument:
                plan = edited(plan, step.id, place, new)
    return plan
