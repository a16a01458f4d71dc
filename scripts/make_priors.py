"""Count the drafter's priors on plans: which tool follows which, how arguments are filled.

    python scripts/make_priors.py TRAIN_ROWS.jsonl > mlx_tinyagent/decode/priors.json

Input: rows with ``calls`` (``tool``, ``args``). Only counts leave this script.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

from mlx_tinyagent.plan.schema import parse_ref
from mlx_tinyagent.tools.base import Kind, Param, literal
from mlx_tinyagent.tools.catalog import TINYAGENT16


def main(path: Path) -> None:
    """Print the priors of a file of rows."""
    follows: dict[str, Counter[str]] = defaultdict(Counter)
    filled: dict[str, Counter[str]] = defaultdict(Counter)
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        request = row["question"].lower()
        last = "start"
        for call in row["calls"]:
            follows[last][call["tool"]] += 1
            last = call["tool"]
            for param, value in zip(TINYAGENT16[last].params, call["args"], strict=False):
                filled[f"{last}.{param.name}"][kind(param, value, request)] += 1
        follows[last]["join"] += 1
    nexts = {
        name: {tool: round(count / counts.total(), 3) for tool, count in counts.most_common(17)}
        for name, counts in sorted(follows.items())
    }
    arguments = {name: counts.most_common(1)[0][0] for name, counts in sorted(filled.items())}
    json.dump({"next": nexts, "argument": arguments}, sys.stdout, indent=1)
    print()


def kind(param: Param, value: object, request: str) -> str:
    """Name how an argument is filled: default, ref, span, text, or ``=`` and a literal."""
    items = value if isinstance(value, list) else [value]
    if param.kind in (Kind.INT, Kind.BOOL, Kind.CHOICE):
        return "=" + literal(value)
    # Our plans give an end only where the request does; these rows always write one.
    if param.after or not items or all(item in ("", None) for item in items):
        return "default"
    first = items[0]
    if isinstance(first, str) and parse_ref(first) is not None:
        return "ref"
    if param.kind is Kind.WHEN or (isinstance(first, str) and first.lower() in request):
        return "span"
    return "text"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
