"""The words of one text with the moment it is read at: what every grammar rule gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime
from typing import Generic, TypeVar

from mlx_tinyagent.act.dates.words import split_words

T = TypeVar("T")
Found = tuple[T, int]  # what a rule found and the position after it

_MARGIN = 64  # blank words around the text; no rule looks farther
_DASHES = frozenset("-–—~−")  # noqa: RUF001 - people type every dash


class Phrases(Generic[T]):
    """A table of phrases with their meanings, for :meth:`Source.phrase`.

    Args:
        entries: Phrases with their words parted by blanks; "|" parts phrases of one
            meaning.
    """

    def __init__(self, entries: Iterable[tuple[str, T]]) -> None:
        self.entries = {
            tuple(phrase.split()): meaning
            for phrases, meaning in entries
            for phrase in phrases.split("|")
        }
        self.openers = frozenset(words[0] for words in self.entries)
        self.longest = max(len(words) for words in self.entries)


class Source:
    """A text to read.

    Rules take a source and a position and return what starts there with the
    position after it, or None. They never move the source, so one may try another
    and fall back. Results are remembered per rule and position, which keeps
    reading linear although rules overlap.

    Args:
        text: The text.
        now: Local time that relative words count from.
    """

    def __init__(self, text: str, now: datetime) -> None:
        self.text = text
        self.now = now.replace(tzinfo=None, microsecond=0, fold=0)
        self.words = split_words(text)
        # Rules look a few words beyond either end: blank entries behind the last word
        # serve both sides, since Python counts -1 from the end.
        blank = [""] * _MARGIN
        self._texts = [w.text for w in self.words] + blank
        self._numbers = [w.number for w in self.words] + [None] * _MARGIN
        self._digits = [w.digits for w in self.words] + [0] * _MARGIN
        self._glued = [w.glued for w in self.words] + [False] * _MARGIN
        self._memo: dict[str, dict[int, object]] = {}

    @property
    def today(self) -> date:
        """The calendar day of ``now``."""
        return self.now.date()

    def word(self, i: int) -> str:
        """Normal form of the word at ``i``; empty before the first and after the last."""
        return self._texts[i]

    def number(self, i: int) -> int | None:
        """Value of the digit string at ``i``, or None."""
        return self._numbers[i]

    def digits(self, i: int) -> int:
        """Number of digits at ``i``; 0 where no digit string stands."""
        return self._digits[i]

    def glued(self, i: int) -> bool:
        """Whether the word at ``i`` follows its predecessor without white space."""
        return self._glued[i]

    def skip(self, i: int, *options: str) -> int:
        """Position after any one of the words at ``i``; ``i`` itself if none stands there."""
        return i + 1 if self._texts[i] in options else i

    def dash(self, i: int) -> bool:
        """Whether a hyphen, dash or tilde stands at ``i``."""
        return self._texts[i] in _DASHES

    def phrase(self, i: int, table: Phrases[T]) -> Found[T] | None:
        """Longest entry of a phrase table at ``i``; hyphens between its words are ignored."""
        if self._texts[i] not in table.openers:
            return None
        best: Found[T] | None = None
        words: list[str] = []
        j = i
        while len(words) < table.longest and self._texts[j]:
            if not words or not self.dash(j):
                words.append(self._texts[j])
                key = tuple(words)
                if key in table.entries:
                    best = table.entries[key], j + 1
            j += 1
        return best

    def once(self, name: str, i: int, rule: Callable[[], T]) -> T:
        """Result of a rule at a position, computed at most once."""
        known = self._memo.setdefault(name, {})
        if i not in known:
            known[i] = rule()
        return known[i]  # type: ignore[return-value]
