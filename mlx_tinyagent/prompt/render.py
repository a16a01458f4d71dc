"""The one prompt renderer, for training and serving alike.

    header | one block per tool | tail

The header is the same for every request; a tool's block is the same wherever
it stands; date, instructions, history and request come last. So everything
before the tail can be computed once. Segments are tokenized apart: no token
crosses a seam.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from mlx_tinyagent.models.tokenizer import ChatFrame, Tokenizer
from mlx_tinyagent.tools.base import Tool, ToolSet

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)
FORMAT = "mlx-tinyagent/1"  # carried by adapters and cached blocks; any change of text bumps it

HEADER = """\
You turn a request into a plan that calls tools. Write one step per line: number, tool, all \
arguments in order. Copy names, places, titles and dates word for word from the request. If the \
request says nothing about an argument, give its default. "$1" is the result of step 1; inside a \
longer text write ${1}. If something needed is missing or unclear, write only ask("question?"). \
End with join(). If no tool fits, write only join().

Request: give the red book to Ana and Leo tomorrow
1. find_person("Ana")
2. find_person("Leo")
3. give("red book", ["$1", "$2"], "tomorrow")
4. join()

Request: give it to him
1. ask("What should I give, and to whom?")
2. join()

Request: tell me a joke
1. join()

Tools:
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One earlier request of a conversation and the plan it got.

    Results are not part of it: they may hold text written by others, and such
    text never enters the planner's prompt.
    """

    query: str
    plan: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a plan is wanted for.

    Attributes:
        query: The user's words.
        now: The moment relative dates refer to, local time; None leaves the date out.
        history: Earlier turns, oldest first.
        instructions: The user's standing instructions.
    """

    query: str
    now: datetime | None = None
    history: tuple[Turn, ...] = ()
    instructions: str = ""

    def sources(self) -> tuple[str, ...]:
        """Return the texts whose words a plan may copy, the newest first."""
        earlier = tuple(turn.query for turn in reversed(self.history))
        return (self.query, *earlier, *((self.instructions,) if self.instructions else ()))


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that is tokenized on its own.

    Attributes:
        text: The text.
        frame: Whether it is the chat template's, so that names of special
            tokens in it are tokens. In the user's words they stay words.
    """

    text: str
    frame: bool = False

    def encode(self, tokenizer: Tokenizer) -> list[int]:
        """Return the piece's token ids; a lone surrogate, which is no text, becomes ``?``."""
        text = self.text.encode(errors="replace").decode()
        return tokenizer.encode(text, special=self.frame)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the prompt that can be computed and kept on its own."""

    kind: Literal["header", "tool", "tail"]
    name: str
    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        """The segment's text."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def digest(self) -> str:
        """sha256 of the pieces."""
        digest = hashlib.sha256()
        for piece in self.pieces:
            text = piece.text.encode("utf-8", "surrogatepass")
            digest.update(b"%d:%d:" % (piece.frame, len(text)) + text)
        return digest.hexdigest()

    def encode(self, tokenizer: Tokenizer) -> list[int]:
        """Return the segment's token ids; no token crosses a piece's end."""
        return [token for piece in self.pieces for token in piece.encode(tokenizer)]


@dataclass(frozen=True, slots=True)
class Prompt:
    """The segments of one prompt: header, tools longest first, tail."""

    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """The whole prompt."""
        return "".join(segment.text for segment in self.segments)

    @property
    def tail(self) -> Segment:
        """The part that differs for every request."""
        return self.segments[-1]


def render(request: Request, tools: ToolSet, frame: ChatFrame) -> Prompt:
    """Render a request with its offered tools.

    Args:
        request: What a plan is wanted for.
        tools: Offered tools; their order does not matter.
        frame: How the model's chat template wraps system, user and assistant text.
    """
    blocks = [tool_segment(tool) for tool in tools.in_prompt_order()]
    return Prompt((header_segment(frame), *blocks, tail_segment(request, frame)))


def header_segment(frame: ChatFrame) -> Segment:
    """Render what stands before the tools; it never depends on the request."""
    return Segment("header", "header", (Piece(frame.system_open, frame=True), Piece(HEADER)))


def tool_segment(tool: Tool) -> Segment:
    """Render one tool's block."""
    return Segment("tool", tool.name, (Piece(tool.text()),))


def tail_segment(request: Request, frame: ChatFrame) -> Segment:
    """Render date, instructions, history and the request itself, up to where the plan begins."""
    parts: list[str] = []
    if request.now is not None:
        # Phrases are resolved by code, so the day is all a plan may need; each digit is a token.
        day = request.now  # by our own names: strftime's are those of the user's locale
        parts.append(f"Today is {_DAYS[day.weekday()]} {day.day} {_MONTHS[day.month - 1]}.\n")
    if request.instructions:
        parts.append(f"{request.instructions.strip()}\n")
    for turn in request.history:
        parts.append(f"Request: {turn.query.strip()}\n")
        if turn.plan:
            parts.append(f"{turn.plan.strip()}\n")
    parts.append(f"Request: {request.query.strip()}")
    opening, closing = Piece(frame.user_open, frame=True), Piece(frame.assistant_open, frame=True)
    return Segment("tail", "tail", (opening, Piece("".join(parts)), closing))


def fingerprint(tools: Sequence[Tool], frame: ChatFrame) -> str:
    """Return a sha256 over everything before the tail, for cache keys."""
    digest = hashlib.sha256(FORMAT.encode())
    for segment in (header_segment(frame), *(tool_segment(tool) for tool in tools)):
        digest.update(segment.digest.encode())
    return digest.hexdigest()
