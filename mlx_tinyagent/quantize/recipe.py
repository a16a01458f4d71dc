"""Which matrix gets how many bits."""

from __future__ import annotations

from collections.abc import Mapping

from mlx_tinyagent.errors import UsageError
from mlx_tinyagent.quantize.packing import Format
from mlx_tinyagent.quantize.sensitivity import Table


def mixed(table: Table, sizes: Mapping[str, int], bits: float) -> dict[str, Format]:
    """Share bits out so that the expected KL is least at a mean of ``bits`` per weight.

    All matrices start with the fewest bits; the step that saves most KL per bit
    spent comes next, until the mean is reached.

    Args:
        table: Expected KL per matrix and format.
        sizes: Weights per matrix.
        bits: Mean bits of a weight, scales not counted.

    Returns:
        A format per matrix.

    Raises:
        UsageError: Even the fewest bits are more than the mean.
    """
    paths = {name: _frontier(costs) for name, costs in table.items()}
    level = dict.fromkeys(paths, 0)
    room = bits * sum(sizes.values())
    room -= sum(sizes[name] * path[0].bits for name, path in paths.items())
    if room < 0:
        least = min(form.bits for costs in table.values() for form in costs)
        raise UsageError(f"{bits:g} bits are too few; the formats on offer begin at {least}")
    closed: set[str] = set()
    while True:
        best, gain = None, 0.0
        for name, path in paths.items():
            if name in closed or level[name] + 1 == len(path):
                continue
            here, there = path[level[name]], path[level[name] + 1]
            spent = sizes[name] * (there.bits - here.bits)
            saved = (table[name][here] - table[name][there]) / spent
            if saved > gain:
                best, gain = name, saved
        if best is None:
            break
        here, there = paths[best][level[best]], paths[best][level[best] + 1]
        spent = sizes[best] * (there.bits - here.bits)
        if spent > room:
            closed.add(best)  # smaller matrices may still fit
            continue
        room -= spent
        level[best] += 1
    return {name: path[level[name]] for name, path in paths.items()}


def expected(table: Table, formats: Mapping[str, Format]) -> float:
    """Return the KL that the table expects of a choice, nats per plan token."""
    return sum(table[name][form] for name, form in formats.items())


def mean_bits(formats: Mapping[str, Format], sizes: Mapping[str, int], *, cost: bool) -> float:
    """Return mean bits per weight, with the scales or without."""
    spent = sum(sizes[name] * (form.cost if cost else form.bits) for name, form in formats.items())
    return spent / sum(sizes[name] for name in formats)


def _frontier(costs: Mapping[Format, float]) -> list[Format]:
    """Return formats by rising bits, those left out that another beats on the way past them.

    What is left has falling savings per bit, so that the best next step is
    never hidden behind a bad one.
    """
    path: list[Format] = []
    for form in sorted(costs, key=lambda form: form.bits):
        if path and costs[form] >= costs[path[-1]]:
            continue
        while len(path) >= 2:
            first = (costs[path[-2]] - costs[path[-1]]) / (path[-1].bits - path[-2].bits)
            whole = (costs[path[-2]] - costs[form]) / (form.bits - path[-2].bits)
            if first >= whole:
                break
            path.pop()
        path.append(form)
    return path
