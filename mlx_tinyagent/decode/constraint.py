"""The plan constraint: which tokens may follow, which are the only ones.

Holds one llguidance matcher per plan line and moves to the next line's
grammar when one ends. It can be copied cheaply, so drafts are checked on a
copy and thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlx_tinyagent.decode.drafts import Drafter
from mlx_tinyagent.decode.grammar import GrammarOptions, Written, closing_grammar, line_grammar
from mlx_tinyagent.errors import ModelError
from mlx_tinyagent.tools.base import ToolSet

if TYPE_CHECKING:
    import numpy as np
    from llguidance import LLMatcher, LLTokenizer
    from numpy.typing import NDArray

MAX_GUESS_CHARS = 16  # of a guess per token that is wanted; more is not read


@dataclass(frozen=True, slots=True)
class _Grammars:
    """Compiles line grammars; one request's lines repeat, so matchers are kept."""

    guide: LLTokenizer
    tools: ToolSet
    sources: tuple[str, ...]
    options: GrammarOptions
    kept: dict[tuple[str, ...], LLMatcher] = field(default_factory=dict)

    def encode(self, text: str) -> list[int]:
        """Tokenize plan text."""
        return list(self.guide.tokenize_str(text))

    def line(self, written: Sequence[Written], *, closing: bool) -> LLMatcher:
        """Return a fresh matcher for the line after these steps."""
        key = (*(step.tool.name for step in written), "" if closing else "+")
        if key not in self.kept:
            text = (
                closing_grammar(len(written) + 2)
                if closing
                else line_grammar(written, self.tools, self.sources, self.options)
            )
            self.kept[key] = _compile(self.guide, text)
        return self.kept[key].deep_copy()


class PlanConstraint:
    """Follows a plan as it is written, token by token.

    Args:
        guide: The model's tokenizer for llguidance.
        tools: Offered tools.
        sources: Texts whose words span-typed arguments may copy.
        options: What else the grammar admits.
    """

    def __init__(
        self,
        guide: LLTokenizer,
        tools: ToolSet,
        sources: Sequence[str],
        options: GrammarOptions | None = None,
    ) -> None:
        self._grammars = _Grammars(guide, tools, tuple(sources), options or GrammarOptions())
        self._written: tuple[Written, ...] = ()
        self._line: tuple[int, ...] = ()  # tokens of the current line
        self._earlier = ""  # text of the lines before
        self._matcher = self._grammars.line((), closing=False)
        self._closing = False
        self.finished = False

    def copy(self) -> PlanConstraint:
        """Return an independent copy in the same state."""
        twin = object.__new__(PlanConstraint)
        twin._grammars = self._grammars
        twin._written, twin._line, twin._earlier = self._written, self._line, self._earlier
        twin._matcher = self._matcher.deep_copy()
        twin._closing, twin.finished = self._closing, self.finished
        return twin

    def forced(self) -> list[int]:
        """Return the tokens of the text that must follow, as far as it is certain.

        The text is certain, its division into tokens is not: a token that is
        a prefix of the first one may still be allowed.
        """
        if self.finished:
            return []
        twin = self.copy()
        run: list[int] = []
        while not twin.finished:
            tokens = list(twin._matcher.compute_ff_tokens())
            if not tokens:
                break
            for token in tokens:
                twin.accept(token)
            run += tokens
        return run

    def extended(self, drafter: Drafter, width: int) -> list[int]:
        """Return forced tokens and guesses that may follow, up to about ``width`` tokens.

        Forced tokens are never cut; guesses stop where one may not follow.
        """
        twin = self.copy()
        draft: list[int] = []
        while not twin.finished and len(draft) < width:
            taken = twin._guess(drafter, width - len(draft)) or twin._force()
            if not taken:
                break
            draft += taken
        return draft if len(draft) >= width or twin.finished else [*draft, *twin.forced()]

    def _force(self) -> list[int]:
        """Take the tokens of the text that must follow on this line."""
        tokens = list(self._matcher.compute_ff_tokens())
        for token in tokens:
            self.accept(token)
        return tokens

    def _guess(self, drafter: Drafter, most: int) -> list[int]:
        """Take the drafter's guess as far as it may follow; returns the tokens taken.

        What is certain comes first, and the guess goes on from there; both are
        tokenized together, as they would be if they were written. Where the
        guess is worth less than what is certain, nothing is taken.
        """
        line = self._text(self._line)
        certain = self._matcher.compute_ff_bytes()
        try:
            sure = certain.decode()
        except UnicodeDecodeError:
            return []
        guess = drafter.complete(line + sure, self._written, self._earlier, 5 * most)
        guess = guess[: MAX_GUESS_CHARS * most].encode(errors="ignore").decode()
        if not guess:
            return []
        twin = self.copy()
        taken: list[int] = []
        size = 0
        for token in self._in_context(line, sure + guess)[:most]:
            if not twin.allows(token):
                break
            twin.accept(token)
            taken.append(token)
            size += len(self._grammars.guide.decode_bytes([token]))
        if size <= len(certain):
            return []
        for token in taken:
            self.accept(token)
        return taken

    def _in_context(self, line: str, text: str) -> list[int]:
        """Tokenize text as it would be tokenized after this line, where that is possible."""
        whole = self._grammars.encode(line + text)
        done = len(self._line)
        if tuple(whole[:done]) == self._line:
            return whole[done:]
        return self._grammars.encode(text)

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self._grammars.guide.decode_str(list(tokens)))

    def mask(self) -> NDArray[np.bool_]:
        """Return which tokens may follow, [vocab]."""
        import numpy as np

        packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(packed, bitorder="little")[: self._grammars.guide.vocab_size]
        return allowed.astype(np.bool_)

    def allows(self, token: int) -> bool:
        """Whether a token may follow."""
        return not self.finished and self._matcher.validate_tokens([token]) == 1

    def accept(self, token: int) -> None:
        """Take the next token.

        Raises:
            ModelError: The token may not follow; the caller has a bug, or the
                grammar engine hit a limit.
        """
        if self.finished or not self._matcher.consume_token(token):
            reason = self._matcher.get_error() or "the plan is over"
            raise ModelError(f"token {token} cannot follow in the plan: {reason}")
        self._line += (token,)
        if self._matcher.is_stopped():
            self._end_line()

    def _end_line(self) -> None:
        """Move to the next line's grammar, or finish after ``join()``."""
        text = self._text(self._line)
        step = _called(text)
        if step is None:
            self.finished = True
            return
        self._line = ()
        self._earlier += text
        if step in ("ask", "more_tools"):
            self._closing = True
        else:
            tool = self._grammars.tools[step]
            self._written += (Written(len(self._written) + 1, tool),)
        self._matcher = self._grammars.line(self._written, closing=self._closing)


def _called(line: str) -> str | None:
    """Return the name called on a finished line; None for ``join``."""
    name = line.split("(", 1)[0].split(". ", 1)[1]
    return None if name == "join" else name


def _compile(guide: LLTokenizer, grammar: str) -> LLMatcher:
    from llguidance import LLMatcher

    matcher = LLMatcher(guide, LLMatcher.grammar_from_lark(grammar))
    if matcher.is_error():
        raise ModelError(f"the plan grammar cannot be built: {matcher.get_error()[:300]}")
    return matcher
