"""Plans as tokens under the served prompt: what calibrates, and what judges."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mlx_tinyagent.datasets.importers import import_file
from mlx_tinyagent.datasets.jsonl import read_lines
from mlx_tinyagent.datasets.record import Example, read_examples
from mlx_tinyagent.decode.tiers import tail_position
from mlx_tinyagent.errors import InputError, PlanError, UsageError
from mlx_tinyagent.plan.text import write
from mlx_tinyagent.prompt.render import Request, header_segment, tail_segment, tool_segment

if TYPE_CHECKING:
    from mlx_tinyagent.models.tokenizer import Tokenizer
    from mlx_tinyagent.tools.base import ToolSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A request with its plan, as tokens.

    Attributes:
        id: The example's id.
        kind: tool, ask, none_near or none_far.
        tools: Names of the offered tools, in prompt order.
        tail: Tokens between the tool blocks and the plan.
        plan: Tokens of the plan and the end token.
    """

    id: str
    kind: str
    tools: tuple[str, ...]
    tail: tuple[int, ...]
    plan: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows with what their prompts share.

    Attributes:
        rows: The rows.
        header: Tokens of the prompt's header.
        blocks: Tokens of each tool's block, by name, in prompt order.
    """

    rows: tuple[Row, ...]
    header: tuple[int, ...]
    blocks: dict[str, tuple[int, ...]]

    def prompt(self, row: Row) -> list[int]:
        """Return all tokens before a row's plan, one segment after the other."""
        chosen = [token for name in row.tools for token in self.blocks[name]]
        return [*self.header, *chosen, *row.tail]

    def position(self, row: Row) -> int:
        """Return where a row's tail begins when its blocks stand side by side."""
        return tail_position(len(self.header), [len(self.blocks[name]) for name in row.tools])

    def only(self, rows: Sequence[Row]) -> Rows:
        """Return the same prompts with other rows."""
        return Rows(rows=tuple(rows), header=self.header, blocks=self.blocks)

    @property
    def digest(self) -> str:
        """sha256 over all tokens."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(repr((row.id, self.prompt(row), row.plan)).encode())
        return digest.hexdigest()


def read(paths: Sequence[Path]) -> list[Example]:
    """Read examples in an order of their own: by a hash of the request.

    Args:
        paths: Files of example records or TinyAgent's items; of a folder its
            ``test.jsonl``, else ``valid.jsonl``, else ``train.jsonl``.

    Raises:
        InputError: A file cannot be read, or a folder has none of these.
        RecordError: A row is broken.
    """
    found: dict[str, Example] = {}
    for path in paths:
        for example in _examples(_file(path)):
            found.setdefault(_chance(example), example)
    return [found[key] for key in sorted(found)]


def synthetic(tools: ToolSet, count: int, *, seed: int) -> list[Example]:
    """Make examples for a tool set, where the user gave none.

    Raises:
        InputError: The tool set gives too few different examples.
    """
    from mlx_tinyagent.datasets.synth.generate import SynthConfig, make
    from mlx_tinyagent.datasets.synth.strata import Studio

    config = SynthConfig(seed=seed, count=count)
    studio = Studio(tools)
    found: dict[str, Example] = {}
    for position in range(4 * count):
        example = make(studio, config, "train", position)
        found.setdefault(_chance(example), example)
        if len(found) == count:
            break
    return list(found.values())


def render(
    examples: Iterable[Example], tools: ToolSet, tokenizer: Tokenizer, *, count: int
) -> Rows:
    """Turn examples into rows; those whose plan breaks a rule are passed over.

    Args:
        examples: The examples.
        tools: Declarations.
        tokenizer: The model's tokenizer.
        count: Most rows.

    Raises:
        InputError: No example can be used.
    """
    frame = tokenizer.chat_frame()
    end = tokenizer.encode(frame.end)[0]
    order = [tool.name for tool in tools.in_prompt_order()]
    rows: list[Row] = []
    reasons: set[str] = set()
    for example in examples:
        if len(rows) == count:
            break
        try:
            text = write(example.bound(tools))
            offered = tools.closure(example.tools).names
        except PlanError as error:
            reasons.add(f"plan: {error.rule}")
            continue
        except UsageError as error:
            reasons.add(str(error))
            continue
        now = datetime.fromisoformat(example.now) if example.now else None
        request = Request(query=example.query, now=now, history=example.history)
        rows.append(
            Row(
                id=example.id,
                kind=example.kind,
                tools=tuple(name for name in order if name in offered),
                tail=tuple(tail_segment(request, frame).encode(tokenizer)),
                plan=(*tokenizer.encode(text, special=False), end),
            )
        )
    if not rows:
        why = "; ".join(sorted(reasons)[:3]) or "there are none"
        raise InputError(f"no example can be used with the tools {tools.name}: {why}")
    blocks = {
        tool.name: tuple(tool_segment(tool).encode(tokenizer)) for tool in tools.in_prompt_order()
    }
    return Rows(
        rows=tuple(rows), header=tuple(header_segment(frame).encode(tokenizer)), blocks=blocks
    )


def check_context(rows: Rows, context: int, name: str) -> None:
    """Refuse rows longer than a model's context.

    Raises:
        InputError: A row is.
    """
    for row in rows.rows:
        total = max(len(rows.prompt(row)), rows.position(row) + len(row.tail)) + len(row.plan)
        if total > context:
            raise InputError(
                f"row {row.id} takes {total} tokens, {name} was made for {context}; "
                "leave it out or offer fewer tools"
            )


def _chance(example: Example) -> str:
    return hashlib.sha256(example.query.encode("utf-8", "surrogatepass")).hexdigest()


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in ("test.jsonl", "valid.jsonl", "train.jsonl"):
        if (path / name).is_file():
            return path / name
    raise InputError(f"{path} holds no test.jsonl, valid.jsonl or train.jsonl")


def _examples(path: Path) -> Iterable[Example]:
    first = next(iter(read_lines(path, lambda line: line)))
    if "question" in first.value:
        return import_file(path, "tinyagent").examples
    return read_examples(path)
