"""Examples ready to be drawn from: read, checked, plans tokenized once."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_tinyagent.agent.planner import retrieval_query
from mlx_tinyagent.datasets.importers import import_file
from mlx_tinyagent.datasets.jsonl import read_lines
from mlx_tinyagent.datasets.record import Example, read_examples
from mlx_tinyagent.errors import InputError, PlanError, UsageError
from mlx_tinyagent.plan.text import write
from mlx_tinyagent.prompt.render import Request, tail_segment

if TYPE_CHECKING:
    from mlx_tinyagent.models.tokenizer import ChatFrame, Tokenizer
    from mlx_tinyagent.retrieval.base import Retriever
    from mlx_tinyagent.tools.base import ToolSet
    from mlx_tinyagent.train.aliases import Aliases
    from mlx_tinyagent.train.config import TrainConfig

HELD_OUT = 0.05  # of the training rows, where there is no validation file


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An example with its plan as tokens.

    Attributes:
        example: The example.
        text: The plan's canonical text.
        plan: The plan's tokens and the end token.
        needed: Names of the tools the plan needs, closed over producers.
        retrieved: Names of the tools that the retriever picks for it; empty where it was
            not asked.
    """

    example: Example
    text: str
    plan: tuple[int, ...]
    needed: tuple[str, ...]
    retrieved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The rows of a run.

    Attributes:
        train: Rows to learn from.
        valid: Rows to evaluate on.
        skipped: Rows left out, by reason.
        digest: sha256 over all rows.
    """

    train: tuple[Row, ...]
    valid: tuple[Row, ...]
    skipped: Counter[str] = field(default_factory=Counter)
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One row as it is trained on once.

    Attributes:
        tail: Tokens between the blocks and the plan.
        plan: Tokens of the plan and the end token.
        tools: Names of the offered tools.
        exact: Whether what is before the tail is one sequence instead of blocks.
    """

    tail: tuple[int, ...]
    plan: tuple[int, ...]
    tools: tuple[str, ...]
    exact: bool = False

    @property
    def tokens(self) -> int:
        """Tokens that are computed: everything after the blocks, but for the end token."""
        return len(self.tail) + len(self.plan) - 1


def load_data(
    sources: Sequence[Path],
    tools: ToolSet,
    tokenizer: Tokenizer,
    *,
    eval_rows: int,
    retriever: Retriever | None = None,
) -> Data:
    """Read training and validation rows.

    Args:
        sources: Folders with ``train.jsonl`` and perhaps ``valid.jsonl``, or files; a
            file holds examples or TinyAgent's items.
        tools: Declarations.
        tokenizer: The model's tokenizer.
        eval_rows: Most validation rows.
        retriever: Picks tools for the training rows; None leaves them without.

    Raises:
        InputError: There is no usable row.
    """
    skipped: Counter[str] = Counter()
    train: list[Row] = []
    valid: list[Row] = []
    for source in sources:
        train += _rows(
            source / "train.jsonl" if source.is_dir() else source, tools, tokenizer, skipped
        )
        if source.is_dir() and (source / "valid.jsonl").is_file():
            valid += _rows(source / "valid.jsonl", tools, tokenizer, skipped)
    train.sort(key=_chance)  # an order of its own, whatever the files' is
    valid.sort(key=_chance)
    if not valid and eval_rows:
        count = min(eval_rows, int(len(train) * HELD_OUT))
        train, valid = train[count:], train[:count]
    if not train:
        reasons = "; ".join(f"{count} {reason}" for reason, count in skipped.items())
        raise InputError(f"{', '.join(map(str, sources))}: no usable row ({reasons or 'empty'})")
    if retriever is not None:
        train = [_retrieve(row, retriever, tools) for row in train]
    digest = hashlib.sha256()
    for row in (*train, *valid):
        digest.update(row.example.to_line().encode("utf-8", "surrogatepass"))
    return Data(
        train=tuple(train),
        valid=tuple(valid[:eval_rows]),
        skipped=skipped,
        digest=digest.hexdigest(),
    )


def _retrieve(row: Row, retriever: Retriever, tools: ToolSet) -> Row:
    """Note what the request would be offered in use."""
    request = Request(query=row.example.query, history=row.example.history)
    picked = retriever.select(retrieval_query(request), tools)
    return dataclasses.replace(row, retrieved=picked.tools.names)


def _chance(row: Row) -> str:
    return hashlib.sha256(row.example.query.encode("utf-8", "surrogatepass")).hexdigest()


def _rows(path: Path, tools: ToolSet, tokenizer: Tokenizer, skipped: Counter[str]) -> list[Row]:
    end = tokenizer.encode(tokenizer.chat_frame().end)[0]
    rows = []
    for example in _examples(path, skipped):
        try:
            text = write(example.bound(tools))
            needed = tools.closure(call.tool for call in example.plan).names
            tools.subset(example.tools)
        except PlanError as error:
            skipped[f"plan: {error.rule}"] += 1
        except UsageError:
            skipped["unknown tool"] += 1
        else:
            ids = (*tokenizer.encode(text, special=False), end)
            rows.append(Row(example=example, text=text, plan=ids, needed=needed))
    return rows


def _examples(path: Path, skipped: Counter[str]) -> Iterable[Example]:
    first = next(iter(read_lines(path, lambda line: line)))
    if "question" not in first.value:
        yield from read_examples(path)
        return
    imported = import_file(path, "tinyagent")
    yield from imported.examples
    skipped.update(imported.report.skipped)


def draw(
    row: Row,
    chance: random.Random,
    *,
    tools: ToolSet,
    tokenizer: Tokenizer,
    frame: ChatFrame,
    config: TrainConfig,
    aliases: Aliases | None = None,
    exact: bool = False,
) -> Drawn:
    """Choose what a row is offered this time, and render its tail.

    What the plan needs is always offered; a question, or an answer without
    tools, keeps the tools it was made for.

    Args:
        row: The row.
        chance: Decides.
        tools: Declarations.
        tokenizer: The model's tokenizer.
        frame: Its chat frame.
        config: How many to draw.
        aliases: Names that the tools get this time; None for their own.
        exact: Whether the prompt is one sequence this time.
    """
    offered = _offer(row, chance, tools, config)
    example = row.example
    now = datetime.fromisoformat(example.now) if example.now else None
    if now is None and chance.random() < config.dates:
        now = datetime(2024, 1, 1, 9) + timedelta(days=chance.randrange(1461))
    history, plan = example.history, row.plan
    if aliases is not None:
        offered, history = aliases.of(offered), aliases.history(history)
        plan = (*tokenizer.encode(aliases.plan(example), special=False), plan[-1])
    tail = tail_segment(Request(query=example.query, now=now, history=history), frame)
    return Drawn(tail=tuple(tail.encode(tokenizer)), plan=plan, tools=offered, exact=exact)


def _offer(row: Row, chance: random.Random, tools: ToolSet, config: TrainConfig) -> tuple[str, ...]:
    if chance.random() < config.all_tools:
        return tools.names
    if row.retrieved and chance.random() < config.retrieved:
        return tools.closure((*row.needed, *row.retrieved)).names
    most = config.distractors
    if row.example.kind == "tool":
        base = row.needed
    elif row.example.kind == "ask" or len(row.example.tools) <= most + 4:
        base = row.example.tools
    else:
        base = tuple(chance.sample(row.example.tools, chance.randint(1, most + 3)))
    others = [name for name in tools.names if name not in base]
    extra = chance.sample(others, min(len(others), chance.randint(0, most)))
    return tools.closure((*base, *extra)).names
