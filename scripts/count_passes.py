"""Count decode passes per plan, were the model to write the gold plans: a table of widths.

    python scripts/count_passes.py ROWS.jsonl [--format tinyagent] [--widths 0,4,6,10,16]

Input: a file of requests with gold plans over TinyAgent's 16 tools, in any
format that ``data import`` reads. Counting needs the model's tokenizer alone,
so the figures hold on any machine. Copied arguments that are not in a plan's
request are counted as if they were.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mlx_tinyagent.act.dates import find
from mlx_tinyagent.datasets.importers import FORMATS, import_file
from mlx_tinyagent.decode.constraint import PlanConstraint
from mlx_tinyagent.decode.drafts import Drafter, Hints
from mlx_tinyagent.models.registry import local_path
from mlx_tinyagent.models.tokenizer import Tokenizer
from mlx_tinyagent.plan.graph import from_calls
from mlx_tinyagent.plan.schema import Plan
from mlx_tinyagent.plan.text import write
from mlx_tinyagent.tools.base import Kind, ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16

NOW = datetime(2024, 5, 15, 9)  # where date phrases stand does not depend on it


@dataclass(frozen=True, slots=True, kw_only=True)
class Gold:
    """A request with its gold plan.

    Attributes:
        query: The request.
        tools: Tools of the plan.
        text: The plan.
        sources: The request, and copied arguments that it does not hold.
    """

    query: str
    tools: ToolSet
    text: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Totals over plans.

    Attributes:
        plans: Plans that the grammar admits in the tokenizer's own tokens.
        tokens: Their tokens.
        passes: Forward passes that write them.
        rows: Rows of those passes, drafts included.
    """

    plans: int
    tokens: int
    passes: int
    rows: int


def read(path: Path, form: str = "tinyagent") -> Iterator[Gold]:
    """Yield the rows that have a plan, in the plan language's canonical form."""
    for example in import_file(path, form).examples:
        if not example.plan:
            continue
        calls = [call.as_dict() for call in example.plan]
        plan = from_calls(calls, TINYAGENT16)
        query = example.query
        yield Gold(
            query=query,
            tools=TINYAGENT16.subset({step.tool for step in plan.steps}),
            text=write(plan),
            sources=(query, *(value for value in copied(plan) if value not in query)),
        )


def copied(plan: Plan) -> Iterator[str]:
    """Yield the arguments that are words of a request."""
    for step in plan.steps:
        for param, argument in zip(TINYAGENT16[step.tool].params, step.args, strict=True):
            for value in argument if isinstance(argument, tuple) else (argument,):
                if isinstance(value, str) and value and param.kind in (Kind.SPAN, Kind.WHEN):
                    yield value


def count(tokenizer: Tokenizer, items: Sequence[Gold], width: int) -> Figures:
    """Count over all items whose plan may be written."""
    plans = tokens = passes = rows = 0
    for item in items:
        wanted = tokenizer.encode(item.text)
        taken = follow(tokenizer, item, wanted, width)
        if taken is not None:
            plans, tokens = plans + 1, tokens + len(wanted)
            passes, rows = passes + len(taken), rows + sum(taken)
    return Figures(plans=plans, tokens=tokens, passes=passes, rows=rows)


def follow(tokenizer: Tokenizer, item: Gold, wanted: Sequence[int], width: int) -> list[int] | None:
    """Return the rows of every pass over one plan; None if it may not be written so."""
    constraint = PlanConstraint(tokenizer.llguidance_tokenizer(), item.tools, item.sources)
    dates = tuple(found.text for found in find(item.query, NOW))
    drafter = Drafter(item.tools, item.query, Hints(dates=dates))
    done, rows = 0, []
    while done < len(wanted):
        draft = constraint.extended(drafter, width) if width else constraint.forced()
        agreed = 0
        while draft[agreed : agreed + 1] == wanted[done + agreed : done + agreed + 1] != []:
            agreed += 1
        for token in wanted[done : done + agreed + 1]:
            if not constraint.allows(token):
                return None
            constraint.accept(token)
        done += agreed + 1
        rows.append(len(draft) + 1)
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("rows", type=Path, help="requests with gold plans")
    parser.add_argument("--format", default="tinyagent", choices=FORMATS, help="of the rows")
    parser.add_argument("--model", default="smollm2-135m", help="whose tokenizer counts")
    parser.add_argument("--widths", default="0,4,6,10,16", help="0: forced tokens alone")
    arguments = parser.parse_args()
    folder = local_path(arguments.model)
    if folder is None:
        parser.error(f"{arguments.model} is not here; run: mlx-tinyagent models pull")
    tokenizer = Tokenizer(folder)
    items = list(read(arguments.rows, arguments.format))
    print("| width | plans | tokens per plan | passes per plan | tokens per pass | rows per pass |")
    print("|---|---|---|---|---|---|")
    for width in map(int, arguments.widths.split(",")):
        figures = count(tokenizer, items, width)
        print(
            f"| {width or 'forced only'} | {figures.plans} "
            f"| {figures.tokens / figures.plans:.1f} | {figures.passes / figures.plans:.1f} "
            f"| {figures.tokens / figures.passes:.2f} | {figures.rows / figures.passes:.1f} |"
        )


if __name__ == "__main__":
    main()
