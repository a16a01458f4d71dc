"""Tools under made-up names, so that a name must be read off its block and not remembered.

An adapter that has only ever seen sixteen names writes them from memory, and a
tool it was not trained on gets one of theirs. Under a name like ``kalo_miru``,
which stands nowhere but in the block, the description is all there is to go by.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlx_tinyagent.plan.text import write
from mlx_tinyagent.prompt.render import Turn
from mlx_tinyagent.tools.base import Tool, ToolSet
from mlx_tinyagent.train.batches import chance

if TYPE_CHECKING:
    from mlx_tinyagent.datasets.record import Example

SETS = 4  # each has blocks of its own, computed once per run
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"
_STEP = re.compile(r"^(\d+\. )(\w+)(?=\()", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Aliases:
    """One set of made-up names.

    Attributes:
        tools: The tools under these names, in the order of the real ones.
        names: Made-up name by real name.
    """

    tools: ToolSet
    names: dict[str, str]

    def of(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the made-up names of some tools, in the set's order."""
        wanted = {self.names[name] for name in names}
        return tuple(name for name in self.tools.names if name in wanted)

    def plan(self, example: Example) -> str:
        """Return the text of an example's plan under these names.

        Raises:
            PlanError: The plan breaks a rule.
        """
        calls = [dataclasses.replace(call, tool=self.names[call.tool]) for call in example.plan]
        renamed = dataclasses.replace(example, plan=tuple(calls), tools=self.of(example.tools))
        return write(renamed.bound(self.tools))

    def history(self, turns: Iterable[Turn]) -> tuple[Turn, ...]:
        """Return earlier turns with their plans under these names."""

        def renamed(step: re.Match[str]) -> str:
            return step[1] + self.names.get(step[2], step[2])

        return tuple(
            dataclasses.replace(turn, plan=_STEP.sub(renamed, turn.plan)) for turn in turns
        )


def alias_sets(tools: ToolSet, *, seed: int, count: int = SETS) -> tuple[Aliases, ...]:
    """Return sets of made-up names; no name occurs twice, nor is one a real one.

    Args:
        tools: Declarations.
        seed: Decides the names.
        count: How many sets.
    """
    taken = set(tools.names)
    made = []
    for number in range(count):
        dice = chance(seed, "aliases", number)
        renamed: list[Tool] = []
        for tool in tools:
            name = _fresh(dice, taken)
            renamed.append(dataclasses.replace(tool, name=name))
        names = dict(zip(tools.names, (tool.name for tool in renamed), strict=True))
        made.append(Aliases(tools=ToolSet(f"{tools.name}-{number}", renamed), names=names))
    return tuple(made)


def _fresh(dice: random.Random, taken: set[str]) -> str:
    """Return a name of one to three words that nothing has yet, and take it."""
    while True:
        words = [_word(dice) for _ in range(dice.choice((1, 2, 2, 3)))]
        name = "_".join(words)
        if name not in taken:
            taken.add(name)
            return name


def _word(dice: random.Random) -> str:
    pairs = dice.choice((2, 2, 3))
    return "".join(dice.choice(_CONSONANTS) + dice.choice(_VOWELS) for _ in range(pairs))
