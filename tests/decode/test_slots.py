"""Where a line stands: every beginning of many lines, against a reading by tokens."""

from __future__ import annotations

import re

import pytest

from mlx_tinyagent.decode.constraint import PlanConstraint
from mlx_tinyagent.decode.grammar import GrammarOptions
from mlx_tinyagent.decode.slots import Slot, slot
from mlx_tinyagent.models.tokenizer import Tokenizer
from mlx_tinyagent.tools.base import ToolSet
from mlx_tinyagent.tools.catalog import TINYAGENT16
from tests.decode.tiny import QUERIES, TOOLSETS, Sampler

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|"(?:[^"\\]|\\.)*\\?$|[\[\],)]|[^\[\],)" ]+', re.DOTALL)


def reading(line: str, tools: ToolSet) -> Slot | None:
    """Read a beginning of a line by its tokens: commas outside of lists count the arguments."""
    head = re.match(r"\d+\. (\w*)(\(?)", line)
    if head is None:
        return None
    if not head[2]:
        return Slot(where="name", prefix=head[1])
    if head[1] not in tools:
        return None
    tool = tools[head[1]]
    tokens = TOKEN.findall(line[head.end() :])
    if ")" in tokens or not tool.params:
        return None
    open_text = ""
    if tokens and tokens[-1].startswith('"') and not _closed(tokens[-1]):
        open_text = tokens.pop()
    outside = [i for i, token in enumerate(tokens) if token == "," and not _in_list(tokens[:i])]
    if len(outside) >= len(tool.params):
        return None
    argument = tokens[outside[-1] + 1 :] if outside else tokens
    in_list = _in_list(argument)
    items = tuple(token[1:-1] for token in argument if token[0] == '"') if "[" in argument else ()
    begun = bool(argument) and argument[-1] not in ("[", ",")
    if open_text:
        where = "text"
    elif in_list:
        where = "after-item" if begun else "item"
    else:
        where = "after-value" if begun else "value"
    return Slot(
        where=where,  # type: ignore[arg-type]
        prefix=open_text[1:],
        tool=tool,
        param=tool.params[len(outside)],
        items=items,
        in_list=in_list,
    )


def _closed(text: str) -> bool:
    return re.fullmatch(r'"(?:[^"\\]|\\.)*"', text, re.DOTALL) is not None


def _in_list(tokens: list[str]) -> bool:
    return tokens.count("[") > tokens.count("]")


LINES = [
    '1. get_email_address("Dana Wu")\n',
    '12. create_calendar_event("a \\"b\\", c", "tomorrow", "", "", ["$1", "x, [y]"], "", None)\n',
    '3. send_sms(["$1", "$2"], "say [hi], \\\\")\n',
    '2. create_reminder("a", "", "", "", 0, False)\n',
    '4. get_zoom_meeting_link("x", "now", 60, [])\n',
    "5. join()",
    '1. ask("Who, and (when)?")\n',
    "no line",
    "",
]


@pytest.mark.parametrize("line", LINES)
def test_every_beginning_of_a_line(line: str) -> None:
    """Names, values, texts with brackets and commas inside, lists, ends."""
    for end in range(len(line) + 1):
        assert slot(line[:end], TINYAGENT16) == reading(line[:end], TINYAGENT16), line[:end]


@pytest.mark.parametrize("name", TOOLSETS)
def test_every_beginning_of_lines_written_by_chance(tokenizer: Tokenizer, name: str) -> None:
    """Whatever the grammar admits."""
    tools = TOOLSETS[name]
    for seed in range(3):
        constraint = PlanConstraint(
            tokenizer.llguidance_tokenizer(), tools, QUERIES[:1], GrammarOptions(ask=False)
        )
        text = tokenizer.decode(Sampler(tokenizer.byte_table, seed).walk(constraint))
        for line in text.splitlines(keepends=True):
            for end in range(len(line) + 1):
                assert slot(line[:end], tools) == reading(line[:end], tools), line[:end]
