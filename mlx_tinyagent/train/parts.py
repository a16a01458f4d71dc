"""What a prompt is put together from before its tail: the header and every tool's block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlx_tinyagent.prompt.render import Segment, header_segment, tool_segment
from mlx_tinyagent.tools.base import ToolSet

if TYPE_CHECKING:
    from mlx_tinyagent.models.language import LanguageModel

HEADER = ""  # stands for the header where parts are named


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One segment with its tokens."""

    segment: Segment
    ids: tuple[int, ...]


class Parts:
    """Header and blocks by name, in prompt order.

    Args:
        model: Gives tokenizer and chat frame.
        sets: Tool sets whose names differ; a row is offered tools of one of them.
    """

    def __init__(self, model: LanguageModel, sets: Sequence[ToolSet]) -> None:
        tokenizer = model.tokenizer

        def part(segment: Segment) -> Part:
            return Part(segment, tuple(segment.encode(tokenizer)))

        self.header = part(header_segment(tokenizer.chat_frame()))
        self.tools = {
            tool.name: part(tool_segment(tool))
            for tools in sets
            for tool in tools.in_prompt_order()
        }

    def __getitem__(self, name: str) -> Part:
        """Return the header or a tool's block."""
        return self.header if name == HEADER else self.tools[name]

    def of(self, names: Iterable[str]) -> Iterator[Part]:
        """Yield the header and the blocks of some tools, as they stand in a prompt."""
        wanted = set(names)
        yield self.header
        yield from (part for name, part in self.tools.items() if name in wanted)

    def tokens(self, names: Iterable[str]) -> list[int]:
        """Return the tokens before the tail of a prompt that offers some tools."""
        return [token for part in self.of(names) for token in part.ids]
