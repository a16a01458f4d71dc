"""The drafts of one request: written once, shown, and used as shown or as edited."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mlx_tinyagent.tools.backend import Writer

Order = tuple[str, ...]


@dataclass(slots=True)
class DraftBook:
    """A writer that gives each order's text again, or what the user wrote instead.

    Attributes:
        writer: Who writes.
        written: Texts by order; cleared for a new request.
    """

    writer: Writer
    written: dict[Order, str] = field(default_factory=dict)

    def mail(self, *, request: str, subject: str, context: str, greeting: str) -> str:
        """Write a mail body."""
        return self._once(
            ("mail", request, subject, context, greeting),
            lambda: self.writer.mail(
                request=request, subject=subject, context=context, greeting=greeting
            ),
        )

    def note(self, *, request: str, name: str, content: str) -> str:
        """Write a note's body."""
        return self._once(
            ("note", request, name, content),
            lambda: self.writer.note(request=request, name=name, content=content),
        )

    def summary(self, *, text: str) -> str:
        """Summarize a document."""
        return self._once(("summary", text), lambda: self.writer.summary(text=text))

    def within(self, text: str) -> str | None:
        """Return the draft that a text holds; None if it holds none.

        Args:
            text: A body as it will be used: a draft, and perhaps a quoted mail below it.
        """
        found = [draft for draft in self.written.values() if draft.strip() and draft in text]
        return max(found, key=len, default=None)

    def write_instead(self, draft: str, text: str) -> None:
        """Take the user's text in place of a draft.

        Args:
            draft: As it was written.
            text: What is used instead.
        """
        for order, known in self.written.items():
            if known == draft:
                self.written[order] = text

    def clear(self) -> None:
        """Forget the drafts of the last request."""
        self.written.clear()

    def _once(self, order: Order, write: Callable[[], str]) -> str:
        if order not in self.written:
            self.written[order] = write()
        return self.written[order]
